"""Two teachers in one set of landmarks: 68 with depth of a network, and MediaPipe's 468 points.

MediaPipe's points stand at other places of a face than iBUG's, by amounts that change with the pose. These offsets are
found over all photographs: polynomials of yaw and pitch, in the face's own axes. Without them, both teachers say the
same, and each point is a mean of the two. docs/notes/teachers.md has what the shares were chosen by.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from facemodels.core.alignment import similarity
from facemodels.core.errors import InputError
from facemodels.core.landmarks import NUM_CONTOUR
from facemodels.core.rotation import head_angles
from facemodels.models.morphable import MorphableModel
from facemodels.teachers.face_mesh import IBUG, MeshPoints
from facerender._checks import brief_repr

LIMIT = 70.0  # degrees of yaw, beyond which photographs say nothing about offsets
FEWEST = 100  # photographs that do: of fewer, offsets would make the teachers agree whatever they say
SURE = 0.9, 0.99  # scores of the mesh from which it begins to count, and counts fully
SHARES = ((0, 0.75), (20, 0.7), (40, 0.5), (60, 0.25), (80, 0.0))  # (yaw in degrees, share of the mesh)
TOO_FAR = 6.0  # mm, mean distance of the teachers from each other, beyond which the mesh does not count
SPREAD = 2.5  # mm, of the robust fit of offsets
DOUBT = 4.0  # mm of disagreement at which a photograph counts half


@brief_repr
class Combined(NamedTuple):
    """Labels of N photographs.

    Attributes:
        landmarks: [N,68,3], pixels; brows, nose, eyes and lips of both teachers, the contour and all depths of the
            network.
        weight: [N], 0..1, how far the teachers agree, and where the mesh does not count, the network's own views.
        share: [N], the share of the mesh.
        distance: [N], mm on the face, the mean distance between the teachers' points.
    """

    landmarks: Tensor
    weight: Tensor
    share: Tensor
    distance: Tensor


@brief_repr
class Poses(NamedTuple):
    """Rough poses of N faces.

    Attributes:
        angles: [N,3], pitch, yaw and roll in degrees, see `core.rotation.head_angles`.
        scale: [N], pixels of a millimeter.
    """

    angles: Tensor
    scale: Tensor

    def to_face(self, shift: Tensor) -> Tensor:
        """Shifts [N,P,2] in pixels of the picture, in mm along the axes of an upright face."""
        return (shift @ self._turn()) / self.scale[:, None, None]

    def to_picture(self, shift: Tensor) -> Tensor:
        """The inverse of `to_face`."""
        return (shift @ self._turn().mT) * self.scale[:, None, None]

    def _turn(self) -> Tensor:
        roll = self.angles[:, 2] * (math.pi / 180)
        c, s = roll.cos(), roll.sin()
        return torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)


def poses_of(landmarks: Tensor, model: MorphableModel) -> Poses:
    """Rough poses of faces, by the mean face.

    Args:
        landmarks: [N,68,3], pixels with y down; z toward the viewer.
        model: A model with 68 landmarks.
    """
    mean = model.landmarks(model.mean[None]).to(landmarks)
    up = landmarks * landmarks.new_tensor([1, -1, 1])
    found = similarity(mean.expand(len(up), -1, -1), up)
    return Poses(head_angles(found.rotation), found.scale)


def combine(landmarks: Tensor, mesh: MeshPoints, poses: Poses, spread: Tensor) -> Combined:
    """Combine the teachers.

    Args:
        landmarks: [N,68,3], pixels, of the network.
        mesh: Of the same pictures.
        poses: See `poses_of`.
        spread: [N], pixels, how far the network's views of a picture are apart.

    Raises:
        InputError: The mesh sees a face in too few pictures to find its offsets.
    """
    points = torch.from_numpy(mesh.points)[:, list(IBUG), :2].to(landmarks)
    score = torch.from_numpy(mesh.score).to(landmarks)
    own = landmarks[:, NUM_CONTOUR:, :2]
    points = points + poses.to_picture(_offsets(poses, poses.to_face(own - points), score))
    distance = poses.to_face(own - points).norm(dim=-1).mean(1)
    yaw = poses.angles[:, 1].abs()
    share = _interpolated(yaw, SHARES) * ((score - SURE[0]) / (SURE[1] - SURE[0])).clamp(0, 1)
    share = torch.where(distance <= TOO_FAR, share, 0)
    both = landmarks.clone()
    both[:, NUM_CONTOUR:, :2] = torch.lerp(own, points, share[:, None, None])
    apart = torch.where(share > 0, distance, spread / poses.scale)
    return Combined(both, agreement(apart), share, distance)


def agreement(apart: Tensor) -> Tensor:
    """The weight 0..1 of labels whose teachers, or views, are so many mm apart."""
    return 1 / (1 + (apart / DOUBT).square())


def _offsets(poses: Poses, shift: Tensor, score: Tensor) -> Tensor:
    """The part of shifts [N,51,2] that the pose explains, mm."""
    pitch, yaw = poses.angles[:, 0] / 30, poses.angles[:, 1] / 30
    terms = torch.stack([torch.ones_like(yaw), yaw, yaw**2, yaw**3, pitch, pitch**2, yaw * pitch], 1)
    good = ((score > SURE[1]) & (poses.angles[:, 1].abs() < LIMIT)).to(shift)
    if good.sum() < FEWEST:
        raise InputError(
            f"the mesh sees a face in {int(good.sum())} of {len(score)} photographs, and where its points stand on a "
            f"face takes at least {FEWEST}; give more photographs, or leave out --face-mesh"
        )
    weight, ridge = good, 1e-3 * torch.eye(terms.shape[1], dtype=shift.dtype, device=shift.device)
    for _ in range(5):
        square = torch.einsum("n,ni,nj->ij", weight, terms, terms) + ridge
        right = torch.einsum("n,ni,nkd->ikd", weight, terms, shift)
        found = torch.linalg.solve(square, right.flatten(1)).view(right.shape)
        explained = torch.einsum("ni,ikd->nkd", terms, found)
        weight = good / (1 + ((shift - explained).norm(dim=-1).median(1).values / SPREAD).square())
    return explained


def _interpolated(x: Tensor, table: tuple[tuple[float, float], ...]) -> Tensor:
    """Piecewise linear values of a table of (x, y), constant beyond its ends."""
    result = torch.full_like(x, table[0][1])
    for (x0, y0), (x1, y1) in zip(table, table[1:]):
        result = torch.where(x > x0, y0 + (y1 - y0) * ((x - x0) / (x1 - x0)).clamp(max=1), result)
    return result
