"""Whether landmarks that were given are those of the face that was found with them: in the right order and place."""

import warnings

import numpy as np

from facemodels.core.landmarks import FIVE_OF, NUM_CONTOUR, mirror_order
from facemodels.reconstruction.face import Face

# Mean distance from the predicted landmarks in proportion to the face's size. Right ones are below 0.12; those in a
# wrong order may be as near, but are then twice as near with the sides exchanged.
MISFIT, MISFIT_EXCHANGED = 0.22, 0.12


class LandmarkWarning(UserWarning):
    """Landmarks that were given do not fit the face."""


def landmark_doubt(face: Face, points: np.ndarray) -> str | None:
    """What speaks against landmarks that were given.

    Args:
        face: The face that was reconstructed with them.
        points: [L,2], L = 68, 21 or 5: the landmarks, pixels; NaN where missing.

    Returns:
        The end of a sentence that begins with their file; None for landmarks that may be right.
    """
    own = face.landmarks[:, :2].numpy()
    found = _misfit(own, points)
    exchanged = found > MISFIT_EXCHANGED and _misfit(own, points[list(mirror_order(len(points)))]) < found / 2
    if not found > MISFIT and not exchanged:
        return None
    sides = ", and less than half of it with left and right exchanged" if exchanged else ""
    return (
        f"the landmarks are {100 * found:.0f} % of the face's size away from the face that is seen there{sides}; give "
        "them in pixels in the order of iBUG's 68, AFLW's 21 or the five, right being the subject's, or leave them out"
    )


def warn_of_landmarks(face: Face, points: np.ndarray) -> None:
    """Warn of landmarks that cannot be right."""
    if doubt := landmark_doubt(face, points):
        warnings.warn(doubt, LandmarkWarning, stacklevel=4)


def _misfit(own: np.ndarray, points: np.ndarray) -> float:
    """Mean distance in proportion to the size of the face; 0 where no point is known."""
    if len(points) == len(own):
        a, b = own[NUM_CONTOUR:], points[NUM_CONTOUR:]  # people place the contour differently
    else:
        a, b = (np.array([p[list(group)].mean(0) for group in FIVE_OF[len(p)]]) for p in (own, points))
    distance = np.linalg.norm(a - b, axis=1)
    known = distance[np.isfinite(distance)]
    size = float(np.sqrt(np.prod(np.ptp(own, axis=0))))
    return float(known.mean()) / size if len(known) and size > 0 else 0.0
