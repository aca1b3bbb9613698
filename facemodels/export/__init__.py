"""Writing meshes: `mesh_of` makes a `Mesh` of a morphable model, `write` writes it as its path's suffix says.

* `mesh`: `Mesh`, made of a model by `mesh_of`; a texture of the model's colors by `bake_albedo`
* `obj`: Wavefront OBJ, with its material and texture
* `ply`: binary PLY
* `gltf`: glTF 2.0 in one binary file (GLB), with morph targets
* `viewer`: an interactive viewer in one HTML file, made of viewer.html, viewer.css and viewer.js
* `files`: what the writers share: units, axes, image encoding

Every file is written completely or not at all.
"""

from pathlib import Path

from facemodels.core.errors import InputError
from facemodels.export.files import axes_of
from facemodels.export.gltf import write_glb
from facemodels.export.mesh import Mesh, bake_albedo, mesh_of
from facemodels.export.obj import write_obj
from facemodels.export.ply import write_ply
from facemodels.export.viewer import write_html

__all__ = ["Mesh", "bake_albedo", "mesh_of", "write", "write_glb", "write_html", "write_obj", "write_ply"]

SUFFIXES = (".obj", ".ply", ".glb", ".html")


def write(path: str | Path, mesh: Mesh, unit: str | None = None, axes: str = "y-up") -> None:
    """Write a mesh in the format of the path's suffix: .obj, .ply, .glb or .html.

    Args:
        path: the file.
        mesh: the mesh.
        unit: "mm", "cm" or "m"; None for the format's own: meters for GLB, millimeters for the others. The viewer
            always shows millimeters.
        axes: "y-up"; "z-up": the face then looks along -y; or "blender": z-up for PLY and y-up for the others, which
            all stand upright in Blender. The viewer always has y up.

    Raises:
        InputError: another suffix, unit or axes; a folder that does not exist.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.parent.is_dir():  # before the work, and by the file that was asked for: an OBJ is several files
        raise InputError(f"{path}: the folder {path.parent} does not exist")
    if not isinstance(mesh, Mesh):
        made = " (face.mesh() makes one)" if hasattr(mesh, "mesh") else " (mesh_of makes one of a model)"
        raise InputError(f"{path}: expected a mesh{made}, got {type(mesh).__name__}")
    axes = axes_of(suffix, axes)
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
            f"{path}: meshes are written as {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}; "
            "give the file one of these suffixes"
        )
