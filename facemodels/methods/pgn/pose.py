"""Pose guidance: the pose of a head from its landmarks; and the paper's baseline, which regresses the pose."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import facerender as fr
from facemodels.core.alignment import similarity
from facemodels.data import FaceBatch
from facerender._checks import brief_repr

LOG_SCALE = 1.6  # logarithm of the usual scale of heads in their crops, sides of the picture per meter


@brief_repr
class HeadPose(NamedTuple):
    """Where a head is in a picture: x -> (scale * x) @ rotation^T + translation, with y up.

    It is a `core.alignment.Similarity` that scales before it rotates, as `FaceParameters.pixels` does: the two orders
    round differently.

    Attributes:
        scale: [N], pixels per millimeter.
        rotation: [N,3,3], from the head to the camera.
        translation: [N,3], pixels from the lower left corner, y up. The depth t_z is that of the landmarks.
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        """Place points [N,P,3] of the head, millimeters, in the picture: pixels, y up."""
        return self.scale[:, None, None] * points @ self.rotation.mT + self.translation[:, None]

    def without_depth(self) -> "HeadPose":
        """The same pose with t_z = 0."""
        return self._replace(translation=F.pad(self.translation[:, :2], (0, 1)))


def guided_pose(points: Tensor, landmarks: Tensor) -> HeadPose:
    """Solve for the pose that takes points of the head to the landmarks with the least squares.

    Args:
        points: [N,P,3] landmarks of the model, millimeters.
        landmarks: [N,P,3] predicted landmarks, pixels, y up.
    """
    scale, rotation, translation = similarity(points, landmarks)
    return HeadPose(scale, rotation, translation)


def regressed_pose(numbers: Tensor, size: int) -> HeadPose:
    """Turn the numbers that the baseline regresses into a pose.

    Args:
        numbers: [N,9]: two axes of the rotation, logarithm of the scale in sides of the picture per meter, and
            translation in sides.
        size: side of the picture in pixels.
    """
    rotation = fr.camera.rotation_from_axes(numbers[:, :3], numbers[:, 3:6])
    translation = F.pad(numbers[:, 7:9], (0, 1))
    return HeadPose(numbers[:, 6].exp() * size / 1000, rotation, translation * size)


def pose_targets(faces: FaceBatch, size: int) -> Tensor:
    """The numbers [N,9] that the baseline should regress for labeled faces, see `regressed_pose`."""
    assert faces.rotation is not None and faces.scale is not None and faces.translation is not None
    return torch.cat(
        [
            faces.rotation[:, 0],
            faces.rotation[:, 1],
            (faces.scale * 1000 / size).log()[:, None],
            faces.translation / size,
        ],
        1,
    )


def labeled_pose(faces: FaceBatch) -> HeadPose:
    """The pose of labeled faces, with t_z = 0."""
    assert faces.rotation is not None and faces.scale is not None and faces.translation is not None
    return HeadPose(faces.scale, faces.rotation, F.pad(faces.translation, (0, 1)))
