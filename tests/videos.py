"""Small videos of every kind, made by PyAV, and what is in a video file."""

from fractions import Fraction

import numpy as np
import pytest

QUARTERS = ((200, 60, 40), (40, 160, 60), (60, 60, 200), (224, 172, 140))  # the last is a skin


def quarters(height=48, width=64):
    """A picture of four colors, one for each quarter."""
    image = np.zeros((height, width, 3), np.uint8)
    for k, color in enumerate(QUARTERS):
        y, x = divmod(k, 2)
        image[y * height // 2 : (y + 1) * height // 2, x * width // 2 : (x + 1) * width // 2] = color
    return image


def make_video(
    path,
    frames=None,
    times=None,
    base=Fraction(1, 25),
    codec="libx264",
    pixels="yuv420p",
    sound=None,
    tags=None,
    prepare=None,
    container=None,
    **options,
):
    """Write a video.

    Args:
        path: The file.
        frames: uint8 [h,w,3] or [h,w,4], or PyAV's frames; None: `quarters` at each of the times.
        times: Times of the frames, in multiples of `base`; None: 0, 1, 2 ...
        base: The unit of time, seconds.
        codec: FFmpeg's name of it.
        pixels: FFmpeg's name of the format of pixels.
        sound: (codec, seconds) or None.
        tags: (matrix, range, primaries, transfer), FFmpeg's numbers, for frames of that kind.
        prepare: Called with the stream before anything is written.
        container: FFmpeg's name of the container; None: by the suffix.
        options: Of the container.
    """
    av = pytest.importorskip("av", reason="PyAV is not installed: no videos")
    if frames is None:
        frames = [quarters()] * (12 if times is None else len(times))
    with av.open(str(path), "w", format=container, options=options) as file:
        stream = file.add_stream(
            codec, rate=1 / base, options={"x265-params": "log-level=none"} if "265" in codec else {}
        )
        first = frames[0]
        stream.height, stream.width = first.shape[:2] if isinstance(first, np.ndarray) else (first.height, first.width)
        stream.pix_fmt = pixels
        stream.time_base = stream.codec_context.time_base = base
        if tags:
            context = stream.codec_context
            context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags
        if prepare:
            prepare(stream)
        if sound:
            heard = file.add_stream(sound[0], rate=48_000)
            heard.layout = "mono"
        for number, image in enumerate(frames):
            frame = image
            if isinstance(image, np.ndarray):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24" if image.shape[2] == 3 else "rgba")
                frame = frame.reformat(format=pixels)
            frame.pts, frame.time_base = number if times is None else times[number], base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if sound:
            wave = (0.1 * np.sin(np.arange(int(48_000 * sound[1])) / 20)).astype(np.float32)
            for start in range(0, len(wave), 960):
                part = av.AudioFrame.from_ndarray(wave[None, start : start + 960], format="fltp", layout="mono")
                part.sample_rate, part.pts, part.time_base = 48_000, start, Fraction(1, 48_000)
                file.mux(heard.encode(part))
            file.mux(heard.encode(None))
    return path


def probe(path):
    """What PyAV says of a video: a dictionary of times, size, aspect, tags, sound and length."""
    import av

    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        context = stream.codec_context
        found = {
            "size": (stream.width, stream.height),
            "aspect": stream.sample_aspect_ratio,
            "matrix": int(context.colorspace),
            "primaries": int(context.color_primaries),
            "sound": [
                (s.codec_context.name, float(s.duration * s.time_base)) for s in file.streams.audio if s.duration
            ],
            "seconds": file.duration / av.time_base,
        }
        return found | {"times": [frame.time for frame in file.decode(stream)]}
