"""reconstruction.face: TODO."""

from dataclasses import dataclass

import torch
from torch import Tensor

import facerender as fr
from facemodels.core.camera import Camera
from facemodels.core.crops import Box
from facemodels.models.morphable import MorphableModel


@dataclass(frozen=True)
class Face:
    """One face of a picture.

    box: the detector's, or the square that was given, pixels; score: its, 0..1. crop: the square that the network saw, turned anticlockwise about its middle by `turn` radians.
    identity [I], expression [E] and albedo [A]: coefficients of the morphable model. rotation [3,3], scale pixels per mm, translation [2]: the head in the picture, by weak
    perspective: a point p of the head, mm, y up and z out of the face, lies at x = translation_x + scale (R p)_x, y = translation_y - scale (R p)_y, pixels with y down.
    landmarks [68,3]: pixels of the picture, z towards the viewer. light [9,3]: spherical harmonics of the preset "deep3d" in camera space. albedo and light are None for methods that
    do not tell them. track: which face of a video it is, counted from 0; None in a photograph.
    """

    box: Box
    score: float
    crop: Box
    identity: Tensor
    expression: Tensor
    rotation: Tensor
    scale: float
    translation: Tensor
    landmarks: Tensor
    albedo: Tensor | None = None
    light: Tensor | None = None
    track: int | None = None
    turn: float = 0.0

    @property
    def degrees(self) -> tuple[float, float, float]:
        """(pitch, yaw, roll): the head's rotation is Rz(roll) Ry(yaw) Rx(pitch); positive yaw turns it to its left, to the right in the picture; positive pitch downwards."""
        return tuple(fr.camera.euler_angles(self.rotation[None])[0].rad2deg().tolist())

    def vertices(self, model: MorphableModel) -> Tensor:
        """[V,3] mm, without pose."""
        return model.shape(self.identity[None], self.expression[None])[0]

    def camera(self, size: tuple[int, int]) -> Camera:
        """Of a picture of `size` (H, W)."""
        return Camera(
            torch.tensor([self.scale]), self.rotation[None], torch.zeros(1, 2), size, tuple(self.translation.tolist())
        )
