"""AFLW2000-3D: 68 landmarks on 2,000 photographs, the benchmark of 3DDFA and of most that came after (Zhu et al. 2016).

It is for evaluation alone: no method here is trained on these photographs, and no setting is chosen by a result on them.

The protocol, where tables differ:

* The crop is made from the labels, as in the benchmark: the square around the labelled landmarks times sqrt(2) (`data.crops.landmark_box`). A predictor is told where
  the face is, exactly.
* boxes="recomputed" maps predictions back by the box that was cut out. boxes="stored" maps them back by the benchmark's own file of boxes, as most published numbers
  do; there the boxes of about 50 faces at the border of the photograph are clipped to it while their crops are not, so that these faces are mapped wrongly.
* Labels: "original", the projected vertices of the fitted Basel faces (pt3d_68), and "reannotated", those of LS3D-W in 3DDFA's repository. Both are taken as 1-based,
  as the benchmark takes them. The two sets differ by 3.4 % of NME (balanced): below that, a difference on the original labels says little.
* Yaw: "fitted", that of the fitted faces (bins of 1312, 383 and 305 in the whole set), and that of AFLW ("aflw_yaw"; 1306, 462 and 232).
* The mean of the three bins' means ("balanced") is what tables call mean; the mean of all photographs ("plain") is lower.

Re-annotated labels, AFLW's yaw and the stored boxes come from a file beside the data set; without it the original labels are scored alone.
"""

import csv
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from facemodels.core.crops import Box, cut, from_crop, landmark_box, to_crop
from facemodels.core.errors import InputError
from facemodels.data.cache import load_in_threads, name_list
from facemodels.data.tddfa import AFLW2000, Photo
from facemodels.evaluation import applied
from facemodels.evaluation.metrics import BINS, by_yaw, failure_rate, nme, nme_3d
from facemodels.evaluation.report import FOUND, RECALLED, Report
from facemodels.io.files import input_error, read_npz, take_arrays

FAILURE = 10.0  # percent of NME
CLIPPED = 2.0  # a stored box is rounded to pixels; one that is farther from the recomputed one was clipped
BOXES = ("recomputed", "stored")
WHOLE = 2000  # photographs in the set
COLUMNS = 8  # faces in a row of the sheet of pictures
FACE = 240  # pixels a side of each
LABEL, PREDICTED = (0, 230, 60), (255, 40, 40)

BIN_COLUMNS = ["[0,30]", "(30,60]", "(60,90]", "mean"]
PUBLISHED = [
    ("RCPR", [4.26, 5.96, 13.18, 7.80], FOUND),
    ("ESR", [4.60, 6.70, 12.67, 7.99], FOUND),
    ("SDM", [3.67, 4.94, 9.76, 6.12], FOUND),
    ("DeFA", [4.50, 5.56, 7.33, 5.80], FOUND),
    ("3DDFA 2016", [3.78, 4.54, 7.93, 5.42], FOUND),
    ("3DDFA+SDM", [3.43, 4.24, 7.17, 4.94], FOUND),
    ("Nonlinear 3DMM", [None, None, None, 4.70], FOUND),
    ("DAMDNet", [2.91, 3.83, 4.95, 3.90], FOUND),
    ("MFIRRN", [2.84, 3.57, 4.56, 3.66], FOUND),
    ("PRNet", [2.75, 3.51, 4.61, 3.62], FOUND),
    ("RADANet", [2.79, 3.58, 4.50, 3.62], FOUND),
    ("2DAL (journal of 2DASL)", [2.75, 3.46, 4.45, 3.55], FOUND),
    ("2DASL (arXiv)", [2.75, 3.44, 4.41, 3.53], RECALLED),
    ("3DDFA-V2", [None, None, None, 3.51], FOUND),
    ("SADRNet", [None, None, None, 3.46], FOUND),
    ("PFRRNet", [2.62, 3.38, 4.34, 3.45], FOUND),
    ("SynergyNet (model)", [2.66, 3.32, 4.27, 3.41], FOUND),
    ("Deep3D (TensorFlow)", [2.56, 3.11, 4.45, 3.37], FOUND),
    ("3D-FAN", [2.47, 3.01, 4.31, 3.26], FOUND),
]


@dataclass
class Predictions:
    """What a predictor says of the photographs, with their labels; points in pixels of the photograph.

    names [N]; points [N,68,2] or, with z, [N,68,3]; original [N,68,3]; yaw [N] degrees. From the labels' file, None without it: reannotated [N,68,2] and
    aflw_yaw [N]. boxes: which; clipped: how many of the stored ones are; left_out: photographs that cannot be read.
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
        """NME in two dimensions on the original labels, percent [N]."""
        return nme(self.points[..., :2], self.original[..., :2])

    @property
    def reannotated_errors(self) -> np.ndarray:
        """The same on the re-annotated labels."""
        return nme(self.points[..., :2], self.reannotated)


def evaluate(
    predict: Callable[[Tensor], Tensor],
    path,
    size: int = 120,
    labels=None,
    boxes="recomputed",
    limit: int | None = None,
) -> dict:
    """Scores a predictor: flat results with units in their names, of JSON types; see `scores`. The arguments are those of `predictions`."""
    return scores(predictions(predict, path, size, labels, boxes, limit))


def predictions(predict, path, size=120, labels=None, boxes="recomputed", limit=None, batch: int = 32) -> Predictions:
    """Runs a predictor over the photographs.

    Args:
        predict: crops [N,3,size,size], float32, sRGB in 0..1, on the CPU, to landmarks [N,68,2] or [N,68,3] (z nearer where larger, from anywhere) in pixels of
            the crop, (0, 0) its corner.
        path: folder or zip in the data set's own layout. labels: the file of `read_labels`, or the folder test.configs of 3DDFA; None takes the file named as the
            path with _labels.npz at its end, where there is one. boxes: "recomputed" or "stored". limit: the first photographs alone.

    Raises:
        InputError: data that are missing or damaged; a prediction that is not finite. Single photographs that cannot be read are left out with a warning.
    """
    if boxes not in BOXES:
        raise InputError(f"boxes must be {' or '.join(BOXES)}, got {boxes!r}")
    photos = AFLW2000(path)
    names = first(photos.names, limit)
    extra = _labels_of(photos, labels)
    if boxes == "stored" and "roi_box" not in extra:
        raise InputError(
            f"{photos.path}: the stored boxes are in the labels' file, and there is none; give it, or take boxes recomputed from the landmarks"
        )

    def cut_and_back(photo):
        own = landmark_box(photo.landmarks[:, :2])
        if boxes == "recomputed":
            return own, own
        back = tuple(extra["roi_box"][photo.name] - 0.5)
        return (back if np.abs(np.subtract(back, own)).max() < CLIPPED else own), back

    rows, points, clipped = [], [], 0
    for some, own, crops in batches(photos, names, size, lambda photo: cut_and_back(photo)[0], batch):
        found = np.asarray(predict(crops).detach().cpu().float(), np.float64)
        if found.shape not in ((len(some), 68, 2), (len(some), 68, 3)):
            raise ValueError(f"predict must return [{len(some)},68,2] or [{len(some)},68,3], got {list(found.shape)}")
        for photo, cut_out, p in zip(some, own, found):
            if not np.isfinite(p).all():
                raise InputError(f"{photo.name}: the predicted landmarks are not finite")
            _, box = cut_and_back(photo)
            in_photo = from_crop(p[:, :2], box, size)
            zoom = (box[2] - box[0] + box[3] - box[1]) / (2 * size)
            points.append(np.concatenate([in_photo, p[:, 2:] * zoom], 1))
            rows.append((photo.name, photo.landmarks, photo.yaw))
            clipped += cut_out != box
    kept, original, yaw = zip(*rows)
    more = {
        key: np.stack([extra[key][n] for n in kept]) if key in extra else None for key in ("reannotated", "aflw_yaw")
    }
    placed, labelled = np.stack(points), np.stack(original)
    return Predictions(
        list(kept),
        placed,
        labelled,
        np.array(yaw),
        boxes=boxes,
        clipped=clipped,
        left_out=len(names) - len(kept),
        **more,
    )


def batches(
    photos: AFLW2000,
    names: list[str],
    size: int,
    box_of: Callable[[Photo], Box] = lambda photo: landmark_box(photo.landmarks[:, :2]),
    batch: int = 32,
) -> Iterator[tuple[list[Photo], list[Box], Tensor]]:
    """(photographs, of which only the height of the image is kept, boxes, crops [N,3,size,size] float32 in 0..1) in the order of the names. Those that cannot be read are left
    out, with a warning at the end that names them.

    Raises:
        InputError: none can be read.
    """

    def cropped(name):
        photo = photos.read(name)
        box = box_of(photo)
        return photo._replace(image=photo.image[:, :0]), box, cut(photo.image, box, size)

    def made_of(waiting):
        some, boxes, crops = zip(*waiting)
        return list(some), list(boxes), torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255

    waiting, bad = [], {}
    for name, made in load_in_threads(names, cropped, photos.path.name):
        if isinstance(made, InputError):
            bad[name] = made
            continue
        waiting.append(made)
        if len(waiting) == batch:
            yield made_of(waiting)
            waiting = []
    if waiting:
        yield made_of(waiting)
    if bad:
        some = f"{name_list([*bad])}; the first because: {next(iter(bad.values()))}"
        if len(bad) == len(names):
            raise InputError(f"{photos.path}: none of {len(bad)} photographs can be read: {some}")
        warnings.warn(f"{photos.path}: {len(bad)} of {len(names)} photographs are left out: {some}", stacklevel=3)


def scores(p: Predictions) -> dict:
    """Results of predictions: strings that state the protocol, numbers of photographs, and errors in percent.

    nme68_2d_balanced_percent, nme68_2d_plain_percent, nme68_2d_std_of_bins_percent, nme68_2d_yaw_0_30_percent, ..._30_60_..., ..._60_90_...: original labels, fitted
    yaw. nme68_2d_aflw_yaw_balanced_percent, nme68_2d_aflw_yaw_0_30_percent ...: bins by AFLW's yaw. nme68_2d_reannotated_...: the other labels. nme68_3d_min_z_...
    and nme68_3d_mean_z_...: where predictions have z. nme68_2d_above_10_percent_of_images: failures. nme68_2d_between_labels_...: the original labels scored on the
    re-annotated ones, as if they were predictions. None: the mean of a bin without photographs, and what is made of all bins.
    """
    results = {
        "protocol": "AFLW2000-3D, 68 landmarks, NME by sqrt(width * height) of the labels' box",
        "crops": "from the labelled landmarks (square of their larger side times sqrt 2)",
        "boxes": p.boxes if p.boxes == "recomputed" else f"stored, {p.clipped} of them clipped to the photograph",
        "images": len(p.names),
        "images_left_out": p.left_out,
    }
    yaws = {"": p.yaw} | ({"aflw_yaw_": p.aflw_yaw} if p.aflw_yaw is not None else {})
    measured = {"nme68_2d_": p.errors}
    if p.reannotated is not None:
        measured["nme68_2d_reannotated_"] = p.reannotated_errors
    if p.points.shape[-1] == 3:
        measured |= {f"nme68_3d_{rule}_": nme_3d(p.points, p.original, rule) for rule in ("min_z", "mean_z")}
    if p.reannotated is not None:
        measured["nme68_2d_between_labels_"] = nme(p.original[..., :2], p.reannotated)
    for name, errors in measured.items():
        for source, yaw in yaws.items():
            binned = by_yaw(errors, yaw)
            for key in BINS:
                within = source + key.removeprefix("yaw_") if source else key
                results[f"images_{within}"] = binned[f"images_{key}"]
                results[f"{name}{within}_percent"] = _number(binned[key])
            results |= {f"{name}{source}{key}_percent": _number(binned[key]) for key in ("balanced", "std_of_bins")}
        results[f"{name}plain_percent"] = float(errors.mean())
        results[f"{name}above_{FAILURE:.0f}_percent_of_images"] = failure_rate(errors, FAILURE)
    return results


def _number(value):
    """None for what JSON does not have."""
    return value if math.isfinite(value) else None


# ---------------------------------------------------------------------------------------------------------------------- the command


def configure(parser):
    parser.epilog = """examples:
  facemodels evaluate aflw2000 --method dasl --data AFLW2000-3D.zip --json dasl.json --curve dasl.png
  facemodels evaluate aflw2000 --checkpoint runs/dasl/checkpoints/step-000010000 --data AFLW2000 --labels test.configs --pictures out

68 landmarks of AFLW2000-3D, NME by sqrt(width * height) of the labels' box. Crops come from the labelled landmarks, as in the benchmark. Printed are both
means that papers mix up: balanced (of the means of three bins of yaw, what tables call mean) and plain (of all photographs). The re-annotated labels, AFLW's yaw and
the stored boxes are read from DATA_labels.npz beside the data, or from 3DDFA's folder test.configs with --labels; without them the original labels are scored alone.
--data may be a folder in which the data set's folder or zip lies."""
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="PATH",
        help="re-annotated labels (default: DATA_labels.npz beside the data, where there is one)",
    )
    boxes = "how predictions are mapped back: by the box that was cut out, or by the benchmark's file, where some are clipped (default: recomputed)"
    parser.add_argument("--boxes", choices=BOXES, default="recomputed", help=boxes)
    parser.add_argument("--limit", type=int, metavar="N", help="the first N photographs alone")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="write faces.png, the worst, middle and best faces, and errors.csv, all of them",
    )


def run(method, data, options) -> Report:
    path = located(data)
    found = predictions(applied(method, "landmarks"), path, method.size, options.labels, options.boxes, options.limit)
    results = scores(found)
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        iio.imwrite(options.pictures / "faces.png", sheet(found, path))
        write_errors(options.pictures / "errors.csv", found)
        print(
            f"{options.pictures / 'faces.png'}  the worst, middle and best {COLUMNS} faces: labels green, predictions red"
        )
    row = [results[f"nme68_2d_{key}_percent"] for key in (*BINS, "balanced")]
    measure = "Mean distance of 68 landmarks in two dimensions, percent of sqrt(width * height) of the labels' box"
    title = f"{measure}; {photographs(len(found.names))}, original labels, crops from the labelled landmarks"
    notes = [
        "Our row: original labels, bins by the fitted yaw, mean of the three bins; crops are made from the labels, as in the benchmark.",
        *subset_note(len(found.names), found.left_out),
        "The original labels differ from the re-annotated ones by 3.4 % themselves: below that a difference says little.",
        "Published numbers are mapped back with the stored boxes, of which about 50 are clipped to the photograph; --boxes stored does the same.",
        "No numbers of the pose guidance network and of the cycles were found.",
    ]
    return Report("aflw2000", title, results, found.errors, "percent", FAILURE, BIN_COLUMNS, row, PUBLISHED, notes)


def first(names: list[str], limit: int | None) -> list[str]:
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    return names[:limit]


def located(path) -> Path:
    """The data set itself: the path, or the folder or zip in it whose name begins with AFLW2000."""
    path = Path(path)
    if not path.is_dir() or any(path.glob("image*.mat")) or _beside(path).is_file():
        return path
    inside = sorted(
        p
        for p in path.iterdir()
        if p.name.lower().startswith("aflw2000") and (p.is_dir() or p.suffix.lower() == ".zip")
    )
    if len(inside) > 1:
        raise InputError(
            f"{path}: expected one folder or zip of AFLW2000-3D, found {', '.join(p.name for p in inside)}; give the one that is meant"
        )
    return inside[0] if inside else path


def photographs(count: int) -> str:
    return f"{count:,} photographs of AFLW2000-3D"


def subset_note(count: int, left_out: int) -> list[str]:
    """What to say where it was not the whole set."""
    unread = [f"{left_out} photographs could not be read and are left out."] if left_out else []
    return unread + (
        [f"Measured on {count:,} of the {WHOLE:,} photographs; published numbers are of all of them."]
        if count + left_out < WHOLE
        else []
    )


def table(results: dict) -> str:
    """The results for people: a line for each kind of labels and yaw."""
    number = lambda value: f"{'-' if value is None else f'{value:.3f}':>9}"  # noqa: E731
    rows = {
        "nme68_2d_": "68 points, original labels",
        "nme68_2d_reannotated_": "68 points, re-annotated labels",
        "nme68_3d_min_z_": "68 points in 3D, least z at 0",
        "nme68_3d_mean_z_": "68 points in 3D, mean z at 0",
        "nme68_2d_between_labels_": "original labels on re-annotated",
    }
    lines = [
        f"{results['protocol']}; {results['images']} photographs"
        + (f", {results['images_left_out']} left out" if results["images_left_out"] else ""),
        f"crops {results['crops']}; boxes {results['boxes']}",
        "",
        f"{'NME, percent':34}{'[0,30]':>9}{'(30,60]':>9}{'(60,90]':>9}{'balanced':>9}{'std':>9}{'plain':>9}{f'>{FAILURE:.0f} %':>9}",
    ]
    for source, title in (("", "bins by the fitted yaw"), ("aflw_yaw_", "bins by AFLW's yaw")):
        within = {key: source + key.removeprefix("yaw_") if source else key for key in BINS}
        if f"images_{within['yaw_0_30']}" not in results:
            continue
        lines.append(f"{title + ', photographs':34}" + "".join(f"{results[f'images_{w}']:9d}" for w in within.values()))
        for prefix, label in rows.items():
            if f"{prefix}plain_percent" in results:
                values = [results[f"{prefix}{w}_percent"] for w in within.values()] + [
                    results[f"{prefix}{source}{k}_percent"] for k in ("balanced", "std_of_bins")
                ]
                values += [results[f"{prefix}plain_percent"], results[f"{prefix}above_{FAILURE:.0f}_percent_of_images"]]
                lines.append(f"  {label:32}" + "".join(map(number, values)))
    return "\n".join(lines)


def sheet(found: Predictions, path) -> np.ndarray:
    """Rows of the worst, the middle and the best faces by the original labels: uint8 [3 FACE, COLUMNS FACE, 3]."""
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
            for points, colour in ((found.original, LABEL), (found.points, PREDICTED)):
                for x, y in to_crop(points[k, :, :2], box, FACE):
                    draw.ellipse([x - 1.5, y - 1.5, x + 1.5, y + 1.5], fill=colour)
            caption = f"{found.names[k].removeprefix('image')}  {found.errors[k]:.2f} %"
            draw.rectangle([0, FACE - 13, draw.textlength(caption) + 5, FACE], fill=(0, 0, 0))
            draw.text((3, FACE - 12), caption, fill=(255, 255, 255))
            faces.append(np.asarray(picture))
        rows.append(np.concatenate(faces, 1))
    return np.concatenate(rows)


def write_errors(path: Path, found: Predictions) -> None:
    """A line a photograph: its yaw and its NME on each kind of labels."""
    columns = {"name": found.names, "yaw_fitted_deg": found.yaw, "nme68_2d_percent": found.errors}
    if found.reannotated is not None:
        columns |= {"yaw_aflw_deg": found.aflw_yaw, "nme68_2d_reannotated_percent": found.reannotated_errors}
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([row[0], *(f"{v:.5f}" for v in row[1:])] for row in zip(*columns.values()))


# ----------------------------------------------------------------------------------------------------------------------- labels' file


def read_labels(path, photos: AFLW2000) -> dict[str, dict[str, np.ndarray]]:
    """The labels that are not in the data set: reannotated, aflw_yaw, roi_box, each by the name of the photograph.

    path: an .npz of names [N], pts68_reannotated [N,2,68] (1-based), yaw_aflw_deg [N] and roi_box [N,4] (1-based); or 3DDFA's folder test.configs, whose rows are the
    photographs of the whole set in the order of their names. -> reannotated [68,2] in our pixels, aflw_yaw, roi_box [4] as in the file.

    Raises:
        InputError: missing or damaged, or not of these photographs.
    """
    path = Path(path)
    if path.is_dir():
        names, arrays = photos.names, {}
        files = {
            "reannotated": "AFLW2000-3D-Reannotated.pts68.npy",
            "aflw_yaw": "AFLW2000-3D-new.pose.npy",
            "roi_box": "AFLW2000-3D_crop.roi_box.npy",
        }
        for key, file in files.items():
            try:
                arrays[key] = np.load(path / file, allow_pickle=False)
            except Exception as error:  # whatever numpy throws at a missing, damaged or pickled file
                raise InputError(
                    f"{path / file}: not a readable .npy file; labels are an .npz or 3DDFA's folder test.configs ({type(error).__name__})"
                ) from None
        shapes = {"reannotated": (len(names), 2, 68), "aflw_yaw": (len(names),), "roi_box": (len(names), 4)}
        reannotated, yaw, boxes = take_arrays(
            path, arrays, shapes, f"labels of the {len(names)} photographs of {photos.path}"
        )
    else:
        expected, shapes = (
            "labels of AFLW2000-3D",
            {"pts68_reannotated": ("N", 2, 68), "yaw_aflw_deg": ("N",), "roi_box": ("N", 4)},
        )
        arrays = read_npz(path, expected)
        reannotated, yaw, boxes = take_arrays(path, arrays, shapes, expected)
        names = arrays.get("names")
        if names is None or names.dtype.kind != "U" or names.shape != yaw.shape:
            raise input_error(
                path,
                f"{expected} with {len(yaw)} names",
                "none" if names is None else f"{names.dtype} of {list(names.shape)}",
            )
    table = {name: row for row, name in enumerate(map(str, names))}
    missing = [name for name in photos.names if name not in table]
    if missing:
        raise input_error(
            path,
            f"labels of the {len(photos.names)} photographs of {photos.path}",
            f"{len(missing)} of them missing, {missing[0]} the first",
        )
    columns = {
        "reannotated": reannotated.transpose(0, 2, 1).astype(np.float64) - 0.5,
        "aflw_yaw": yaw.astype(np.float64),
        "roi_box": boxes.astype(np.float64),
    }
    for key, column in columns.items():
        if not np.isfinite(column).all():
            raise input_error(path, f"finite numbers as {key}", "others")
    return {key: {name: column[table[name]] for name in photos.names} for key, column in columns.items()}


def _labels_of(photos, labels):
    if labels is not None:
        return read_labels(labels, photos)
    beside = _beside(photos.path)
    return read_labels(beside, photos) if beside.is_file() else {}


def _beside(path):
    path = path.absolute()
    return path.with_name(path.name.removesuffix(".zip") + "_labels.npz")
