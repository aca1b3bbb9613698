"""Polygons of mesh files as triangles that cover them, and nothing else."""

import struct

import numpy as np
import pytest

from facerender.meshes import MeshWarning, load_mesh, polygons
from facerender.meshes.polygons import split_polygons

ARROW = [[0, 0], [2, 2], [0, 1], [-2, 2]]
L = [[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]]
STAR = [[np.cos(a) * r, np.sin(a) * r] for a, r in zip(np.arange(10) * np.pi / 5, [2.0, 0.7] * 5)]
COMB = [[x, y] for k in range(8) for x, y in ((k, 0), (k + 0.5, 3))] + [[8, -1], [0, -1]]


def area(points):
    x, y = np.array(points, float).T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def turned(points):
    """A polygon in a plane of space."""
    q, _ = np.linalg.qr(np.array([[1.0, 2, 3], [0, 1, 4], [5, 6, 0]]))
    return np.c_[np.array(points, float), np.zeros(len(points))] @ q * np.linalg.det(q) + [7, 8, 9]


@pytest.mark.parametrize("points", [ARROW, L, STAR, COMB], ids=["arrow", "L", "star", "comb"])
@pytest.mark.parametrize("backwards", [False, True])
def test_concave_polygons_are_covered_from_every_corner_on(points, backwards):
    points = points[::-1] if backwards else points
    for begin in range(len(points)):
        ring = turned(points[begin:] + points[:begin])
        triangles, polygon, left = split_polygons(ring, np.arange(len(ring)), np.array([len(ring)]))
        areas = np.cross(ring[triangles[:, 1]] - ring[triangles[:, 0]], ring[triangles[:, 2]] - ring[triangles[:, 0]])
        whole = areas.sum(0)
        assert len(triangles) == len(ring) - 2 and left == 0 and not polygon.any()
        assert (areas @ whole > -1e-9).all()
        assert np.linalg.norm(areas, axis=1).sum() / 2 == pytest.approx(area(points))


BRIDGED = [[0, 0], [6, 0], [6, 6], [0, 6], [0, 0], [2, 2], [2, 4], [4, 4], [4, 2], [2, 2]]  # a square with a hole
TWO_HOLES = [  # at one corner, with bridges from the same place
    *([0, 0], [8, 0], [8, 4], [0, 4], [0, 0], [1, 2], [2, 3], [3, 2], [2, 1], [1, 2]),
    *([0, 0], [5, 1], [5, 2], [7, 2], [7, 1], [5, 1]),
]


@pytest.mark.parametrize(("points", "covered"), [(BRIDGED, 32), (TWO_HOLES, 28)], ids=["one hole", "two holes"])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("shared", [False, True], ids=["copies", "shared"])
def test_polygons_with_bridged_holes_are_covered_from_every_corner_on(points, covered, backwards, shared):
    points = points[::-1] if backwards else points
    for begin in range(len(points)):
        ring = turned(points[begin:] + points[:begin])
        index = np.arange(len(ring))
        if shared:  # one vertex for each place, instead of copies
            index = np.array([np.flatnonzero((np.abs(ring - place) < 1e-9).all(1))[0] for place in ring])
        triangles, _, left = split_polygons(ring, index, np.array([len(ring)]))
        corners = ring[index[triangles]]
        areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert left == 0 and np.linalg.norm(areas, axis=1).sum() / 2 == pytest.approx(covered), begin


def test_convex_polygons_and_those_of_vertices_that_do_not_exist_stay_fans():
    rings = np.concatenate([turned([[0, 0], [1, 0], [1, 1], [0, 1]]), turned([[0, 0], [2, 0], [3, 1], [2, 2], [0, 2]])])
    index, counts = np.array([*range(9), 0, 1, 99, -5]), np.array([4, 5, 4])
    triangles, polygon, left = split_polygons(rings, index, counts)
    wanted = [[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7], [4, 7, 8], [9, 10, 11], [9, 11, 12]]
    assert triangles[:5].tolist() == wanted[:5] and polygon.tolist() == [0, 0, 1, 1, 1, 2, 2] and left == 0


@pytest.mark.parametrize("kind", ["obj", "ply"])
def test_files_with_concave_polygons_among_others(kind, tmp_path):
    points = np.concatenate([turned(ARROW), turned(L) + 5, turned([[0, 0], [1, 0], [0, 1]])])
    faces = [[0, 1, 2, 3], [7, 8, 9, 4, 5, 6], [10, 11, 12]]
    path = tmp_path / f"a.{kind}"
    if kind == "obj":
        text = "".join("v {} {} {}\n".format(*p) for p in points)
        path.write_text(text + "".join(f"f {' '.join(str(k + 1) for k in face)}\n" for face in faces))
    else:
        head = "ply\nformat binary_little_endian 1.0\nelement vertex 13\nproperty double x\nproperty double y\n"
        head += "property double z\nelement face 3\nproperty list uchar int vertex_indices\nend_header\n"
        body = b"".join(struct.pack(f"<B{len(face)}i", len(face), *face) for face in faces)
        path.write_bytes(head.encode() + points.astype("<f8").tobytes() + body)
    corners = load_mesh(path).vertices.numpy()[load_mesh(path).faces.numpy()]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    assert areas.sum() == pytest.approx(area(ARROW) + area(L) + 0.5, rel=1e-5)


def test_more_concave_polygons_than_can_be_divided_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(polygons, "MOST_WORK", 50)
    text = "".join("v {} {} 0\n".format(*p) for p in L)
    (tmp_path / "a.obj").write_text(text + "f 2 3 4 5 6 1\n" * 3)
    with pytest.warns(MeshWarning, match=r"a\.obj: 2 concave polygons are drawn as if they were convex"):
        assert len(load_mesh(tmp_path / "a.obj").faces) == 12


def test_a_polygon_of_too_many_corners_leaves_the_others_their_triangles(monkeypatch):
    monkeypatch.setattr(polygons, "MOST_WORK", 100)
    ring = np.concatenate([turned(COMB), turned(L)])
    counts = np.array([len(COMB), len(L)])
    triangles, polygon, left = split_polygons(ring, np.arange(len(ring)), counts)
    corners = ring[triangles[polygon == 1]]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert left == 1 and np.linalg.norm(areas, axis=1).sum() / 2 == pytest.approx(area(L))


def test_polygons_that_cross_themselves_or_lie_in_a_line_end_as_triangles():
    for ring in (
        turned([[0, 0], [2, 2], [2, 0], [0, 2], [1, 3]]),
        turned([[k, 0] for k in range(7)]),
        np.zeros((6, 3)),
    ):
        triangles, _, _ = split_polygons(ring, np.arange(len(ring)), np.array([len(ring)]))
        assert triangles.shape == (len(ring) - 2, 3) and triangles.min() >= 0 and triangles.max() < len(ring)
