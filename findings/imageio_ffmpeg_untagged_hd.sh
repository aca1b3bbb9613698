#!/usr/bin/env bash
# Expected: RGB frames written at 1280 x 720 are BT.709, as players take video of that size, or the stream says what
#           it is.
# Happens:  they are converted as BT.601 and the stream has no tags at all (primaries, transfer, matrix:
#           "unspecified"). A player that goes by size shows (213, 73, 37) for (200, 60, 40): the hues of skin turn.
#           Reading with the same library shows nothing of it, since that, too, takes BT.601 at every size.
# Version:  imageio-ffmpeg 0.8.1 (its own ffmpeg), PyAV 18.1.0 to look at the stream.
# Source:   ITU-R BT.709 is the matrix of high definition, BT.601 of standard definition; H.264, E.2.1, leaves
#           untagged color to the application; players such as mpv guess by the size of the picture.
# What we do: handled: our videos are written by PyAV, converted and tagged (facemodels/io/video_writer.py). Users of
#           imageio who need exact colors convert and tag: output_params=["-vf",
#           "scale=out_color_matrix=bt709,setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"], as the
#           last line of the output shows; the options -color_primaries and -color_trc set no tags there.
set -euo pipefail
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/venv"
"$T/venv/bin/pip" install --quiet --disable-pip-version-check imageio-ffmpeg==0.8.1 av==18.1.0 numpy==2.4.6
cd "$T"
venv/bin/python - <<'PY'
import sys

import av
import imageio_ffmpeg
import numpy as np

COLOR = (200, 60, 40)
BT709 = "scale=out_color_matrix=bt709,setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"


def matrix_inverse(y, u, v, red, blue):
    """RGB of limited-range YCbCr with the matrix whose weights of red and blue are given."""
    y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    return [round(255 * c) for c in (r, (y - red * r - blue * b) / (1 - red - blue), b)]


def look(size, options=()):
    """The tags of the first stream and its color as BT.601, as BT.709 and as read by imageio-ffmpeg."""
    writer = imageio_ffmpeg.write_frames("flat.mp4", size, fps=25, quality=8, output_params=list(options))
    writer.send(None)
    for _ in range(5):
        writer.send(np.full((size[1], size[0], 3), COLOR, np.uint8).tobytes())
    writer.close()
    with av.open("flat.mp4") as file:
        frame = next(file.decode(video=0))
        context = file.streams.video[0].codec_context
        tags = int(context.color_primaries), int(context.color_trc), int(context.colorspace)
        yuv = [float(np.frombuffer(plane, np.uint8)[0]) for plane in frame.planes]
    frames = imageio_ffmpeg.read_frames("flat.mp4")
    next(frames)
    read = np.frombuffer(next(frames), np.uint8)[:3].tolist()
    sd, hd = matrix_inverse(*yuv, 0.299, 0.114), matrix_inverse(*yuv, 0.2126, 0.0722)
    print(f"{size}: tags {tags}, as BT.601 {sd}, as BT.709 {hd}, read by imageio-ffmpeg {read}")
    return tags, sd, hd


near = lambda color: np.abs(np.subtract(color, COLOR)).max() <= 3
print("imageio-ffmpeg", imageio_ffmpeg.__version__, "with ffmpeg", imageio_ffmpeg.get_ffmpeg_version())
print(f"written: {COLOR}; tags: primaries, transfer, matrix; 1 is BT.709, 2 unspecified; 720p should have 1 or BT.709")
look((640, 480))
tags, sd, hd = look((1280, 720))
mended, _, right = look((1280, 720), ["-vf", BT709])
if tags != (2, 2, 2) or not near(sd) or near(hd) or mended != (1, 1, 1) or not near(right):
    sys.exit("changed: imageio-ffmpeg no longer writes untagged BT.601 at 720p")
PY
