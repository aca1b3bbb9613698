"""AFLW2000-3D: 68 landmarks on 2,000 photographs, the benchmark of 3DDFA (Zhu et al. 2016) and of most that followed.

Data: photographs with fitted Basel faces, whose projected landmarks are the labels. For evaluation only: no method here
is trained on these photographs, and no setting is chosen by a result on them.

Measured: NME in 2D, normalized by the labels' box (`metrics.nme`), and in 3D where a method predicts depth. Nothing is
aligned. Where papers differ:

* Crops are made from the labels, as in the benchmark: the square around the labeled landmarks times sqrt(2)
  (`core.crops.landmark_box`). So a method is told exactly where the face is.
* boxes="recomputed" maps predictions back by the box that was cropped. boxes="stored" maps them back by the benchmark's
  own file of boxes, as most published numbers do. There the boxes of about 50 faces at the border are clipped to the
  photograph while their crops are not, so these faces are mapped back wrongly.
* Labels: "original", the projected vertices of the fitted faces (pt3d_68), and "reannotated", those of LS3D-W in
  3DDFA's repository. Both are read as 1-based, as in the benchmark. The two sets differ by 3.4 % of NME (balanced):
  below that, a difference on the original labels means little.
* Yaw: that of the fitted faces (bins of 1312, 383 and 305 photographs in the whole set), and AFLW's (1306, 462, 232).
* The mean over the three bins' means ("balanced") is what tables call mean. The mean over all photographs ("plain") is
  lower.

The re-annotated labels, AFLW's yaw and the stored boxes come from a file beside the data set (`aflw2000_data`); without
it, only the original labels are scored.
"""

import csv
import math
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from facemodels.core.crops import Box, cut, from_crop, landmark_box, to_crop
from facemodels.core.errors import InputError
from facemodels.data.tddfa import AFLW2000, Photo
from facemodels.evaluation.aflw2000_data import (
    BATCH,
    LAYOUT,
    batches,
    extra_labels,
    label_box,
    locate,
    photograph_count,
    subset_notes,
    write_example,
)
from facemodels.evaluation.metrics import BIN_COLUMNS, BINS, by_yaw, failure_rate, nme, nme_3d
from facemodels.evaluation.predictor import add_limit, limited, predictor
from facemodels.evaluation.report import RECALLED, PublishedRow, Report, Results
from facemodels.methods.face_method import FaceMethod
from facerender._checks import brief_repr

__all__ = ["Predictions", "configure", "evaluate", "predictions", "run", "scores", "write_example"]

FAILURE = 10.0  # percent of NME
CLIPPED = 2.0  # pixels: stored boxes are rounded; one that differs more from the recomputed box was clipped
BOXES = ("recomputed", "stored")

_PRMNET, _DEEP3D = "README of Ray-tju/PRMNet", "README of microsoft/Deep3DFaceReconstruction"
PUBLISHED = [
    PublishedRow("RCPR", [4.26, 5.96, 13.18, 7.80], _PRMNET),
    PublishedRow("ESR", [4.60, 6.70, 12.67, 7.99], _PRMNET),
    PublishedRow("SDM", [3.67, 4.94, 9.76, 6.12], _PRMNET),
    PublishedRow("DeFA", [4.50, 5.56, 7.33, 5.80], _PRMNET),
    PublishedRow("3DDFA 2016", [3.78, 4.54, 7.93, 5.42], _DEEP3D),
    PublishedRow("3DDFA+SDM", [3.43, 4.24, 7.17, 4.94], _DEEP3D),
    PublishedRow("Nonlinear 3DMM", [None, None, None, 4.70], _PRMNET),
    PublishedRow("DAMDNet", [2.91, 3.83, 4.95, 3.90], _PRMNET),
    PublishedRow("MFIRRN", [2.84, 3.57, 4.56, 3.66], _PRMNET),
    PublishedRow("PRNet", [2.75, 3.51, 4.61, 3.62], _DEEP3D),
    PublishedRow("RADANet", [2.79, 3.58, 4.50, 3.62], _PRMNET),
    PublishedRow("2DAL (journal of 2DASL)", [2.75, 3.46, 4.45, 3.55], _PRMNET),
    PublishedRow("2DASL (arXiv)", [2.75, 3.44, 4.41, 3.53], RECALLED),
    PublishedRow("3DDFA-V2", [None, None, None, 3.51], "leaderboard of wizwand"),
    PublishedRow("SADRNet", [None, None, None, 3.46], "leaderboard of Papers with Code"),
    PublishedRow("PFRRNet", [2.62, 3.38, 4.34, 3.45], _PRMNET),
    PublishedRow("SynergyNet (model)", [2.66, 3.32, 4.27, 3.41], "README of Hikaylee/SynergyNet"),
    PublishedRow("Deep3D (TensorFlow)", [2.56, 3.11, 4.45, 3.37], _DEEP3D),
    PublishedRow("3D-FAN", [2.47, 3.01, 4.31, 3.26], _DEEP3D),
]


def configure(parser: ArgumentParser) -> None:
    """Add the protocol's arguments."""
    parser.epilog = f"""examples:
  facemodels evaluate aflw2000 --data AFLW2000-3D.zip --json results.json --curve curve.png
  facemodels evaluate aflw2000 --checkpoint runs/dasl/checkpoints/step-000010000 --data AFLW2000 \\
      --labels test.configs --pictures out

NME of 68 landmarks, normalized by sqrt(width * height) of the labels' box. Crops are made from the
labeled landmarks, as in the benchmark. Both means that papers mix up are printed: balanced (over
the means of three bins of yaw; what tables call mean) and plain (over all photographs).

{LAYOUT}

The re-annotated labels, AFLW's yaw and the stored boxes are in DATA_labels.npz, or in 3DDFA's
folder test.configs, which --labels takes; without them, only the original labels are scored."""
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="PATH",
        help="re-annotated labels (default: DATA_labels.npz beside the data, where there is one)",
    )
    parser.add_argument(
        "--boxes",
        choices=BOXES,
        default="recomputed",
        help="map predictions back by the box that was cropped, or by the benchmark's stored boxes, some of which are "
        "clipped (default: recomputed)",
    )
    add_limit(parser, "photographs")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="write faces.png, the worst, median and best faces, and errors.csv, the error of every face",
    )


def run(method: FaceMethod, data: Path, options: Namespace) -> Report:
    """Score a method; see `facemodels.evaluation.Protocol`."""
    path = locate(data)
    predict = predictor(method, "landmarks")
    found = predictions(predict, path, method.size, options.labels, options.boxes, options.limit)
    results = scores(found)
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        iio.imwrite(options.pictures / "faces.png", draw_faces(found, path))
        write_errors(options.pictures / "errors.csv", found)
        print(
            f"{options.pictures / 'faces.png'}  the worst, median and best {COLUMNS} faces: labels green, predictions "
            "red"
        )
    title = (
        "NME of 68 landmarks in 2D, percent of sqrt(width * height) of the labels' box; "
        f"{photograph_count(len(found.names))}, original labels, crops from the labeled landmarks"
    )
    notes = [
        "Our row: original labels, bins by the fitted yaw, mean over the three bins; crops are made from the labels, "
        "as in the benchmark.",
        *subset_notes(len(found.names), found.left_out),
        "The original labels differ from the re-annotated ones by 3.4 % themselves: below that a difference means "
        "little.",
        "Published numbers are mapped back with the stored boxes, of which about 50 are clipped to the photograph; "
        "--boxes stored does the same.",
        "No numbers of the pose guidance network and of the cycles were found.",
    ]
    return Report(
        protocol="aflw2000",
        title=title,
        results=results,
        errors=found.errors,
        unit="percent",
        largest=FAILURE,
        columns=BIN_COLUMNS,
        row=[results[f"nme68_2d_{key}_percent"] for key in (*BINS, "balanced")],
        ranked_by="mean",
        published=PUBLISHED,
        notes=notes,
        details=format_scores(results),
    )


@brief_repr
@dataclass
class Predictions:
    """Predicted landmarks of the photographs with their labels; points in pixels of the photograph, y down.

    Attributes:
        names: [N] names of the photographs.
        points: [N,68,2], or [N,68,3] where the method predicts depth.
        original: [N,68,3] original labels.
        yaw: [N] fitted yaw, degrees.
        reannotated: [N,68,2] re-annotated labels; None without their file.
        aflw_yaw: [N] AFLW's yaw, degrees; None without that file.
        boxes: Which boxes mapped the predictions back: "recomputed" or "stored".
        clipped: How many of the stored boxes are clipped.
        left_out: How many photographs could not be read.
    """

    names: list[str]
    points: np.ndarray
    original: np.ndarray
    yaw: np.ndarray
    reannotated: np.ndarray | None
    aflw_yaw: np.ndarray | None
    boxes: str
    clipped: int
    left_out: int

    @property
    def errors(self) -> np.ndarray:
        """NME in 2D on the original labels, percent [N]."""
        return nme(self.points[..., :2], self.original[..., :2])

    @property
    def reannotated_errors(self) -> np.ndarray | None:
        """NME in 2D on the re-annotated labels, percent [N]; None without them."""
        return None if self.reannotated is None else nme(self.points[..., :2], self.reannotated)


def evaluate(
    predict: Callable[[Tensor], Tensor],
    path: str | Path,
    size: int = 120,
    labels: str | Path | None = None,
    boxes: str = "recomputed",
    limit: int | None = None,
) -> Results:
    """Score a function that predicts landmarks; arguments as of `predictions`, results as of `scores`."""
    return scores(predictions(predict, path, size, labels, boxes, limit))


def predictions(
    predict: Callable[[Tensor], Tensor],
    path: str | Path,
    size: int = 120,
    labels: str | Path | None = None,
    boxes: str = "recomputed",
    limit: int | None = None,
    batch: int = BATCH,
) -> Predictions:
    """Predict the landmarks of the photographs. Those that cannot be read are left out, with a warning.

    Args:
        predict: From crops [N,3,size,size], float32, sRGB in 0..1, on the CPU, to landmarks [N,68,2] or [N,68,3] in
            pixels of the crop: (0, 0) is its corner, z toward the viewer and relative to any origin.
        path: The folder or zip of the data set.
        size: The side of the crops in pixels.
        labels: The file of further labels, see `aflw2000_data.extra_labels`.
        boxes: "recomputed" or "stored", see this module.
        limit: Score only this many photographs, the first.
        batch: Crops in a batch.

    Raises:
        InputError: Data are missing or damaged, or a prediction is not finite.
        ValueError: `predict` returns another shape.
    """
    if boxes not in BOXES:
        raise InputError(f"boxes must be {' or '.join(BOXES)}, got {boxes!r}")
    photos = AFLW2000(path)
    names = limited(photos.names, limit)
    extra = extra_labels(photos, labels)
    if boxes == "stored" and "roi_box" not in extra:
        raise InputError(
            f"{photos.path}: the stored boxes are in the labels' file, and there is none; give it, or take boxes "
            "recomputed from the landmarks"
        )

    def boxes_of(photo: Photo) -> tuple[Box, Box]:
        """The box to crop, and the box that maps predictions back."""
        own = label_box(photo)
        if boxes == "recomputed":
            return own, own
        x0, y0, x1, y1 = extra["roi_box"][photo.name] - 0.5
        back = (x0, y0, x1, y1)
        return (back if np.abs(np.subtract(back, own)).max() < CLIPPED else own), back

    points, original, kept, yaw, clipped = [], [], [], [], 0
    for some, crop_boxes, crops in batches(photos, names, size, lambda photo: boxes_of(photo)[0], batch):
        found = np.asarray(predict(crops).detach().cpu().float(), np.float64)
        if found.shape not in ((len(some), 68, 2), (len(some), 68, 3)):
            raise ValueError(f"predict must return [{len(some)},68,2] or [{len(some)},68,3], got {list(found.shape)}")
        for photo, crop_box, p in zip(some, crop_boxes, found):
            if not np.isfinite(p).all():
                raise InputError(f"{photo.name}: the predicted landmarks are not finite")
            _, box = boxes_of(photo)
            in_photo = from_crop(p[:, :2], box, size)
            zoom = (box[2] - box[0] + box[3] - box[1]) / (2 * size)
            points.append(np.concatenate([in_photo, p[:, 2:] * zoom], 1))
            original.append(photo.landmarks)
            kept.append(photo.name)
            yaw.append(photo.yaw)
            clipped += crop_box != box

    def column(key: str) -> np.ndarray | None:
        return np.stack([extra[key][name] for name in kept]) if key in extra else None

    return Predictions(
        names=kept,
        points=np.stack(points),
        original=np.stack(original),
        yaw=np.array(yaw),
        reannotated=column("reannotated"),
        aflw_yaw=column("aflw_yaw"),
        boxes=boxes,
        clipped=clipped,
        left_out=len(names) - len(kept),
    )


def scores(p: Predictions) -> Results:
    """Score predictions.

    Returns:
        protocol, crops, boxes: texts that state the protocol. images, images_left_out, images_yaw_0_30 ...: numbers of
        photographs. All others are errors in percent, by the beginnings of their names:

        * nme68_2d_: original labels, bins by the fitted yaw. nme68_2d_aflw_yaw_: bins by AFLW's yaw.
        * nme68_2d_reannotated_: re-annotated labels.
        * nme68_3d_min_z_, nme68_3d_mean_z_: in 3D, by both rules of depth.
        * nme68_2d_between_labels_: the original labels scored on the re-annotated ones, as if they were predictions.

        and their ends: yaw_0_30_percent, yaw_30_60_percent, yaw_60_90_percent, balanced_percent, plain_percent,
        std_of_bins_percent, and above_10_percent_of_images, the failures. The mean of an empty bin, and what depends on
        it, is None.
    """
    results: Results = {
        "protocol": "AFLW2000-3D, 68 landmarks, NME by sqrt(width * height) of the labels' box",
        "crops": "from the labeled landmarks (square of their larger side times sqrt 2)",
        "boxes": p.boxes if p.boxes == "recomputed" else f"stored, {p.clipped} of them clipped to the photograph",
        "images": len(p.names),
        "images_left_out": p.left_out,
    }
    yaws = {"": p.yaw} | ({"aflw_yaw_": p.aflw_yaw} if p.aflw_yaw is not None else {})
    measured = {"nme68_2d_": p.errors}
    if p.reannotated is not None:
        measured["nme68_2d_reannotated_"] = nme(p.points[..., :2], p.reannotated)
    if p.points.shape[-1] == 3:
        measured |= {f"nme68_3d_{rule}_": nme_3d(p.points, p.original, rule) for rule in ("min_z", "mean_z")}
    if p.reannotated is not None:
        measured["nme68_2d_between_labels_"] = nme(p.original[..., :2], p.reannotated)
    for name, errors in measured.items():
        for source, yaw in yaws.items():
            binned = by_yaw(errors, yaw)
            for key, within in _bin_names(source).items():
                results[f"images_{within}"] = binned[f"images_{key}"]
                results[f"{name}{within}_percent"] = _finite_or_none(binned[key])
            for key in ("balanced", "std_of_bins"):
                results[f"{name}{source}{key}_percent"] = _finite_or_none(binned[key])
        results[f"{name}plain_percent"] = float(errors.mean())
        results[f"{name}above_{FAILURE:.0f}_percent_of_images"] = failure_rate(errors, FAILURE)
    return results


def _bin_names(source: str) -> dict[str, str]:
    """From the names of the bins to those in the results: source is "" (fitted yaw) or "aflw_yaw_"."""
    return {key: source + key.removeprefix("yaw_") if source else key for key in BINS}


def _finite_or_none(value: float) -> float | None:
    """None in place of NaN, which JSON does not have."""
    return value if math.isfinite(value) else None


def format_scores(results: Results) -> str:
    """Format the results of `scores` as a table: a line for each kind of labels and yaw."""
    rows = {
        "nme68_2d_": "68 points, original labels",
        "nme68_2d_reannotated_": "68 points, re-annotated labels",
        "nme68_3d_min_z_": "68 points in 3D, least z at 0",
        "nme68_3d_mean_z_": "68 points in 3D, mean z at 0",
        "nme68_2d_between_labels_": "original labels on re-annotated",
    }
    columns = ("[0,30]", "(30,60]", "(60,90]", "balanced", "std", "plain", f">{FAILURE:.0f} %")
    left_out = f", {results['images_left_out']} left out" if results["images_left_out"] else ""
    lines = [
        f"{results['protocol']}; {results['images']} photographs{left_out}",
        f"crops {results['crops']}; boxes {results['boxes']}",
        "",
        f"{'NME, percent':34}" + "".join(f"{name:>9}" for name in columns),
    ]
    for source, title in (("", "bins by the fitted yaw"), ("aflw_yaw_", "bins by AFLW's yaw")):
        within = _bin_names(source)
        if f"images_{within['yaw_0_30']}" not in results:
            continue
        lines.append(f"{title + ', photographs':34}" + "".join(f"{results[f'images_{w}']:9d}" for w in within.values()))
        for prefix, label in rows.items():
            if f"{prefix}plain_percent" in results:
                values = [results[f"{prefix}{w}_percent"] for w in within.values()]
                values += [results[f"{prefix}{source}{k}_percent"] for k in ("balanced", "std_of_bins")]
                values += [results[f"{prefix}plain_percent"], results[f"{prefix}above_{FAILURE:.0f}_percent_of_images"]]
                lines.append(f"  {label:32}" + "".join(f"{'-' if v is None else f'{v:.3f}':>9}" for v in values))
    return "\n".join(lines)


# Pictures and errors of single faces, --pictures.

COLUMNS = 8  # faces in a row
FACE = 240  # pixels, side of a face
_LABEL_COLOR, _PREDICTED_COLOR = (0, 230, 60), (255, 40, 40)


def draw_faces(found: Predictions, path: Path) -> np.ndarray:
    """Draw the worst, the median and the best faces by the original labels, a row of each.

    Args:
        found: The predictions.
        path: The data set.

    Returns:
        uint8 [3 FACE, COLUMNS FACE, 3], sRGB.
    """
    photos, order = AFLW2000(path), np.argsort(-found.errors)
    count = min(COLUMNS, len(order))
    middle = (len(order) - count) // 2
    rows = []
    for chosen in (order[:count], order[middle : middle + count], order[len(order) - count :]):
        faces = []
        for k in chosen:
            box = landmark_box(found.original[k, :, :2])
            picture = Image.fromarray(cut(photos.read(found.names[k]).image, box, FACE))
            draw = ImageDraw.Draw(picture)
            for points, color in ((found.original, _LABEL_COLOR), (found.points, _PREDICTED_COLOR)):
                for x, y in to_crop(points[k, :, :2], box, FACE):
                    draw.ellipse([x - 1.5, y - 1.5, x + 1.5, y + 1.5], fill=color)
            caption = f"{found.names[k].removeprefix('image')}  {found.errors[k]:.2f} %"
            draw.rectangle([0, FACE - 13, draw.textlength(caption) + 5, FACE], fill=(0, 0, 0))
            draw.text((3, FACE - 12), caption, fill=(255, 255, 255))
            faces.append(np.asarray(picture))
        rows.append(np.concatenate(faces, 1))
    return np.concatenate(rows)


def write_errors(path: Path, found: Predictions) -> None:
    """Write a CSV with a line for each photograph: its yaw and its NME on each kind of labels."""
    columns = {"name": found.names, "yaw_fitted_deg": found.yaw, "nme68_2d_percent": found.errors}
    if found.aflw_yaw is not None and found.reannotated_errors is not None:
        columns |= {"yaw_aflw_deg": found.aflw_yaw, "nme68_2d_reannotated_percent": found.reannotated_errors}
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([row[0], *(f"{v:.5f}" for v in row[1:])] for row in zip(*columns.values()))
