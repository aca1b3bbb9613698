"""Similarities between corresponding points (Umeyama, Least-squares estimation of transformation parameters between two
point patterns, PAMI 1991) and nearest rotations, with gradients that stay finite.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from facerender._checks import brief_repr


@brief_repr
class Similarity(NamedTuple):
    """x -> scale * rotation @ x + translation.

    Attributes:
        scale: [...].
        rotation: [...,3,3].
        translation: [...,3].
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        """Transform points [...,P,3]."""
        return self.scale[..., None, None] * (points @ self.rotation.transpose(-1, -2)) + self.translation[..., None, :]

    def inverse(self) -> "Similarity":
        """The similarity that undoes this one."""
        rotation = self.rotation.transpose(-1, -2)
        translation = -(rotation @ self.translation[..., None])[..., 0] / self.scale[..., None]
        return Similarity(1 / self.scale, rotation, translation)


def similarity(source: Tensor, target: Tensor, weights: Tensor | None = None, scale: bool = True) -> Similarity:
    """Find the similarity, or the rigid motion, that takes source to target with the least weighted squares.

    It is never a reflection. It is differentiable, with the stable gradient of `nearest_rotation`. Degenerate
    configurations give a finite result without a gradient in what they leave open: points on a line may turn about it;
    where all source points coincide or have no weight, the scale is 0 (1 without any weight) and the rotation
    arbitrary.

    Args:
        source: [...,P,3] points.
        target: [...,P,3], where they belong.
        weights: [...,P], not negative; points of weight 0 may be NaN. None: all equal.
        scale: whether the size may change; False gives a rigid motion.

    Returns:
        The `Similarity`, of the leading dimensions of source.
    """
    w = torch.ones_like(source[..., 0]) if weights is None else weights.to(source.dtype).expand(source.shape[:-1])
    if weights is not None:
        source, target = (torch.where(w[..., None] > 0, points, 0) for points in (source, target))
    tiny = torch.finfo(source.dtype).tiny
    w = (w / w.sum(-1, keepdim=True).clamp(min=tiny))[..., None]
    a, b = (w * source).sum(-2), (w * target).sum(-2)
    x, y = source - a[..., None, :], target - b[..., None, :]
    covariance = (w * y).mT @ x
    rotation = nearest_rotation(covariance)
    spread = (w * x * x).sum((-1, -2))
    size = (rotation * covariance).sum((-1, -2)) / spread.clamp(min=tiny) if scale else torch.ones_like(a[..., 0])
    if scale:
        size = torch.where(w.sum((-1, -2)) > 0, size, 1)
    return Similarity(size, rotation, b - size[..., None] * (rotation @ a[..., None])[..., 0])


def nearest_rotation(matrix: Tensor) -> Tensor:
    """Find the rotation R [...,3,3] of largest trace(R^T M) for matrices M [...,3,3].

    This is the orthogonal Procrustes problem without reflections (Kabsch 1976, Umeyama 1991).

    The gradient is in closed form. With M = U S V^T and signed singular values s, a rotation in the plane of axes i and
    j is divided by s_i + s_j. Differentiating the decomposition itself would divide by s_i - s_j, which may be 0 for a
    face seen from anywhere. Where s_i + s_j is below 1e-6 of s_1, M does not determine that rotation, and its gradient
    is 0.
    """
    if not (matrix.requires_grad and torch.is_grad_enabled()):
        return _signed_svd(matrix)[0]
    return _NearestRotation.apply(matrix)[0]


def _signed_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(nearest rotation, V^T, signed singular values) of matrices."""
    u, s, vt = torch.linalg.svd(matrix)
    sign = torch.ones_like(s)
    sign[..., 2] = torch.where(torch.linalg.det(u @ vt) < 0, -1.0, 1.0)
    return (u * sign[..., None, :]) @ vt, vt, s * sign


class _NearestRotation(torch.autograd.Function):
    @staticmethod
    def forward(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _signed_svd(matrix)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], outputs: tuple[Tensor, Tensor, Tensor]) -> None:
        rotation, vt, s = outputs
        ctx.mark_non_differentiable(vt, s)
        ctx.save_for_backward(rotation, vt, s)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> Tensor:
        rotation, vt, s = ctx.saved_tensors
        turned = vt @ rotation.mT @ grad @ vt.mT  # in the axes of M
        resistance = s[..., :, None] + s[..., None, :]
        decided = resistance > 1e-6 * s[..., :1, None]
        turn = torch.where(decided, (turned - turned.mT) / torch.where(decided, resistance, 1), 0)
        return rotation @ vt.mT @ turn @ vt
