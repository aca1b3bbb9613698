"""What people give to `reconstruct`: pictures and videos in all their forms, boxes and landmarks."""

import re
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from facemodels.core.crops import Box
from facemodels.core.errors import InputError
from facemodels.core.landmarks import check_count
from facemodels.io.images import picture_files, read_picture
from facemodels.io.landmarks import check_inside
from facemodels.io.pixels import as_picture, is_pixels
from facemodels.io.video import VIDEO_SUFFIXES, is_video, open_video
from facerender._checks import brief_repr

EXPECTED = (
    "a path, an array [h,w,3], a tensor [3,h,w] or a PIL image; a list or a batch of these; a folder; a video, or an "
    "iterator of its frames"
)


@brief_repr
class Picture(NamedTuple):
    """A picture.

    Attributes:
        pixels: uint8 [h,w,3], sRGB.
        source: The file that it can be read from again; the pixels themselves where there is none.
    """

    pixels: np.ndarray
    source: Path | np.ndarray


@brief_repr
class Inputs(NamedTuple):
    """What was given.

    Attributes:
        pictures: The pictures; None for a video.
        single: Whether one picture was given, and not a list of one.
        frames: The frames of a video, uint8 [h,w,3]; None for pictures.
    """

    pictures: list[Picture] | None
    single: bool = False
    frames: Iterator[np.ndarray] | None = None


def open_inputs(images: Any, bgr: bool = False) -> Inputs:
    """Read what was given.

    Args:
        images: See `reconstruct`.
        bgr: Arrays and tensors hold blue, green, red.

    Raises:
        InputError: It is nothing of `EXPECTED`, or it cannot be read.
    """
    if isinstance(images, (str, Path)):
        return _open_path(images)
    if is_pixels(images) and getattr(images, "ndim", 3) != 4 or isinstance(images, bytes) or hasattr(images, "read"):
        return Inputs([_picture(images, bgr)], single=True)
    if isinstance(images, Iterator):
        return Inputs(None, frames=(as_picture(frame, bgr) for frame in images))
    if isinstance(images, Mapping) or not isinstance(images, Iterable):
        raise InputError(f"reconstruct takes {EXPECTED}; got {_named(images)}")
    pictures = []
    for number, image in enumerate(images):
        try:
            pictures.append(_picture(image, bgr))
        except InputError as error:
            known = isinstance(image, (str, Path))  # the message names it
            raise InputError(f"{error}" if known else f"picture {number} of the list: {error}") from None
    return Inputs(pictures)


def _open_path(path: str | Path) -> Inputs:
    if isinstance(path, str) and re.fullmatch(r"webcam(:\d+)?", path) and not Path(path).exists():
        return Inputs(None, frames=video_frames(path))
    if not str(path):
        raise InputError(f"the path of the picture is empty; reconstruct takes {EXPECTED}")
    path = Path(path)
    if path.is_dir():
        files = picture_files(path)
        if not files:
            raise InputError(f"{path}: there are no pictures in this folder")
        return Inputs([_picture(file, False) for file in files])
    if is_video(path):
        return Inputs(None, frames=video_frames(path))
    return Inputs([_picture(path, False)], single=True)


def one_picture(image: Any) -> np.ndarray:
    """The pixels of one picture, uint8 [h,w,3].

    Args:
        image: A path, an array, a tensor, a PIL image, an open file or its bytes, as `reconstruct` takes them.

    Raises:
        InputError: It is nothing of these, or it cannot be read.
    """
    return _picture(image, False).pixels


def video_frames(video: str | Path) -> Iterator[np.ndarray]:
    """The frames of a video or webcam, uint8 [h,w,3]."""
    return (frame.image for frame in open_video(video).frames)


def _picture(image: Any, bgr: bool) -> Picture:
    if isinstance(image, (str, Path)):
        path = Path(image)
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise InputError(f"{path}: a video among pictures; give each video by itself")
        return Picture(read_picture(path), path.absolute())
    if isinstance(image, bytes) or hasattr(image, "read"):
        if isinstance(image, bytes):
            image = BytesIO(image)
        pixels = read_picture(image, name=str(getattr(image, "name", "picture in memory")))
    else:
        pixels = as_picture(image, bgr)
    return Picture(pixels, pixels)


def boxes_of(given: Any, size: tuple[int, int]) -> list[Box]:
    """The boxes of one picture.

    Args:
        given: One box x0, y0, x1, y1 in pixels, or several: lists, arrays or tensors.
        size: (H, W) of the picture.

    Raises:
        InputError: It holds anything else, or a box of which less than two pixels each way lie in the picture.
    """
    try:
        boxes = np.asarray(_numbers(given), np.float64)
    except (ValueError, TypeError):
        boxes = np.empty(1)
    if boxes.size == 0:
        return []
    boxes = boxes[None] if boxes.shape == (4,) else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(
            f"the boxes of a picture are [x0, y0, x1, y1] in pixels, or a list of these; got {_named(given)}"
        )
    for x0, y0, x1, y1 in boxes.tolist():
        if not (x1 > x0 and y1 > y0 and np.isfinite([x0, y0, x1, y1]).all()):
            raise InputError(f"a box is x0, y0, x1, y1 with x0 < x1 and y0 < y1; got {x0:g}, {y0:g}, {x1:g}, {y1:g}")
        if min(x1, size[1]) - max(x0, 0) < 2 or min(y1, size[0]) - max(y0, 0) < 2:
            raise InputError(
                f"the box {x0:g}, {y0:g}, {x1:g}, {y1:g} covers no face in a picture of {size[1]} x {size[0]} pixels; "
                "a box is x0, y0, x1, y1 in pixels of the picture, not in shares of its size"
            )
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes.tolist()]


def landmarks_of(given: Any, size: tuple[int, int]) -> list[np.ndarray]:
    """The landmarks of the faces of one picture.

    Args:
        given: Landmarks [L,2] or [L,3] in pixels of one face, or of several in a list.
        size: (H, W) of the picture.

    Returns:
        [L,2] of each face.

    Raises:
        InputError: It holds anything else, another number of them, fewer than two that are known, or landmarks of which
            most lie outside the picture, or all within two pixels.
    """
    wrong = InputError(
        "the landmarks of a face are [68,2], [21,2] or [5,2] in pixels; of several faces, a list of these; got "
        f"{_named(given)}"
    )

    def face(points: Any) -> np.ndarray:
        try:
            array = np.asarray(_numbers(points), np.float64)
        except (ValueError, TypeError):
            raise wrong from None
        if array.ndim != 2 or array.shape[1] not in (2, 3):
            raise wrong
        return array[:, :2]

    try:
        faces = [face(given)]
    except InputError:
        if not isinstance(given, (Tensor, np.ndarray, list, tuple)):
            raise
        faces = [face(points) for points in given]
    for points in faces:
        check_count(len(points))
        if (known := int((~np.isnan(points)).all(1).sum())) < 2:
            raise InputError(
                f"the landmarks of a face: {known} of {len(points)} are known (not NaN); give at least 2, or none: "
                "then faces are detected"
            )
        check_inside(points, size, "the landmarks of a face")
    return faces


def each_picture(given: Any, inputs: Inputs, what: str) -> list[Any] | None:
    """What was given of each picture.

    Args:
        given: Boxes or landmarks: of a single picture, its own; else a list with an entry for each picture.
        inputs: The pictures.
        what: "boxes" or "landmarks".

    Raises:
        InputError: It is not a list with an entry for each picture.
    """
    if given is None:
        return None
    assert inputs.pictures is not None
    count = len(inputs.pictures)
    if inputs.single:
        return [given]
    if isinstance(given, (Mapping, str)) or not hasattr(given, "__len__") or len(given) != count:
        raise InputError(
            f"{what} must be a list for each of the {count} pictures (None where faces are to be detected); got "
            f"{_named(given)}"
        )
    return list(given)


def _numbers(value: Any) -> Any:
    """Lists of arrays of what may hold tensors."""
    if isinstance(value, Tensor):
        return value.detach().cpu().double().numpy()
    return [_numbers(v) for v in value] if isinstance(value, (list, tuple)) else value


def _named(value: Any) -> str:
    """What a value is, in a few words and without its numbers."""
    if hasattr(value, "shape"):
        return f"{type(value).__name__} {list(value.shape)}"
    if isinstance(value, (list, tuple)):
        try:
            return f"a {type(value).__name__} of shape {list(np.asarray(_numbers(value), np.float64).shape)}"
        except (ValueError, TypeError):
            return f"a {type(value).__name__} of length {len(value)}"
    return repr(value) if value is None or isinstance(value, (bool, int, float)) else type(value).__name__
