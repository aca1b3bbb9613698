"""FLAME 2019, 2020 and 2023 (Li et al. 2017): linear shape and expression, then skinning of neck, jaw and eyes with
pose blend shapes.

The .pkl file holds v_template [V,3], f [F,3], shapedirs [V,3,300+E] (identity first), posedirs [V,3,9(J-1)],
J_regressor [J,V], weights [V,J] and kintree_table [2,J], in meters. It was pickled by Python 2 with chumpy arrays,
which are read without chumpy. Read beside it, each if it is there:

| file | content |
|---|---|
| landmark_embedding.npy | DECA's: full_lmk_faces_idx, full_lmk_bary_coords of 68, or of 51 static and 17 dynamic |
| *static_embedding*.pkl | FLAME's own: lmk_face_idx, lmk_b_coords of the 51 inner landmarks, or of all 68 |
| *dynamic_embedding*.npy | lmk_face_idx, lmk_b_coords [79,17]: the contour by yaw; the first entry is the frontal one |
| FLAME_masks.pkl | regions |
| head_template.obj, head_template_mesh.obj | texture coordinates |
"""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from facemodels.core.errors import one_line
from facemodels.core.landmarks import NUM_CONTOUR, NUM_LANDMARKS
from facemodels.io.files import Shape, input_error, take_arrays
from facemodels.io.pickles import read_object_npy, read_pickle
from facemodels.models.formats.build import build, check_vertices
from facemodels.models.formats.layout import outward
from facemodels.models.formats.obj import read_obj
from facemodels.models.model_data import ModelData, Skeleton, face_region

METERS = 1000.0  # in millimeters
IDENTITY = 300
JOINTS = ("root", "neck", "jaw", "left eye", "right eye")
MOST_JOINTS = 64
EXPECTED = "a FLAME model (.pkl)"
LICENSE = (
    "FLAME, Max Planck Institute for Intelligent Systems: as its licence says "
    "(2019, 2020: non-commercial; FLAME 2023 Open: CC-BY-4.0)"
)
_INNER = NUM_LANDMARKS - NUM_CONTOUR


def from_pickle(path: str | Path, arrays: dict[str, Any]) -> ModelData:
    """The model of a FLAME pickle, which has been read, and of the files beside it.

    Args:
        path: the pickle.
        arrays: its content.
    """
    path = Path(path)
    regressor: Any = arrays.get("J_regressor")
    if scipy.sparse.issparse(regressor):
        if regressor.shape[1:] != np.shape(arrays.get("v_template", ()))[:1] or regressor.shape[0] > MOST_JOINTS:
            raise input_error(path, "J_regressor of joints by vertices", f"{list(regressor.shape)}")
        arrays = arrays | {"J_regressor": regressor.toarray()}
    shapes: dict[str, Shape | None] = {
        "v_template": ("V", 3),
        "f": (None, 3),
        "shapedirs": ("V", 3, None),
        "posedirs": ("V", 3, None),
        "J_regressor": ("J", "V"),
        "weights": ("V", "J"),
        "kintree_table": (2, "J"),
    }
    template, f, shapedirs, posedirs, regressor, weights, kintree = take_arrays(path, arrays, shapes, EXPECTED)
    V, J = weights.shape
    if shapedirs.shape[2] < IDENTITY:
        expected = f"shapedirs of {IDENTITY} identity components and the expressions"
        raise input_error(path, expected, f"{shapedirs.shape[2]} components")
    if posedirs.shape[2] != 9 * (J - 1):
        raise input_error(path, f"posedirs of {9 * (J - 1)} components for {J} joints", f"{posedirs.shape[2]}")
    check_vertices(path, f, V)

    mean, f = (template * METERS).astype(np.float32), f.astype(np.int64)
    shape = (np.moveaxis(shapedirs, 2, 0) * METERS).astype(np.float32)
    skeleton = Skeleton(
        names=JOINTS if J == len(JOINTS) else ("root", *(f"joint{j}" for j in range(1, J))),
        # The root's parent is -1, stored as an unsigned number.
        parents=tuple(-1 if j == 0 else int(p) for j, p in enumerate(kintree[0])),
        weights=np.ascontiguousarray(weights, np.float32),
        regressor=np.ascontiguousarray(regressor, np.float32),
        pose_basis=np.ascontiguousarray(np.moveaxis(posedirs, 2, 0) * METERS, np.float32),
    )
    uv, uv_faces = _uv(path.parent, f)
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
        licence=LICENSE,
        **_landmarks(path.parent, f),
    )
    turned = outward(data.faces, data.mean, clockwise=False)
    if (turned != data.faces).any():
        data.faces = turned
        if data.uv_faces is not None:
            data.uv_faces = np.ascontiguousarray(data.uv_faces[:, [0, 2, 1]])
    if "face" not in data.regions:
        data.regions |= face_region(data.mean, data.landmark_index, data.landmark_weights)
    return data


def _landmarks(folder: Path, faces: np.ndarray) -> dict[str, np.ndarray]:
    """The landmark fields of `ModelData` from the files in the folder; {} if there are none."""
    index = np.zeros((NUM_LANDMARKS, 3), np.int32)
    weights = np.zeros((NUM_LANDMARKS, 3), np.float32)
    found = [*_deca_embedding(folder, faces)] or [*_flame_embedding(folder, faces)]
    for triangle, barycentric in found:
        # All 68, the inner ones, or the contour.
        first = NUM_CONTOUR if len(triangle) == _INNER else 0
        index[first : first + len(triangle)] = faces[triangle]
        weights[first : first + len(triangle)] = barycentric
    return {"landmark_index": index, "landmark_weights": weights} if found else {}


def _deca_embedding(folder: Path, faces: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Triangles and barycentric coordinates of DECA's landmark_embedding.npy, if it is there."""
    path, expected = folder / "landmark_embedding.npy", "DECA's landmark_embedding.npy"
    if not path.exists():
        return []
    arrays = _dict(path, read_object_npy(path, expected), expected)
    if "full_lmk_faces_idx" in arrays:
        return [_embedding(path, arrays, "full_lmk_faces_idx", "full_lmk_bary_coords", (NUM_LANDMARKS,), faces)]
    found = [_embedding(path, arrays, "static_lmk_faces_idx", "static_lmk_bary_coords", (_INNER,), faces)]
    if "dynamic_lmk_faces_idx" in arrays:
        keys = "dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords"
        found.append(_embedding(path, arrays, *keys, (NUM_CONTOUR,), faces))
    return found


def _flame_embedding(folder: Path, faces: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Triangles and barycentric coordinates of FLAME's own static and dynamic embeddings, if they are there."""
    inner = next(iter(sorted(folder.glob("*static_embedding*.pkl"))), None)
    moving = next(iter(sorted(folder.glob("*dynamic_embedding*.npy"))), None)
    if inner is None:
        return []
    keys, expected = ("lmk_face_idx", "lmk_b_coords"), "FLAME's static landmark embedding"
    arrays = _dict(inner, read_pickle(inner, expected), expected)
    found = [_embedding(inner, arrays, *keys, (_INNER, NUM_LANDMARKS), faces)]
    if moving is not None:
        expected = "FLAME's dynamic landmark embedding"
        arrays = _dict(moving, read_object_npy(moving, expected), expected)
        found.append(_embedding(moving, arrays, *keys, (NUM_CONTOUR,), faces))
    return found


def _embedding(
    path: Path, arrays: dict[str, Any], face_key: str, weight_key: str, counts: tuple[int, ...], faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Triangles [L] and barycentric coordinates [L,3]; of a list by yaw, the first entry, which is the frontal one."""
    try:  # some files have a list with an array for each yaw
        arrays = {
            k: np.stack(v) if isinstance(v, list) else v for k, v in arrays.items() if k in (face_key, weight_key)
        }
    except (ValueError, TypeError) as error:
        expected = f"arrays of one shape in {face_key} and {weight_key}"
        raise input_error(path, expected, f"others ({one_line(error)})") from error
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


def _regions(folder: Path) -> dict[str, np.ndarray]:
    """The regions of FLAME_masks.pkl, if it is there."""
    path = folder / "FLAME_masks.pkl"
    if not path.exists():
        return {}
    masks = _dict(path, read_pickle(path, "FLAME_masks.pkl"), "FLAME_masks.pkl")
    take_arrays(path, masks, {name: (None,) for name in masks}, "FLAME_masks.pkl")
    return {str(name): vertices for name, vertices in masks.items()}


def _uv(folder: Path, faces: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """uv [T,2] and uv_faces [F,3] of the template's OBJ file, whose triangles must be the model's, in their order."""
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


def _dict(path: Path, content: Any, expected: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise input_error(path, f"{expected}, a dict", f"{type(content).__name__}")
    return content
