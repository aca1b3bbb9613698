"""Variations of pose and expression: injected, reversed, composed."""

import pytest
import torch

import facerender as fr
from facemodels.core.parameters import FaceParameters
from facemodels.methods.cycle import CYCLES, VARIED, Pose, inject, reverse
from tests.methods.cycle.common import FIELDS


def test_a_variation_and_its_inverse_cancel():
    torch.manual_seed(0)

    def draw():
        rotation = fr.camera.euler_rotation(torch.randn(5, 3).double())
        return Pose(rotation, torch.rand(5).double() + 0.3, 50 * torch.randn(5, 2).double())

    first, second = draw(), draw()
    variation = second.after(first.inverse())
    identity = Pose(torch.eye(3).double().expand(5, 3, 3), torch.ones(5).double(), torch.zeros(5, 2).double())
    for a, b in zip(variation.after(variation.inverse()), identity):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    for a, b in zip(variation.after(first), second):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    for a, b in zip(variation.inverse().after(second), first):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cycle", CYCLES)
def test_a_reversed_injection_gives_the_first_frame(labeled, cycle):
    first, second = labeled[1].pairs()
    variation, target = inject(cycle, first, second)
    for field in FIELDS:
        expected = getattr(second if field in VARIED[cycle] else first, field)
        torch.testing.assert_close(getattr(target, field), expected, rtol=0, atol=1e-4)
    for a, b in zip(reverse(target, variation), first):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_variations_of_pose_compose_rotations_and_do_not_subtract_angles():
    """A turn by 40 degrees after a pitch of 40 is not the difference of their Euler angles."""
    radians = lambda *degrees: fr.camera.euler_rotation(torch.tensor([degrees]) * torch.pi / 180)  # noqa: E731
    one, zero = torch.ones(1), torch.zeros(1, 2)
    first, second = Pose(radians(40.0, 0.0, 10.0), one, zero), Pose(radians(40.0, 40.0, 10.0), one, zero)
    variation = second.after(first.inverse())
    torch.testing.assert_close(variation.rotation @ first.rotation, second.rotation, rtol=0, atol=1e-6)
    assert (variation.rotation - radians(0.0, 40.0, 0.0)).abs().max() > 0.1


def test_pixels_are_those_of_the_parameters(method, labeled):
    truth = labeled[1]
    points = method.model.shape(truth.identity, truth.expression)
    pixels = truth.pixels(points, method.size)
    parameters = truth.parameters(pixels[:, :68], method.size)
    assert isinstance(parameters, FaceParameters) and parameters.light is truth.light
    torch.testing.assert_close(parameters.pixels(points), pixels, rtol=0, atol=1e-4)
