"""sRGB (IEC 61966-2-1), the encoding of picture files, and linear light, in which rendering computes."""

import numpy as np
import torch
from torch import Tensor


def to_linear(srgb: Tensor) -> Tensor:
    """Convert sRGB values to linear light, elementwise and differentiably.

    Args:
        srgb: [...], floating point, in 0..1.

    Raises:
        TypeError: it holds whole numbers, as pictures of bytes do.
    """
    _check("srgb", srgb)
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def to_linear_array(srgb: np.ndarray) -> np.ndarray:
    """Convert a float32 array of sRGB values in 0..1 to linear light.

    NumPy's power function and torch's may differ in the last bit, so readers of files keep to this one.
    """
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(linear: Tensor) -> Tensor:
    """Convert linear light to sRGB, elementwise and differentiably.

    Args:
        linear: [...], floating point; clamped to 0..1.

    Raises:
        TypeError: it holds whole numbers.
    """
    _check("linear", linear)
    linear = linear.clamp(0, 1)
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def _check(name: str, value: object) -> None:
    """Check that a value is a tensor of floating point, and not a picture of bytes."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(
            f"{name} must be floating point in 0..1, got {value.dtype}; give {name}.float() / 255 for bytes"
        )
