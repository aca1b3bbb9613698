"""Losses of images: colors and census."""

import torch
from torch import Tensor

from facemodels.losses.common import check_shapes, in_float32


@in_float32
def photometric_loss(rendered: Tensor, image: Tensor, mask: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Mean color distance over the mask: sum m sqrt(epsilon + |I' - I|^2) / max(sum m, 1).

    L_photo of Deng et al. 2019; weight 1.92.

    Args:
        rendered: [N,H,W,C], 0..1.
        image: like rendered.
        mask: [N,H,W], bool or 0..1: where the face is drawn, times the probability that the pixel is skin. No gradient
            flows to it: it could otherwise be lowered by shrinking the face.
        epsilon: keeps the square root differentiable at 0.
    """
    check_shapes(rendered=rendered, image=image)
    check_shapes(mask=mask, pixels=rendered[..., 0])
    mask = mask.detach().to(rendered.dtype)
    distance = (epsilon + (rendered - image).square().sum(-1)).sqrt()
    return (mask * distance).sum() / mask.sum().clamp(min=1)


@in_float32
def census_loss(first: Tensor, second: Tensor, mask: Tensor, radius: int = 3) -> Tensor:
    """Soft census (ternary) distance, which compares signs of differences to the neighbors and ignores brightness.

    Liu et al. 2019, DDFlow, released code. With gray values 0..255 and the differences d of a pixel's neighbors to it,
    t = d / sqrt(0.81 + d^2) for each image; h = sum over the patch of (t1 - t2)^2 / (0.1 + (t1 - t2)^2); the loss is
    sum m (h + 0.01)^0.4 / (2 sum m + 1e-6). At h = 0 it is 0.01^0.4 / 2 = 0.079, not 0. DDFlow adds the loss of both
    directions, each with its own mask.

    Args:
        first: [N,H,W,3] or [N,H,W,1], 0..1.
        second: like first.
        mask: [N,H,W], 1 for pixels that are visible in both images; gets no gradient. The `radius` pixels along the
            border never count.
        radius: of the patch, pixels.

    Raises:
        ValueError: the shapes differ, or the images are smaller than a patch.
    """
    check_shapes(first=first, second=second)
    check_shapes(mask=mask, pixels=first[..., 0])
    height, width = first.shape[1:3]
    if min(height, width) <= 2 * radius:
        raise ValueError(
            f"images must be at least {2 * radius + 1} pixels high and wide, as the patch is, got {list(first.shape)}"
        )
    mask = mask.detach().to(first.dtype)[:, radius : height - radius, radius : width - radius]
    first, second = _gray(first), _gray(second)
    hamming = torch.zeros_like(mask)
    # A pair of pixels adds the same to the patch of either, so half of the offsets visit every pair. One offset at a
    # time stays in a CPU's cache.
    for down, right in [(y, x) for y in range(radius + 1) for x in range(-radius, radius + 1) if (y, x) > (0, 0)]:
        change = (_soft_sign(first, down, right) - _soft_sign(second, down, right)).square()
        pair = change / (0.1 + change)
        left = max(0, -right)
        for y, x in ((0, left), (down, left + right)):  # the patch's center is the first, the second pixel of a pair
            hamming = hamming + pair[:, radius - y : height - radius - y, radius - x : width - radius - x]
    return (mask * (hamming + 0.01) ** 0.4).sum() / (2 * mask.sum() + 1e-6)


def _gray(image: Tensor) -> Tensor:
    """Convert images [N,H,W,1 or 3], 0..1, to gray values [N,H,W], 0..255."""
    return 255 * (
        image[..., 0]
        if image.shape[-1] == 1
        else 0.2989 * image[..., 0] + 0.5870 * image[..., 1] + 0.1140 * image[..., 2]
    )


def _soft_sign(gray: Tensor, down: int, right: int) -> Tensor:
    """Return t [N,H-down,W-|right|] of each pixel paired with the one `down` below and `right` beside it."""
    height, width = gray.shape[1:]
    difference = (
        gray[:, down:, max(0, right) : width + min(0, right)]
        - gray[:, : height - down, max(0, -right) : width - max(0, right)]
    )
    return difference * (0.81 + difference.square()).rsqrt()
