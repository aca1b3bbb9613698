"""Videos of people, for methods that compare frames of one face: the person in a frame is known, and little else."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from facemodels.core.crops import Box, landmark_box
from facemodels.core.errors import InputError, one_line
from facemodels.core.landmarks import COUNTS
from facemodels.data import FaceBatch
from facemodels.data.cache import Sample, Samples, SampleSource, collect_samples, load_in_threads, name_list
from facemodels.data.folder import check_one_kind, face_sample
from facemodels.io.images import PICTURE_SUFFIXES, read_picture
from facemodels.io.landmarks import check_inside, read_landmarks, sidecar
from facemodels.io.video import VIDEO_SUFFIXES, is_video, open_video

# Takes an image uint8 [h,w,3] and returns the box of its face, or None.
Detector: TypeAlias = Callable[[np.ndarray], Box | None]


def videos(
    path: str | Path, size: int = 120, every: int = 1, limit: int | None = None, cache: str | Path | None = None
) -> FaceBatch:
    """Read frames of a folder that has, for each person, one video file or one subfolder of frames or of videos.

    Landmarks stand in NAME.npy [T,L,2] beside the video NAME.mp4 or the folder NAME of T frames, NaN where a frame has
    none, or in a landmark file beside each picture; L = 68, 21 or 5, the same for all. Frames are then cropped by
    `landmark_box`, and those without landmarks are left out. Frames of videos without any landmark file are cropped to
    the square in the middle, and a warning names these videos. Frames and videos that are damaged are left out, with a
    warning that names them.

    Args:
        path: the folder, or one video file, of one person.
        size: side of the crops in pixels.
        every: takes the frames 0, every, 2 every, ... of a video.
        limit: most frames of a video; None for all.
        cache: see `collect_samples`.

    Returns:
        Images uint8 [N,3,size,size] with `person` [N], numbered by name, and `landmarks` [N,L,2] and `visible` where
        there are any.

    Raises:
        InputError: there is no such folder or nothing in it, landmarks are of different kinds, no frame can be used, or
            ffmpeg is needed and missing.
    """
    found, source = open_clips(path, size, every, limit)
    faces = collect_samples(str(path), *source, cache)
    faces.person = torch.tensor([person for person, _ in found])[split_clip_ids(faces)[0]]
    return faces


def open_clips(
    path: str | Path, size: int, every: int, limit: int | None, detect: Detector | None = None
) -> tuple[list[tuple[int, "Clip"]], SampleSource]:
    """Find the clips of a folder. Warnings are for the caller's caller.

    Args:
        path: as for `videos`.
        size: side of the crops in pixels.
        every: as for `videos`.
        limit: as for `videos`.
        detect: crops frames by a detector instead of by landmarks or to the middle; see `facemodels.data.clips.clips`.

    Returns:
        The clips, each with the number of its person, and the source of their frames for `collect_samples`.
        `split_clip_ids` tells of the collected frames which is which.

    Raises:
        InputError: as `videos`.
    """
    path = Path(path)
    if every < 1 or (limit is not None and limit < 1):
        raise InputError(f"every and limit must be at least 1, got {every} and {limit}")
    if path.is_dir():
        entries, root = sorted(path.iterdir()), path
    elif path.is_file() and is_video(path):
        entries, root = [path], path.parent
    else:
        raise InputError(f"{path}: there is no such folder, and no such video ({', '.join(VIDEO_SUFFIXES)})")
    people = [of_person for entry in entries if (of_person := _clips(entry, root))]
    clips = [(person, clip) for person, of_person in enumerate(people) for clip in of_person]
    if not clips:
        raise InputError(
            f"{path}: expected video files ({', '.join(VIDEO_SUFFIXES)}), or folders of frames or of videos, "
            "one for each person"
        )
    if not detect and (bare := [clip.name for _, clip in clips if not clip.has_landmarks]):
        warnings.warn(
            f"{path}: {len(bare)} of {len(clips)} videos have no landmarks beside them "
            f"and are cropped to the square in the middle: {name_list(bare)}",
            stacklevel=3,
        )

    def samples() -> Samples:
        marks = [_landmarks(clip) if clip.has_landmarks else None for _, clip in clips]
        counts = {clip.name: len(p) for (_, clip), m in zip(clips, marks) for p in m or () if isinstance(p, np.ndarray)}
        check_one_kind(path, counts)
        unlabeled = np.full((next(iter(counts.values())), 2), np.nan, np.float32) if counts else None
        for which, ((_, clip), mine) in enumerate(zip(clips, marks)):
            for number, image in _frames(clip, every, limit, mine):
                name = f"{clip.name}, frame {number}"
                try:
                    if isinstance(image, InputError):
                        raise image
                    points = (
                        None if mine is None else mine[number] if mine else InputError(f"{name}: it has no landmarks")
                    )
                    sample = _sample(name, image, points, unlabeled, size, detect)
                    yield name, sample | {"person": np.int64(which << 32 | number)}
                except InputError as error:
                    yield name, error

    files = [file for _, clip in clips for file in (*clip.frames, clip.table, *clip.each) if file]
    detector = detect and f"{detect.__module__}.{getattr(detect, '__qualname__', type(detect).__qualname__)}"
    settings = {"source": "videos", "size": size, "every": every, "limit": limit, "detect": detector}
    return clips, SampleSource(files, settings, samples)


def split_clip_ids(faces: FaceBatch) -> tuple[Tensor, Tensor]:
    """Return which clip a face is of, int64 [N], and which of its frames, int64 [N].

    Args:
        faces: as collected from `open_clips`, which puts both numbers into `person`.
    """
    assert faces.person is not None
    return faces.person >> 32, faces.person & 0xFFFFFFFF


class Clip(NamedTuple):
    """A video of one person.

    Attributes:
        name: its path below the folder.
        frames: one video file, or pictures in order.
        table: a file with the landmarks of all frames, or None.
        each: a landmark file, or None, for each picture.
    """

    name: str
    frames: tuple[Path, ...]
    table: Path | None
    each: tuple[Path | None, ...] = ()

    @property
    def has_landmarks(self) -> bool:
        """Whether there is any landmark file."""
        return self.table is not None or any(self.each)


def _clips(entry: Path, root: Path) -> list[Clip]:
    """Find the videos in a person's file or folder."""
    if entry.name.startswith("."):
        return []
    name, clips = str(entry.relative_to(root)), []
    if entry.is_dir():
        inside = [f for f in sorted(entry.iterdir()) if f.is_file() and not f.name.startswith(".")]
        if pictures := tuple(f for f in inside if f.suffix.lower() in PICTURE_SUFFIXES and not is_video(f)):
            table = entry.with_name(entry.name + ".npy")
            clips.append(
                Clip(name, pictures, table)
                if table.is_file()
                else Clip(name, pictures, None, tuple(map(sidecar, pictures)))
            )
        clips += [clip for file in inside for clip in _clips(file, root)]
    elif is_video(entry):
        table = entry.with_suffix(".npy")
        clips.append(Clip(name, (entry,), table if table.is_file() else None))
    return clips


def _landmarks(clip: Clip) -> list[np.ndarray | InputError]:
    """Read the landmarks of each frame [L,2], or the reason why it has none.

    One InputError alone where the table cannot be read, so that no frame has landmarks.
    """
    if clip.table is None:
        found: list[np.ndarray | InputError] = []
        for picture, marks in zip(clip.frames, clip.each):
            try:
                found.append(
                    read_landmarks(marks).points
                    if marks
                    else InputError(f"{picture}: there is no landmark file beside it")
                )
            except InputError as error:
                found.append(error)
        return found
    try:
        with open(clip.table, "rb") as file:
            table = np.load(file, allow_pickle=False)
    except Exception as error:  # whatever numpy throws at a damaged or pickled file
        return [InputError(f"{clip.table}: not a readable .npy file of numbers ({one_line(error)})")]
    if (
        not isinstance(table, np.ndarray)
        or table.ndim != 3
        or table.shape[1] not in COUNTS
        or table.shape[2] not in (2, 3)
        or table.dtype.kind not in "fiu"
    ):
        what = f"{table.dtype} {list(table.shape)}" if isinstance(table, np.ndarray) else "an archive"
        return [
            InputError(
                f"{clip.table}: expected the landmarks of all frames, [T,L,2] with L = 68, 21 or 5, found {what}"
            )
        ]
    return list(table[..., :2].astype(np.float32))


def _frames(
    clip: Clip, every: int, limit: int | None, marks: list[np.ndarray | InputError] | None
) -> Iterator[tuple[int, np.ndarray | InputError]]:
    """Iterate over (number, uint8 [h,w,3]) of the frames that are taken.

    A damaged frame gives an InputError instead; from where the video or its landmarks are damaged, one does for the
    rest.
    """
    if marks and len(marks) == 1 and isinstance(marks[0], InputError) and clip.table:
        yield 0, marks[0]
        return
    if not is_video(clip.frames[0]):
        if marks and len(marks) != len(clip.frames):
            yield (
                0,
                InputError(f"{clip.table}: landmarks of {len(marks)} frames, and the folder has {len(clip.frames)}"),
            )
            return
        yield from load_in_threads(
            list(range(len(clip.frames)))[::every][:limit], lambda number: read_picture(clip.frames[number]), clip.name
        )
        return
    number = -1
    try:
        for number, frame in enumerate(open_video(clip.frames[0]).frames):
            if limit is not None and number >= every * limit:
                return
            if marks and number >= len(marks):
                break
            if number % every == 0:
                yield number, frame.image
    except InputError as error:
        yield number + 1, error
        return
    if marks and number + 1 != len(marks):
        yield (
            number + 1,
            InputError(
                f"{clip.table}: landmarks of {len(marks)} frames, and the video has "
                f"{'more' if number >= len(marks) else number + 1}"
            ),
        )


def _sample(
    name: str,
    image: np.ndarray,
    points: np.ndarray | InputError | None,
    unlabeled: np.ndarray | None,
    size: int,
    detect: Detector | None,
) -> Sample:
    """Crop a frame.

    Args:
        name: names the frame in messages.
        image: uint8 [h,w,3].
        points: landmarks [L,2], or why there are none; None for a video without landmarks.
        unlabeled: [L,2] of NaN, for frames without landmarks; None where no video has any.
        size: side of the crop in pixels.
        detect: the detector, or None.
    """
    marks = points if isinstance(points, np.ndarray) and (~np.isnan(points).any(1)).sum() >= 2 else None
    if marks is not None:
        check_inside(marks, image.shape[:2], name)
    if detect:
        box = detect(image)
        if box is None:
            raise InputError(f"{name}: no face was found")
        x0, y0, x1, y1 = map(float, box)
        box = _square(x0, y0, x1, y1)
    elif marks is not None:
        box = landmark_box(marks)
    elif points is None:
        box = _square(0, 0, image.shape[1], image.shape[0], min)
    else:
        raise points if isinstance(points, InputError) else InputError(f"{name}: it has no landmarks")
    if unlabeled is None:
        return {"image": face_sample(name, image, np.zeros((0, 2)), box, size)["image"]}
    return face_sample(name, image, unlabeled if marks is None else marks, box, size)


def _square(x0: float, y0: float, x1: float, y1: float, which: Callable[[float, float], float] = max) -> Box:
    """The square of a box's longer (or, with min, shorter) side about its center."""
    side = which(x1 - x0, y1 - y0)
    return (x0 + x1 - side) / 2, (y0 + y1 - side) / 2, (x0 + x1 + side) / 2, (y0 + y1 + side) / 2
