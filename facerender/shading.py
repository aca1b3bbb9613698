"""Spherical-harmonic shading with nine bands."""

import math

import torch
from torch import Tensor

from ._autograd import Op, once
from ._checks import ATTRIBUTE, GEOMETRY, check_attributes_fit_geometry, check_choice, check_device, check_same_dtype, check_tensor, full_precision

PRESETS = ("standard", "deep3d", "deca")


def sh_shade(albedo: Tensor, normals: Tensor, coefficients: Tensor, preset: str = "deep3d") -> Tensor:
    """Colour = albedo * sum_k basis_k(normal) * coefficient_k, for vertices or for pixels.

    Args:
        albedo: [N,...,3], or [1,...,3] shared by the batch.
        normals: [N,...,3], of the albedo's dtype; used as they are, unit length is the caller's.
        coefficients: [N,9,3] or [1,9,3], float32 (beside float32, float16 or bfloat16 albedo) or float64.
        preset: the basis. "standard": orthonormal, order and signs of Ramamoorthi and Hanrahan 2001, no Lambert factor. "deep3d": Deng
            et al. 2019 (add 0.8 to band 0 yourself, see `lighting.deep3d_coefficients`). "deca": order 1, x, y, z, xy, xz, yz, x^2 - y^2,
            3 z^2 - 1, all positive, with Lambert factors 2 pi / 3 and pi / 4 on bands 1 and 2.

    Returns:
        [N,...,3] in the albedo's dtype; not clamped.

    Differentiability: to all three, once. Deterministic.
    """
    albedo, normals, coefficients = full_precision(albedo, normals, coefficients)
    check_tensor("normals", normals, (..., 3), ATTRIBUTE)
    check_tensor("albedo", albedo, (..., 3), ATTRIBUTE)
    if normals.dim() < 2:
        raise ValueError(f"normals must be [N,...,3], got {list(normals.shape)}")
    if albedo.shape != normals.shape and albedo.shape != (1, *normals.shape[1:]):
        raise ValueError(f"albedo must be {list(normals.shape)} like normals, or {[1, *normals.shape[1:]]}, got {list(albedo.shape)}")
    check_tensor("coefficients", coefficients, ("N|1", 9, 3), GEOMETRY, {"N": normals.shape[0]})
    check_same_dtype(normals=normals, albedo=albedo)
    check_attributes_fit_geometry("normals", normals, "coefficients", coefficients)
    check_device(normals=normals, albedo=albedo, coefficients=coefficients)
    points = math.prod(normals.shape[1:-1])
    flat = _ShShade.call(
        albedo.reshape(albedo.shape[0], points, 3), normals.reshape(normals.shape[0], points, 3), coefficients, check_choice("preset", preset, PRESETS)
    )
    return flat.reshape(normals.shape)


class _ShShade(Op):
    @staticmethod
    def forward(albedo, normals, coefficients, preset):
        return torch.ops.facerender.sh_shade(albedo, normals, coefficients, preset)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:3])
        ctx.preset = inputs[3]

    @staticmethod
    def backward(ctx, grad):
        albedo, normals, coefficients = ctx.saved_tensors
        wants = ctx.needs_input_grad[:3]
        grads = once(torch.ops.facerender.sh_shade_backward, grad, albedo, normals, coefficients, ctx.preset, *wants)
        return *(g.to(t.dtype) if want else None for g, t, want in zip(grads, (albedo, normals, coefficients), wants)), None


@torch.library.register_fake("facerender::sh_shade")
def _(albedo, normals, coefficients, preset):
    return normals.new_empty(normals.shape)


@torch.library.register_fake("facerender::sh_shade_backward")
def _(grad, albedo, normals, coefficients, preset, want_albedo, want_normals, want_coefficients):
    wants = ((albedo, want_albedo), (normals, want_normals), (coefficients, want_coefficients))
    return tuple(coefficients.new_empty(t.shape if want else (0,)) for t, want in wants)
