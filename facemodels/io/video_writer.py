"""Videos out: H.264 in .mp4, at the times of the video that they are made of, with its sound and pixel aspect ratio."""

import os
import queue
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from facemodels.core.errors import InputError, one_line
from facemodels.io.files import finish, part_path
from facemodels.io.frames import FLAGS, is_hd, linked_graph
from facemodels.io.video import Video, open_container

# Sound that .mp4 holds and players play; other sound is encoded anew.
_COPIED = ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac")
# As exact as "veryfast" at 10 in half the time, in files half as large again; without B-frames, which blur where a
# track ends.
_OPTIONS = {"crf": "14", "preset": "ultrafast", "bf": "0"}
_AHEAD = 4  # frames that wait for the encoder
_BT709, _BT601 = 1, 6  # FFmpeg's numbers of matrices


@contextmanager
def video_writers(paths: list[Path], source: Video) -> Iterator[list["VideoWriter"]]:
    """Open video files for writing; they get their names only when all are complete.

    Args:
        paths: .mp4 files.
        source: The video that they are made of: its times, pixel aspect ratio and sound become theirs.

    Raises:
        InputError: A file cannot be written.
    """
    parts = [part_path(path, ".mp4") for path in paths]
    try:
        with ExitStack() as stack:
            writers = [VideoWriter(part, path, source) for part, path in zip(parts, paths)]
            for writer in writers:
                stack.callback(writer.abandon)
            yield writers
            for writer in writers:
                writer.close()
        for part, path in zip(parts, paths):
            if part.is_file():
                finish(part, path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


class VideoWriter:
    """Encodes one video in a thread of its own: encoders release the interpreter.

    Args:
        part: The file to write.
        path: What it will be called, for messages.
        source: See `video_writers`.
    """

    def __init__(self, part: Path, path: Path, source: Video) -> None:
        self._part, self._path, self._source = part, path, source
        self._frames: queue.Queue[tuple[np.ndarray, float] | None] = queue.Queue(_AHEAD)
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def append(self, image: np.ndarray, time: float) -> None:
        """Add a frame; its last row or column is left out where their number is odd.

        Args:
            image: uint8 [h,w,3], sRGB, of the same size each time.
            time: Seconds from the beginning; later than that of the frame before.

        Raises:
            InputError: The file cannot be written.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="video writer")
            self._thread.start()
        self._put((image, time))

    def close(self) -> None:
        """Write what is left; without a frame there is no file.

        Raises:
            InputError: The file cannot be written.
        """
        if self._thread is not None and not self._stopped:
            self._put(None)
            self._thread.join()
            self._stopped = True
            self._check()

    def abandon(self) -> None:
        """Stop writing, where an error has ended the work."""
        if self._thread is not None and not self._stopped:
            self._stopped = True
            with suppress(InputError):
                self._put(None)
            self._thread.join()

    def _put(self, item: tuple[np.ndarray, float] | None) -> None:
        while True:
            self._check()
            try:
                return self._frames.put(item, timeout=0.5)
            except queue.Full:
                continue

    def _check(self) -> None:
        if self._error is not None:
            error = self._error
            reason = getattr(error, "strerror", None) or one_line(error)
            raise InputError(f"{self._path}: the video cannot be written ({reason})") from error

    def _run(self) -> None:
        try:
            encoder = None
            try:
                while (item := self._frames.get()) is not None:
                    if encoder is None:
                        encoder = _Encoder(self._part, self._source, item[0].shape)
                    encoder.add(*item)
                if encoder is not None and not self._stopped:
                    encoder.finish()
            finally:
                if encoder is not None:
                    encoder.close()
            if encoder is not None and not self._stopped and self._source.sound is not None:
                _add_sound(self._part, self._source)
        except BaseException as error:  # raised again where frames are added
            self._error = error


class _Encoder:
    """The open file.

    Args:
        part: The file to write.
        source: See `video_writers`.
        shape: Of the pictures.
    """

    def __init__(self, part: Path, source: Video, shape: tuple[int, ...]) -> None:
        import av

        aspect, (height, width) = source.aspect, shape[:2]
        if aspect > 1:
            width = round(width / aspect)
        elif aspect < 1:
            height = round(height * aspect)
        self._size = max(2, width // 2 * 2), max(2, height // 2 * 2)
        self._scaled = aspect != 1
        self._graph: Any = None
        self._base, self._source = _time_base(source.time_base), source
        self._matrix = _BT709 if is_hd(*self._size) else _BT601
        self._file = av.open(f"file:{part}", "w", format="mp4")
        stream = self._file.add_stream("libx264", options=_OPTIONS)
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = self._base
        context = stream.codec_context
        context.framerate = Fraction(min(max(source.rate, 1), 1000)).limit_denominator(1001)
        context.sample_aspect_ratio = aspect
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 1, 1, self._matrix, 1
        self._stream = stream
        self._held: Any = None  # the newest packet, whose duration is not known before the next
        self._last = -1

    def add(self, image: np.ndarray, time: float) -> None:
        import av

        width, height = self._size
        whole = image if self._scaled else image[:height, :width]
        given = av.VideoFrame.from_ndarray(np.ascontiguousarray(whole), format="rgb24")
        if self._graph is None:
            matrix = "bt709" if self._matrix == _BT709 else "bt601"
            scale = f"w={width}:h={height}:flags={FLAGS.replace('fast_bilinear', 'bicubic')}"
            scale += f":out_color_matrix={matrix}:out_range=tv"
            source = f"video_size={given.width}x{given.height}:pix_fmt=rgb24:time_base=1/1:pixel_aspect=1/1"
            self._graph = linked_graph(source, [("scale", scale), ("format", "yuv420p")])
        given.pts, given.time_base = self._last + 1, Fraction(1)
        self._graph.vpush(given)
        frame = self._graph.vpull()
        frame.colorspace, frame.color_range = self._matrix, 1
        frame.pts = self._last = max(self._last + 1, round(time / self._base))
        frame.time_base = self._base
        frame.pict_type = 0
        self._mux(self._stream.encode(frame))

    def finish(self) -> None:
        self._mux(self._stream.encode(None))
        if self._held is not None:
            self._held.duration = max(1, round((self._source.last or 1 / self._source.rate) / self._base))
            self._file.mux(self._held)

    def close(self) -> None:
        self._file.close()

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            if self._held is not None:
                self._file.mux(self._held)
            self._held = packet


def _time_base(base: Fraction) -> Fraction:
    """The unit of time of the file: that of the source where the encoder takes it."""
    if base <= 0 or base.numerator > 1 << 20 or base.denominator > 1 << 24 or base > 1:
        return Fraction(1, 90_000)
    return base


def _add_sound(part: Path, source: Video) -> None:
    """Put the sound of a video into a file of pictures; sound that cannot be put there is left out, with a note."""
    import av

    joined = part_path(part, ".mp4")
    try:
        with (
            av.open(f"file:{part}") as pictures,
            open_container(source.sound) as heard,
            av.open(f"file:{joined}", "w", format="mp4") as file,
        ):
            shown = pictures.streams.video[0]
            copied = file.add_stream_from_template(shown)
            sound = _Sound(file, heard, source)
            for packet in pictures.demux(shown):
                if packet.size:
                    sound.copy_until(float(packet.pts * packet.time_base))
                    packet.stream = copied
                    file.mux(packet)
            sound.copy_until(float("inf"))
        os.replace(joined, part)
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, OSError):  # a full disk, and the like
            raise
        source.note("damaged sound left out")
    finally:
        joined.unlink(missing_ok=True)


class _Sound:
    """Copies the sound of a file into another beside its pictures.

    Args:
        file: The file that is written.
        heard: The file that has the sound.
        source: The video whose sound it is.
    """

    def __init__(self, file: Any, heard: Any, source: Video) -> None:
        self._file, self._source = file, source
        self._streams: dict[int, Any] = {}
        self._encoded: set[int] = set()
        self._newest: dict[int, int] = {}
        self._time = float("-inf")
        for stream in heard.streams.audio:
            context = stream.codec_context
            if context is None or not context.sample_rate:
                source.note("sound of an unknown kind left out")
                continue
            if context.codec.canonical_name in _COPIED:
                made = file.add_stream_from_template(stream)
            else:
                made = file.add_stream("aac", rate=_aac_rate(context.sample_rate))
                made.layout = "mono" if context.channels == 1 else "stereo"
                self._encoded.add(stream.index)
            self._streams[stream.index] = made
        used = [s for s in heard.streams.audio if s.index in self._streams]
        self._packets = heard.demux(used) if used else iter(())

    def copy_until(self, time: float) -> None:
        """Copy the sound up to a time in seconds."""
        import av

        while self._time < time:
            try:
                packet = next(self._packets)
            except (StopIteration, av.FFmpegError, ValueError) as error:
                if not isinstance(error, StopIteration):
                    self._source.note("damaged sound left out")
                self._time = float("inf")
                for index in self._encoded:
                    self._file.mux(self._streams[index].encode(None))
                return
            moment = packet.pts if packet.dts is None else packet.dts
            if not packet.size or moment is None:
                continue
            index = packet.stream_index
            self._time = float(moment * packet.time_base) - self._source.start
            if index in self._encoded:
                self._encode(index, packet)
            elif moment > self._newest.get(index, float("-inf")):
                self._newest[index] = moment
                self._shift(packet)
                packet.stream = self._streams[index]
                self._file.mux(packet)
            else:
                self._source.note("damaged sound left out")

    def _encode(self, index: int, packet: Any) -> None:
        import av

        try:
            frames = packet.decode()
        except (av.FFmpegError, ValueError):
            self._source.note("damaged sound left out")
            return
        for frame in frames:
            self._shift(frame)
            self._file.mux(self._streams[index].encode(frame))

    def _shift(self, item: Any) -> None:
        if self._source.start and item.time_base:
            ticks = round(self._source.start / item.time_base)
            item.pts = None if item.pts is None else item.pts - ticks
            item.dts = None if item.dts is None else item.dts - ticks


def _aac_rate(rate: int) -> int:
    """The sample rate nearest to one that AAC has."""
    rates = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
    return min(rates, key=lambda r: abs(r - rate))
