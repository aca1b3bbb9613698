"""What a fit finds: `Fit`."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facemodels.core.alignment import Similarity
from facemodels.core.camera import Camera
from facemodels.models.morphable import ModelOutput, MorphableModel
from facerender._checks import brief_repr


@brief_repr
@dataclass
class Fit:
    """The outcome of `fit_image` or `fit_mesh`. Tensors have a batch of 1.

    Attributes:
        identity: [1,I] coefficients.
        expression: [1,E] coefficients.
        albedo: [1,A] coefficients; None for a mesh, or a model without colors.
        joints: [1,J,3] rotation vectors; None for a model without joints.
        camera: In pixels of the photo; None for a mesh.
        light: [1,9,3], spherical harmonics of the preset "standard" in camera space; None for a mesh.
        placement: From the model's millimeters to the mesh's coordinates; None for a photo.
        landmarks: [L,2] in the photo, or [L,3] in the mesh's coordinates: the fitted ones of those that were given; NaN
            for those that the model lacks.
        landmark_error: Mean distance of those that were given and that the model has, in pixels (photo) or millimeters
            (mesh).
        landmark_count: How many these are.
        doubts: A sentence for everything that speaks against the fit: empty if it may be right. See `judge`.
        history: For each iteration of the last stage, the deviation of the face's colors relative to its brightness
            (photo), or the mean distance of the surfaces in millimeters (mesh).
    """

    identity: Tensor
    expression: Tensor
    albedo: Tensor | None = None
    joints: Tensor | None = None
    camera: Camera | None = None
    light: Tensor | None = None
    placement: Similarity | None = None
    landmarks: Tensor | None = None
    landmark_error: float | None = None
    landmark_count: int = 0
    doubts: list[str] = field(default_factory=list)
    history: list[float] = field(default_factory=list)

    def face(self, model: MorphableModel) -> ModelOutput:
        """The fitted face in the model's own coordinates."""
        return model(self.identity, self.expression, self.albedo, self.joints)

    def arrays(self) -> dict[str, np.ndarray]:
        """The numbers of the fit as arrays by name: what `facemodels fit` writes and `transfer` reads.

        They are float32; where a mesh lies far from its origin, its translation and landmarks are float64.
        """
        names = ("identity", "expression", "albedo", "joints", "light", "landmarks")
        found: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.camera is not None:
            names = ("scale", "rotation", "translation", "focal", "center", "size")
            found |= {name: getattr(self.camera, name) for name in names}
        if self.placement is not None:
            found |= dict(zip(("scale", "rotation", "translation"), self.placement))
        far = self.placement is not None and self.placement.translation.dtype == torch.float64
        return {
            name: np.asarray(
                value.cpu() if isinstance(value, Tensor) else value,
                np.float64 if far and name in ("translation", "landmarks") else np.float32,
            )
            for name, value in found.items()
            if value is not None
        }
