#!/usr/bin/env bash
# Expected: `igl.readOBJ` gives positions [n,3], as its documentation says, also where vertex colors follow them; and
#           edge lengths depend on positions alone.
# Happens:  V is [n,6], and functions of any dimension take it without a word: the colors are added to edge lengths,
#           areas and the bounding box. `read_triangle_mesh` of the same file gives [n,3].
# Version:  libigl 2.6.3 (Python).
# Source:   libigl's documentation of readOBJ: V is the matrix of vertex positions, "#V by 3", and so is V of
#           edge_lengths. The colors after the coordinates are an extension that MeshLab, Blender, VTK and trimesh
#           read as colors.
# What we do: our OBJ files without a texture have such colors (facemodels/export/obj.py says so). Users: read them
#           with `igl.read_triangle_mesh`, or go on with `V[:, :3].copy()`.
set -euo pipefail
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/venv"
"$T/venv/bin/pip" install --quiet --disable-pip-version-check libigl==2.6.3 numpy==2.4.6 scipy==1.16.3
cd "$T"
venv/bin/python - <<'PY'
import sys
from importlib.metadata import version

import igl
import numpy as np

POSITIONS = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]  # a tetrahedron with right angles at its first corner
COLORS = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]
FACES = [[1, 3, 2], [1, 2, 4], [1, 4, 3], [2, 3, 4]]
with open("colored.obj", "w") as file:
    file.writelines("v %g %g %g %g %g %g\n" % (*p, *c) for p, c in zip(POSITIONS, COLORS))
    file.writelines("f %d %d %d\n" % tuple(f) for f in FACES)

V, _, _, F, _, _ = igl.readOBJ("colored.obj")
W, G = igl.read_triangle_mesh("colored.obj")
print("libigl", version("libigl"))
print("readOBJ:            V", V.shape, "   read_triangle_mesh: V", W.shape)
rows = [
    ("edges of the first triangle", igl.edge_lengths(W, G)[0], igl.edge_lengths(V, F)[0]),
    ("twice its area", igl.doublearea(W, G)[0], igl.doublearea(V, F)[0]),
    ("diagonal of the bounding box", igl.bounding_box_diagonal(W), igl.bounding_box_diagonal(V)),
]
for name, right, seen in rows:
    print(f"{name}: expected {np.round(right, 4)}, with readOBJ's V {np.round(seen, 4)}")
if V.shape != (4, 6) or W.shape != (4, 3) or any(np.allclose(right, seen) for _, right, seen in rows):
    sys.exit("changed: readOBJ no longer gives vertex colors as coordinates 4 to 6 that count as lengths")
PY
