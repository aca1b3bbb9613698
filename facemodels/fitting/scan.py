"""A model fitted to a mesh or scan: `fit_mesh`.

Non-rigid iterated closest points in the space of the model. The start comes from landmarks or, without any, from a
search over all orientations (`find_face`). Then Gauss-Newton steps move similarity and coefficients together on exact
Jacobians, with distances from the model to the scan and back, to planes (Chen and Medioni 1992) and a little to points,
a robust penalty that narrows from step to step, and a prior that loosens.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

import facerender as fr
from facemodels.core.alignment import Similarity, similarity
from facemodels.core.errors import InputError
from facemodels.core.progress import progress as core_progress
from facemodels.core.rotation import axis_angle_rotation
from facemodels.core.surface import Closest, gather_points
from facemodels.fitting.judge import mean_error, mesh_doubts, warn_of
from facemodels.fitting.landmarks import Labels, ModelLandmarks, fitted_landmarks, known_labels
from facemodels.fitting.least_squares import (
    CoefficientLayout,
    VertexFunction,
    bounded_step,
    coefficient_layout,
)
from facemodels.fitting.raster import face_triangles, to_tensor
from facemodels.fitting.result import Fit
from facemodels.fitting.surface import Surface
from facemodels.models.load import load_model
from facemodels.models.morphable import MorphableModel

FAR = 16.0  # diagonals of the mesh from the origin
# Of a mesh that can show a face: a head of 84 triangles is still fitted to 7 mm with landmarks.
FEWEST_TRIANGLES = 20
FEWEST_POINTS = 100  # without landmarks: in heads of 162 points faces are found, in some of 72 they are not
FLAT = 0.01  # deviation along the shortest axis, of that along the longest; faces have 0.2
POSE = 7  # parameters of a placement's step: log scale, a rotation vector applied after the rotation, translation
SIZES = (100.0, 700.0)  # mm, the diagonal of the box around a face, or around a head with shoulders
SCALE_DEVIATION = 0.01  # of the scale of a scan whose unit is known
SAMPLES = 4000  # points of the scan, and vertices of the model at most, that are matched
COUNT = 1000.0  # effective number of independent distances, since neighbors are correlated
FIRST_COUNT = 10.0  # and in the beginning, when most of them are wrong
DEVIATION = 1.0  # of a distance, mm
REACH = 20.0  # mm: distances within it count at first
CANDIDATES = 24  # places on a scan that are examined when there are no landmarks
GOOD_MISFIT = 3.0  # mm, mean distance of a face that is in the right place; nothing else on a head comes that near
POINT_SHARE = 0.02  # weight of distances along the surface, which keep it from sliding where planes say nothing
LANDMARK_DEVIATION = 3.0  # mm


def fit_mesh(
    vertices: Any,
    faces: Any,
    model: MorphableModel | str | Path,
    landmarks: Any = None,
    iterations: int = 30,
    expression: bool = True,
    progress: bool = True,
) -> Fit:
    """Fit a model to a mesh or scan of a face or head.

    A fit that cannot be right is returned with `doubts`, and a `FitWarning` says them.

    Args:
        vertices: [M,3] in any unit: the power of ten of millimeters is guessed from the size.
        faces: [G,3], all wound the same way.
        model: The model.
        landmarks: [L,3] in the mesh's coordinates, L = 68 (iBUG), 21 (AFLW) or 5, NaN for missing ones. Without them
            the mesh may lie any way up, and must show a face's shape clearly.
        iterations: Of the last stage.
        expression: False keeps the model's face neutral, for scans that are known to be.
        progress: Show the progress on stderr: a bar in a terminal, a line now and then in a log file.

    Returns:
        The fit with `placement`, from the model's millimeters to the mesh's coordinates, on the model's device. It is
        float64 where the mesh lies far from the origin of its coordinates.

    Raises:
        InputError: The mesh has too few triangles to show a face, holds NaN, is flat or has no extent; landmarks are
            too few.
        ValueError: Landmarks of a wrong shape.
    """
    model = load_model(model)
    v = to_tensor(vertices, "vertices [M,3]").to(model.mean.device, torch.float64)
    f = to_tensor(faces, "triangles [G,3]").to(model.mean.device, torch.int64)
    f = _checked_faces(v, f)
    used, corners_used = torch.unique(f, return_inverse=True)
    v, f = v[used], corners_used  # vertices without triangles count for nothing
    extent = float((v.amax(0) - v.amin(0)).norm())
    _check_shape(v, f, extent)
    if landmarks is None and len(v) < FEWEST_POINTS:
        raise InputError(
            f"a mesh of {len(v)} points is too coarse to find a face in it; give landmarks to say where it is"
        )
    # Far from its origin, float32 would not hold the mesh; also searches assume coordinates of about its size.
    far = bool(v.abs().max() > FAR * extent)
    origin = (v.amax(0) + v.amin(0)) / 2 if far else torch.zeros_like(v[0])
    v = v - origin
    corners = v[f]
    outwards = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) * (
        corners.mean(1) - corners.mean((0, 1))
    )
    if outwards.sum() < 0:  # a file with the opposite winding
        f = f.flip(1)
    layout = coefficient_layout(model, expression=None if expression else 0)
    topology = fr.Topology(f.int(), len(v))
    labels = given = None
    if landmarks is None:
        unit = 10.0 ** round(math.log10(math.sqrt(SIZES[0] * SIZES[1]) / extent))
        scan = Surface(v * unit, topology)
        start = find_face(scan, model, progress)
    else:
        given = to_tensor(landmarks, "landmarks [L,3]").to(model.mean.device, torch.float64)
        if given.dim() != 2 or given.shape[1] != 3:
            raise ValueError(f"landmarks must be [L,3] in the mesh's coordinates, got {list(given.shape)}")
        given = given - origin
        labels = known_labels(model, given, "static")
        marks = labels.means @ gather_points(model.mean[None].double(), model.landmark_index, model.landmark_weights)[0]
        unit = 10.0 ** round(-math.log10(float(similarity(marks, labels.points).scale)))
        labels = replace(labels, points=labels.points * unit)
        scan = Surface(v * unit, topology)
        start = similarity(marks, labels.points, labels.spread**-2)
    registration = _Registration(scan, model, layout, labels, start)
    placement, x, history = registration.run(iterations, progress)
    if history and math.isnan(history[-1]):
        raise InputError(
            "no part of the mesh lies where the landmarks are"
            if labels
            else "no part of the mesh looks like a face; give landmarks to say where it is"
        )

    placement = Similarity(placement.scale / unit, placement.rotation, placement.translation / unit)
    x, placement = x.to(model.mean.dtype), Similarity(*(p.to(model.mean.dtype) for p in placement))
    identity, expressed, _ = layout.split(x[None])
    if not expression:
        expressed = x.new_zeros(1, model.num_expression)
    joints = layout.joint_rotations(x, len(model.joints))[None] if model.joints else None
    fit = Fit(identity, expressed, joints=joints, placement=placement, history=history)
    if given is not None:
        points = fit.face(model).landmarks
        assert points is not None  # `known_labels` has checked it
        assert labels is not None
        fit.landmarks = fitted_landmarks(model, placement(points[0]), len(given))
        fit.landmark_error, fit.landmark_count = mean_error(fit.landmarks, given) * unit, len(labels.points)
        if far:
            fit.landmarks = fit.landmarks.double() + origin
    if far:
        scale, rotation, translation = (part.double() for part in placement)
        fit.placement = Similarity(scale, rotation, translation + origin)
    fit.doubts = mesh_doubts(
        registration.median_distance(), fit.landmark_error, fit.landmark_count, fit.identity, 1 / float(placement.scale)
    )
    warn_of(fit.doubts)
    return fit


def _check_shape(vertices: Tensor, faces: Tensor, extent: float) -> None:
    """Refuse what cannot show a face, before it is searched for one."""
    if extent == 0:
        raise InputError("the mesh has no extent: all its vertices lie in one point")
    if len(faces) < FEWEST_TRIANGLES:
        raise InputError(
            f"the mesh cannot show a face: expected at least {FEWEST_TRIANGLES} triangles, found {len(faces)}"
        )
    deviations = torch.linalg.svdvals((vertices - vertices.mean(0)) / extent)
    if len(deviations) < 3 or deviations[-1] < FLAT * deviations[0]:
        raise InputError("the mesh cannot show a face: all its vertices lie nearly in one plane")


def _checked_faces(vertices: Tensor, faces: Tensor) -> Tensor:
    if vertices.dim() != 2 or vertices.shape[1] != 3 or faces.dim() != 2 or faces.shape[1] != 3 or not len(faces):
        raise InputError(
            f"a mesh to be fitted needs vertices [M,3] and triangles [G,3], got {list(vertices.shape)} and"
            f" {list(faces.shape)}; give a point cloud triangles first"
        )
    if faces.min() < 0 or faces.max() >= len(vertices) or not torch.isfinite(vertices[faces]).all():
        raise InputError(
            "the mesh holds a triangle of a vertex that does not exist, or a coordinate that is NaN or infinite"
        )
    return faces


class _Registration:
    """Gauss-Newton over a placement (log scale, rotation, translation) and coefficients."""

    def __init__(
        self,
        scan: Surface,
        model: MorphableModel,
        layout: CoefficientLayout,
        labels: Labels | None,
        start: Similarity,
        samples: int = SAMPLES,
        count: float = COUNT,
    ) -> None:
        self.scan, self.labels, self.placement, self.count = scan, labels, start, count
        used, faces = torch.unique(model.faces[face_triangles(model)].long(), return_inverse=True)
        self.topology = fr.Topology(faces.int(), len(used))
        self.vertices = VertexFunction(model, used, layout)
        self.landmarks = None if labels is None else ModelLandmarks(model, layout)
        self.matched = torch.linspace(0, len(used) - 1, min(samples, len(used)), device=used.device).round().long()
        self.x, self.layout = torch.zeros_like(layout.precision), layout
        spread = scan.samples(10 * samples)
        near = (
            Surface(start(self.vertices(self.x)), self.topology).search(scan.at(spread)[0], REACH).distance < torch.inf
        )
        self.samples = Closest(*(a[near][:samples] for a in spread))
        # Scales near a power of ten mean that the unit is known; otherwise any scale is as good.
        self.scale_precision = SCALE_DEVIATION**-2 if abs(float(start.scale.log())) < 0.25 else 0.0

    def run(self, iterations: int, progress: bool) -> tuple[Similarity, Tensor, list[float]]:
        """(placement, coefficients, mean distance in each iteration)."""
        history: list[float] = []
        for k in core_progress(range(iterations), "fitting the surface", quiet=not progress):
            early = max(0.0, 1 - 2 * k / iterations)  # from 1 to 0: the penalty narrows, and the prior loosens
            history.append(
                self.step(DEVIATION * (REACH / DEVIATION) ** early, self.count * (FIRST_COUNT / self.count) ** early)
            )
            if k > iterations / 2 and history[-2] - history[-1] < 1e-3:
                break
        return self.placement, self.x, history

    def step(self, reach: float, count: float) -> float:
        """Take one step.

        Args:
            reach: Millimeters; distances far above it do not count.
            count: Effective number of independent distances.

        Returns:
            The mean of the distances that count, before the step; NaN if none does.
        """
        body, J = self.vertices(self.x), self.vertices.jacobian(self.x)
        placed = Surface(self.placement(body), self.topology)
        normals = fr.vertex_normals(placed.vertices[None], self.topology)[0]

        found = self.scan.search(placed.vertices[self.matched], 5 * reach)
        target, target_normals = self.scan.at(found)
        alike = (target_normals * normals[self.matched]).sum(-1) > 0.5
        to_scan = _weights(found.distance, reach) * (alike & ~self.scan.on_border(found))
        corner = torch.ones_like(found.bary[:, :1])
        terms = [(self.matched[:, None], corner, target, target_normals, to_scan)]

        points, point_normals = self.scan.at(self.samples)
        near = placed.search(points, 3 * reach)
        alike = (placed.normals[near.face_id] * point_normals).sum(-1) > 0.5
        from_scan = _weights(near.distance, reach) * (alike & ~placed.on_border(near))
        counted = from_scan > 0
        terms.append(
            (
                placed.faces[near.face_id[counted]],
                near.bary[counted],
                points[counted],
                placed.normals[near.face_id[counted]],
                from_scan[counted],
            )
        )

        share = count / DEVIATION**2 / (to_scan.sum() + from_scan.sum()).clamp(min=1)
        size = POSE + len(self.x)
        hessian, gradient = self.x.new_zeros(size, size), self.x.new_zeros(size)
        for index, corners, target, normal, weight in terms:
            at = (body[index] * corners[..., None]).sum(1)
            to_x = J[index[:, 0]] * corners[:, 0, None, None]
            for c in range(1, index.shape[1]):
                to_x = to_x + J[index[:, c]] * corners[:, c, None, None]
            root = POINT_SHARE**0.5
            # Its square weighs the distance from the plane by 1, distances along it by POINT_SHARE.
            metric = (1 - root) * normal[:, :, None] * normal[:, None] + root * torch.eye(3).to(normal)
            h, g = self.normal_equations(at, to_x, target, metric * (share * weight).sqrt()[:, None, None])
            hessian, gradient = hessian + h, gradient + g
        if self.labels is not None and self.landmarks is not None:
            at, where = self.landmarks.at(self.x)
            to_x = torch.einsum("lp,pik->lik", self.labels.means, self.landmarks.jacobian(self.x, where))
            metric = torch.eye(3).to(at) / (LANDMARK_DEVIATION * self.labels.spread[:, None, None])
            h, g = self.normal_equations(self.labels.means @ at, to_x, self.labels.points, metric)
            hessian, gradient = hessian + h, gradient + g
        self.solve(hessian, gradient)
        return float((to_scan * found.distance)[to_scan > 0].sum() / to_scan.sum())

    def median_distance(self) -> float:
        """Median distance of the model's face from the scan, in mm; infinite if most has nothing within `REACH`."""
        return float(self.scan.search(self.placement(self.vertices(self.x))[self.matched], REACH).distance.median())

    def misfit(self) -> float:
        """Mean distance of the model's face from the scan, in mm; REACH for what has no counterpart there."""
        placed = self.placement(self.vertices(self.x))
        found = self.scan.search(placed[self.matched], REACH)
        alike = (
            self.scan.normals[found.face_id] * fr.vertex_normals(placed[None], self.topology)[0][self.matched]
        ).sum(-1) > 0.5
        return float(torch.where(alike, found.distance, REACH).clamp(max=REACH).mean())

    def normal_equations(self, points: Tensor, to_x: Tensor, targets: Tensor, metric: Tensor) -> tuple[Tensor, Tensor]:
        """The normal equations of squared distances of placed points from targets.

        Args:
            points: [P,3], before they are placed.
            to_x: [P,3,K], their Jacobian by the coefficients.
            targets: [P,3].
            metric: [P,3,3], by which the distances are multiplied.

        Returns:
            The matrix [7+K,7+K] and the right side [7+K].
        """
        s, R, t = self.placement
        q = s * (points @ R.T)
        rows = torch.cat([q[..., None], -_cross_matrix(q), torch.eye(3).to(q).expand(len(q), 3, 3), s * (R @ to_x)], -1)
        A, r = (metric @ rows).flatten(0, 1), (metric @ (q + t - targets)[..., None]).flatten()
        return A.T @ A, A.T @ r

    def solve(self, hessian: Tensor, gradient: Tensor) -> None:
        """Move placement and coefficients by the step of normal equations and prior, within the bounds."""
        zero = torch.zeros(POSE).to(self.x)
        precision, value = torch.cat([zero, self.layout.precision]), torch.cat([zero, self.x])
        precision[0], value[0] = self.scale_precision, self.placement.scale.log()
        hessian = (
            hessian + precision.diag() + 1e-9 * (1 + hessian.diagonal().mean()) * torch.eye(len(hessian)).to(hessian)
        )
        lower, upper = (
            torch.cat([zero + bound, limit - self.x])
            for bound, limit in ((-torch.inf, self.layout.lower), (torch.inf, self.layout.upper))
        )
        step = bounded_step(hessian, gradient + precision * value, lower, upper)
        s, R, t = self.placement
        self.placement = Similarity(s * step[0].exp(), axis_angle_rotation(step[1:4]) @ R, t + step[4:7])
        self.x = self.x + step[POSE:]


def _weights(distance: Tensor, reach: float | Tensor) -> Tensor:
    """The weights of Geman and McClure."""
    return (1 + (distance / reach) ** 2) ** -2


def _cross_matrix(q: Tensor) -> Tensor:
    """The matrices [...,3,3] of the cross product with q [...,3]: minus the derivative of q by a rotation vector."""
    x, y, z = q.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([torch.stack([o, -z, y], -1), torch.stack([z, o, -x], -1), torch.stack([-y, x, o], -1)], -2)


def find_face(scan: Surface, model: MorphableModel, progress: bool = False) -> Similarity:
    """Find the rigid placement of the model's mean face on a scan that lies any way up.

    The face's region starts in the 24 orientations of a box along the scan's axes, and in those along its principal
    axes with three nods, its front against the scan's, at five heights; a few rigid steps improve each. The mean face
    lies as near to the back of a head as to the face of a person, so the best distinct candidates may take on the
    person's shape before the nearest is chosen.

    Args:
        scan: In millimeters.
        model: The model.
        progress: Show the progress on stderr: a bar in a terminal, a line now and then in a log file.
    """
    used, faces = torch.unique(model.faces[face_triangles(model)].long(), return_inverse=True)
    face = Surface(model.mean[used].double(), fr.Topology(faces.int(), len(used)))
    points, normals = face.at(face.samples(1500))
    points_center = points.mean(0)
    dense, dense_normals = scan.at(scan.samples(8000))
    middle = dense.mean(0)

    turns = torch.from_numpy(_box_rotations()).to(points)
    axes = torch.linalg.eigh((dense - middle).T @ (dense - middle))[1]
    axes = axes * torch.linalg.det(axes).sign()
    nods = axis_angle_rotation(torch.tensor([[-0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.0, 0.0]])).to(points)
    turns = torch.cat([turns, (axes @ turns[:, None] @ nods).flatten(0, 1)])  # [96,3,3]
    forward, up = turns[:, :, 2], turns[:, :, 1]
    front = torch.quantile((dense - middle) @ forward.T, 0.99, dim=0)  # how far the scan reaches
    own = torch.quantile((points - points_center)[:, 2], 0.99)
    heights = points.new_tensor([-80.0, -40.0, 0.0, 40.0, 80.0])
    center = middle + (front - own)[:, None] * forward + heights[:, None, None] * up  # [5,96,3] of the face
    turns = turns.expand(5, -1, -1, -1).flatten(0, 1)
    starts = Similarity(torch.ones(len(turns)).to(points), turns, center.flatten(0, 1) - (turns @ points_center))

    some = slice(0, 200)
    tree = cKDTree(dense.cpu().numpy())

    def nearest(placed: Tensor) -> tuple[Tensor, Tensor]:
        distance, index = tree.query(placed.cpu().numpy(), workers=-1)
        return torch.from_numpy(distance).to(placed), torch.from_numpy(index).to(placed.device)

    def improve(start: Similarity, points: Tensor, steps: int) -> Similarity:
        """Rigid Gauss-Newton steps of all starts at once, to planes and a little to points."""
        for _ in range(steps):
            q = start(points)
            distance, index = nearest(q)
            n = dense_normals[index]
            gap, weight = q - dense[index], _weights(distance, 1.5 * distance.median(-1, keepdim=True).values)
            arm = q - start.translation[:, None]
            J = torch.cat([-_cross_matrix(arm), torch.eye(3).to(q).expand(*q.shape, 3)], -1)  # [S,P,3,6]
            to_plane = (n[..., None] * J).sum(-2)
            H = torch.einsum("sp,spi,spj->sij", weight, to_plane, to_plane) + 0.1 * torch.einsum(
                "sp,spki,spkj->sij", weight, J, J
            )
            g = torch.einsum("sp,spi->si", weight * (gap * n).sum(-1), to_plane) + 0.1 * torch.einsum(
                "sp,spki,spk->si", weight, J, gap
            )
            step = -torch.linalg.solve(H, g)
            start = Similarity(
                start.scale, axis_angle_rotation(step[:, :3]) @ start.rotation, start.translation + step[:, 3:]
            )
        return start

    def misfit(start: Similarity, points: Tensor, normals: Tensor) -> Tensor:
        distance, index = nearest(start(points))
        alike = (normals @ start.rotation.transpose(-1, -2) * dense_normals[index]).sum(-1) > 0.5
        return torch.where(alike, distance, REACH).clamp(max=REACH).mean(-1)

    starts = improve(starts, points[:100], 12)
    order = misfit(starts, points[some], normals[some]).argsort()[:80]
    starts = improve(Similarity(*(a[order] for a in starts)), points[some], 25)
    order = misfit(starts, points[some], normals[some]).argsort()

    def distinct() -> Iterator[Similarity]:
        """The starts, the best first, without those that lie near a better one."""
        before: list[Tensor] = []
        for k in order.tolist():
            start = Similarity(*(a[k] for a in starts))
            placed = start(points[some])
            if not any((placed - other).norm(dim=-1).mean() < 20 for other in before):
                before.append(placed)
                yield start

    best: tuple[float, Similarity] | None = None
    shape = coefficient_layout(model, 20)
    candidates = itertools.islice(distinct(), CANDIDATES)
    for start in core_progress(candidates, "finding the face", CANDIDATES, quiet=not progress):
        registration = _Registration(scan, model, shape, None, start, samples=500, count=FIRST_COUNT)
        registration.run(8, progress=False)
        found = registration.misfit()
        if best is None or found < best[0]:
            best = (found, registration.placement)
        if best[0] < GOOD_MISFIT:
            break
    assert best is not None  # there are always candidates
    return best[1]


def _box_rotations() -> np.ndarray:
    """The 24 rotations [24,3,3] that map axes to axes, the identity first."""
    signed = [
        s * np.eye(3)[list(p)]
        for p in itertools.permutations(range(3))
        for s in np.array(list(itertools.product((1, -1), repeat=3)))[:, :, None]
    ]
    return np.stack([r for r in signed if np.linalg.det(r) > 0])
