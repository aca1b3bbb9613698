"""AFLW, 21 points: the visible ones of 21 landmarks on faces in the wild, 3DDFA's second benchmark (Zhu et al. 2016).

Data: stored crops of AFLW with labels; 21,080 faces in the whole benchmark, 11,596, 5,457 and 4,027 in its bins of yaw.

Measured: NME of the labeled points that are visible, in bins of AFLW's yaw and as the mean of the three, as on
AFLW2000-3D. Nothing is aligned.

* The 21 points are means of groups of the 68 predicted ones (`core.landmarks.AFLW_21`).
* NME is normalized by the box of the 68 points of a fitted face, not of the 21. The fitted points are in 3DDFA's files.
  Without them, the side of the crop divided by sqrt(2), which is the larger side of that box, takes the place of
  sqrt(width * height), and errors come out 3 to 6 % smaller (see docs/notes/evaluation.md).
* Crops are the stored ones, made from the fitted points.
* boxes="completed" maps predictions back to the photograph by the box that was cropped (`data.aflw`). boxes="stored"
  maps them back by the files' boxes, as 3DDFA's program and so most published numbers do. There a box ends at the first
  line of its last pixel, and those at the border are clipped to the photograph while their crops are not.

A method that was trained on AFLW's points has seen these faces: its numbers are no test, and the report says so.
"""

import io
import warnings
import zipfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import imageio.v3 as iio
import numpy as np
import torch

from facemodels.core.crops import Box, cut, from_crop, landmark_box
from facemodels.core.errors import InputError, one_line
from facemodels.core.landmarks import AFLW_21
from facemodels.core.rotation import head_angles
from facemodels.data.aflw import CROP, aflw_files, completed_boxes, labeled_points
from facemodels.data.cache import load_in_threads, name_list
from facemodels.evaluation.examples import ORDER_21, people
from facemodels.evaluation.metrics import BIN_COLUMNS, BINS, by_yaw, failure_rate, nme
from facemodels.evaluation.predictor import add_limit, limited, predictor
from facemodels.evaluation.report import PublishedRow, Report, Results
from facemodels.io.files import Shape, input_error, read_npz, take_arrays
from facemodels.io.images import read_picture
from facemodels.methods.face_method import FaceMethod
from facemodels.training.method import Method

NUM_FACES = 21_080  # in the whole benchmark
FAILURE = 10.0  # percent of NME
BATCH = 64  # crops that go through a network together

_PRMNET = "README of Ray-tju/PRMNet"
PUBLISHED = [
    PublishedRow("SDM", [4.75, 5.55, 9.34, 6.55], _PRMNET),
    PublishedRow("3DDFA 2016", [5.00, 5.06, 6.74, 5.60], _PRMNET),
    PublishedRow("3DDFA, best of its repository", [None, None, None, 5.40], "README of cleardusk/3DDFA"),
    PublishedRow("DAMDNet", [4.36, 5.21, 6.03, 5.20], _PRMNET),
    PublishedRow("MFIRRN", [4.32, 5.05, 5.96, 5.11], _PRMNET),
    PublishedRow("RADANet", [4.13, 4.89, 5.50, 4.84], _PRMNET),
    PublishedRow("PFRRNet", [3.98, 4.58, 5.24, 4.60], _PRMNET),
    PublishedRow("3DDFA-V2", [None, None, None, 4.43], "leaderboard of Papers with Code"),
    PublishedRow("SynergyNet", [None, None, None, 4.06], "leaderboard of Papers with Code"),
]
_TDDFA_FILES = {  # in 3DDFA's folder test.configs
    "pts21": "AFLW_GT_pts21.npy",
    "roi_box": "AFLW_GT_crop_roi_box.npy",
    "yaw_deg": "AFLW_GT_crop_yaws.npy",
    "pts68": "AFLW_GT_pts68.npy",
}


class FaceLabel(NamedTuple):
    """The labels of a face.

    Pixels are those of the photograph, counted from 1 as in the files.

    Attributes:
        points: [21,2] pixels; NaN where hidden or not labeled.
        yaw: Degrees.
        box_points: [K,2] pixels; their bounding box normalizes the error.
        fitted: Whether these are the 68 points of a fitted face.
        box: The box that maps the crop back.
    """

    points: np.ndarray
    yaw: float
    box_points: np.ndarray
    fitted: bool
    box: Box


BOXES = ("completed", "stored")
Labels = dict[str, FaceLabel]  # by the name of the picture


def configure(parser: ArgumentParser) -> None:
    """Add the protocol's arguments."""
    parser.epilog = f"""examples:
  facemodels evaluate aflw21 --method dasl --data aflw_crops.zip
  facemodels evaluate aflw21 --method dasl --data test.data/AFLW_GT_crop --labels test.configs

The data, one of two layouts:
  DATA/                      or the .zip itself, under any name
    aflw_crops.zip           image00002.jpg ...: crops of 120 x 120 pixels, in any folder of the zip
    aflw_crops_labels.npz    names [N]: image00002.jpg ...; pts21 [N,2,21], pixels of the photo,
                             1-based, y down, not positive where a point is hidden; roi_box [N,4]:
                             left, top, right and bottom of the crop there; yaw_deg [N], degrees;
                             pts68 [N,2,68], the fitted points, as pts21 (optional)
  with --labels test.configs, 3DDFA's own files:
    AFLW_GT_crop/            crops of 120 x 120 pixels
    AFLW_GT_crop.list        their names, one a line
    test.configs/            AFLW_GT_pts21.npy [N,2,21], AFLW_GT_crop_roi_box.npy [N,4],
                             AFLW_GT_crop_yaws.npy [N], AFLW_GT_pts68.npy [N,2 or 3,68]

{ORDER_21}

Only visible points count. NME is normalized by the box of the fitted 68 points, which 3DDFA's
files have; without them by the crop's, which makes it 3 to 6 % smaller."""
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FOLDER",
        help="3DDFA's folder test.configs, with AFLW_GT_pts21.npy and the others",
    )
    parser.add_argument(
        "--boxes",
        choices=BOXES,
        default="completed",
        help="map predictions back by the box that was cropped, or by the files' boxes as they are, as published "
        "numbers do (default: completed)",
    )
    add_limit(parser, "faces")


def run(method: FaceMethod, data: Path, options: Namespace) -> Report:
    """Score a method; see `facemodels.evaluation.Protocol`."""
    boxes = options.boxes
    path, labels = read_tddfa(data, options.labels, boxes) if options.labels else read_table(data, boxes)
    usable = [name for name in labels if not np.isnan(labels[name].points).all()]
    names = limited(usable, options.limit)
    if not names:
        raise InputError(f"{path}: no face has a visible point")
    predict, size = predictor(method, "landmarks"), method.size
    errors: list[float] = []
    yaw: list[float] = []
    bad: dict[str, InputError] = {}
    waiting: list[tuple[str, np.ndarray]] = []

    def score_waiting() -> None:
        crops = torch.from_numpy(np.stack([image for _, image in waiting])).permute(0, 3, 1, 2).float() / 255
        predicted = predict(crops)[..., :2].double().cpu().numpy()
        some = [labels[name] for name, _ in waiting]
        predicted = np.stack([from_crop(p, label.box, size) for p, label in zip(predicted, some)])
        points, box_points = np.stack([label.points for label in some]), np.stack([label.box_points for label in some])
        errors.extend(nme(to_aflw(predicted), points, box_points))
        yaw.extend(label.yaw for label in some)
        waiting.clear()

    for name, image in load_in_threads(names, _reader(path, size), "reading AFLW"):
        if isinstance(image, InputError):
            bad[name] = image
            continue
        waiting.append((name, image))
        if len(waiting) == BATCH:
            score_waiting()
    if waiting:
        score_waiting()
    if bad:
        some = f"{name_list([*bad])}; the first because: {next(iter(bad.values()))}"
        if not errors:
            raise InputError(f"{path}: none of {len(bad)} pictures can be read: {some}")
        warnings.warn(f"{path}: {len(bad)} of {len(names)} pictures are left out: {some}", stacklevel=2)
    return _report(method, labels, boxes, np.array(errors), np.array(yaw), len(bad), len(labels) - len(usable))


def write_example(folder: Path) -> None:
    """Write a tiny data set; see `facemodels.evaluation.Protocol`."""
    (person,) = people(1, (0.0, 20.0, -40.0, 50.0, 70.0, -75.0))
    names, points, boxes, fitted = [], [], [], []
    with zipfile.ZipFile(folder / "aflw_crops.zip", "w") as archive:
        for k, picture in enumerate(person.pictures):
            names.append(f"image{k + 1:05d}.jpg")
            landmarks = picture.landmarks[:, :2]
            x, y, right, _ = landmark_box(landmarks)
            left, top, side = round(x), round(y), round(right - x)
            crop = cut(picture.image, (left, top, left + side, top + side), CROP)
            archive.writestr(names[-1], iio.imwrite("<bytes>", crop, extension=".jpg", quality=95))
            boxes.append((left + 1, top + 1, left + side, top + side))
            visible = np.array([picture.visible[list(group)].all() for group in AFLW_21])
            points.append(np.where(visible, to_aflw(landmarks[None])[0].T + 0.5, -1))
            fitted.append(landmarks.T + 0.5)
    np.savez_compressed(
        folder / "aflw_crops_labels.npz",
        names=np.array(names),
        pts21=np.array(points),
        roi_box=np.array(boxes, np.float64),
        yaw_deg=np.array([float(head_angles(torch.from_numpy(p.rotation))[1]) for p in person.pictures]),
        pts68=np.array(fitted),
    )


def to_aflw(points: np.ndarray) -> np.ndarray:
    """AFLW's 21 points [N,21,D] from 68 [N,68,D]."""
    return np.stack([points[:, list(group)].mean(1) for group in AFLW_21], 1)


def trained_on_aflw(method: Method) -> str | None:
    """The setting by which AFLW's pictures came into a method's training, as "wild=..."; None where there is none."""
    wild = str(getattr(method.config, "wild", ""))
    return f"wild={wild}" if "aflw" in wild.lower() or (Path(wild) / "aflw_crops.zip").is_file() else None


def _report(
    method: FaceMethod,
    labels: Labels,
    boxes: str,
    errors: np.ndarray,
    yaw: np.ndarray,
    unread: int,
    without_points: int,
) -> Report:
    binned, fitted = by_yaw(errors, yaw), next(iter(labels.values())).fitted
    box = "of the fitted 68 points" if fitted else "of the crop, 1 / sqrt(2) of its side, for want of the fitted points"
    results: Results = {
        "box": box,
        "boxes": boxes,
        "images": len(errors),
        "images_left_out": unread,
        "images_without_visible_points": without_points,
    }
    results |= {f"images_{key}": binned[f"images_{key}"] for key in BINS}
    results |= {
        f"nme21_{key}_percent": None if np.isnan(binned[key]) else binned[key]
        for key in (*BINS, "balanced", "std_of_bins", "plain")
    }
    results[f"nme21_above_{FAILURE:.0f}_percent_of_images"] = failure_rate(errors, FAILURE)
    notes = []
    if setting := trained_on_aflw(method):
        notes.append(
            f"This checkpoint was trained on AFLW's points ({setting}): it has seen these faces or others of the same "
            "set and annotators; the numbers are no test of it."
        )
    notes.append("Our row: mean over the three bins of AFLW's yaw; crops as stored, made from the fitted faces.")
    if boxes != "stored":
        notes.append(
            "Published numbers are mapped back with the stored boxes, a pixel narrower and some of them clipped; "
            "--boxes stored does the same."
        )
    if not fitted:
        notes.append(
            "Published numbers are normalized by the box of the fitted points, which are missing here; normalized by "
            "the crop's box, ours are 3 to 6 % smaller."
        )
    if without_points:
        notes.append(f"{without_points} faces without a visible point are left out.")
    if unread:
        notes.append(f"{unread} pictures could not be read and are left out.")
    if len(errors) < NUM_FACES:
        notes.append(f"Measured on {len(errors):,} of the {NUM_FACES:,} faces; published numbers are of all of them.")
    return Report(
        protocol="aflw21",
        title=f"NME of the visible ones of 21 landmarks, percent of sqrt(width * height) of the box {box}; "
        f"{len(errors):,} faces of AFLW",
        results=results,
        errors=errors,
        unit="percent",
        largest=FAILURE,
        columns=BIN_COLUMNS,
        row=[results[f"nme21_{key}_percent"] for key in (*BINS, "balanced")],
        ranked_by="mean",
        published=PUBLISHED,
        notes=notes,
    )


# Labels.


def read_table(data: str | Path, boxes: str = BOXES[0]) -> tuple[Path, Labels]:
    """Read the labels of NAME.zip, NAME_labels.npz beside it.

    The arrays are names [N], pts21 [N,2,21], roi_box [N,4], yaw_deg [N] and, in some files, pts68 [N,2,68].

    Args:
        data: The zip, or the folder of aflw_crops.zip.
        boxes: Which boxes map crops back, "completed" or "stored"; see this module.

    Returns:
        The zip, and the labels in the order of the names.

    Raises:
        InputError: A file is missing or damaged.
    """
    path, table = aflw_files(data)
    expected = "labels of AFLW"
    arrays = read_npz(table, expected)
    shapes: dict[str, Shape]
    shapes = {"pts21": ("N", 2, 21), "roi_box": ("N", 4), "yaw_deg": ("N",)}
    if "pts68" in arrays:
        shapes["pts68"] = ("N", 2, 68)
    points, *others = take_arrays(table, arrays, shapes, expected)
    names = arrays.get("names")
    if names is None or names.dtype.kind != "U" or names.shape != (len(points),):
        raise input_error(
            table,
            f"{expected} with {len(points)} names",
            "none" if names is None else f"{names.dtype} of {list(names.shape)}",
        )
    return path, _labels(table, boxes, names, points, *others)


def read_tddfa(data: str | Path, labels: str | Path, boxes: str = BOXES[0]) -> tuple[Path, Labels]:
    """Read the labels of 3DDFA's folder of crops.

    Args:
        data: The folder AFLW_GT_crop, with AFLW_GT_crop.list beside it, or the folder that holds both.
        labels: The folder test.configs.
        boxes: As of `read_table`.

    Returns:
        The folder of crops, and the labels in the order of the names.

    Raises:
        InputError: A file is missing or damaged.
    """
    path, labels = Path(data), Path(labels)
    path = path / "AFLW_GT_crop" if (path / "AFLW_GT_crop").is_dir() else path
    listed = path.with_name(path.name + ".list")
    if not path.is_dir() or not listed.is_file():
        raise InputError(
            f"{path}: expected 3DDFA's folder AFLW_GT_crop with AFLW_GT_crop.list beside it, "
            f"found {'no such list' if path.is_dir() else 'no such folder'}"
        )
    names, arrays = np.array(listed.read_text().split()), {}
    for key, file in _TDDFA_FILES.items():
        try:
            arrays[key] = np.load(labels / file, allow_pickle=False)
        except Exception as error:  # whatever numpy raises at a missing, damaged or pickled file
            raise InputError(
                f"{labels / file}: not a readable .npy file; --labels is 3DDFA's folder test.configs "
                f"({type(error).__name__})"
            ) from None
    count = len(names)
    shapes: dict[str, Shape]
    shapes = {"pts21": (count, 2, 21), "roi_box": (count, 4), "yaw_deg": (count,), "pts68": (count, None, 68)}
    points, box, yaw, fitted = take_arrays(labels, arrays, shapes, f"labels of the {count} faces in {listed}")
    return path, _labels(labels, boxes, names, points, box, yaw, fitted[:, :2])


def _labels(
    source: Path,
    boxes: str,
    names: np.ndarray,
    points: np.ndarray,
    box: np.ndarray,
    yaw: np.ndarray,
    fitted: np.ndarray | None = None,
) -> Labels:
    if boxes not in BOXES:
        raise InputError(f"boxes must be {' or '.join(BOXES)}, got {boxes!r}")
    points, box, yaw = labeled_points(points.astype(np.float64)), box.astype(np.float64), yaw.astype(np.float64)
    if not (np.isfinite(box).all() and np.isfinite(yaw).all()) or (box[:, 2:] <= box[:, :2]).any():
        raise input_error(source, "boxes that are not empty, and finite yaw", "others")
    box = completed_boxes(box) if boxes == "completed" else box
    if fitted is None:
        box_points = box[:, :2, None] + (box[:, 2:] - box[:, :2])[..., None] * [0.0, 1 / np.sqrt(2)]
    else:
        box_points = fitted.astype(np.float64)
    labels = {}
    for k in np.argsort(names.astype(str), kind="stable"):
        x0, y0, x1, y1 = map(float, box[k])
        labels[str(names[k])] = FaceLabel(
            points[k].T, float(yaw[k]), box_points[k].T, fitted is not None, (x0, y0, x1, y1)
        )
    return labels


def _reader(path: Path, size: int) -> Callable[[str], np.ndarray]:
    """A function from a name to its crop, uint8 [size,size,3], in a folder or zip."""
    if path.is_dir():

        def content(name: str) -> bytes:
            return (path / name).read_bytes()

    else:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{path}: not a readable zip ({error})") from None
        members = {member.rsplit("/", 1)[-1]: member for member in archive.namelist()}

        def content(name: str) -> bytes:
            return archive.read(members[name])

    def read(name: str) -> np.ndarray:
        try:
            raw = content(name)
        except Exception as error:  # whatever a missing file or a damaged archive makes them raise
            raise InputError(f"{name}: cannot be read from {path} ({one_line(error)})") from None
        image = read_picture(io.BytesIO(raw), name)
        if image.shape[:2] != (CROP, CROP):
            raise InputError(
                f"{name}: expected a crop of {CROP} x {CROP} pixels, found {image.shape[1]} x {image.shape[0]}"
            )
        return image if size == CROP else cut(image, (0, 0, CROP, CROP), size)

    return read
