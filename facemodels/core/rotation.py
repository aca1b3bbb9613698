"""Rotations: the angles of a head as people read them, and rotation vectors (axis-angle).

Pitch, yaw and roll have one convention wherever people see them: that of `Pose_Para` of 300W-LP and AFLW2000-3D, in
degrees (`head_angles`). `facerender.camera.euler_rotation` has another one, in radians, for building scenes.
"""

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


def head_angles(rotation: Tensor) -> Tensor:
    """The pitch, yaw and roll of heads in degrees, in the convention of 300W-LP and AFLW2000-3D.

    Positive pitch looks up, positive yaw looks to the left of the picture, and positive roll turns the head clockwise
    in the picture. Applied to a head are first roll, then yaw, then pitch:

        R = Rx Ry Rz,  Rx = [1 0 0; 0 c s; 0 -s c],  Ry = [c 0 -s; 0 1 0; s 0 c],  Rz = [c s 0; -s c 0; 0 0 1]

    `facerender.camera.euler_rotation` has the opposite signs, and the opposite order too: where more than one angle is
    not zero, the numbers differ by more than their signs.

    Args:
        rotation: [...,3,3], from the head to the camera (x right, y up, z toward the viewer).

    Returns:
        [...,3] pitch, yaw, roll. Yaw is within 90 degrees, so that of a head turned further, pitch and roll are beyond
        90; at a yaw of exactly 90 degrees pitch and roll turn about one axis, and the roll is then 0.
    """
    r = rotation
    flat = r[..., 1, 2].square() + r[..., 2, 2].square() < 1e-12
    yaw = torch.asin((-r[..., 0, 2]).clamp(-1, 1))
    pitch = torch.where(flat, torch.atan2(-r[..., 2, 1], r[..., 1, 1]), torch.atan2(r[..., 1, 2], r[..., 2, 2]))
    roll = torch.where(flat, torch.zeros_like(yaw), torch.atan2(r[..., 0, 1], r[..., 0, 0]))
    return torch.stack([pitch, yaw, roll], -1).rad2deg()


def head_rotation(angles: Tensor) -> Tensor:
    """The rotations of heads with a pitch, yaw and roll: the inverse of `head_angles`.

    Args:
        angles: [...,3] pitch, yaw, roll in degrees, in the convention of `head_angles`.

    Returns:
        [...,3,3], from the head to the camera.
    """
    a = angles.deg2rad()
    (cx, cy, cz), (sx, sy, sz) = a.cos().unbind(-1), a.sin().unbind(-1)
    rows = [
        [cy * cz, cy * sz, -sy],
        [sx * sy * cz - cx * sz, sx * sy * sz + cx * cz, sx * cy],
        [cx * sy * cz + sx * sz, cx * sy * sz - sx * cz, cx * cy],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
