"""Mesh files for the command line: OBJ, PLY and GLB, read by trimesh.

Importing this file needs torch and numpy alone; reading a mesh needs trimesh and pillow.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .color import to_linear_array
from .normals import vertex_normals
from .topology import Topology

SKIN = (0.56, 0.39, 0.31)  # linear albedo of a mesh that brings no color
PACKAGES = {"PIL": "pillow", "imageio.v3": "imageio"}  # module -> what pip calls it, where the two differ


class MeshError(ValueError):
    """A mesh, file or option that cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class Mesh:
    """A mesh to be drawn.

    Attributes:
        vertices: [V,3], in the file's unit.
        faces: int32 [F,3].
        normals: unit vectors [V,3]; zero where undefined.
        colours: linear albedo [V,3]; with a texture, its factor.
        uv: [V,2], (0, 0) at the lower left of the texture, or None.
        texture: linear [Ht,Wt,3], row 0 at the top, or None.
        open: whether the mesh has a border, so that its inside can be visible.
    """

    vertices: Tensor
    faces: Tensor
    normals: Tensor
    colours: Tensor
    uv: Tensor | None = None
    texture: Tensor | None = None
    open: bool = False

    def to(self, device: torch.device | str) -> "Mesh":
        """Return the mesh with its tensors on a device."""
        tensors: dict[str, Any] = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)


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
        missing = _package(error, module)
        raise MeshError(f"{purpose} needs {missing}. Run: pip install {missing}") from None


def _package(error: ImportError, module: str) -> str:
    """What to install after an ImportError: the module that it names, or the one that was asked for."""
    name = error.name or module
    return PACKAGES.get(name, name.split(".")[0])


def load_mesh(path: Path) -> Mesh:
    """Read a mesh.

    Args:
        path: OBJ, PLY or GLB file.

    Returns:
        The mesh, with the file's vertex colors or texture, or else the color of skin.

    Raises:
        MeshError: the file is missing, of another kind, damaged, or holds no triangles; or trimesh or pillow, which
            read it, is not installed.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if not path.is_file():
        raise MeshError(f"{path}: there is no such file")
    if kind not in (".obj", ".ply", ".glb"):
        raise MeshError(f"{path}: only .obj, .ply and .glb files can be read")
    if path.stat().st_size == 0:
        raise MeshError(f"{path}: the file is empty")
    need("PIL", "reading meshes")  # without it trimesh would leave textures out, and say nothing
    loaded = _load(need("trimesh", "reading meshes"), path)
    faces = np.asarray(getattr(loaded, "faces", np.zeros((0, 3))))
    vertices = np.asarray(getattr(loaded, "vertices", np.zeros((0, 3))), np.float32)
    if len(faces) == 0 or len(vertices) == 0:
        raise MeshError(f"{path}: the file holds no triangles")
    if not np.isfinite(vertices).all():
        raise MeshError(f"{path}: a vertex is NaN or infinite")
    largest = np.abs(vertices).max()
    if largest > 1e12:
        raise MeshError(f"{path}: a coordinate of {largest:.3g} is too large to draw; scale the mesh down")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise MeshError(f"{path}: a triangle names a vertex that does not exist")
    colours, uv, texture = _appearance(loaded, len(vertices), linear=kind == ".glb")
    index = torch.from_numpy(faces.astype(np.int32))
    return make_mesh(torch.from_numpy(np.ascontiguousarray(vertices)), index, colours, uv, texture)


def _load(trimesh: Any, path: Path) -> Any:
    """The file as trimesh has it."""
    kind = path.suffix.lower()
    order = kind != ".obj"  # keeping the order of vertices would cost an OBJ its texture seams
    try:
        loaded = trimesh.load(path, process=False, maintain_order=order)
        return _only_mesh(loaded) or trimesh.load(path, process=False, maintain_order=order, force="mesh")
    except ImportError as error:
        missing = _package(error, "trimesh")
        raise MeshError(f"{path}: reading this file needs {missing}. Run: pip install {missing}") from error
    except Exception as error:  # whatever a parser throws at a damaged file
        reason = str(error).splitlines()[0] if str(error) else "no details"
        what = f"not a readable {kind[1:].upper()} file"
        raise MeshError(f"{path}: {what} ({type(error).__name__}: {reason})") from error


def _only_mesh(loaded: Any) -> Any:
    """The mesh of a scene that holds one, in its place, with all its attributes; else None.

    Joining the meshes of a scene keeps only the attributes that trimesh knows.
    """
    if not hasattr(loaded, "geometry"):
        return loaded if hasattr(loaded, "faces") else None
    if len(loaded.geometry) != 1 or len(loaded.graph.nodes_geometry) != 1:
        return None
    matrix, name = loaded.graph[loaded.graph.nodes_geometry[0]]
    mesh = loaded.geometry[name]
    if not hasattr(mesh, "faces"):
        return None
    mesh.apply_transform(matrix)
    return mesh


def make_mesh(
    vertices: Tensor,
    faces: Tensor,
    colours: Tensor | None = None,
    uv: Tensor | None = None,
    texture: Tensor | None = None,
) -> Mesh:
    """Make a mesh with its normals. Vertices that share a position (a UV seam splits them) share a normal.

    Args:
        vertices: float32 [V,3].
        faces: int32 [F,3].
        colours: linear albedo [V,3]; None is white with a texture, and the color of skin without.
        uv: [V,2], (0, 0) at the lower left of the texture.
        texture: linear [Ht,Wt,3].

    Returns:
        The mesh.
    """
    shared, where = torch.unique(vertices, dim=0, return_inverse=True)
    topology = Topology(where.int()[faces.long()], len(shared))
    normals = vertex_normals(shared[None], topology)[0][where]
    a, b, c = topology.faces.unbind(1)
    proper = (a != b) & (b != c) & (c != a)
    if colours is None:
        plain = torch.ones(3) if texture is not None else torch.tensor(SKIN)
        colours = plain.expand(len(vertices), 3).contiguous()
    return Mesh(vertices, faces, normals, colours, uv, texture, bool((topology.neighbours[proper] < 0).any()))


def _appearance(loaded: Any, count: int, linear: bool) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The look of a mesh.

    Args:
        loaded: a trimesh.Trimesh.
        count: V.
        linear: the file's colors and factors are linear, as glTF has them, and only its textures are sRGB.

    Returns:
        Colors [V,3], linear, or None; uv [V,2] or None; texture [Ht,Wt,3], linear, or None.
    """
    decode: Callable[[np.ndarray], Tensor] = torch.from_numpy if linear else _linear
    visual = loaded.visual
    uv = getattr(visual, "uv", None)
    image = _texture_image(getattr(visual, "material", None))
    # a GLB whose primitive has a material too keeps its vertex colors here
    attribute = dict(getattr(visual, "vertex_attributes", {})).get("color")
    if image is None and attribute is not None and len(attribute) == count:
        largest = 255 if np.asarray(attribute).dtype == np.uint8 else 1
        rgb = np.asarray(attribute, np.float32)[:, :3] / largest
        return decode(np.ascontiguousarray(rgb)), None, None
    if uv is not None and image is not None and len(uv) == count:
        factor = getattr(visual.material, "baseColorFactor", None)
        tint = None if factor is None else decode(_repeated(factor, count))
        pixels = np.asarray(image.convert("RGB"), np.float32) / 255
        return tint, torch.from_numpy(np.asarray(uv, np.float32)), _linear(pixels)
    if visual.kind in ("vertex", "face"):
        rgba = np.asarray(visual.vertex_colors, np.float32)
        if len(rgba) == count:
            return decode(np.ascontiguousarray(rgba[:, :3] / 255)), None, None
    material = getattr(visual, "material", None)
    factor = getattr(material, "baseColorFactor", None)
    if factor is None and image is None:
        factor = getattr(material, "diffuse", None)  # an OBJ material's Kd
    if factor is not None:
        return decode(_repeated(factor, count)), None, None
    return None, None, None


def _repeated(factor: Any, count: int) -> np.ndarray:
    """A color of bytes as float32 [count,3] in 0..1."""
    return np.tile(np.asarray(factor, np.float32)[:3] / 255, (count, 1))


def _texture_image(material: Any) -> Any:
    """The image (PIL) of a material's base color, or None."""
    for name in ("baseColorTexture", "image"):
        if getattr(material, name, None) is not None:
            return getattr(material, name)
    return None


def _linear(srgb: np.ndarray) -> Tensor:
    return torch.from_numpy(to_linear_array(srgb))
