"""Rasterization: which triangle each pixel sees, where in it, and how deep."""

from typing import NamedTuple

import torch
from torch import Tensor

from ._autograd import Op, once
from ._checks import GEOMETRY, check_choice, check_device, check_faces, check_size, check_tensor, deterministic, full_precision
from .topology import faces_of

CULL = ("none", "back", "front")


class Fragments(NamedTuple):
    """What `rasterize` returns. With ``layers=K`` above 1 every member has a layer axis after W, nearest first."""

    face_id: Tensor  # int32 [N,H,W], -1 on background
    bary: Tensor | None  # [N,H,W,3], perspective-correct, 0 on background
    depth: Tensor  # [N,H,W], z/w in -1..1, 1 on background


def rasterize(clip: Tensor, faces, size: tuple[int, int], cull: str = "none", layers: int = 1, barycentrics: bool = True) -> Fragments:
    """Rasterizes a batch of meshes that share their faces.

    Args:
        clip: [N,V,4] float32 or float64, clip-space positions (OpenGL's: x right, y up, visible when -w <= x, y, z <= w).
        faces: [F,3] int32, or a `Topology`.
        size: (H, W) in pixels, each at most 16384. Row 0 is the top, pixel (i, j) has its centre at (j + 0.5, i + 0.5).
        cull: "none", "back" (draw counter-clockwise triangles only, as seen on the screen) or "front".
        layers: K > 1 also returns the next nearest surfaces behind, K in all.
        barycentrics: False where ids and depth are enough: `bary` is None, and the rest takes less time.

    Returns:
        `Fragments`. `face_id` is exact: vertices are snapped to 1/256 pixel, a centre on a shared edge belongs to exactly one of the
        triangles (top-left rule), at equal depth the lower face index wins; the same bits on CPU and CUDA. Depths are compared as
        float32. A triangle that crosses the camera plane is drawn where it is in front; one with a NaN or infinite corner, or without
        area, is not drawn.

    Differentiability: `bary` and `depth` to `clip`, inside triangles; see `edge_gradients` for outlines. Once only: a second
    derivative raises.

    Raises:
        TypeError, ValueError: an argument has the wrong type, dtype, rank, size or device. RuntimeError: on the CPU, a face index out
        of range. On CUDA such a face is not drawn, and FACERENDER_CHECKS=1 in the environment makes it an error.
    """
    clip = full_precision(clip)
    sizes = check_tensor("clip", clip, ("N", "V", 4), GEOMETRY)
    faces = faces_of(faces, sizes["V"])
    check_faces(faces, sizes["V"])
    check_device(clip=clip, faces=faces)
    height, width = check_size(size)
    culled = check_choice("cull", cull, CULL)
    if not isinstance(layers, int) or layers < 1:
        raise ValueError(f"layers must be a positive integer, got {layers!r}")
    face_id, bary, depth = _Rasterize.call(clip, faces, height, width, culled, layers, bool(barycentrics))
    if layers == 1:
        face_id, bary, depth = face_id.squeeze(3), bary.squeeze(3), depth.squeeze(3)
    return Fragments(face_id, bary if barycentrics else None, depth)


class _Rasterize(Op):
    @staticmethod
    def forward(clip, faces, height, width, cull, layers, want_bary):
        return torch.ops.facerender.rasterize(clip, faces, height, width, cull, layers, want_bary)

    @staticmethod
    def setup_context(ctx, inputs, output):
        clip, faces = inputs[:2]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(output[0])
        ctx.save_for_backward(clip, faces, output[0])
        ctx.want_bary = inputs[-1]

    @staticmethod
    def backward(ctx, _, grad_bary, grad_depth):
        grad_bary = grad_bary if ctx.want_bary else None
        if not ctx.needs_input_grad[0] or (grad_bary is None and grad_depth is None):
            return (None,) * 7
        clip, faces, face_id = ctx.saved_tensors
        grad = once(torch.ops.facerender.rasterize_backward, grad_bary, grad_depth, clip, faces, face_id, deterministic())
        return grad, *(None,) * 6


@torch.library.register_fake("facerender::rasterize")
def _(clip, faces, height, width, cull, layers, want_bary=True):
    shape = (clip.shape[0], height, width, layers)
    return clip.new_empty(shape, dtype=torch.int32), clip.new_empty((*shape, 3 if want_bary else 0)), clip.new_empty(shape)


@torch.library.register_fake("facerender::rasterize_backward")
def _(grad_bary, grad_depth, clip, faces, face_id, deterministic):
    return clip.new_empty(clip.shape)


def bary_derivatives(clip: Tensor, faces, fragments: Fragments) -> Tensor:
    """How the barycentrics change from pixel to pixel: [N,H,W,3,2], per pixel to the right and per pixel down; 0 on background.

    Plain torch on [N,H,W] gathers, so differentiable as often as wanted; unclamped barycentrics are meant.
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
    nxt, last = [1, 2, 0], [2, 0, 1]
    m = u[..., nxt] * v[..., last] - v[..., nxt] * u[..., last]
    dm_dx = v[..., nxt] * w[..., last] - w[..., nxt] * v[..., last]  # du/dx = -w
    dm_dy = w[..., nxt] * u[..., last] - u[..., nxt] * w[..., last]  # dv/dy = -w
    total = m.sum(-1, keepdim=True)
    safe = hit[..., None] & (total != 0)
    total = torch.where(safe, total, torch.ones_like(total))
    bary = m / total
    dx, dy = ((d - bary * d.sum(-1, keepdim=True)) / total for d in (dm_dx, dm_dy))
    return torch.where(safe[..., None], torch.stack([dx, dy], -1), torch.zeros((), dtype=clip.dtype, device=clip.device))
