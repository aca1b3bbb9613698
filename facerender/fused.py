"""The whole renderer in one pass: what a training step calls."""

import torch
from torch import Tensor

from ._autograd import Op, once
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
    deterministic,
    full_precision,
)
from .rasterize import CULL
from .shading import PRESETS
from .topology import faces_of


def render_face(
    clip: Tensor,
    normals: Tensor | None,
    albedo: Tensor,
    coefficients: Tensor | None,
    topology,
    size: tuple[int, int],
    background: Tensor | None = None,
    preset: str = "deep3d",
    cull: str = "none",
) -> tuple[Tensor, Tensor]:
    """Rasterizes, interpolates normals and albedo, shades with spherical harmonics and composites, with no image in between.

    Equal to ``sh_shade(interpolate(albedo), interpolate(normals), coefficients)`` over `background`; the normals are not scaled to unit
    length between. Without `normals` and `coefficients` the albedo is the colour: shade per vertex first (``sh_shade`` on vertices) for
    Gouraud shading, as Deep3DFaceRecon does.

    Args:
        clip: [N,V,4] float32 or float64.
        normals: [N,V,3] or [1,V,3], of the albedo's dtype, or None.
        albedo: [N,V,3] or [1,V,3]; clip's dtype, or float16 or bfloat16 beside float32.
        coefficients: [N,9,3] or [1,9,3] in clip's dtype, or None; `preset` as in `sh_shade`.
        topology: a `Topology`, or faces [F,3] int32.
        size: (H, W).
        background: None for black, [3], [N,H,W,3] or [1,H,W,3], in the albedo's dtype.
        cull: as in `rasterize`.

    Returns:
        (image [N,H,W,3] in the albedo's dtype, face_id int32 [N,H,W] with -1 on background).

    Differentiability: the image to clip (inside triangles; wrap it in `edge_gradients` for outlines), normals, albedo, coefficients and
    background; once. Only the gradients that are asked for are computed.
    """
    clip, normals, albedo, coefficients, background = full_precision(clip, normals, albedo, coefficients, background)
    sizes = check_tensor("clip", clip, ("N", "V", 4), GEOMETRY)
    check_tensor("albedo", albedo, ("N|1", "V", 3), ATTRIBUTE, sizes)
    faces = faces_of(topology, sizes["V"])
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
            check_tensor("background", background, ("N|1", "H", "W", 3), ATTRIBUTE, {"N": clip.shape[0], "H": height, "W": width})
        check_same_dtype(albedo=albedo, background=background)
    check_attributes_fit_geometry("albedo", albedo, "clip", clip)
    check_device(clip=clip, normals=normals, albedo=albedo, coefficients=coefficients, faces=faces, background=background)
    return _RenderFace.call(
        clip, normals, albedo, coefficients, faces, background, height, width, check_choice("cull", cull, CULL), check_choice("preset", preset, PRESETS)
    )


class _RenderFace(Op):
    @staticmethod
    def forward(clip, normals, albedo, coefficients, faces, background, height, width, cull, preset):
        return torch.ops.facerender.render_face(clip, normals, albedo, coefficients, faces, background, height, width, cull, preset)

    @staticmethod
    def setup_context(ctx, inputs, output):
        clip, normals, albedo, coefficients, faces, background = inputs[:6]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(clip, normals, albedo, coefficients, faces, output[1])
        ctx.background_shape = None if background is None else background.shape
        ctx.preset = inputs[9]

    @staticmethod
    def backward(ctx, grad, _):
        clip, normals, albedo, coefficients, faces, face_id = ctx.saved_tensors
        wants = ctx.needs_input_grad[:4]
        grads, grad_background = (None,) * 4, None
        if grad is not None and any(wants):
            found = once(torch.ops.facerender.render_face_backward, grad, clip, normals, albedo, coefficients, faces, face_id, ctx.preset, *wants, deterministic()
            )
            grads = tuple(g.to(t.dtype) if want else None for g, t, want in zip(found, (clip, normals, albedo, coefficients), wants))
        if grad is not None and ctx.needs_input_grad[5]:
            outside = torch.where((face_id < 0).unsqueeze(-1), grad, torch.zeros_like(grad))
            if len(ctx.background_shape) == 1:
                grad_background = outside.sum((0, 1, 2))
            else:
                grad_background = outside.sum(0, keepdim=True) if ctx.background_shape[0] == 1 else outside
        return *grads, None, grad_background, None, None, None, None


@torch.library.register_fake("facerender::render_face")
def _(clip, normals, albedo, coefficients, faces, background, height, width, cull, preset):
    shape = (clip.shape[0], height, width)
    return albedo.new_empty((*shape, 3)), clip.new_empty(shape, dtype=torch.int32)


@torch.library.register_fake("facerender::render_face_backward")
def _(grad, clip, normals, albedo, coefficients, faces, face_id, preset, want_clip, want_normals, want_albedo, want_coefficients, deterministic):
    wants = ((clip, want_clip), (normals, want_normals), (albedo, want_albedo), (coefficients, want_coefficients))
    return tuple(clip.new_empty(t.shape if want and t is not None else (0,)) for t, want in wants)
