"""Meshes deformed onto points by affine maps, on grids whose outcome is known."""

import math

import numpy as np
import pytest

from facemodels.evaluation import nonrigid_icp
from facemodels.evaluation.nonrigid_icp import Keypoints, deform, graph_laplacian

SIDE = 12


def sheet(corner=(0.0, 0.0), side=SIDE):
    """A curved sheet of unit squares: vertices [V,3] and triangles [F,3]."""
    x, y = (g.ravel() for g in np.meshgrid(np.arange(side) + corner[0], np.arange(side) + corner[1], indexing="ij"))
    grid = np.arange(side * side).reshape(side, side)
    a, b, c, d = (g.ravel() for g in (grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]))
    vertices = np.stack([x, y, 0.1 * (x - 5) ** 2 + 0.05 * x * y], 1) / 3.0
    return vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


AFFINE, SHIFT = np.array([[1.1, 0.1, 0.0], [0.0, 0.9, 0.2], [0.05, 0.0, 1.0]]), np.array([1.0, 0.5, -0.2])
CORNERS = np.array([0, SIDE - 1, SIDE * SIDE - 1, SIDE * SIDE // 2 + SIDE // 2, 40])


def test_affine_copy_is_reached_exactly_with_keypoints():
    """It costs no stiffness; without keypoints, the nearest points are wrong ones, and the sheet stays between."""
    vertices, faces = sheet()
    copy = vertices @ AFFINE.T + SHIFT
    found = deform(vertices, faces, copy, Keypoints(CORNERS, copy[CORNERS]))
    np.testing.assert_allclose(found, copy, atol=1e-6)
    assert np.linalg.norm(deform(vertices, faces, copy, None) - copy, axis=1).max() > 0.1


def test_mesh_that_lies_on_the_points_stays():
    vertices, faces = sheet()
    np.testing.assert_allclose(deform(vertices, faces, vertices, None), vertices, atol=1e-9)
    known = Keypoints(CORNERS, vertices[CORNERS])
    np.testing.assert_allclose(deform(vertices, faces, vertices, known), vertices, atol=1e-9)


def test_one_point_that_is_off_bends_a_stiff_mesh_little():
    vertices, faces = sheet()
    cloud, k = vertices.copy(), SIDE * 6 + 6
    cloud[k] += [0, 0, 0.2]
    moved = np.linalg.norm(deform(vertices, faces, cloud, None) - vertices, axis=1)
    assert 0 < moved.max() < 0.02


def record(monkeypatch):
    """The stiffness [4] and weights [V] of every step that will be solved."""
    steps, solve = [], nonrigid_icp._affine_maps

    def recorded(vertices, laplacian, stiffness, weights, targets):
        steps.append((stiffness, weights))
        return solve(vertices, laplacian, stiffness, weights, targets)

    monkeypatch.setattr(nonrigid_icp, "_affine_maps", recorded)
    return steps


def test_stiffness_and_weights_of_keypoints_fall_by_the_schedule(monkeypatch):
    steps = record(monkeypatch)
    vertices, faces = sheet()
    copy = vertices @ AFFINE.T + SHIFT
    copy[:, 2] += 0.4 * np.sin(2 * vertices[:, 1])
    k = CORNERS[1]
    deform(vertices, faces, copy, Keypoints(CORNERS, copy[CORNERS]))
    stiffness, weights = steps[0]
    np.testing.assert_allclose(stiffness, [300, 300, 450, 300])
    assert weights[k] == 50**2 and np.count_nonzero(weights) == len(CORNERS)  # of keypoints alone
    levels = [round(float(stiffness[0]), 6) for stiffness, _ in steps[1:]]
    allowed = [round(50 * math.exp(-stage / 2), 6) for stage in range(3)]
    assert levels[0] == 50 and set(levels) <= set(allowed) and levels == sorted(levels, reverse=True)
    for taken, (stiffness, weights) in enumerate(steps[1:], start=1):
        assert (stiffness == stiffness[0]).all()
        assert weights[k] - (5 * math.exp(-0.9 * taken)) ** 2 in (pytest.approx(0), pytest.approx(1))
        assert set(np.delete(weights, CORNERS)) <= {0.0, 1.0}


def test_stage_ends_when_maps_settle_or_after_its_last_step(monkeypatch):
    vertices, faces = sheet()
    known = Keypoints(CORNERS, vertices[CORNERS])
    steps = record(monkeypatch)
    deform(vertices, faces, vertices, known)
    assert len(steps) == 2  # one of keypoints; one more, after which the maps are as before, in every stage
    monkeypatch.setattr(nonrigid_icp, "TOLERANCE", -1.0)
    monkeypatch.setattr(nonrigid_icp, "FREE_STEPS", 4)
    steps.clear()
    deform(vertices, faces, vertices, known)
    assert len(steps) == 1 + 3 * 11
    steps.clear()
    deform(vertices, faces, vertices, None)
    assert len(steps) == 3 * 4


def test_points_count_within_two_means_of_the_distances_or_one_unit(monkeypatch):
    vertices, faces = sheet()
    vertices = 4 * vertices
    cloud = vertices[vertices[:, 0] < 10]
    distances = np.linalg.norm(vertices[:, None] - cloud, axis=2).min(1)
    steps = record(monkeypatch)
    deform(vertices, faces, cloud, None)
    limit = max(2 * distances.mean(), 1)
    assert 1 < limit < distances.max()
    np.testing.assert_array_equal(steps[0][1], distances < limit)
    steps.clear()
    deform(vertices, faces, vertices + [0, 0, 0.3], None)
    assert (steps[0][1] == 1).all()


def test_loose_piece_without_keypoints_waits_for_its_closest_points():
    vertices, faces = sheet()
    far, more = sheet((30.0, 0.0), 5)
    both, all_faces = np.concatenate([vertices, far]), np.concatenate([faces, more + len(vertices)])
    copy = vertices @ AFFINE.T + SHIFT
    found = deform(both, all_faces, np.concatenate([copy, far]), Keypoints(CORNERS, copy[CORNERS]))
    np.testing.assert_allclose(found[: len(vertices)], copy, atol=1e-5)
    np.testing.assert_allclose(found[len(vertices) :], far, atol=1e-5)


def test_laplacian_counts_every_edge_once():
    expected = [[2, -1, -1, 0], [-1, 3, -1, -1], [-1, -1, 3, -1], [0, -1, -1, 2]]
    faces = np.array([[0, 1, 2], [1, 3, 2], [2, 2, 1]])  # the last one has no area
    np.testing.assert_array_equal(graph_laplacian(faces, 4).toarray(), expected)
