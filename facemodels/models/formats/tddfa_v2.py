"""3DDFA_V2's Basel model without the neck (Guo et al. 2020): the folder `configs/` of its repository.

| file | content |
|---|---|
| bfm_noneck_v3.pkl | u [3V,1], w_shp [3V,I], w_exp [3V,E] in micrometres, keypoints [204]: the rows of the 68 landmarks |
| tri.pkl | triangles [3,F]; those in bfm_noneck_v3.pkl belong to another mesh |
| param_mean_std_62d_120x120.pkl | std [62]: 12 of the pose, then of 40 identity and 10 expression coefficients over its training set |
| BFM_UV.mat, indices.npy | texture coordinates of the 53,215 vertices, and which of them these V are (both optional) |

u is the mean face with the mean expression. The components have unit length and carry no deviations; those of the training set are taken, and the
modes beyond them are left out: 3DDFA_V2's parameters are std times our coefficients. Micrometres become millimetres.
"""

from pathlib import Path

import numpy as np

from facemodels.io.files import input_error, take_arrays
from facemodels.io.pickles import read_object_npy, read_pickle
from facemodels.models.formats.basel2009 import LICENCE, MICROMETRES, read_uv
from facemodels.models.formats.build import build
from facemodels.models.formats.layout import face_region, modes, outward, points, vertex_landmarks
from facemodels.models.model_data import ModelData

POSE = 12
IDENTITY = 40


def from_pickle(path, arrays: dict) -> ModelData:
    """The model of an already read bfm_noneck_v3.pkl and its side files."""
    path, expected = Path(path), "3DDFA_V2's bfm_noneck_v3.pkl"
    shapes = {"u": ("3V", 1), "w_shp": ("3V", None), "w_exp": ("3V", None), "keypoints": (204,)}
    u, identity, expression, keypoints = take_arrays(path, arrays, shapes, expected)
    if len(u) % 3:
        raise input_error(path, "u of x, y, z for each vertex", f"{len(u)} numbers")
    count = len(u) // 3
    mean = points(u, MICROMETRES)
    deviation = _deviations(path, identity, expression)
    identity, expression = (modes(w[:, : len(d)], d * MICROMETRES) for w, d in zip((identity, expression), deviation))
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
        licence=LICENCE,
        **vertex_landmarks(landmarks),
    )
    data.regions = face_region(data.mean, data.landmark_index, data.landmark_weights)
    return data


def _triangles(path, arrays, count):
    beside = path.with_name("tri.pkl")
    if beside.exists():
        tri = read_pickle(beside, "3DDFA_V2's triangles tri.pkl")
        (tri,) = take_arrays(beside, {"tri": tri}, {"tri": (3, None)}, "3DDFA_V2's triangles tri.pkl")
        source = beside
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
            raise input_error(beside, "the triangles of bfm_noneck_v3.pkl, tri.pkl in the same folder", "no such file")
    if tri.size and (tri.min() < 0 or tri.max() >= count):
        raise input_error(source, f"triangles of vertices in 0..{count - 1}", f"{tri.min()}..{tri.max()}")
    return tri.T.astype(np.int32)


def _deviations(path, identity, expression):
    """Standard deviations of the identity and of the expression coefficients."""
    beside = path.with_name("param_mean_std_62d_120x120.pkl")
    if beside.exists():
        statistics = read_pickle(beside, "3DDFA_V2's statistics of its parameters")
        (std,) = take_arrays(
            beside,
            statistics if isinstance(statistics, dict) else {},
            {"std": (None,)},
            "3DDFA_V2's statistics of its parameters",
        )
        std = std.astype(np.float64)
        return std[POSE : POSE + IDENTITY][: identity.shape[1]], std[POSE + IDENTITY :][: expression.shape[1]]
    if identity.size and np.linalg.norm(identity.astype(np.float64), axis=0).max() <= 1.001:
        raise input_error(
            beside,
            "the deviations of the unit-length components in bfm_noneck_v3.pkl, in the same folder",
            "no such file",
        )
    return np.ones(identity.shape[1]), np.ones(expression.shape[1])


def _uv(path, count):
    indices = path.with_name("indices.npy")
    if not indices.exists():
        return None
    (chosen,) = take_arrays(
        indices,
        {"indices": read_object_npy(indices, "3DDFA_V2's indices.npy")},
        {"indices": (count,)},
        "3DDFA_V2's indices.npy",
    )
    uv = read_uv(path.with_name("BFM_UV.mat"), None)
    if uv is None:
        return None
    if chosen.size and (chosen.min() < 0 or chosen.max() >= len(uv)):
        raise input_error(indices, f"vertices in 0..{len(uv) - 1}", f"{chosen.min()}..{chosen.max()}")
    return uv[chosen]
