"""OBJ files with vertices, texture coordinates and polygons in the order of the file, as models need them."""

from pathlib import Path

import numpy as np

from facemodels.io.files import existing_file, input_error
from facerender.meshes import MeshError
from facerender.meshes.obj import read_polygons, read_vertices


def read_obj(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read an OBJ file.

    Returns:
        vertices float32 [V,3]; uv float32 [T,2]; polygons and uv_polygons, int32 [P,n], 0-based, padded with -1.

    Raises:
        InputError: the file is missing, damaged, has no polygons, or polygons without texture coordinates.
    """
    expected = "an OBJ mesh whose polygons have texture coordinates"
    path = existing_file(path, expected)
    try:
        vertices, uv, counts, corners = read_polygons(path)
    except MeshError as error:
        raise input_error(path, expected, str(error).removeprefix(f"{path}: ")) from None
    width = counts.max(initial=0)
    if width < 3:
        raise input_error(path, "an OBJ mesh with polygons", f"{len(counts)} polygons of {width} corners")
    if (corners < 0).any():
        raise input_error(path, expected, "corners without any; export it again")
    padded = np.full((len(counts), width, 2), -1, np.int32)
    padded[np.arange(width) < counts[:, None]] = corners
    return vertices.astype(np.float32), uv.astype(np.float32), padded[..., 0], padded[..., 1]


def read_obj_vertices(path: str | Path, count: int) -> np.ndarray:
    """Read the vertices alone, float32 [count,3].

    Raises:
        InputError: the file is missing, damaged, or has another number of vertices.
    """
    expected = f"{count} vertices of 3 numbers, as in the neutral mesh"
    path = existing_file(path, expected)
    try:
        vertices = read_vertices(path)
    except MeshError as error:
        raise input_error(path, expected, str(error).removeprefix(f"{path}: ")) from None
    if len(vertices) != count:
        raise input_error(path, expected, f"{len(vertices)}")
    return vertices.astype(np.float32)
