"""Videos, animations and webcams in, frame by frame, each frame with its time.

Videos are decoded by PyAV, animations (GIF, WebP, APNG, AVIF) by Pillow, webcams by OpenCV. Frames come as they are
shown: turned or mirrored, in square pixels, without interlacing, in sRGB.
"""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from facemodels.core.errors import InputError, one_line
from facemodels.io.files import no_such_file
from facemodels.io.images import animation_frames, is_animation
from facemodels.io.opacity import OpacityDecoder
from facerender._checks import brief_repr

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".mkv", ".webm", ".avi", ".wmv", ".asf", ".flv"),
    *(".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts", ".ogv", ".mxf", ".dv"),
)

_FRAME_RATE = 25.0  # where a file or camera declares none
_SLOWEST, _FASTEST = 0.01, 480.0  # frames per second
_GUESS = 240.0  # FFmpeg's guess where it knows nothing
_LONGEST = 36_000  # seconds from one frame to the next; more is a mistake of the file
_LAST = 10.0  # seconds that a last frame is shown, at most
_AHEAD = 4  # frames that are decoded before they are asked for
# What a file may be by its content. Playlists, which name other files and addresses, are none of them.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,live_flv,mpeg,mpegts,mpegvideo,ogg,mxf,mxf_opatom,dv,h264,hevc,"
    "ivf,nut,m4v,rm,wtv,swf,gif,apng,y4m,yuv4mpegpipe"
)
_BROADCAST = ("mpeg", "mpegts")  # formats with a clock of the sender
_LONGEST_SIDE = 16_384  # that H.264 can be written with
_MAX_PIXELS = 40_000_000  # of a frame: 8K has 33 million
_CLOCK = Fraction(1, 90_000)  # of webcams and animations

Item = TypeVar("Item")


@brief_repr
class VideoFrame(NamedTuple):
    """A frame of a video.

    Attributes:
        image: uint8 [h,w,3], sRGB.
        time: Seconds from the beginning of the video.
    """

    image: np.ndarray
    time: float


@dataclass
class Video:
    """An open video or webcam.

    Attributes:
        name: What to call it in messages.
        frames: Its frames. They raise `InputError` at their end if a part of the file is damaged or missing.
        rate: Mean number of frames per second.
        count: About how many frames there are; None where that is not known.
        time_base: All times are multiples of it, in seconds.
        aspect: Width by height of the pixels that the file stores, known from the first frame; frames have square ones.
        sound: The file that has its sound; None without sound.
        start: Seconds on the file's own clock where the time of the frames is 0.
        last: Seconds that the last frame is shown; known when the frames have been read.
        notes: What was done to the frames that a user should know of; complete when they have been read.
    """

    name: str
    frames: Iterator[VideoFrame]
    rate: float = _FRAME_RATE
    count: int | None = None
    time_base: Fraction = _CLOCK
    aspect: Fraction = Fraction(1)
    sound: Path | None = None
    start: float = 0.0
    last: float | None = None
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def close(self) -> None:
        """Let go of the file or camera, where its frames were not read to the end."""
        close = getattr(self.frames, "close", None)
        if close is not None:
            close()


def is_video(path: Path) -> bool:
    """Whether a file is a video by its name, or a picture that is an animation."""
    suffix = path.suffix.lower()
    if suffix == ".ts":  # the source code of another kind of program, too
        try:
            with open(path, "rb") as file:
                return file.read(1) == b"G"
        except OSError:
            return False
    return suffix in VIDEO_SUFFIXES or is_animation(path)


def open_video(clip: str | Path) -> Video:
    """Open a video, an animation or a webcam.

    Args:
        clip: The path of a video; or a string, "webcam" or "webcam:1": the number of a camera.

    Raises:
        InputError: Not a video, no such camera, or a package that is needed is not installed.
    """
    if isinstance(clip, str):
        return _open_webcam(int(clip.partition(":")[2] or 0))
    if is_animation(clip):
        return _open_animation(clip)
    return _open_file(clip)


def _open_animation(path: Path) -> Video:
    found = animation_frames(path)
    mean = found.seconds / max(1, found.length)
    video = Video(str(path), iter(()), 1 / mean if mean > 0 else _FRAME_RATE, found.length, Fraction(1, 1000))

    def frames() -> Iterator[VideoFrame]:
        now = 0.0
        for image, seconds in found.frames:
            _check_frame(path, image)
            yield VideoFrame(image, now)
            now, video.last = now + seconds, seconds

    video.frames = frames()
    return video


def _open_webcam(number: int) -> Video:
    try:
        import cv2
    except ImportError:
        raise InputError("webcam: needs OpenCV: pip install opencv-python") from None
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it reports every backend that it tries
    camera = cv2.VideoCapture(number)
    if not camera.isOpened():
        raise InputError(f"webcam:{number}: there is no such camera, or another program uses it")

    def frames() -> Iterator[VideoFrame]:
        start = None
        try:
            while (got := camera.read())[0]:
                now = time.monotonic()
                start = now if start is None else start
                yield VideoFrame(np.ascontiguousarray(got[1][..., ::-1]), now - start)
        finally:
            camera.release()

    rate = camera.get(cv2.CAP_PROP_FPS)
    return Video(f"webcam:{number}", frames(), rate if 1 <= rate <= 240 else _FRAME_RATE)


def _open_file(path: Path) -> Video:
    try:
        import av
    except ImportError:
        raise InputError(f'{path}: videos need PyAV: pip install "facerender[video]"') from None
    from facemodels.io.frames import FrameConverter

    if not path.exists():
        raise no_such_file(path)
    if not path.is_file() or path.stat().st_size == 0:
        raise InputError(f"{path}: not a readable video ({'an empty' if path.is_file() else 'not a'} file)")
    try:
        container = open_container(path)
    except Exception as error:  # whatever FFmpeg reports of a damaged file
        raise InputError(f"{path}: not a readable video ({_reason(error)})") from None
    stream = _best_stream(path, container)
    stream.thread_type = "AUTO"
    stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
    base = stream.time_base or _CLOCK
    # A recording of a browser declares no rate; 1000 is that of its clock.
    guessed = float(stream.guessed_rate or 0)
    average = float(stream.average_rate or 0)
    rate = average if _SLOWEST <= average <= _FASTEST else guessed if _SLOWEST <= guessed < _GUESS else None
    seconds = _declared_seconds(container, stream)
    begins = 0.0 if container.start_time is None else container.start_time / av.time_base
    video = Video(
        str(path),
        iter(()),
        rate or _FRAME_RATE,
        stream.frames or (round(rate * seconds) if rate and seconds and seconds < 1e6 else 0) or None,
        base,
        sound=path if container.streams.audio else None,
        # Small offsets are a file's own; a clock that runs since the camera was switched on is not.
        start=begins if abs(begins) > 1 or container.format.name in _BROADCAST else 0.0,
    )
    ends = None if stream.duration is None else float(((stream.start_time or 0) + stream.duration) * base)
    usual = 1 / (guessed if _SLOWEST <= guessed < _GUESS else video.rate)
    converter = FrameConverter(stream, video.note)
    decoder = _decoder(stream)

    def frames() -> Iterator[VideoFrame]:
        reader = _Reader(container, stream, decoder)
        number, last = 0, None
        # Decoding and conversion, each in a thread of its own.
        with container, closing(_in_thread(reader.frames)) as decoded:
            for frame in converter.convert(decoded):
                moment = None if frame.time is None else frame.time - video.start
                if moment is None or moment > (last or 0) + _LONGEST:
                    moment = 0.0 if last is None else last + usual
                elif last is not None and moment <= last:
                    moment = last + min(max(float(base), 1e-5), usual)
                moment = max(0.0, moment)
                number, last, video.aspect = number + 1, moment, converter.aspect
                yield VideoFrame(converter.to_array(frame), moment)
        # From here on the file is closed, and its stream must not be touched.
        if last is not None:
            # Where frames are stored in another order than they are shown, the stream's duration may be too short.
            known = (ends, reader.end, None if seconds is None else begins + seconds)
            left = (end - video.start - last for end in known if end is not None)
            video.last = next((time for time in left if usual / 4 < time <= _LAST), usual)
        if problem := reader.problem(seconds, video.count):
            video.last = usual
            raise InputError(f"{path}: " + problem.replace("{number}", str(number)))

    def checked() -> Iterator[VideoFrame]:
        number = 0
        try:
            for frame in frames():
                _check_frame(path, frame.image)
                number += 1
                yield frame
        except (av.FFmpegError, MemoryError) as error:  # a frame that no filter takes
            raise InputError(f"{path}: damaged after frame {number} ({_reason(error)})") from None

    video.frames = _in_thread(checked)
    return video


def _check_frame(path: Path, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    if max(height, width) > _LONGEST_SIDE or height * width > _MAX_PIXELS:
        raise InputError(
            f"{path}: expected frames of at most {_LONGEST_SIDE} pixels a side and {_MAX_PIXELS // 1_000_000} "
            f"megapixels, found {width} x {height}; make the video smaller"
        )


def open_container(path: Path | None) -> Any:
    """Open a file with PyAV, which raises what is wrong with it. It is read alone: no address, no other file."""
    import av

    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS, "max_pixels": str(_MAX_PIXELS)}
    return av.open(f"file:{path}", options=options, metadata_errors="replace")


def _best_stream(path: Path, container: Any) -> Any:
    """The stream of pictures of a file; the cover of a record is none."""
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        container.close()
        sound = "sound and " if container.streams.audio else ""
        raise InputError(f"{path}: not a readable video (it has {sound}no pictures)")
    usable = [s for s in streams if s.codec_context is not None]
    if not usable:
        container.close()
        raise InputError(f"{path}: not a readable video (there is no decoder for what it holds)")
    return max(usable, key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height))


def _decoder(stream: Any) -> Any:
    """What decodes the packets of a stream: itself, or for VP8 and VP9 with transparency a decoder of that."""
    said = {key.lower(): value for key, value in stream.metadata.items()}.get("alpha_mode")
    if said != "1" or stream.codec_context.codec.canonical_name not in ("vp8", "vp9"):
        return stream
    return OpacityDecoder(stream, {"max_pixels": str(_MAX_PIXELS)})


def _declared_seconds(container: Any, stream: Any) -> float | None:
    """How long a video says that it lasts; the sound may last longer or not as long."""
    import av

    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    said = stream.metadata.get("DURATION") or next((v for k, v in stream.metadata.items() if "DURATION-" in k), None)
    try:
        hours, minutes, seconds = str(said).split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        pass
    return None if container.duration is None or len(container.streams) > 1 else container.duration / av.time_base


class _Reader:
    """Decodes a stream as far as it can be, and knows what was wrong.

    Args:
        container: The open file.
        stream: Its stream of pictures.
        decoder: What decodes its packets: the stream itself, or a decoder.

    Attributes:
        end: Seconds on the file's clock where the last packet that was read ends.
    """

    def __init__(self, container: Any, stream: Any, decoder: Any) -> None:
        self._container, self._stream, self._decoder = container, stream, decoder
        self._broadcast = container.format.name in _BROADCAST
        self._declared, self._rate = stream.frames, float(stream.average_rate or 0)
        self._damaged = self._packets = 0
        self._error: Exception | None = None
        self.end = 0.0
        self._newest: float | None = None  # seconds, of the packet that is shown last
        self._gap = 0.0  # seconds, the longest from one packet to the next

    def frames(self) -> Iterator[Any]:
        """Iterate over PyAV's frames."""
        import av

        packets = self._container.demux(self._stream)
        failed_in_a_row = 0
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError, ValueError) as error:
                self._error = error
                failed_in_a_row += 1
                if failed_in_a_row > 1:  # a single damaged part may be passed over
                    yield from self._decoded(None)
                    return
                packets = self._container.demux(self._stream)
                continue
            if packet.size:
                failed_in_a_row = 0
                self._packets += 1
                if packet.pts is not None and packet.time_base:
                    shown = float(packet.pts * packet.time_base)
                    self.end = max(self.end, shown + float((packet.duration or 0) * packet.time_base))
                    self._gap = max(self._gap, shown - (shown if self._newest is None else self._newest))
                    self._newest = max(shown, self._newest or shown)
            if packet.is_corrupt and not self._broadcast:
                # The half packet at the end of a cut file: its error would come with the decoder's last good frames.
                self._damaged += 1
                continue
            yield from self._decoded(packet)

    def _decoded(self, packet: Any) -> list[Any]:
        import av

        try:
            return self._decoder.decode(packet)
        except EOFError:
            return []
        except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
            self._damaged += 1
            self._error = self._error or error
            return []

    def problem(self, seconds: float | None, count: int | None) -> str | None:
        """What was wrong, when all frames have been read; {number} stands for how many came."""
        if not self._packets or (self._damaged and self._damaged >= self._packets):
            return f"not a readable video ({_reason(self._error)})" if self._error else None
        missing = bool(seconds and self.end + self._gap < 0.9 * seconds - (2 / self._rate if self._rate else 0.1))
        if self._declared:  # the table of contents says it exactly; AVI counts frames that are only repeated
            missing = self._packets < 0.9 * self._declared - 2 and (missing or not seconds)
        if missing:  # FFmpeg reports no error where a file is cut off
            return f"ends after frame {{number}} of about {count}" if count else "ends early, after frame {number}"
        if self._damaged or self._error:
            parts = "a part of it is"
            if self._damaged:
                parts = f"{self._damaged} of its {self._packets} frames {'is' if self._damaged == 1 else 'are'}"
            return f"{parts} damaged" + (f" ({_reason(self._error)})" if self._error else "")
        return None


def _reason(error: Exception | None) -> str:
    """FFmpeg's word for an error, without the file's name, which the message has already."""
    text = str(getattr(error, "strerror", "") or "")
    return text or (one_line(error) if error is not None else "it holds no frames")


def _in_thread(produce: Callable[[], Iterator[Item]]) -> Generator[Item, None, None]:
    """Iterate in a thread of its own, a few items ahead: decoders release the interpreter."""
    items: queue.Queue[tuple[bool, Any]] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(item: tuple[bool, Any]) -> bool:
        while not stopped.is_set():
            try:
                items.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        source = produce()
        try:
            for item in source:
                if not put((True, item)):
                    return
            put((False, None))
        except BaseException as error:  # raised again where the items are used
            put((False, error))
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=run, daemon=True, name="video")
    thread.start()
    try:
        while True:
            more, item = items.get()
            if not more:
                if item is not None:
                    raise item
                return
            yield item
    finally:
        stopped.set()
        thread.join()
