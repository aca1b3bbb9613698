"""Rasterization: the visible triangle of each pixel, the place in it, and its depth."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._autograd import Op, no_double_backward
from ._checks import (
    GEOMETRY,
    brief,
    brief_repr,
    check_choice,
    check_device,
    check_faces,
    check_size,
    check_tensor,
    full_precision,
)
from .topology import Faces, faces_of

CULL = ("none", "back", "front")


@brief_repr
class Fragments(NamedTuple):
    """What `rasterize` returns. With ``layers=K`` above 1 every member has a layer axis after W, nearest first.

    Attributes:
        face_id: int32 [N,H,W], the visible face; -1 on background.
        bary: [N,H,W,3], its perspective-correct barycentric coordinates; 0 on background. None if not asked for.
        depth: [N,H,W], z/w in -1..1; 1 on background.
    """

    face_id: Tensor
    bary: Tensor | None
    depth: Tensor


def rasterize(
    clip: Tensor,
    faces: Faces,
    size: tuple[int, int],
    cull: str = "none",
    layers: int = 1,
    barycentrics: bool = True,
) -> Fragments:
    """Rasterize a batch of meshes that share their faces.

    Face ids are exact: vertices are snapped to 1/256 pixel, a pixel center on a shared edge belongs to exactly one of
    the triangles (top-left rule), and at equal depth the lower face index wins; the same bits on CPU and CUDA. Depths
    are compared as float32. A triangle that crosses the camera plane is drawn where it is in front. A triangle with a
    NaN or infinite corner, or without area, is not drawn; one with two corners exactly opposite each other across the
    eye is seen edge-on, and has none.

    `bary` and `depth` are differentiable to `clip`, inside triangles; see `edge_gradients` for outlines. Where float32
    cannot hold a triangle's products (corners near its limits), they have no gradient, rather than one that is NaN. A
    second derivative raises.

    Args:
        clip: float32 or float64 [N,V,4], clip-space positions (OpenGL's: x right, y up, visible when
            -w <= x, y, z <= w).
        faces: int32 [F,3], or a `Topology`.
        size: (H, W) in pixels, each at most 16384. Row 0 is the top; pixel (i, j) has its center at (j + 0.5, i + 0.5).
        cull: "none", "back" (draw only triangles that are counterclockwise on the screen) or "front".
        layers: K > 1 also returns the next nearest surfaces behind, K in all.
        barycentrics: False where ids and depth are enough: `bary` is then None, and the rest takes less time.

    Returns:
        `Fragments`: `face_id` (-1 on background), `bary` (0 on background) and `depth` (1 on background).

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a rank, size, device or choice does not fit.
        RuntimeError: a face index is out of range, on the CPU. On CUDA such a face is not drawn, and
            FACERENDER_CHECKS=1 in the environment makes it a ValueError.
    """
    clip = full_precision(clip)
    sizes = check_tensor("clip", clip, ("N", "V", 4), GEOMETRY)
    faces = faces_of(faces, sizes["V"])
    check_faces(faces, sizes["V"])
    check_device(clip=clip, faces=faces)
    height, width = check_size(size)
    culled = check_choice("cull", cull, CULL)
    if not isinstance(layers, int) or layers < 1:
        raise ValueError(f"layers must be a positive integer, got {brief(layers)}")
    face_id, bary, depth = _Rasterize.call(clip, faces, height, width, culled, layers, bool(barycentrics))
    if layers == 1:
        face_id, bary, depth = face_id.squeeze(3), bary.squeeze(3), depth.squeeze(3)
    return Fragments(face_id, bary if barycentrics else None, depth)


class _Rasterize(Op):
    @staticmethod
    def forward(
        clip: Tensor, faces: Tensor, height: int, width: int, cull: int, layers: int, want_bary: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        return torch.ops.facerender.rasterize(clip, faces, height, width, cull, layers, want_bary)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        clip, faces = inputs[:2]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(output[0])
        ctx.save_for_backward(clip, faces, output[0])
        ctx.want_bary = inputs[-1]

    @staticmethod
    def backward(ctx: Any, _: None, grad_bary: Tensor | None, grad_depth: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_bary = grad_bary if ctx.want_bary else None
        if not ctx.needs_input_grad[0] or (grad_bary is None and grad_depth is None):
            return (None,) * 7
        op, deterministic = torch.ops.facerender.rasterize_backward, torch.are_deterministic_algorithms_enabled()
        clip, faces, face_id = ctx.saved_tensors
        grad = no_double_backward(op, grad_bary, grad_depth, clip, faces, face_id, deterministic)
        return grad, *(None,) * 6


@torch.library.register_fake("facerender::rasterize")
def _rasterize_fake(
    clip: Tensor, faces: Tensor, height: int, width: int, cull: int, layers: int, want_bary: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (clip.shape[0], height, width, layers)
    bary = clip.new_empty((*shape, 3 if want_bary else 0))
    return clip.new_empty(shape, dtype=torch.int32), bary, clip.new_empty(shape)


@torch.library.register_fake("facerender::rasterize_backward")
def _rasterize_backward_fake(
    grad_bary: Tensor | None,
    grad_depth: Tensor | None,
    clip: Tensor,
    faces: Tensor,
    face_id: Tensor,
    deterministic: bool,
) -> Tensor:
    return clip.new_empty(clip.shape)


def bary_derivatives(clip: Tensor, faces: Faces, fragments: Fragments) -> Tensor:
    """Compute how barycentric coordinates change from pixel to pixel, in plain torch on [N,H,W] gathers.

    Differentiable as often as wanted. The derivatives are those of unclamped coordinates.

    Args:
        clip: float32 or float64 [N,V,4], the positions that were rasterized.
        faces: int32 [F,3] or a `Topology`, the faces that were rasterized.
        fragments: what `rasterize` returned, of one layer.

    Returns:
        [N,H,W,3,2]: the change per pixel to the right and per pixel down; 0 on background.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a shape or a device does not fit.
    """
    sizes = check_tensor("clip", clip, ("N", "V", 4), GEOMETRY)
    faces = faces_of(faces, sizes["V"])
    check_faces(faces, sizes["V"])
    face_id = fragments.face_id
    check_tensor("fragments.face_id", face_id, ("N", "H", "W"), (torch.int32,), sizes)
    check_device(clip=clip, faces=faces, face_id=face_id)
    n, height, width = face_id.shape
    if not len(faces) or not sizes["V"]:
        return clip.new_zeros((n, height, width, 3, 2))
    hit = face_id >= 0
    corners = faces[face_id.clamp(min=0).long()].long()  # [N,H,W,3]
    image = torch.arange(n, device=clip.device)[:, None, None, None]
    p = clip[image, corners]  # [N,H,W,3,4]
    x = torch.arange(width, dtype=clip.dtype, device=clip.device) + 0.5
    y = torch.arange(height, dtype=clip.dtype, device=clip.device)[:, None, None] + 0.5
    w = p[..., 3]
    u = p[..., 0] * (width / 2) + w * (width / 2 - x[:, None])
    v = w * (height / 2 - y) - p[..., 1] * (height / 2)
    after, before = [1, 2, 0], [2, 0, 1]
    m = u[..., after] * v[..., before] - v[..., after] * u[..., before]
    dm_dx = v[..., after] * w[..., before] - w[..., after] * v[..., before]  # du/dx = -w
    dm_dy = w[..., after] * u[..., before] - u[..., after] * w[..., before]  # dv/dy = -w
    total = m.sum(-1, keepdim=True)
    safe = hit[..., None] & (total != 0)
    total = torch.where(safe, total, torch.ones_like(total))
    bary = m / total
    dx, dy = ((d - bary * d.sum(-1, keepdim=True)) / total for d in (dm_dx, dm_dy))
    background = torch.zeros((), dtype=clip.dtype, device=clip.device)
    return torch.where(safe[..., None], torch.stack([dx, dy], -1), background)
