#!/usr/bin/env bash
# Expected: `read_frames` yields the 30 frames that the video stores, as `count_frames_and_secs` says and as the
#           metadata's fps times duration gives.
# Happens:  it yields 70. ffmpeg fills a constant rate of its own, 60 a second, with repeated frames, while `fps` in
#           the metadata is the average, 25.86: frame i is not at i / fps, and 70 frames at that fps last 2.7 s in
#           place of 1.2.
# Version:  imageio-ffmpeg 0.8.1 (its own ffmpeg), PyAV 18.1.0.
# Source:   imageio-ffmpeg's documentation of read_frames: it yields frames until the end is reached, and for their
#           number one should use count_frames_and_secs. ffmpeg's -fps_mode: a constant rate repeats and drops frames.
#           Telephones and browsers record such videos.
# What we do: handled: our videos are read by PyAV, which has the stored frames and their times
#           (facemodels/io/video.py). Users: make the rate constant first (ffmpeg -i IN -r 30 OUT), or pass
#           output_params=["-fps_mode", "passthrough"] for the stored frames, or PyAV.
set -euo pipefail
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/venv"
"$T/venv/bin/pip" install --quiet --disable-pip-version-check imageio-ffmpeg==0.8.1 av==18.1.0 numpy==2.4.6
cd "$T"
venv/bin/python - <<'PY'
import sys
from fractions import Fraction

import av
import imageio_ffmpeg
import numpy as np

TICK = Fraction(1, 1000)
times = np.cumsum([0] + [33 if i % 3 else 50 for i in range(29)])  # ms: two of three frames last 33, the third 50
with av.open("variable.mp4", "w") as file:
    stream = file.add_stream("libx264", rate=30)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    stream.time_base = stream.codec_context.time_base = TICK
    for i, time in enumerate(times):  # each frame brighter than the last
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 8 * i, np.uint8), format="rgb24")
        frame.pts, frame.time_base = int(time), TICK
        file.mux(stream.encode(frame))
    file.mux(stream.encode())


def read(**options):
    frames = imageio_ffmpeg.read_frames("variable.mp4", **options)
    about = next(frames)
    return about, [np.frombuffer(f, np.uint8).mean() for f in frames]


with av.open("variable.mp4") as file:
    stored = [f.time for f in file.decode(video=0)]
about, frames = read()
counted, seconds = imageio_ffmpeg.count_frames_and_secs("variable.mp4")
_, passed = read(output_params=["-fps_mode", "passthrough"])
different = 1 + int((np.abs(np.diff(frames)) > 4).sum())
print("imageio-ffmpeg", imageio_ffmpeg.__version__, "with ffmpeg", imageio_ffmpeg.get_ffmpeg_version())
print("PyAV", av.__version__)
print(f"stored (PyAV): {len(stored)} frames, the last at {stored[-1]:.3f} s, times {[round(t, 3) for t in stored[:4]]}")
print(f"metadata: fps {about['fps']}, duration {about['duration']} s; count_frames_and_secs: {counted}, {seconds} s")
print(f"read_frames: expected {counted} frames, seen {len(frames)}, of which {different} differ from the one before")
print(f"with -fps_mode passthrough: {len(passed)}")
if (len(stored), counted, len(passed)) != (30, 30, 30) or len(frames) < 60:
    sys.exit("changed: read_frames no longer repeats frames of a video of variable rate")
PY
