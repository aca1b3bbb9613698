"""Interpolation of vertex attributes over the triangles that the pixels see."""

import torch
from torch import Tensor

from ._autograd import Op, once
from ._checks import (
    ATTRIBUTE,
    GEOMETRY,
    check_attributes_fit_geometry,
    check_device,
    check_faces,
    check_same_dtype,
    check_tensor,
    describe,
    deterministic,
    full_precision,
)
from .rasterize import Fragments, bary_derivatives
from .topology import faces_of


def interpolate(attributes: Tensor, faces, fragments: Fragments, background: float | Tensor = 0.0, derivatives_of: Tensor | None = None):
    """Interpolates attributes at every pixel.

    Args:
        attributes: [N,V,C], or [1,V,C] shared by the batch without a copy; the dtype of `fragments.bary`, or float16 or bfloat16
            beside float32.
        faces: [F,3] int32, or a `Topology`: the one that was rasterized.
        fragments: what `rasterize` returned, with or without layers.
        background: the value of pixels that see nothing: a number, or a tensor [C].
        derivatives_of: the clip positions [N,V,4] that were rasterized, to get the attributes' derivatives along the image too (for
            mip levels, say).

    Returns:
        [N,H,W,C] (or [N,H,W,K,C]) in the attributes' dtype. With `derivatives_of`, also [N,H,W,C,2]: the change of each attribute per
        pixel to the right and per pixel down, 0 on background.

    Differentiability: to `attributes`, to `fragments.bary` (and through it to the positions) and to a tensor `background`; once.
    """
    attributes, bary = full_precision(attributes, fragments.bary)
    sizes = check_tensor("attributes", attributes, ("N|1", "V", "C"), ATTRIBUTE)
    faces = faces_of(faces, sizes["V"])
    layered = fragments.face_id.dim() == 4
    check_tensor("fragments.face_id", fragments.face_id, ("N", "H", "W", "K") if layered else ("N", "H", "W"), (torch.int32,), sizes)
    check_tensor("fragments.bary", bary, ("N", "H", "W", "K", 3) if layered else ("N", "H", "W", 3), GEOMETRY, sizes)
    check_faces(faces, sizes["V"])
    check_attributes_fit_geometry("attributes", attributes, "fragments.bary", bary)
    check_device(attributes=attributes, faces=faces, bary=bary, face_id=fragments.face_id)
    if isinstance(background, Tensor):
        background = full_precision(background)
        check_tensor("background", background, ("C",), ATTRIBUTE, sizes)
        check_same_dtype(attributes=attributes, background=background)
        check_device(attributes=attributes, background=background)
    elif isinstance(background, (int, float)):
        background = attributes.new_full((attributes.shape[2],), float(background)) if background != 0 else None
    else:
        raise TypeError(f"background must be a number or a tensor [C], got {describe(background)}")
    if derivatives_of is not None:
        if layered:
            raise ValueError(f"derivatives_of is for fragments of one layer, got fragments.face_id {list(fragments.face_id.shape)}")
        derivatives_of = full_precision(derivatives_of)
        check_tensor("derivatives_of", derivatives_of, ("N", "V", 4), GEOMETRY, sizes)
        check_same_dtype(bary=bary, derivatives_of=derivatives_of)
    out = _Interpolate.call(attributes, faces, fragments.face_id, bary, background)
    if derivatives_of is None:
        return out
    slopes = bary_derivatives(derivatives_of, faces, fragments)
    along = [_Interpolate.call(attributes, faces, fragments.face_id, slopes[..., axis].contiguous(), None) for axis in (0, 1)]
    return out, torch.stack(along, -1)


class _Interpolate(Op):
    @staticmethod
    def forward(attributes, faces, face_id, bary, background):
        return torch.ops.facerender.interpolate(attributes, faces, face_id, bary, background)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:4])

    @staticmethod
    def backward(ctx, grad):
        attributes, faces, face_id, bary = ctx.saved_tensors
        want_attributes, _, _, want_bary, want_background = ctx.needs_input_grad
        grad_attributes = grad_bary = grad_background = None
        if want_attributes or want_bary:
            grad_attributes, grad_bary = once(torch.ops.facerender.interpolate_backward, grad, attributes, faces, face_id, bary, want_attributes, want_bary, deterministic()
            )
        if want_background:
            outside = (face_id < 0).unsqueeze(-1)
            grad_background = torch.where(outside, grad, torch.zeros_like(grad)).flatten(0, -2).sum(0)
        return grad_attributes.to(attributes.dtype) if want_attributes else None, None, None, grad_bary if want_bary else None, grad_background


@torch.library.register_fake("facerender::interpolate")
def _(attributes, faces, face_id, bary, background):
    return attributes.new_empty((*face_id.shape, attributes.shape[2]))


@torch.library.register_fake("facerender::interpolate_backward")
def _(grad, attributes, faces, face_id, bary, want_attributes, want_bary, deterministic):
    return bary.new_empty(attributes.shape if want_attributes else (0,)), bary.new_empty(bary.shape if want_bary else (0,))
