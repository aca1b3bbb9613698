"""Any folder of photographs with landmark files beside them: photo.jpg with photo.txt, .pts, .npy, .json or .mat."""

from collections import Counter
from pathlib import Path

import numpy as np

from facemodels.core.crops import Box, cut, landmark_box, to_crop
from facemodels.core.errors import InputError
from facemodels.data import FaceBatch
from facemodels.data.cache import Sample, Samples, collect_samples, load_in_threads, name_list
from facemodels.io.images import picture_files, read_picture
from facemodels.io.landmarks import check_inside, read_landmarks, sidecar


def folder(path: str | Path, size: int = 120, cache: str | Path | None = None) -> FaceBatch:
    """Read the faces of a folder and its subfolders, cropped by `landmark_box`, in the order of the files' names.

    All landmark files must have the same number of points, L = 68, 21 or 5; `facemodels.io.landmarks` lists the
    formats. Pictures that are damaged, without a landmark file or with an unusable one are left out, with a warning
    that names them.

    Args:
        path: the folder.
        size: side of the crops in pixels.
        cache: see `collect_samples`.

    Returns:
        Images uint8 [N,3,size,size] with `landmarks` [N,L,2] in their pixels, NaN where not `visible`.

    Raises:
        InputError: there is no such folder, the landmark files are of different kinds, or no picture can be used.
    """
    path = Path(path)
    if not path.is_dir():
        found = "expected a folder of pictures, found a file" if path.is_file() else "there is no such folder"
        raise InputError(f"{path}: {found}")
    pictures = {str(picture.relative_to(path)): picture for picture in picture_files(path)}
    marks = {name: sidecar(picture) for name, picture in pictures.items()}
    if pictures and not any(marks.values()):
        example = next(iter(pictures.values())).with_suffix(".txt").name
        raise InputError(
            f"{path}: none of {len(pictures)} pictures has a landmark file of the same name beside it, "
            f"such as {example}; python -m facemodels.reconstruction.label {path} writes landmarks that the shipped "
            "weights predict"
        )

    def samples() -> Samples:
        points = {name: _points(name, file) for name, file in marks.items()}
        check_one_kind(path, {name: len(p) for name, p in points.items() if isinstance(p, np.ndarray)})

        def load(name: str) -> Sample:
            mine = points[name]
            if isinstance(mine, InputError):
                raise mine
            image = read_picture(pictures[name])
            check_inside(mine, image.shape[:2], marks[name] or pictures[name])
            return face_sample(name, image, mine, landmark_box(mine), size)

        yield from load_in_threads(pictures, load)

    files = [*pictures.values(), *(file for file in marks.values() if file)]
    return collect_samples(str(path), files, {"source": "folder", "size": size}, samples, cache)


def _points(name: str, file: Path | None) -> np.ndarray | InputError:
    """The landmarks of a picture, or why it has none."""
    if file is None:
        return InputError(f"{name}: there is no landmark file beside it")
    try:
        return read_landmarks(file).points
    except InputError as error:
        return error


def check_one_kind(path: Path, counts: dict[str, int]) -> None:
    """Check that all files have the same number of points.

    Args:
        path: names the data in messages.
        counts: file -> number of points.

    Raises:
        InputError: they differ; the message names the files that differ from most.
    """
    usual = Counter(counts.values()).most_common(1)[0][0] if counts else None
    others = [f"{name} ({count})" for name, count in counts.items() if count != usual]
    if others:
        raise InputError(
            f"{path}: landmarks must all be of one kind; most here are {usual} points, "
            f"but not those of {name_list(others)}; put these into another folder"
        )


def face_sample(name: str, image: np.ndarray, points: np.ndarray, box: Box, size: int) -> Sample:
    """Cut a sample of a `FaceBatch` out of a picture.

    Args:
        name: names the picture in messages.
        image: uint8 [h,w,3].
        points: [L,2] in its pixels, NaN where there are none.
        box: what to cut out.
        size: side of the crop in pixels.

    Raises:
        InputError: the box cannot be cut out, for instance because one landmark is far away.
    """
    try:
        crop = cut(image, box, size)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    points = to_crop(points, box, size).astype(np.float32)
    return {"image": crop.transpose(2, 0, 1), "landmarks": points, "visible": ~np.isnan(points).any(1)}
