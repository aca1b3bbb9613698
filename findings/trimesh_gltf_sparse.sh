#!/usr/bin/env bash
# Expected: a square whose third vertex is replaced by a sparse value is read with that value.
# Happens:  the value is left out without a word; the vertex stays where the buffer view has it.
# Version:  trimesh 5.2.0.
# Source:   glTF 2.0, 3.6.2.3 (sparse accessors).
# What we do: our reader takes them (facerender/meshes/accessors.py). Users: `facerender.meshes.load_mesh`, or another
#           reader.
set -euo pipefail
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/venv"
"$T/venv/bin/pip" install --quiet --disable-pip-version-check trimesh==5.2.0
cd "$T"
venv/bin/python - <<'PY'
import json
import struct
import sys

import trimesh

binary = struct.pack("<12f", 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0) + struct.pack("<6H", 0, 1, 2, 0, 2, 3)
binary += struct.pack("<H2x", 2) + struct.pack("<3f", 1, 1, 5)
sparse = {"count": 1, "indices": {"bufferView": 2, "componentType": 5123}, "values": {"bufferView": 3}}
positions = {"componentType": 5126, "min": [0, 0, 0], "max": [1, 1, 5], "sparse": sparse}
document = {
    "asset": {"version": "2.0"},
    "scene": 0,
    "scenes": [{"nodes": [0]}],
    "nodes": [{"mesh": 0}],
    "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
    "accessors": [
        {"bufferView": 0, "type": "VEC3", "count": 4, **positions},
        {"bufferView": 1, "componentType": 5123, "type": "SCALAR", "count": 6},
    ],
    "bufferViews": [
        {"buffer": 0, "byteOffset": 0, "byteLength": 48, "target": 34962},
        {"buffer": 0, "byteOffset": 48, "byteLength": 12, "target": 34963},
        {"buffer": 0, "byteOffset": 60, "byteLength": 2},
        {"buffer": 0, "byteOffset": 64, "byteLength": 12},
    ],
    "buffers": [{"byteLength": len(binary)}],
}
text = json.dumps(document).encode()
text += b" " * (-len(text) % 4)
parts = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
with open("square.glb", "wb") as file:
    file.write(struct.pack("<4sII", b"glTF", 2, 12 + len(parts)) + parts)
seen = trimesh.load("square.glb", process=False, force="mesh").vertices.tolist()[2]
print("trimesh", trimesh.__version__)
print("sparse: expected the third vertex at [1, 1, 5], seen", seen)
if seen != [1, 1, 0]:
    sys.exit("changed: sparse values of positions are no longer left out")
PY
