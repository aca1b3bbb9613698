"""The camera of a fit: from the model's millimetres to a photo's pixels, with its Jacobian, and its start from landmarks in closed form."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from facemodels.core.alignment import Similarity, similarity
from facemodels.core.rotation import axis_angle_rotation
from facerender.camera import euler_rotation, to_pixels

POSE = 6  # log scale, a rotation vector that turns the head further, translation x, y


@dataclass(frozen=True)
class Camera:
    """Scaled orthography, or with a focal length perspective:

        x = center_x + (scale X + t_x) / w,  y = center_y - (scale Y + t_y) / w,  w = 1 - Z scale / focal,  (X, Y, Z) = rotation @ vertex

    so that `scale` is the size in pixels of a millimetre at the distance of the head's origin, which is focal / scale. A focal length of infinity gives scaled
    orthography (`facerender.camera.weak_perspective`), a finite one `facerender.camera.pinhole`.

    scale [N] pixels per mm; rotation [N,3,3]; translation [N,2] pixels, y up; focal: pixels, or inf; center: (x, y), the principal point; size: (H, W).
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor
    size: tuple[int, int]
    center: tuple[float, float]
    focal: float = math.inf

    def clip(self, vertices: Tensor) -> Tensor:
        """[N,V,3] mm -> clip positions [N,V,4]. What is more than two image heights before or behind the head's origin is cut off."""
        height, width = self.size
        s = self.scale[:, None]
        X, Y, Z = (vertices @ self.rotation.transpose(-1, -2)).unbind(-1)
        w = 1 - Z * (s / self.focal)
        x = (s * X + self.translation[:, None, 0]) * (2 / width) + w * (2 * self.center[0] / width - 1)
        y = (s * Y + self.translation[:, None, 1]) * (2 / height) + w * (1 - 2 * self.center[1] / height)
        return torch.stack([x, y, -s * Z / (2 * height), w], -1)

    def pixels(self, points: Tensor) -> Tensor:
        """[N,P,3] mm -> [N,P,2] pixels."""
        return to_pixels(self.clip(points), self.size)

    def jacobian(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """For one camera (N = 1) and points [P,3]: d pixels / d point [P,2,3] and d pixels / d pose [P,2,POSE], the pose as `moved` takes it."""
        s, R, t = self.scale[0], self.rotation[0], self.translation[0]
        q = points @ R.T
        k = s / self.focal
        w = 1 - k * q[:, 2]
        uv = (s * q[:, :2] + t) / w[:, None]
        zero = torch.zeros_like(w)
        to_q = torch.stack(
            [torch.stack([s / w, zero, uv[:, 0] * k / w], -1), torch.stack([zero, s / w, uv[:, 1] * k / w], -1)], 1
        )
        size = (s * q[:, :2] + uv * (k * q[:, 2:])) / w[:, None]
        x, y, z = q.unbind(-1)
        turn = torch.stack(
            [torch.stack([zero, z, -y], -1), torch.stack([-z, zero, x], -1), torch.stack([y, -x, zero], -1)], 1
        )  # d q / d rotation vector
        shift = torch.eye(2, dtype=w.dtype, device=w.device) / w[:, None, None]
        down = torch.tensor([1.0, -1.0], dtype=w.dtype, device=w.device)[:, None]
        return to_q @ R * down, torch.cat([size[..., None], to_q @ turn, shift], -1) * down

    def moved(self, pose: Tensor) -> "Camera":
        """The camera after a step [POSE] or steps [N,POSE]: log scale, rotation vector, translation."""
        pose = pose.view(-1, POSE)
        return replace(
            self,
            scale=self.scale * pose[:, 0].exp(),
            rotation=axis_angle_rotation(pose[:, 1:4]) @ self.rotation,
            translation=self.translation + pose[:, 4:],
        )

    def resampled(self, factor: float, offset: tuple[float, float], size: tuple[int, int]) -> "Camera":
        """The same view in another raster, whose pixel x is factor * (x - offset)."""
        center = tuple(factor * (c - o) for c, o in zip(self.center, offset))
        return replace(
            self,
            scale=self.scale * factor,
            translation=self.translation * factor,
            focal=self.focal * factor,
            center=center,
            size=size,
        )

    def to(self, *args) -> "Camera":
        return replace(
            self, scale=self.scale.to(*args), rotation=self.rotation.to(*args), translation=self.translation.to(*args)
        )


def camera_from_points(
    points: Tensor,
    pixels: Tensor,
    weights: Tensor,
    size: tuple[int, int],
    center: tuple[float, float],
    focal: float = math.inf,
) -> Camera:
    """Scaled orthography from points [P,3] mm and their pixels [P,2] with weights [P], the least-squares one.

    `scaled_orthography` from heads turned every which way at once, of which the best is kept.
    """
    target = torch.stack([pixels[:, 0] - center[0], center[1] - pixels[:, 1]], -1)
    yaw, pitch = torch.meshgrid(torch.linspace(-1.5, 1.5, 7), torch.linspace(-0.6, 0.6, 3), indexing="ij")
    turns = torch.stack([pitch.flatten(), yaw.flatten(), torch.zeros(yaw.numel())], -1).to(points)
    seen = points @ euler_rotation(turns).transpose(-1, -2)  # [21,P,3]
    ratio = ((target - target.mean(0)) ** 2).sum().sqrt() / (
        (seen[..., :2] - seen[..., :2].mean(1, keepdim=True)) ** 2
    ).sum((1, 2)).sqrt()
    fitted = scaled_orthography(points, target, seen[..., 2] * ratio[:, None], weights, 100)
    placed = fitted(points)
    error = (((placed[..., :2] - target) ** 2).sum(-1) * weights).sum(-1)
    best = int(error.argmin())
    return Camera(
        fitted.scale[best, None], fitted.rotation[best, None], fitted.translation[best, None, :2], size, center, focal
    )


def scaled_orthography(
    points: Tensor, target: Tensor, depth: Tensor, weights: Tensor | None = None, steps: int = 30
) -> Similarity:
    """What takes points [P,3] or [N,P,3] to places [P,2] or [N,P,2] of the picture (y up), by least squares with weights [P]; its third coordinate is what it makes of the points.

    The depths [N,P] that the picture does not show are those of the current similarity, the similarity to points with these depths (Umeyama 1991) is the next one:
    alternation that never gets worse. `depth` is where it begins.
    """
    for _ in range(steps):
        fitted = similarity(points, torch.cat([target.expand(*depth.shape, 2), depth[..., None]], -1), weights)
        depth = fitted(points)[..., 2]
    return fitted
