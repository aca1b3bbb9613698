#!/usr/bin/env bash
# Expected: a frame of a video whose display matrix mirrors it (ffmpeg writes such files with -display_hflip) is told
#           apart from one that is turned by 180 degrees and from one that needs nothing.
# Happens:  `frame.rotation` is -180 for left-right mirroring, the same as for a half turn, and 0 for up-down
#           mirroring, the same as for no matrix at all. Who turns frames by it gets faces upside down. ffmpeg itself,
#           which imageio-ffmpeg runs, mirrors.
# Version:  PyAV 18.1.0, imageio-ffmpeg 0.8.1.
# Source:   PyAV's documentation: the angle in degrees by which the transformation rotates the frame counterclockwise.
#           ISO/IEC 14496-12, 6.2.2: the matrix (a b u, c d v, x y w) of a track; mirroring has a negative
#           determinant.
# What we do: handled: facemodels/io/frames.py reads the nine integers of the frame's DISPLAYMATRIX side data and
#           mirrors where it says so. Users of PyAV: the same.
set -euo pipefail
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/venv"
"$T/venv/bin/pip" install --quiet --disable-pip-version-check imageio-ffmpeg==0.8.1 av==18.1.0 numpy==2.4.6
cd "$T"
venv/bin/python - <<'PY'
import struct
import sys

import av
import imageio_ffmpeg
import numpy as np

W, H, ONE = 64, 48, 1 << 16
picture = np.zeros((H, W, 3), np.uint8)  # quarters of four brightnesses: 220 90 / 150 30
picture[: H // 2, : W // 2], picture[: H // 2, W // 2 :] = 220, 90
picture[H // 2 :, : W // 2], picture[H // 2 :, W // 2 :] = 150, 30
with av.open("plain.mp4", "w") as file:
    stream = file.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
    for _ in range(5):
        file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    file.mux(stream.encode())
plain = open("plain.mp4", "rb").read()
start = plain.index(b"tkhd") + 44  # the matrix of a version 0 track header

MATRICES = {  # a, b, c, d, x, y
    "plain": (ONE, 0, 0, ONE, 0, 0),
    "left-right mirrored": (-ONE, 0, 0, ONE, W * ONE, 0),
    "up-down mirrored": (ONE, 0, 0, -ONE, 0, H * ONE),
    "half turn": (-ONE, 0, 0, -ONE, W * ONE, H * ONE),
}
quarters = lambda image: [int(round(v, -1)) for v in image[H // 4 :: H // 2, W // 4 :: W // 2, 0].ravel().astype(float)]
print("PyAV", av.__version__, "and imageio-ffmpeg", imageio_ffmpeg.__version__)
rotations, shown = {}, {}
for name, (a, b, c, d, x, y) in MATRICES.items():
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, x, y, 1 << 30)
    open("turned.mp4", "wb").write(plain[:start] + matrix + plain[start + 36 :])
    with av.open("turned.mp4") as file:
        frame = next(file.decode(video=0))
        rotations[name], decoded = frame.rotation, quarters(frame.to_ndarray(format="rgb24"))
    frames = imageio_ffmpeg.read_frames("turned.mp4")
    next(frames)
    shown[name] = quarters(np.frombuffer(next(frames), np.uint8).reshape(H, W, 3))
    print(f"{name:19}: PyAV {decoded}, rotation {rotations[name]:4}; to be shown, as ffmpeg does: {shown[name]}")
print("expected: four answers, one for each matrix; seen:", sorted(set(abs(r) for r in rotations.values())))
different = len({tuple(s) for s in shown.values()})
if [abs(r) for r in rotations.values()] != [0, 180, 0, 180] or different != 4:
    sys.exit("changed: PyAV's rotation now tells mirrored videos from turned ones")
PY
