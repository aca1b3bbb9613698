"""From the array layouts of the families to this library's: pure functions on numpy arrays, used by every reader."""

import numpy as np
from scipy.sparse import coo_matrix
from scipy.spatial import cKDTree

from facemodels.core.landmarks import NOSE_TIP

FACE_RADIUS = 95.0  # mm around the nose tip: the crop of the MICC Florence protocol


def points(column, scale: float) -> np.ndarray:
    """x0 y0 z0 x1 ... of any shape -> float32 [V,3] times scale."""
    return (np.asarray(column, np.float64).reshape(-1, 3) * scale).astype(np.float32)


def modes(matrix, scale) -> np.ndarray:
    """[3V,K] with a mode a column, rows x0 y0 z0 x1 ... -> float32 [K,V,3], each mode times scale (a number, or [K])."""
    matrix = np.asarray(matrix)
    scaled = matrix.T.astype(np.float32) * np.broadcast_to(
        np.asarray(scale, np.float32).reshape(-1, 1), (matrix.shape[1], 1)
    )
    return scaled.reshape(matrix.shape[1], -1, 3)


def triangles(polygons: np.ndarray) -> np.ndarray:
    """Polygons [P,n] padded with -1 -> int32 [F,3]: fans from each polygon's first corner, polygon by polygon, winding kept."""
    polygons = np.asarray(polygons, np.int32)
    fans = np.stack(
        [np.broadcast_to(polygons[:, :1], polygons[:, 2:].shape), polygons[:, 1:-1], polygons[:, 2:]], -1
    ).reshape(-1, 3)
    return fans[(fans >= 0).all(1)]


def outward(faces: np.ndarray, mean: np.ndarray, clockwise: bool) -> np.ndarray:
    """Faces that are counter-clockwise seen from outside.

    faces [F,3], mean [V,3] with +z out of the face; clockwise: the family is known to wind that way; its second and third corners are then
    swapped. Some files of every family have been rewritten with the other winding: where the geometry is clear (the triangles' normals, summed
    over the mesh, point away from the back of the head or towards it), it decides instead.
    """
    corners = mean[faces].astype(np.float64)
    low, high = mean.min(0).astype(np.float64), mean.max(0).astype(np.float64)
    back = (low + high) / 2 - [0, 0, (high - low).max() / 2]
    away = (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) * (corners.mean(1) - back)).sum(1)
    clear = np.abs(away.sum()) > 0.5 * np.abs(away).sum()
    swap = away.sum() < 0 if clear else clockwise
    return np.ascontiguousarray(faces[:, [0, 2, 1]] if swap else faces)


def vertex_landmarks(vertices) -> dict:
    """Vertex numbers [68], -1 for a landmark that the model lacks -> the fields landmark_index and landmark_weights of `ModelData`."""
    vertices = np.asarray(vertices, np.int64).ravel()
    weights = np.zeros((len(vertices), 3), np.float32)
    weights[:, 0] = vertices >= 0
    return {"landmark_index": np.repeat(np.maximum(vertices, 0)[:, None], 3, 1), "landmark_weights": weights}


def face_region(mean: np.ndarray, landmark_index: np.ndarray | None, landmark_weights: np.ndarray | None) -> dict:
    """The region "face" of a model whose file names none: what lies within 95 mm of the nose tip; no region without that landmark."""
    if landmark_index is None or not landmark_weights[NOSE_TIP].any():
        return {}
    tip = (mean[landmark_index[NOSE_TIP]] * landmark_weights[NOSE_TIP][:, None]).sum(0)
    return {"face": np.flatnonzero(np.linalg.norm(mean - tip, axis=1) <= FACE_RADIUS).astype(np.int32)}


def mirror(mean: np.ndarray, polygons: np.ndarray, tolerance: float = 0.5) -> np.ndarray | None:
    """The mirror image of each vertex across x = 0, int32 [V], or None where the mesh is not symmetric to `tolerance` mm.

    Vertices are matched by position; doubled ones (lips, seams) by the mean position of their neighbours along the edges of the polygons, [P,n]
    padded with -1.
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
