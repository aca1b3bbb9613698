"""What a camera does to pictures, on image tensors: Gaussian blur and JPEG compression, each with its own strength."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_blur(image: Tensor, deviation: Tensor) -> Tensor:
    """Blur images, each by its own amount.

    Args:
        image: [N,C,H,W].
        deviation: [N], standard deviations in pixels; at most about 3, since the kernel has 13 taps.

    Returns:
        [N,C,H,W]; borders are replicated.
    """
    n, c, h, w = image.shape
    if n == 0:
        return image
    reach = torch.arange(-6, 7, device=image.device)
    kernel = torch.exp(-0.5 * (reach / deviation[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, 0)[:, None]
    flat = F.pad(image.reshape(1, n * c, h, w), (6, 6, 6, 6), mode="replicate")
    flat = F.conv2d(F.conv2d(flat, kernel[:, :, None], groups=n * c), kernel[..., None], groups=n * c)
    return flat.view(n, c, h, w)


# The luminance table of the JPEG standard (ITU-T T.81, annex K), a row of an 8 by 8 block per line.
_QUANTIZATION = [
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
]


def jpeg(image: Tensor, quality: Tensor) -> Tensor:
    """Compress images as JPEG does and decompress them: cosine transform of 8 by 8 blocks, quantized.

    The standard's luminance table serves all channels, without subsampling of color.

    Args:
        image: [N,3,H,W] in 0..1.
        quality: [N], 1..100.

    Returns:
        [N,3,H,W] in 0..1.
    """
    n, c, h, w = image.shape
    if n == 0:
        return image
    padded = F.pad(image, (0, -w % 8, 0, -h % 8), mode="replicate")
    hp, wp = padded.shape[-2:]
    k = torch.arange(8, device=image.device, dtype=image.dtype)
    cosines = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * torch.where(
        k[:, None] == 0, math.sqrt(1 / 8), 0.5
    )
    transform = torch.kron(cosines, cosines)  # of all 64 pixels of a block at once
    blocks = F.pixel_unshuffle(padded.reshape(n * c, 1, hp, wp), 8).flatten(2) * 255 - 128
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50).clamp(min=0.01)
    step = (
        (torch.tensor(_QUANTIZATION, dtype=image.dtype).to(image.device, non_blocking=True) * scale[:, None])
        .clamp(min=1)
        .repeat_interleave(c, 0)[..., None]
    )
    back = transform.T @ ((transform @ blocks).div_(step).round_().mul_(step))
    back = F.pixel_shuffle(back.view(n * c, 64, hp // 8, wp // 8), 8).view(n, c, hp, wp)
    return back.add_(128).div_(255).clamp_(0, 1)[..., :h, :w]
