"""The whole renderer in one pass: what a training step calls."""

from typing import Any

import torch
from torch import Tensor

from ._autograd import Op, no_double_backward
from ._checks import (
    ATTRIBUTE,
    GEOMETRY,
    check_attributes_fit_geometry,
    check_choice,
    check_device,
    check_faces,
    check_same_dtype,
    check_size,
    check_tensor,
    deprecated_keyword,
    full_precision,
)
from .rasterize import CULL
from .shading import PRESETS
from .topology import Faces, faces_of


@deprecated_keyword("topology", "faces")
def render_face(
    clip: Tensor,
    normals: Tensor | None,
    albedo: Tensor,
    coefficients: Tensor | None,
    faces: Faces,
    size: tuple[int, int],
    background: Tensor | None = None,
    preset: str = "deep3d",
    cull: str = "none",
) -> tuple[Tensor, Tensor]:
    """Rasterize, interpolate normals and albedo, shade with spherical harmonics and composite, in one pass.

    Equal to ``sh_shade(interpolate(albedo), interpolate(normals), coefficients)`` over `background`, with no image in
    between; interpolated normals are not scaled to unit length. Without `normals` and `coefficients` the albedo is the
    color: shade per vertex first (``sh_shade`` on vertices) for Gouraud shading, as Deep3DFaceRecon does.

    The image has gradients to `clip`, `normals`, `albedo`, `coefficients` and `background`, of first order; only those
    that are asked for are computed. Gradients to `clip` lack the silhouettes: pass the image through `edge_gradients`
    to add them.

    Args:
        clip: float32 or float64 [N,V,4], clip-space positions.
        normals: [N,V,3] or [1,V,3], of the albedo's dtype, or None.
        albedo: [N,V,3] or [1,V,3]; clip's dtype, or float16 or bfloat16 beside float32.
        coefficients: light, [N,9,3] or [1,9,3] in clip's dtype, or None together with `normals`.
        faces: int32 [F,3], or a `Topology`. Deprecated name: `topology`.
        size: (H, W) in pixels, each at most 16384.
        background: [3], [N,H,W,3] or [1,H,W,3], in the albedo's dtype; None is black.
        preset: basis of `coefficients`, as in `sh_shade`.
        cull: as in `rasterize`.

    Returns:
        The image [N,H,W,3] in the albedo's dtype, and face ids int32 [N,H,W], -1 on background.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a shape, a device or a choice does not fit, or only one of `normals` and `coefficients` is given.
        RuntimeError: a face index is out of range, on the CPU; see `rasterize` for CUDA.
    """
    clip, albedo = full_precision(clip), full_precision(albedo)
    normals, coefficients, background = (full_precision(t) for t in (normals, coefficients, background))
    sizes = check_tensor("clip", clip, ("N", "V", 4), GEOMETRY)
    check_tensor("albedo", albedo, ("N|1", "V", 3), ATTRIBUTE, sizes)
    faces = faces_of(faces, sizes["V"])
    check_faces(faces, sizes["V"])
    if (normals is None) != (coefficients is None):
        raise ValueError("normals and coefficients must be given together, or both be None")
    if normals is not None:
        check_tensor("normals", normals, ("N|1", "V", 3), ATTRIBUTE, sizes)
        check_tensor("coefficients", coefficients, ("N|1", 9, 3), GEOMETRY, sizes)
        check_same_dtype(albedo=albedo, normals=normals)
        check_same_dtype(clip=clip, coefficients=coefficients)
    height, width = check_size(size)
    if background is not None:
        if isinstance(background, Tensor) and background.dim() == 1:
            check_tensor("background", background, (3,), ATTRIBUTE)
        else:
            image_sizes = {"N": clip.shape[0], "H": height, "W": width}
            check_tensor("background", background, ("N|1", "H", "W", 3), ATTRIBUTE, image_sizes)
        check_same_dtype(albedo=albedo, background=background)
    check_attributes_fit_geometry("albedo", albedo, "clip", clip)
    check_device(
        clip=clip, normals=normals, albedo=albedo, coefficients=coefficients, faces=faces, background=background
    )
    culled, basis = check_choice("cull", cull, CULL), check_choice("preset", preset, PRESETS)
    return _RenderFace.call(clip, normals, albedo, coefficients, faces, background, height, width, culled, basis)


class _RenderFace(Op):
    @staticmethod
    def forward(
        clip: Tensor,
        normals: Tensor | None,
        albedo: Tensor,
        coefficients: Tensor | None,
        faces: Tensor,
        background: Tensor | None,
        height: int,
        width: int,
        cull: int,
        preset: int,
    ) -> tuple[Tensor, Tensor]:
        return torch.ops.facerender.render_face(
            clip, normals, albedo, coefficients, faces, background, height, width, cull, preset
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        clip, normals, albedo, coefficients, faces, background = inputs[:6]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(clip, normals, albedo, coefficients, faces, output[1])
        ctx.background_shape = None if background is None else background.shape
        ctx.preset = inputs[9]

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        clip, normals, albedo, coefficients, faces, face_id = ctx.saved_tensors
        wants = ctx.needs_input_grad[:4]
        grads: tuple[Tensor | None, ...] = (None,) * 4
        grad_background = None
        if grad is not None and any(wants):
            op, deterministic = torch.ops.facerender.render_face_backward, torch.are_deterministic_algorithms_enabled()
            tensors = (clip, normals, albedo, coefficients)
            found = no_double_backward(op, grad, *tensors, faces, face_id, ctx.preset, *wants, deterministic)
            grads = tuple(g.to(t.dtype) if want else None for g, t, want in zip(found, tensors, wants, strict=True))
        if grad is not None and ctx.needs_input_grad[5]:
            outside = torch.where((face_id < 0).unsqueeze(-1), grad, torch.zeros_like(grad))
            if len(ctx.background_shape) == 1:
                grad_background = outside.sum((0, 1, 2))
            else:
                grad_background = outside.sum(0, keepdim=True) if ctx.background_shape[0] == 1 else outside
        return *grads, None, grad_background, None, None, None, None


@torch.library.register_fake("facerender::render_face")
def _render_face_fake(
    clip: Tensor,
    normals: Tensor | None,
    albedo: Tensor,
    coefficients: Tensor | None,
    faces: Tensor,
    background: Tensor | None,
    height: int,
    width: int,
    cull: int,
    preset: int,
) -> tuple[Tensor, Tensor]:
    shape = (clip.shape[0], height, width)
    return albedo.new_empty((*shape, 3)), clip.new_empty(shape, dtype=torch.int32)


@torch.library.register_fake("facerender::render_face_backward")
def _render_face_backward_fake(
    grad: Tensor,
    clip: Tensor,
    normals: Tensor | None,
    albedo: Tensor,
    coefficients: Tensor | None,
    faces: Tensor,
    face_id: Tensor,
    preset: int,
    want_clip: bool,
    want_normals: bool,
    want_albedo: bool,
    want_coefficients: bool,
    deterministic: bool,
) -> tuple[Tensor, ...]:
    wants = ((clip, want_clip), (normals, want_normals), (albedo, want_albedo), (coefficients, want_coefficients))
    return tuple(clip.new_empty(t.shape if want and t is not None else (0,)) for t, want in wants)
