"""Textures of mesh files, read by pillow."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .parsed import MeshError, color_scale, linear_colors, need

LARGEST = 4096  # texels on a side; larger textures are halved: pictures of a mesh have 4,096 pixels on a side at most
FREE = 4096 * 4096  # texels that any file may claim
TEXELS_PER_BYTE = 50  # what a file of a larger texture may claim; photographs have 1 to 30


def read_texture(source: bytes | Path, name: str) -> Tensor:
    """Read a texture.

    Args:
        source: the content of a picture file, or its path.
        name: what errors call it.

    Returns:
        Linear float32 [Ht,Wt,3].

    Raises:
        MeshError: it is damaged, or claims to be huge; pillow is not installed.
    """
    image_module = need("PIL.Image", "reading textures")
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is checked below
            image = image_module.open(io.BytesIO(content))
        width, height = image.size
        if width * height > max(FREE, TEXELS_PER_BYTE * len(content)):
            raise MeshError(
                f"{name}: a texture of {width} x {height} in {len(content):,} bytes is not read; make it smaller"
            )
        image.draft("RGB", (LARGEST, LARGEST))  # JPEG files are decoded at a smaller size
        pixels = _bytes(image, image_module)
    except MeshError:
        raise
    except Exception as error:  # whatever a decoder raises at a damaged file, in words of its own
        wrong = "it is cut off or damaged"
        if isinstance(error, image_module.UnidentifiedImageError):
            wrong = "its format is none that is known"
        elif isinstance(error, OSError) and error.strerror:  # no permission, and the like
            wrong = error.strerror
        raise MeshError(f"{name}: not a readable texture ({wrong}); replace it or take it out of the mesh") from error
    return torch.from_numpy(linear_colors(pixels))


def _bytes(image: Any, image_module: Any) -> np.ndarray:
    """The image as uint8 [H,W,3]: 16 bits and floats are scaled, large images halved until they fit."""
    if image.mode.startswith("I") or image.mode == "F":
        gray = np.asarray(image)
        gray = np.clip(np.nan_to_num(gray.astype(np.float32)) / color_scale(gray), 0, 1)
        image = image_module.fromarray((gray * 255).round().astype(np.uint8))
    factor = 1
    while max(image.size) > LARGEST * factor:
        factor *= 2
    if image.mode != "RGB":
        image = image.convert("RGB")
    if factor > 1:
        image = image.reduce(factor)
    return np.asarray(image)
