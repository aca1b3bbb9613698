"""Closest points against brute force and hand-worked ones, and aligned surfaces (facemodels.core.surface)."""

import numpy as np
import pytest
import torch

from facemodels.core.alignment import Similarity
from facemodels.core.surface import (
    ClosestPoints,
    align_surfaces,
    closest_points,
    interpolate_faces,
)
from facerender.camera import euler_rotation
from tests.face_patch import patch

ANGLES = torch.tensor([[0.3, -0.7, 0.4]], dtype=torch.float64)


def brute_force(points, vertices, faces, steps=60):
    """Distances by dense sampling: never below the true ones, and above by at most the spacing of the samples."""
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    grid = torch.stack(torch.meshgrid(u, u, indexing="ij"), -1).view(-1, 2)
    grid = grid[grid.sum(1) <= 1 + 1e-9]
    bary = torch.cat([grid, 1 - grid.sum(1, keepdim=True)], 1)
    samples = torch.einsum("sk,fki->fsi", bary, vertices[faces]).reshape(-1, 3)
    return torch.cdist(points, samples).min(1).values


def test_point_over_the_inside_an_edge_and_a_corner_of_a_triangle():
    vertices = torch.tensor([[0.0, 0, 0], [4, 0, 0], [0, 4, 0]], dtype=torch.float64)
    points = torch.tensor([[1.0, 1, 3], [2, -1, 0], [-3, -4, 0], [3, 3, 1]], dtype=torch.float64)
    found = closest_points(points, vertices, torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(found.distance, torch.tensor([3.0, 1, 5, 3**0.5], dtype=torch.float64))
    torch.testing.assert_close(
        found.bary, torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.5, 0], [1, 0, 0], [0, 0.5, 0.5]], dtype=torch.float64)
    )


@pytest.mark.parametrize("spread", [0.5, 5.0, 100.0])
def test_distances_equal_brute_force_for_triangles_of_all_sizes(spread):
    generator = torch.Generator().manual_seed(1)
    size = 10 ** torch.linspace(-2, 1.5, 60, dtype=torch.float64)  # three and a half orders of magnitude
    corners = torch.rand(60, 1, 3, generator=generator, dtype=torch.float64) * 10 + size[:, None, None] * torch.rand(
        60, 3, 3, generator=generator, dtype=torch.float64
    )
    vertices, faces = corners.reshape(-1, 3), torch.arange(180).view(60, 3)
    points = torch.randn(200, 3, generator=generator, dtype=torch.float64) * spread + 5
    found = closest_points(points, vertices, faces)
    expected = brute_force(points, vertices, faces)
    assert (found.distance <= expected + 1e-9).all() and (found.distance >= expected - 0.6).all()
    foot = interpolate_faces(vertices, faces, found.face_id, found.bary)
    torch.testing.assert_close((points - foot).norm(dim=1), found.distance)
    assert (found.bary >= 0).all() and (found.bary.sum(1) - 1).abs().max() < 1e-12
    each = torch.stack([closest_points(points, vertices, faces[k : k + 1]).distance for k in range(60)], 1)
    torch.testing.assert_close(found.distance, each.min(1).values)  # the search misses no triangle


def test_triangles_without_area_are_edges_or_points():
    vertices = torch.tensor([[0.0, 0, 0], [2, 0, 0], [1, 0, 0]], dtype=torch.float64)
    points = torch.tensor([[1.5, 1.0, 0]], dtype=torch.float64)
    assert closest_points(points, vertices, torch.tensor([[0, 1, 2]])).distance.item() == pytest.approx(1)
    assert closest_points(points, vertices, torch.tensor([[0, 0, 0]])).distance.item() == pytest.approx(3.25**0.5)


def test_points_beyond_a_limit_are_infinitely_far_and_others_as_without_it():
    model = patch()
    points = (
        model.mean.double() + torch.randn(961, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
    )
    search = ClosestPoints(model.mean, model.faces)
    free, limited = search(points), search(points, within=3.0)
    near = free.distance <= 3
    assert near.any() and (~near).any()
    assert torch.equal(limited.distance[near], free.distance[near]) and torch.isinf(limited.distance[~near]).all()


def test_gradient_of_the_distance_points_away_from_the_foot():
    model = patch()
    vertices = model.mean.double().requires_grad_()
    points = (model.mean[100:120].double() + torch.tensor([0.3, 0.2, 5.0])).requires_grad_()
    found = closest_points(points, vertices, model.faces)
    found.distance.sum().backward()
    foot = interpolate_faces(vertices.detach(), model.faces, found.face_id, found.bary)
    torch.testing.assert_close(points.grad, torch.nn.functional.normalize(points.detach() - foot, dim=1))
    torch.testing.assert_close(vertices.grad.sum(0), -points.grad.sum(0))


def test_a_moved_surface_is_brought_back():
    model = patch()
    mean = model.mean.double()
    truth = Similarity(torch.ones(()).double(), euler_rotation(ANGLES * 0.2)[0], torch.tensor([4.0, -3, 5]).double())
    moved = truth.inverse()(mean)
    for scale, tolerance in ((False, 0.05), (True, 0.2)):
        found = align_surfaces(moved[::3], mean, model.faces, scale=scale, keep=1.0, iterations=400)
        assert (found(moved) - mean).norm(dim=1).max() < tolerance


def test_thirty_thousand_points_among_twenty_thousand_triangles_find_the_closest_one():
    grid = np.stack(np.meshgrid(np.arange(101.0), np.arange(101.0)), -1).reshape(-1, 2)
    vertices = torch.from_numpy(np.concatenate([grid, np.sin(grid.sum(1, keepdims=True) / 9) * 8], 1))
    i = torch.arange(101 * 101).view(101, 101)
    faces = torch.cat(
        [
            torch.stack([i[:-1, :-1], i[1:, 1:], i[:-1, 1:]], -1).view(-1, 3),
            torch.stack([i[:-1, :-1], i[1:, :-1], i[1:, 1:]], -1).view(-1, 3),
        ]
    )
    points = vertices.repeat(3, 1)[:30000] + torch.randn(30000, 3, generator=torch.Generator().manual_seed(0))
    found = closest_points(points, vertices, faces)
    foot = interpolate_faces(vertices, faces, found.face_id, found.bary)
    torch.testing.assert_close((points - foot).norm(dim=1), found.distance)
    assert (found.distance <= (points - vertices.repeat(3, 1)[:30000]).norm(dim=1) + 1e-9).all()
    some = torch.arange(0, 30000, 1500)
    each = torch.stack([closest_points(points[some], vertices, part).distance for part in faces.split(2500)], 1)
    torch.testing.assert_close(found.distance[some], each.min(1).values)
