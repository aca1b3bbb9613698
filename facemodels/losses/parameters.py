"""Losses of the 62 parameters of 3DDFA (Zhu et al. 2016): pose, shape and expression in one vector."""

from typing import NamedTuple

import torch
from torch import Tensor

from facemodels.losses.common import check_shapes, in_float32, safe_mean
from facerender._checks import brief_repr


@brief_repr
class Whitening(NamedTuple):
    """Mean [K] and standard deviation [K] of raw parameters p = q std + mean; networks predict the whitened q."""

    mean: Tensor
    std: Tensor

    def raw(self, whitened: Tensor) -> Tensor:
        """Return raw parameters [...,K] of whitened ones."""
        return whitened * self.std + self.mean

    def whitened(self, raw: Tensor) -> Tensor:
        """Return whitened parameters [...,K] of raw ones."""
        return (raw - self.mean) / self.std


@brief_repr
class PointBasis(NamedTuple):
    """A linear model at P of its points, mm."""

    mean: Tensor  # [P,3]
    shape: Tensor  # [S,P,3], per unit of the coefficients
    expression: Tensor  # [E,P,3], likewise

    def at(self, index: Tensor) -> "PointBasis":
        """Return the model at some of the points: index int64 [Q].

        Zhu et al. take the 68 landmarks and 132 vertices, drawn anew in each step.
        """
        return PointBasis(self.mean[index], self.shape[:, index], self.expression[:, index])


@in_float32
def projected_points(parameters: Tensor, points: PointBasis) -> Tensor:
    """Project the points with raw parameters: A (mean + shape + expression) + t. (Zhu et al. 2016, 3DDFA.)

    Args:
        parameters: [N,12+S+E]: the rows of the 3x4 matrix [A | t], A = f R in pixels per mm; then S shape and E
            expression coefficients (40 and 10 for the 62 parameters of 3DDFA).
        points: the model.

    Returns:
        [N,P,3], pixels. y points up, as in the data of that family: the row in an image of height H is H + 1 - y there.

    Raises:
        ValueError: another number of parameters.
    """
    affine, moved = parameters[:, :12].view(-1, 3, 4), _shape(parameters, points)
    return moved @ affine[:, :, :3].transpose(1, 2) + affine[:, None, :, 3]


def _shape(parameters: Tensor, points: PointBasis) -> Tensor:
    """Return the points [N,P,3], mm, before they are projected."""
    counts = len(points.shape), len(points.expression)
    if parameters.shape[1] != 12 + sum(counts):
        raise ValueError(
            f"parameters must be [N,{12 + sum(counts)}] for {counts[0]} shape and {counts[1]} expression modes, "
            f"got {list(parameters.shape)}"
        )
    basis = torch.cat([points.shape, points.expression]).flatten(1)
    return points.mean + (parameters[:, 12:] @ basis).view(-1, *points.mean.shape)


@in_float32
def pdc_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Parameter distance cost: mean squared difference of whitened parameters [N,K] (E_pdc of Zhu et al. 2016)."""
    check_shapes(predicted=predicted, target=target)
    return safe_mean((predicted - target).square())


@in_float32
def vdc_loss(predicted: Tensor, target: Tensor, whitening: Whitening, points: PointBasis) -> Tensor:
    """Vertex distance cost: mean squared coordinate difference of the projected points, px^2.

    E_vdc of Zhu et al. 2016; released code of 3DDFA. The depth t_z (parameter 11), which an image does not determine,
    is the target's for both.

    Args:
        predicted: whitened parameters [N,12+S+E].
        target: like predicted.
        whitening: their mean and standard deviation.
        points: the model.
    """
    check_shapes(predicted=predicted, target=target)
    raw_target = whitening.raw(target)
    raw = whitening.raw(predicted)
    raw = torch.cat([raw[:, :11], raw_target[:, 11:12], raw[:, 12:]], 1)
    return safe_mean((projected_points(raw, points) - projected_points(raw_target, points)).square())


@in_float32
def wpdc_weights(
    predicted: Tensor, target: Tensor, whitening: Whitening, points: PointBasis, pixels_per_mm: float = 0.57339936
) -> Tensor:
    """Weights of `wpdc_loss`: about how far each parameter's error alone moves the points.

    Released code of 3DDFA. For an entry of A: |p - p*| times the norm of the coordinate that it multiplies, over the
    target's points; for t_x, t_y: |p - p*| sqrt(P); for shape and expression: pixels_per_mm |p - p*| times the norm of
    the mode over the points; 1e-6 added, divided by the sample's largest, t_z set to 0.

    Args:
        predicted: whitened parameters [N,12+S+E].
        target: like predicted.
        whitening: their mean and standard deviation.
        points: the model.
        pixels_per_mm: a typical f; the published 0.00057339936 is per micrometer, the unit of its files.

    Returns:
        [N,12+S+E], without gradient; the largest of each sample is 1.
    """
    check_shapes(predicted=predicted, target=target)
    with torch.no_grad():
        raw_target = whitening.raw(target)
        error = (whitening.raw(predicted) - raw_target).abs()
        shape = _shape(raw_target, points)
        reach = torch.cat([shape.norm(dim=1), shape.new_full((len(shape), 1), shape.shape[1] ** 0.5)], 1)
        modes = torch.cat([points.shape, points.expression]).flatten(1).norm(dim=1)
        weights = (
            torch.cat(
                [(error[:, :12].view(-1, 3, 4) * reach[:, None]).flatten(1), pixels_per_mm * error[:, 12:] * modes], 1
            )
            + 1e-6
        )
        weights = weights * (torch.arange(weights.shape[1], device=weights.device) != 11)
        return weights / weights.amax(1, keepdim=True)


@in_float32
def wpdc_loss(
    predicted: Tensor, target: Tensor, whitening: Whitening, points: PointBasis, pixels_per_mm: float = 0.57339936
) -> Tensor:
    """Weighted parameter distance cost: mean over batch and parameters of w (q - q*)^2, w = `wpdc_weights`.

    E_wpdc of Zhu et al. 2016.

    Args:
        predicted: whitened parameters q, [N,12+S+E].
        target: like predicted.
        whitening: their mean and standard deviation.
        points: the model at the points by which the effect of a parameter is measured.
        pixels_per_mm: see `wpdc_weights`.
    """
    weights = wpdc_weights(predicted, target, whitening, points, pixels_per_mm)
    return safe_mean(weights * (predicted - target).square())
