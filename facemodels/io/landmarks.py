"""Landmarks of photos and scans from the files in which they are common.

| file | what is read | pixels |
|---|---|---|
| `.txt` | one point a line, "x y", separated by spaces, commas or tabs | as they are |
| `.pts` | the same between braces, under iBUG's header | 1-based |
| `.npy` | [L,2], [2,L], or with z | as they are |
| `.json` | a list of points, or {"36": [x, y], ...} by iBUG number; either under "landmarks" too | as they are |
| `.mat` | AFLW2000-3D, 300W-LP: the first of `pt3d_68`, `pts_3d`, `pts_2d`, `pt2d`, `landmarks` | 1-based |

In this library's pixel coordinates, the upper left corner of the image is (0, 0) and the center of the first pixel
(0.5, 0.5). 1-based files (MATLAB's) call that center (1, 1); 0.5 is subtracted from their coordinates.

L is 68 (iBUG), 21 (AFLW) or 5 (eyes, tip of the nose, corners of the mouth; first the eye on the left of the image).
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facemodels.core.errors import InputError, one_line
from facemodels.core.landmarks import COUNTS, NUM_LANDMARKS
from facemodels.io.matfile import read_mat

LANDMARK_SUFFIXES = (".mat", ".pts", ".txt", ".npy", ".json")
# Arrays of .mat files in the order of preference, and what their contour is, see `Landmarks`.
_MAT_KEYS = {"pt3d_68": "static", "pts_3d": "static", "pts_2d": "moving", "pt2d": "moving", "landmarks": "moving"}
_FEWEST = 4
_LARGEST = 1e9  # of coordinates


class Landmarks(NamedTuple):
    """Landmarks of a file.

    Attributes:
        points: float32, [L,2] pixels of a photo, or [L,3] in a mesh's unit; NaN where a point is missing.
        contour: "static" if the contour points are fixed places of the head, "moving" if they lie on the visible
            outline; see `MorphableModel.landmarks`.
    """

    points: np.ndarray
    contour: str


def read_landmarks(path: str | Path, dimensions: int = 2) -> Landmarks:
    """Read a landmark file of one of the kinds in the table above.

    Args:
        path: the file.
        dimensions: 2 for a photo's landmarks; 3 for a mesh's, which `.pts` and most `.mat` files do not have. A list of
            68 vertex numbers is not accepted; the caller must look up their positions.

    Raises:
        InputError: the file is missing, of another kind, damaged, or does not hold 68, 21 or 5 points of which at least
            four are known.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"{path}: there is no such landmark file")
    if kind not in LANDMARK_SUFFIXES:
        raise InputError(
            f"{path}: landmarks are read from {', '.join(LANDMARK_SUFFIXES)} files, "
            f"this one ends in {kind or 'nothing'}"
        )
    contour = "moving"
    found: np.ndarray | list[list[float]]
    if kind == ".mat":
        found, contour = _read_mat(path)
    elif kind == ".npy":
        found = _read_npy(path)
    elif kind == ".json":
        found = _read_json(path)
    else:
        found = _read_text(path)
    points = _to_rows(path, found, dimensions)
    missing = np.isnan(points).any(1)
    if kind == ".mat":  # AFLW gives hidden points coordinates that are not positive
        missing |= (points[:, :2] <= 0).any(1) & (len(points) == 21)
    points[missing] = np.nan
    if np.isinf(points).any() or (points[~missing].size and np.abs(points[~missing]).max() > _LARGEST):
        raise InputError(
            f"{path}: a landmark's coordinate is infinite or larger than 1e9; write NaN for a point that is missing"
        )
    if (~missing).sum() < _FEWEST:
        raise InputError(
            f"{path}: at least {_FEWEST} landmarks are needed, {(~missing).sum()} of {len(points)} are there"
        )
    if kind in (".pts", ".mat"):
        points = points - 0.5
    return Landmarks(points.astype(np.float32), contour)


def sidecar(photo: str | Path) -> Path | None:
    """The landmark file beside a photo, with its name but another suffix; None if there is none."""
    photo = Path(photo)
    return next((photo.with_suffix(s) for s in LANDMARK_SUFFIXES if photo.with_suffix(s).is_file()), None)


def check_inside(landmarks: np.ndarray, size: tuple[int, int], path: str | Path) -> None:
    """Check that landmarks belong to an image, not to another one or to another scale of it.

    Args:
        landmarks: [L,2] pixels, NaN where missing.
        size: (H, W) of the image.
        path: the landmark file, for the message.

    Raises:
        InputError: most of them lie outside the image, or all within two pixels.
    """
    x, y = landmarks[~np.isnan(landmarks).any(1)].T
    inside = (x >= 0) & (x <= size[1]) & (y >= 0) & (y <= size[0])
    if inside.mean() < 0.5 or max(np.ptp(x), np.ptp(y)) < 2:
        raise InputError(
            f"{path}: {inside.sum()} of {len(x)} landmarks lie in the image of {size[1]} x {size[0]} pixels "
            f"(x {x.min():.4g}..{x.max():.4g}, y {y.min():.4g}..{y.max():.4g}); "
            "they must be pixels of this very image, not shares of its size and not of a crop"
        )


def _to_rows(path: Path, found: np.ndarray | list[list[float]], dimensions: int) -> np.ndarray:
    """float64 [L,dimensions] of an array [L,2], [L,3] or its transpose."""
    points = np.atleast_2d(np.asarray(found, np.float64))
    if points.ndim == 2 and points.shape[0] in (2, 3) and points.shape[1] in COUNTS:
        points = points.T
    if points.ndim != 2 or points.shape[0] not in COUNTS or not dimensions <= points.shape[1] <= 3:
        wanted = "[L,3]" if dimensions == 3 else "[L,2] or [L,3]"
        raise InputError(
            f"{path}: landmarks must be {wanted} with L = 68 (iBUG), 21 (AFLW) or 5, found {list(points.shape)}"
        )
    return points[:, :dimensions].copy()


def _read_text(path: Path) -> list[list[float]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file") from None
    if path.suffix.lower() == ".pts":
        text = [line.strip() for line in lines]
        if "{" not in text or "}" not in text:
            raise InputError(f"{path}: a .pts file has its points between lines with {{ and }}, none were found")
        lines = lines[text.index("{") + 1 : text.index("}")]
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        entries = line.split("#")[0].replace(",", " ").replace(";", " ").split()
        if not entries:
            continue
        try:
            rows.append([float(x) for x in entries])
        except ValueError:
            found = " ".join(entries)[:60]
            raise InputError(f"{path}: line {number} must be numbers, x and y, found {found!r}") from None
        if len(rows[-1]) != len(rows[0]):
            raise InputError(f"{path}: line {number} has {len(rows[-1])} numbers, the lines before have {len(rows[0])}")
    if not rows:
        raise InputError(f"{path}: the file holds no points")
    return rows


def _read_npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # whatever numpy raises on a damaged or pickled file
        raise InputError(f"{path}: not a readable .npy file of numbers ({one_line(error)})") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        found = getattr(array, "dtype", type(array).__name__)
        raise InputError(f"{path}: expected an array of numbers [L,2], found {found}")
    return array[0] if array.ndim == 3 and len(array) == 1 else array


def _read_json(path: Path) -> np.ndarray:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path}: not a readable JSON file ({one_line(error)})") from None
    if isinstance(content, dict) and "landmarks" in content:
        content = content["landmarks"]
    try:
        if not isinstance(content, dict):
            return np.array([[np.nan if x is None else float(x) for x in point] for point in content], np.float64)
        if not content:
            raise ValueError("the object is empty")
        points = np.full((NUM_LANDMARKS, len(next(iter(content.values())))), np.nan)
        for number, point in content.items():
            if not 0 <= int(number) < NUM_LANDMARKS:
                raise ValueError(f"no landmark has the number {number}")
            points[int(number)] = [np.nan if x is None else float(x) for x in point]
        return points
    except (ValueError, TypeError) as error:
        raise InputError(
            f'{path}: expected a list of [x, y], or {{"36": [x, y], ...}} by iBUG number ({one_line(error)})'
        ) from None


def _read_mat(path: Path) -> tuple[np.ndarray, str]:
    content = read_mat(path, "a landmark file", tuple(_MAT_KEYS))
    for key, contour in _MAT_KEYS.items():
        if key in content:
            array = content[key]
            if isinstance(array, str):
                raise InputError(f"{path}: {key} must be an array of numbers, found {array}")
            return array, contour
    raise InputError(f"{path}: none of the arrays {', '.join(_MAT_KEYS)} is in the file")
