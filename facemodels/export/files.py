"""What all the writers share: units and axes, texture files, and files that are whole or absent."""

import io

import numpy as np
import torch
from PIL import Image

from facemodels.core.drawing import to_bytes
from facemodels.core.errors import InputError

UNITS = {"mm": 1.0, "cm": 0.1, "m": 0.001}
AXES = ("y-up", "z-up")


def unit_scale(unit: str) -> np.float32:
    """What a length in millimetres is multiplied by."""
    if unit not in UNITS:
        raise InputError(f"unit must be mm, cm or m, got {unit!r}")
    return np.float32(UNITS[unit])


def turned(vectors: np.ndarray, axes: str) -> np.ndarray:
    """Vectors [...,3], y up, in the axes of a file. "z-up": x stays, the face looks along -y."""
    if axes not in AXES:
        raise InputError(f"axes must be y-up or z-up, got {axes!r}")
    return vectors if axes == "y-up" else np.stack([vectors[..., 0], -vectors[..., 2], vectors[..., 1]], -1)


def srgb_bytes(linear: np.ndarray) -> np.ndarray:
    return to_bytes(torch.from_numpy(linear))


def encode_image(linear: np.ndarray, kind: str, **options) -> bytes:
    """A linear image [H,W,3] as an sRGB file in memory; kind: "PNG" or "JPEG"."""
    out = io.BytesIO()
    Image.fromarray(srgb_bytes(linear)).save(out, kind, **options)
    return out.getvalue()
