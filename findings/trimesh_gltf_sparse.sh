#!/usr/bin/env bash
# Expected: a square whose third vertex is replaced by a sparse value is read with that value.
# Happens:  the value is left out without a word; the vertex stays where the buffer view has it.
# Version:  trimesh 5.2.0.
# Source:   glTF 2.0, 3.6.2.3 (sparse accessors).
# What we do: our reader takes them (facerender/meshes/accessors.py). Users: `facerender.meshes.load_mesh`, or another reader.
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


def read(name, positions, views, accessor, **more):
    """Write a square and return the vertices that trimesh has."""
    index = struct.pack("<6H", 0, 1, 2, 0, 2, 3)
    binary, listed = b"", []
    for content, extra in [*views, (index, {"target": 34963}), (positions, {"target": 34962, **more.pop("view", {})})]:
        listed.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(content), **extra})
        binary += content + bytes(-len(content) % 4)
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": len(views) + 1, "type": "VEC3", "count": 4, **accessor},
            {"bufferView": len(views), "componentType": 5123, "type": "SCALAR", "count": 6},
        ],
        "bufferViews": listed,
        "buffers": [{"byteLength": len(binary)}],
        **more,
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    parts = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    with open(name, "wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 12 + len(parts)) + parts)
    return trimesh.load(name, process=False, force="mesh").vertices.tolist()


floats = struct.pack("<12f", 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0)
sparse = {
    "count": 1,
    "indices": {"bufferView": 0, "componentType": 5123},
    "values": {"bufferView": 1},
}
moved = read(
    "sparse.glb", floats, [(struct.pack("<H", 2), {}), (struct.pack("<3f", 1, 1, 5), {})],
    {"componentType": 5126, "min": [0, 0, 0], "max": [1, 1, 5], "sparse": sparse},
)
print("trimesh", trimesh.__version__)
print("sparse: expected the third vertex at [1, 1, 5], seen", moved[2])
if moved[2] != [1, 1, 0]:
    sys.exit("changed: sparse values of positions are no longer left out")
PY
