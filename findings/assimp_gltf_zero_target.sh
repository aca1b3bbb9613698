#!/usr/bin/env bash
# Expected: a square whose morph target moves nothing is read: 4 vertices. The target's accessor has neither a buffer
#           view nor sparse values, and so is all zeros.
# Happens:  the whole file is refused ("data is null when extracting data from accessors[2]"). With a buffer view of
#           zeros, 48 bytes, the same file is read.
# Version:  assimp_py 1.1.0 (assimp); Open3D, which reads GLB files by assimp, and VTK's reader refuse it, too.
# Source:   glTF 2.0, 3.6.2.3 and 5.1 (accessor.bufferView): an accessor without a buffer view consists of zeros. The
#           Khronos validator finds no error and no warning in the file.
# What we do: all sparse targets that we write, and those that move nothing, stand on one view of zeros that they share
#           (facemodels/export/gltf.py): 4 % of a file of a face.
set -euo pipefail
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/venv"
"$T/venv/bin/pip" install --quiet --disable-pip-version-check assimp_py==1.1.0
cd "$T"
venv/bin/python - <<'PY'
import json
import struct
import sys
from importlib.metadata import version

import assimp_py


def write(name, view):
    binary = struct.pack("<12f", 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0) + struct.pack("<6H", 0, 1, 2, 0, 2, 3)
    views = [
        {"buffer": 0, "byteOffset": 0, "byteLength": 48, "target": 34962},
        {"buffer": 0, "byteOffset": 48, "byteLength": 12, "target": 34963},
    ]
    zeros = {"componentType": 5126, "type": "VEC3", "count": 4, "min": [0, 0, 0], "max": [0, 0, 0]}
    if view:
        zeros["bufferView"] = 2
        views.append({"buffer": 0, "byteOffset": 60, "byteLength": 48, "target": 34962})
        binary += bytes(48)
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "targets": [{"POSITION": 2}]}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "type": "VEC3", "count": 4, "min": [0, 0, 0], "max": [1, 1, 0]},
            {"bufferView": 1, "componentType": 5123, "type": "SCALAR", "count": 6},
            zeros,
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    parts = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    with open(name, "wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 12 + len(parts)) + parts)


def read(name):
    try:
        return f"{assimp_py.import_file(name, assimp_py.Process_Triangulate).meshes[0].num_vertices} vertices"
    except RuntimeError as error:
        return "refused: " + str(error).split(": ", 1)[-1].strip()


write("view.glb", True)
write("zeros.glb", False)
seen = read("view.glb"), read("zeros.glb")
print("assimp_py", version("assimp_py"))
print("target on a view of zeros: expected 4 vertices, seen", seen[0])
print("target without a view: expected 4 vertices, seen", seen[1])
if seen[0] != "4 vertices" or not seen[1].startswith("refused"):
    sys.exit("changed: an accessor without a buffer view is no longer refused")
PY
