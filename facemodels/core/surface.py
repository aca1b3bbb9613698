"""Closest points on triangle meshes, and the alignment of surfaces with them (ICP).

The fitting of scans, the transfer between models and the evaluation on scans share these. The search runs on the CPU
(a k-d tree); results are on the device of the arguments.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike
from scipy.spatial import cKDTree
from torch import Tensor

from facemodels.core.alignment import Similarity, similarity
from facerender._checks import brief_repr


@brief_repr
class Closest(NamedTuple):
    """The closest points on a mesh to P points.

    Attributes:
        distance: [P], in the unit of the points.
        face_id: int64 [P], the triangles that they lie in; of equally near ones any.
        bary: [P,3], the barycentric coordinates in these.
    """

    distance: Tensor
    face_id: Tensor
    bary: Tensor


def closest_points(points: Tensor, vertices: Tensor, faces: Tensor) -> Closest:
    """Find the closest point on a mesh to each point; exact.

    The distance is differentiable to points and vertices. (It is stationary in the barycentric coordinates, which are
    therefore held fixed.) Where it is zero, the gradient is 0.

    Args:
        points: [P,3].
        vertices: [V,3], in the unit of the points.
        faces: [F,3], F > 0.
    """
    found = ClosestPoints(vertices, faces)(points)
    feet = interpolate_faces(vertices, faces, found.face_id, found.bary)
    return Closest((points - feet).norm(dim=-1), found.face_id, found.bary)


def interpolate_faces(values: Tensor, faces: Tensor, face_id: Tensor, bary: Tensor) -> Tensor:
    """Interpolate values [V,C] of vertices at points of the surface, face_id [P] and bary [P,3]: [P,C]."""
    return (values[faces[face_id].long()] * bary[..., None].to(values.dtype)).sum(-2)


def gather_points(vertices: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Weighted means of three vertices each.

    Args:
        vertices: [N,V,3].
        index: [...,3] vertices.
        weights: [...,3].

    Returns:
        [N,...,3].
    """
    return (vertices[:, index.long()] * weights[..., None].to(vertices.dtype)).sum(-2)


class ClosestPoints:
    """`closest_points` for many queries of one mesh: the search tree is built once.

    Large triangles are divided into pieces, so that no piece reaches farther from its center than a radius r. If the
    nearest triangle so far is at distance d from a point, only pieces whose centers lie within d + r can be nearer. The
    centers are visited in the order of their distance, from the k-d tree, until the next one is too far.
    """

    def __init__(self, vertices: Tensor, faces: Tensor) -> None:
        """Build the search tree.

        Args:
            vertices: [V,3].
            faces: [F,3].

        Raises:
            ValueError: there are no faces.
        """
        corners = _to_numpy(vertices)[_to_numpy(faces, np.int64)]  # [F,3,3]
        if not len(corners):
            raise ValueError("faces must not be empty")
        a = corners[:, 0]
        u, v = corners[:, 1] - a, corners[:, 2] - a
        products = [(x * y).sum(1) for x, y in ((u, u), (u, v), (v, v), (v - u, v - u))]
        # [F,13]: one row for a triangle, as `_point_triangle` reads them.
        self._triangles = np.concatenate([a, u, v, np.stack(products, 1)], 1)
        centers, self._face, self._reach = _pieces(corners)
        self._radius, self._tree = self._reach.max(), cKDTree(centers)

    def __call__(self, points: Tensor, within: float = np.inf) -> Closest:
        """Find the closest points, without gradients.

        Args:
            points: [P,3].
            within: for points farther than this, the search stops early and their distance is inf.
        """
        p = _to_numpy(points)
        square, face_id, bary = np.full(len(p), float(within) ** 2), np.full(len(p), -1), np.zeros((len(p), 3))
        # The points whose search goes on, the centers visited so far, and those visited after the next round.
        active, done, k = np.arange(len(p)), 0, min(8, len(self._face))
        while len(active):
            block = max(1, 1_000_000 // k)  # bounds the memory, also where every center is visited
            blocks = [active[start : start + block] for start in range(0, len(active), block)]
            left = [self._visit(p, some, np.arange(done + 1, k + 1), square, face_id, bary) for some in blocks]
            active = np.concatenate(left) if k < len(self._face) else active[:0]
            done, k = k, min(4 * k, len(self._face))
        square[face_id < 0] = np.inf
        face_id = face_id.clip(min=0)
        device = points.device
        return Closest(
            torch.tensor(np.sqrt(square), dtype=points.dtype, device=device),
            torch.tensor(face_id, device=device),
            torch.tensor(bary, dtype=points.dtype, device=device),
        )

    def _visit(
        self,
        p: np.ndarray,
        some: np.ndarray,
        nth: np.ndarray,
        square: np.ndarray,
        face_id: np.ndarray,
        bary: np.ndarray,
    ) -> np.ndarray:
        """Test the triangles of the nth nearest centers of some points.

        Args:
            p: [P,3], all points.
            some: [Q], which of them.
            nth: consecutive ranks, from 1.
            square: [P] squared distances so far; updated.
            face_id: [P]; updated.
            bary: [P,3]; updated.

        Returns:
            Those of the points that may have a nearer triangle among the next centers.
        """
        limit = np.sqrt(square[some].max()) + self._radius
        distance, piece = self._tree.query(
            p[some], nth, distance_upper_bound=np.nextafter(limit, np.inf), workers=-1 if len(some) > 10000 else 1
        )
        distance, piece = np.ascontiguousarray(distance.T), np.ascontiguousarray(piece.T)
        row, column = np.arange(len(some)), 0
        while len(row) and column < len(nth):
            # One rank after another while many points are active, the nearest first; more at once for few points.
            columns = slice(column, column + max(1, 4096 // len(row)))
            reach = np.sqrt(square[some[row]])
            far = distance[columns, row] - reach
            go_on = far[-1] < self._radius
            place = piece[columns, row]
            near = far < self._reach[np.minimum(place, len(self._reach) - 1)]  # missing pieces are infinitely far
            point, face = np.broadcast_to(some[row], near.shape)[near], self._face[place[near]]
            found, s, t = _point_triangle(p[point], self._triangles[face])
            nearer = np.flatnonzero(found < square[point])
            nearer = nearer[np.argsort(-found[nearer])]  # of several for a point, the last assignment wins: the nearest
            point, s, t = point[nearer], s[nearer], t[nearer]
            square[point], face_id[point] = found[nearer], face[nearer]
            bary[point, 0], bary[point, 1], bary[point, 2] = (1 - s - t).clip(0), s, t
            row, column = row[go_on], columns.stop
        return some[row]


def _pieces(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Divide large triangles [F,3,3] into congruent pieces.

    A triangle that reaches farther from its center than the root mean square of all is divided n by n, with the
    smallest n whose pieces do not. There are fewer than 4 F pieces.

    Returns:
        The pieces' centers [M,3], their triangles [M], and how far they reach from their centers [M].
    """
    radius = np.sqrt(((corners - corners.mean(1)[:, None]) ** 2).sum(-1).max(-1))
    parts = np.ceil(radius / max(np.sqrt((radius**2).mean()), 1e-300)).clip(1).astype(np.int64)
    centers, faces = [], []
    for n in np.unique(parts):
        own = np.flatnonzero(parts == n)
        i, j = (x.ravel() for x in np.meshgrid(np.arange(n), np.arange(n), indexing="ij"))
        # Pieces oriented as the whole triangle, then the inverted ones between them.
        upright, inverted = np.stack([i, j], 1)[i + j < n] + 1 / 3, np.stack([i, j], 1)[i + j < n - 1] + 2 / 3
        at = np.concatenate([upright, inverted]) / n
        bary = np.concatenate([1 - at.sum(1, keepdims=True), at], 1)
        centers.append(np.einsum("mk,fki->fmi", bary, corners[own]).reshape(-1, 3))
        faces.append(own.repeat(len(at)))
    face = np.concatenate(faces)
    return np.concatenate(centers), face, (radius / parts)[face] * (1 + 1e-9)  # rounding must hide no triangle


def _point_triangle(p: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the closest points a + s u + t v of triangles to points.

    It is the foot of the perpendicular if that lies inside, else the nearest of the three edges' nearest points.

    Args:
        p: [M,3].
        triangles: [M,13]: corner a, the edges u and v to the other two, u u, u v, v v, (v - u)(v - u).

    Returns:
        Squared distance, s and t, [M] each.
    """
    w, u, v = p - triangles[:, :3], triangles[:, 3:6], triangles[:, 6:9]
    uu, uv, vv, dd = np.ascontiguousarray(triangles[:, 9:].T)
    wu, wv = np.einsum("mi,mi->m", w, u), np.einsum("mi,mi->m", w, v)
    area = uu * vv - uv * uv
    proper = area > 1e-14 * uu * vv
    area[~proper] = 1
    s, t = (wu * vv - wv * uv) / area, (wv * uu - wu * uv) / area
    out = np.flatnonzero(~(proper & (s >= 0) & (t >= 0) & (s + t <= 1)))
    if len(out):
        s[out], t[out] = _nearest_on_edges(*(x[out] for x in (uu, uv, vv, dd, wu, wv)))
    return ((w - s[:, None] * u - t[:, None] * v) ** 2).sum(1), s, t


def _nearest_on_edges(
    uu: np.ndarray, uv: np.ndarray, vv: np.ndarray, dd: np.ndarray, wu: np.ndarray, wv: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """s and t [M] of the nearest point on a triangle's edges.

    The arguments [M] are products of the edges u, v, d = v - u and of w, the point relative to the corner a.
    """
    along_u, along_v, along_d = (
        np.clip(x / np.where(xx > 0, xx, 1), 0, 1) for x, xx in ((wu, uu), (wv, vv), (wv - wu + uu - uv, dd))
    )
    # Squared distances, less that of the corner a.
    best, s, t = along_u * (along_u * uu - 2 * wu), along_u, np.zeros_like(uu)
    for s_, t_ in ((np.zeros_like(uu), along_v), (1 - along_d, along_d)):
        square = s_ * (s_ * uu + 2 * t_ * uv - 2 * wu) + t_ * (t_ * vv - 2 * wv)
        nearer = square < best
        best, s, t = np.where(nearer, square, best), np.where(nearer, s_, s), np.where(nearer, t_, t)
    return s, t


def _to_numpy(values: Tensor | np.ndarray, dtype: DTypeLike = np.float64) -> np.ndarray:
    return values.detach().cpu().numpy().astype(dtype) if isinstance(values, Tensor) else np.asarray(values, dtype)


def align_surfaces(
    points: Tensor,
    vertices: Tensor,
    faces: Tensor,
    start: Similarity | None = None,
    scale: bool = True,
    keep: float = 0.9,
    iterations: int = 60,
    tolerance: float = 1e-4,
) -> Similarity:
    """Align points with a surface by trimmed iterated closest points (Besl and McKay 1992).

    Args:
        points: [P,3].
        vertices: [V,3] of the surface.
        faces: [F,3] of the surface.
        start: the alignment to start from, of landmarks for example; None: the identity.
        scale: whether the size may change. If it may, the points must cover most of the surface: a small patch shrinks
            into it.
        keep: the share of the points, the nearest, that each iteration aligns.
        iterations: at most.
        tolerance: stop when no point moves farther than this, in the unit of the surface.

    Returns:
        The `Similarity` from the points to the surface.
    """
    search = ClosestPoints(vertices, faces)
    one = torch.eye(3, dtype=points.dtype, device=points.device)
    now = Similarity(one[0, 0], one, torch.zeros_like(one[0])) if start is None else start
    moved = now(points)
    for _ in range(iterations):
        found = search(moved)
        feet = interpolate_faces(vertices, faces, found.face_id, found.bary)
        near = found.distance <= torch.quantile(found.distance, keep)
        now = similarity(points, feet, near, scale)
        last, moved = moved, now(points)
        if (moved - last).norm(dim=-1).max() < tolerance:
            break
    return now
