"""Videos and webcams in, videos out, frame by frame: videos through imageio's ffmpeg, webcams through OpenCV."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imageio.v2
import numpy as np

from facemodels.core.errors import InputError, one_line

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")

# Frames per second, about how many frames there are or None, and the frames, uint8 [h,w,3].
Video = tuple[float, int | None, Iterator[np.ndarray]]

_FRAME_RATE = 25.0  # where a file or camera declares none


def open_video(clip: str | Path) -> Video:
    """Open a video or a webcam.

    Args:
        clip: the path of a video; or a string, "webcam" or "webcam:1": the number of a camera.

    Returns:
        The `Video`. Its frames raise `InputError` where the file is damaged, and at its end if at least a tenth of it
        is missing.

    Raises:
        InputError: not a video, no such camera, or ffmpeg or OpenCV is needed and not installed.
    """
    if isinstance(clip, str):
        return _open_webcam(int(clip.partition(":")[2] or 0))
    video: Any = None
    try:
        # imageio's v3 interface would start ffmpeg twice, and wait for the first to end.
        video = imageio.v2.get_reader(clip, format="FFMPEG")
        about = video.get_meta_data()
    except ImportError:
        raise InputError(f"{clip}: videos need ffmpeg: pip install imageio-ffmpeg") from None
    except Exception as error:  # whatever ffmpeg's reader raises on a damaged file
        if video is not None:
            video.close()
        raise InputError(f"{clip}: not a readable video ({one_line(error)})") from None
    rate, seconds = float(about.get("fps") or _FRAME_RATE), float(about.get("duration") or 0)
    count = round(rate * seconds) or None

    def frames() -> Iterator[np.ndarray]:
        number = 0
        try:
            with video:
                for frame in video.iter_data():
                    number += 1
                    yield np.asarray(frame)
        except Exception as error:
            raise InputError(f"{clip}: damaged after frame {number} ({one_line(error)})") from None

        if count and number < 0.9 * count - 2:  # ffmpeg reports no error where a file is cut off
            raise InputError(f"{clip}: ends after frame {number} of about {count}")

    return rate, count, frames()


def _open_webcam(number: int) -> Video:
    try:
        import cv2
    except ImportError:
        raise InputError("webcam: needs OpenCV: pip install opencv-python") from None
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it reports every backend that it tries
    camera = cv2.VideoCapture(number)
    if not camera.isOpened():
        raise InputError(f"webcam:{number}: there is no such camera, or another program uses it")

    def frames() -> Iterator[np.ndarray]:
        try:
            while (got := camera.read())[0]:
                yield np.ascontiguousarray(got[1][..., ::-1])
        finally:
            camera.release()

    rate = camera.get(cv2.CAP_PROP_FPS)
    return (rate if 1 <= rate <= 240 else _FRAME_RATE), None, frames()


def crop_to_even(picture: np.ndarray) -> np.ndarray:
    """The picture [h,w,3] without the last row or column if their number is odd: the video codec needs even sizes."""
    return picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]


@contextmanager
def video_writers(paths: list[Path], rate: float) -> Iterator[list[Any]]:
    """Open video files for writing, all at the same frame rate; they get their names only when complete.

    Args:
        paths: .mp4 files.
        rate: frames per second.

    Yields:
        imageio's writers; `append_data(frame)` adds a frame, uint8 [h,w,3] of even sides.
    """
    parts = [p.with_name(f".{p.stem}.{os.getpid()}.part.mp4") for p in paths]
    writers: list[Any] = []
    try:
        writers = [
            imageio.v2.get_writer(
                part,
                format="FFMPEG",
                fps=rate,
                codec="libx264",
                quality=8,
                macro_block_size=2,
                output_params=["-preset", "veryfast"],
            )
            for part in parts
        ]
        yield writers
        for writer in writers:
            writer.close()
        for part, path in zip(parts, paths):
            if part.is_file():
                os.replace(part, path)
    finally:
        for writer in writers:
            writer.close()
        for part in parts:
            part.unlink(missing_ok=True)
