"""The photographs of `facemodels reconstruct`, in groups whose faces go through the network together."""

import copy
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from facemodels.cli.reconstruct_inputs import Clip, KnownFaces
from facemodels.cli.reconstruct_outputs import OutputWriter, path_list, print_problem
from facemodels.core.crops import Box
from facemodels.core.errors import InputError
from facemodels.core.progress import progress
from facemodels.io.images import Picture, load_picture
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.landmark_check import LandmarkWarning, landmark_doubt
from facemodels.reconstruction.reconstructor import Reconstructor
from facemodels.reconstruction.views import scaled_box

GROUP = 8  # photographs
_GROUP_PIXELS = 32_000_000  # of a group; a photograph that is larger is a group of its own


def reconstruct_photos(
    worker: Reconstructor, photos: list[Path], names: dict[Clip, str], known: KnownFaces, writer: OutputWriter
) -> int:
    """Reconstruct the faces of photographs and write them.

    Args:
        worker: The method and the detector.
        photos: The photographs.
        names: What the names of each one's files begin with.
        known: Their known faces.
        writer: Where results go.

    Returns:
        How many photographs could not be read, have no face, or landmarks that cannot be right; each was named.
    """

    def failures() -> Iterator[int]:
        """Yield a number for each photograph, so that the progress counts photographs: a group's sum, then zeros."""
        for group in _groups(photos):
            yield _reconstruct_group(_for_group(worker, group), group, names, known, writer) if group else 1
            others = len(group) - 1
            del group  # its memory, before the next is read
            yield from [0] * others

    return sum(progress(failures(), "pictures", len(photos), quiet=len(photos) < 2, unit="picture"))


def _groups(photos: list[Path]) -> Iterator[dict[Path, Picture]]:
    """Read photographs, and yield those that go through the network together; an empty group is an unreadable one."""
    group: dict[Path, Picture] = {}
    for photo in photos:
        try:
            picture = load_picture(photo)
        except InputError as error:
            print_problem(error)
            yield {}
            continue
        pixels = sum(p.image.size // 3 for p in (*group.values(), picture))
        other = any(p.reduction != picture.reduction for p in group.values())
        if group and (len(group) == GROUP or pixels > _GROUP_PIXELS or other):
            yield group
            group = {}
        group[photo] = picture
        del picture
    if group:
        yield group


def _for_group(worker: Reconstructor, group: dict[Path, Picture]) -> Reconstructor:
    """The worker whose `smallest` counts pixels of pictures that were read reduced."""
    reduction = next(iter(group.values())).reduction
    if worker.smallest is None or reduction == 1:
        return worker
    own = copy.copy(worker)
    own.smallest = worker.smallest / reduction
    return own


def _reconstruct_group(
    worker: Reconstructor,
    pictures: dict[Path, Picture],
    names: dict[Clip, str],
    known: KnownFaces,
    writer: OutputWriter,
) -> int:
    start = time.perf_counter()
    boxes: dict[Path, list[Box] | None] = {}
    landmarks: dict[Path, list[np.ndarray] | None] = {}
    for photo, (image, reduction) in pictures.items():
        try:
            height, width = (side * reduction for side in image.shape[:2])
            points = known.landmarks(photo, (height, width))
            landmarks[photo] = None if points is None else [p / reduction for p in points]
            given = known.boxes(photo)
            boxes[photo] = None if given is None else [scaled_box(box, 1 / reduction) for box in given]
        except InputError as error:
            print_problem(error)
    images = {photo: pictures[photo].image for photo in boxes}
    failures = len(pictures) - len(images)
    if not images:
        return failures
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LandmarkWarning)  # said below, with the names of the files
            found = worker(list(images.values()), [boxes[p] for p in images], [landmarks[p] for p in images])
    except InputError as error:
        if len(images) > 1:  # it is about one of them: they are done one by one
            return failures + sum(
                _reconstruct_group(worker, {photo: pictures[photo]}, names, known, writer) for photo in images
            )
        photo = next(iter(images))
        file = known.boxes_file if boxes[photo] is not None else None
        file = known.landmark_file(photo) if landmarks[photo] is not None else file
        print_problem(f"{photo}: {error}" + (f" ({file})" if file is not None else ""))
        return failures + 1
    for (photo, image), faces in zip(images.items(), found):
        if not faces and boxes[photo] == [] and landmarks[photo] is None:
            print_problem(
                f"{photo}: {known.boxes_file} has an empty list of boxes for it; leave it out to detect faces"
            )
            failures += 1
            continue
        if not faces:
            print_problem(
                f"{photo}: no face was found; --threshold below {worker.threshold:g} finds less certain ones, "
                "--smallest smaller ones, and --boxes and --landmarks say where it is"
            )
            failures += 1
            continue
        try:
            paths = writer.write_photo(names[photo], image, faces, pictures[photo].reduction)
        except (InputError, OSError, UnicodeError) as error:
            print_problem(error, photo)
            failures += 1
            continue
        doubts = [doubt for pair in zip(faces, landmarks[photo] or ()) if (doubt := landmark_doubt(*pair))]
        for doubt in doubts:
            print_problem(f"{photo}: is done, but {doubt} ({known.landmark_file(photo)})")
        failures += bool(doubts)
        now = time.perf_counter()
        tqdm.write(f"{photo}: {_describe(faces)}; {now - start:.2f} s -> {path_list(paths)}{_note(pictures[photo])}")
        start = now
    return failures


def _note(picture: Picture) -> str:
    """What a user should know of how the picture was read."""
    if picture.reduction == 1:
        return ""
    return f"; read at 1/{picture.reduction} of its size, in which its pictures are drawn; numbers count its own pixels"


def _describe(faces: list[Face]) -> str:
    """The number of faces, and the score and pose of the first three."""
    angles = "; ".join(
        "score {:.2f} pitch {:.0f} yaw {:.0f} roll {:.0f}".format(f.score, *f.degrees) for f in faces[:3]
    )
    more = "; ..." if len(faces) > 3 else ""
    return f"{len(faces)} face{'s' if len(faces) > 1 else ''} ({angles}{more})"
