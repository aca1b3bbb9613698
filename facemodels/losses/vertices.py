"""Losses of vertices, through coefficients."""

import torch
from torch import Tensor

from facemodels.losses.common import check_shapes, in_float32, safe_mean


@in_float32
def vertex_loss(predicted: Tensor, target: Tensor, basis: Tensor) -> Tensor:
    """Squared vertex distance that a difference of coefficients makes, mm^2: mean over 3V coordinates of (U (p -
    p*))^2.

    Dou et al. 2017, UH-E2FAR: the loss of each of its two tasks; weights 1 for identity and 5 for expression in a
    public reimplementation.

    Args:
        predicted: [N,K].
        target: [N,K].
        basis: U, [K,V*3], mm per unit, over the vertices that count.
    """
    check_shapes(predicted=predicted, target=target)
    return safe_mean(((predicted - target) @ basis).square())


def gram_matrix(basis: Tensor) -> Tensor:
    """Return U U^T / (3V) [K,K] of a basis U [K,V*3], summed in float64, for `gram_loss`."""
    wide = basis.detach().double()
    return (wide @ wide.T / basis.shape[1]).to(basis.dtype)


def shape_alone(basis: Tensor, mean: Tensor) -> Tensor:
    """Remove from a basis the motions of a small similarity of the mean: shifts, rotations and scalings.

    A picture does not tell them from the pose.

    Args:
        basis: [K,V,3], mm.
        mean: [V,3], mm.

    Returns:
        [K,V,3], mm.
    """
    centered = (mean - mean.mean(0)).double()
    axes = torch.eye(3, dtype=torch.float64, device=mean.device)
    moves = (
        [axis.expand_as(centered) for axis in axes]
        + [torch.linalg.cross(axis.expand_as(centered), centered) for axis in axes]
        + [centered]
    )
    directions = torch.linalg.qr(torch.stack([m.flatten() for m in moves], 1))[0]
    flat = basis.flatten(1).double()
    return (flat - (flat @ directions) @ directions.T).view_as(basis).to(basis.dtype)


@in_float32
def gram_loss(predicted: Tensor, target: Tensor, gram: Tensor) -> Tensor:
    """`vertex_loss` without the vertices, mm^2: mean over the batch of d^T G d, d = p - p*.

    Args:
        predicted: [N,K].
        target: [N,K].
        gram: G, [K,K], mm^2. With `gram_matrix(basis)` this equals `vertex_loss`.
    """
    check_shapes(predicted=predicted, target=target)
    difference = predicted - target
    return ((difference @ gram) * difference).sum() / max(len(difference), 1)
