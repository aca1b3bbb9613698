#!/usr/bin/env bash
# Expected: an RGB TIFF of 16 bits whose channels lie in planes, one after the other (PlanarConfiguration 2, as tools
#           for scans and microscopes write by default), reads like the same picture with its channels interleaved, or
#           is refused.
# Happens:  without compression it reads as another picture, without an error: Pillow takes the planes for bytes. The
#           same file with deflate, and planes of 8 bits, read right.
# Version:  Pillow 13.0.0; the files by tifffile 2026.3.3, which reads all of them back.
# Source:   TIFF 6.0, tag 284.
# What we do: handled: facemodels/io/images.py reads such files with tifffile.
set -euo pipefail
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/venv"
"$T/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
cd "$T"
venv/bin/python - <<'PY'
import sys

import numpy as np
import tifffile
from PIL import Image

ys, xs = np.mgrid[:48, :64]
picture = np.stack([4 * xs, 5 * ys, 255 - 4 * xs], -1).astype(np.uint8)
off = {}
for name, numbers, more in (
    ("16 bits in planes", picture.astype(np.uint16) * 257, {}),
    ("16 bits in planes, deflated", picture.astype(np.uint16) * 257, {"compression": "zlib"}),
    ("8 bits in planes", picture, {}),
):
    tifffile.imwrite("a.tif", numbers.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", **more)
    assert np.array_equal(tifffile.imread("a.tif").transpose(1, 2, 0), numbers)
    off[name] = float(np.abs(np.asarray(Image.open("a.tif").convert("RGB")).astype(float) - picture).mean())
    print(f"{name}: {off[name]:.1f} of 255 levels off on average")
wrong, deflated, byte = off.values()
sys.exit(0 if wrong > 20 and deflated < 1 and byte < 1 else "the behavior has changed")
PY
