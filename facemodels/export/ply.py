"""PLY, binary."""

from pathlib import Path

import numpy as np
import torch

import facerender as fr
from facemodels.export.files import srgb_bytes, turned, unit_scale
from facemodels.export.mesh import Mesh, posed, posed_normals, split_seams
from facemodels.io.files import write_atomically

KINDS = {"float": "<f4", "uchar": "u1"}


def write_ply(path: str | Path, mesh: Mesh, unit: str = "mm", axes: str = "y-up"):
    """Writes a binary little-endian PLY: positions with the morph targets at their weights, normals, sRGB colours (looked up in the
    texture for a mesh without any), and the error as "quality", in the file's unit, where there is one."""
    columns = [
        (name, "float", values)
        for name, values in zip(("x", "y", "z"), (turned(posed(mesh) * unit_scale(unit), axes)).T)
    ]
    columns += [
        (name, "float", values) for name, values in zip(("nx", "ny", "nz"), turned(posed_normals(mesh), axes).T)
    ]
    colours = _colours(mesh)
    if colours is not None:
        columns += [(name, "uchar", values) for name, values in zip(("red", "green", "blue"), srgb_bytes(colours).T)]
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


def _colours(mesh):
    if mesh.colours is not None or mesh.texture is None:
        return mesh.colours
    uv = torch.from_numpy(split_seams(mesh)[1][: len(mesh.vertices)])
    return fr.sample_texture(torch.from_numpy(mesh.texture)[None], uv[None])[0].numpy()
