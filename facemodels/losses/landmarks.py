"""Losses of landmarks."""

import math

import torch
from torch import Tensor

from facemodels.core.landmarks import INNER_LIPS, NOSE_RIDGE, NUM_LANDMARKS
from facemodels.losses.common import check_shapes, in_float32, safe_mean


def deep3d_landmark_weights(device: torch.device | str | None = None) -> Tensor:
    """Return the weights [68] of landmarks in the released code of Deng et al. (2019).

    20 for the ridge of the nose below its root (28..30) and the inner lips (60..67), 1 for the others.
    """
    weights = torch.ones(NUM_LANDMARKS, device=device)
    weights[NOSE_RIDGE] = 20
    weights[INNER_LIPS] = 20
    return weights


def mean_one(weights: Tensor) -> Tensor:
    """Scale weights [...,P], not negative, to a mean of 1 over P. A row of zeros stays zero.

    The losses below are then weighted means over the points that have weight, the same for few visible points as for
    many.
    """
    return weights * (weights.shape[-1] / weights.sum(-1, keepdim=True).clamp(min=1e-12))


def _point_differences(predicted: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return predicted - target [N,P,D], 0 where a point has no weight, and weights [N,P].

    A point without weight may be NaN in the target: a landmark that is not labeled.
    """
    check_shapes(predicted=predicted, target=target)
    points = predicted.shape[1]
    if weights.shape not in ((points,), predicted.shape[:2]):
        raise ValueError(
            f"weights must be [{points}] or {list(predicted.shape[:2])} for points {list(predicted.shape)}, "
            f"got {list(weights.shape)}"
        )
    weights = weights.to(predicted.dtype).expand(predicted.shape[:2])
    return torch.where(weights[..., None] != 0, predicted - target, 0), weights


@in_float32
def landmark_loss(predicted: Tensor, target: Tensor, weights: Tensor | None = None, squared: bool = True) -> Tensor:
    """Weighted squared distance of landmarks: sum w |p - p*|^2 / (N P).

    L_lan of Deng et al. 2019; weight 1.6e-3 for pixels of a 224 crop. With `mean_one(weights)` this is 2DASL's weighted
    distance (Tu et al. 2019), whose weights have a sum of 1.

    Args:
        predicted: [N,P,2] or [N,P,3], pixels or mm.
        target: like predicted. Points of weight 0 may be NaN.
        weights: [P] or [N,P]; None for `deep3d_landmark_weights` of 68 points.
        squared: False for the distance itself, in which outliers weigh less.

    Raises:
        ValueError: the shapes do not fit together.
    """
    if weights is None:
        if predicted.shape[1] != 68:
            raise ValueError(f"weights: the default is for 68 landmarks, got {predicted.shape[1]}")
        weights = deep3d_landmark_weights(predicted.device)
    difference, weights = _point_differences(predicted, target, weights)
    distance = difference.square().sum(-1)
    return safe_mean(weights * (distance if squared else (distance + 1e-12).sqrt()))


@in_float32
def wing_loss(
    predicted: Tensor, target: Tensor, weights: Tensor | None = None, omega: float = 10.0, epsilon: float = 2.0
) -> Tensor:
    """Wing loss, mean over coordinates: omega ln(1 + |x|/epsilon) where |x| < omega, |x| - C beyond.

    Feng et al. 2018; C makes it continuous.

    Args:
        predicted: [N,P,D], pixels.
        target: like predicted. Points of weight 0 may be NaN.
        weights: [P] or [N,P]; None for 1.
        omega: where the logarithm ends, pixels.
        epsilon: limits the curvature of the logarithm, pixels.
    """
    weights = predicted.new_ones(predicted.shape[1]) if weights is None else weights
    difference, weights = _point_differences(predicted, target, weights)
    size = difference.abs()
    far = size - omega + omega * math.log1p(omega / epsilon)
    return safe_mean(weights[..., None] * torch.where(size < omega, omega * torch.log1p(size / epsilon), far))
