"""What all readers of mesh files share: what they return (`ParsedMesh`), errors, colors, triangles of polygons."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from .._checks import brief_repr
from ..color import to_linear_array

PACKAGES = {"PIL": "pillow", "imageio.v3": "imageio"}  # module -> what pip calls it, where the two differ

Say = Callable[[str], None]  # takes one sentence about what could not be read as the file has it


class MeshError(ValueError):
    """A mesh, file or option that cannot be used; the message is one sentence for the user."""


class MeshWarning(UserWarning):
    """Something that a mesh file names and that is left out, such as a texture that is not there."""


@brief_repr
class Texture(NamedTuple):
    """A picture on a mesh.

    Attributes:
        image: linear float32 [Ht,Wt,3], row 0 at the top.
        wrap: what lies outside 0..1 along u and v: "repeat", "clamp" or "mirror".
    """

    image: Tensor
    wrap: tuple[str, str] = ("repeat", "repeat")


class Look(NamedTuple):
    """A material.

    Attributes:
        color: linear RGB; None for the vertices' colors.
        texture: multiplied by the color, by white where the color is None and vertices have none.
        plain: linear RGB of triangles without texture coordinates, where there is a texture.
    """

    color: tuple[float, float, float] | None = None
    texture: Texture | None = None
    plain: tuple[float, float, float] | None = None


@brief_repr
@dataclass
class ParsedMesh:
    """A mesh as its file has it.

    Attributes:
        vertices: float64 [V,3].
        faces: integer [F,3].
        colours: linear float32 [V,3], or None.
        uv: [T,2], (0, 0) at the lower left of the texture, or None.
        uv_faces: integer [F,3], indices into uv, -1 for none; None where those of the vertices hold.
        looks: materials.
        look_of_face: integer [F], indices into looks, -1 for none; None if the first look, if any, holds for all.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray | None = None
    uv: np.ndarray | None = None
    uv_faces: np.ndarray | None = None
    looks: list[Look] = field(default_factory=list)
    look_of_face: np.ndarray | None = None


def need(module: str, purpose: str) -> Any:
    """Import a module of a package that the renderer itself does without.

    Args:
        module: its name.
        purpose: what needs it, as the subject of the error's sentence.

    Returns:
        The module.

    Raises:
        MeshError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = error.name or module
        missing = PACKAGES.get(name, name.split(".")[0])
        raise MeshError(f"{purpose} needs {missing}. Run: pip install {missing}") from None


def color_scale(values: np.ndarray) -> float:
    """The largest value that colors of this type can have, where a file's format does not say it.

    Floats are in 0..1 (or a little above, by rounding), 0..255 or 0..65535; integers of more than a byte in 0..255 or
    0..65535.
    """
    largest = float(np.nanmax(values, initial=0))
    if values.dtype.kind == "f" and largest < 2:
        return 1.0
    return 255.0 if largest <= 255 else 65535.0


def linear_colors(srgb: np.ndarray) -> np.ndarray:
    """sRGB colors of any type and range as linear float32; NaN becomes 0."""
    if srgb.dtype.kind in "iu" and srgb.dtype.itemsize == 1:
        table = to_linear_array(np.arange(256, dtype=np.float32) / 255)
        return table[srgb.astype(np.uint8, copy=False)]
    return to_linear_array(np.clip(np.nan_to_num(srgb / color_scale(srgb)), 0, 1).astype(np.float32))


def fan(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split polygons into fans of triangles.

    Args:
        counts: [P], corners of each polygon; their corners follow each other.

    Returns:
        int64 [F,3], indices of corners; int64 [F], the polygon of each triangle.
    """
    pieces = np.maximum(counts.astype(np.int64) - 2, 0)
    polygon = np.repeat(np.arange(len(counts)), pieces)
    first = (np.cumsum(counts, dtype=np.int64) - counts)[polygon]
    step = np.arange(len(polygon)) - (np.cumsum(pieces) - pieces)[polygon]
    return np.stack([first, first + step + 1, first + step + 2], 1), polygon


def strip(index: np.ndarray) -> np.ndarray:
    """Triangles [F,3] of a strip's indices [n]; a negative index begins another strip.

    Every second triangle is turned over. Triangles without area, which join strips, are left out.
    """
    if len(index) < 3:
        return np.zeros((0, 3), index.dtype)
    place = np.arange(len(index))
    begin = np.maximum.accumulate(np.where(index < 0, place + 1, 0))[:-2]  # of the strip
    a, b, c = index[:-2], index[1:-1], index[2:]
    odd = (place[:-2] - begin) % 2 == 1
    triangles = np.stack([np.where(odd, b, a), np.where(odd, a, b), c], 1)
    return triangles[(a >= 0) & (b >= 0) & (c >= 0) & (a != b) & (b != c) & (c != a)]
