"""Files of the protocols with scans: meshes, points picked on them, 68 landmarks beside them, pictures.

Coordinates are those of the files, float64 on the CPU.
"""

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from facemodels.core.errors import InputError, one_line
from facemodels.core.landmarks import NUM_CONTOUR
from facemodels.io.files import existing_file, input_error
from facemodels.io.images import PICTURE_SUFFIXES
from facemodels.io.landmarks import read_landmarks
from facerender.meshes import MeshError, parse_mesh


class Scan(NamedTuple):
    """A scanned surface.

    Attributes:
        vertices: float64 [V,3]; NaN where no triangle uses it, so that it is within no radius.
        faces: int64 [F,3].
    """

    vertices: Tensor
    faces: Tensor

    def compact(self) -> "Scan":
        """The scan without the vertices that no triangle uses."""
        used, faces = torch.unique(self.faces, return_inverse=True)
        return Scan(self.vertices[used], faces)


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
        mesh = parse_mesh(path, lambda note: None, looks=False)
    except MeshError as error:
        raise input_error(path, expected, str(error).removeprefix(f"{path}: ")) from None
    used = np.zeros(len(mesh.vertices), bool)
    used[mesh.faces] = True
    vertices = np.where(used[:, None], mesh.vertices, np.nan)
    return Scan(torch.from_numpy(vertices), torch.from_numpy(mesh.faces.astype(np.int64)))


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
