"""Train `facemodels.reconstruction.face_check`: crops with and without a face in its place.

python -m benchmarks.face_check crops FOLDER --photographs PHOTOS [--data DATA]
python -m benchmarks.face_check train FOLDER [--epochs 24]
python -m benchmarks.face_check curve FOLDER --output docs/images/face_check.png

`crops` writes what the network will look at: crops around the landmarks that a method predicts,

* with a face: AFLW's crops and frames of the clips in DATA, where the predicted landmarks lie around people's;
* without: the same pictures turned, or parts of them, where the landmarks lie elsewhere than on the face; and of
  PHOTOS (1,000 photographs, one of each of ImageNet's classes: github.com/EliSchwartz/imagenet-sample-images) random
  squares, and what the detector takes for faces, by the labels of face_check_labels.json. They were given by looking at
  the crops: 1 is a face in its place, 0 none; what was not clear is left out.

`train` leaves out AFLW's images whose number ends with 3, every fifth person and a fifth of the photographs, prints
what the network makes of them, and writes face_check.safetensors (half precision, batch normalization folded in, the
scale of the log-odds fitted to what was left out). None of it is part of AFLW2000-3D. The data are for research only.

`curve` draws what the weights that ship make of what was left out: the share of faces that are missed, and of other
crops that are taken for faces, by the threshold.
"""

import argparse
import io
import json
import math
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from torch import Tensor, nn

from facemodels.core.crops import cut_rotated
from facemodels.io.video import open_video
from facemodels.reconstruction.detect import find_faces, first_crop
from facemodels.reconstruction.face_check import MEAN, SIZE, SPREAD, FaceCheck, load_face_check
from facemodels.reconstruction.reconstructor import Reconstructor
from facemodels.reconstruction.views import View, recrop, roll_angle

LABELS = Path(__file__).with_name("face_check_labels.json")
MARGIN = 72  # pixels of a stored crop; its middle 64 are the network's
SAME, OTHER = 0.12, 0.35  # mean distance of landmarks relative to the face: of one face, and not of it
LOWEST = 0.15  # score of the detector's boxes that are kept


class Crops:
    """Collects crops around predicted landmarks, each with its label, weight and whether it is left out of training."""

    def __init__(self, worker: Reconstructor) -> None:
        self.worker = worker
        self.pixels: list[np.ndarray] = []
        self.labels: list[tuple[int, bool, float]] = []

    def predicted(self, image: np.ndarray, views: list[View]) -> tuple[list[np.ndarray], list[View], list[np.ndarray]]:
        """Landmarks [68,2] of two passes of the method, the views around them, and the crops."""
        faces, views = self.worker.settle([image], views)
        views = [recrop(face, view) for face, view in zip(faces, views)]
        crops = []
        for view in views:
            x0, y0, x1, y1 = view.crop
            x, y, half = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2 * MARGIN / SIZE
            crops.append(cut_rotated(image, (x - half, y - half, x + half, y + half), MARGIN, view.turn))
        return [face.landmarks[:, :2].numpy() for face in faces], views, crops

    def add(self, crop: np.ndarray, label: int, held_out: bool, weight: float = 1.0) -> None:
        """Add a crop."""
        self.pixels.append(crop)
        self.labels.append((label, held_out, weight))


def size_of(points: np.ndarray) -> float:
    """The longer side of the box around points."""
    return float(np.ptp(points, axis=0).max())


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The mean distance of landmarks, relative to the size of the second face."""
    return float(np.linalg.norm(a - b, axis=1).mean()) / size_of(b)


def add_aflw(crops: Crops, data: Path, rng: np.random.Generator) -> None:
    """AFLW's crops: as they are, turned, and parts of them."""
    with np.load(data / "aflw_crops_labels.npz") as labels:
        names, boxes, marked = (labels[key] for key in ("names", "roi_box", "pts21"))
    archive = zipfile.ZipFile(data / "aflw_crops.zip")
    files = {Path(name).name: name for name in archive.namelist()}
    for k in range(0, len(names), 2):
        name = str(names[k])
        image = np.asarray(Image.open(io.BytesIO(archive.read(files[name]))).convert("RGB"))
        side, moved = 120 * rng.uniform(0.9, 1.15), 9.6 * rng.uniform(-1, 1, 2)
        part = rng.uniform(18, 54)
        at = rng.uniform(part / 2, 120 - part / 2, 2)
        whole = (0.0, 0.0, 120.0, 120.0)
        views = [
            square(60 + moved[0], 60 + moved[1], side),
            View(0, whole, rng.uniform(math.pi / 3, 5 * math.pi / 3), whole, 1.0),
            square(at[0], at[1], part, 0.0 if rng.random() < 0.5 else rng.uniform(0, 2 * math.pi)),
        ]
        landmarks, _, found = crops.predicted(image, views)
        box = boxes[k].astype(float)
        known = marked[k].T
        seen = (known > 0).all(1)
        known = (known - box[:2]) * 120 / (box[2:] - box[:2])
        base = landmarks[0]
        low, high = base.min(0) - 0.15 * size_of(base), base.max(0) + 0.15 * size_of(base)
        usual = 0.6 < size_of(base) / (120 / math.sqrt(2)) < 1.4
        if seen.sum() < 5 or not usual or not ((known[seen] > low) & (known[seen] < high)).all():
            continue
        held_out = name[:-4].endswith("3")
        crops.add(found[0], 1, held_out)
        for other, crop in zip(landmarks[1:], found[1:]):
            if apart(other, base) > OTHER:
                crops.add(crop, 0, held_out)


def add_clips(crops: Crops, data: Path, rng: np.random.Generator, every: int = 20) -> None:
    """Frames of clips: the face in its window, turned, and parts of the frame."""
    for file in sorted((data / "face_clips").glob("p*/*.mp4")):
        held_out = int(file.parent.name[1:]) % 5 == 0
        for number, frame in enumerate(open_video(file).frames):
            if number % every:
                continue
            part = rng.uniform(20, 100)
            at = rng.uniform(part / 2, 224 - part / 2, 2)
            window = (30.0, 30.0, 194.0, 194.0)
            views = [
                View(0, window, 0.0, window, 1.0),
                square(at[0], at[1], part),
                View(0, window, rng.uniform(math.pi / 3, 5 * math.pi / 3), window, 1.0),
            ]
            landmarks, _, found = crops.predicted(frame.image, views)
            crops.add(found[0], 1, held_out)
            for other, crop in zip(landmarks[1:], found[1:]):
                if apart(other, landmarks[0]) > OTHER:
                    crops.add(crop, 0, held_out)


def add_photographs(crops: Crops, photographs: Path, rng: np.random.Generator) -> None:
    """Photographs: what the detector takes for faces, by the labels, and random squares away from it."""
    labels = json.loads(LABELS.read_text())
    for file in sorted(photographs.glob("*.JPEG")):
        image = np.asarray(Image.open(file).convert("RGB"))
        detections = find_faces(image, LOWEST)
        height, width = image.shape[:2]
        held_out = sum(map(ord, file.name)) % 5 == 0
        views = [View(0, first_crop(d.box), roll_angle(d.points), d.box, d.score) for d in detections]
        for _ in range(10):
            side = math.exp(rng.uniform(math.log(24), math.log(min(height, width))))
            x, y = rng.uniform(0, 1, 2) * [width, height]
            views.append(square(x, y, side, 0.0 if rng.random() < 0.7 else rng.uniform(0, 2 * math.pi)))
        _, settled, found = crops.predicted(image, views)
        known = {tuple(box): label for *box, label in labels.get(file.name, [])}
        for view, crop in zip(views[: len(detections)], found):
            label = known.get(tuple(round(v) for v in view.box))
            if label is not None:
                crops.add(crop, label, held_out, 1.0 if label else 3.0)
        faces = [d.box for d in detections if d.score > 0.3]
        for view, crop in zip(settled[len(detections) :], found[len(detections) :]):
            if not any(covers(view.crop, box) for box in faces):
                crops.add(crop, 0, held_out)


def covers(crop: tuple[float, ...], box: tuple[float, ...]) -> bool:
    """Whether a crop covers more than a tenth of a box."""
    width, height = (min(crop[k + 2], box[k + 2]) - max(crop[k], box[k]) for k in range(2))
    return max(0, width) * max(0, height) > 0.1 * (box[2] - box[0]) * (box[3] - box[1])


def square(x: float, y: float, side: float, turn: float = 0.0) -> View:
    """A view of a square around a point."""
    box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    return View(0, box, turn, box, 1.0)


class Trained(nn.Module):
    """The network with batch normalization behind each convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = FaceCheck()
        self.convolutions = [m for m in self.plain.modules() if isinstance(m, nn.Conv2d)]
        self.norms = nn.ModuleList(nn.BatchNorm2d(m.out_channels) for m in self.convolutions)

    def forward(self, crops: Tensor) -> Tensor:
        """Log-odds [N] of crops [N,3,64,64] in 0..1."""
        x = (crops - MEAN) / SPREAD
        for convolution, norm in zip(self.convolutions, self.norms):
            x = F.relu(norm(convolution(x)))
        return self.plain.head(F.dropout(x.flatten(1), 0.3, self.training))[:, 0]

    def folded(self, scale: float, shift: float) -> FaceCheck:
        """The network without batch normalization; its log-odds are scaled and shifted."""
        result = FaceCheck()
        result.load_state_dict(self.plain.state_dict())
        convolutions = [m for m in result.modules() if isinstance(m, nn.Conv2d)]
        with torch.no_grad():
            for convolution, norm in zip(convolutions, self.norms):
                factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
                convolution.weight.mul_(factor[:, None, None, None])
                convolution.bias.sub_(norm.running_mean).mul_(factor).add_(norm.bias)
            result.head.weight.mul_(scale)
            result.head.bias.mul_(scale).add_(shift)
        return result.eval()


def augmented(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Crops [N,72,72,3], uint8, as training samples [N,3,64,64]: moved, turned, mirrored, in other light, blurred."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=random)

    n = len(pixels)
    x = pixels.permute(0, 3, 1, 2).float() / 255
    angle, size = uniform(-0.15, 0.15, n), SIZE / MARGIN * uniform(0.9, 1.1, n)
    mirror = torch.where(torch.rand(n, generator=random) < 0.5, -1.0, 1.0)
    rows = (
        torch.stack([mirror * size * angle.cos(), -size * angle.sin(), uniform(-0.08, 0.08, n)], 1),
        torch.stack([mirror * size * angle.sin(), size * angle.cos(), uniform(-0.08, 0.08, n)], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), [n, 3, SIZE, SIZE], align_corners=False)
    x = F.grid_sample(x, grid, align_corners=False)
    x = x * uniform(0.6, 1.4, n, 1, 1, 1) + uniform(-0.15, 0.15, n, 1, 1, 1)
    gray = x.mean(1, keepdim=True)
    x = gray + (x - gray) * uniform(0, 1.4, n, 1, 1, 1).clamp(max=1.2)
    way = int(torch.randint(0, 5, (1,), generator=random))
    if way in (1, 2):
        x = F.interpolate(F.interpolate(x, size=24 if way == 1 else 12, mode="area"), size=SIZE, mode="bilinear")
    elif way == 3:
        x = F.avg_pool2d(x, 3, 1, 1)
    x = x + torch.randn(x.shape, generator=random) * uniform(0, 0.06, n, 1, 1, 1)
    for k in torch.nonzero(torch.rand(n, generator=random) < 0.15)[:, 0].tolist():  # something in front of it
        side = int(torch.randint(8, 28, (1,), generator=random))
        top, left = torch.randint(0, SIZE - side, (2,), generator=random).tolist()
        x[k, :, top : top + side, left : left + side] = torch.rand(3, 1, 1, generator=random)
    return x


def train(folder: Path, output: Path, epochs: int, batch: int = 128, rate: float = 4e-3) -> None:
    """Train, print what becomes of the crops that were left out, and write the weights."""
    stored = np.load(folder / "crops.npz")
    pixels, labels = torch.from_numpy(stored["pixels"]), torch.from_numpy(stored["labels"])
    target, held_out, weight = labels[:, 0].float(), labels[:, 1] > 0, labels[:, 2].float()
    random = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    network = Trained().to(memory_format=torch.channels_last)
    chosen, rest = torch.nonzero(~held_out)[:, 0], torch.nonzero(held_out)[:, 0]
    steps = len(chosen) // batch
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    begun = time.monotonic()
    for epoch in range(epochs):
        network.train()
        order = chosen[torch.randperm(len(chosen), generator=random)]
        total = 0.0
        for some in order[: steps * batch].split(batch):
            odds = network(augmented(pixels[some], random))
            losses = F.binary_cross_entropy_with_logits(odds, target[some] * 0.98 + 0.01, reduction="none")
            loss = (losses * weight[some]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        odds, truth = scored(network, pixels[rest]), target[rest].numpy()
        print(f"{epoch}: loss {total / steps:.4f}, {missed(odds, truth)}, {time.monotonic() - begun:.0f} s", flush=True)
    scale, shift = fitted(odds, truth, weight[rest].numpy())
    print(f"log-odds are scaled by {scale:.3f} and shifted by {shift:.3f}")
    for low, high in reliability(1 / (1 + np.exp(-scale * odds - shift)), truth):
        print(low, high)
    state = {name: value.half().contiguous() for name, value in network.folded(scale, shift).state_dict().items()}
    save_file(state, output)


@torch.no_grad()
def scored(network: Trained, pixels: Tensor) -> np.ndarray:
    """Log-odds of stored crops."""
    network.eval()
    edge = (MARGIN - SIZE) // 2
    pieces = (p[:, edge : edge + SIZE, edge : edge + SIZE].permute(0, 3, 1, 2).float() / 255 for p in pixels.split(512))
    return torch.cat([network(piece) for piece in pieces]).double().numpy()


def missed(odds: np.ndarray, truth: np.ndarray) -> str:
    """The share of faces that are missed where one of 100, and of 1,000, of the other crops is accepted."""
    others = np.sort(odds[truth == 0])[::-1]
    shares = [(odds[truth == 1] < others[int(len(others) * share)]).mean() for share in (0.01, 0.001)]
    return "missed {:.2%} at 1 false of 100, {:.2%} at 1 of 1,000".format(*shares)


def fitted(odds: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Scale and shift of the log-odds with the least loss."""
    variables = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([variables], max_iter=200, line_search_fn="strong_wolfe")
    x, y, w = (torch.from_numpy(np.asarray(v, np.float64)) for v in (odds, truth, weight))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(variables[0] * x + variables[1], y, w)
        loss.backward()
        return loss

    optimizer.step(closure)
    scale, shift = variables.detach().tolist()
    return scale, shift


def reliability(chance: np.ndarray, truth: np.ndarray) -> Iterator[tuple[str, str]]:
    """Rows of a table: how many of the crops with a confidence within bounds show a face."""
    bounds = (0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0001)
    for low, high in zip(bounds, bounds[1:]):
        here = (chance >= low) & (chance < high)
        if here.any():
            yield (
                f"confidence {low:.2f} to {min(high, 1):.2f}:",
                f"{truth[here].mean():.1%} of {here.sum()} are faces, predicted {chance[here].mean():.1%}",
            )


@torch.no_grad()
def curve(folder: Path, output: Path) -> None:
    """Draw errors by the threshold."""
    stored = np.load(folder / "crops.npz")
    labels = stored["labels"]
    held_out = labels[:, 1] > 0
    edge = (MARGIN - SIZE) // 2
    pixels = torch.from_numpy(stored["pixels"][held_out][:, edge : edge + SIZE, edge : edge + SIZE])
    network = load_face_check()
    assert network is not None
    parts = (network(p.permute(0, 3, 1, 2).float() / 255) for p in pixels.split(512))
    chance, truth = torch.sigmoid(torch.cat(list(parts))).numpy(), labels[held_out, 0] > 0
    thresholds = np.linspace(0.01, 0.99, 99)
    missing = [100 * float((chance[truth] < t).mean()) for t in thresholds]
    false = [100 * float((chance[~truth] >= t).mean()) for t in thresholds]
    chart([("faces that are missed", missing), ("other crops taken for faces", false)], thresholds).save(output)
    at = int(np.argmin(abs(thresholds - 0.5)))
    print(f"at 0.5: {missing[at]:.2f} % of {truth.sum()} missed, {false[at]:.2f} % of {(~truth).sum()} taken; {output}")


def chart(curves: list[tuple[str, list[float]]], thresholds: np.ndarray, highest: float = 5.0) -> Image.Image:
    """Percent against the threshold."""
    width, height, left, top = 520, 260, 60, 40
    image = Image.new("RGB", (left + width + 20, top + height + 50), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(14)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + width * x, top + height * (1 - min(y, highest) / highest)

    for k in range(6):
        draw.line([place(0, k), place(1, k)], (225, 225, 225))
        draw.text((left - 8, place(0, k)[1]), f"{k} %", (40, 40, 40), font, "rm")
        x = k / 5
        draw.line([place(x, 0), place(x, highest)], (225, 225, 225))
        draw.text((place(x, 0)[0], top + height + 8), f"{x:.1f}", (40, 40, 40), font, "ma")
    draw.line([place(0.5, 0), place(0.5, highest)], (150, 150, 150), 2)
    draw.text((place(0.5, 0)[0] + 6, top + 60), "default", (110, 110, 110), font)
    draw.text((left + width / 2, top + height + 28), "threshold", (40, 40, 40), font, "ma")
    for k, ((name, values), color) in enumerate(zip(curves, ((40, 90, 170), (200, 30, 40)))):
        draw.line([place(t, v) for t, v in zip(thresholds, values)], color, 3, "curve")
        draw.text((left + 10 + 230 * k, 10), name, color, font)
    return image


def main(arguments: list[str] | None = None) -> None:
    """Make crops, or train."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.face_check", description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("crops", "train", "curve"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FACEMODELS_DATA", "../shared/data")))
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--method", default="dasl-aflw")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--output", type=Path, default=Path("face_check.safetensors"))
    options = parser.parse_args(arguments)
    if options.step == "train":
        train(options.folder, options.output, options.epochs)
        return
    if options.step == "curve":
        curve(options.folder, options.output)
        return
    if options.photographs is None:
        parser.error("crops needs --photographs")
    options.folder.mkdir(parents=True, exist_ok=True)
    crops = Crops(Reconstructor(options.method))
    rng = np.random.default_rng(0)
    add_photographs(crops, options.photographs, rng)
    add_clips(crops, options.data, rng)
    add_aflw(crops, options.data, rng)
    np.savez(options.folder / "crops.npz", pixels=np.stack(crops.pixels), labels=np.array(crops.labels, np.float32))
    print(f"{len(crops.pixels)} crops, {sum(label for label, *_ in crops.labels)} with a face")


if __name__ == "__main__":
    main()
