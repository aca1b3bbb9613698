"""FLAME 2019, 2020 and 2023 (Li et al. 2017): linear shape and expression, then skinning of neck, jaw and eyes with pose blend shapes.

The .pkl file holds v_template [V,3], f [F,3], shapedirs [V,3,300+E] (identity first), posedirs [V,3,9(J-1)], J_regressor [J,V], weights [V,J] and
kintree_table [2,J], in metres; pickled by Python 2 with chumpy arrays, which are read without chumpy. Read beside it, each where it is there:

| file | content |
|---|---|
| landmark_embedding.npy | DECA's: 68 landmarks (full_lmk_faces_idx, full_lmk_bary_coords), or its static 51 and dynamic 17 |
| *static_embedding*.pkl | FLAME's own: lmk_face_idx, lmk_b_coords of the 51 inner landmarks, or of all 68 |
| *dynamic_embedding*.npy | lmk_face_idx, lmk_b_coords [79,17]: the contour by yaw; the first entry is the frontal view's |
| FLAME_masks.pkl | regions |
| head_template.obj, head_template_mesh.obj | texture coordinates |
"""

from pathlib import Path

import numpy as np
import scipy.sparse

from facemodels.core.errors import one_line
from facemodels.io.files import input_error, take_arrays
from facemodels.io.pickles import read_object_npy, read_pickle
from facemodels.models.formats.build import build
from facemodels.models.formats.layout import face_region, outward
from facemodels.models.formats.obj import read_obj
from facemodels.models.model_data import ModelData, Skeleton

METRES = 1000.0
IDENTITY = 300
JOINTS = ("root", "neck", "jaw", "left eye", "right eye")
EXPECTED = "a FLAME model (.pkl)"
LICENCE = "FLAME, Max Planck Institute for Intelligent Systems: as its licence says (2019, 2020: non-commercial; FLAME 2023 Open: CC-BY-4.0)"


def from_pickle(path, arrays: dict) -> ModelData:
    """The model of an already read FLAME pickle and its side files."""
    path = Path(path)
    regressor = arrays.get("J_regressor")
    if scipy.sparse.issparse(regressor):
        if regressor.shape[1:] != np.shape(arrays.get("v_template"))[:1] or regressor.shape[0] > 64:
            raise input_error(path, "J_regressor of joints by vertices", f"{list(regressor.shape)}")
        arrays = arrays | {"J_regressor": regressor.toarray()}
    shapes = {"v_template": ("V", 3), "f": (None, 3), "shapedirs": ("V", 3, None), "posedirs": ("V", 3, None)}
    shapes |= {"J_regressor": ("J", "V"), "weights": ("V", "J"), "kintree_table": (2, "J")}
    template, f, shapedirs, posedirs, regressor, weights, kintree = take_arrays(path, arrays, shapes, EXPECTED)
    V, J = weights.shape
    if shapedirs.shape[2] < IDENTITY:
        raise input_error(
            path, f"shapedirs of {IDENTITY} identity components and the expressions", f"{shapedirs.shape[2]} components"
        )
    if posedirs.shape[2] != 9 * (J - 1):
        raise input_error(path, f"posedirs of {9 * (J - 1)} components for {J} joints", f"{posedirs.shape[2]}")
    if f.size and (f.min() < 0 or f.max() >= V):
        raise input_error(path, f"triangles of vertices in 0..{V - 1}", f"{f.min()}..{f.max()}")

    mean, f = (template * METRES).astype(np.float32), f.astype(np.int64)
    shape = (np.moveaxis(shapedirs, 2, 0) * METRES).astype(np.float32)
    # The root's parent is -1, kept as an unsigned number.
    parents = tuple(-1 if j == 0 else int(p) for j, p in enumerate(kintree[0]))
    skeleton = Skeleton(
        names=JOINTS if J == len(JOINTS) else ("root", *(f"joint{j}" for j in range(1, J))),
        parents=parents,
        weights=np.ascontiguousarray(weights, np.float32),
        regressor=np.ascontiguousarray(regressor, np.float32),
        pose_basis=np.ascontiguousarray(np.moveaxis(posedirs, 2, 0) * METRES, np.float32),
    )
    uv, uv_faces = _uv(path.parent, f, V)
    data = build(
        path,
        name=f"FLAME ({path.stem})",
        mean=mean,
        identity=shape[:IDENTITY],
        expression=shape[IDENTITY:],
        faces=f,
        uv=uv,
        uv_faces=uv_faces,
        regions=_regions(path.parent),
        skeleton=skeleton,
        licence=LICENCE,
        **_landmarks(path.parent, f),
    )
    turned = outward(data.faces, data.mean, clockwise=False)
    if (turned != data.faces).any():
        data.faces, data.uv_faces = (
            turned,
            None if data.uv_faces is None else np.ascontiguousarray(data.uv_faces[:, [0, 2, 1]]),
        )
    if "face" not in data.regions:
        data.regions |= face_region(data.mean, data.landmark_index, data.landmark_weights)
    return data


def _landmarks(folder, faces) -> dict:
    """The landmark fields of `ModelData` from what lies in the folder; {} for nothing."""
    embedding = folder / "landmark_embedding.npy"
    inner = next(iter(sorted(folder.glob("*static_embedding*.pkl"))), None)
    moving = next(iter(sorted(folder.glob("*dynamic_embedding*.npy"))), None)
    found = []  # (first landmark, faces, barycentric)
    if embedding.exists():
        expected = "DECA's landmark_embedding.npy"
        arrays = _dict(embedding, read_object_npy(embedding, expected), expected)
        if "full_lmk_faces_idx" in arrays:
            found = [(0, *_embedding(embedding, arrays, "full_lmk_faces_idx", "full_lmk_bary_coords", (68,), faces))]
        else:
            found = [
                (17, *_embedding(embedding, arrays, "static_lmk_faces_idx", "static_lmk_bary_coords", (51,), faces))
            ]
            if "dynamic_lmk_faces_idx" in arrays:
                found.append(
                    (
                        0,
                        *_embedding(
                            embedding, arrays, "dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords", (17,), faces
                        ),
                    )
                )
    elif inner is not None:
        arrays = _dict(
            inner, read_pickle(inner, "FLAME's static landmark embedding"), "FLAME's static landmark embedding"
        )
        found = [(None, *_embedding(inner, arrays, "lmk_face_idx", "lmk_b_coords", (51, 68), faces))]
        found = [(68 - len(found[0][1]), *found[0][1:])]
        if moving is not None:
            arrays = _dict(
                moving,
                read_object_npy(moving, "FLAME's dynamic landmark embedding"),
                "FLAME's dynamic landmark embedding",
            )
            found.append((0, *_embedding(moving, arrays, "lmk_face_idx", "lmk_b_coords", (17,), faces)))
    if not found:
        return {}
    index, weights = np.zeros((68, 3), np.int32), np.zeros((68, 3), np.float32)
    for first, triangle, barycentric in found:
        index[first : first + len(triangle)], weights[first : first + len(triangle)] = faces[triangle], barycentric
    return {"landmark_index": index, "landmark_weights": weights}


def _embedding(path, arrays, face_key, weight_key, counts, faces):
    """Triangles [L] and barycentric coordinates [L,3]; of a list by yaw the first, which is the frontal one."""
    try:  # some files have a list with an array for each yaw
        arrays = {
            k: np.stack(v) if isinstance(v, list) else v for k, v in arrays.items() if k in (face_key, weight_key)
        }
    except (ValueError, TypeError) as error:
        raise input_error(
            path, f"arrays of one shape in {face_key} and {weight_key}", f"others ({one_line(error)})"
        ) from error
    triangle, weights = take_arrays(path, arrays, {face_key: None, weight_key: None}, "a landmark embedding")
    triangle = triangle[0] if triangle.ndim == 2 else triangle
    weights = weights[0] if weights.ndim == 3 else weights
    if triangle.ndim != 1 or len(triangle) not in counts or weights.shape != (len(triangle), 3):
        raise input_error(
            path,
            f"{' or '.join(map(str, counts))} landmarks in {face_key} and {weight_key}",
            f"{list(triangle.shape)} and {list(weights.shape)}",
        )
    if triangle.min() < 0 or triangle.max() >= len(faces):
        raise input_error(
            path,
            f"landmarks on triangles 0..{len(faces) - 1} of the model beside it",
            f"{triangle.min()}..{triangle.max()}",
        )
    return triangle.astype(np.int64), weights


def _regions(folder) -> dict:
    path = folder / "FLAME_masks.pkl"
    if not path.exists():
        return {}
    masks = _dict(path, read_pickle(path, "FLAME_masks.pkl"), "FLAME_masks.pkl")
    take_arrays(path, masks, {name: (None,) for name in masks}, "FLAME_masks.pkl")
    return {str(name): vertices for name, vertices in masks.items()}


def _uv(folder, faces, vertices):
    """Texture coordinates of the template's OBJ file, whose triangles are the model's, in its order."""
    path = next((folder / n for n in ("head_template.obj", "head_template_mesh.obj") if (folder / n).exists()), None)
    if path is None:
        return None, None
    _, uv, polygons, uv_polygons = read_obj(path)
    if polygons.shape != faces.shape or (polygons != faces).any():
        raise input_error(
            path,
            f"the model's own {len(faces)} triangles",
            f"{len(polygons)} others; take it away, or put the file that belongs to the model there",
        )
    return uv, uv_polygons


def _dict(path, content, expected):
    if not isinstance(content, dict):
        raise input_error(path, f"{expected}, a dict", f"{type(content).__name__}")
    return content
