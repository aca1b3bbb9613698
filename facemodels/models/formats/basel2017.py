"""The Basel Face Models of 2017 and 2019 (Gerig et al. 2018): HDF5 files of the statismo layout, read through h5py.

`{shape,expression,color}/model/{mean,pcaBasis,pcaVariance}` hold means [3V], x y z of a vertex together, components of
unit length [3V,K] and their variances [K]; `shape/representer/cells` [3,F], 0-based. Millimeters. The mean face is the
mean of the shapes plus that of the expressions. Colors are 0..1, sRGB. Of the points that `metadata/landmarks/json`
names, those that are certainly iBUG landmarks are used, each at its nearest vertex.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from facemodels.core.errors import InputError, one_line
from facemodels.core.landmarks import NUM_LANDMARKS
from facemodels.io.files import DEFLATE_LIMIT, Shape, existing_file, input_error, take_arrays
from facemodels.models.formats.build import build, check_vertices
from facemodels.models.formats.layout import modes, outward, points
from facemodels.models.model_data import ModelData, face_region, vertex_landmarks

EXPECTED = "a Basel Face Model of 2017 or 2019 (.h5)"
LICENSE = "Basel Face Model, University of Basel: research only, not to be passed on"
REACH = 5.0  # mm: a named point farther than this from every vertex belongs to a part that the file leaves out
PARTS = ("shape", "expression", "color")
IBUG = {
    "center.nose.tip": 30,
    "center.nose.attachement_to_philtrum": 33,
    "right.eye.corner_outer": 36,
    "right.eye.corner_inner": 39,
    "left.eye.corner_inner": 42,
    "left.eye.corner_outer": 45,
    "right.lips.corner": 48,
    "right.lips.philtrum_ridge": 50,
    "center.lips.upper.outer": 51,
    "left.lips.philtrum_ridge": 52,
    "left.lips.corner": 54,
    "center.lips.lower.outer": 57,
    "center.lips.upper.inner": 62,
    "center.lips.lower.inner": 66,
}


def read_basel2017(path: str | Path) -> ModelData:
    """Read model2017-1_*.h5 or model2019_*.h5.

    Raises:
        InputError: the file is missing or damaged, or h5py is not installed.
    """
    path = existing_file(path, EXPECTED)
    arrays, named = _read(path)
    parts = [part for part in PARTS if f"{part}/model/mean" in arrays]
    shapes: dict[str, Shape | None] = {}
    for part in (p for p in PARTS if p != "color" or p in parts):
        sizes: dict[str, Shape] = {"mean": ("3V",), "pcaBasis": ("3V", part[0]), "pcaVariance": (part[0],)}
        shapes |= {f"{part}/model/{name}": shape for name, shape in sizes.items()}
    shapes["shape/representer/cells"] = (3, None)
    take_arrays(path, arrays, shapes, EXPECTED)
    if len(arrays["shape/model/mean"]) % 3:
        found = f"{len(arrays['shape/model/mean'])} numbers"
        raise input_error(path, "shape/model/mean of x, y, z for each vertex", found)
    if min(arrays[f"{part}/model/pcaVariance"].min(initial=0) for part in parts) < 0:
        raise input_error(path, "variances that are not negative", "a negative one")

    mean = points(arrays["shape/model/mean"].astype(np.float64) + arrays["expression/model/mean"], 1)
    cells = arrays["shape/representer/cells"].T.astype(np.int64)
    check_vertices(path, cells, len(mean), "cells of vertices")
    scaled = {
        part: modes(arrays[f"{part}/model/pcaBasis"], np.sqrt(arrays[f"{part}/model/pcaVariance"])) for part in parts
    }
    landmarks = _landmarks(path, named, mean)
    data = build(
        path,
        name=f"Basel Face Model {'2019' if '2019' in path.name else '2017'} ({path.stem})",
        mean=mean,
        identity=scaled["shape"],
        expression=scaled["expression"],
        faces=outward(cells, mean, clockwise=False),
        albedo_mean=points(arrays["color/model/mean"], 1) if "color" in scaled else None,
        albedo=scaled.get("color"),
        albedo_encoding="srgb",
        licence=LICENSE,
        **({} if landmarks is None else vertex_landmarks(landmarks)),
    )
    data.regions = face_region(data.mean, data.landmark_index, data.landmark_weights)
    return data


def _read(path: Path) -> tuple[dict[str, np.ndarray], Any]:
    """The arrays of a file, by name, and its metadata/landmarks/json."""
    try:
        import h5py
    except ImportError as error:
        raise InputError(
            f"{path}: HDF5 files are read through h5py, which is not installed; run: pip install h5py"
        ) from error
    names = [f"{part}/model/{name}" for part in PARTS for name in ("mean", "pcaBasis", "pcaVariance")]
    names.append("shape/representer/cells")
    try:
        with h5py.File(path, "r") as file:
            size = path.stat().st_size
            arrays = {k: _dataset(file[k], size) for k in names if isinstance(file.get(k), h5py.Dataset)}
            named = file["metadata/landmarks/json"][()] if "metadata/landmarks/json" in file else b"[]"
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise input_error(path, EXPECTED, f"a file that does not read as HDF5 ({one_line(error)})") from error
    return arrays, named


def _dataset(entry: Any, size: int) -> np.ndarray:
    """The array of a dataset in a file of this size in bytes."""
    if entry.external or entry.is_virtual:
        raise ValueError(f"{entry.name} lies in another file")
    if entry.dtype.kind not in "fiu":
        raise ValueError(f"{entry.name} holds {entry.dtype}")
    if (entry.size or 0) * entry.dtype.itemsize > DEFLATE_LIMIT * size:
        raise ValueError(f"{entry.name} declares {entry.shape} in a file of {size} bytes")
    return np.asarray(entry[()])


def _landmarks(path: Path, named: Any, mean: np.ndarray) -> np.ndarray | None:
    """Vertices of the landmarks that the file names [68], -1 for the others; None if it names none of them."""
    try:
        listed = json.loads(_text(named))
        places = listed if isinstance(listed, dict) else {point["id"]: point["coordinates"] for point in listed}
        wanted = {IBUG[name]: np.array(place, np.float64).reshape(3) for name, place in places.items() if name in IBUG}
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        found = f"an entry that does not read so ({one_line(error)})"
        raise input_error(path, "named points in metadata/landmarks/json", found) from error
    if not wanted or not np.isfinite(np.stack(list(wanted.values()))).all() or not np.isfinite(mean).all():
        return None
    distance, vertex = cKDTree(mean).query(np.stack(list(wanted.values())))
    landmarks = np.full(NUM_LANDMARKS, -1)
    landmarks[list(wanted)] = np.where(distance <= REACH, vertex, -1)
    return landmarks


def _text(named: Any) -> str | bytes:
    """The text of an HDF5 string: a scalar, an array of one, or an array of characters."""
    if isinstance(named, (bytes, str)):
        return named
    array = np.asarray(named)
    return array.ravel()[0] if array.dtype == np.dtype(object) else array.tobytes()
