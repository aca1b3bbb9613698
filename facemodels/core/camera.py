"""The camera of a fit: from a model's millimeters to the pixels of a photo, with its Jacobian, and its start from
landmarks in closed form.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from facemodels.core.alignment import Similarity, similarity
from facemodels.core.rotation import axis_angle_rotation
from facerender._checks import brief_repr
from facerender.camera import euler_rotation, to_pixels

POSE = 6  # parameters of a step of the pose: log scale, a rotation vector applied after the rotation, translation x, y


@brief_repr
@dataclass(frozen=True)
class Camera:
    """Scaled orthography or, with a finite focal length, perspective.

    With (X, Y, Z) = rotation @ vertex and w = 1 - Z scale / focal:

        x = center_x + (scale X + t_x) / w,  y = center_y - (scale Y + t_y) / w

    A focal length of infinity gives scaled orthography (`facerender.camera.weak_perspective`), a finite one
    `facerender.camera.pinhole`. The head's origin is then focal / scale mm away.

    Attributes:
        scale: [N] pixels per mm at the distance of the head's origin.
        rotation: [N,3,3], from the head to the camera.
        translation: [N,2] pixels, y up.
        size: (H, W) of the photo.
        center: (x, y) of the principal point, pixels.
        focal: the focal length in pixels, or infinity.
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor
    size: tuple[int, int]
    center: tuple[float, float]
    focal: float = math.inf

    def clip(self, vertices: Tensor) -> Tensor:
        """Clip positions [N,V,4] of vertices [N,V,3] mm.

        What is more than two image heights in front of or behind the head's origin is clipped.
        """
        height, width = self.size
        s = self.scale[:, None]
        X, Y, Z = (vertices @ self.rotation.transpose(-1, -2)).unbind(-1)
        w = 1 - Z * (s / self.focal)
        x = (s * X + self.translation[:, None, 0]) * (2 / width) + w * (2 * self.center[0] / width - 1)
        y = (s * Y + self.translation[:, None, 1]) * (2 / height) + w * (1 - 2 * self.center[1] / height)
        return torch.stack([x, y, -s * Z / (2 * height), w], -1)

    def pixels(self, points: Tensor) -> Tensor:
        """Pixels [N,P,2] of points [N,P,3] mm."""
        return to_pixels(self.clip(points), self.size)

    def jacobian(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives of `pixels`, for one camera (N = 1).

        Args:
            points: [P,3] mm.

        Returns:
            d pixels / d point [P,2,3], and d pixels / d pose [P,2,POSE] for the pose that `moved` takes.
        """
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
        """The camera after a step [POSE], or steps [N,POSE]: log scale, rotation vector, translation."""
        pose = pose.view(-1, POSE)
        return replace(
            self,
            scale=self.scale * pose[:, 0].exp(),
            rotation=axis_angle_rotation(pose[:, 1:4]) @ self.rotation,
            translation=self.translation + pose[:, 4:],
        )

    def resampled(self, factor: float, offset: tuple[float, float], size: tuple[int, int]) -> "Camera":
        """The same view on another raster.

        Args:
            factor: pixels of the new raster per pixel of the old one.
            offset: (x, y), the old pixel that lies at the new raster's corner.
            size: (H, W) of the new raster.
        """
        x, y = (factor * (c - o) for c, o in zip(self.center, offset))
        return replace(
            self,
            scale=self.scale * factor,
            translation=self.translation * factor,
            focal=self.focal * factor,
            center=(x, y),
            size=size,
        )

    def to(self, *args: Any) -> "Camera":
        """The camera on another device or in another precision, as `Tensor.to`."""
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
    """Find the camera that takes points to their pixels with the least weighted squares.

    `scaled_orthography` is run from 21 starting poses at once, and the best result is returned.

    Args:
        points: [P,3] mm.
        pixels: [P,2].
        weights: [P].
        size: (H, W) of the photo.
        center: (x, y) of the principal point.
        focal: focal length, pixels. It is passed on; the search itself is orthographic.

    Returns:
        One camera, N = 1.
    """
    target = torch.stack([pixels[:, 0] - center[0], center[1] - pixels[:, 1]], -1)
    yaw, pitch = torch.meshgrid(torch.linspace(-1.5, 1.5, 7), torch.linspace(-0.6, 0.6, 3), indexing="ij")
    angles = torch.stack([pitch.flatten(), yaw.flatten(), torch.zeros(yaw.numel())], -1).to(points)
    turned = points @ euler_rotation(angles).transpose(-1, -2)  # [21,P,3]
    spread = ((turned[..., :2] - turned[..., :2].mean(1, keepdim=True)) ** 2).sum((1, 2)).sqrt()
    ratio = ((target - target.mean(0)) ** 2).sum().sqrt() / spread
    fitted = scaled_orthography(points, target, turned[..., 2] * ratio[:, None], weights, 100)
    error = (((fitted(points)[..., :2] - target) ** 2).sum(-1) * weights).sum(-1)
    best = int(error.argmin())
    return Camera(
        fitted.scale[best, None], fitted.rotation[best, None], fitted.translation[best, None, :2], size, center, focal
    )


def scaled_orthography(
    points: Tensor, target: Tensor, depth: Tensor, weights: Tensor | None = None, steps: int = 30
) -> Similarity:
    """Find the similarity whose x and y take points to their places in a picture, by weighted least squares.

    The picture does not show depths. In alternation, the depths are taken from the current similarity, and the next one
    is the similarity to points with these depths (Umeyama 1991). A step never increases the squares.

    Args:
        points: [P,3] or [N,P,3].
        target: [P,2] or [N,P,2], y up.
        depth: [N,P], the depths to start from, in the units of target.
        weights: [P]; None: all equal.
        steps: of the alternation; at least 1.

    Returns:
        The `Similarity`; the third coordinate of its result is the depth of the points.
    """
    for _ in range(steps):
        fitted = similarity(points, torch.cat([target.expand(*depth.shape, 2), depth[..., None]], -1), weights)
        depth = fitted(points)[..., 2]
    return fitted
