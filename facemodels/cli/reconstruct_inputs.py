"""What `facemodels reconstruct` reads: pictures, folders, videos and webcams, and known boxes and landmarks."""

import os
import re
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from facemodels.core.crops import Box
from facemodels.io.boxes import read_boxes
from facemodels.io.files import no_such_file
from facemodels.io.images import PICTURE_SUFFIXES
from facemodels.io.landmarks import LANDMARK_SUFFIXES, check_inside, read_faces, sidecar
from facemodels.io.results import earlier_results, is_result
from facemodels.io.video import VIDEO_SUFFIXES, is_video

Clip: TypeAlias = Path | str  # a video, or the name of a webcam: "webcam", "webcam:1" ...


class Inputs(NamedTuple):
    """The inputs by kind.

    Attributes:
        photos: Pictures.
        clips: Videos and webcams.
        problems: A sentence for each input that is neither.
        notes: A sentence for each folder in which results of earlier runs, or files of other kinds, were passed over.
    """

    photos: list[Path]
    clips: list[Clip]
    problems: list[str]
    notes: list[str]


def sort_inputs(words: list[str]) -> Inputs:
    """Sort inputs into photographs and videos; folders are searched, in the order of the names in them.

    In folders, files that earlier runs have written are passed over.
    """
    found = Inputs([], [], [], [])
    for word in words:
        path = Path(word)
        if word == "webcam" or word.startswith("webcam:") and word[7:].isdigit():
            found.clips.append(word)
        elif not word:  # Path("") is the current folder
            found.problems.append("an input is empty, perhaps a variable of the shell that is not set")
        elif path.is_dir():
            _search(path, found)
        elif what := _unread(path):
            found.problems.append(f"{path}: expected a file or folder, found {what}")
        elif not path.is_file():
            found.problems.append(str(no_such_file(word, "file or folder")))
        elif is_video(path):
            found.clips.append(path)
        else:
            found.photos.append(path)
    return found._replace(photos=list(dict.fromkeys(found.photos)), clips=list(dict.fromkeys(found.clips)))


def _search(folder: Path, found: Inputs) -> None:
    """Add what is in a folder, and the folders in it, to the inputs that were found."""
    entries = [f for f in sorted(folder.rglob("*")) if not f.name.startswith(".")]
    others = [f"{f.relative_to(folder).as_posix()} ({what})" for f in entries if (what := _unread(f))]
    files = [f for f in entries if f.is_file()]
    known = {parent: earlier_results(parent) for parent in {f.parent for f in files}}
    results = {f for f in files if is_result(f, known[f.parent])}
    shown = sum(f.suffix.lower() in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES) for f in results)
    if shown:
        what, are = ("picture or video", "is") if shown == 1 else ("pictures or videos", "are")
        found.notes.append(f"{folder}: {shown} {what} that earlier runs wrote there {are} passed over")
    videos, pictures, rest = [], [], []
    for file in files:
        if file in results:
            continue
        if is_video(file):
            videos.append(file)
        elif file.suffix.lower() in PICTURE_SUFFIXES:
            pictures.append(file)
        else:
            rest.append(file)
    named = {f.with_suffix("") for f in pictures}  # landmarks lie beside their pictures
    others += [
        f.relative_to(folder).as_posix()
        for f in rest
        if f.suffix.lower() not in LANDMARK_SUFFIXES or f.with_suffix("") not in named
    ]
    found.photos.extend(pictures)
    found.clips.extend(videos)
    if not pictures and not videos:
        held = f"; it holds {_first(others)}" if others else ""
        found.problems.append(f"{folder}: a folder without pictures (.jpg, .png, ...) or videos (.mp4, ...){held}")
    elif others:
        found.notes.append(f"{folder}: passed over: {_first(others)}")


def _unread(path: Path) -> str | None:
    """What a path is that is neither a file nor a folder that can be searched, for messages; None for these."""
    if path.is_symlink() and not path.exists():
        return "a broken link"
    if path.is_dir():
        if path.is_symlink():
            return "a link to a folder"
        return None if os.access(path, os.R_OK | os.X_OK) else "a folder that may not be read"
    if path.is_fifo():
        return "a pipe"
    if path.is_socket():
        return "a socket"
    if path.is_char_device() or path.is_block_device():
        return "a device"
    return None


def _first(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def unique_names(inputs: list[Clip], folder: Path) -> dict[Clip, str]:
    """The names that the files of each input begin with.

    An input's name is that of its file without the suffix; with the suffix where two would be the same, or a result
    could have the name of an input; and with a number after it where that is not enough.

    Args:
        inputs: The inputs.
        folder: Where the results go.
    """
    inside = folder.resolve()
    files = [p.name.casefold() for p in inputs if isinstance(p, Path) and p.resolve().parent == inside]

    def is_free(name: str) -> bool:
        result = re.compile(re.escape(name.casefold()) + r"_(\d+(_.*)?|[a-z]+)\.\w+")
        return name.casefold() not in taken and not any(map(result.fullmatch, files))

    stems = [Path(str(p).replace(":", "_")).stem for p in inputs]
    folded = [stem.casefold() for stem in stems]  # file systems may not tell the cases apart
    names: dict[Clip, str] = {}
    taken: set[str] = set()
    for path, stem in zip(inputs, stems):
        base = stem if folded.count(stem.casefold()) == 1 and is_free(stem) else Path(str(path)).name
        name, number = base, 2
        while not is_free(name):
            name, number = f"{base}-{number}", number + 1
        taken.add(name.casefold())
        names[path] = name
    return names


class KnownFaces:
    """Landmarks and boxes of faces that need not be detected.

    Args:
        landmarks: The landmark file of a photograph, or a folder with a file named as each photograph.
        boxes: A JSON file with the boxes of photographs: {"photo.jpg": [[x0, y0, x1, y1], ...]}, pixels.

    Attributes:
        boxes_file: As given.

    Raises:
        InputError: A file is missing or is not what it should be.
    """

    def __init__(self, landmarks: Path | None, boxes: Path | None) -> None:
        if landmarks is not None and not landmarks.exists():
            raise no_such_file(landmarks, "landmark file or folder")
        self._landmarks = landmarks
        self.boxes_file = boxes
        self._boxes = None if boxes is None else read_boxes(boxes)

    def landmarks(self, photo: Path, size: tuple[int, int]) -> list[np.ndarray] | None:
        """The landmarks [L,2] of each of a photograph's faces; None where they are not known.

        Args:
            photo: The photograph.
            size: Its (H, W).

        Raises:
            InputError: They cannot be read, or lie outside the photograph.
        """
        file = self.landmark_file(photo)
        if file is None:
            return None
        faces = [face.points for face in read_faces(file, size=size, photo=photo)]
        for points in faces:
            check_inside(points, size, file)
        return faces

    def boxes(self, photo: Path) -> list[Box] | None:
        """The boxes of a photograph's faces; None where they are not known."""
        return None if self._boxes is None else self._boxes.get(photo.name, self._boxes.get(str(photo)))

    def is_unknown(self, photo: Path) -> bool:
        """Whether a photograph's faces must be detected."""
        return self.boxes(photo) is None and self.landmark_file(photo) is None

    def unmatched(self, photos: list[Path]) -> list[str]:
        """The names in the file of boxes that no photograph has."""
        return [name for name in self._boxes or () if not any(name in (photo.name, str(photo)) for photo in photos)]

    def lacking(self, photos: list[Path]) -> list[Path]:
        """The photographs for which the folder of landmarks has no file."""
        if self._landmarks is None or not self._landmarks.is_dir():
            return []
        return [photo for photo in photos if self.landmark_file(photo) is None]

    def landmark_file(self, photo: Path) -> Path | None:
        """The file with a photograph's landmarks; None without."""
        if self._landmarks is not None and self._landmarks.is_dir():
            return sidecar(self._landmarks / photo.name)
        return self._landmarks
