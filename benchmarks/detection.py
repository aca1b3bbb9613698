"""Whether faces are found, and nothing else: turned, close, far, where there are none, and over the cuts of videos.

python -m benchmarks.detection [PART ...] [--data FOLDER] [--count N] [--method NAME] [--json FILE] [--wrong FOLDER]

    turns    photographs of AFLW2000-3D (development half) turned by 0, 90, 180 and 270 degrees: the face is found, and
             it leans within 6 degrees of the upright photograph's, turned
    closeup  the same, cropped to the face with margins of 0 to 0.35 of its size, at 100 to 2048 pixels: one face, and
             its yaw is within 5 degrees of the photograph's
    none     pictures without a face: photographs of scikit-image, textures, photographs whose faces are painted over,
             corners of AFLW's crops
    small    faces of 40 pixels in pictures of 4000 x 3000, with `smallest=40`
    cuts     videos of clips, photographs and pictures without faces, one cut after the other
    crossings
             two people of the clips who move past each other, one in front of the other: tracks that are of both
    time     milliseconds of a photograph of 450 pixels, and of a frame of a video

--wrong keeps the pictures that went wrong. The data are for research only, and are not part of this repository.
"""

import argparse
import io
import math
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from facemodels.core.rotation import head_angles
from facemodels.io.video import open_video
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.overlays import overlay
from facemodels.reconstruction.reconstructor import Reconstructor

from . import common

PARTS = ("turns", "closeup", "none", "small", "cuts", "crossings", "time")
LEAN, YAW = 6.0, 5.0  # degrees
MARGINS, SIDES = (0.0, 0.05, 0.1, 0.2, 0.35), (100, 160, 256, 400, 700, 1024, 1500, 2048)
WITHOUT_PEOPLE = (
    "brick", "clock_motion", "coffee", "coins", "eagle", "grass", "gravel", "ihc", "moon", "page", "rocket",
    "chelsea", "hubble_deep_field", "text", "cell", "retina", "motorcycle_left", "color", "horse", "lily", "skin",
)  # fmt: skip


class Photographs:
    """AFLW2000-3D, development half."""

    def __init__(self, data: Path) -> None:
        self.archive = zipfile.ZipFile(data / "aflw2000_dev.zip")
        labels = np.load(data / "aflw2000_dev_labels.npz")
        self.names = [str(name) for name in labels["names"]]
        self.boxes = labels["roi_box"].astype(float)
        self.points = labels["pts68_reannotated"].transpose(0, 2, 1)
        self.files = {Path(name).name: name for name in self.archive.namelist()}

    def image(self, k: int) -> np.ndarray:
        """Photograph k, uint8 [h,w,3]."""
        name = Path(self.names[k]).name
        name = name if name.endswith(".jpg") else f"{name}.jpg"
        return np.asarray(Image.open(io.BytesIO(self.archive.read(self.files[name]))).convert("RGB"))


def at_center(faces: list[Face], box: np.ndarray) -> Face | None:
    """The face whose landmarks lie around the center of a box, and are about as large as it."""
    center, side = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).mean()
    best, least = None, 0.35 * side
    for face in faces:
        points = face.landmarks[:, :2].numpy()
        low, high = points.min(0), points.max(0)
        distance = float(np.linalg.norm((low + high) / 2 - center))
        if distance < least and 0.35 < (high - low).max() / side < 1.4:
            best, least = face, distance
    return best


def angles(face: Face) -> np.ndarray:
    """Pitch, yaw and roll in degrees."""
    return head_angles(face.rotation[None])[0].numpy()


def lean(face: Face) -> float:
    """How far the head's upward axis leans in the picture, counterclockwise, degrees.

    Unlike roll, which is one of three angles that depend on each other, it turns with the picture.
    """
    x, y = face.rotation[:2, 1].tolist()
    return math.degrees(math.atan2(-x, y))


def between(a: float, b: float) -> float:
    """The difference of two angles, 0 to 180 degrees."""
    return abs((a - b + 180) % 360 - 180)


def turned_box(box: np.ndarray, size: int, quarter: int) -> np.ndarray:
    """A box of a square picture in the picture that `np.rot90(picture, quarter)` makes."""
    for _ in range(quarter):
        box = np.array([box[1], size - box[2], box[3], size - box[0]])
    return box


class Wrong:
    """Keeps the pictures that went wrong, with what was found in them."""

    def __init__(self, folder: Path | None, worker: Reconstructor) -> None:
        self.folder, self.worker = folder, worker

    def keep(self, name: str, image: np.ndarray, faces: list[Face]) -> None:
        """Keep one."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        shown = overlay(image, faces, self.worker.model) if faces else image
        picture = Image.fromarray(shown)
        picture.thumbnail((450, 450))
        picture.save(self.folder / f"{name}.jpg", quality=85)


def turns(worker: Reconstructor, photos: Photographs, chosen: list[int], wrong: Wrong) -> dict[str, Any]:
    """Photographs turned by quarters."""
    found, good = np.zeros(4, int), np.zeros(4, int)
    for k in common.progress(chosen, "turns"):
        image, box = photos.image(k), photos.boxes[k]
        upright = at_center(worker(image), box)
        for quarter in range(4):
            picture = np.ascontiguousarray(np.rot90(image, quarter))
            faces = worker(picture)
            face = at_center(faces, turned_box(box, image.shape[0], quarter))
            right = False
            if face is not None:
                found[quarter] += 1
                right = upright is not None and between(lean(face), lean(upright) + 90 * quarter) <= LEAN
            good[quarter] += right
            if not right:
                wrong.keep(f"turn{90 * quarter}_{k}", picture, faces)
    share = 100 / len(chosen)
    return {
        "photographs": len(chosen),
        **{f"found_{90 * q}": round(found[q] * share, 2) for q in range(4)},
        **{f"right_{90 * q}": round(good[q] * share, 2) for q in range(4)},
    }


def closeup(worker: Reconstructor, photos: Photographs, chosen: list[int], wrong: Wrong) -> dict[str, Any]:
    """Photographs cropped to the face."""
    rng = np.random.default_rng(0)
    one = right = total = 0
    by: dict[str, list[bool]] = {}
    for k in common.progress(chosen, "closeup"):
        image, points = photos.image(k), photos.points[k]
        usual = worker(image, boxes=None, landmarks=[points.astype(np.float32)])[0]
        low, high = points.min(0), points.max(0)
        for _ in range(2):
            margin, side = float(rng.choice(MARGINS)), int(rng.choice(SIDES))
            size = (high - low).max()
            x0, y0 = np.maximum(np.floor(low - margin * size), 0).astype(int)
            x1, y1 = np.ceil(high + margin * size).astype(int)
            crop = Image.fromarray(image[y0:y1, x0:x1])
            factor = side / max(crop.size)
            picture = np.asarray(crop.resize([max(1, round(s * factor)) for s in crop.size], Image.Resampling.BICUBIC))
            faces = worker(picture)
            total += 1
            single = len(faces) == 1
            fits = single and between(angles(faces[0])[1], angles(usual)[1]) <= YAW
            one, right = one + single, right + fits
            by.setdefault(f"margin_{margin}", []).append(fits)
            by.setdefault(f"side_{side}", []).append(fits)
            if not fits:
                wrong.keep(f"closeup_{k}_{margin}_{side}_{len(faces)}", picture, faces)
    return {
        "pictures": total,
        "one_face": round(100 * one / total, 2),
        "right": round(100 * right / total, 2),
        **{key: round(100 * float(np.mean(values)), 1) for key, values in sorted(by.items())},
    }


def painted(image: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photograph whose face is painted over: with a color, with noise, with a piece beside it, or blurred away."""
    size = float(np.ptp(points, axis=0).max())
    low, high = points.min(0) - [0.25 * size, 0.6 * size], points.max(0) + [0.25 * size, 0.2 * size]
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    inside = ((x - (low + high)[0] / 2) / (high - low)[0] * 2) ** 2 + (
        (y - (low + high)[1] / 2) / (high - low)[1] * 2
    ) ** 2
    mask = np.clip((1.15 - inside) / 0.15, 0, 1)[..., None]
    way = rng.integers(4)
    if way == 0:
        paint = np.broadcast_to(rng.integers(0, 256, 3), image.shape)
    elif way == 1:
        noise = Image.fromarray(rng.integers(0, 256, (30, 30, 3), np.uint8))
        paint = np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC))
    elif way == 2:
        beside = Image.fromarray(np.roll(image, (height // 2, width // 2), (0, 1))[::-1])
        paint = np.asarray(beside.filter(ImageFilter.GaussianBlur(size / 12)))
    else:
        paint = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(size / 2.5)))
    return np.clip(image * (1 - mask) + paint * mask + 0.5, 0, 255).astype(np.uint8)


def without_faces(
    data: Path, photos: Photographs, chosen: list[int], count: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Pictures without a face: what kind it is, and, where a face was painted over, where it was."""
    import skimage.data

    rng = np.random.default_rng(1)
    for name in WITHOUT_PEOPLE:
        file = next((Path(skimage.__file__).parent / "data").glob(f"{name}.*"), None)
        if file is None or file.suffix not in (".png", ".jpg", ".jpeg", ".gif"):
            continue
        image = np.asarray(Image.open(file).convert("RGB"))
        yield "scikit-image", image, None
        for _ in range(4):  # parts of it
            side = int(rng.integers(min(image.shape[:2]) // 4, min(image.shape[:2])))
            y, x = (int(rng.integers(0, n - side + 1)) for n in image.shape[:2])
            part = Image.fromarray(np.rot90(image[y : y + side, x : x + side], int(rng.integers(4))))
            yield "scikit-image", np.asarray(part.resize((480, 480), Image.Resampling.BICUBIC)), None
    for k in range(count // 4):
        yield "texture", texture(np.random.default_rng(1000 + k)), None
    for k in chosen[: count // 2]:
        yield "painted over", painted(photos.image(k), photos.points[k], rng), photos.boxes[k]
    crops = zipfile.ZipFile(data / "aflw_crops.zip")
    names = sorted(name for name in crops.namelist() if name.endswith(".jpg"))
    for name in rng.choice(names, count // 4, replace=False):
        image = np.asarray(Image.open(io.BytesIO(crops.read(str(name)))).convert("RGB"))
        side = int(rng.integers(24, 40))
        y, x = (int(rng.choice([0, 120 - side])) for _ in range(2))
        part = Image.fromarray(image[y : y + side, x : x + side])
        yield "corner of a crop", np.asarray(part.resize((320, 320), Image.Resampling.BICUBIC)), None


def texture(rng: np.random.Generator) -> np.ndarray:
    """Noise of several scales, stripes and blobs in colors of skin and others, uint8 [360,480,3]."""
    height, width = 360, 480
    image = np.zeros((height, width, 3))
    for scale in (4, 12, 40, 120):
        small = rng.normal(size=(height // scale + 3, width // scale + 3, 3))
        small = small if rng.random() < 0.5 else small.mean(-1, keepdims=True).repeat(3, -1)
        layers = [
            np.asarray(
                Image.fromarray(small[..., c].astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
            )
            for c in range(3)
        ]
        image += np.stack(layers, -1) * rng.uniform(5, 45)
    base = np.array([200, 150, 120]) if rng.random() < 0.5 else rng.integers(30, 226, 3)
    image += base
    y, x = np.mgrid[:height, :width]
    if rng.random() < 0.3:
        image += 40 * np.sin(x * rng.uniform(0.02, 0.3) + y * rng.uniform(0.02, 0.3))[..., None]
    for _ in range(int(rng.integers(0, 6))):
        cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(10, 120)
        image[(x - cx) ** 2 + ((y - cy) * rng.uniform(0.6, 1.4)) ** 2 < r * r] += rng.uniform(-60, 60, 3)
    return np.clip(image, 0, 255).astype(np.uint8)


def none(
    worker: Reconstructor, data: Path, photos: Photographs, chosen: list[int], count: int, wrong: Wrong
) -> dict[str, Any]:
    """Pictures without a face."""
    counts: dict[str, list[int]] = {}
    for n, (kind, image, box) in enumerate(common.progress(list(without_faces(data, photos, chosen, count)), "none")):
        faces = worker(image)
        # Other people may stand beside the face that is painted over.
        false = faces if box is None else [f for f in (at_center(faces, box),) if f is not None]
        counts.setdefault(kind, []).append(bool(false))
        if false:
            wrong.keep(f"none_{kind.replace(' ', '_')}_{n}", image, false)
    total = sum(counts.values(), [])
    return {
        "pictures": len(total),
        "with_a_false_face": int(sum(total)),
        "one_in": round(len(total) / max(1, sum(total)), 1),
        **{f"{kind}": f"{sum(values)} of {len(values)}" for kind, values in counts.items()},
    }


def small(
    worker: Reconstructor, photos: Photographs, chosen: list[int], wrong: Wrong, size: int = 40
) -> dict[str, Any]:
    """Small faces in large pictures."""
    import skimage.data

    rng = np.random.default_rng(2)
    folder = Path(skimage.__file__).parent / "data"
    grounds = [
        file
        for name in ("coffee", "rocket", "chelsea", "brick", "grass", "gravel")
        for file in folder.glob(f"{name}.*")
    ]
    found = false = total = 0
    seconds = []
    for n in common.progress(range(0, len(chosen), 8), "small"):
        ground = Image.open(grounds[(n // 8) % len(grounds)]).convert("RGB")
        image = np.array(ground.resize((4000, 3000), Image.Resampling.BICUBIC))
        places = []
        cells = rng.permutation(30)[:8]
        for k, cell in zip(chosen[n : n + 8], cells):
            photo, points = photos.image(k), photos.points[k]
            factor = size / float(np.ptp(points, axis=0).max())
            pixels = np.asarray(
                Image.fromarray(photo).resize([round(s * factor) for s in photo.shape[1::-1]], Image.Resampling.LANCZOS)
            )
            points = points * factor
            x, y = 30 + 660 * (cell % 6), 30 + 600 * (cell // 6)
            image[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels[: 3000 - y, : 4000 - x]
            middle = (points.min(0) + points.max(0)) / 2 + [x, y]
            places.append(np.concatenate([middle - size * 0.7, middle + size * 0.7]))
        begun = time.perf_counter()
        faces = worker(image)
        seconds.append(time.perf_counter() - begun)
        for place in places:
            total += 1
            face = at_center(faces, place)
            found += face is not None
        if any(at_center(faces, place) is None for place in places):
            wrong.keep(f"small_{n}", image, faces)
        false += sum(
            all(np.linalg.norm(f.landmarks[:, :2].mean(0).numpy() - (p[:2] + p[2:]) / 2) > 200 for p in places)
            for f in faces
        )
    return {
        "faces": total,
        "found": round(100 * found / total, 2),
        "false": false,
        "seconds_a_picture": round(float(np.median(seconds)), 2),
    }


def scenes(data: Path, photos: Photographs, chosen: list[int]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Pieces of a video of 320 x 320, each with who is in it; "" where nobody is."""
    import skimage.data

    rng = np.random.default_rng(3)
    clips = sorted((data / "face_clips").glob("p*/1.mp4"))
    folder = Path(skimage.__file__).parent / "data"
    empty = [folder / f"{name}.png" for name in ("coffee", "brick", "grass", "chelsea", "rocket")]
    empty = [file for file in empty if file.exists()]

    def fit(image: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(image).resize((320, 320), Image.Resampling.BICUBIC))

    for n in range(51):
        kind = ("clip", "photo", "empty", "clip", "sample", "photo", "plain")[n % 7]
        length = int(rng.integers(6, 24))
        if kind == "clip":
            file = clips[int(rng.integers(len(clips)))]
            frames = [fit(f) for f, _ in zip(frames_of(file), range(length))]
            yield file.parent.name, frames
        elif kind == "sample":
            begin = int(rng.integers(0, 30))
            frames = [f for _, f in zip(range(begin + length), frames_of(data / "sample_video.mp4"))][begin:]
            # A window around the speaker.
            yield "sample", [fit(f[:, (f.shape[1] - f.shape[0]) // 2 :][:, : f.shape[0]]) for f in frames]
        elif kind == "photo":
            k = chosen[int(rng.integers(len(chosen)))]
            image = photos.image(k)
            yield f"photo{k}", [fit(image)] * length
        elif kind == "empty":
            yield "", [fit(np.asarray(Image.open(empty[int(rng.integers(len(empty)))]).convert("RGB")))] * length
        else:
            yield "", [np.full((320, 320, 3), rng.integers(0, 256, 3), np.uint8)] * length


def frames_of(file: Path) -> Iterator[np.ndarray]:
    """The frames of a video."""
    for frame in open_video(file).frames:
        yield frame.image


def cuts(worker: Reconstructor, data: Path, photos: Photographs, chosen: list[int], wrong: Wrong) -> dict[str, Any]:
    """Cuts of a video."""
    who, frames = [], []
    number = []
    for n, (name, part) in enumerate(scenes(data, photos, chosen)):
        who += [name] * len(part)
        number += [n] * len(part)
        frames += part
    in_void = with_face = people = 0
    of_track: dict[int, set[int]] = {}
    for t, faces in enumerate(worker.follow(iter(frames))):
        if who[t] == "":
            in_void += bool(faces)
            if faces:
                wrong.keep(f"cut_void_{t}", frames[t], faces)
        else:
            people += 1
            with_face += bool(faces)
            if not faces:
                wrong.keep(f"cut_missed_{t}", frames[t], faces)
        for face in faces:
            of_track.setdefault(face.track if face.track is not None else -1, set()).add(number[t])
    return {
        "cuts": number[-1],
        "frames": len(frames),
        "frames_without_anybody_that_have_a_face": in_void,
        "tracks": len(of_track),
        "tracks_over_a_cut": sum(len(scenes_of) > 1 for scenes_of in of_track.values()),
        "frames_of_people_with_a_face": round(100 * with_face / people, 2),
    }


def crossing(front: list[np.ndarray], back: list[np.ndarray], size: int = 224) -> Iterator[tuple[np.ndarray, int, int]]:
    """Frames in which a person passes in front of another one, each with the middle of both in x."""
    ys, xs = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    cover = np.clip((0.5 - np.hypot(xs, ys)) / 0.04, 0, 1)[..., None]  # a disc, soft at its border
    count, width, height = min(len(front), len(back), 60), 3 * size, 3 * size // 2
    for t in range(count):
        way = round((width - size) * t / (count - 1))
        frame = np.full((height, width, 3), 96.0)
        for x, person in ((width - size - way, back[t]), (way, front[t])):
            place = frame[height // 2 - size // 2 :][:size, x : x + size]
            place += cover * (person - place)
        yield frame.astype(np.uint8), way + size // 2, width - size // 2 - way


def crossings(worker: Reconstructor, data: Path, count: int, wrong: Wrong) -> dict[str, Any]:
    """People who pass each other."""
    files = sorted((data / "face_clips").glob("p*/1.mp4"))
    pairs = list(zip(files[0::2], files[1::2]))[:count]
    kept = {"front": 0, "back": 0}
    tracks = both = 0
    for n, pair in enumerate(common.progress(pairs, "crossings")):
        front_person, back_person = (list(frames_of(file)) for file in pair)
        frames, fronts, backs = zip(*crossing(front_person, back_person))
        followed: dict[int, set[str]] = {}
        sides: dict[str, list[set[int]]] = {"front": [set(), set()], "back": [set(), set()]}
        for faces, front, back in zip(worker.follow(frames), fronts, backs):
            if abs(front - back) < 100:  # who is who cannot be seen
                continue
            for face in faces:
                x = float(face.landmarks[:, 0].mean())
                name = "front" if abs(x - front) < abs(x - back) else "back"
                followed.setdefault(face.track or 0, set()).add(name)
                sides[name][int(front > back)].add(face.track or 0)
        tracks += len(followed)
        mixed = sum(len(names) > 1 for names in followed.values())
        both += mixed
        for name, (before, after) in sides.items():
            kept[name] += bool(before & after)
        if mixed:
            wrong.keep(f"crossing_{n}", np.concatenate(frames[20:44:6]), [])
    return {
        "crossings": len(pairs),
        "tracks": tracks,
        "tracks_of_both_people": both,
        "keeps_its_number_in_front": f"{kept['front']} of {len(pairs)}",
        "keeps_its_number_behind": f"{kept['back']} of {len(pairs)}",
    }


def timing(worker: Reconstructor, data: Path, photos: Photographs, chosen: list[int]) -> dict[str, Any]:
    """Times of ordinary pictures."""
    images = [photos.image(k) for k in chosen[:40]]
    worker(images[0])
    each = []
    for image in images:
        begun = time.perf_counter()
        worker(image)
        each.append(time.perf_counter() - begun)
    frames = list(frames_of(data / "sample_video.mp4"))
    begun = time.perf_counter()
    for _ in worker.follow(iter(frames)):
        pass
    return {
        "photograph_ms": round(1000 * float(np.median(each)), 1),
        "frame_ms": round(1000 * (time.perf_counter() - begun) / len(frames), 1),
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, and print a table for each part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", default=PARTS, help=f"of {', '.join(PARTS)}")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FACEMODELS_DATA", "../shared/data")))
    parser.add_argument("--count", type=int, default=200, help="photographs (default: 200 of the 1,000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--method", help="weights (default: the best that ship)")
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--wrong", type=Path, metavar="FOLDER", help="keep pictures that went wrong")
    parser.add_argument("--json", help="also write the numbers here")
    options = parser.parse_args(arguments)
    if wrong_parts := set(options.parts) - set(PARTS):
        parser.error(f"unknown part: {', '.join(wrong_parts)}")
    more = {} if options.threshold is None else {"threshold": options.threshold}
    worker = Reconstructor(options.method, **more)
    photos = Photographs(options.data)
    step = max(1, len(photos.names) // options.count)
    chosen = list(range(options.first, len(photos.names), step))[: options.count]
    wrong = Wrong(options.wrong, worker)
    result: dict[str, Any] = {"environment": common.environment(torch.device("cpu"))}
    for part in options.parts:
        if part == "turns":
            found = turns(worker, photos, chosen, wrong)
        elif part == "closeup":
            found = closeup(worker, photos, chosen, wrong)
        elif part == "none":
            found = none(worker, options.data, photos, chosen, options.count * 2, wrong)
        elif part == "small":
            found = small(Reconstructor(options.method, smallest=40, **more), photos, chosen, wrong)
        elif part == "cuts":
            found = cuts(worker, options.data, photos, chosen, wrong)
        elif part == "crossings":
            found = crossings(worker, options.data, options.count, wrong)
        else:
            found = timing(worker, options.data, photos, chosen)
        result[part] = found
        print(f"{part}: " + ", ".join(f"{key} {value}" for key, value in found.items()), flush=True)
    common.write_json(options.json, result)
    return result


if __name__ == "__main__":
    main()
