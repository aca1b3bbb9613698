"""Rotation vectors (facemodels.core.rotation)."""

import pytest
import torch

import facerender as fr
from facemodels.core.rotation import axis_angle_rotation, head_angles, head_rotation


def test_rotation_vectors_are_rotations_also_at_zero():
    vectors = torch.randn(20, 3, dtype=torch.float64) * torch.logspace(-9, 0.4, 20, dtype=torch.float64)[:, None]
    r = axis_angle_rotation(vectors)
    torch.testing.assert_close(r, torch.linalg.matrix_exp(_cross(vectors)), rtol=0, atol=1e-12)
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(axis_angle_rotation, zero)


def test_head_angles_are_those_a_rotation_was_made_of():
    angles = (torch.rand(50, 3, dtype=torch.float64) - 0.5) * torch.tensor([300.0, 170.0, 300.0])
    torch.testing.assert_close(head_angles(head_rotation(angles)), angles, rtol=0, atol=1e-9)
    sideways = head_rotation(torch.tensor([[20.0, 90.0, 30.0], [-20.0, -90.0, 30.0]], dtype=torch.float64))
    torch.testing.assert_close(head_rotation(head_angles(sideways)), sideways, rtol=0, atol=1e-9)
    assert head_angles(sideways)[:, 2].abs().max() == 0


@pytest.mark.parametrize(("angles", "right", "up"), [((30.0, 0, 0), 0, 1), ((0, 30.0, 0), -1, 0)])
def test_positive_pitch_looks_up_and_positive_yaw_to_the_left_of_the_picture(angles, right, up):
    nose = head_rotation(torch.tensor(angles)) @ torch.tensor([0.0, 0.0, 1.0])  # x right, y up in the picture
    torch.testing.assert_close(nose[:2].sign(), torch.tensor([right, up]).float())


def test_positive_roll_turns_the_head_clockwise_in_the_picture():
    crown = head_rotation(torch.tensor([0.0, 0.0, 30.0])) @ torch.tensor([0.0, 1.0, 0.0])
    assert crown[0] > 0.4 and crown[1] > 0


@pytest.mark.parametrize("axis", range(3))
def test_single_angles_of_heads_and_of_the_renderer_differ_in_sign(axis):
    angles = torch.zeros(1, 3)
    angles[0, axis] = 25.0
    torch.testing.assert_close(head_rotation(angles), fr.camera.euler_rotation(-angles.deg2rad()))


def _cross(v):
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(-1, 3, 3)
