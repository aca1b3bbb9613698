"""Mesh files for the command line: OBJ, PLY and GLB, read by trimesh."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .normals import vertex_normals
from .topology import Topology

SKIN = (0.56, 0.39, 0.31)  # linear albedo of a mesh that brings no colour


class MeshError(ValueError):
    """A mesh that cannot be used; the message is one sentence for its user."""


@dataclass(frozen=True)
class Mesh:
    vertices: Tensor  # [V,3]
    faces: Tensor  # int32 [F,3]
    normals: Tensor  # [V,3], unit
    colours: Tensor  # [V,3], linear
    uv: Tensor | None = None  # [V,2], (0, 0) at the lower left
    texture: Tensor | None = None  # [Ht,Wt,3], linear
    open: bool = False  # has a border, so its inside can be seen

    def to(self, device) -> "Mesh":
        tensors = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)


def load_mesh(path: Path) -> Mesh:
    """Reads a mesh.

    Raises:
        MeshError: the file is missing, of another kind, damaged, or holds no triangles.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if not path.is_file():
        raise MeshError(f"{path}: there is no such file")
    if kind not in (".obj", ".ply", ".glb"):
        raise MeshError(f"{path}: only .obj, .ply and .glb files can be read")
    if path.stat().st_size == 0:
        raise MeshError(f"{path}: the file is empty")
    try:
        import trimesh
    except ImportError:
        raise MeshError("reading meshes needs trimesh. Run: pip install trimesh") from None
    try:
        order = kind != ".obj"  # it would cost an OBJ its texture seams
        loaded = trimesh.load(path, process=False, maintain_order=order)
        loaded = _only_mesh(loaded) or trimesh.load(path, process=False, maintain_order=order, force="mesh")
    except Exception as error:  # whatever a parser throws at a damaged file
        raise MeshError(f"{path}: not a readable {kind[1:].upper()} file ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'})") from error
    faces = np.asarray(getattr(loaded, "faces", np.zeros((0, 3))))
    vertices = np.asarray(getattr(loaded, "vertices", np.zeros((0, 3))), np.float32)
    if len(faces) == 0 or len(vertices) == 0:
        raise MeshError(f"{path}: the file holds no triangles")
    if not np.isfinite(vertices).all():
        raise MeshError(f"{path}: a vertex is NaN or infinite")
    if np.abs(vertices).max() > 1e12:
        raise MeshError(f"{path}: a coordinate of {np.abs(vertices).max():.3g} is too large to draw; scale the mesh down")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise MeshError(f"{path}: a triangle names a vertex that is not there")
    colours, uv, texture = _appearance(loaded, len(vertices), linear=kind == ".glb")
    return make_mesh(torch.from_numpy(np.ascontiguousarray(vertices)), torch.from_numpy(faces.astype(np.int32)), colours, uv, texture)


def _only_mesh(loaded):
    """The mesh of a scene that holds one, in its place, with all its attributes (joining meshes keeps only those that trimesh knows); else None."""
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


def make_mesh(vertices: Tensor, faces: Tensor, colours: Tensor | None = None, uv: Tensor | None = None, texture: Tensor | None = None) -> Mesh:
    """A mesh with its normals. Vertices that share a position (a UV seam splits them) share a normal."""
    shared, where = torch.unique(vertices, dim=0, return_inverse=True)
    topology = Topology(where.int()[faces.long()], len(shared))
    normals = vertex_normals(shared[None], topology)[0][where]
    proper = (topology.faces[:, 0] != topology.faces[:, 1]) & (topology.faces[:, 1] != topology.faces[:, 2]) & (topology.faces[:, 2] != topology.faces[:, 0])
    if colours is None:
        colours = torch.ones(len(vertices), 3) if texture is not None else torch.tensor(SKIN).expand(len(vertices), 3).contiguous()
    return Mesh(vertices, faces, normals, colours, uv, texture, bool((topology.neighbours[proper] < 0).any()))


def _appearance(loaded, count, linear):
    """(colours [V,3] linear or None, uv [V,2] or None, texture [Ht,Wt,3] linear or None) of a trimesh.Trimesh. `linear`: the file's
    colours and factors are linear, as glTF has them, and only its textures are sRGB."""
    decode = torch.from_numpy if linear else _linear
    visual = loaded.visual
    uv = getattr(visual, "uv", None)
    image = _texture_image(getattr(visual, "material", None))
    beside = dict(getattr(visual, "vertex_attributes", {})).get("color")  # of a GLB whose primitive has a material too
    if image is None and beside is not None and len(beside) == count:
        return decode(np.ascontiguousarray(np.asarray(beside, np.float32)[:, :3] / (255 if np.asarray(beside).dtype == np.uint8 else 1))), None, None
    if uv is not None and image is not None and len(uv) == count:
        factor = getattr(visual.material, "baseColorFactor", None)
        tint = None if factor is None else decode(np.tile(np.asarray(factor, np.float32)[:3] / 255, (count, 1)))
        return tint, torch.from_numpy(np.asarray(uv, np.float32)), _linear(np.asarray(image.convert("RGB"), np.float32) / 255)
    if visual.kind in ("vertex", "face"):
        rgba = np.asarray(visual.vertex_colors, np.float32)
        if len(rgba) == count:
            return decode(np.ascontiguousarray(rgba[:, :3] / 255)), None, None
    material = getattr(visual, "material", None)
    factor = getattr(material, "baseColorFactor", None)
    if factor is None and image is None:
        factor = getattr(material, "diffuse", None)  # an OBJ material's Kd
    if factor is not None:
        return decode(np.tile(np.asarray(factor, np.float32)[:3] / 255, (count, 1))), None, None
    return None, None, None


def _texture_image(material):
    for name in ("baseColorTexture", "image"):
        if getattr(material, name, None) is not None:
            return getattr(material, name)
    return None


def _linear(srgb: np.ndarray) -> Tensor:
    return torch.from_numpy(np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32))
