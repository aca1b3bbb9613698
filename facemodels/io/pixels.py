"""Pictures in memory: arrays, tensors and PIL images as uint8 [h,w,3]."""

import math
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.io.images import to_rgb


def is_pixels(value: Any) -> bool:
    """Whether a value is a picture, or a batch of pictures, in memory: an array, a tensor, or a PIL image."""
    return isinstance(value, (np.ndarray, Tensor, Image.Image))


def as_picture(value: Any, bgr: bool = False) -> np.ndarray:
    """Turn a picture in memory into uint8 [h,w,3]; gray is repeated.

    Args:
        value: an array or a tensor [h,w], [h,w,C] or [C,h,w] with 1, 3 or 4 channels: uint8, uint16 in 0..65535, or
            floats in 0..1; a fourth channel is left out. Or a PIL image, which becomes what `read_picture` makes of its
            file.
        bgr: the channels of an array or tensor are blue, green, red, as OpenCV reads them.

    Returns:
        uint8 [h,w,3], sRGB.

    Raises:
        InputError: another type, shape or dtype, or floats that are not in 0..1.
    """
    if isinstance(value, Image.Image):
        return to_rgb(ImageOps.exif_transpose(value), value.info.get("icc_profile"))
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    if not isinstance(value, np.ndarray):
        raise InputError(f"a picture is a path, an array, a tensor or a PIL image, got {type(value).__name__}")
    image, shape = value, f"{value.dtype} {list(value.shape)}"
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim == 3 and image.shape[2] not in (1, 3, 4) and image.shape[0] in (1, 3, 4):
        image = image.transpose(1, 2, 0)
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        raise InputError(f"a picture in memory is [h,w], [h,w,C] or [C,h,w] with 1, 3 or 4 channels, got {shape}")
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    elif image.dtype.kind == "f":
        low, high = float(image.min()), float(image.max())
        if not (-1e-3 <= low and high <= 1 + 1e-3):  # NaN too
            raise InputError(f"a picture of floats is in 0..1, got {low:g}..{high:g}; {to_unit_range(low, high)}")
        image = (image.clip(0, 1) * 255).round().astype(np.uint8)
    elif image.dtype != np.uint8:
        raise InputError(f"a picture in memory is uint8, uint16 or floats in 0..1, got {shape}")
    if image.shape[2] == 1:
        image = image.repeat(3, -1)
    image = image[..., :3]
    return np.ascontiguousarray(image[..., ::-1] if bgr else image)


def to_unit_range(low: float, high: float) -> str:
    """Say what brings a picture of floats in low..high to 0..1: the end of a message."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "replace the values that are not finite"
    if low >= -1e-3:
        return f"divide it by {255 if high <= 256 else 65535 if high <= 65536 else 'its largest value'}"
    if low >= -1.001 and high <= 1.001:
        return "(picture + 1) / 2 brings -1..1 there"
    return "undo its normalization, picture * std + mean, or give the picture as uint8"
