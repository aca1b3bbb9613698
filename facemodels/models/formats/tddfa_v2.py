"""3DDFA_V2's Basel model without the neck (Guo et al. 2020): the folder `configs/` of its repository.

| file | content |
|---|---|
| bfm_noneck_v3.pkl | u [3V,1], w_shp [3V,I], w_exp [3V,E] in micrometers; keypoints [204], rows of the 68 landmarks |
| tri.pkl | triangles [3,F]; those in bfm_noneck_v3.pkl belong to another mesh |
| param_mean_std_62d_120x120.pkl | std [62] of its training set: 12 of the pose, 40 of identity, 10 of expression |
| BFM_UV.mat, indices.npy | texture coordinates of 53,215 vertices, and which of these are the model's (both optional) |

u is the mean face with the mean expression. The components have unit length and no deviations; those of the training
set are used, and the modes beyond them left out. 3DDFA_V2's parameters are std times our coefficients. Micrometers
become millimeters.
"""

from pathlib import Path
from typing import Any

import numpy as np

from facemodels.io.files import Shape, input_error, no_such_file, take_arrays
from facemodels.io.pickles import read_object_npy, read_pickle
from facemodels.models.formats.basel2009 import LICENSE, MICROMETERS, read_uv
from facemodels.models.formats.build import build, check_vertices
from facemodels.models.formats.layout import modes, outward, points
from facemodels.models.model_data import ModelData, face_region, vertex_landmarks

POSE = 12  # parameters of the pose, before those of identity
IDENTITY = 40


def from_pickle(path: str | Path, arrays: dict[str, Any]) -> ModelData:
    """The model of bfm_noneck_v3.pkl, which has been read, and of the files beside it.

    Args:
        path: bfm_noneck_v3.pkl.
        arrays: its content.
    """
    path, expected = Path(path), "3DDFA_V2's bfm_noneck_v3.pkl"
    shapes: dict[str, Shape | None] = {
        "u": ("3V", 1),
        "w_shp": ("3V", None),
        "w_exp": ("3V", None),
        "keypoints": (204,),
    }
    u, identity, expression, keypoints = take_arrays(path, arrays, shapes, expected)
    if len(u) % 3:
        raise input_error(path, "u of x, y, z for each vertex", f"{len(u)} numbers")
    count = len(u) // 3
    mean = points(u, MICROMETERS)
    deviations = _deviations(path, identity, expression)
    identity, expression = (modes(w[:, : len(d)], d * MICROMETERS) for w, d in zip((identity, expression), deviations))
    landmarks = keypoints.reshape(-1, 3)[:, 0].astype(np.int64) // 3
    faces = outward(_triangles(path, arrays, count), mean, clockwise=True)
    uv = _uv(path, count)
    data = build(
        path,
        name="Basel Face Model 2009 of 3DDFA_V2",
        mean=mean,
        identity=identity,
        expression=expression,
        faces=faces,
        uv=uv,
        uv_faces=None if uv is None else faces,
        licence=LICENSE,
        **vertex_landmarks(landmarks),
    )
    data.regions = face_region(data.mean, data.landmark_index, data.landmark_weights)
    return data


def _triangles(path: Path, arrays: dict[str, Any], count: int) -> np.ndarray:
    """int32 [F,3] of tri.pkl; without it, those of bfm_noneck_v3.pkl if they fit its vertices."""
    sidecar, expected = path.with_name("tri.pkl"), "3DDFA_V2's triangles tri.pkl"
    tri: Any
    if sidecar.exists():
        (tri,) = take_arrays(sidecar, {"tri": read_pickle(sidecar, expected)}, {"tri": (3, None)}, expected)
        source = sidecar
    else:
        tri, source = arrays.get("tri"), path
        fits = (
            isinstance(tri, np.ndarray)
            and tri.dtype.kind in "iu"
            and tri.ndim == 2
            and tri.shape[0] == 3
            and tri.max(initial=0) < count
        )
        if not fits:
            raise no_such_file(sidecar, expected="the triangles of bfm_noneck_v3.pkl, tri.pkl in the same folder")
    check_vertices(source, tri, count)
    return tri.T.astype(np.int32)


def _deviations(path: Path, identity: np.ndarray, expression: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of the identity and of the expression coefficients, which may be fewer than the modes."""
    sidecar, expected = path.with_name("param_mean_std_62d_120x120.pkl"), "3DDFA_V2's statistics of its parameters"
    if sidecar.exists():
        statistics = read_pickle(sidecar, expected)
        arrays = statistics if isinstance(statistics, dict) else {}
        (std,) = take_arrays(sidecar, arrays, {"std": (None,)}, expected)
        std = std.astype(np.float64)
        return std[POSE : POSE + IDENTITY][: identity.shape[1]], std[POSE + IDENTITY :][: expression.shape[1]]
    if identity.size and np.linalg.norm(identity.astype(np.float64), axis=0).max() <= 1.001:
        raise no_such_file(
            sidecar, expected="the deviations of the unit-length components in bfm_noneck_v3.pkl, in the same folder"
        )
    return np.ones(identity.shape[1]), np.ones(expression.shape[1])


def _uv(path: Path, count: int) -> np.ndarray | None:
    """Texture coordinates [V,2], if both of their files are there."""
    indices, expected = path.with_name("indices.npy"), "3DDFA_V2's indices.npy"
    if not indices.exists():
        return None
    (chosen,) = take_arrays(indices, {"indices": read_object_npy(indices, expected)}, {"indices": (count,)}, expected)
    uv = read_uv(path.with_name("BFM_UV.mat"), None)
    if uv is None:
        return None
    check_vertices(indices, chosen, len(uv), "vertices")
    return uv[chosen]
