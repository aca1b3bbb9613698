"""The videos and webcams of `facemodels reconstruct`.

A video is passed over twice: its faces are followed through all frames and smoothed, then they are drawn and written.
"""

import functools
import itertools
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from tqdm import tqdm

from facemodels.cli.reconstruct_inputs import Clip
from facemodels.cli.reconstruct_outputs import OutputWriter, path_list, print_problem
from facemodels.core.errors import InputError
from facemodels.core.progress import progress
from facemodels.io.video import Video, VideoFrame, open_video
from facemodels.io.video_writer import video_writers
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.reconstructor import Reconstructor
from facemodels.reconstruction.texture import photo_texture
from facemodels.reconstruction.tracking import smoothed

# Outputs that show one frame, that of the texture; the others have a row for each frame.
_ONE_FRAME = ("obj", "ply", "glb", "viewer", "texture")
_MIN_FRAMES = 5  # of a face: what is found in fewer frames is seldom one
_BUFFER_BYTES = 256 << 20


def reconstruct_video(
    worker: Reconstructor,
    clip: Clip,
    name: str,
    writer: OutputWriter,
    every: int,
    deviation: float,
    person: int | None = None,
) -> bool:
    """Reconstruct the faces of a video or webcam and write them.

    Args:
        worker: The method and the detector.
        clip: The video or webcam. A webcam is recorded first, until Ctrl-C.
        name: What the names of its files begin with.
        writer: Where results go.
        every: Frames from one search for faces to the next.
        deviation: Standard deviation of the temporal filter in frames; 0 for none.
        person: The number of the person who is written alone; None: all are.

    Returns:
        Whether all of it was read and has a face; else the reason was printed, and what was read before is done.

    Raises:
        InputError: The video cannot be opened.
    """
    start = time.perf_counter()
    if isinstance(clip, str):
        name = _unused_name(writer.folder, name)
        clip = record(clip, writer.folder / f"{name}.mp4")
    video = open_video(clip)
    buffer, found, problem = FrameBuffer(), [], None
    with closing(video):
        try:
            following = worker.follow(buffer.through(video.frames), every)
            for faces in progress(following, f"{name}: finding faces", video.count, unit="frame"):
                found.append(faces)
        except InputError as error:
            problem = error
    if problem is not None or not found:
        done = f"the {len(found)} frames that were read are done" if found else "it has no readable frame"
        print_problem(done if problem is None else f"{problem}; {done}", clip)
    tracks = frequent_tracks(found)
    if not tracks:
        if found:
            print_problem(f"{clip}: no face was found in {len(found)} frames")
        return False
    numbers = dict(enumerate(sorted(tracks)))
    if person is not None:
        if person not in numbers:
            known = "person 0 alone" if len(numbers) == 1 else f"persons 0 to {len(numbers) - 1}"
            print_problem(f"{clip}: has {known}, and not {person} (--person)")
            return False
        numbers = {person: numbers[person]}
    found = smoothed([[f for f in faces if f.track in numbers.values()] for faces in found], deviation)
    people = {number: _Person(track, found, buffer.times, writer) for number, track in numbers.items()}
    paths = [writer.folder / f"{name}_{word}.mp4" for word in writer.pictures]
    if paths or writer.files:
        again = buffer.frames or open_video(clip).frames
        _draw(itertools.islice(again, len(found)), found, list(people.values()), paths, video, name, writer)
    for number, one in people.items():
        paths += one.write(f"{name}_{number}", writer)
    writer.count += len(paths)
    seconds = time.perf_counter() - start
    tqdm.write(
        f"{clip}: {len(people)} face{'s' if len(people) > 1 else ''} in {len(found)} frames; "
        f"{seconds:.1f} s, {len(found) / seconds:.1f} frames/s -> {path_list(paths)}"
        + "".join(f"; {note}" for note in video.notes)
    )
    return problem is None


class _Person:
    """One face of a video over its frames.

    Args:
        track: Its track.
        found: The faces of each frame.
        times: Seconds of each frame.
        writer: What transfers its faces to another model.

    Attributes:
        track: Its track.
        faces: By the number of the frame, its face as it is written.
        best: The frame that its texture is taken from: where it looks at the camera and is large.
        image: That frame, uint8 [h,w,3]; set when the frames are drawn, before files are written.
    """

    image: np.ndarray

    def __init__(self, track: int, found: list[list[Face]], times: list[float], writer: OutputWriter) -> None:
        self.track, self.times = track, times
        own = {k: f for k, faces in enumerate(found) for f in faces if f.track == track}
        self.best = max(own, key=lambda k: own[k].scale * float(own[k].rotation[2, 2]))
        self.faces = dict(zip(own, writer.transfer(list(own.values()))))

    def write(self, name: str, writer: OutputWriter) -> list[Path]:
        """Write its files."""
        face = self.faces[self.best]
        texture = functools.cache(lambda: photo_texture(self.image, face, writer.model))
        paths = []
        for word in writer.files:
            shown = {self.best: face} if word in _ONE_FRAME else self.faces
            times = [self.times[k] for k in shown]
            paths += writer.write_face(word, name, list(shown.values()), list(shown), texture, times)
        return paths


def _draw(
    frames: Iterable[VideoFrame],
    found: list[list[Face]],
    people: list[_Person],
    paths: list[Path],
    source: Video,
    name: str,
    writer: OutputWriter,
) -> None:
    """Draw the frames into videos, and keep those that textures are taken from."""
    by_track: dict[int | None, _Person] = {person.track: person for person in people}
    with video_writers(paths, source) as videos:
        shown = progress(frames, f"{name}: drawing", len(found), unit="frame")
        for k, (frame, time_of_frame) in enumerate(shown):
            faces = [by_track[f.track].faces[k] for f in found[k]]
            for word, video in zip(writer.pictures, videos):
                video.append(writer.draw(word, frame, faces), time_of_frame)
            for person in people:
                if k == person.best:
                    person.image = frame


class FrameBuffer:
    """Keeps the frames that pass through it, all of them while they fit, else none: a short video is decoded once.

    Args:
        room: Bytes that the frames may take.

    Attributes:
        frames: The frames.
        times: Seconds of all frames, whether they are kept or not.
    """

    def __init__(self, room: int = _BUFFER_BYTES) -> None:
        self.room = room
        self.frames: list[VideoFrame] = []
        self.times: list[float] = []

    def through(self, frames: Iterable[VideoFrame]) -> Iterator[np.ndarray]:
        """Pass the pictures of frames on."""
        for frame in frames:
            self.times.append(frame.time)
            self.room -= frame.image.nbytes
            if self.room < 0:
                self.frames.clear()
            else:
                self.frames.append(frame)
            yield frame.image


def _unused_name(folder: Path, name: str) -> str:
    """The name for a recording: with a number behind it where there is one, which cannot be made again."""
    free, number = name, 2
    while (folder / f"{free}.mp4").exists():
        free, number = f"{name}-{number}", number + 1
    return free


def record(camera: str, path: Path) -> Path:
    """Record a webcam until Ctrl-C.

    Args:
        camera: The name of the webcam.
        path: The video file to write.

    Raises:
        InputError: There is no such camera, or it sends no frames.
    """
    source = open_video(camera)
    with video_writers([path], source) as (video,):
        try:
            for frame in progress(source.frames, f"{camera}: recording, Ctrl-C ends it", unit="frame"):
                video.append(*frame)
        except KeyboardInterrupt:
            pass
    if not path.is_file():
        raise InputError(f"{camera}: no frames received")
    return path


def frequent_tracks(found: list[list[Face]]) -> set[int]:
    """The tracks that are in at least five frames, or in all where there are fewer."""
    counts: dict[int, int] = {}
    for faces in found:
        for face in faces:
            if face.track is not None:
                counts[face.track] = counts.get(face.track, 0) + 1
    return {track for track, count in counts.items() if count >= min(_MIN_FRAMES, len(found))}
