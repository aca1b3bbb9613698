"""Whether a fit can be right: what is far from anything that faces and people's labels give is said in one sentence.

The limits were measured on synthetic people, with labels up to 4 mm off and in all the wrong ways that files have
(docs/notes/fitting_checks.md); they are loose, since a fit that is only poor is for the user to see.
"""

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.core.landmarks import AFLW_21, EAR_LOBES

MAX_LANDMARK_ERROR = 7.0  # mm, mean over the labels of a photo
MAX_AFLW_ERROR = 9.0  # mm, the same of AFLW's 21 without the lobes of the ears: people label these less accurately
MAX_POINT_ERROR = 14.0  # mm, mean over the landmarks of a mesh
MAX_COEFFICIENT = 4.5  # standard deviations, of the largest identity coefficient of a fit to a photo
MAX_TURN = -0.2  # cosine of the angle between the face and the camera: a little beyond the profile
MAX_DISTANCE = 4.0  # mm, median of the face from a mesh
_ORDER = "give them in the order of iBUG's 68, AFLW's 21 or the five, in pixels, x to the right and y down"


def check_turn(rotation: Tensor) -> None:
    """Check that landmarks show a face from a side that has one.

    Args:
        rotation: [3,3] of the head, as the landmarks have it.

    Raises:
        InputError: They show it from behind, as mirrored landmarks do.
    """
    if float(rotation[2, 2]) < MAX_TURN:
        raise InputError(
            "the landmarks show a face from behind: they are mirrored, their right and left or their x and y are "
            f"exchanged, or y counts upwards; {_ORDER}"
        )


def photo_doubts(error: float, scale: float, count: int, identity: Tensor, points: int = 68) -> list[str]:
    """What speaks against a fit to a photo.

    Args:
        error: Mean distance of the landmarks, pixels, see `judged_error`.
        scale: Pixels of a millimeter.
        count: How many landmarks were compared.
        identity: [1,I].
        points: How many the whole set has: 68, 21 or 5.

    Returns:
        Sentences; none for a fit that may be right.
    """
    doubts = []
    limit = MAX_AFLW_ERROR if points == len(AFLW_21) else MAX_LANDMARK_ERROR
    if not error / scale <= limit:
        doubts.append(
            f"the {count} landmarks are {error / scale:.0f} mm off on average, as no face's are (a fit has less than "
            f"{limit:g}); {_ORDER}"
        )
    largest = float(identity.abs().max()) if identity.numel() else 0.0
    if not largest <= MAX_COEFFICIENT:
        doubts.append(
            f"the shape is {largest:.1f} standard deviations from the mean face in one direction; the picture is "
            "stretched, or the landmarks belong to another one"
        )
    return doubts


def mesh_doubts(distance: float, landmark_error: float | None, count: int, identity: Tensor, unit: float) -> list[str]:
    """What speaks against a fit to a mesh.

    Args:
        distance: Median distance of the model's face from the mesh, mm.
        landmark_error: Mean distance of the landmarks, mm; None without.
        count: How many landmarks were compared.
        identity: [1,I].
        unit: Millimeters of the mesh's unit, as it was fitted.

    Returns:
        Sentences; none for a fit that may be right.
    """
    doubts = []
    if landmark_error is not None and not landmark_error <= MAX_POINT_ERROR:
        doubts.append(
            f"the {count} landmarks are {landmark_error:.0f} mm off on average, as no face's are; give them in the "
            "mesh's own coordinates, in the order of iBUG's 68, AFLW's 21 or the five"
        )
    if math.isinf(distance):
        doubts.append(
            "most of the model's face has nothing of the mesh in front of it; the mesh shows no face there, or "
            "landmarks must say where it is"
        )
    elif not distance <= MAX_DISTANCE:
        doubts.append(
            f"half of the model's face is more than {distance:.1f} mm from the mesh (a fit has less than "
            f"{MAX_DISTANCE:g}); the mesh shows no face there, or landmarks must say where it is"
        )
    size = float(identity.square().mean().sqrt()) if identity.numel() else 0.0
    if not size <= math.sqrt(1 + 5 * math.sqrt(2 / max(identity.numel(), 1))):
        doubts.append(
            f"the shape is {size:.1f} times as far from the mean face as people are; the mesh is no face, lies "
            f"elsewhere, or has another unit (taken for {unit:.4g} mm; a scan in inches must be multiplied by 25.4)"
        )
    return doubts


class FitWarning(UserWarning):
    """A fit cannot be right; `Fit.doubts` says why."""


def warn_of(doubts: Sequence[str]) -> None:
    """Warn whoever called the function that calls this one; nothing where there are no doubts."""
    if doubts:
        warnings.warn(f"the fit cannot be right: {'; '.join(doubts)}", FitWarning, stacklevel=3)


def judged_error(fitted: Tensor, given: Tensor) -> float:
    """`mean_error` without the lobes of the ears, of which models have only a rough stand-in."""
    if len(given) != len(AFLW_21):
        return mean_error(fitted, given)
    counted = [k for k in range(len(given)) if k not in EAR_LOBES]
    return mean_error(fitted[counted], given[counted])


def mean_error(fitted: Tensor, given: Tensor) -> float:
    """Mean distance of those points that are in both, [L,D] each with NaN for what is missing."""
    distance = (fitted - given).norm(dim=-1)
    return float(distance[~torch.isnan(distance)].mean())
