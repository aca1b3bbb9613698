"""Where the faces of a picture may be: candidates for the method, which `face_check` accepts or refuses.

The detector finds upright faces that are neither tiny nor as large as the picture. The usual search is one pass. The
thorough one, for pictures where that finds nothing, looks at the picture in four orientations and several sizes.
"""

import math

import numpy as np
from PIL import Image

from facemodels.reconstruction.detect import Detection, find_faces, first_crop
from facemodels.reconstruction.views import View, roll_angle

LONGEST = 960  # pixels of the longer side in the usual search
LOWEST = 0.5  # score of a candidate
LOWEST_SMALL = 0.3  # of one in the search for small faces, which score less
LARGE = 300  # pixels of a face in the detector's input of which it often finds parts alone
SMALLEST = 24  # pixels of a face in the detector's input that it finds as a rule
TILE, SHARED = 1280, 96  # pixels of a tile of a large picture, and of what two tiles share
SIZES = (640, 224, 96)  # pixels of the longer side in the thorough search: large faces are found in small pictures


def candidates(picture: int, image: np.ndarray, longest: int = LONGEST, smallest: float | None = None) -> list[View]:
    """The usual search.

    Args:
        picture: the number of the picture.
        image: uint8 [h,w,3], sRGB.
        longest: pixels to which the longer side is reduced.
        smallest: the height of the smallest faces in pixels of the picture; for small ones, the picture is searched
            in tiles. None searches as `longest` says.
    """
    if smallest is not None and _longest(image, smallest) > longest:
        return [_view(picture, d) for d in _in_tiles(image, smallest)]
    found = find_faces(image, LOWEST, longest)
    # Of a face that is large in the detector's input it often finds a part: it is shown smaller, too.
    largest = max((max(d.box[2] - d.box[0], d.box[3] - d.box[1]) for d in found), default=0.0)
    if largest * min(1.0, longest / max(image.shape[:2])) > LARGE:
        reduced, factor = _reduced(image, SIZES[1])
        found += [_scaled(d, 1 / factor) for d in find_faces(reduced, LOWEST, SIZES[1])]
    return [_view(picture, d) for d in found]


def thorough_candidates(picture: int, image: np.ndarray, smallest: float | None = None) -> list[View]:
    """The thorough search: the picture in four orientations and three sizes.

    Args:
        picture: the number of the picture.
        image: uint8 [h,w,3], sRGB.
        smallest: as of `candidates`; where that searches in tiles, so does this, in the other orientations.
    """
    found = []
    if smallest is not None and _longest(image, smallest) > LONGEST:
        for quarter in (1, 2, 3):
            turned = np.ascontiguousarray(np.rot90(image, -quarter))
            for d in _in_tiles(turned, smallest):
                found.append(_view(picture, _turned_back(d, turned.shape, quarter, 1.0), quarter))
    for longest in SIZES:
        reduced, factor = _reduced(image, longest)
        for quarter in range(4):
            turned = np.ascontiguousarray(np.rot90(reduced, -quarter))
            for d in find_faces(turned, LOWEST, longest):
                found.append(_view(picture, _turned_back(d, turned.shape, quarter, 1 / factor), quarter))
    return found


def other_turns(view: View) -> list[View]:
    """The same place, for heads that lean to the left, to the right, and that stand upside down."""
    return [
        view._replace(crop=first_crop(view.box, turn), turn=turn, points=None)
        for turn in (view.turn + k * math.pi / 2 for k in (1, 2, 3))
    ]


def _view(picture: int, found: Detection, quarter: int = 0) -> View:
    turn = roll_angle(found.points, quarter * math.pi / 2)
    return View(picture, first_crop(found.box, turn), turn, found.box, found.score, found.points)


def _reduced(image: np.ndarray, longest: int) -> tuple[np.ndarray, float]:
    """The picture with a longer side of at most `longest` pixels, and its size relative to what it was."""
    height, width = image.shape[:2]
    factor = min(1.0, longest / max(height, width))
    if factor == 1:
        return image, 1.0
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX, reducing_gap=2.0)), factor


def _turned_back(found: Detection, shape: tuple[int, ...], quarter: int, factor: float) -> Detection:
    """What was found in `np.rot90(picture, -quarter)`, in the picture, `factor` times as large."""
    height, width = shape[:2]
    x0, y0, x1, y1 = found.box
    points = np.array([[x0, y0], [x1, y1], *found.points])
    for _ in range(quarter):  # a quarter counterclockwise
        points = np.stack([points[:, 1], width - points[:, 0]], 1)
        height, width = width, height
    points = points * factor
    low, high = points[:2].min(0).tolist(), points[:2].max(0).tolist()
    return Detection((low[0], low[1], high[0], high[1]), found.score, points[2:])


def _longest(image: np.ndarray, smallest: float) -> int:
    """Pixels of the longer side, in which faces that are `smallest` pixels high are large enough for the detector."""
    return math.ceil(max(image.shape[:2]) * min(1.0, SMALLEST / smallest))


def _in_tiles(image: np.ndarray, smallest: float) -> list[Detection]:
    """Faces of a picture of at least `smallest` pixels, searched in tiles."""
    reduced, factor = _reduced(image, _longest(image, smallest))
    height, width = reduced.shape[:2]
    found: list[Detection] = []
    for top in _begins(height):
        for left in _begins(width):
            tile = reduced[top : top + TILE, left : left + TILE]
            for d in find_faces(tile, LOWEST_SMALL, TILE):
                x0, y0, x1, y1 = d.box
                moved = Detection((x0 + left, y0 + top, x1 + left, y1 + top), d.score, d.points + [left, top])
                found.append(_scaled(moved, 1 / factor))
    # Faces that are larger than what tiles share.
    return found + [_scaled(d, 1 / factor) for d in find_faces(reduced, LOWEST, LONGEST)]


def _scaled(found: Detection, factor: float) -> Detection:
    x0, y0, x1, y1 = found.box
    box = (x0 * factor, y0 * factor, x1 * factor, y1 * factor)
    return Detection(box, found.score, found.points * factor)


def _begins(length: int) -> list[int]:
    """Where tiles begin along a side."""
    if length <= TILE:
        return [0]
    count = math.ceil((length - SHARED) / (TILE - SHARED))
    return [round(k * (length - TILE) / (count - 1)) for k in range(count)]
