#!/usr/bin/env bash
# Expected: both face networks of the npm package @mediapipe/face_mesh are TensorFlow Lite files, and run in the
#           interpreter that Google ships for such files.
# Happens:  neither lies in the package as a file: both are ranges of bytes in one .data file, which a table in a script
#           names. The one of 468 points runs, in 192 x 192 pixels. The one with attention, which is better at lips and
#           irises, does not: it holds operators that MediaPipe's own programs register, and the interpreter ends with
#           an error.
# Version:  @mediapipe/face_mesh 0.4.1657299874, ai-edge-litert 2.3.0.
# Source:   Google's documentation of LiteRT: models with custom operators need these to be registered.
# What we do: handled: `facemodels teacher --face-mesh` reads the table and takes the one of 468 points.
set -euo pipefail
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/venv"
"$T/venv/bin/pip" install --quiet --disable-pip-version-check ai-edge-litert==2.3.0 numpy==2.4.6
cd "$T"
npm pack --silent @mediapipe/face_mesh@0.4.1657299874 > name
tar xzf "$(cat name)"
if ls package | grep -q tflite; then echo "the package has .tflite files now"; exit 1; fi
venv/bin/python - <<'PY'
import json
import re
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

table = open("package/face_mesh_solution_packed_assets_loader.js").read()
packed = open("package/face_mesh_solution_packed_assets.data", "rb").read()
files = json.loads(re.search(r'"files":\s*(\[.*?\])', table, re.S).group(1))
found = {}
for name in ("face_landmark.tflite", "face_landmark_with_attention.tflite"):
    entry = next(f for f in files if f["filename"].endswith("/" + name))
    network = packed[entry["start"] : entry["end"]]
    try:
        interpreter = Interpreter(model_content=network)
        interpreter.allocate_tensors()
        given = interpreter.get_input_details()[0]
        interpreter.set_tensor(given["index"], np.full(given["shape"], 0.5, np.float32))
        interpreter.invoke()
        found[name] = [tuple(int(n) for n in o["shape"]) for o in interpreter.get_output_details()]
    except (RuntimeError, ValueError) as error:
        found[name] = str(error).splitlines()[0]
    print(f"{name}, {len(network)} bytes: {found[name]}")
plain, attention = found.values()
runs = isinstance(plain, list) and (1, 1, 1, 3 * 468) in plain
sys.exit(0 if runs and isinstance(attention, str) and "custom op" in attention else "the behavior has changed")
PY
