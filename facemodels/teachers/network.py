"""Landmarks that a trained network predicts in photographs, averaged over several views of each."""

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from facemodels.core.landmarks import center_depth, mirror_order
from facemodels.core.progress import progress
from facemodels.data import FaceBatch
from facemodels.data.augment import warp_faces


class View(NamedTuple):
    """A picture, scaled, shifted and perhaps mirrored.

    Attributes:
        scale: Factor of the size.
        right: Shift to the right, share of the picture's side.
        down: Shift downward, likewise.
        mirrored: Left and right exchanged.
    """

    scale: float
    right: float
    down: float
    mirrored: bool


# Test-time augmentations; the first is the identity.
VIEWS = tuple(
    View(scale, right, down, mirrored)
    for scale, right, down in ((1, 0, 0), (0.94, 0.025, 0), (0.94, -0.025, 0), (1.05, 0, 0.025), (1.05, 0, -0.025))
    for mirrored in (False, True)
)


class Teacher(Protocol):
    """What a teacher must have: a `FaceMethod` has it."""

    size: int

    def landmarks(self, image: Tensor) -> Tensor:
        """Return landmarks [N,68,3] of pictures [N,3,size,size]."""


@torch.no_grad()
def predict_landmarks(method: Teacher, images: Tensor, views: int = 1, batch: int = 64) -> tuple[Tensor, Tensor]:
    """Predict landmarks in photographs.

    Args:
        method: The teacher.
        images: uint8 [N,3,S,S].
        views: Average over so many of `VIEWS`.
        batch: Pictures at a time.

    Returns:
        Landmarks [N,68,3], pixels of the pictures, z about its mean; and [N], pixels, how far the views' points lie
        from them on average (0 for one view).
    """
    found, spread, side = [], [], images.shape[-1]
    for k in progress(range(0, len(images), batch), "predicting landmarks"):
        image = images[k : k + batch].float() / 255
        if side != method.size:
            size = (method.size, method.size)
            image = F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
        points = torch.stack([predict_in_view(method, image, view) for view in VIEWS[:views]]) * (side / method.size)
        found.append(points.mean(0))
        spread.append((points - found[-1])[..., :2].norm(dim=-1).mean((0, 2)))
    return torch.cat(found).float(), torch.cat(spread).float()


def predict_in_view(method: Teacher, image: Tensor, view: View) -> Tensor:
    """Predict landmarks [N,68,3] in a view of pictures [N,3,S,S]: in the pictures' own pixels, z about its mean."""
    if view == VIEWS[0]:
        return center_depth(method.landmarks(image))
    ones, side = image.new_ones(len(image)), image.shape[-1]
    shift = side * image.new_tensor([view.right, view.down])
    faces = warp_faces(
        FaceBatch(image), 0 * ones, view.scale * ones, shift.expand(len(image), 2), (view.mirrored * ones).bool()
    )
    points = method.landmarks(faces.image)
    xy = (points[..., :2] - side / 2 - shift) / view.scale + side / 2
    if view.mirrored:
        xy = torch.stack([side - xy[..., 0], xy[..., 1]], -1)
    points = center_depth(torch.cat([xy, points[..., 2:] / view.scale], -1))
    return points[:, mirror_order(points.shape[1])] if view.mirrored else points
