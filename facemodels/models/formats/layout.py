"""From the array layouts of the families to this library's: pure functions of numpy arrays, used by every reader."""

from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.spatial import cKDTree

from facemodels.models.plausible import CLEAR, outwardness, turned_over


def points(column: Any, scale: float) -> np.ndarray:
    """x0 y0 z0 x1 ... of any shape as float32 [V,3], times scale."""
    return (np.asarray(column, np.float64).reshape(-1, 3) * scale).astype(np.float32)


def modes(matrix: Any, scale: Any) -> np.ndarray:
    """A matrix of modes as float32 [K,V,3].

    Args:
        matrix: [3V,K], a mode in each column, rows x0 y0 z0 x1 ...
        scale: what each mode is multiplied by: a number, or [K].
    """
    matrix = np.asarray(matrix)
    scaled = matrix.T.astype(np.float32) * np.broadcast_to(
        np.asarray(scale, np.float32).reshape(-1, 1), (matrix.shape[1], 1)
    )
    return scaled.reshape(matrix.shape[1], -1, 3)


def triangles(polygons: np.ndarray) -> np.ndarray:
    """Divide polygons into triangles, keeping their winding.

    Args:
        polygons: [P,n], padded with -1.

    Returns:
        int32 [F,3]: polygon by polygon, a fan from its first corner.
    """
    polygons = np.asarray(polygons, np.int32)
    fans = np.stack(
        [np.broadcast_to(polygons[:, :1], polygons[:, 2:].shape), polygons[:, 1:-1], polygons[:, 2:]], -1
    ).reshape(-1, 3)
    return fans[(fans >= 0).all(1)]


def outward(faces: np.ndarray, mean: np.ndarray, clockwise: bool) -> np.ndarray:
    """Wind faces counterclockwise as seen from outside.

    Some files of every family have been rewritten with the other winding. Where the geometry is clear, it therefore
    decides: whether the normals of the triangles, summed over the mesh, point away from the back of the head.

    Args:
        faces: [F,3].
        mean: [V,3], +z out of the face.
        clockwise: how the family winds its faces, where the geometry is not clear.

    Returns:
        [F,3], the second and third corners swapped if necessary.
    """
    found = outwardness(faces, mean)
    swap = found < 0 if abs(found) > CLEAR else clockwise
    return turned_over(faces) if swap else np.ascontiguousarray(faces)


def mirror(mean: np.ndarray, polygons: np.ndarray, tolerance: float = 0.5) -> np.ndarray | None:
    """Find the mirror image of each vertex across x = 0.

    Vertices are matched by position; vertices at the same position (lips, seams) by the mean position of their
    neighbors along the edges of the polygons.

    Args:
        mean: [V,3] mm.
        polygons: [P,n], padded with -1.
        tolerance: mm that an image may be off.

    Returns:
        int32 [V], or None if the mesh is not symmetric.
    """
    following = np.roll(polygons, -1, 1)
    following = np.where(following < 0, polygons[:, :1], following)
    edges = np.stack([polygons, following], -1)[polygons >= 0]
    edges = np.concatenate([edges, edges[:, ::-1]])
    adjacency = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (len(mean), len(mean))).tocsr()
    degree = np.maximum(np.asarray(adjacency.sum(1)), 1)
    signature = np.concatenate([mean, adjacency @ mean / degree], 1)
    _, partner = cKDTree(signature).query(signature * [-1, 1, 1, -1, 1, 1])
    apart = np.abs(mean[partner] * [-1, 1, 1] - mean).max(initial=0)
    if apart > tolerance or (partner[partner] != np.arange(len(mean))).any():
        return None
    return partner.astype(np.int32)
