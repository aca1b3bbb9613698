"""Square crops of photographs around faces, and the coordinates of points in them.

Pixel coordinates are this library's: (0, 0) is the corner of the image, (0.5, 0.5) the center of the first pixel. A box
is (x0, y0, x1, y1), its bounding lines in these coordinates. It need not lie on whole pixels and may reach beyond the
image.
"""

import math

import numpy as np
from PIL import Image

from facemodels.core.errors import InputError

Box = tuple[float, float, float, float]

_LONGEST = 50_000  # pixels, side of a box
_WHOLE = 9_000_000  # pixels of a box that is resized as a whole; of larger ones, a band of rows is held at a time
_BAND = 4_000_000  # pixels of a band


def landmark_box(points: np.ndarray) -> Box:
    """The square crop of a face by 3DDFA (Zhu et al. 2016).

    It is sqrt(2) times as large as the longer side of the landmarks' bounding box, around the same center.

    Args:
        points: [L,2] pixels; rows with NaN are left out.

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
    """Crop a box out of an image and resize it to a square.

    The resampling is Pillow's antialiased cubic (Keys 1981, a = -0.5, stretched where the box shrinks). At the border
    of the box it uses the pixels beyond it.

    Args:
        image: uint8 [h,w,3].
        box: the box, in pixels of the image.
        size: side of the result in pixels.

    Returns:
        uint8 [size,size,3]; black outside the image.

    Raises:
        InputError: the box is empty, not finite, or so large that its pixels would not fit into memory.
    """
    x0, y0, x1, y1 = box
    if not (all(map(math.isfinite, box)) and x1 > x0 and y1 > y0):
        raise InputError(f"a box is (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got {box}")
    reach = [math.ceil(2 * max(1.0, side / size)) for side in (x1 - x0, y1 - y0)]  # of the cubic
    height, width = image.shape[:2]
    left, right = math.floor(x0) - reach[0], math.ceil(x1) + reach[0]
    top, bottom = math.floor(y0) - reach[1], math.ceil(y1) + reach[1]
    # Where the box lies inside the image, the margin ends with the image: no black is mixed into the border of the box.
    left, right = max(left, 0) if x0 >= 0 else left, min(right, width) if x1 <= width else right
    top, bottom = max(top, 0) if y0 >= 0 else top, min(bottom, height) if y1 <= height else bottom
    if max(right - left, bottom - top) > _LONGEST + 2 * max(reach):
        raise InputError(f"a box of {x1 - x0:.4g} by {y1 - y0:.4g} pixels is too large to cut out")
    l, t, r, b = (min(max(v, 0), most) for v, most in ((left, width), (top, height), (right, width), (bottom, height)))
    if l >= r or t >= b:  # the box lies outside the image
        return np.zeros((size, size, 3), np.uint8)
    if (right - left) * (bottom - top) <= _WHOLE:
        inside = Image.fromarray(np.ascontiguousarray(image[t:b, l:r]))
        piece = inside.crop((left - l, top - t, right - l, bottom - t))  # black where there is no image
        corners = (x0 - left, y0 - top, x1 - left, y1 - top)
        return np.asarray(piece.resize((size, size), Image.Resampling.BICUBIC, corners))
    rows = np.zeros((bottom - top, size, 3), np.uint8)
    band = max(1, _BAND // (right - left))
    for first in range(t, b, band):
        part = Image.fromarray(np.ascontiguousarray(image[first : min(first + band, b), l:r]))
        piece = part.crop((left - l, 0, right - l, part.height))
        resized = piece.resize((size, part.height), Image.Resampling.BICUBIC, (x0 - left, 0, x1 - left, part.height))
        rows[first - top : first - top + part.height] = np.asarray(resized)
    return np.asarray(
        Image.fromarray(rows).resize((size, size), Image.Resampling.BICUBIC, (0, y0 - top, size, y1 - top))
    )


def cut_rotated(image: np.ndarray, box: Box, size: int, turn: float) -> np.ndarray:
    """Like `cut`, of the box rotated about its center.

    Args:
        image: uint8 [h,w,3].
        box: the box before the rotation.
        size: side of the result in pixels.
        turn: radians, counterclockwise. What leans by this angle in the image is upright in the result.
    """
    if turn == 0:
        return cut(image, box, size)
    # Odd or even as size is, so that both have their center at the same place.
    larger = math.ceil(size * math.sqrt(2)) // 2 * 2 + 2 - size % 2
    x, y, half = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, (box[2] - box[0]) / 2 * larger / size
    piece = Image.fromarray(cut(image, (x - half, y - half, x + half, y + half), larger)).rotate(
        -math.degrees(turn), Image.Resampling.BICUBIC
    )
    edge = (larger - size) // 2
    return np.asarray(piece.crop((edge, edge, edge + size, edge + size)))


def to_crop(points: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Pixels [...,2] of an image as pixels of the crop that `cut` makes of a box."""
    return (points - _corner(points, box)) * _scale(points, box, size)


def from_crop(points: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Pixels [...,2] of a crop as pixels of the image: the inverse of `to_crop`."""
    return points / _scale(points, box, size) + _corner(points, box)


def _corner(points: np.ndarray, box: Box) -> np.ndarray:
    return np.array(box[:2], np.result_type(points, np.float32))


def _scale(points: np.ndarray, box: Box, size: int) -> np.ndarray:
    return np.array([size / (box[2] - box[0]), size / (box[3] - box[1])], np.result_type(points, np.float32))
