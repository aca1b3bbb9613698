"""Shading with the nine real spherical harmonics of the first three bands (Ramamoorthi and Hanrahan 2001)."""

import math
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
    check_same_dtype,
    check_tensor,
    full_precision,
)

PRESETS = ("standard", "deep3d", "deca")


def sh_shade(albedo: Tensor, normals: Tensor, coefficients: Tensor, preset: str = "deep3d") -> Tensor:
    """Compute color = albedo * sum_k basis_k(normal) * coefficient_k, for vertices or for pixels.

    Differentiable once, to all three tensors. Deterministic.

    Args:
        albedo: [N,...,3], or [1,...,3] shared by the batch.
        normals: [N,...,3], of the albedo's dtype. Used as they are: the caller scales them to unit length.
        coefficients: light, [N,9,3] or [1,9,3]; float32 (beside float32, float16 or bfloat16 albedo) or float64.
        preset: the basis, its order, signs and constants. "standard": orthonormal, order and signs of Ramamoorthi and
            Hanrahan 2001, no Lambert factor. "deep3d": Deng et al. 2019; the caller adds 0.8 to the first coefficient,
            see `lighting.deep3d_coefficients`. "deca": order 1, x, y, z, xy, xz, yz, x^2 - y^2, 3 z^2 - 1, all
            positive, with Lambert factors 2 pi / 3 and pi / 4 on bands 1 and 2.

    Returns:
        [N,...,3] in the albedo's dtype; not clamped.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a shape, a device or the preset does not fit.
    """
    albedo, normals, coefficients = full_precision(albedo), full_precision(normals), full_precision(coefficients)
    check_tensor("normals", normals, (..., 3), ATTRIBUTE)
    check_tensor("albedo", albedo, (..., 3), ATTRIBUTE)
    if normals.dim() < 2:
        raise ValueError(f"normals must be [N,...,3], got {list(normals.shape)}")
    if albedo.shape != normals.shape and albedo.shape != (1, *normals.shape[1:]):
        wanted = f"{list(normals.shape)} like normals, or {[1, *normals.shape[1:]]}"
        raise ValueError(f"albedo must be {wanted}, got {list(albedo.shape)}")
    check_tensor("coefficients", coefficients, ("N|1", 9, 3), GEOMETRY, {"N": normals.shape[0]})
    check_same_dtype(normals=normals, albedo=albedo)
    check_attributes_fit_geometry("normals", normals, "coefficients", coefficients)
    check_device(normals=normals, albedo=albedo, coefficients=coefficients)
    points = math.prod(normals.shape[1:-1])
    flat = _ShShade.call(
        albedo.reshape(albedo.shape[0], points, 3),
        normals.reshape(normals.shape[0], points, 3),
        coefficients,
        check_choice("preset", preset, PRESETS),
    )
    return flat.reshape(normals.shape)


class _ShShade(Op):
    @staticmethod
    def forward(albedo: Tensor, normals: Tensor, coefficients: Tensor, preset: int) -> Tensor:
        return torch.ops.facerender.sh_shade(albedo, normals, coefficients, preset)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.preset = inputs[3]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tensors, wants = ctx.saved_tensors, ctx.needs_input_grad[:3]
        op = torch.ops.facerender.sh_shade_backward
        found = no_double_backward(op, grad, *tensors, ctx.preset, *wants)
        grads = [g.to(t.dtype) if want else None for g, t, want in zip(found, tensors, wants, strict=True)]
        return *grads, None


@torch.library.register_fake("facerender::sh_shade")
def _sh_shade_fake(albedo: Tensor, normals: Tensor, coefficients: Tensor, preset: int) -> Tensor:
    return normals.new_empty(normals.shape)


@torch.library.register_fake("facerender::sh_shade_backward")
def _sh_shade_backward_fake(
    grad: Tensor,
    albedo: Tensor,
    normals: Tensor,
    coefficients: Tensor,
    preset: int,
    want_albedo: bool,
    want_normals: bool,
    want_coefficients: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    def grad_of(tensor: Tensor, want: bool) -> Tensor:
        return coefficients.new_empty(tensor.shape if want else (0,))

    return grad_of(albedo, want_albedo), grad_of(normals, want_normals), grad_of(coefficients, want_coefficients)
