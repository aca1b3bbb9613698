"""What all writers share: units, axes, and encoding of colors and textures."""

import io
from typing import Any

import numpy as np
import torch
from PIL import Image

from facemodels.core.drawing import to_bytes
from facemodels.core.errors import InputError

UNITS = {"mm": 1.0, "cm": 0.1, "m": 0.001}
AXES = ("y-up", "z-up")


def unit_scale(unit: str) -> np.float32:
    """The factor from millimeters to a unit.

    Raises:
        InputError: another unit.
    """
    if unit not in UNITS:
        raise InputError(f"unit must be mm, cm or m, got {unit!r}")
    return np.float32(UNITS[unit])


def axes_of(suffix: str, axes: str) -> str:
    """The axes of a file.

    Args:
        suffix: such as ".ply".
        axes: "y-up", "z-up" or "blender": whatever stands upright in Blender 5, which turns GLB and OBJ files from y up
            to its own z, and leaves PLY files as they are.

    Returns:
        "y-up" or "z-up".

    Raises:
        InputError: other axes.
    """
    if axes not in (*AXES, "blender"):
        raise InputError(f"axes must be y-up, z-up or blender, got {axes!r}")
    return ("z-up" if suffix == ".ply" else "y-up") if axes == "blender" else axes


def convert_axes(vectors: np.ndarray, axes: str) -> np.ndarray:
    """Convert vectors [...,3] with y up to the axes of a file.

    Args:
        vectors: [...,3].
        axes: "y-up", or "z-up": x stays, and the face looks along -y.

    Raises:
        InputError: other axes.
    """
    if axes not in AXES:
        raise InputError(f"axes must be y-up or z-up, got {axes!r}")
    return vectors if axes == "y-up" else np.stack([vectors[..., 0], -vectors[..., 2], vectors[..., 1]], -1)


def srgb_bytes(linear: np.ndarray) -> np.ndarray:
    """Encode linear colors in 0..1 as sRGB uint8."""
    return to_bytes(torch.from_numpy(linear))


def encode_image(linear: np.ndarray, kind: str, **options: Any) -> bytes:
    """Encode a linear image [H,W,3] as an sRGB file; kind is "PNG" or "JPEG", options are Pillow's."""
    out = io.BytesIO()
    Image.fromarray(srgb_bytes(linear)).save(out, kind, **options)
    return out.getvalue()
