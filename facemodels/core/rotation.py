"""Rotation vectors (axis-angle); Euler angles are in `facerender.camera`."""

import torch
from torch import Tensor


def axis_angle_rotation(vectors: Tensor) -> Tensor:
    """Rotation vectors [...,3], radians, to matrices [...,3,3] (Rodrigues); exact and differentiable at zero too."""
    square = (vectors * vectors).sum(-1)[..., None, None]
    small = square < 1e-6
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    a = torch.where(small, 1 - square / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / safe)
    x, y, z = vectors.unbind(-1)
    o = torch.zeros_like(x)
    k = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*vectors.shape[:-1], 3, 3)
    return torch.eye(3, dtype=vectors.dtype, device=vectors.device) + a * k + b * (k @ k)
