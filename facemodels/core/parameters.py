"""The parameters of faces in pictures: one type, and one convention for y, for everything that passes them on.

Rows of a picture count from the top, so y points down in pixels: in landmarks, boxes and in
`FaceParameters.translation`. Cameras of the 3DDFA family, and `facerender.camera.weak_perspective` with them, measure
heights from the lower left corner instead. `flip_y` is the one place where rows become heights and heights become rows.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from facerender._checks import brief_repr


def flip_y(points: Tensor, height: float) -> Tensor:
    """Turn rows, counted from the top of a picture, into heights above its lower edge, or back.

    Args:
        points: [...,2] or [...,3], pixels; x and z stay.
        height: The picture's height in pixels.
    """
    return torch.cat([points[..., :1], height - points[..., 1:2], points[..., 2:]], -1)


@brief_repr
class FaceParameters(NamedTuple):
    """Parameters of N faces, each in a picture of its own: what every method, the fitting and the evaluation exchange.

    A point p of the head, in millimeters of the model (y up, +z out of the face), lies at
    x = translation_x + scale (rotation p)_x and y = translation_y - scale (rotation p)_y, in pixels with y down.

    Attributes:
        identity: [N,I] coefficients of the morphable model, in standard deviations.
        expression: [N,E] coefficients of the morphable model.
        rotation: [N,3,3], from the head to the camera (x right, y up, z toward the viewer).
        scale: [N], pixels per millimeter.
        translation: [N,2], the pixel (x, y) where the model's origin lies; y down.
        landmarks: [N,68,3], pixels with y down, z toward the viewer in pixels too. They are those of the posed model
            or, for a method that predicts landmarks directly, the predicted ones.
        albedo: [N,A] coefficients of the morphable model; None where the method does not estimate them.
        light: [N,9,3], spherical harmonics of the preset "deep3d", in camera space; None where the method does not
            estimate it.
    """

    identity: Tensor
    expression: Tensor
    rotation: Tensor
    scale: Tensor
    translation: Tensor
    landmarks: Tensor
    albedo: Tensor | None = None
    light: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "FaceParameters":
        """Apply a function to every tensor."""
        return FaceParameters(
            function(self.identity),
            function(self.expression),
            function(self.rotation),
            function(self.scale),
            function(self.translation),
            function(self.landmarks),
            None if self.albedo is None else function(self.albedo),
            None if self.light is None else function(self.light),
        )

    def select(self, places: slice | Tensor) -> "FaceParameters":
        """The faces at some places of the batch."""
        return self.map(lambda value: value[places])

    def detached(self) -> "FaceParameters":
        """The same values without gradients."""
        return self.map(Tensor.detach)

    def to(self, device: torch.device | str) -> "FaceParameters":
        """The same values on a device."""
        return self.map(lambda value: value.to(device))

    @staticmethod
    def stack(parts: "list[FaceParameters]") -> "FaceParameters":
        """One batch of several; what one of them lacks, the batch lacks.

        Raises:
            ValueError: There are none.
        """
        if not parts:
            raise ValueError("parts must hold at least one batch, got none")
        columns = [None if any(v is None for v in column) else torch.cat(column) for column in zip(*parts)]
        return FaceParameters(*columns)  # type: ignore[arg-type] # None is where the field may be

    def pixels(self, points: Tensor) -> Tensor:
        """Place points of the head in the pictures.

        Args:
            points: [N,P,3], millimeters.

        Returns:
            [N,P,3] pixels: x, y down, and z toward the viewer, relative to the model's origin.
        """
        x, y, z = (self.scale[:, None, None] * points @ self.rotation.mT).unbind(-1)
        return torch.stack([x + self.translation[:, :1], self.translation[:, 1:] - y, z], -1)
