"""Binary PLY files."""

from pathlib import Path

import numpy as np
import torch

import facerender as fr
from facemodels.export.files import convert_axes, srgb_bytes, unit_scale
from facemodels.export.mesh import Mesh, posed, posed_normals, split_seams
from facemodels.io.files import write_atomically

KINDS = {"float": "<f4", "uchar": "u1"}


def write_ply(path: str | Path, mesh: Mesh, unit: str = "mm", axes: str = "y-up") -> None:
    """Write a binary little-endian PLY.

    It has positions with the morph targets applied at their weights, normals, sRGB vertex colors (looked up in the
    texture for a mesh without any), and the error, where there is one, as "quality" in the file's unit.

    Args:
        path: the file.
        mesh: the mesh.
        unit: "mm", "cm" or "m".
        axes: "y-up" or "z-up".

    Raises:
        InputError: another unit or axes; a folder that does not exist.
    """
    columns: list[tuple[str, str, np.ndarray]] = [
        (name, "float", values)
        for name, values in zip(("x", "y", "z"), (convert_axes(posed(mesh) * unit_scale(unit), axes)).T)
    ]
    columns += [
        (name, "float", values) for name, values in zip(("nx", "ny", "nz"), convert_axes(posed_normals(mesh), axes).T)
    ]
    colors = _vertex_colors(mesh)
    if colors is not None:
        columns += [(name, "uchar", values) for name, values in zip(("red", "green", "blue"), srgb_bytes(colors).T)]
    if mesh.error is not None:
        columns.append(("quality", "float", mesh.error * unit_scale(unit)))
    table = np.empty(len(mesh.vertices), [(name, KINDS[word]) for name, word, _ in columns])
    for name, _, values in columns:
        table[name] = values
    triangles = np.empty(len(mesh.faces), [("count", "u1"), ("index", "<i4", 3)])
    triangles["count"], triangles["index"] = 3, mesh.faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment unit {unit}, axes {axes}",
        f"element vertex {len(table)}",
        *(f"property {word} {name}" for name, word, _ in columns),
        f"element face {len(mesh.faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    write_atomically({Path(path): "\n".join(header).encode() + table.tobytes() + triangles.tobytes()})


def _vertex_colors(mesh: Mesh) -> np.ndarray | None:
    if mesh.colours is not None or mesh.texture is None:
        return mesh.colours
    uv = torch.from_numpy(split_seams(mesh)[1][: len(mesh.vertices)])
    return fr.sample_texture(torch.from_numpy(mesh.texture)[None], uv[None])[0].numpy()
