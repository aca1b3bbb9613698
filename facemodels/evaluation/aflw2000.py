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

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.cache import loaded
from ..data.crops import cut, from_crop, landmark_box
from ..data.tddfa import AFLW2000
from ..errors import InputError
from ..formats.files import read_npz, take, wrong
from .landmarks import BINS, by_yaw, failure_rate, nme, nme_3d

FAILURE = 10.0  # percent of NME
CLIPPED = 2.0  # a stored box is rounded to pixels; one that is farther from the recomputed one was clipped
BOXES = ("recomputed", "stored")


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


def evaluate(predict: Callable[[Tensor], Tensor], path, size: int = 120, labels=None, boxes="recomputed", limit: int | None = None) -> dict:
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
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    photos = AFLW2000(path)
    names = photos.names[:limit]
    extra = _labels_of(photos, labels)
    if boxes == "stored" and "roi_box" not in extra:
        raise InputError(f"{photos.path}: the stored boxes are in the labels' file, and there is none; give it, or take boxes recomputed from the landmarks")

    def cropped(name):
        photo = photos.read(name)
        own = landmark_box(photo.landmarks[:, :2])
        back = own
        if boxes == "stored":
            back = tuple(extra["roi_box"][photo.name] - 0.5)
            own = back if np.abs(np.subtract(back, own)).max() < CLIPPED else own
        return name, photo.landmarks, photo.yaw, cut(photo.image, own, size), back, own != back

    rows, points, waiting = [], [], []

    def flush():
        crops = torch.from_numpy(np.stack([w[3] for w in waiting])).permute(0, 3, 1, 2).float() / 255
        found = np.asarray(predict(crops).detach().cpu().float(), np.float64)
        if found.shape not in ((len(waiting), 68, 2), (len(waiting), 68, 3)):
            raise ValueError(f"predict must return [{len(waiting)},68,2] or [{len(waiting)},68,3], got {list(found.shape)}")
        for (name, *_, box, _), p in zip(waiting, found):
            if not np.isfinite(p).all():
                raise InputError(f"{name}: the predicted landmarks are not finite")
            in_photo = from_crop(p[:, :2], box, size)
            zoom = (box[2] - box[0] + box[3] - box[1]) / (2 * size)
            points.append(np.concatenate([in_photo, p[:, 2:] * zoom], 1))
        rows.extend((name, landmarks, yaw, clipped) for name, landmarks, yaw, _, _, clipped in waiting)
        waiting.clear()

    bad = {}
    for name, made in loaded(names, cropped, photos.path.name):
        if isinstance(made, InputError):
            bad[name] = made
            continue
        waiting.append(made)
        if len(waiting) == batch:
            flush()
    if waiting:
        flush()
    if bad:
        some = f"{', '.join([*bad][:10])}{f' and {len(bad) - 10} more' if len(bad) > 10 else ''}; the first because: {next(iter(bad.values()))}"
        if not rows:
            raise InputError(f"{photos.path}: none of {len(bad)} photographs can be read: {some}")
        warnings.warn(f"{photos.path}: {len(bad)} of {len(names)} photographs are left out: {some}", stacklevel=2)
    kept, original, yaw, clipped = zip(*rows)
    more = {key: np.stack([extra[key][n] for n in kept]) if key in extra else None for key in ("reannotated", "aflw_yaw")}
    placed, labelled = np.stack(points), np.stack(original)
    return Predictions(list(kept), placed, labelled, np.array(yaw), boxes=boxes, clipped=sum(clipped), left_out=len(bad), **more)


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
        files = {"reannotated": "AFLW2000-3D-Reannotated.pts68.npy", "aflw_yaw": "AFLW2000-3D-new.pose.npy", "roi_box": "AFLW2000-3D_crop.roi_box.npy"}
        for key, file in files.items():
            try:
                arrays[key] = np.load(path / file, allow_pickle=False)
            except Exception as error:  # whatever numpy throws at a missing, damaged or pickled file
                raise InputError(f"{path / file}: not a readable .npy file; labels are an .npz or 3DDFA's folder test.configs ({type(error).__name__})") from None
        shapes = {"reannotated": (len(names), 2, 68), "aflw_yaw": (len(names),), "roi_box": (len(names), 4)}
        reannotated, yaw, boxes = take(path, arrays, shapes, f"labels of the {len(names)} photographs of {photos.path}")
    else:
        expected, shapes = "labels of AFLW2000-3D", {"pts68_reannotated": ("N", 2, 68), "yaw_aflw_deg": ("N",), "roi_box": ("N", 4)}
        arrays = read_npz(path, expected)
        reannotated, yaw, boxes = take(path, arrays, shapes, expected)
        names = arrays.get("names")
        if names is None or names.dtype.kind != "U" or names.shape != yaw.shape:
            raise wrong(path, f"{expected} with {len(yaw)} names", "none" if names is None else f"{names.dtype} of {list(names.shape)}")
    table = {name: row for row, name in enumerate(map(str, names))}
    missing = [name for name in photos.names if name not in table]
    if missing:
        raise wrong(path, f"labels of the {len(photos.names)} photographs of {photos.path}", f"{len(missing)} of them missing, {missing[0]} the first")
    columns = {"reannotated": reannotated.transpose(0, 2, 1).astype(np.float64) - 0.5, "aflw_yaw": yaw.astype(np.float64), "roi_box": boxes.astype(np.float64)}
    for key, column in columns.items():
        if not np.isfinite(column).all():
            raise wrong(path, f"finite numbers as {key}", "others")
    return {key: {name: column[table[name]] for name in photos.names} for key, column in columns.items()}


def _labels_of(photos, labels):
    if labels is not None:
        return read_labels(labels, photos)
    beside = photos.path.absolute()
    beside = beside.with_name(beside.name.removesuffix(".zip") + "_labels.npz")
    return read_labels(beside, photos) if beside.is_file() else {}
