"""Closest points on triangle meshes, and the alignments that stand on them: similarity from correspondences, and from surfaces alone (ICP).

What the fitting of scans, the transfer between models and the measuring of them share. Searches run on the CPU (a k-d tree); what they return
lives on the device of what they were given.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor


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
    """`closest_points` for many queries of one mesh: the search trees are built once.

    A triangle lies within its radius of its centre, so its distance from a point is at least that of the centre less the radius. Triangles are
    sorted into classes of similar radius with a k-d tree each; a class is searched for more and more centres until the next one cannot be
    nearer than the best that was found.
    """

    def __init__(self, vertices: Tensor, faces: Tensor):
        corners = _numpy(vertices)[_numpy(faces, np.int64)]  # [F,3,3]
        if not len(corners):
            raise ValueError("faces must not be empty")
        self._corners = corners
        centres = corners.mean(1)
        radius = np.sqrt(((corners - centres[:, None]) ** 2).sum(-1).max(-1))
        octave = np.floor(np.log2(np.maximum(radius, max(radius.max() * 2.0**-12, 1e-300))))
        self._classes = []
        for value in np.unique(octave):
            members = np.flatnonzero(octave == value)
            self._classes.append((members, radius[members].max(), cKDTree(centres[members])))
        self._classes.sort(key=lambda c: -len(c[0]))  # the largest first: its answer spares the others most of their search

    def __call__(self, points: Tensor, within: float = np.inf) -> Closest:
        """points [P,3] -> `Closest`, without gradients. Of points farther than `within` only that is found out, which is quick: their distance is inf."""
        p = _numpy(points)
        best = np.full(len(p), float(within) ** 2)
        face_id, bary = np.full(len(p), -1), np.zeros((len(p), 3))
        for members, radius, tree in self._classes:
            self._search(p, members, radius, tree, best, face_id, bary)
        best[face_id < 0] = np.inf
        face_id = face_id.clip(min=0)
        on = {"device": points.device}
        return Closest(torch.tensor(np.sqrt(best), dtype=points.dtype, **on), torch.tensor(face_id, **on), torch.tensor(bary, dtype=points.dtype, **on))

    def _search(self, p, members, radius, tree, best, face_id, bary):
        open_ = np.arange(len(p))
        done, k = 0, min(4, len(members))  # centres looked at so far; to be looked at
        while len(open_):
            block = max(1, 2_000_000 // k)  # memory stays bounded, also where all centres are to be looked at
            left = []
            for start in range(0, len(open_), block):
                some = open_[start : start + block]
                limit = np.sqrt(best[some].max()) + radius
                nth, threads = np.arange(done + 1, k + 1), -1 if len(some) > 10000 else 1
                distance, index = tree.query(p[some], nth, distance_upper_bound=np.nextafter(limit, np.inf), workers=threads)
                worth = distance - radius < np.sqrt(best[some])[:, None]
                row, column = np.nonzero(worth & np.isfinite(distance))
                if len(row):
                    face = members[index[row, column]]
                    square, b = _point_triangle(p[some[row]], self._corners[face])
                    self._keep_nearest(some[row], square, face, b, best, face_id, bary)
                if k < len(members):
                    left.append(some[distance[:, -1] - radius < np.sqrt(best[some])])
            open_ = np.concatenate(left) if left else open_[:0]
            done, k = k, min(4 * k, len(members))

    @staticmethod
    def _keep_nearest(row, square, face, b, best, face_id, bary):
        order = np.lexsort((square, row))
        first = order[np.r_[True, row[order][1:] != row[order][:-1]]]  # the nearest candidate of each point
        nearer = first[square[first] < best[row[first]]]
        best[row[nearer]], face_id[row[nearer]], bary[row[nearer]] = square[nearer], face[nearer], b[nearer]


def _point_triangle(p, corners):
    """Squared distance [M] and barycentrics [M,3] of the closest point of triangles [M,3,3] to points [M,3]: of the foot of the perpendicular, if it lies
    inside, and of the three edges' nearest points the nearest."""
    a = corners[:, 0]
    u, v, w = corners[:, 1] - a, corners[:, 2] - a, p - a
    uu, uv, vv, wu, wv = (np.einsum("mi,mi->m", x, y) for x, y in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    area = uu * vv - uv * uv
    safe = np.where(area > 0, area, 1)
    s, t = (wu * vv - wv * uv) / safe, (wv * uu - wu * uv) / safe
    inside = (area > 1e-14 * uu * vv) & (s >= 0) & (t >= 0) & (s + t <= 1)
    bary = np.stack([1 - s - t, s, t], -1)
    out = np.flatnonzero(~inside)
    if len(out):
        bary[out] = _nearest_edge_point(p[out], corners[out])
    foot = np.einsum("mk,mki->mi", bary, corners)
    return ((p - foot) ** 2).sum(-1), bary


def _nearest_edge_point(p, corners):
    start, along = corners, np.roll(corners, -1, 1) - corners  # edges 01, 12, 20
    length = (along**2).sum(-1)
    t = np.clip(((p[:, None] - start) * along).sum(-1) / np.where(length > 0, length, 1), 0, 1)
    square = ((p[:, None] - start - t[..., None] * along) ** 2).sum(-1)
    edge = square.argmin(1)
    row = np.arange(len(p))
    bary = np.zeros((len(p), 3))
    bary[row, edge] = 1 - t[row, edge]
    bary[row, (edge + 1) % 3] = t[row, edge]
    return bary


def _numpy(tensor, dtype=np.float64):
    return tensor.detach().cpu().numpy().astype(dtype) if isinstance(tensor, Tensor) else np.asarray(tensor, dtype)


class Similarity(NamedTuple):
    """x -> scale * rotation @ x + translation."""

    scale: Tensor  # [...]
    rotation: Tensor  # [...,3,3]
    translation: Tensor  # [...,3]

    def __call__(self, points: Tensor) -> Tensor:
        """points [...,P,3] -> [...,P,3]."""
        return self.scale[..., None, None] * (points @ self.rotation.transpose(-1, -2)) + self.translation[..., None, :]

    def inverse(self) -> "Similarity":
        rotation = self.rotation.transpose(-1, -2)
        return Similarity(1 / self.scale, rotation, -(rotation @ self.translation[..., None])[..., 0] / self.scale[..., None])


def similarity(source: Tensor, target: Tensor, weights: Tensor | None = None, scale: bool = True) -> Similarity:
    """The similarity (or, with scale=False, the rigid motion) that takes source to target with the least sum of weighted squares (Umeyama 1991).

    source, target: [...,P,3], points that belong together; weights [...,P], not negative; points without weight may be NaN. Never a reflection. Differentiable, with
    the stable gradient of `nearest_rotation`.

    Points that do not decide it leave what is open finite, without a gradient: points on a line may turn about it, and where all source points coincide, or have
    no weight, scale is 0 or 1 (of no points) and the rotation is any.
    """
    w = torch.ones_like(source[..., 0]) if weights is None else weights.to(source.dtype).expand(source.shape[:-1])
    if weights is not None:
        source, target = (torch.where(w[..., None] > 0, points, 0) for points in (source, target))
    tiny = torch.finfo(source.dtype).tiny
    w = (w / w.sum(-1, keepdim=True).clamp(min=tiny))[..., None]
    a, b = (w * source).sum(-2), (w * target).sum(-2)
    x, y = source - a[..., None, :], target - b[..., None, :]
    covariance = (w * y).mT @ x
    rotation = nearest_rotation(covariance)
    spread = (w * x * x).sum((-1, -2))
    size = (rotation * covariance).sum((-1, -2)) / spread.clamp(min=tiny) if scale else torch.ones_like(a[..., 0])
    if scale:
        size = torch.where(w.sum((-1, -2)) > 0, size, 1)
    return Similarity(size, rotation, b - size[..., None] * (rotation @ a[..., None])[..., 0])


def nearest_rotation(matrix: Tensor) -> Tensor:
    """The rotation R [...,3,3] with the largest trace(R^T M) of matrices M [...,3,3] (orthogonal Procrustes without reflection: Kabsch 1976, Umeyama 1991).

    Its gradient is written down in closed form: with M = U S V^T and signed singular values s, turning in the plane of axes i and j is resisted by s_i + s_j, whereas
    differentiating the decomposition itself divides by s_i - s_j, which for a face seen from anywhere may be 0. Where s_i + s_j is below 1e-6 of s_1, the
    turn is not decided by M, and gets no gradient.
    """
    return _NearestRotation.apply(matrix)[0]


class _NearestRotation(torch.autograd.Function):
    @staticmethod
    def forward(matrix):
        u, s, vt = torch.linalg.svd(matrix)
        sign = torch.ones_like(s)
        sign[..., 2] = torch.where(torch.linalg.det(u) * torch.linalg.det(vt) < 0, -1.0, 1.0)
        return (u * sign[..., None, :]) @ vt, vt, s * sign

    @staticmethod
    def setup_context(ctx, inputs, outputs):
        rotation, vt, s = outputs
        ctx.mark_non_differentiable(vt, s)
        ctx.save_for_backward(rotation, vt, s)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad, *_):
        rotation, vt, s = ctx.saved_tensors
        seen = vt @ rotation.mT @ grad @ vt.mT
        resistance = s[..., :, None] + s[..., None, :]
        decided = resistance > 1e-6 * s[..., :1, None]
        turn = torch.where(decided, (seen - seen.mT) / torch.where(decided, resistance, 1), 0)
        return rotation @ vt.mT @ turn @ vt


def align_surfaces(
    points: Tensor, vertices: Tensor, faces: Tensor, start: Similarity | None = None, scale: bool = True, keep: float = 0.9, iterations: int = 60, tolerance: float = 1e-4
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
