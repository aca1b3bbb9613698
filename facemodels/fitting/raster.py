"""Pictures as tensors, crops of them, masks, and which triangles are a face."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.io.images import read_picture
from facemodels.io.pixels import as_picture, to_unit_range
from facemodels.models.morphable import MorphableModel
from facerender.color import to_linear


def to_tensor(values: Any, what: str = "an array") -> Tensor:
    """An array as a tensor, without gradient.

    Args:
        values: A tensor, or what `numpy.array` makes an array of numbers of.
        what: What it is, for the message.

    Raises:
        InputError: It is something else, such as the name of a file.
    """
    if isinstance(values, Tensor):
        return values.detach()
    array = np.array(values)
    if array.dtype.kind not in "biuf":
        raise InputError(f"expected {what}, got {values!r:.80}")
    return torch.from_numpy(array)


def linear_photo(image: Any) -> Tensor:
    """Linear float32 colors of an sRGB picture [H,W,3], uint8 or floats 0..1; or of a file or PIL image.

    Raises:
        InputError: A file that cannot be read, or another range or type of numbers.
        ValueError: Another shape.
    """
    if isinstance(image, (str, Path)):
        image = read_picture(image)
    elif isinstance(image, Image.Image):
        image = as_picture(image)
    image = to_tensor(image, "a picture [H,W,3]")
    if image.dim() != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"image must be [H,W,3], got {list(image.shape)}")
    if image.dtype == torch.uint8:
        return to_linear(image.float() / 255)
    # Resampling may overshoot a little.
    low, high = float(image.min()), float(image.max())
    if not image.is_floating_point() or not (-0.25 <= low and high <= 1.25):
        raise InputError(
            f"a picture is uint8, or floats in 0..1, got {image.dtype} in {low:g}..{high:g}; {to_unit_range(low, high)}"
        )
    return to_linear(image.float())


def crop_photo(photo: Tensor, offset: tuple[float, float], side: float, pixels: int) -> tuple[Tensor, Tensor]:
    """Resample a square of a photo.

    Args:
        photo: [H,W,3].
        offset: (x, y) of the square's upper left corner, pixels of the photo.
        side: Its side, pixels of the photo.
        pixels: The side of the result.

    Returns:
        Colors [pixels,pixels,3], area-averaged where the square shrinks, with the photo's border repeated outside; and
        bool [pixels,pixels], which pixels lie inside the photo.
    """
    height, width = photo.shape[:2]
    planes, factor = photo.movedim(-1, 0)[None], pixels / side
    if factor < 1:  # shrink the whole photo first, so that the bilinear samples below miss nothing
        small = (max(1, round(height * factor)), max(1, round(width * factor)))
        planes = torch.nn.functional.interpolate(planes, small, mode="area")
    center = (torch.arange(pixels, device=photo.device) + 0.5) / factor
    x, y = (offset[0] + center) * (2 / width) - 1, (offset[1] + center) * (2 / height) - 1
    grid = torch.stack([x[None].expand(pixels, -1), y[:, None].expand(-1, pixels)], -1)
    sampled = torch.nn.functional.grid_sample(planes, grid[None], padding_mode="border", align_corners=False)
    return sampled[0].movedim(0, -1).contiguous(), (grid.abs() <= 1).all(-1)


def outermost(face_id: Tensor) -> Tensor:
    """bool [N,H,W]: the background, and the drawn pixels that touch it."""
    return dilate(face_id < 0, 1)


def dilate(mask: Tensor, reach: int) -> Tensor:
    """bool [N,H,W]: pixels within `reach`, also diagonally, of a pixel of the mask, bool [N,H,W]."""
    return torch.nn.functional.max_pool2d(mask.float()[:, None], 2 * reach + 1, 1, reach)[:, 0] > 0


def face_triangles(model: MorphableModel) -> Tensor:
    """bool [F]: the triangles of the region "face"; all where a model has no such region."""
    if "face" not in model.regions:
        return torch.ones(len(model.faces), dtype=torch.bool, device=model.faces.device)
    member = torch.zeros(model.num_vertices, dtype=torch.bool, device=model.faces.device)
    member[model.regions["face"].to(member.device)] = True
    return member[model.faces.long()].all(1)
