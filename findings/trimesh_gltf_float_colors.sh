#!/usr/bin/env bash
# Expected: a GLB with float COLOR_0 and a material, loaded and exported again, keeps its vertex colors.
# Happens:  all colors come back as bytes of 0 or 1 of 255, black and nearly transparent; where COLOR_0 is a VEC3, its
#           new accessor has count 3 beside the 4 positions, so the new file is not even valid.
# Version:  trimesh 5.2.0 with pillow 12.0.0.
# Source:   glTF 2.0, 3.7.2.1: COLOR_n is float or normalized unsigned bytes or shorts, VEC3 or VEC4; all attribute
#           accessors of a primitive have the same count. With a material, trimesh keeps the floats as
#           `visual.vertex_attributes["color"]`, and its exporter casts them to bytes without the factor 255.
# What we do: handled: our reader (facerender/meshes/gltf.py) takes the floats, and we never export through trimesh.
#           Users: make the attribute RGBA bytes, uint8 [n,4], before `export`, or edit GLBs with another tool.
set -euo pipefail
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/venv"
"$T/venv/bin/pip" install --quiet --disable-pip-version-check trimesh==5.2.0 numpy==2.4.6 pillow==12.0.0
cd "$T"
venv/bin/python - <<'PY'
import json
import struct
import sys

import numpy as np
import trimesh

POSITIONS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], "<f4")  # a tetrahedron
FACES = np.array([0, 2, 1, 0, 1, 3, 0, 3, 2, 1, 2, 3], "<u2")
COLORS = np.array([[0.2, 0.4, 0.6, 1], [0.8, 0.1, 0.3, 1], [0.5, 0.5, 0.5, 1], [0.9, 0.7, 0.2, 1]], "<f4")


def write(path, colors, material):
    parts = [POSITIONS.tobytes(), FACES.tobytes(), np.ascontiguousarray(colors).tobytes()]
    starts = np.cumsum([0] + [len(p) for p in parts]).tolist()
    primitive = {"attributes": {"POSITION": 0, "COLOR_0": 2}, "indices": 1} | ({"material": 0} if material else {})
    document = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}], "materials": [{"pbrMetallicRoughness": {"metallicFactor": 0.0}}],
        "buffers": [{"byteLength": starts[-1]}],
        "bufferViews": [{"buffer": 0, "byteOffset": s, "byteLength": len(p)} for s, p in zip(starts, parts)],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3", "min": [0, 0, 0], "max": [1, 1, 1]},
            {"bufferView": 1, "componentType": 5123, "count": 12, "type": "SCALAR"},
            {"bufferView": 2, "componentType": 5126, "count": 4, "type": f"VEC{colors.shape[1]}"},
        ],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary = b"".join(parts)
    head = struct.pack("<4s3I4s", b"glTF", 2, 28 + len(text) + len(binary), len(text), b"JSON")
    open(path, "wb").write(head + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary)


def again(path):
    """Count of the COLOR_0 accessor and its bytes after a round trip."""
    data = trimesh.load(path, process=False).export(file_type="glb")
    size = struct.unpack("<I", data[12:16])[0]
    document = json.loads(data[20 : 20 + size])
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
    view = document["bufferViews"][accessor["bufferView"]]
    start = 28 + size + view["byteOffset"]
    return accessor["count"], np.frombuffer(data[start : start + view["byteLength"]], np.uint8).tolist()


print("trimesh", trimesh.__version__)
write("plain.glb", COLORS, False), write("four.glb", COLORS, True), write("three.glb", COLORS[:, :3], True)
plain, four, three = again("plain.glb"), again("four.glb"), again("three.glb")
print("expected:                       ", (4, np.rint(COLORS * 255).astype(int).ravel().tolist()))
print("without a material:             ", plain)
print("with a material:                ", four)
print("with a material, colors as VEC3:", three)
if plain[1][0] != 51 or four != (4, [0, 0, 0, 1] * 4) or three != (3, [0] * 12):
    sys.exit("changed: float vertex colors of a primitive with a material no longer come back as black")
PY
