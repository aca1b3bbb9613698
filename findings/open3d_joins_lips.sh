#!/usr/bin/env bash
# Expected: `read_triangle_mesh` gives the vertices of an OBJ as the file has them: post-processing is off by default.
# Happens:  vertices at one place are joined though the file keeps them apart (closed lips and lids become one
#           surface); the others are numbered anew in the order in which triangles use them, and those that no
#           triangle uses are gone. Lists of vertices (landmarks, regions, UV) then name other places, or none. A PLY
#           of the same mesh comes as it is. `enable_post_processing=False` changes nothing.
# Version:  Open3D 0.20.0.
# Source:   Open3D's documentation of read_triangle_mesh: enable_post_processing is False by default. The OBJ format
#           numbers vertices in the order of the file. Open3D's issues 2614 and 6137 report number and order.
# What we do: the same mesh can be written as PLY (facemodels/export/ply.py). Users: give Open3D the PLY, or make the
#           mesh of arrays: open3d.geometry.TriangleMesh(Vector3dVector(vertices), Vector3iVector(faces)).
set -euo pipefail
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/venv"
"$T/venv/bin/pip" install --quiet --disable-pip-version-check open3d==0.20.0 numpy==2.4.6
cd "$T"
venv/bin/python - <<'PY'
import sys

import numpy as np
import open3d

# "Upper lip" 6 5 4 and "lower lip" 1 2 3, of which 1 and 2 lie on 4 and 5; no triangle uses 0.
VERTICES = np.array([[9, 9, 9], [0, 0, 0], [1, 0, 0], [0.5, -1, 0], [0, 0, 0], [1, 0, 0], [0.5, 1, 0]])
FACES = np.array([[6, 5, 4], [1, 2, 3]])
with open("lips.obj", "w") as file:
    file.writelines("v %g %g %g\n" % tuple(v) for v in VERTICES)
    file.writelines("f %d %d %d\n" % tuple(f + 1) for f in FACES)
with open("lips.ply", "w") as file:
    file.write("ply\nformat ascii 1.0\nelement vertex 7\nproperty float x\nproperty float y\nproperty float z\n")
    file.write("element face 2\nproperty list uchar int vertex_indices\nend_header\n")
    file.writelines("%g %g %g\n" % tuple(v) for v in VERTICES)
    file.writelines("3 %d %d %d\n" % tuple(f) for f in FACES)


def read(path, **options):
    mesh = open3d.io.read_triangle_mesh(path, **options)
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.triangles)
    shared = len(set(faces[0].tolist()) & set(faces[1].tolist()))
    print(f"{path} {options or ''}: {len(vertices)} vertices, faces {faces.tolist()}, {shared} shared by both lips")
    print("   vertex 0 is", vertices[0].tolist())
    return vertices, shared


print("Open3D", open3d.__version__)
print(f"expected: 7 vertices, faces {FACES.tolist()}, 0 shared by both lips; vertex 0 is {VERTICES[0].tolist()}")
obj, shared = read("lips.obj")
off, also = read("lips.obj", enable_post_processing=False)
ply, none = read("lips.ply")
if (len(obj), shared, len(off), also, len(ply), none) != (4, 2, 4, 2, 7, 0) or not np.array_equal(ply, VERTICES):
    sys.exit("changed: Open3D no longer joins and renumbers the vertices of an OBJ")
PY
