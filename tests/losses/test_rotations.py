"""The angle between rotations."""

import math

import pytest
import torch

from facemodels import losses as L
from facerender import camera
from tests.losses.cases import (
    F64,
    random,
    rotations,
)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-3, 0.7, 2.0, math.pi - 1e-3, math.pi])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (F64, 1e-12)])
def test_the_rotation_angle_is_the_angle_that_lies_between(angle, dtype, tolerance):
    start = camera.euler_rotation(random(1, 3, seed=4))[0]
    axis = torch.tensor([0.48, -0.6, 0.64], dtype=F64)
    k = torch.tensor([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]], dtype=F64)
    turn = torch.eye(3, dtype=F64) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k
    first, second = start.to(dtype), (turn @ start).to(dtype)
    assert abs(L.rotation_angle(first, second).item() - angle) < tolerance
    assert abs(L.rotation_angle(second, first).item() - angle) < tolerance


def test_the_rotation_angle_is_unchanged_by_a_rotation_of_both_and_has_no_nan_gradient():
    first, second = rotations()
    common = camera.euler_rotation(random(1, 3, seed=9))
    torch.testing.assert_close(L.rotation_angle(common @ first, common @ second), L.rotation_angle(first, second))
    torch.testing.assert_close(L.rotation_angle(first @ common, second @ common), L.rotation_angle(first, second))
    half_turn = first @ torch.diag(torch.tensor([1.0, -1, -1], dtype=F64))
    for other in (first, half_turn):
        x = first.clone().requires_grad_()
        assert torch.autograd.grad(L.rotation_angle(x, other).sum(), x)[0].isfinite().all()
