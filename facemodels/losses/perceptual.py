"""The perceptual loss, and the crop that face recognition networks take."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from facemodels.losses.common import add_up, in_float32, safe_mean

# Where ArcFace's 112-pixel crop has the eyes, the tip of the nose and the corners of the mouth, pixels; published with
# the first pixel's center at 0, here at 0.5.
ARCFACE_POINTS = ((38.7946, 52.1963), (74.0318, 52.0014), (56.5252, 72.2366), (42.0493, 92.8655), (71.2299, 92.7041))


@in_float32
def face_crop(images: Tensor, points: Tensor, size: int = 112) -> Tensor:
    """Cut out the crop that ArcFace networks take.

    The similarity without reflection that maps the points to `ARCFACE_POINTS` with the least squares. No gradient
    flows to the points (nor in Deng et al. 2019). Five equal points give a crop of one color.

    Args:
        images: [N,H,W,3], 0..1.
        points: [N,5,2], pixels (center of the first pixel at 0.5), see `facemodels.core.landmarks.five_points`.
        size: of the crop, pixels.

    Returns:
        [N,3,size,size], -1..1, black beyond the image.

    Raises:
        ValueError: points are not [N,5,2].
    """
    if points.shape[1:] != (5, 2):
        raise ValueError(f"points must be [N,5,2], got {list(points.shape)}")
    height, width = images.shape[1:3]
    points = points.detach().to(images.dtype)
    center = points.mean(1)
    x, y = (points - center[:, None]).unbind(-1)
    goal_x, goal_y = (sum(values) / 5 for values in zip(*ARCFACE_POINTS))
    # Least squares in the plane as complex numbers: crop = (p + iq) / |x|^2 image. Sampling needs the inverse.
    p = add_up(x[:, k] * (gx - goal_x) + y[:, k] * (gy - goal_y) for k, (gx, gy) in enumerate(ARCFACE_POINTS))
    q = add_up(x[:, k] * (gy - goal_y) - y[:, k] * (gx - goal_x) for k, (gx, gy) in enumerate(ARCFACE_POINTS))
    back = (x.square() + y.square()).sum(1) / (p.square() + q.square()).clamp(min=1e-12)
    a, b = (back * p)[:, None, None], (back * q)[:, None, None]
    pixels = (torch.arange(size, dtype=images.dtype, device=images.device) + 0.5) * (112 / size)
    u, v = pixels[None, None, :] - goal_x, pixels[None, :, None] - goal_y
    column = a * u + b * v + center[:, 0, None, None]
    row = a * v - b * u + center[:, 1, None, None]
    grid = torch.stack([2 * column / width - 1, 2 * row / height - 1], -1)
    return 2 * F.grid_sample(images.movedim(-1, 1), grid, align_corners=False) - 1


def perceptual_loss(rendered: Tensor, image: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
    """Cosine distance of a face recognition network's embeddings: mean(1 - cos(F(I'), F(I))).

    L_per of Deng et al. 2019, with ArcFace as in the PyTorch release; weight 0.2.

    Args:
        rendered: the network's input, for ArcFace `face_crop` of the rendered image by its own points.
        image: likewise of the photograph; gets no gradient.
        network: images -> embeddings [N,D], of any length; in evaluation mode and frozen by the caller.
    """
    with torch.no_grad():
        goal = network(image)
    return _cosine_distance(network(rendered), goal)


@in_float32
def _cosine_distance(embedding: Tensor, goal: Tensor) -> Tensor:
    """Return the mean of 1 - cos of embeddings [N,D]."""
    return safe_mean(1 - F.cosine_similarity(embedding, goal, dim=-1))
