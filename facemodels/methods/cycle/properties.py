"""The properties of a face in a picture, their variations from frame to frame, and how a variation is injected into a
frame's properties and reversed.

They are in the terms in which the network is taught: y up, as `FaceBatch` has them. `Properties.parameters` and
`Properties.pixels` are where y turns down.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from facemodels.core.parameters import FaceParameters, flip_y
from facerender._checks import brief_repr


@brief_repr
class Pose(NamedTuple):
    """A weak-perspective camera, or the variation that takes one to another: a rotation, a ratio of scales, a shift.

    ``p2.after(p1.inverse())`` is the variation from p1 to p2, and ``variation.after(p1)`` is p2 again.

    Attributes:
        rotation: [N,3,3].
        scale: [N], pixels per mm; of a variation, a ratio.
        translation: [N,2], pixels from the lower left corner, y up.
    """

    rotation: Tensor
    scale: Tensor
    translation: Tensor

    def after(self, other: "Pose") -> "Pose":
        """The composition of the two, `other` first."""
        return Pose(self.rotation @ other.rotation, self.scale * other.scale, self.translation + other.translation)

    def inverse(self) -> "Pose":
        """The variation that reverses this one."""
        return Pose(self.rotation.mT, 1 / self.scale, -self.translation)


@brief_repr
class Properties(NamedTuple):
    """The properties of N faces, each in a picture of its own.

    Attributes:
        identity: [N,I] coefficients of the morphable model.
        expression: [N,E] coefficients of the morphable model.
        rotation: [N,3,3], see `Pose`.
        scale: [N], see `Pose`.
        translation: [N,2], see `Pose`.
        albedo: [N,A] coefficients of the morphable model.
        light: [N,9,3], spherical harmonics of the preset "deep3d", in camera space.
    """

    identity: Tensor
    expression: Tensor
    rotation: Tensor
    scale: Tensor
    translation: Tensor
    albedo: Tensor
    light: Tensor

    @property
    def pose(self) -> Pose:
        """Rotation, scale and translation."""
        return Pose(self.rotation, self.scale, self.translation)

    def with_pose(self, pose: Pose) -> "Properties":
        """The same face in another pose."""
        return self._replace(rotation=pose.rotation, scale=pose.scale, translation=pose.translation)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Properties":
        """Apply a function to every tensor."""
        return Properties(*map(function, self))

    def pairs(self) -> tuple["Properties", "Properties"]:
        """Split a batch with two frames of a person in a row: (those of the first frames, those of the second)."""
        return self.map(lambda value: value[0::2]), self.map(lambda value: value[1::2])

    def detached(self, *but: str) -> "Properties":
        """The same values without gradients, except for the fields that are named."""
        return Properties(*(v if name in but else v.detach() for name, v in self._asdict().items()))

    def pixels(self, points: Tensor, size: int) -> Tensor:
        """Place points of the head in pictures of a size.

        Args:
            points: [N,P,3] mm.
            size: side of the pictures in pixels.

        Returns:
            [N,P,3] pixels: x, y down, and z toward the viewer, relative to the model's origin.
        """
        x, y, z = flip_y(self.scale[:, None, None] * points @ self.rotation.mT, size).unbind(-1)
        return torch.stack([x + self.translation[:, :1], y - self.translation[:, 1:], z], -1)

    def parameters(self, landmarks: Tensor, size: int) -> FaceParameters:
        """The same as `FaceParameters`, in pictures of a size, with landmarks [N,68,3] in pixels, y down."""
        return FaceParameters(
            self.identity,
            self.expression,
            self.rotation,
            self.scale,
            flip_y(self.translation, size),
            landmarks,
            self.albedo,
            self.light,
        )


# The fields of `Properties` that a cycle varies.
VARIED = {"pose": Pose._fields, "expression": ("expression",)}


def inject(cycle: str, first: Properties, second: Properties) -> tuple[Pose | Tensor, Properties]:
    """Take the variation of a cycle's property between two frames, and inject it into the first one's properties.

    Args:
        cycle: "pose" or "expression".
        first: properties of the first frames.
        second: properties of the second frames.

    Returns:
        The variation from the first to the second (a `Pose`, or a difference of expressions [N,E]), and the properties
        of the first with it.
    """
    if cycle == "pose":
        variation = second.pose.after(first.pose.inverse())
        return variation, first.with_pose(variation.after(first.pose))
    difference = second.expression - first.expression
    return difference, first._replace(expression=first.expression + difference)


def reverse(properties: Properties, variation: Pose | Tensor) -> Properties:
    """Reverse a variation of pose, or of expression [N,E]."""
    if isinstance(variation, Pose):
        return properties.with_pose(variation.inverse().after(properties.pose))
    return properties._replace(expression=properties.expression - variation)
