"""Videos and webcams in, videos out: frames one after the other, through ffmpeg as imageio carries it; cameras through OpenCV."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio.v2
import numpy as np

from facemodels.core.errors import InputError, one_line


def crop_to_even(picture: np.ndarray) -> np.ndarray:
    """With an even number of rows and columns, as the video codec wants it."""
    return picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]


def open_video(clip) -> tuple[float, int | None, Iterator[np.ndarray]]:
    """(frames a second, about how many or None, frames uint8 [h,w,3]).

    Raises:
        InputError: not a video, ffmpeg or OpenCV is needed and missing; while it is read: where it is damaged, and at its end where a tenth of it or more is missing.
    """
    if isinstance(clip, str):
        return _webcam(int(clip.partition(":")[2] or 0))
    video = None
    try:
        video = imageio.v2.get_reader(
            clip, format="FFMPEG"
        )  # the newer interface would start ffmpeg twice, and wait for the end of the first
        about = video.get_meta_data()
    except ImportError:
        raise InputError(f"{clip}: videos need ffmpeg: pip install imageio-ffmpeg") from None
    except Exception as error:  # whatever ffmpeg's reader throws at a damaged file
        if video is not None:
            video.close()
        raise InputError(f"{clip}: not a readable video ({one_line(error)})") from None
    rate, seconds = float(about.get("fps") or 25.0), float(about.get("duration") or 0)

    def frames():
        number = 0
        try:
            with video:
                for number, frame in enumerate(video.iter_data(), 1):
                    yield np.asarray(frame)
        except Exception as error:
            raise InputError(f"{clip}: damaged after frame {number} ({one_line(error)})") from None

        if count and number < 0.9 * count - 2:  # ffmpeg ends without a word where a file is cut off
            raise InputError(f"{clip}: ends after frame {number} of about {count}")

    count = round(rate * seconds) or None
    return rate, count, frames()


def _webcam(number: int):
    try:
        import cv2
    except ImportError:
        raise InputError("webcam: needs OpenCV: pip install opencv-python") from None
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it would tell of every way it has tried
    camera = cv2.VideoCapture(number)
    if not camera.isOpened():
        raise InputError(f"webcam:{number}: there is no such camera, or another program uses it")

    def frames():
        try:
            while (got := camera.read())[0]:
                yield np.ascontiguousarray(got[1][..., ::-1])
        finally:
            camera.release()

    rate = camera.get(cv2.CAP_PROP_FPS)
    return (rate if 1 <= rate <= 240 else 25.0), None, frames()


@contextmanager
def video_writers(paths: list[Path], rate: float):
    """Video files to append frames to; under their names only when complete."""
    parts = [p.with_name(f".{p.stem}.{os.getpid()}.part.mp4") for p in paths]
    out = []
    try:
        out = [
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
        yield out
        for writer in out:
            writer.close()
        for part, path in zip(parts, paths):
            if part.is_file():
                os.replace(part, path)
    finally:
        for writer in out:
            writer.close()
        for part in parts:
            part.unlink(missing_ok=True)


VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
