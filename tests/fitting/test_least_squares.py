"""Linear models with their derivatives, and steps within bounds (facemodels.fitting.least_squares)."""

import pytest
import torch

from facemodels.fitting.least_squares import (
    VertexFunction,
    bounded_step,
    coefficient_layout,
)
from tests.face_patch import patch


@pytest.mark.parametrize("jaw", [False, True])
def test_model_part_is_the_model_with_its_derivative(jaw):
    model = patch(jaw=jaw).double()
    layout = coefficient_layout(model)
    assert sum(layout.sizes) == len(layout.precision) == 8 + 3 + 3 * jaw
    vertices = torch.tensor([5, 300, 700, 960, 5])
    part = VertexFunction(model, vertices, layout)
    x = torch.randn(len(layout.precision), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.5
    identity, expression, joints = layout.split(x[None])
    expected = model.shape(identity, expression, joints.view(1, -1, 3) if jaw else None)[0, vertices]
    torch.testing.assert_close(part(x), expected)
    torch.testing.assert_close(part.jacobian(x), torch.autograd.functional.jacobian(part, x))


@pytest.mark.parametrize("seed", range(5))
def test_bounded_step_is_the_minimum_within_the_bounds(seed):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(40, 12, generator=generator, dtype=torch.float64) * torch.logspace(0, -2, 12, dtype=torch.float64)
    hessian, gradient = (
        a.T @ a + 1e-6 * torch.eye(12).double(),
        torch.randn(12, generator=generator, dtype=torch.float64),
    )
    lower, upper = (
        -torch.rand(12, generator=generator, dtype=torch.float64),
        torch.rand(12, generator=generator, dtype=torch.float64),
    )
    step = bounded_step(hessian, gradient, lower, upper)
    slope = gradient + hessian @ step
    assert (step >= lower).all() and (step <= upper).all()
    inside = (step > lower) & (step < upper)
    assert slope[inside].abs().max() < 1e-6 if inside.any() else True
    assert (slope[step == lower] >= -1e-9).all() and (slope[step == upper] <= 1e-9).all()
