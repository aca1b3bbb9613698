"""The distance of rotations."""

import torch
from torch import Tensor

from facemodels.losses.common import check_shapes, in_float32


@in_float32
def rotation_angle(first: Tensor, second: Tensor) -> Tensor:
    """Geodesic distance on SO(3): the angle of the rotation from one to the other.

    Accurate near 0 and near pi, where the arc cosine of the trace is not. The gradient is never NaN. Like that of any
    distance it does not vanish towards 0: square the angle for a loss that converges smoothly.

    Args:
        first: rotations [...,3,3].
        second: like first.

    Returns:
        [...], radians, 0..pi.
    """
    check_shapes(first=first, second=second)
    sine = torch.linalg.vector_norm(torch.linalg.cross(first, second, dim=-2).sum(-1), dim=-1) / 2
    cosine = ((first * second).sum((-1, -2)) - 1) / 2
    return torch.atan2(sine, cosine)
