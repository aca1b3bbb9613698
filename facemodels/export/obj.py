"""Wavefront OBJ, with its material and texture beside it."""

from pathlib import Path

import numpy as np

from facemodels.export.files import convert_axes, encode_image, srgb_bytes, unit_scale
from facemodels.export.mesh import Mesh, posed, posed_normals
from facemodels.io.files import write_atomically

DECIMALS = {"mm": 4, "cm": 5, "m": 7}  # a tenth of a micrometer


def write_obj(path: str | Path, mesh: Mesh, unit: str = "mm", axes: str = "y-up") -> None:
    """Write NAME.obj and, with a texture, NAME.mtl and NAME_skin.png. Morph targets are applied at their weights.

    Without a texture, vertex colors follow the coordinates as sRGB in 0..1 (an extension that MeshLab, Blender and
    trimesh read), and texture coordinates are left out: readers would take a mesh with both for a textured one. Vertex
    order and count are the mesh's: seams have texture coordinates of their own.

    Args:
        path: NAME.obj.
        mesh: the mesh.
        unit: "mm", "cm" or "m".
        axes: "y-up" or "z-up".

    Raises:
        InputError: another unit or axes; a folder that does not exist.
    """
    path = Path(path)
    vertices = convert_axes(posed(mesh) * unit_scale(unit), axes)
    number = f"%.{DECIMALS[unit]}f"
    coordinates = f"{number} {number} {number}"
    files: dict[Path, bytes] = {}
    text = [f"# {' '.join(mesh.name.split())}, {unit}, {axes}\n"]
    if mesh.texture is not None:
        material, image = texture_files(path)
        files[image] = encode_image(mesh.texture, "PNG")
        files[material] = (
            f"newmtl skin\nKa 0 0 0\nKd 1 1 1\nKs 0.04 0.04 0.04\nNs 20\nillum 2\nmap_Kd {image.name}\n".encode()
        )
        text.append(f"mtllib {material.name}\nusemtl skin\n")
    vertex_colors = mesh.colours if mesh.texture is None else None
    if vertex_colors is not None:
        text.append(
            _lines(f"v {coordinates} %.4f %.4f %.4f\n", np.concatenate([vertices, srgb_bytes(vertex_colors) / 255], 1))
        )
    else:
        text.append(_lines(f"v {coordinates}\n", vertices))
    text.append(_lines("vn %.4f %.4f %.4f\n", convert_axes(posed_normals(mesh), axes)))
    if mesh.uv is None or mesh.uv_faces is None or vertex_colors is not None:
        text.append(_lines("f %d//%d %d//%d %d//%d\n", np.repeat(mesh.faces + 1, 2, axis=1)))
    else:
        text.append(_lines("vt %.6f %.6f\n", mesh.uv))
        text.append(
            _lines(
                "f %d/%d/%d %d/%d/%d %d/%d/%d\n",
                np.stack([mesh.faces, mesh.uv_faces, mesh.faces], -1).reshape(-1, 9) + 1,
            )
        )
    files[path] = "".join(text).encode()
    write_atomically(files)


def texture_files(path: Path) -> tuple[Path, Path]:
    """The files of the material and of the texture that lie beside an OBJ."""
    return path.with_suffix(".mtl"), path.with_name(path.stem + "_skin.png")


def _lines(form: str, rows: np.ndarray) -> str:
    # One format string for all rows is ten times as fast as a loop over them or numpy.savetxt.
    return (form * len(rows)) % tuple(rows.ravel().tolist())
