#!/usr/bin/env bash
# Expected: positions that are normalized bytes (KHR_mesh_quantization, which the file requires) are read in -1..1.
# Happens:  the bytes come as they are: the mesh is 127 times as large, or 32,767 times with shorts.
# Version:  trimesh 5.2.0.
# Source:   glTF 2.0, 3.6.2.2 (normalized integers), and the extension KHR_mesh_quantization.
# What we do: our reader takes them (facerender/meshes/accessors.py). Users: `gltf-transform dequantize` first.
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

binary = struct.pack("<16b", 0, 0, 0, 0, 127, 0, 0, 0, 127, 127, 0, 0, 0, 127, 0, 0)
binary += struct.pack("<6H", 0, 1, 2, 0, 2, 3)
positions = {"componentType": 5120, "normalized": True, "min": [0, 0, 0], "max": [127, 127, 0]}
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
        {"buffer": 0, "byteOffset": 0, "byteLength": 16, "byteStride": 4, "target": 34962},
        {"buffer": 0, "byteOffset": 16, "byteLength": 12, "target": 34963},
    ],
    "buffers": [{"byteLength": len(binary)}],
    "extensionsUsed": ["KHR_mesh_quantization"],
    "extensionsRequired": ["KHR_mesh_quantization"],
}
text = json.dumps(document).encode()
text += b" " * (-len(text) % 4)
parts = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
with open("square.glb", "wb") as file:
    file.write(struct.pack("<4sII", b"glTF", 2, 12 + len(parts)) + parts)
seen = trimesh.load("square.glb", process=False, force="mesh").vertices.tolist()[2]
print("trimesh", trimesh.__version__)
print("normalized bytes: expected the third vertex at [1, 1, 0], seen", seen)
if seen != [127, 127, 0]:
    sys.exit("changed: normalized positions are no longer read as they are stored")
PY
