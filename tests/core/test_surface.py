"""Closest points against brute force and hand-worked ones, similarities against known ones, and aligned surfaces."""

import numpy as np
import pytest
import torch

from facemodels.core.alignment import Similarity, nearest_rotation, similarity
from facemodels.core.surface import ClosestPoints, align_surfaces, closest_points, interpolate_faces
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


@pytest.mark.parametrize("scale", [True, False])
def test_similarity_is_recovered_in_batches(scale):
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(4, 30, 3, generator=generator, dtype=torch.float64)
    rotation = euler_rotation(torch.randn(4, 3, generator=generator, dtype=torch.float64))
    size = (
        torch.rand(4, generator=generator, dtype=torch.float64) + 0.5 if scale else torch.ones(4, dtype=torch.float64)
    )
    truth = Similarity(size, rotation, torch.randn(4, 3, generator=generator, dtype=torch.float64))
    found = similarity(source, truth(source), scale=scale)
    for a, b in zip(found, truth):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(found.inverse()(truth(source)), source)


def test_similarity_never_mirrors():
    source = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = similarity(source, source * torch.tensor([-1.0, 1, 1]))
    assert torch.linalg.det(found.rotation).item() == pytest.approx(1)


def test_similarity_heeds_weights():
    source = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = Similarity(torch.tensor(1.3).double(), euler_rotation(ANGLES)[0], torch.tensor([1.0, 2, 3]).double())
    target = truth(source)
    target[:5] += 100
    weights = torch.ones(20).double()
    weights[:5] = 0
    torch.testing.assert_close(similarity(source, target, weights).rotation, truth.rotation)


def test_the_nearest_rotation_has_a_gradient_where_singular_values_are_equal():
    """And where they are nearly so, and where the determinant is negative; against finite differences in float64."""
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn)
    for values in ([1.0, 1.0, 1.0], [2.0, 1.0, 1.0], [2.0, 2.0 + 1e-9, 0.5], [3.0, 2.0, 0.0], [3.0, 2.0, -1.0]):
        matrix = (
            turn
            @ torch.diag(torch.tensor(values, dtype=torch.float64))
            @ torch.randn(3, 3, dtype=torch.float64).matrix_exp().svd()[2]
        ).requires_grad_()
        assert torch.autograd.gradcheck(nearest_rotation, (matrix,)), values
        assert torch.linalg.det(nearest_rotation(matrix)) > 0.999


def test_similarity_of_points_that_do_not_decide_it_is_finite():
    line = torch.linspace(-1, 1, 7)[:, None] * torch.tensor([1.0, 2.0, 0.5])
    target = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    for source, weights in (
        (line, None),
        (torch.ones(7, 3), None),
        (target, torch.zeros(7)),
        (torch.full((7, 3), float("nan")), torch.zeros(7)),
    ):
        source = source.clone().requires_grad_()
        found = similarity(source, target, weights)
        sum(part.sum() for part in found).backward()
        assert all(torch.isfinite(part).all() for part in found) and torch.isfinite(source.grad).all()
        assert torch.linalg.det(found.rotation) > 0.99
    # A missing point does not count, nor does its place.
    weights = torch.ones(7)
    weights[3] = 0
    broken = target.clone()
    broken[3] = float("nan")
    other = torch.randn(7, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        similarity(broken, other, weights).rotation, similarity(target[weights > 0], other[weights > 0]).rotation
    )


def test_similarity_is_differentiable():
    source = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    target = torch.randn(8, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, t: tuple(similarity(s, t)), (source, target))


def test_a_moved_surface_is_brought_back():
    model = patch()
    mean = model.mean.double()
    truth = Similarity(torch.ones(()).double(), euler_rotation(ANGLES * 0.2)[0], torch.tensor([4.0, -3, 5]).double())
    moved = truth.inverse()(mean)
    for scale, tolerance in ((False, 0.05), (True, 0.2)):
        found = align_surfaces(moved[::3], mean, model.faces, scale=scale, keep=1.0, iterations=400)
        assert (found(moved) - mean).norm(dim=1).max() < tolerance


def test_thirty_thousand_points_take_seconds_not_minutes():
    import time

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
    start = time.perf_counter()
    closest_points(points, vertices, faces)
    assert time.perf_counter() - start < 15
