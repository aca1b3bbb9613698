"""Similarities and rotations against known ones (facemodels.core.alignment)."""

import pytest
import torch

from facemodels.core.alignment import Similarity, nearest_rotation, similarity
from facerender.camera import euler_rotation


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
    truth = Similarity(
        torch.tensor(1.3).double(),
        euler_rotation(torch.tensor([[0.3, -0.7, 0.4]]).double())[0],
        torch.tensor([1.0, 2, 3]).double(),
    )
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
