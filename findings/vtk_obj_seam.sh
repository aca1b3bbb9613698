#!/usr/bin/env bash
# Expected: a vertex with two texture coordinates becomes two points, all others stay one: 5 points of 4 vertices
#           here.
# Happens:  one such vertex anywhere, and every corner of every triangle becomes a point of its own: 12 points here,
#           for a sphere of 482 vertices 2,880. No triangle has a neighbor then: smooth normals, curvature, decimation
#           and connectivity are those of loose triangles.
# Version:  VTK 9.7.2, vtkOBJReader.
# Source:   the OBJ format numbers vertices and texture coordinates apart from each other, so that seams need no
#           double vertices; vtkOBJReader's documentation says of its output only that it is polygonal data.
# What we do: OBJ files with a texture have seams (facemodels/export/obj.py). Users: in VTK, ParaView and PyVista join
#           the points again with vtkStaticCleanPolyData before anything that needs neighbors (it closes the seam,
#           too: texture coordinates along it are lost), or read our PLY, whose triangles stay joined.
set -euo pipefail
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/venv"
"$T/venv/bin/pip" install --quiet --disable-pip-version-check vtk==9.7.2
cd "$T"
venv/bin/python - <<'PY'
import math
import sys

from vtkmodules.vtkCommonCore import vtkVersion
from vtkmodules.vtkFiltersCore import vtkStaticCleanPolyData
from vtkmodules.vtkIOGeometry import vtkOBJReader


def points(name, vertices, uvs, faces):
    """Write corners (vertex, texture coordinate) and count the points that VTK has, as read and joined again."""
    with open(name, "w") as file:
        file.writelines("v %.6f %.6f %.6f\n" % v for v in vertices)
        file.writelines("vt %.6f %.6f\n" % t for t in uvs)
        file.writelines("f " + " ".join("%d/%d" % (v + 1, t + 1) for v, t in f) + "\n" for f in faces)
    reader = vtkOBJReader()
    reader.SetFileName(name)
    joined = vtkStaticCleanPolyData()
    joined.SetInputConnection(reader.GetOutputPort())
    joined.Update()
    return reader.GetOutput().GetNumberOfPoints(), joined.GetOutput().GetNumberOfPoints()


corners = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
places = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]
closed = [[(v, v) for v in f] for f in ((0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3))]
seam = closed[:3] + [[(1, 4), (2, 2), (3, 3)]]  # the last triangle's first corner has a texture coordinate of its own

N, M = 32, 15  # a sphere: meridians, and rows of vertices between the poles; its map is cut along one meridian
ball = [(math.sin(math.pi * (j + 1) / (M + 1)) * math.cos(2 * math.pi * i / N),
         math.sin(math.pi * (j + 1) / (M + 1)) * math.sin(2 * math.pi * i / N),
         math.cos(math.pi * (j + 1) / (M + 1))) for j in range(M) for i in range(N)] + [(0, 0, 1), (0, 0, -1)]
uv = [(i / N, j / (M + 1)) for j in range(M) for i in range(N + 1)] + [(0.5, 0.0), (0.5, 1.0)]
at = lambda j, i: (j * N + i % N, j * (N + 1) + i)
top, bottom = (N * M, M * (N + 1)), (N * M + 1, M * (N + 1) + 1)
sphere = [[top, at(0, i), at(0, i + 1)] for i in range(N)]
sphere += [[bottom, at(M - 1, i + 1), at(M - 1, i)] for i in range(N)]
for j in range(M - 1):
    for i in range(N):
        sphere += [[at(j, i), at(j + 1, i), at(j, i + 1)], [at(j, i + 1), at(j + 1, i), at(j + 1, i + 1)]]

seen = points("closed.obj", corners, places, closed), points("seam.obj", corners, [*places, (0.5, 0.5)], seam)
seen += (points("sphere.obj", ball, uv, sphere),)
print("VTK", vtkVersion.GetVTKVersion())
print("tetrahedron without a seam: expected 4 points, seen", seen[0][0])
print("tetrahedron with a seam of one corner: expected 5, seen", seen[1][0], "- joined again", seen[1][1])
print(f"sphere, {len(sphere)} triangles, a seam of {M} vertices: expected {len(uv)}, seen {seen[2][0]}")
print("  joined again", seen[2][1])
if (seen[0][0], seen[1][0], seen[2][0]) != (4, 12, 3 * len(sphere)):
    sys.exit("changed: an OBJ with a seam no longer has a point for each corner of each triangle")
PY
