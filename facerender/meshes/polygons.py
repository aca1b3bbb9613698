"""Polygons divided into triangles: fans, and where a polygon is concave, what covers it alone."""

import numpy as np

from .parsed import fan

MOST_WORK = 200_000  # sum of the squared numbers of corners of concave polygons with more than four
CHUNK = 1 << 13  # polygons or triangles
FANS = (
    "concave polygons are drawn as if they were convex, as they have so many corners; triangulate them and export again"
)


def split_polygons(vertices: np.ndarray, index: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Divide polygons into triangles.

    Args:
        vertices: float64 [V,3].
        index: integer [C], the vertices of the corners of one polygon after another; some may not exist.
        counts: [P], corners of each polygon.

    Returns:
        int64 [F,3], indices of corners; int64 [F], the polygon of each triangle; the number of concave polygons that
        are fans all the same, as they have too many corners.
    """
    triangles, polygon = fan(counts)
    if not len(vertices):
        return triangles, polygon, 0
    doubtful = counts > 4
    quads = np.flatnonzero(counts == 4)
    if len(quads):
        if len(quads) == len(counts):
            given = index.reshape(-1, 4)
        else:
            given = index[(np.cumsum(counts) - counts)[quads][:, None] + np.arange(4)]
        doubtful[quads] = _folded(vertices, given)
    if not doubtful.any():
        return triangles, polygon, 0
    tested = np.flatnonzero(doubtful[polygon])  # triangles
    areas = _areas(vertices, index, triangles[tested])
    starts = np.flatnonzero(np.diff(polygon[tested], prepend=-1))  # of each polygon's triangles
    normals = np.repeat(np.add.reduceat(areas, starts), np.diff(starts, append=len(tested)), 0)  # of whole polygons
    turned = (areas * normals).sum(1) < 0
    if not turned.any():
        return triangles, polygon, 0
    begins, left, work = np.cumsum(counts) - counts, 0, 0
    concave, which = np.unique(polygon[tested][turned], return_index=True)
    first, normals = np.searchsorted(polygon, concave), normals[turned][which]
    quads = counts[concave] == 4
    for k, corners in enumerate(((1, 2, 3), (1, 3, 0))):  # the other diagonal
        triangles[first[quads] + k] = begins[concave[quads]][:, None] + corners
    for polygon_id, at, normal in zip(concave[~quads].tolist(), first[~quads].tolist(), normals[~quads]):
        count, begin = int(counts[polygon_id]), int(begins[polygon_id])
        if work + count**2 > MOST_WORK:
            left += 1
            continue
        work += count**2
        ring = vertices[np.clip(index[begin : begin + count], 0, len(vertices) - 1)]
        triangles[at : at + count - 2] = begin + _clipped(_flat(ring, normal))
    return triangles, polygon, left


def _folded(vertices: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Whether the two triangles of quads [n,4] look more away from each other than the same way: all concave ones do.

    The product of the two normals by dot products alone (Lagrange's identity), as most quads are convex.
    """
    found = np.empty(len(quads), bool)
    for at in range(0, len(quads), CHUNK):  # temporary arrays stay small
        p = vertices.take(quads[at : at + CHUNK], 0, mode="clip")
        a, b, c = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0], p[:, 3] - p[:, 0]
        ab, bc, ac, bb = (np.einsum("ij,ij->i", u, v) for u, v in ((a, b), (b, c), (a, c), (b, b)))
        found[at : at + CHUNK] = ab * bc < ac * bb
    return found


def _areas(vertices: np.ndarray, index: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Normals [n,3] of triangles of corners, twice as long as their areas."""
    areas = np.empty((len(triangles), 3))
    for at in range(0, len(triangles), CHUNK):
        some = vertices[np.clip(index[triangles[at : at + CHUNK]], 0, len(vertices) - 1)]
        areas[at : at + CHUNK] = np.cross(some[:, 1] - some[:, 0], some[:, 2] - some[:, 0])
    return areas


def _flat(ring: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Corners [n,3] seen against a normal, [n,2], counterclockwise."""
    normal = normal / np.linalg.norm(normal)
    across = np.cross(np.eye(3)[np.abs(normal).argmin()], normal)
    across /= np.linalg.norm(across)
    places, which = np.unique(ring - ring.mean(0), axis=0, return_inverse=True)
    # Each place once: equal rows of a matrix product may differ in the last bit.
    return (places @ np.stack([across, np.cross(normal, across)], 1))[which.reshape(-1)]


def _clipped(ring: np.ndarray) -> np.ndarray:
    """Triangles [n-2,3] of a polygon [n,2], counterclockwise: ears are clipped until three corners are left."""
    rest = np.arange(len(ring))
    found = []
    while len(rest) > 3:
        k = _ear(ring[rest])
        found.append((rest[k - 1], rest[k], rest[(k + 1) % len(rest)]))
        rest = np.delete(rest, k)
    return np.array([*found, tuple(rest)])


def _ear(ring: np.ndarray) -> int:
    """A corner whose triangle with its neighbors lies inside; of a polygon that crosses itself, any.

    Several corners may lie at one place, such as those of a bridge to a hole.
    """
    before, after = np.roll(ring, 1, 0), np.roll(ring, -1, 0)
    bend = _side(before, ring, after)
    least = 1e-12 * float(np.ptp(ring, 0).max(initial=0.0)) ** 2  # what rounding leaves of 0
    for k in np.flatnonzero(bend > least):
        a, b, c = before[k], ring[k], after[k]
        inside = (_side(a, b, ring) >= -least) & (_side(b, c, ring) >= -least) & (_side(c, a, ring) >= -least)
        own = ((ring == a) | (ring == b) | (ring == c)).all(1)
        if (inside & ~own).any():
            continue
        if own.sum() == 3 or not _obstructed(ring, before, after, (a, b, c), least):
            return int(k)
    return int(np.abs(bend).argmin())


def _obstructed(
    ring: np.ndarray, before: np.ndarray, after: np.ndarray, triangle: tuple[np.ndarray, ...], least: float
) -> bool:
    """Whether a triangle [3], counterclockwise, is no ear, although no other place of the polygon lies in it.

    That is where an edge leads from one of its corners into it, or lies on its open side: what is left of the polygon
    would hang together by that edge alone.
    """
    if ((ring == triangle[2]) & (after == triangle[0])).all(1).any():
        return True
    for k, place in enumerate(triangle):
        here = (ring == place).all(1)
        ends = np.concatenate([before[here], after[here]])
        left, right = triangle[k - 2], triangle[k - 1]
        if ((_side(place, left, ends) > least) & (_side(right, place, ends) > least)).any():
            return True
    return False


def _side(a: np.ndarray, b: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Positive where p lies to the left of the way from a to b."""
    u, v = b - a, p - a
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
