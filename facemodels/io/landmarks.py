"""Landmarks of photos and scans from the files that people have them in.

| file | what is read | coordinates |
|---|---|---|
| `.txt` | one point a line, "x y", separated by spaces, commas or tabs | as they are |
| `.pts` | the same between braces, under iBUG's header | 1-based |
| `.npy` | [L,2], [2,L], or with z | as they are |
| `.json` | a list of points, or {"36": [x, y], ...} by iBUG number (0-based); either may stand under "landmarks" | as they are |
| `.mat` | AFLW2000-3D and 300W-LP: `pt3d_68`, `pts_3d`, `pts_2d`, `pt2d`, `landmarks`, the first that is there | 1-based |

Pixel coordinates of this library are 0 at the upper left corner of the image, so that the first pixel's centre is (0.5, 0.5); "1-based" files (MATLAB's)
call it (1, 1), and 0.5 is subtracted. L is 68 (iBUG), 21 (AFLW) or 5 (eyes, nose tip, mouth corners, the eye on the left of the image first).
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facemodels.core.errors import InputError, one_line
from facemodels.core.landmarks import COUNTS
from facemodels.io.matfile import read_mat

LANDMARK_SUFFIXES = (".mat", ".pts", ".txt", ".npy", ".json")
# Arrays of .mat files, best first, and whether their contour points are fixed places of the head or lie on the outline that is seen.
_MAT_KEYS = {"pt3d_68": "static", "pts_3d": "static", "pts_2d": "moving", "pt2d": "moving", "landmarks": "moving"}


class Landmarks(NamedTuple):
    """points: float32 [L,2] pixels (or [L,3] in the mesh's unit), NaN where a point is missing. contour: "static" or "moving", see `MorphableModel.landmarks`."""

    points: np.ndarray
    contour: str


def read_landmarks(path, dimensions: int = 2) -> Landmarks:
    """Reads a landmark file; the table above says what it may be.

    Args:
        path: the file. dimensions: 2 for a photo's, 3 for a mesh's (then only `.txt`, `.npy` and `.json`, and a list of 68 vertex numbers is for the
            caller to look up: it is refused here).

    Raises:
        InputError: the file is missing, of another kind, damaged, or does not hold 68, 21 or 5 points with finite coordinates.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"{path}: there is no such landmark file")
    if kind not in LANDMARK_SUFFIXES:
        raise InputError(
            f"{path}: landmarks are read from {', '.join(LANDMARK_SUFFIXES)} files, this one ends in {kind or 'nothing'}"
        )
    contour = "moving"
    if kind == ".mat":
        points, contour = _read_mat(path)
    else:
        points = {".txt": _read_text, ".pts": _read_text, ".npy": _read_npy, ".json": _read_json}[kind](path)
    points = _oriented(path, points, dimensions)
    missing = np.isnan(points).any(1)
    if kind == ".mat":  # AFLW marks points that cannot be seen with coordinates that are not positive
        missing |= (points[:, :2] <= 0).any(1) & (len(points) == 21)
    points[missing] = np.nan
    if np.isinf(points).any() or (points[~missing].size and np.abs(points[~missing]).max() > 1e9):
        raise InputError(
            f"{path}: a landmark's coordinate is infinite or larger than 1e9; write NaN for a point that is missing"
        )
    if (~missing).sum() < 4:
        raise InputError(f"{path}: at least 4 landmarks are needed, {(~missing).sum()} of {len(points)} are there")
    if kind in (".pts", ".mat"):
        points = points - 0.5
    return Landmarks(points.astype(np.float32), contour)


def sidecar(photo) -> Path | None:
    """The landmark file that belongs to a photo: of the same folder and stem."""
    photo = Path(photo)
    return next((photo.with_suffix(s) for s in LANDMARK_SUFFIXES if photo.with_suffix(s).is_file()), None)


def check_inside(landmarks: np.ndarray, size: tuple[int, int], path) -> None:
    """Raises `InputError` where most of the landmarks [L,2] lie outside an image of size (H, W) or within one pixel of it, as those of another photo or scale do."""
    x, y = landmarks[~np.isnan(landmarks).any(1)].T
    inside = (x >= 0) & (x <= size[1]) & (y >= 0) & (y <= size[0])
    if inside.mean() < 0.5 or max(np.ptp(x), np.ptp(y)) < 2:
        raise InputError(
            f"{path}: {inside.sum()} of {len(x)} landmarks lie in the image of {size[1]} x {size[0]} pixels (x {x.min():.4g}..{x.max():.4g}, "
            f"y {y.min():.4g}..{y.max():.4g}); they must be pixels of this very image, not shares of its size and not of a crop"
        )


def _oriented(path, points, dimensions):
    """[L,dimensions] float64 of an array [L,2], [L,3] or its transpose."""
    points = np.atleast_2d(np.asarray(points, np.float64))
    if points.ndim == 2 and points.shape[0] in (2, 3) and points.shape[1] in COUNTS:
        points = points.T
    if points.ndim != 2 or points.shape[0] not in COUNTS or not dimensions <= points.shape[1] <= 3:
        wanted = "[L,3]" if dimensions == 3 else "[L,2] or [L,3]"
        raise InputError(
            f"{path}: landmarks must be {wanted} with L = 68 (iBUG), 21 (AFLW) or 5, found {list(points.shape)}"
        )
    return points[:, :dimensions].copy()


def _read_text(path):
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file") from None
    if path.suffix.lower() == ".pts":
        text = [line.strip() for line in lines]
        if "{" not in text or "}" not in text:
            raise InputError(f"{path}: a .pts file has its points between lines with {{ and }}, none were found")
        lines = lines[text.index("{") + 1 : text.index("}")]
    rows = []
    for number, line in enumerate(lines, 1):
        line = line.split("#")[0].replace(",", " ").replace(";", " ").split()
        if not line:
            continue
        try:
            rows.append([float(x) for x in line])
        except ValueError:
            raise InputError(f"{path}: line {number} must be numbers, x and y, found {' '.join(line)[:60]!r}") from None
        if len(rows[-1]) != len(rows[0]):
            raise InputError(f"{path}: line {number} has {len(rows[-1])} numbers, the lines before have {len(rows[0])}")
    if not rows:
        raise InputError(f"{path}: the file holds no points")
    return rows


def _read_npy(path):
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # whatever numpy throws at a damaged or pickled file
        raise InputError(f"{path}: not a readable .npy file of numbers ({one_line(error)})") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: expected an array of numbers [L,2], found {getattr(array, 'dtype', type(array).__name__)}"
        )
    return array[0] if array.ndim == 3 and len(array) == 1 else array


def _read_json(path):
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path}: not a readable JSON file ({one_line(error)})") from None
    if isinstance(content, dict) and "landmarks" in content:
        content = content["landmarks"]
    try:
        if isinstance(content, dict):
            size = len(next(iter(content.values())))
            points = np.full((68, size), np.nan)
            for number, point in content.items():
                if not 0 <= int(number) < 68:
                    raise ValueError(f"no landmark has the number {number}")
                points[int(number)] = [np.nan if x is None else float(x) for x in point]
            return points
        return np.array([[np.nan if x is None else float(x) for x in point] for point in content], np.float64)
    except (ValueError, TypeError, StopIteration) as error:
        raise InputError(
            f'{path}: expected a list of [x, y], or {{"36": [x, y], ...}} by iBUG number ({one_line(error)})'
        ) from None


def _read_mat(path):
    content = read_mat(path, "a landmark file", tuple(_MAT_KEYS))
    for key, contour in _MAT_KEYS.items():
        if key in content:
            if isinstance(content[key], str):
                raise InputError(f"{path}: {key} must be an array of numbers, found {content[key]}")
            return content[key], contour
    raise InputError(f"{path}: none of the arrays {', '.join(_MAT_KEYS)} is in the file")
