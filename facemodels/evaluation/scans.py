"""What the protocols that compare with scans share: reading scans and their landmarks, predicting faces in photographs, and laying a face on a scan.

Lengths are those of the scan, millimetres where nothing else is said. Geometry is float64 on the CPU.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from facemodels.core.alignment import Similarity, similarity
from facemodels.core.crops import Box, cut, from_crop, landmark_box
from facemodels.core.errors import InputError, one_line
from facemodels.core.landmarks import NUM_CONTOUR
from facemodels.core.rotation import axis_angle_rotation
from facemodels.core.surface import ClosestPoints, interpolate_faces
from facemodels.io.files import existing_file, input_error
from facemodels.io.images import PICTURE_SUFFIXES, read_picture
from facemodels.io.landmarks import read_landmarks, sidecar
from facemodels.reconstruction.detect import find_faces, first_crop

BATCH = 8  # photographs in memory
THINNED = 5000  # points of a scan that a face is first laid on
ITERATIONS = 50
TOLERANCE, GAIN = (
    1e-6,
    1e-6,
)  # what a last step moves, of the points' extent, or takes off the sum of squares, of that sum


class Scan(NamedTuple):
    vertices: Tensor  # float64 [V,3]
    faces: Tensor  # int64 [F,3]


# --------------------------------------------------------------------------------------------------------------------------- files


def read_scan(path) -> Scan:
    """A scan in an OBJ or PLY file, its vertices as the file has them (seams of a texture part none).

    Raises:
        InputError: the file is missing, damaged, or holds no triangles or coordinates that are not finite.
    """
    expected = "a scan with triangles, .obj or .ply"
    path = existing_file(path, expected)
    if path.suffix.lower() not in (".obj", ".ply"):
        raise input_error(path, expected, f"a file ending in {path.suffix or 'nothing'}")
    try:
        vertices, faces = _read_obj(path) if path.suffix.lower() == ".obj" else _read_ply(path)
    except Exception as error:  # whatever a parser throws at a damaged file
        raise input_error(path, expected, f"a file that does not read so ({one_line(error)})") from error
    if not len(faces):
        raise input_error(path, expected, f"{len(vertices)} vertices and no triangles")
    if not np.isfinite(vertices).all() or faces.min() < 0 or faces.max() >= len(vertices):
        raise input_error(
            path, expected, "coordinates that are not finite, or triangles of vertices that are not there"
        )
    return Scan(torch.from_numpy(vertices), torch.from_numpy(faces))


def _read_obj(path):
    """All vertices in the file's order, also those without triangles; polygons become fans."""
    lines = path.read_bytes().split(b"\n")
    vertices = [line[2:] for line in lines if line.startswith(b"v ")]
    vertices = np.array(b" ".join(vertices).split(), np.float64).reshape(max(len(vertices), 1), -1)[: len(vertices), :3]
    polygons = [
        [int(corner.split(b"/", 1)[0]) for corner in line.split()[1:]] for line in lines if line.startswith(b"f ")
    ]
    faces = [(polygon[0], polygon[k], polygon[k + 1]) for polygon in polygons for k in range(1, len(polygon) - 1)]
    return vertices.reshape(-1, 3), np.array(faces, np.int64).reshape(-1, 3) - 1


def _read_ply(path):
    import trimesh

    mesh = trimesh.load(path, process=False)
    return np.array(mesh.vertices, np.float64), np.array(getattr(mesh, "faces", np.zeros((0, 3))), np.int64)


def read_picked_points(path, count: int) -> Tensor:
    """The points [count,3] that were picked with MeshLab (a .pp file), in the file's order.

    Raises:
        InputError: the file is missing, damaged or has another number of points.
    """
    expected = f"{count} picked points (.pp)"
    path = existing_file(path, expected)
    try:
        points = [
            [float(point.get(axis)) for axis in "xyz"]
            for point in ElementTree.parse(path).getroot().iter("point")
            if point.get("active", "1") != "0"
        ]
    except (ElementTree.ParseError, TypeError, ValueError) as error:
        raise input_error(path, expected, f"a file that does not read so ({one_line(error)})") from error
    points = np.array(points, np.float64).reshape(-1, 3)
    if len(points) != count or not np.isfinite(points).all():
        raise input_error(path, expected, f"{len(points)}, of which {int(np.isfinite(points).all(1).sum())} are finite")
    return torch.from_numpy(points)


def read_scan_landmarks(scan: Path, needed: tuple[int, ...]) -> Tensor:
    """The 68 landmarks [68,3] of a scan, in its coordinates, from the file beside it (see `landmark_files`); NaN where one is missing.

    needed: landmarks that must be there, and at least four of the face without its contour.

    Raises:
        InputError: there is no such file, or landmarks that are needed are missing.
    """
    files = [scan.with_suffix(kind) for kind in (".txt", ".npy", ".json") if scan.with_suffix(kind).is_file()]
    if not files:
        raise InputError(
            f"{scan}: expected 68 landmarks [68,3] beside it, in its coordinates, in {scan.with_suffix('.txt').name}, .npy or .json; found none"
        )
    points = torch.from_numpy(read_landmarks(files[0], 3).points).double()
    if len(points) != 68:
        raise input_error(files[0], "68 landmarks [68,3]", f"{len(points)}")
    known = points.isfinite().all(1)
    missing = [str(k) for k in needed if not known[k]]
    if missing or known[NUM_CONTOUR:].sum() < 4:
        found = f"{int(known[NUM_CONTOUR:].sum())}, without {', '.join(missing) or 'enough'}"
        raise input_error(
            files[0],
            f"at least four landmarks of the inner face, among them {', '.join(map(str, needed))} (counted from 0)",
            found,
        )
    return points


def one_file(folder: Path, patterns: tuple[str, ...], what: str) -> Path:
    """The only file of a folder that fits one of the patterns.

    Raises:
        InputError: there is none, or more than one.
    """
    found = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    if len(found) != 1:
        raise InputError(
            f"{folder}: expected {what}, one file {' or '.join(patterns)}, found {', '.join(p.name for p in found[:4]) if found else 'none'}"
        )
    return found[0]


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that lie in a folder itself, by name."""
    return (
        sorted(
            p
            for p in folder.iterdir()
            if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".") and p.is_file()
        )
        if folder.is_dir()
        else []
    )


# ---------------------------------------------------------------------------------------------------------------------- prediction


def detector_box(left: float, top: float, right: float, bottom: float) -> Box:
    """The square to crop for a detector's box, by 3DDFA's rule: 1.58 times the mean of its sides, its centre 0.14 of that mean lower.

    Raises:
        ValueError: the box is empty.
    """
    side = (right - left + bottom - top) / 2
    if not (right > left and bottom > top):
        raise ValueError(
            f"a detector's box must have left < right and top < bottom, got {left:g}, {right:g}, {top:g}, {bottom:g}"
        )
    x, y, half = (left + right) / 2, (top + bottom) / 2 + 0.14 * side, 1.58 * side / 2
    return x - half, y - half, x + half, y + half


class Photo(NamedTuple):
    name: str
    image: np.ndarray  # uint8 [h,w,3]
    box: Box  # where to look first


def photo(path: Path) -> Photo:
    """A picture, with a box from the 68 or 21 landmarks in the file beside it (see `landmark_files`), or, without one, around the largest face that is detected.

    Raises:
        InputError: it cannot be read, or no face is found in it.
    """
    image, marks = read_picture(path), sidecar(path)
    if marks is not None:
        return Photo(str(path), image, landmark_box(read_landmarks(marks).points))
    faces = find_faces(image)
    if not faces:
        raise InputError(
            f"{path}: no face is found in the picture; put its landmarks beside it, in {path.with_suffix('.txt').name}"
        )
    return Photo(str(path), image, first_crop(faces[0].box))


@torch.no_grad()
def reconstructions(method, photos: Iterable[Photo]) -> Iterator:
    """The face in each photo, in order: a `FaceParameters` of one, on the CPU. It is looked for twice: in the photo's box, and in `landmark_box` of the landmarks that are
    predicted there, which is how the methods' crops are made in training.

    Raises:
        InputError: a prediction is not finite.
    """
    waiting = []
    for one in photos:
        waiting.append(one)
        if len(waiting) == BATCH:
            yield from _reconstructed(method, waiting)
            waiting = []
    if waiting:
        yield from _reconstructed(method, waiting)


def _reconstructed(method, photos):
    device, size = method.model.mean.device, method.size

    def crops(boxes):
        try:
            cuts = np.stack([cut(one.image, box, size) for one, box in zip(photos, boxes)])
        except ValueError as error:  # of landmarks far away from each other
            raise InputError(f"{photos[0].name} or one of the {len(photos) - 1} after it: {error}") from None
        return torch.from_numpy(cuts).permute(0, 3, 1, 2).float().div(255).to(device)

    first = [one.box for one in photos]
    points = (
        getattr(method, "unrefined", method).landmarks(crops(first)).double().cpu()
    )  # of a method that goes on from a network's, what that says will do here
    _finite(photos, points)
    found = method.reconstruct(
        crops([landmark_box(from_crop(p[:, :2].numpy(), box, size)) for p, box in zip(points, first)])
    )
    found = found.map(lambda value: value.float().cpu())
    _finite(photos, found.identity, found.expression)
    for k in range(len(photos)):
        yield found.select(slice(k, k + 1))


def _finite(photos, *values):
    for value in values:
        bad = ~value.flatten(1).isfinite().all(1)
        if bad.any():
            raise InputError(f"{photos[int(bad.nonzero()[0])].name}: the prediction is not finite")


class Surface:
    """A mesh in its own coordinates, with landmarks on it, that a scan is compared with; the search tree is built once.

    vertices [V,3], faces [F,3], landmarks [68,3].
    """

    def __init__(self, vertices: Tensor, faces: Tensor, landmarks: Tensor):
        self.vertices, self.faces, self.landmarks = (
            vertices.double().cpu(),
            faces.long().cpu(),
            landmarks.double().cpu(),
        )
        self._search = ClosestPoints(self.vertices, self.faces)
        a, b, c = self.vertices[self.faces].unbind(1)
        self._normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)

    def feet(self, points: Tensor, placement: Similarity) -> tuple[Tensor, Tensor]:
        """Of points [P,3] the nearest ones on the placed mesh [P,3], and the normals there of its triangles [P,3]."""
        found = self._search(placement.inverse()(points))
        feet = interpolate_faces(self.vertices, self.faces, found.face_id, found.bary)
        return placement(feet), self._normals[found.face_id] @ placement.rotation.T

    def distances(self, points: Tensor, placement: Similarity) -> Tensor:
        """Of points [P,3] from the placed mesh: [P]."""
        return (points - self.feet(points, placement)[0]).norm(dim=1)

    def plane_distances(self, points: Tensor, placement: Similarity) -> Tensor:
        """The same from the planes of the triangles that are nearest: [P]."""
        feet, normals = self.feet(points, placement)
        return ((points - feet) * normals).sum(1).abs()


@torch.no_grad()
def predicted_surface(method, found, expression: bool = False) -> Surface:
    """The face of a `FaceParameters` of one as a mesh in millimetres, unposed: neutral, or with its expression."""
    model = method.model
    at = lambda value: value.to(model.mean)  # noqa: E731
    vertices = model.shape(at(found.identity), at(found.expression) if expression else None)
    return Surface(vertices[0], model.faces, model.landmarks(vertices)[0])


@torch.no_grad()
def mean_surface(method) -> Surface:
    """The mean face of the method's model, the answer of one who has not seen the picture."""
    mean = method.model.mean[None]
    return Surface(mean[0], method.model.faces, method.model.landmarks(mean)[0])


# ----------------------------------------------------------------------------------------------------------------------- alignment


def placed_by_landmarks(surface: Surface, marks: Tensor, scale: bool = True) -> Similarity:
    """What takes a surface's landmarks to those of a scan, [68,3] with NaN where they are unknown, in least squares; the contour, which nobody finds on a scan, is left out."""
    known = marks.isfinite().all(1)
    known[:NUM_CONTOUR] = False
    return similarity(surface.landmarks[known], marks[known], scale=scale)


class Pairs(NamedTuple):
    """Points of a surface, in its own coordinates, and where they should lie: [K,3] each."""

    points: Tensor
    targets: Tensor


def refined(
    points: Tensor, surface: Surface, start: Similarity, scale: bool = True, pairs: Pairs | None = None
) -> Similarity:
    """The placement of a surface with the least sum of squared distances of a scan's points [P,3] from it, near `start`; found with a part of the points first, then with all.

    Gauss-Newton steps towards the tangent planes of what is nearest (Chen and Medioni 1992), damped by the motion of these nearest points (Levenberg 1944): where planes
    decide nothing or lie, a step of more damping comes near that of iterated closest points (Besl and McKay 1992), which never makes the sum larger.

    scale: whether the size may change. pairs: count, all together, as much as all points.
    """
    now = start
    for every in sorted({math.ceil(len(points) / THINNED), 1}, reverse=True):
        now = _refined(points[::every], surface, now, scale, pairs)
    return now


def _refined(points, surface, now, scale, pairs):
    centre, free = points.mean(0), slice(0 if scale else 1, 7)
    extent = float((points - centre).norm(dim=1).max())
    axes = torch.eye(3, dtype=points.dtype)

    def seen(placement):
        """(sum of squares, its half gradient [7], Gauss and Newton's matrix [7,7] and that of the motion of the points) by log scale, turn and shift about the centre."""
        feet, normals = surface.feet(points, placement)
        gap = points - feet
        distance = gap.norm(dim=1)
        off = distance > 1e-9 * extent  # where a point lies in the surface, its distance grows along the normal
        direction = torch.where(off[:, None], gap / distance.clamp(min=1e-300)[:, None], normals)
        residual, rows = (gap * direction).sum(1), _derivatives(feet - centre, direction)
        cost, gradient, matrix = residual.square().sum(), rows.T @ residual, rows.T @ rows
        motion = sum(r.T @ r for r in (_derivatives(feet - centre, axis.expand_as(feet)) for axis in axes))
        if pairs is not None:
            weight, placed = len(points) / len(pairs.points), placement(pairs.points)
            for axis in axes:
                residual, rows = (pairs.targets - placed) @ axis, _derivatives(placed - centre, axis.expand_as(placed))
                cost, gradient, matrix = (
                    cost + weight * residual.square().sum(),
                    gradient + weight * (rows.T @ residual),
                    matrix + weight * (rows.T @ rows),
                )
        return cost, gradient[free], matrix[free, free], motion[free, free]

    cost, gradient, matrix, motion = seen(now)
    damping = 1e-6
    for _ in range(ITERATIONS):
        step = torch.zeros(7, dtype=points.dtype)
        step[free] = -torch.linalg.solve(matrix + damping * motion, gradient)
        size, turn = step[0].clamp(-0.5, 0.5).exp(), axis_angle_rotation(step[1:4])
        tried = Similarity(
            now.scale * size, turn @ now.rotation, centre + size * (turn @ (now.translation - centre)) + step[4:]
        )
        moved = float(step[:4].norm()) * extent + float(step[4:].norm())
        there, before = seen(tried), cost
        if there[0] <= cost:
            now, (cost, gradient, matrix, motion), damping = tried, there, max(damping / 10, 1e-6)
            done = before - cost < GAIN * before
        else:
            damping, done = 10 * damping, False
        if done or moved < TOLERANCE * extent:
            break
    return now


def _derivatives(arms, directions):
    """[P,7]: how the distances of points from places (arms from the centre [P,3]) along directions [P,3] change with scale, turn and shift of the places."""
    along = (arms * directions).sum(1, keepdim=True)
    return -torch.cat([along, torch.linalg.cross(arms, directions), directions], 1)


def inner(vertices: Tensor, centre: Tensor, radius: float) -> Tensor:
    """The vertices [V,3] within a radius of a centre [3]: [P,3]."""
    return vertices[(vertices - centre).norm(dim=1) <= radius]
