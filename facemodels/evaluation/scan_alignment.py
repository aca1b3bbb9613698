"""A face laid on a scan: by landmarks, then by the least sum of squared distances; and the distances afterwards.

`LandmarkCheck` warns of landmarks that cannot be those that they are taken for, and stops where all are so.
Lengths are in the scan's unit. Geometry is float64 on the CPU.
"""

import math
import warnings
from argparse import ArgumentParser
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from facemodels.core.alignment import Similarity, similarity
from facemodels.core.errors import InputError
from facemodels.core.landmarks import INNER, NAMES, NUM_CONTOUR, NUM_LANDMARKS, indices, mirror_order
from facemodels.core.rotation import axis_angle_rotation
from facemodels.core.surface import ClosestPoints, interpolate_faces
from facemodels.models.load import load_model

THINNED = 5000  # points of a scan that a face is first laid on
ITERATIONS = 50
# Where landmarks do not fit: points of the scan, and steps after which a face is given up that is still farther from
# them than this (root mean square, relative to their extent). More would not help (docs/notes/evaluation.md).
COARSE, HOPELESS_AFTER, HOPELESS = 500, 10, 0.1
# The last step: how far it moves points, relative to their extent, or how much of the sum of squares it removes.
TOLERANCE, GAIN = 1e-6, 1e-6
# `misfit` of any two faces is below the first; of landmarks whose sides are exchanged it may be as small as the second,
# but is then more than twice that of the right order (docs/notes/evaluation.md).
MISFIT, MISFIT_EXCHANGED = 0.35, 0.2
SIZES = 0.5, 2.0  # of a face in proportion to another, more than people differ by
STOP_AFTER = 5  # predictions, if the landmarks of all of them do not fit


class Surface:
    """A mesh with landmarks that scans are compared with; its search tree is built once.

    Args:
        vertices: [V,3], in the mesh's own coordinates.
        faces: [F,3].
        landmarks: [68,3].
    """

    def __init__(self, vertices: Tensor, faces: Tensor, landmarks: Tensor) -> None:
        self.vertices = vertices.double().cpu()
        self.faces = faces.long().cpu()
        self.landmarks = landmarks.double().cpu()
        self._search = ClosestPoints(self.vertices, self.faces)
        a, b, c = self.vertices[self.faces].unbind(1)
        self._normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)

    def closest(self, points: Tensor, placement: Similarity) -> tuple[Tensor, Tensor]:
        """Find the closest points of the placed mesh.

        Args:
            points: [P,3].
            placement: From the mesh's coordinates to those of the points.

        Returns:
            The closest points [P,3], and the unit normals [P,3] of the triangles that they lie in.
        """
        found = self._search(placement.inverse()(points))
        closest = interpolate_faces(self.vertices, self.faces, found.face_id, found.bary)
        return placement(closest), self._normals[found.face_id] @ placement.rotation.T

    def distances(self, points: Tensor, placement: Similarity) -> Tensor:
        """Distances [P] of points [P,3] from the placed mesh."""
        return (points - self.closest(points, placement)[0]).norm(dim=1)

    def plane_distances(self, points: Tensor, placement: Similarity) -> Tensor:
        """Distances [P] of points [P,3] from the planes of the closest triangles."""
        closest, normals = self.closest(points, placement)
        return ((points - closest) * normals).sum(1).abs()


def align_landmarks(surface: Surface, marks: Tensor, scale: bool = True) -> Similarity:
    """Align a surface's landmarks with those of a scan in least squares, without the contour.

    Nobody finds the contour on a scan.

    Args:
        surface: The surface.
        marks: [68,3] landmarks of the scan; NaN where unknown.
        scale: Whether the size may change.

    Returns:
        From the surface's coordinates to the scan's.
    """
    known = marks.isfinite().all(1)
    known[:NUM_CONTOUR] = False
    return similarity(surface.landmarks[known], marks[known], scale=scale)


def misfit(points: Tensor, targets: Tensor) -> float:
    """How badly landmarks of two faces fit: their distance after a similarity, relative to their own spread.

    Args:
        points: [K,3] landmarks of one face.
        targets: [K,3] the same landmarks of the other.

    Returns:
        The root mean square of the distances, divided by the root mean square of the targets' distances from their
        center: 0 where the faces are similar, near 1 where the landmarks have nothing to do with each other.
    """
    left = similarity(points, targets)(points) - targets
    spread = targets - targets.mean(0)
    return float((left.square().sum() / spread.square().sum().clamp(min=torch.finfo(targets.dtype).tiny)).sqrt())


class LandmarkCheck:
    """Warns of landmarks on scans that do not fit the predicted faces: in another order, or of another unit.

    Aligned by such landmarks, a face comes to lie anywhere, and its errors look like those of a bad prediction. The
    first misfit warns; where the first five are all misfits, or all where there are fewer, the evaluation ends with an
    error; `finish` counts all, for the report. A face of another size than its scan's is no misfit, since its size is
    fitted, but for metrical errors; it is warned of and counted alike.

    Args:
        numbers: Which of the 68 landmarks are picked on the scans, in their order there; those of the contour are left
            out, as `align_landmarks` leaves them out.
        millimeters: Whether the scans should be in millimeters, as predictions are.
        keep_going: Whether the evaluation goes on where predictions are all misfits.
    """

    def __init__(
        self, numbers: Sequence[int] = indices(INNER), millimeters: bool = False, keep_going: bool = False
    ) -> None:
        self.numbers, self.millimeters, self.keep_going = tuple(numbers), millimeters, keep_going
        self._added = self._misfits = 0
        # By "scans" and "predictions": the first complaint about each file, and the files that were checked.
        self._complaints: dict[str, dict[str, str]] = {"scans": {}, "predictions": {}}
        self._checked: dict[str, set[str]] = {"scans": set(), "predictions": set()}

    def add(self, file: object, surface: Surface, marks: Tensor, prediction: object = None) -> bool:
        """Compare a predicted surface with the landmarks that it is about to be aligned with.

        Args:
            file: Where the landmarks were read from, for messages.
            surface: The predicted surface.
            marks: [K,3] the landmarks with the check's `numbers`, or all 68; NaN where unknown.
            prediction: Where the surface's landmarks were read from; None where a method has predicted them. With it,
                the message names the one of the two files whose landmarks are less those of the built-in face.

        Returns:
            Whether they fit.

        Raises:
            InputError: The first `STOP_AFTER` do not fit, and the check does not keep going.
        """
        self._added += 1
        files = {"scans": str(file)} | ({} if prediction is None else {"predictions": str(prediction)})
        for kind, name in files.items():
            self._checked[kind].add(name)
        found = self._complaint(surface.landmarks, marks.double(), prediction is not None)
        if found is None:
            return True
        kind, complaint, hopeless = found
        self._misfits += hopeless
        if hopeless and self._misfits == self._added == STOP_AFTER:
            self._refuse(f"{files[kind]}: {complaint}", f"the first {STOP_AFTER} predictions")
        if not any(self._complaints.values()):
            warnings.warn(f"{files[kind]}: {complaint}", stacklevel=3)
        self._complaints[kind].setdefault(files[kind], complaint)
        return False

    def finish(self) -> list[str]:
        """End the check, after the last prediction.

        Returns:
            Notes for the report where landmarks did not fit; empty where all did.

        Raises:
            InputError: None of fewer than `STOP_AFTER` fits, and the check does not keep going.
        """
        first = {
            kind: next(f"{name}: {complaint}" for name, complaint in complaints.items())
            for kind, complaints in self._complaints.items()
            if complaints
        }
        if self._misfits == self._added > 0:
            self._refuse(next(iter(first.values())), "the predictions")
        return [
            f"Landmarks of {len(self._complaints[kind])} of {len(self._checked[kind])} {kind} do not fit; the first, "
            f"{complaint}"
            for kind, complaint in first.items()
        ]

    def _refuse(self, complaint: str, which: str) -> None:
        """Stop the evaluation, unless it should keep going."""
        if not self.keep_going:
            raise InputError(
                f"{complaint}. None of {which} fits its scan, so the numbers would mean nothing; to compute them all "
                "the same, give --keep-going (keep_going=True in Python)"
            )

    def _complaint(self, landmarks: Tensor, marks: Tensor, stored: bool) -> tuple[str, str, bool] | None:
        """What is wrong, with which kind of file, and whether the landmarks fit at no size.

        Predictions are among the files where they are `stored`.
        """
        numbers = torch.tensor(self.numbers)
        targets = marks[numbers] if len(marks) == NUM_LANDMARKS != len(numbers) else marks
        used = targets.isfinite().all(1) & (numbers >= NUM_CONTOUR)
        numbers, targets = numbers[used], targets[used]
        points = landmarks[numbers]
        found = misfit(points, targets)
        other = torch.tensor(mirror_order(NUM_LANDMARKS))[numbers]
        exchanged = found > MISFIT_EXCHANGED and misfit(landmarks[other], targets) < found / 2
        if found > MISFIT or exchanged:
            at_fault = stored and misfit(points, _typical()[numbers]) > misfit(targets, _typical()[numbers])
            names = ", ".join(NAMES[NUM_LANDMARKS][k] for k in self.numbers)
            order = names if len(self.numbers) < 20 else "that of the 68 landmarks of iBUG"
            complaint = (
                f"expected landmarks of a face, found {len(numbers)} that miss those of the "
                f"{'scan' if at_fault else 'prediction'} by "
                f"{100 * found:.0f} % of their spread after alignment (other people's: 5 to 20 %)"
                f"{', and with left and right exchanged by less than half of it' if exchanged else ''}; check their "
                f"order, which is {order} (right is the subject's)"
                f"{'' if at_fault else ', else the prediction itself is no face'}"
            )
            return "predictions" if at_fault else "scans", complaint, True
        size = float(similarity(targets, points).scale)  # of the prediction, in units of the scan
        if not self.millimeters or SIZES[0] < size < SIZES[1]:
            return None
        if stored and not SIZES[0] < float(similarity(_typical()[numbers], points).scale) < SIZES[1]:
            complaint = (
                f"expected a face in millimeters, found landmarks of one {size:.4g} times the size of the scan's: "
                "metrical errors mean nothing; check the unit of the predictions (--unit)"
            )
            return "predictions", complaint, False
        complaint = (
            f"expected a scan in millimeters, found landmarks of a face {1 / size:.4g} times the size of the "
            "prediction; check the scan's unit"
        )
        return "scans", complaint, False


def add_keep_going(parser: ArgumentParser) -> None:
    """Add the option `keep_going` of a protocol with a `LandmarkCheck`."""
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help=f"continue even if the landmarks of the first {STOP_AFTER} predictions do not fit those of the scans",
    )


@lru_cache
def _typical() -> Tensor:
    """The landmarks [68,3] of the built-in face, mm."""
    model = load_model("builtin")
    return model.landmarks(model.mean[None])[0].double()


def align_closest_points(
    points: Tensor, surface: Surface, start: Similarity, scale: bool = True, fits: bool = True
) -> Similarity:
    """Lay a surface on a scan: the least sum of squared distances of the scan's points from it, near a start.

    Gauss-Newton steps toward the tangent planes at the closest points (Chen and Medioni 1992), damped by the motion of
    these points (Levenberg 1944): where the planes leave a direction open, or mislead, more damping turns
    the step into that of iterated closest points (Besl and McKay 1992), which never increases the sum. First with a
    part of the points, then with all.

    Args:
        points: [P,3] points of the scan.
        surface: The surface.
        start: From the surface's coordinates to the scan's.
        scale: Whether the size may change.
        fits: What `LandmarkCheck.add` says of the landmarks. Where they do not fit, a surface that stays far from the
            scan is left where a few steps with few points have brought it: no minimum is near, and the search for one
            would take a hundred times as long as for a face.

    Returns:
        From the surface's coordinates to the scan's.
    """
    placement = start
    if not fits:
        few = points[:: math.ceil(len(points) / COARSE)]
        placement, distance = _descend(few, surface, placement, scale, HOPELESS_AFTER)
        if distance > HOPELESS:
            return placement
    for every in sorted({math.ceil(len(points) / THINNED), 1}, reverse=True):
        placement, _ = _descend(points[::every], surface, placement, scale)
    return placement


def _descend(
    points: Tensor, surface: Surface, now: Similarity, scale: bool, iterations: int = ITERATIONS
) -> tuple[Similarity, float]:
    """The placement of least squares near a start, and the root mean square of the distances relative to the extent."""
    center, free = points.mean(0), slice(0 if scale else 1, 7)
    extent = float((points - center).norm(dim=1).max())
    axes = torch.eye(3, dtype=points.dtype)

    def linearized(placement: Similarity) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The problem at a placement, by log scale, rotation vector and translation about the center.

        The sum of squares, half its gradient [7], the Gauss-Newton matrix [7,7], and the matrix of the points' motion.
        """
        closest, normals = surface.closest(points, placement)
        gap = points - closest
        distance = gap.norm(dim=1)
        off = distance > 1e-9 * extent  # where a point lies in the surface, its distance grows along the normal
        direction = torch.where(off[:, None], gap / distance.clamp(min=1e-300)[:, None], normals)
        residual, rows = (gap * direction).sum(1), _derivatives(closest - center, direction)
        cost, gradient, matrix = residual.square().sum(), rows.T @ residual, rows.T @ rows
        motion = torch.zeros_like(matrix)
        for axis in axes:
            moved = _derivatives(closest - center, axis.expand_as(closest))
            motion = motion + moved.T @ moved
        return cost, gradient[free], matrix[free, free], motion[free, free]

    cost, gradient, matrix, motion = linearized(now)
    damping = 1e-6
    for _ in range(iterations):
        step = torch.zeros(7, dtype=points.dtype)
        step[free] = -torch.linalg.solve(matrix + damping * motion, gradient)
        size, turn = step[0].clamp(-0.5, 0.5).exp(), axis_angle_rotation(step[1:4])
        tried = Similarity(
            now.scale * size, turn @ now.rotation, center + size * (turn @ (now.translation - center)) + step[4:]
        )
        moved = float(step[:4].norm()) * extent + float(step[4:].norm())
        there, before = linearized(tried), cost
        if there[0] <= cost:
            now, (cost, gradient, matrix, motion), damping = tried, there, max(damping / 10, 1e-6)
            done = bool(before - cost < GAIN * before)
        else:
            damping, done = 10 * damping, False
        if done or moved < TOLERANCE * extent:
            break
    return now, float((cost / len(points)).sqrt()) / extent


def _derivatives(arms: Tensor, directions: Tensor) -> Tensor:
    """Derivatives of distances by scale, rotation and translation of the closest points.

    Args:
        arms: [P,3] from the center to the closest points.
        directions: [P,3] unit vectors along which the distances are measured.

    Returns:
        [P,7].
    """
    along = (arms * directions).sum(1, keepdim=True)
    return -torch.cat([along, torch.linalg.cross(arms, directions), directions], 1)


def within(vertices: Tensor, center: Tensor, radius: float) -> Tensor:
    """The vertices [P,3] of [V,3] within a radius of a center [3]."""
    return vertices[(vertices - center).norm(dim=1) <= radius]
