"""OBJ files with vertices, texture coordinates and polygons in the order of the file, as models need them. (Mesh
libraries reorder and split.)
"""

from pathlib import Path

import numpy as np

from facemodels.core.errors import one_line
from facemodels.io.files import existing_file, input_error

_EXPECTED = "an OBJ mesh"


def read_obj(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read an OBJ file.

    Returns:
        vertices float32 [V,3]; uv float32 [T,2]; polygons and uv_polygons, int32 [P,n], 0-based, padded with -1.

    Raises:
        InputError: the file is missing, damaged, has no polygons, or polygons without texture coordinates.
    """
    lines = existing_file(path, _EXPECTED).read_bytes().split(b"\n")
    vertices = _numbers(path, lines, b"v ", 3)
    uv = _numbers(path, lines, b"vt ", 2)
    try:
        corners = [[corner.split(b"/")[:2] for corner in line.split()[1:]] for line in lines if line.startswith(b"f ")]
        width = max(map(len, corners), default=0)
        index = np.zeros((len(corners), width, 2), np.int64)
        for row, polygon in zip(index, corners):
            row[: len(polygon)] = polygon
    except (ValueError, OverflowError) as error:
        raise input_error(
            path,
            "an OBJ mesh whose polygons have texture coordinates",
            f"polygons that do not read so ({one_line(error)})",
        ) from error
    if width < 3:
        raise input_error(path, "an OBJ mesh with polygons", f"{len(corners)} polygons of {width} corners")
    given = index[np.arange(width) < np.array([len(polygon) for polygon in corners])[:, None]]
    if given.max(initial=0) >= 2**31:
        raise input_error(path, "an OBJ mesh whose polygons count its vertices", f"the index {given.max()}")
    if (given < 1).any():
        raise input_error(path, "an OBJ mesh whose polygons count from 1", f"the index {given.min()}; export it again")
    return vertices, uv, (index[..., 0] - 1).astype(np.int32), (index[..., 1] - 1).astype(np.int32)


def read_obj_vertices(path: str | Path, count: int) -> np.ndarray:
    """Read the vertices alone, float32 [count,3].

    Raises:
        InputError: the file is missing, damaged, or has another number of vertices.
    """
    vertices = _numbers(path, existing_file(path, _EXPECTED).read_bytes().split(b"\n"), b"v ", 3)
    if len(vertices) != count:
        raise input_error(path, f"{count} vertices, as in the neutral mesh", f"{len(vertices)}")
    return vertices


def _numbers(path: str | Path, lines: list[bytes], prefix: bytes, columns: int) -> np.ndarray:
    """The first numbers of the lines with a prefix, float32 [rows,columns]."""
    rows = [line[len(prefix) :] for line in lines if line.startswith(prefix)]
    try:
        numbers = np.array(b" ".join(rows).split(), np.float32).reshape(max(len(rows), 1), -1)
        return numbers[: len(rows), :columns].reshape(-1, columns)
    except ValueError as error:
        raise input_error(
            path,
            f"{columns} numbers in each line {prefix.decode().strip()!r}",
            f"lines that do not read so ({one_line(error)})",
        ) from error
