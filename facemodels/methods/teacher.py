"""Landmarks that a trained network predicts in photographs, for another to learn from (`teacher` of 2DASL's settings).

    python -m facemodels.methods.teacher CHECKPOINT PHOTOS -o FILE.npz

CHECKPOINT is any method's; `facemodels.methods.published` makes one of a published network. PHOTOS are AFLW's crops or
a folder of pictures with landmark files. Their own landmarks judge the teacher: pictures in which it misses them are
left out. The photographs must not be those that the teacher learned from, or its errors there look smaller than they
are.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.core.landmarks import center_depth, eighteen_points, mirror_order
from facemodels.core.progress import progress
from facemodels.data import FaceBatch
from facemodels.data.augment import warp_faces
from facemodels.data.photographs import photographs, write_teacher_labels
from facemodels.io.files import check_writable
from facemodels.methods.registry import load_method


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
def predict_landmarks(
    method: Teacher, faces: FaceBatch, worst: float = 8.0, batch: int = 64, views: int = 1
) -> tuple[Tensor, Tensor]:
    """Predict landmarks in photographs, and measure them against the photographs' own.

    Args:
        method: The teacher.
        faces: Photographs with images of uint8 and landmarks.
        worst: Largest mean error, percent of the box's side; above it, landmarks are NaN.
        batch: Pictures at a time.
        views: Average over so many of `VIEWS`.

    Returns:
        Landmarks [N,68,3], pixels of the crops, z about its mean; NaN where they are not good enough or nothing is
        known of the photograph. And the mean error of the 18 points [N], percent of the side of the face's box
        (the crop's side / sqrt(2)).
    """
    found, errors, side = [], [], faces.image.shape[-1]
    assert faces.landmarks is not None
    for k in progress(range(0, len(faces), batch), "predicting landmarks"):
        image = faces.image[k : k + batch].float() / 255
        if side != method.size:
            size = (method.size, method.size)
            image = F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
        points = torch.stack([predict_in_view(method, image, view) for view in VIEWS[:views]]).mean(0)
        points = points * (side / method.size)
        own = eighteen_points(faces.landmarks[k : k + batch, :, :2])
        distance = (eighteen_points(points[..., :2]) - own).norm(dim=-1).nanmean(1)
        found.append(points)
        errors.append(100 * distance / (side / 2**0.5))
    landmarks, error = torch.cat(found).float(), torch.cat(errors)
    return torch.where((error <= worst)[:, None, None], landmarks, torch.nan), error


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m facemodels.methods.teacher` and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m facemodels.methods.teacher",
        description="Write the landmarks that a trained network predicts in photographs, for another to learn from.",
    )
    parser.add_argument("checkpoint", help="a checkpoint, or the name of shipped weights")
    parser.add_argument(
        "photos", type=Path, metavar="PHOTOS", help="AFLW's crops (.zip), or a folder of pictures with landmark files"
    )
    parser.add_argument(
        "--worst",
        type=float,
        default=8.0,
        metavar="PERCENT",
        help="leave out pictures with a larger error at their own landmarks, percent of the face's box (default: 8)",
    )
    parser.add_argument(
        "--views",
        type=int,
        choices=range(1, len(VIEWS) + 1),
        default=2,
        metavar="N",
        help="average over so many views of a picture, at most 10 (default: 2, the picture and its mirror image)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".npz to write")
    options = parser.parse_args(arguments)
    try:
        check_writable(options.output.parent)
        method, faces = load_method(options.checkpoint), photographs(options.photos)
        landmarks, errors = predict_landmarks(method, faces, options.worst, views=options.views)
        kept = landmarks.isfinite().all(-1).all(-1)
        if not kept.any():
            raise InputError(
                f"{options.photos}: the mean error is above {options.worst:g} % of the box in all {len(faces)} "
                "pictures; give another network, or a higher --worst"
            )
        write_teacher_labels(options.output, landmarks, faces)
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    print(
        f"{options.output}: landmarks of {int(kept.sum())} of {len(faces)} photographs, whose own landmarks are "
        f"{errors[kept].mean():.2f} % of the box away on average"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
