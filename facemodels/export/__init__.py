"""Meshes out: OBJ with its material and texture, PLY, GLB with morph targets, and a viewer in one HTML file.

`mesh_of` makes a `Mesh` of a morphable model and its coefficients, `bake_albedo` a texture of its colours, and `write` any of the files, by its
suffix. Every file is written whole or not at all.
"""

from pathlib import Path

from facemodels.core.errors import InputError
from facemodels.export.gltf import write_glb
from facemodels.export.mesh import Mesh, bake_albedo, mesh_of
from facemodels.export.obj import write_obj
from facemodels.export.ply import write_ply
from facemodels.export.viewer import write_html

__all__ = ["Mesh", "bake_albedo", "mesh_of", "write", "write_glb", "write_html", "write_obj", "write_ply"]

SUFFIXES = (".obj", ".ply", ".glb", ".html")


def write(path: str | Path, mesh: Mesh, unit: str | None = None, axes: str = "y-up"):
    """Writes a mesh as its path's suffix says: .obj, .ply, .glb or .html.

    unit: "mm", "cm" or "m"; None is the format's own (GLB metres, the others millimetres). axes: "y-up", or "z-up" (the face then looks
    along -y, as Blender has it). The viewer always shows millimetres and y up.

    Raises:
        InputError: another suffix, unit or axes; a folder that does not exist.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".obj":
        write_obj(path, mesh, unit or "mm", axes)
    elif suffix == ".ply":
        write_ply(path, mesh, unit or "mm", axes)
    elif suffix == ".glb":
        write_glb(path, mesh, unit or "m", axes)
    elif suffix == ".html":
        write_html(path, mesh)
    else:
        raise InputError(
            f"{path}: meshes are written as {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}; give the file one of these suffixes"
        )
