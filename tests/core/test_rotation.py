"""Rotation vectors (facemodels.core.rotation)."""

import torch

from facemodels.core.rotation import axis_angle_rotation


def test_rotation_vectors_are_rotations_also_at_zero():
    vectors = torch.randn(20, 3, dtype=torch.float64) * torch.logspace(-9, 0.4, 20, dtype=torch.float64)[:, None]
    r = axis_angle_rotation(vectors)
    torch.testing.assert_close(r, torch.linalg.matrix_exp(_cross(vectors)), rtol=0, atol=1e-12)
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(axis_angle_rotation, zero)


def _cross(v):
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(-1, 3, 3)
