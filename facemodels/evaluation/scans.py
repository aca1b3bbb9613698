"""Files of the protocols with scans: meshes, points picked on them, 68 landmarks beside them, pictures.

Coordinates are those of the files, float64 on the CPU.
"""

from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from facemodels.core.errors import InputError, one_line
from facemodels.core.landmarks import NUM_CONTOUR
from facemodels.io.files import existing_file, input_error
from facemodels.io.images import PICTURE_SUFFIXES
from facemodels.io.landmarks import read_landmarks


class Scan(NamedTuple):
    """A scanned surface.

    Attributes:
        vertices: float64 [V,3].
        faces: int64 [F,3].
    """

    vertices: Tensor
    faces: Tensor


def read_scan(path: str | Path) -> Scan:
    """Read a scan from an OBJ or PLY file, with its vertices as they are there: texture seams do not split them.

    Raises:
        InputError: The file is missing or damaged, or holds no triangles or coordinates that are not finite.
    """
    expected = "a scan with triangles, .obj or .ply"
    path = existing_file(path, expected)
    if path.suffix.lower() not in (".obj", ".ply"):
        raise input_error(path, expected, f"a file ending in {path.suffix or 'nothing'}")
    try:
        vertices, faces = _read_obj(path) if path.suffix.lower() == ".obj" else _read_ply(path)
    except Exception as error:  # whatever a parser raises at a damaged file
        raise input_error(path, expected, f"a file that cannot be parsed ({one_line(error)})") from error
    if not len(faces):
        raise input_error(path, expected, f"{len(vertices)} vertices and no triangles")
    if not np.isfinite(vertices).all() or faces.min() < 0 or faces.max() >= len(vertices):
        raise input_error(path, expected, "coordinates that are not finite, or triangles of vertices that do not exist")
    return Scan(torch.from_numpy(vertices), torch.from_numpy(faces))


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All vertices in the file's order, even those without triangles; polygons become fans."""
    lines = path.read_bytes().split(b"\n")
    rows = [line[2:] for line in lines if line.startswith(b"v ")]
    vertices = np.array(b" ".join(rows).split(), np.float64).reshape(max(len(rows), 1), -1)[: len(rows), :3]
    polygons = [
        [int(corner.split(b"/", 1)[0]) for corner in line.split()[1:]] for line in lines if line.startswith(b"f ")
    ]
    faces = [(polygon[0], polygon[k], polygon[k + 1]) for polygon in polygons for k in range(1, len(polygon) - 1)]
    return vertices.reshape(-1, 3), np.array(faces, np.int64).reshape(-1, 3) - 1


def _read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    mesh: Any = trimesh.load(path, process=False)
    return np.array(mesh.vertices, np.float64), np.array(getattr(mesh, "faces", np.zeros((0, 3))), np.int64)


def read_picked_points(path: str | Path, count: int) -> Tensor:
    """Read points that were picked with MeshLab (a .pp file).

    Args:
        path: The file.
        count: How many there must be.

    Returns:
        float64 [count,3], in the file's order.

    Raises:
        InputError: The file is missing or damaged, or has another number of points.
    """
    expected = f"{count} picked points (.pp)"
    path = existing_file(path, expected)
    try:
        rows = [
            [float(point.get(axis)) for axis in "xyz"]  # type: ignore[arg-type] # None, a missing axis, is caught below
            for point in ElementTree.parse(path).getroot().iter("point")
            if point.get("active", "1") != "0"
        ]
    except (ElementTree.ParseError, TypeError, ValueError) as error:
        raise input_error(path, expected, f"a file that cannot be parsed ({one_line(error)})") from error
    points = np.array(rows, np.float64).reshape(-1, 3)
    if len(points) != count or not np.isfinite(points).all():
        raise input_error(path, expected, f"{len(points)}, of which {int(np.isfinite(points).all(1).sum())} are finite")
    return torch.from_numpy(points)


def read_scan_landmarks(scan: Path, needed: tuple[int, ...]) -> Tensor:
    """Read the 68 landmarks of a scan from the file beside it (see `facemodels.io.landmarks`).

    Args:
        scan: The scan.
        needed: Landmarks that must be there; besides, at least four without the contour.

    Returns:
        float64 [68,3] in the scan's coordinates; NaN where one is missing.

    Raises:
        InputError: There is no such file, or needed landmarks are missing.
    """
    files = [scan.with_suffix(kind) for kind in (".txt", ".npy", ".json") if scan.with_suffix(kind).is_file()]
    if not files:
        raise InputError(
            f"{scan}: expected 68 landmarks [68,3] beside it, in its coordinates, in {scan.with_suffix('.txt').name}, "
            ".npy or .json; found none"
        )
    points = torch.from_numpy(read_landmarks(files[0], 3).points).double()
    if len(points) != 68:
        raise input_error(files[0], "68 landmarks [68,3]", f"{len(points)}")
    known = points.isfinite().all(1)
    missing = [str(k) for k in needed if not known[k]]
    if missing or known[NUM_CONTOUR:].sum() < 4:
        found = f"{int(known[NUM_CONTOUR:].sum())}, without {', '.join(missing) or 'enough'}"
        raise input_error(
            files[0],
            f"at least four landmarks of the inner face, among them {', '.join(map(str, needed))} (counted from 0)",
            found,
        )
    return points


def one_file(folder: Path, patterns: tuple[str, ...], what: str) -> Path:
    """The only file of a folder that matches one of the patterns.

    Args:
        folder: The folder.
        patterns: Such as "*.obj".
        what: What the file is, for the message.

    Raises:
        InputError: There is none, or more than one.
    """
    found = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    if len(found) != 1:
        raise InputError(
            f"{folder}: expected {what}, one file {' or '.join(patterns)}, "
            f"found {', '.join(p.name for p in found[:4]) if found else 'none'}"
        )
    return found[0]


def pictures_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, in the order of their names; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".") and p.is_file()
    )
