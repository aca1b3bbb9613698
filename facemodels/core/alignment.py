"""core.alignment: TODO."""

from typing import NamedTuple

import torch
from torch import Tensor


class Similarity(NamedTuple):
    """x -> scale * rotation @ x + translation."""

    scale: Tensor  # [...]
    rotation: Tensor  # [...,3,3]
    translation: Tensor  # [...,3]

    def __call__(self, points: Tensor) -> Tensor:
        """points [...,P,3] -> [...,P,3]."""
        return self.scale[..., None, None] * (points @ self.rotation.transpose(-1, -2)) + self.translation[..., None, :]

    def inverse(self) -> "Similarity":
        rotation = self.rotation.transpose(-1, -2)
        return Similarity(
            1 / self.scale, rotation, -(rotation @ self.translation[..., None])[..., 0] / self.scale[..., None]
        )


def similarity(source: Tensor, target: Tensor, weights: Tensor | None = None, scale: bool = True) -> Similarity:
    """The similarity (or, with scale=False, the rigid motion) that takes source to target with the least sum of weighted squares (Umeyama 1991).

    source, target: [...,P,3], points that belong together; weights [...,P], not negative; points without weight may be NaN. Never a reflection. Differentiable, with
    the stable gradient of `nearest_rotation`.

    Points that do not decide it leave what is open finite, without a gradient: points on a line may turn about it, and where all source points coincide, or have
    no weight, scale is 0 or 1 (of no points) and the rotation is any.
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
    """The rotation R [...,3,3] with the largest trace(R^T M) of matrices M [...,3,3] (orthogonal Procrustes without reflection: Kabsch 1976, Umeyama 1991).

    Its gradient is written down in closed form: with M = U S V^T and signed singular values s, turning in the plane of axes i and j is resisted by s_i + s_j, whereas
    differentiating the decomposition itself divides by s_i - s_j, which for a face seen from anywhere may be 0. Where s_i + s_j is below 1e-6 of s_1, the
    turn is not decided by M, and gets no gradient.
    """
    return _NearestRotation.apply(matrix)[0]


class _NearestRotation(torch.autograd.Function):
    @staticmethod
    def forward(matrix):
        u, s, vt = torch.linalg.svd(matrix)
        sign = torch.ones_like(s)
        sign[..., 2] = torch.where(torch.linalg.det(u) * torch.linalg.det(vt) < 0, -1.0, 1.0)
        return (u * sign[..., None, :]) @ vt, vt, s * sign

    @staticmethod
    def setup_context(ctx, inputs, outputs):
        rotation, vt, s = outputs
        ctx.mark_non_differentiable(vt, s)
        ctx.save_for_backward(rotation, vt, s)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad, *_):
        rotation, vt, s = ctx.saved_tensors
        seen = vt @ rotation.mT @ grad @ vt.mT
        resistance = s[..., :, None] + s[..., None, :]
        decided = resistance > 1e-6 * s[..., :1, None]
        turn = torch.where(decided, (seen - seen.mT) / torch.where(decided, resistance, 1), 0)
        return rotation @ vt.mT @ turn @ vt
