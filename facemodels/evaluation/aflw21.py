"""AFLW, 21 points: the visible ones of 21 landmarks on faces in the wild, the second benchmark of 3DDFA (Zhu et al. 2016).

* The 21 points are means of groups of the 68 predicted ones (`AFLW_21`); those that are not labelled, or hidden, do not count.
* NME: mean distance by sqrt(width * height) of the box of the 68 points of a fitted face, not of the 21. The fitted points are in 3DDFA's files; where they are not there,
  the side of the crop divided by sqrt(2) stands for them: the crops were cut out so that it is the larger side of that box. The root of its area is 3 to 6 % less, so the
  errors come out smaller by that (measured on the boxes of AFLW2000-3D by yaw: 0.969, 0.972 and 0.943).
* Crops are the stored ones, made from the fitted points. Some boxes in the files are clipped to the photograph; they are completed (`data.aflw`).
* Bins of AFLW's yaw and the mean of the three, as on AFLW2000-3D; 21,080 faces in the whole benchmark, 11,596, 5,457 and 4,027 in the bins.

A method that learned from AFLW's points has seen these faces: its numbers are no test, and the report says so.
"""

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch

from facemodels.core.crops import cut
from facemodels.core.errors import InputError, one_line
from facemodels.core.landmarks import AFLW_21
from facemodels.data.aflw import CROP, aflw_files, labeled_points, points_in_crops
from facemodels.data.cache import load_in_threads, name_list
from facemodels.evaluation import applied
from facemodels.evaluation.aflw2000 import BIN_COLUMNS, first
from facemodels.evaluation.metrics import BINS, by_yaw, failure_rate, nme
from facemodels.evaluation.report import FOUND, Report
from facemodels.io.files import input_error, read_npz, take_arrays
from facemodels.io.images import read_picture

WHOLE = 21_080
FAILURE = 10.0  # percent of NME
PUBLISHED = [
    ("SDM", [4.75, 5.55, 9.34, 6.55], FOUND),
    ("3DDFA 2016", [5.00, 5.06, 6.74, 5.60], FOUND),
    ("3DDFA, best of its repository", [None, None, None, 5.40], FOUND),
    ("DAMDNet", [4.36, 5.21, 6.03, 5.20], FOUND),
    ("MFIRRN", [4.32, 5.05, 5.96, 5.11], FOUND),
    ("RADANet", [4.13, 4.89, 5.50, 4.84], FOUND),
    ("PFRRNet", [3.98, 4.58, 5.24, 4.60], FOUND),
    ("3DDFA-V2", [None, None, None, 4.43], FOUND),
    ("SynergyNet", [None, None, None, 4.06], FOUND),
]
_TDDFA = {
    "pts21": "AFLW_GT_pts21.npy",
    "roi_box": "AFLW_GT_crop_roi_box.npy",
    "yaw_deg": "AFLW_GT_crop_yaws.npy",
    "pts68": "AFLW_GT_pts68.npy",
}


def configure(parser):
    parser.epilog = """examples:
  facemodels evaluate aflw21 --method dasl --data aflw_crops.zip
  facemodels evaluate aflw21 --method dasl --data test.data/AFLW_GT_crop --labels test.configs

--data is NAME.zip of crops with NAME_labels.npz beside it, or a folder with aflw_crops.zip; or, with --labels, 3DDFA's folder AFLW_GT_crop with AFLW_GT_crop.list beside it.
Only visible points count. NME is by the box of the fitted 68 points, which 3DDFA's files have; else by the crop's, which makes it 3 to 6 % smaller."""
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FOLDER",
        help="3DDFA's folder test.configs, with AFLW_GT_pts21.npy and the others",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N faces alone")


def twenty_one(points: np.ndarray) -> np.ndarray:
    """AFLW's 21 points [N,21,D] of 68 [N,68,D]."""
    return np.stack([points[:, list(group)].mean(1) for group in AFLW_21], 1)


def run(method, data, options) -> Report:
    path, labels = read_tddfa(data, options.labels) if options.labels else read_table(data)
    predict, size = applied(method, "landmarks"), method.size
    usable = [name for name in labels if not np.isnan(labels[name]["points"]).all()]
    names = first(usable, options.limit)
    if not names:
        raise InputError(f"{path}: no face has a visible point")
    errors, yaw, bad, waiting = [], [], {}, []

    def scored():
        crops = torch.from_numpy(np.stack([image for _, image in waiting])).permute(0, 3, 1, 2).float() / 255
        predicted = predict(crops)[..., :2].double().cpu().numpy() * (CROP / size)
        of = [labels[name] for name, _ in waiting]
        points = np.stack([label["points"] for label in of])
        errors.extend(nme(twenty_one(predicted), points, np.stack([label["boxed"] for label in of])))
        yaw.extend(label["yaw"] for label in of)
        waiting.clear()

    for name, image in load_in_threads(names, _reader(path, size), "reading AFLW"):
        if isinstance(image, InputError):
            bad[name] = image
            continue
        waiting.append((name, image))
        if len(waiting) == 64:
            scored()
    if waiting:
        scored()
    if bad:
        some = f"{name_list([*bad])}; the first because: {next(iter(bad.values()))}"
        if not errors:
            raise InputError(f"{path}: none of {len(bad)} pictures can be read: {some}")
        warnings.warn(f"{path}: {len(bad)} of {len(names)} pictures are left out: {some}", stacklevel=2)
    return _report(method, labels, np.array(errors), np.array(yaw), len(bad), len(labels) - len(usable))


def _report(method, labels, errors, yaw, unread, pointless):
    binned, fitted = by_yaw(errors, yaw), next(iter(labels.values()))["fitted"]
    box = "of the fitted 68 points" if fitted else "of the crop, 1 / sqrt(2) of its side, for want of the fitted points"
    results = {"box": box, "images": len(errors), "images_left_out": unread, "images_without_visible_points": pointless}
    results |= {f"images_{key}": binned[f"images_{key}"] for key in BINS}
    results |= {
        f"nme21_{key}_percent": None if np.isnan(binned[key]) else binned[key]
        for key in (*BINS, "balanced", "std_of_bins", "plain")
    }
    results[f"nme21_above_{FAILURE:.0f}_percent_of_images"] = failure_rate(errors, FAILURE)
    row = [results[f"nme21_{key}_percent"] for key in (*BINS, "balanced")]
    seen = learned_from_aflw(method)
    notes = []
    if seen:
        notes.append(
            f"This checkpoint learned from AFLW's points ({seen}): it has seen these faces or others of the same set and annotators; the numbers are no test of it."
        )
    notes.append("Our row: mean of the three bins of AFLW's yaw; crops as stored, made from the fitted faces.")
    if not fitted:
        notes.append(
            "The fitted points, by whose box published numbers are divided, are not here; the crop's box makes ours 3 to 6 % smaller than the same predictions would be there."
        )
    if pointless:
        notes.append(f"{pointless} faces without a visible point are left out.")
    if unread:
        notes.append(f"{unread} pictures could not be read and are left out.")
    if len(errors) < WHOLE:
        notes.append(f"Measured on {len(errors):,} of the {WHOLE:,} faces; published numbers are of all of them.")
    title = f"Mean distance of the visible ones of 21 landmarks, percent of sqrt(width * height) of the box {box}; {len(errors):,} faces of AFLW"
    return Report("aflw21", title, results, errors, "percent", FAILURE, BIN_COLUMNS, row, PUBLISHED, notes)


def learned_from_aflw(method) -> str | None:
    """The setting of a method by which AFLW's pictures came into its training, as "wild=..."; None where there is none."""
    wild = str(getattr(method.config, "wild", ""))
    return f"wild={wild}" if "aflw" in wild.lower() or (Path(wild) / "aflw_crops.zip").is_file() else None


# ------------------------------------------------------------------------------------------------------------------------------ labels


def read_table(data) -> tuple[Path, dict[str, dict]]:
    """(the zip, labels by name) of NAME.zip with NAME_labels.npz beside it: names [N], pts21 [N,2,21], roi_box [N,4], yaw_deg [N] and, where it is there, pts68 [N,2,68]."""
    path, table = aflw_files(data)
    expected = "labels of AFLW"
    arrays = read_npz(table, expected)
    shapes = {"pts21": ("N", 2, 21), "roi_box": ("N", 4), "yaw_deg": ("N",)} | (
        {"pts68": ("N", 2, 68)} if "pts68" in arrays else {}
    )
    points, *others = take_arrays(table, arrays, shapes, expected)
    names = arrays.get("names")
    if names is None or names.dtype.kind != "U" or names.shape != (len(points),):
        raise input_error(
            table,
            f"{expected} with {len(points)} names",
            "none" if names is None else f"{names.dtype} of {list(names.shape)}",
        )
    return path, _by_name(table, names, points, *others)


def read_tddfa(data, labels) -> tuple[Path, dict[str, dict]]:
    """The same of 3DDFA's folder AFLW_GT_crop, with AFLW_GT_crop.list beside it, and the folder test.configs."""
    path, labels = Path(data), Path(labels)
    path = path / "AFLW_GT_crop" if (path / "AFLW_GT_crop").is_dir() else path
    listed = path.with_name(path.name + ".list")
    if not path.is_dir() or not listed.is_file():
        raise InputError(
            f"{path}: expected 3DDFA's folder AFLW_GT_crop with AFLW_GT_crop.list beside it, found {'no such list' if path.is_dir() else 'no such folder'}"
        )
    names, arrays = np.array(listed.read_text().split()), {}
    for key, file in _TDDFA.items():
        try:
            arrays[key] = np.load(labels / file, allow_pickle=False)
        except Exception as error:  # whatever numpy throws at a missing, damaged or pickled file
            raise InputError(
                f"{labels / file}: not a readable .npy file; --labels is 3DDFA's folder test.configs ({type(error).__name__})"
            ) from None
    count = len(names)
    shapes = {"pts21": (count, 2, 21), "roi_box": (count, 4), "yaw_deg": (count,), "pts68": (count, None, 68)}
    points, box, yaw, fitted = take_arrays(labels, arrays, shapes, f"labels of the {count} faces in {listed}")
    return path, _by_name(labels, names, points, box, yaw, fitted[:, :2])


def _by_name(source, names, points, box, yaw, fitted=None):
    """name -> points [21,2] in pixels of the crop, NaN where hidden; yaw; boxed [K,2], the points whose box divides; fitted, whether these are the fitted ones."""
    points, box, yaw = labeled_points(points.astype(np.float64)), box.astype(np.float64), yaw.astype(np.float64)
    if not (np.isfinite(box).all() and np.isfinite(yaw).all()) or (box[:, 2:] <= box[:, :2]).any():
        raise input_error(source, "boxes that are not empty, and finite yaw", "others")
    points = points_in_crops(points, box)
    side = CROP / np.sqrt(2)
    boxed = (
        np.broadcast_to([[0.0, 0.0], [side, side]], (len(names), 2, 2))
        if fitted is None
        else points_in_crops(fitted.astype(np.float64), box)
    )
    return {
        str(n): {"points": p, "yaw": float(y), "boxed": b, "fitted": fitted is not None}
        for n, p, y, b in sorted(zip(names, points, yaw, boxed), key=lambda row: str(row[0]))
    }


def _reader(path, size):
    """name -> its crop, uint8 [size,size,3], from the folder or zip."""
    if path.is_dir():
        content = lambda name: (path / name).read_bytes()  # noqa: E731
    else:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{path}: not a readable zip ({error})") from None
        members = {member.rsplit("/", 1)[-1]: member for member in archive.namelist()}
        content = lambda name: archive.read(members[name])  # noqa: E731

    def read(name):
        try:
            raw = content(name)
        except Exception as error:  # whatever a missing file or a damaged archive makes them throw
            raise InputError(f"{name}: cannot be read from {path} ({one_line(error)})") from None
        image = read_picture(io.BytesIO(raw), name)
        if image.shape[:2] != (CROP, CROP):
            raise InputError(
                f"{name}: expected a crop of {CROP} x {CROP} pixels, found {image.shape[1]} x {image.shape[0]}"
            )
        return image if size == CROP else cut(image, (0, 0, CROP, CROP), size)

    return read
