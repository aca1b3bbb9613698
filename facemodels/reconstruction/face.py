"""One reconstructed face of a picture: `Face`."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from facemodels.core.camera import Camera
from facemodels.core.crops import Box
from facemodels.core.parameters import FaceParameters
from facemodels.core.rotation import head_angles
from facemodels.models.morphable import MorphableModel


@dataclass(frozen=True)
class Face:
    """One reconstructed face of a picture.

    Attributes:
        box: The detector's box, or the box that was given: (x0, y0, x1, y1), pixels.
        score: The detector's score, 0..1.
        crop: The square that the network saw, before it is turned: (x0, y0, x1, y1), pixels.
        parameters: The face's parameters in pixels of the whole picture, with a batch of 1.
        track: Which face of a video it is, counted from 0; None in a photograph.
        turn: The counterclockwise rotation of the crop about its center, radians.
    """

    box: Box
    score: float
    crop: Box
    parameters: FaceParameters
    track: int | None = None
    turn: float = 0.0

    @property
    def identity(self) -> Tensor:
        """[I] identity coefficients of the morphable model."""
        return self.parameters.identity[0]

    @property
    def expression(self) -> Tensor:
        """[E] expression coefficients of the morphable model."""
        return self.parameters.expression[0]

    @property
    def albedo(self) -> Tensor | None:
        """[A] albedo coefficients of the morphable model; None where the method does not estimate them."""
        return None if self.parameters.albedo is None else self.parameters.albedo[0]

    @property
    def light(self) -> Tensor | None:
        """[9,3] spherical harmonics of the preset "deep3d" in camera space; None where the method estimates none."""
        return None if self.parameters.light is None else self.parameters.light[0]

    @property
    def rotation(self) -> Tensor:
        """[3,3] rotation from the head to the camera (x right, y up, z toward the viewer)."""
        return self.parameters.rotation[0]

    @property
    def scale(self) -> float:
        """Pixels per millimeter."""
        return float(self.parameters.scale)

    @property
    def translation(self) -> Tensor:
        """[2], the pixel (x, y) of the picture where the model's origin lies; y down."""
        return self.parameters.translation[0]

    @property
    def landmarks(self) -> Tensor:
        """[68,3] landmarks in pixels of the picture, y down, z toward the viewer."""
        return self.parameters.landmarks[0]

    @property
    def degrees(self) -> tuple[float, float, float]:
        """(pitch, yaw, roll) in degrees, in the convention of 300W-LP and AFLW2000-3D.

        Positive pitch looks up, positive yaw looks to the left of the picture, positive roll turns the head clockwise
        in the picture; see `facemodels.core.rotation.head_angles`.
        """
        pitch, yaw, roll = head_angles(self.rotation).tolist()
        return pitch, yaw, roll

    def vertices(self, model: MorphableModel) -> Tensor:
        """Vertices [V,3] in millimeters: the head with its expression, without pose.

        Args:
            model: The method's morphable model, such as `Reconstructor.model`; `facemodels.load_model()` for weights
                that ship.
        """
        return model.shape(self.parameters.identity, self.parameters.expression)[0]

    def camera(self, size: tuple[int, int]) -> Camera:
        """The camera of a picture of `size` (H, W) that draws the head where the face lies."""
        p = self.parameters
        x, y = p.translation[0].tolist()
        return Camera(p.scale, p.rotation, torch.zeros(1, 2), size, (x, y))

    def with_parameters(self, **changes: Tensor | None) -> "Face":
        """A copy with some parameters replaced.

        Args:
            changes: Name of a field of `FaceParameters` -> its value for this face, without the batch dimension.
        """
        batched: dict[str, Any] = {name: None if value is None else value[None] for name, value in changes.items()}
        return replace(self, parameters=self.parameters._replace(**batched))
