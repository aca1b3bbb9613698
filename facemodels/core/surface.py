"""Closest points on triangle meshes, and the alignments that stand on them: similarity from correspondences, and from surfaces alone (ICP).

What the fitting of scans, the transfer between models and the measuring of them share. Searches run on the CPU (a k-d tree); what they return
lives on the device of what they were given.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from facemodels.core.alignment import Similarity, similarity


class Closest(NamedTuple):
    distance: Tensor  # [P]
    face_id: Tensor  # int64 [P]
    bary: Tensor  # [P,3]


def closest_points(points: Tensor, vertices: Tensor, faces: Tensor) -> Closest:
    """The closest point on a mesh to each point; exact.

    Args:
        points: [P,3] float. vertices: [V,3], the mesh's, in the same unit. faces: [F,3], F > 0.

    Returns:
        `Closest`: distance [P], face_id [P] (of equally near triangles any one), bary [P,3]. The distance is differentiable to points and vertices (it is
        stationary in the barycentric coordinates, so that these may be held), not at zero, where the gradient is 0.
    """
    found = ClosestPoints(vertices, faces)(points)
    feet = interpolate_faces(vertices, faces, found.face_id, found.bary)
    return Closest((points - feet).norm(dim=-1), found.face_id, found.bary)


def interpolate_faces(values: Tensor, faces: Tensor, face_id: Tensor, bary: Tensor) -> Tensor:
    """Values [V,C] of a mesh at points of its surface, face_id [P] and bary [P,3]: [P,C]."""
    return (values[faces[face_id].long()] * bary[..., None].to(values.dtype)).sum(-2)


class ClosestPoints:
    """`closest_points` for many queries of one mesh: the search tree is built once.

    Large triangles are parted into pieces, so that no piece reaches farther from its centre than a radius r. To a point whose nearest triangle so far is d away, only pieces
    with centres within d + r can be nearer: centres are looked at in the order of their distance (a k-d tree), more and more, until the next one is too far.
    """

    def __init__(self, vertices: Tensor, faces: Tensor):
        corners = _numpy(vertices)[_numpy(faces, np.int64)]  # [F,3,3]
        if not len(corners):
            raise ValueError("faces must not be empty")
        a = corners[:, 0]
        u, v = corners[:, 1] - a, corners[:, 2] - a
        products = [(x * y).sum(1) for x, y in ((u, u), (u, v), (v, v), (v - u, v - u))]
        self._triangles = np.concatenate(
            [a, u, v, np.stack(products, 1)], 1
        )  # [F,13]: one row a triangle, as a test reads them
        centres, self._face, self._reach = _pieces(corners)
        self._radius, self._tree = self._reach.max(), cKDTree(centres)

    def __call__(self, points: Tensor, within: float = np.inf) -> Closest:
        """points [P,3] -> `Closest`, without gradients. Of points farther than `within` only that is found out, which is quick: their distance is inf."""
        p = _numpy(points)
        square, face_id, bary = np.full(len(p), float(within) ** 2), np.full(len(p), -1), np.zeros((len(p), 3))
        open_, done, k = (
            np.arange(len(p)),
            0,
            min(8, len(self._face)),
        )  # points; centres looked at so far, to be looked at
        while len(open_):
            block = max(1, 1_000_000 // k)  # memory stays bounded, also where all centres are to be looked at
            blocks = [open_[start : start + block] for start in range(0, len(open_), block)]
            left = [self._look(p, some, np.arange(done + 1, k + 1), square, face_id, bary) for some in blocks]
            open_ = np.concatenate(left) if k < len(self._face) else open_[:0]
            done, k = k, min(4 * k, len(self._face))
        square[face_id < 0] = np.inf
        face_id = face_id.clip(min=0)
        on = {"device": points.device}
        return Closest(
            torch.tensor(np.sqrt(square), dtype=points.dtype, **on),
            torch.tensor(face_id, **on),
            torch.tensor(bary, dtype=points.dtype, **on),
        )

    def _look(self, p, some, nth, square, face_id, bary):
        """Tests the nth nearest centres' triangles of some points, puts what is nearer into place, and returns the points that need to look farther."""
        limit = np.sqrt(square[some].max()) + self._radius
        distance, piece = self._tree.query(
            p[some], nth, distance_upper_bound=np.nextafter(limit, np.inf), workers=-1 if len(some) > 10000 else 1
        )
        distance, piece = np.ascontiguousarray(distance.T), np.ascontiguousarray(piece.T)
        row, column = np.arange(len(some)), 0
        while len(row) and column < len(nth):
            columns = slice(
                column, column + max(1, 4096 // len(row))
            )  # one after another, the nearest first, as long as many points are left
            reach = np.sqrt(square[some[row]])
            far = distance[columns, row] - reach
            kept = far[-1] < self._radius
            place = piece[columns, row]
            near = far < self._reach[np.minimum(place, len(self._reach) - 1)]  # none is infinitely far
            point, face = np.broadcast_to(some[row], near.shape)[near], self._face[place[near]]
            found, s, t = _point_triangle(p[point], self._triangles[face])
            nearer = np.flatnonzero(found < square[point])
            nearer = nearer[np.argsort(-found[nearer])]  # of several the last, which is the nearest, stays
            point, s, t = point[nearer], s[nearer], t[nearer]
            square[point], face_id[point] = found[nearer], face[nearer]
            bary[point, 0], bary[point, 1], bary[point, 2] = (1 - s - t).clip(0), s, t
            row, column = row[kept], columns.stop
        return some[row]


def _pieces(corners):
    """Centres [M,3] of pieces of triangles [F,3,3], the triangle [M] of each, and how far it reaches from its centre [M].

    A triangle that reaches farther than they do on (squared) average is parted n by n into congruent ones, n as small as makes its pieces reach no farther; M < 4 F.
    """
    radius = np.sqrt(((corners - corners.mean(1)[:, None]) ** 2).sum(-1).max(-1))
    parts = np.ceil(radius / max(np.sqrt((radius**2).mean()), 1e-300)).clip(1).astype(np.int64)
    centres, face = [], []
    for n in np.unique(parts):
        own = np.flatnonzero(parts == n)
        i, j = (x.ravel() for x in np.meshgrid(np.arange(n), np.arange(n), indexing="ij"))
        at = (
            np.concatenate([np.stack([i, j], 1)[i + j < n] + 1 / 3, np.stack([i, j], 1)[i + j < n - 1] + 2 / 3]) / n
        )  # those that lie as the whole does, and between them
        bary = np.concatenate([1 - at.sum(1, keepdims=True), at], 1)
        centres.append(np.einsum("mk,fki->fmi", bary, corners[own]).reshape(-1, 3))
        face.append(own.repeat(len(at)))
    face = np.concatenate(face)
    return np.concatenate(centres), face, (radius / parts)[face] * (1 + 1e-9)  # rounding must hide no triangle


def _point_triangle(p, triangles):
    """The closest point a + s u + t v of triangles to points [M,3]: squared distance, s and t, [M] each.

    The foot of the perpendicular, if it lies inside, else of the three edges' nearest points the nearest. triangles [M,13]: corner a, edges u and v to the other two,
    u u, u v, v v, (v - u)(v - u).
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


def _nearest_on_edges(uu, uv, vv, dd, wu, wv):
    """s and t [M] of the nearest point on a triangle's edges, from the products of u, v, d = v - u and w, the point seen from a."""
    along_u, along_v, along_d = (
        np.clip(x / np.where(xx > 0, xx, 1), 0, 1) for x, xx in ((wu, uu), (wv, vv), (wv - wu + uu - uv, dd))
    )
    best, s, t = along_u * (along_u * uu - 2 * wu), along_u, np.zeros_like(uu)  # squared distance, less that from a
    for s_, t_ in ((np.zeros_like(uu), along_v), (1 - along_d, along_d)):
        square = s_ * (s_ * uu + 2 * t_ * uv - 2 * wu) + t_ * (t_ * vv - 2 * wv)
        nearer = square < best
        best, s, t = np.where(nearer, square, best), np.where(nearer, s_, s), np.where(nearer, t_, t)
    return s, t


def _numpy(tensor, dtype=np.float64):
    return tensor.detach().cpu().numpy().astype(dtype) if isinstance(tensor, Tensor) else np.asarray(tensor, dtype)


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
    """The similarity (or rigid motion) that lays points on a surface: iterated closest points (Besl and McKay 1992), trimmed.

    Args:
        points: [P,3]. vertices [V,3], faces [F,3]: the surface. start: where to begin, of landmarks say; the identity for None.
        scale: whether the size may change. Where it may, the points must cover most of the surface's shape: a patch shrinks into a surface.
        keep: the share of the points, the nearest, that is aligned in each iteration. tolerance: ends when no point moves further, in the points' unit
            after the alignment.

    Returns:
        `Similarity` from the points to the surface.
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


def gather_points(vertices: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Points on the surface: vertices [N,V,3], index [...,3] (three vertices a point), weights [...,3] -> [N,...,3]."""
    return (vertices[:, index.long()] * weights[..., None].to(vertices.dtype)).sum(-2)
