"""Interpolation of vertex attributes over the visible triangles."""

from typing import Any, overload

import torch
from torch import Tensor

from ._autograd import Op, no_double_backward
from ._checks import (
    ATTRIBUTE,
    GEOMETRY,
    check_attributes_fit_geometry,
    check_device,
    check_faces,
    check_same_dtype,
    check_tensor,
    describe,
    full_precision,
)
from .rasterize import Fragments, bary_derivatives
from .topology import Faces, faces_of


@overload
def interpolate(
    attributes: Tensor,
    faces: Faces,
    fragments: Fragments,
    background: float | Tensor = 0.0,
    derivatives_of: None = None,
) -> Tensor: ...


@overload
def interpolate(
    attributes: Tensor,
    faces: Faces,
    fragments: Fragments,
    background: float | Tensor = 0.0,
    *,
    derivatives_of: Tensor,
) -> tuple[Tensor, Tensor]: ...


def interpolate(
    attributes: Tensor,
    faces: Faces,
    fragments: Fragments,
    background: float | Tensor = 0.0,
    derivatives_of: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Interpolate vertex attributes at every pixel.

    Differentiable once, to `attributes`, to `fragments.bary` (and through it to the positions) and to a tensor
    `background`.

    Args:
        attributes: [N,V,C], or [1,V,C] shared by the batch without a copy; the dtype of `fragments.bary`, or float16
            or bfloat16 beside float32.
        faces: int32 [F,3] or a `Topology`, the faces that were rasterized.
        fragments: what `rasterize` returned, with or without layers.
        background: the value of background pixels: a number, or a tensor [C] of the attributes' dtype.
        derivatives_of: the clip positions [N,V,4] that were rasterized, to get the attributes' derivatives along the
            image too (for mip levels, for example); for fragments of one layer.

    Returns:
        [N,H,W,C] (or [N,H,W,K,C]) in the attributes' dtype, `background` where no face is visible. With
        `derivatives_of`, also [N,H,W,C,2]: the change of each attribute per pixel to the right and per pixel down, 0 on
        background.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a shape or a device does not fit.
        RuntimeError: a face index is out of range, on the CPU; see `rasterize` for CUDA.
    """
    attributes = full_precision(attributes)
    bary = full_precision(fragments.bary)
    sizes = check_tensor("attributes", attributes, ("N|1", "V", "C"), ATTRIBUTE)
    faces = faces_of(faces, sizes["V"])
    layers = ("K",) if fragments.face_id.dim() == 4 else ()
    check_tensor("fragments.face_id", fragments.face_id, ("N", "H", "W", *layers), (torch.int32,), sizes)
    check_tensor("fragments.bary", bary, ("N", "H", "W", *layers, 3), GEOMETRY, sizes)
    assert bary is not None
    check_faces(faces, sizes["V"])
    check_attributes_fit_geometry("attributes", attributes, "fragments.bary", bary)
    check_device(attributes=attributes, faces=faces, bary=bary, face_id=fragments.face_id)
    fill: Tensor | None = None
    if isinstance(background, Tensor):
        fill = full_precision(background)
        check_tensor("background", fill, ("C",), ATTRIBUTE, sizes)
        check_same_dtype(attributes=attributes, background=fill)
        check_device(attributes=attributes, background=fill)
    elif not isinstance(background, (int, float)):
        raise TypeError(f"background must be a number or a tensor [C], got {describe(background)}")
    elif background != 0:
        fill = attributes.new_full((attributes.shape[2],), float(background))
    if derivatives_of is not None:
        if layers:
            shape = list(fragments.face_id.shape)
            raise ValueError(f"derivatives_of is for fragments of one layer, got fragments.face_id {shape}")
        derivatives_of = full_precision(derivatives_of)
        check_tensor("derivatives_of", derivatives_of, ("N", "V", 4), GEOMETRY, sizes)
        check_same_dtype(bary=bary, derivatives_of=derivatives_of)
    out = _Interpolate.call(attributes, faces, fragments.face_id, bary, fill)
    if derivatives_of is None:
        return out
    slopes = bary_derivatives(derivatives_of, faces, fragments)
    right, down = (_Interpolate.call(attributes, faces, fragments.face_id, slopes[..., axis], None) for axis in (0, 1))
    return out, torch.stack([right, down], -1)


class _Interpolate(Op):
    @staticmethod
    def forward(attributes: Tensor, faces: Tensor, face_id: Tensor, bary: Tensor, background: Tensor | None) -> Tensor:
        return torch.ops.facerender.interpolate(attributes, faces, face_id, bary, background)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:4])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        attributes, faces, face_id, bary = ctx.saved_tensors
        want_attributes, _, _, want_bary, want_background = ctx.needs_input_grad
        grad_attributes = grad_bary = grad_background = None
        if want_attributes or want_bary:
            op, deterministic = torch.ops.facerender.interpolate_backward, torch.are_deterministic_algorithms_enabled()
            found_attributes, found_bary = no_double_backward(
                op, grad, attributes, faces, face_id, bary, want_attributes, want_bary, deterministic
            )
            grad_attributes = found_attributes.to(attributes.dtype) if want_attributes else None
            grad_bary = found_bary if want_bary else None
        if want_background:
            outside = (face_id < 0).unsqueeze(-1)
            grad_background = torch.where(outside, grad, torch.zeros_like(grad)).flatten(0, -2).sum(0)
        return grad_attributes, None, None, grad_bary, grad_background


@torch.library.register_fake("facerender::interpolate")
def _interpolate_fake(
    attributes: Tensor, faces: Tensor, face_id: Tensor, bary: Tensor, background: Tensor | None
) -> Tensor:
    return attributes.new_empty((*face_id.shape, attributes.shape[2]))


@torch.library.register_fake("facerender::interpolate_backward")
def _interpolate_backward_fake(
    grad: Tensor,
    attributes: Tensor,
    faces: Tensor,
    face_id: Tensor,
    bary: Tensor,
    want_attributes: bool,
    want_bary: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor]:
    grad_attributes = bary.new_empty(attributes.shape if want_attributes else (0,))
    return grad_attributes, bary.new_empty(bary.shape if want_bary else (0,))
