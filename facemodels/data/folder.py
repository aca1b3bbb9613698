"""Any folder of photographs with landmark files beside them: photo.jpg with photo.txt, .pts, .npy, .json or .mat of 68, 21 or 5 points."""

from collections import Counter
from pathlib import Path

import numpy as np

from facemodels.core.crops import Box, cut, landmark_box, to_crop
from facemodels.core.errors import InputError
from facemodels.data import FaceBatch
from facemodels.data.cache import Sample, collect_samples, load_in_threads, name_list
from facemodels.io.images import picture_files, read_picture
from facemodels.io.landmarks import check_inside, read_landmarks, sidecar


def folder(path: str | Path, size: int = 120, cache: str | Path | None = None) -> FaceBatch:
    """The faces of a folder and those below it, cut out by `landmark_box`: images uint8 [N,3,size,size], `landmarks` [N,L,2] in their pixels, NaN where not
    `visible`; in the order of the files' names.

    All landmark files must have the same number of points, L = 68, 21 or 5 (`facemodels.io.landmarks` says what they may be). cache: see `collect_samples`.

    Pictures that are damaged, without a landmark file or with one that cannot be used are left out, with a warning that names them.

    Raises:
        InputError: there is no such folder, the landmark files are of different kinds, or no picture can be used.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path}: there is no such folder")
    pictures = {str(picture.relative_to(path)): picture for picture in picture_files(path)}
    marks = {name: sidecar(picture) for name, picture in pictures.items()}
    if pictures and not any(marks.values()):
        example = next(iter(pictures.values())).with_suffix(".txt").name
        raise InputError(
            f"{path}: none of {len(pictures)} pictures has a landmark file of the same name beside it, such as {example}"
        )

    def samples():
        points = {}
        for name, file in marks.items():
            try:
                points[name] = read_landmarks(file).points if file else None
            except InputError as error:
                points[name] = error
        check_one_kind(path, {name: len(p) for name, p in points.items() if isinstance(p, np.ndarray)})

        def load(name):
            if points[name] is None:
                raise InputError(f"{name}: there is no landmark file beside it")
            if isinstance(points[name], InputError):
                raise points[name]
            image = read_picture(pictures[name])
            check_inside(points[name], image.shape[:2], marks[name])
            return face_sample(name, image, points[name], landmark_box(points[name]), size)

        yield from load_in_threads(pictures, load)

    return collect_samples(
        str(path),
        [*pictures.values(), *filter(None, marks.values())],
        {"source": "folder", "size": size},
        samples,
        cache,
    )


def check_one_kind(path: Path, counts: dict[str, int]) -> None:
    """Raises `InputError` unless all files have the same number of points; the message names those that differ from most."""
    usual = Counter(counts.values()).most_common(1)[0][0] if counts else None
    others = [f"{name} ({count})" for name, count in counts.items() if count != usual]
    if others:
        raise InputError(
            f"{path}: landmarks must all be of one kind; most here are {usual} points, but not those of {name_list(others)}; put these into another folder"
        )


def face_sample(name: str, image: np.ndarray, points: np.ndarray, box: Box, size: int) -> Sample:
    """A sample of `FaceBatch` cut out of a picture uint8 [h,w,3] with points [L,2] in its pixels, NaN where there are none."""
    try:
        crop = cut(image, box, size)
    except ValueError as error:  # of one landmark far away
        raise InputError(f"{name}: {error}") from None
    points = to_crop(points, box, size).astype(np.float32)
    return {"image": crop.transpose(2, 0, 1), "landmarks": points, "visible": ~np.isnan(points).any(1)}
