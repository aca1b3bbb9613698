"""Whether the arrays of a morphable model are those of a face in this library's conventions.

Checked are the size of its mean, which way it faces (by its landmarks; without any, along which axis), which side of
its surface is the outside, and how far its modes move it.
"""

from itertools import permutations

import numpy as np

from facemodels.core.landmarks import (
    LEFT_EYE,
    LEFT_MOUTH_CORNER,
    NOSE_TIP,
    RIGHT_EYE,
    RIGHT_MOUTH_CORNER,
    indices,
)

SMALLEST, LARGEST = 60.0, 5000.0  # mm that a mean face extends along one axis: half a face, and more than a body
CLEAR = 0.5  # of `outwardness`
FRONT = 0.3  # of a surface that faces one way: 1 in a plane, 0.5 in a face, less than 0.1 in a head with an open neck
# The least movement in mm. Identity: the root mean square over vertices, with all modes at one standard deviation.
# Expression: the farthest vertex of the largest mode. Known models move four times as far (docs/notes/models.md).
IDENTITY_MOVES, EXPRESSION_MOVES = 1.0, 1.0
# To millimeters.
_UNITS = {"meters": 1000.0, "decimeters": 100.0, "centimeters": 10.0, "inches": 25.4, "micrometers": 0.001}


def wrong_size(mean: np.ndarray) -> str | None:
    """Say what is wrong with a mean [V,3] that is not as large as a face in millimeters; None where it is."""
    size = float(np.ptp(mean.astype(np.float64), axis=0).max(initial=0)) if len(mean) else 0.0
    if SMALLEST <= size <= LARGEST:
        return None
    found = [
        f"; if it is in {unit}, multiply mean, identity and expression by {factor:g}"
        for unit, factor in _UNITS.items()
        # The largest are heads with shoulders; whole bodies are modeled in meters.
        if 100 <= size * factor <= (2500 if unit == "meters" else 700)
    ]
    limit = f"larger than {SMALLEST:g}" if size < SMALLEST else f"smaller than {LARGEST:g}"
    return f"mean must be in millimeters, expected a face {limit} mm, found one of {size:.3g}{''.join(found)}"


def wrong_axes(landmarks: np.ndarray) -> str | None:
    """Say which way a face faces that does not have y up, +z out of the face and +x to the subject's left.

    Args:
        landmarks: [68,3] of the mean face; NaN where one is missing.

    Returns:
        What is wrong, and the expression that turns arrays; None where the axes are right (within 45 degrees), or where
        the landmarks are not those of a face or too few to tell.
    """
    axes = _axes(landmarks.astype(np.float64))
    if axes is None:
        return None
    order = max(permutations(range(3)), key=lambda p: sum(abs(axes[k, p[k]]) for k in range(3)))
    signs = [1 if axes[k, order[k]] > 0 else -1 for k in range(3)]
    if order == (0, 1, 2) and signs == [1, 1, 1]:
        return None
    left, up, out = (f"{'+' if sign > 0 else '-'}{'xyz'[axis]}" for sign, axis in zip(signs, order))
    turn = "array" if order == (0, 1, 2) else f"array[..., {list(order)}]"
    turn += "" if signs == [1, 1, 1] else f" * np.array({signs})"
    mirrored = np.linalg.det(axes) < 0
    return (
        f"mean must have y up, +z out of the face and +x to the subject's left, but by its landmarks {up} is up, {out} "
        f"is out of the face and {left} is to the left; turn mean, identity and expression: {turn}"
        + (", unless left and right of the landmarks are exchanged (right is the subject's)" if mirrored else "")
    )


def _axes(landmarks: np.ndarray) -> np.ndarray | None:
    """The directions left, up and out of a face in its own coordinates, rows of [3,3]; None if it is no clear face."""
    right_eye, left_eye = (landmarks[list(indices(eye))].mean(0) for eye in (RIGHT_EYE, LEFT_EYE))
    corners = landmarks[[RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER]]
    across, mouth, tip = left_eye - right_eye, corners.mean(0), landmarks[NOSE_TIP]
    high = (left_eye + right_eye) / 2 - mouth
    if not np.isfinite([across, high, tip, corners[1] - corners[0]]).all():
        return None
    apart, height = float(np.linalg.norm(across)), float(np.linalg.norm(high))
    if apart == 0 or not 0.4 < height / apart < 2.5:
        return None
    left, up = across / apart, high / height
    out = np.cross(left, up)
    if np.linalg.norm(out) < 0.9:  # the eyes must not lie one above the other
        return None
    out /= np.linalg.norm(out)
    nose, lips = tip - mouth, corners[1] - corners[0]
    depth = nose @ out / apart
    face = (
        0.05 < nose @ up / height < 0.95
        and abs(nose @ left) < 0.3 * apart
        and 0.05 < abs(depth) < 1.5
        and lips @ left > 0.8 * np.linalg.norm(lips) > 0
    )
    return np.stack([left, up, out if depth > 0 else -out]) if face else None


def wrong_front(faces: np.ndarray, mean: np.ndarray) -> str | None:
    """Say along which axis a face's surface faces, where that is not z; for models without landmarks.

    Which end of the axis is the front, and where up is, a surface does not tell.

    Args:
        faces: [F,3] of the face, without the back of the head.
        mean: [V,3].

    Returns:
        What is wrong; None where the surface faces along z (within 45 degrees), or no way clearly.
    """
    corners = mean[faces].astype(np.float64)
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = float(np.linalg.norm(areas, axis=1).sum())
    front = np.abs(areas.sum(0)) / total if total > 0 else np.zeros(3)
    axis = int(front.argmax())
    if axis == 2 or front[axis] < FRONT:
        return None
    turn = ": array[..., [0, 2, 1]] * np.array([1, 1, -1]) where z was up" if axis == 1 else ""
    return (
        f"mean must have y up and +z out of the face, but its surface faces along {'xyz'[axis]}; turn mean, identity "
        f"and expression{turn}"
    )


def outwardness(faces: np.ndarray, mean: np.ndarray) -> float:
    """How much of a surface shows its outside to the outside, by the winding of its triangles.

    Args:
        faces: [F,3], counterclockwise seen from outside if they are right.
        mean: [V,3], +z out of the face.

    Returns:
        1 where all normals point away from the back of the head, -1 where all point toward it; within `CLEAR` of 0 the
        geometry does not tell.
    """
    if not len(faces):
        return 0.0
    corners = mean[faces].astype(np.float64)
    low, high = mean.min(0).astype(np.float64), mean.max(0).astype(np.float64)
    back = (low + high) / 2 - [0, 0, (high - low).max() / 2]
    away = (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) * (corners.mean(1) - back)).sum(1)
    return float(away.sum() / max(np.abs(away).sum(), np.finfo(float).tiny))


def turned_over(faces: np.ndarray) -> np.ndarray:
    """Triangles [F,3] with the other winding."""
    return np.ascontiguousarray(faces[:, [0, 2, 1]])


def weak_modes(identity: np.ndarray, expression: np.ndarray, vertices: np.ndarray) -> list[str]:
    """Say where modes move a face much less than people differ, as modes in a larger unit than the mean's do.

    Args:
        identity: [I,V,3], mm per standard deviation.
        expression: [E,V,3], mm per unit.
        vertices: Those of the face; where a model does not tell, all.

    Returns:
        A sentence for each of the two that moves too little. Modes that are all 0 move nothing on purpose.
    """
    shape, moved = identity[:, vertices], expression[:, vertices]
    found = []
    spread = float(np.linalg.norm(shape)) / len(vertices) ** 0.5 if shape.size else 0.0
    if 0 < spread < IDENTITY_MOVES:
        found.append(
            f"identity moves the face by {spread:.3g} mm with every mode at one standard deviation, expected 2 to 10 mm"
            f"{_unit(spread, 2, 10)}"
        )
    farthest = float(np.linalg.norm(moved, axis=2).max()) if moved.size else 0.0
    if 0 < farthest < EXPRESSION_MOVES:
        found.append(
            f"expression moves no vertex by more than {farthest:.3g} mm, expected 3 to 60 mm{_unit(farthest, 3, 60)}"
        )
    return found


def _unit(size: float, low: float, high: float) -> str:
    unit = next((name for name, factor in _UNITS.items() if low <= size * factor <= high), None)
    where = "" if unit is None else f"; if it is in {unit}, multiply it by {_UNITS[unit]:g}"
    return f"{where}; if its modes have unit length, multiply them by their standard deviations"
