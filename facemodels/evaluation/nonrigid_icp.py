"""A mesh deformed onto points by an affine map of each vertex: non-rigid ICP of Amberg, Romdhani and Vetter (2007).

REALY finds counterparts on a predicted face so; schedule and weights are those of its authors' program. Lengths are in
the mesh's unit, and the weights belong to REALY's, which is about 9 mm.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

STIFFNESS = 50.0  # of the first stage; exp(-1/2) times as much in each one after it
STAGES = 3
TOLERANCE = 1.0  # of the first stage: how far the maps of a step may be from those of the step before; then half of it
STEPS = 11  # at most in a stage with keypoints
FREE_STEPS = 100  # at most in a stage without them, where REALY's program has no limit
OUTLIER, NEAR = 2.0, 1.0  # a target counts within this many means of the distances, or within this many units

# The stage before all others, of keypoints alone: its stiffness, for x, y, z and the translation.
KEYPOINT_STIFFNESS = 150.0
KEYPOINT_AXES = np.array([2.0, 2.0, 3.0, 2.0])
KEYPOINT_WEIGHT = 50.0
# In the stages after it, a keypoint weighs this part of it, times exp(-0.9) for each step so far.
KEYPOINT_SHARE, KEYPOINT_DECAY = 0.1, 0.9
# Holds what nothing else decides, such as the maps of a loose piece without keypoints.
HOLD = 1e-9


class Keypoints(NamedTuple):
    """Vertices whose targets are known.

    Attributes:
        vertices: int64 [K], their numbers; of a vertex that is there twice, the last one counts.
        targets: [K,3].
    """

    vertices: np.ndarray
    targets: np.ndarray


def deform(vertices: np.ndarray, faces: np.ndarray, cloud: np.ndarray, keypoints: Keypoints | None) -> np.ndarray:
    """Deform a mesh onto a cloud of points.

    In each step, every vertex gets the affine map from where it is, so that the weighted sum of squares is least: of
    distances from the nearest points of the cloud, of those of keypoints from their targets, and of differences between
    the maps of neighbors. Stages follow each other with less stiffness; steps of a stage, until maps stay as they are.

    Args:
        vertices: float64 [V,3]. The maps are about the origin, so the result depends on where it lies.
        faces: int64 [F,3].
        cloud: [P,3].
        keypoints: Vertices with known targets; with them, a stage of keypoints alone comes first.

    Returns:
        The vertices' new places [V,3].
    """
    tree, laplacian = cKDTree(cloud), graph_laplacian(faces, len(vertices))
    now, maps, change = vertices, np.ones((len(vertices), 4, 3)), math.inf
    weights = np.zeros(len(vertices))
    targets = np.zeros_like(vertices)
    taken = 0
    if keypoints is not None:
        weights[keypoints.vertices] = KEYPOINT_WEIGHT
        targets[keypoints.vertices] = keypoints.targets
        solved = _affine_maps(now, laplacian, KEYPOINT_STIFFNESS * KEYPOINT_AXES, weights**2, targets)
        now, change, maps, taken = _moved(now, solved), float(np.linalg.norm(solved - maps)), solved, 1
    for stage in range(STAGES):
        stiffness = STIFFNESS * math.exp(-0.5 * stage) * np.ones(4)
        for _ in range(FREE_STEPS if keypoints is None else STEPS):
            if change <= TOLERANCE * 0.5**stage:
                break
            distance, nearest = tree.query(now)
            near = (distance < max(OUTLIER * distance.mean(), NEAR)).astype(np.float64)
            pull = (weights * KEYPOINT_SHARE * math.exp(-KEYPOINT_DECAY * taken)) ** 2
            total = near + pull
            goal = (near[:, None] * cloud[nearest] + pull[:, None] * targets) / np.maximum(total, 1e-300)[:, None]
            solved = _affine_maps(now, laplacian, stiffness, total, goal)
            now, change, maps, taken = _moved(now, solved), float(np.linalg.norm(solved - maps)), solved, taken + 1
    return now


def graph_laplacian(faces: np.ndarray, count: int) -> scipy.sparse.csc_matrix:
    """The Laplacian [V,V] of the graph of a mesh's edges, each of weight 1."""
    edges = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1), axis=0)
    edges = edges[edges[:, 0] != edges[:, 1]]
    rows = np.arange(len(edges)).repeat(2)
    incidence = scipy.sparse.csc_matrix((np.tile([1.0, -1.0], len(edges)), (rows, edges.ravel())), (len(edges), count))
    return (incidence.T @ incidence).tocsc()


def _moved(vertices: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Vertices [V,3] under their maps [V,4,3]."""
    return np.einsum("vk,vkc->vc", np.c_[vertices, np.ones(len(vertices))], maps)


def _affine_maps(
    vertices: np.ndarray,
    laplacian: scipy.sparse.csc_matrix,
    stiffness: np.ndarray,
    weights: np.ndarray,
    targets: np.ndarray,
) -> np.ndarray:
    """The maps of one step.

    Args:
        vertices: [V,3].
        laplacian: [V,V].
        stiffness: [4], of the maps' rows for x, y, z and the translation.
        weights: [V], of squared distances.
        targets: [V,3].

    Returns:
        [V,4,3], from homogeneous coordinates to the new places.
    """
    count = len(vertices)
    homogeneous = np.c_[vertices, np.ones(count)]
    blocks = weights[:, None, None] * homogeneous[:, :, None] * homogeneous[:, None]
    blocks += HOLD * np.eye(4)
    data = scipy.sparse.bsr_matrix((blocks, np.arange(count), np.arange(count + 1)), shape=(4 * count, 4 * count))
    matrix = scipy.sparse.kron(laplacian, np.diag(stiffness**2), format="csc") + data.tocsc()
    # The maps' differences from the identity, which has no stiffness: they are 0 where nothing pulls.
    right = (weights[:, None, None] * homogeneous[:, :, None] * (targets - vertices)[:, None]).reshape(-1, 3)
    solved = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}).solve(
        right
    )
    return solved.reshape(count, 4, 3) + np.eye(4, 3)
