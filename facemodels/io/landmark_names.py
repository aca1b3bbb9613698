"""Landmarks by name and by number: what the usual tools call the 68 and the five points, and MediaPipe's mesh."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facemodels.core.errors import InputError, one_line
from facemodels.core.landmarks import COUNTS, NAMES, NUM_LANDMARKS

NUM_MEDIAPIPE = (468, 478)  # points of MediaPipe's face mesh, without and with irises
SIZES = (*COUNTS, *NUM_MEDIAPIPE)  # of a set of points

# For each of the 68, the point of MediaPipe's mesh that is usually taken for it.
MEDIAPIPE_68 = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)

# The groups of the Python package face_recognition; its left and right are those of the picture.
_GROUPS = {
    "chin": range(0, 17),
    "left_eyebrow": range(17, 22),
    "right_eyebrow": range(22, 27),
    "nose_bridge": range(27, 31),
    "nose_tip": range(31, 36),
    "left_eye": range(36, 42),
    "right_eye": range(42, 48),
    "top_lip": (*range(48, 55), 64, 63, 62, 61, 60),
    "bottom_lip": (*range(54, 60), 48, 60, 67, 66, 65, 64),
}
# Names of the five points. Tools do not agree whose left and right they mean: the places decide.
_FIVE = (
    ("eye_right", "right_eye", "righteye"),
    ("eye_left", "left_eye", "lefteye"),
    ("nose_tip", "nose", "nosetip"),
    ("mouth_right", "right_mouth", "mouth_right_corner", "rightmouth"),
    ("mouth_left", "left_mouth", "mouth_left_corner", "leftmouth"),
)


def of_picture(path: Path, names: Sequence[str], photo: str | None) -> list[int]:
    """Which entries of a file are a photo's; all where the file has those of one picture.

    Args:
        path: The file, for the message.
        names: The picture of each entry, perhaps with a folder before it.
        photo: The photo's name; None if it is not known.

    Raises:
        InputError: There are several pictures, and the photo is none of them, or is not known.
    """
    files = [name.replace("\\", "/").rpartition("/")[2] for name in names]
    own = [k for k, file in enumerate(files) if file == photo]
    count = len(set(files))
    if not own and count > 1:
        wanted = "keep one" if photo is None else f"and none is {photo}"
        raise InputError(f"{path}: there are {count} pictures in the file{';' if photo is None else ','} {wanted}")
    return own or list(range(len(files)))


def by_name(path: Path, points: Mapping[str, Any]) -> np.ndarray:
    """The points of a mapping from names to coordinates, or of groups of points.

    Args:
        path: The file, for the message.
        points: {name: [x, y]}, {group: [[x, y], ...]} or {number: [x, y]}.

    Returns:
        [L,2] or [L,3].

    Raises:
        InputError: The names are not known.
    """
    keys = {str(key).strip().lower(): value for key, value in points.items()}
    try:
        if "x" in keys and "y" in keys:
            return np.array([coordinates(keys[axis]) for axis in "xyz" if axis in keys]).T
        if set(_GROUPS) <= set(keys):
            rows = np.full((NUM_LANDMARKS, 2), np.nan)
            for name, numbers in _GROUPS.items():
                rows[list(numbers)] = np.array([coordinates(p) for p in keys[name]])[:, :2]
            return rows
        if keys and all(key.lstrip("-").isdigit() for key in keys):
            return _by_number({int(key): coordinates(value) for key, value in keys.items()})
        for names in NAMES.values():
            if set(keys) == set(names):
                return np.array([coordinates(keys[name]) for name in names])
        five = [next((keys[name] for name in names if name in keys), None) for names in _FIVE]
        if all(point is not None for point in five):
            return _upright(np.array([coordinates(point) for point in five]))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: the points named {_first(keys, 4)} ... are not x and y ({one_line(error)})"
        ) from None
    raise InputError(
        f"{path}: expected points by iBUG's number (36, ...), the five by name (left_eye, right_eye, nose, mouth_left, "
        f"mouth_right) or face_recognition's groups (chin, ...), found {_first(keys, 6) or 'none'}"
    )


def _first(keys: Mapping[str, Any], count: int) -> str:
    return ", ".join(key[:40] for key in list(keys)[:count])


def _by_number(points: dict[int, list[float]]) -> np.ndarray:
    low, high = min(points), max(points)
    if high - low + 1 == len(points) in NUM_MEDIAPIPE:
        return np.array([points[k] for k in sorted(points)])
    first = 1 if high == NUM_LANDMARKS and low > 0 else 0
    wrong = [k for k in points if not first <= k < first + NUM_LANDMARKS]
    if wrong:
        raise ValueError(f"no landmark has the number {wrong[0]}")
    if len({len(p) for p in points.values()}) > 1:
        raise ValueError("some have two coordinates, some three")
    rows = np.full((NUM_LANDMARKS, len(points[low])), np.nan)
    for number, point in points.items():
        rows[number - first] = point
    return rows


def coordinates(point: Any) -> list[float]:
    """The coordinates of [x, y] or {"x": ..., "y": ...}; null is missing."""
    if isinstance(point, Mapping):
        keys = {str(key).lower(): value for key, value in point.items()}
        point = [keys[axis] for axis in "xyz" if axis in keys or axis in "xy"]
    if isinstance(point, str) or not isinstance(point, Sequence | np.ndarray):
        raise TypeError(f"expected [x, y], found {str(point)[:40]}")
    return [np.nan if x is None else float(x) for x in point]


def _upright(five: np.ndarray) -> np.ndarray:
    """Eyes and corners of the mouth with the one first that lies on the left of an upright picture."""
    across = five[1, :2] - five[0, :2]
    down = five[3:, :2].mean(0) - five[:2, :2].mean(0)
    mouth = five[4, :2] - five[3, :2]
    order = [0, 1, 2, 3, 4]
    if across[0] * down[1] - across[1] * down[0] < 0:
        order[:2] = [1, 0]
    if mouth[0] * down[1] - mouth[1] * down[0] < 0:
        order[3:] = [4, 3]
    return five[order]
