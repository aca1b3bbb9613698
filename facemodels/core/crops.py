"""Photographs, square pieces of them around faces, and where points go in these.

Pixel coordinates are this library's: (0, 0) is the corner of the image and (0.5, 0.5) the first pixel's centre. A box is (x0, y0, x1, y1): the lines that
bound it, not pixel numbers, so it need not lie on whole pixels and may reach out of the image.
"""

import math

import numpy as np
from PIL import Image

from facemodels.core.errors import InputError

Box = tuple[float, float, float, float]


def landmark_box(points: np.ndarray) -> Box:
    """The square in which 3DDFA (Zhu et al. 2016) cuts out a face: around the larger side of its landmarks' box, sqrt(2) times as large, same centre.

    points: [L,2] pixels; rows with NaN do not count.

    Raises:
        InputError: there are no two different points.
    """
    points = np.asarray(points, np.float64)
    points = points[~np.isnan(points).any(1)]
    if len(points) == 0 or not (side := np.ptp(points, axis=0).max() * math.sqrt(2)) > 0:
        raise InputError(f"a box around landmarks needs two different points, got {len(points)} that are known")
    x, y = (points.min(0) + points.max(0)) / 2
    return float(x - side / 2), float(y - side / 2), float(x + side / 2), float(y + side / 2)


def cut(image: np.ndarray, box: Box, size: int) -> np.ndarray:
    """The box of an image (uint8 [h,w,3]) as uint8 [size,size,3]; black outside the image.

    Resampled by an antialiased cubic (Pillow's: Keys 1981, a = -0.5, stretched where the box shrinks), which at the box's border sees the pixels beyond it.

    Raises:
        InputError: the box is empty, not finite, or so large that its pixels would not fit into memory.
    """
    x0, y0, x1, y1 = box
    if not (all(map(math.isfinite, box)) and x1 > x0 and y1 > y0):
        raise InputError(f"a box is (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got {box}")
    reach = [math.ceil(2 * max(1.0, side / size)) for side in (x1 - x0, y1 - y0)]  # of the cubic
    height, width = image.shape[:2]
    left, top, right, bottom = (
        math.floor(x0) - reach[0],
        math.floor(y0) - reach[1],
        math.ceil(x1) + reach[0],
        math.ceil(y1) + reach[1],
    )
    # Where the box ends in the image, so does what is seen: no black is mixed into its border.
    left, right = max(left, 0) if x0 >= 0 else left, min(right, width) if x1 <= width else right
    top, bottom = max(top, 0) if y0 >= 0 else top, min(bottom, height) if y1 <= height else bottom
    if (right - left) * (bottom - top) > 2e8:
        raise InputError(f"a box of {x1 - x0:.4g} by {y1 - y0:.4g} pixels is too large to cut out")
    l, t, r, b = (min(max(v, 0), most) for v, most in ((left, width), (top, height), (right, width), (bottom, height)))
    if l >= r or t >= b:  # nothing of the image
        return np.zeros((size, size, 3), np.uint8)
    piece = Image.fromarray(np.ascontiguousarray(image[t:b, l:r])).crop(
        (left - l, top - t, right - l, bottom - t)
    )  # black where there is no image
    return np.asarray(piece.resize((size, size), Image.Resampling.BICUBIC, (x0 - left, y0 - top, x1 - left, y1 - top)))


def cut_rotated(image: np.ndarray, box: Box, size: int, turn: float) -> np.ndarray:
    """The same of the box turned anticlockwise about its middle by `turn` radians: what stands so in the image is upright in the piece."""
    if turn == 0:
        return cut(image, box, size)
    larger = (
        math.ceil(size * math.sqrt(2)) // 2 * 2 + 2 - size % 2
    )  # as even or odd as size: both have their middle at the same place
    x, y, half = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, (box[2] - box[0]) / 2 * larger / size
    piece = Image.fromarray(cut(image, (x - half, y - half, x + half, y + half), larger)).rotate(
        -math.degrees(turn), Image.Resampling.BICUBIC
    )
    edge = (larger - size) // 2
    return np.asarray(piece.crop((edge, edge, edge + size, edge + size)))


def to_crop(points: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Points [...,2] of an image as pixels of the box cut out of it at `size`."""
    return (points - _corner(points, box)) * _scale(points, box, size)


def from_crop(points: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Points [...,2] of a crop as pixels of the image: the inverse of `to_crop`."""
    return points / _scale(points, box, size) + _corner(points, box)


def _corner(points, box):
    return np.array(box[:2], np.result_type(points, np.float32))


def _scale(points, box, size):
    return np.array([size / (box[2] - box[0]), size / (box[3] - box[1])], np.result_type(points, np.float32))
