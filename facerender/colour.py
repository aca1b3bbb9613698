"""sRGB (IEC 61966-2-1), the encoding of picture files, and linear light, in which rendering computes. Plain torch."""

import torch
from torch import Tensor


def to_linear(srgb: Tensor) -> Tensor:
    """sRGB in 0..1 [...] to linear light."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Tensor) -> Tensor:
    """Linear light [...], clamped to 0..1, to sRGB."""
    linear = linear.clamp(0, 1)
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)
