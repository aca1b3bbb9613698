"""A mesh that is ready to be drawn: `Mesh`, with its normals by `make_mesh`, and its colors by `mesh_albedo`."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._checks import brief_repr
from ..interpolate import interpolate
from ..normals import vertex_normals
from ..rasterize import Fragments
from ..texture import sample_texture
from ..topology import Topology
from .parsed import Texture

SKIN = (0.56, 0.39, 0.31)  # linear albedo of a mesh that brings no color


@brief_repr
@dataclass(frozen=True)
class Mesh:
    """A mesh to be drawn.

    Attributes:
        vertices: [V,3], in the file's unit.
        faces: int32 [F,3].
        normals: unit vectors [V,3]; zero where undefined.
        colours: linear albedo [V,3]; where there is a texture, its factor.
        uv: [V,2], (0, 0) at the lower left of the texture, or None.
        textures: the pictures.
        texture_of_face: int64 [F], indices into textures, -1 for none; None if the first one, if any, is on all faces.
        open: whether the mesh has a border, so that its inside can be visible.
        origin: the point of the file's coordinates that is (0, 0, 0) in `vertices`. It is (0, 0, 0) itself, unless
            float32 could not hold the file's coordinates.
    """

    vertices: Tensor
    faces: Tensor
    normals: Tensor
    colours: Tensor
    uv: Tensor | None = None
    textures: tuple[Texture, ...] = ()
    texture_of_face: Tensor | None = None
    open: bool = False
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def texture(self) -> Tensor | None:
        """The first texture's picture, linear [Ht,Wt,3], or None."""
        return self.textures[0].image if self.textures else None

    def to(self, device: torch.device | str) -> "Mesh":
        """Return the mesh with its tensors on a device."""
        tensors: dict[str, Any] = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        textures = tuple(texture._replace(image=texture.image.to(device)) for texture in self.textures)
        return replace(self, textures=textures, **tensors)


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
        texture: linear [Ht,Wt,3]; it repeats outside 0..1.

    Returns:
        The mesh.
    """
    first, where = _same_places(vertices)
    shared = vertices if first is None else vertices[first]
    topology = Topology(faces if where is None else where.int()[faces.long()], len(shared))
    # Squares of tiny or huge coordinates are beyond float32; a power of two changes nothing else.
    largest = float(shared.abs().max()) if len(shared) else 0.0
    unit = shared.new_tensor(2.0 ** -math.frexp(largest)[1]) if math.isfinite(largest) else shared.new_tensor(1.0)
    normals = vertex_normals(shared[None] * unit, topology)[0]
    a, b, c = topology.faces.unbind(1)
    proper = (a != b) & (b != c) & (c != a)
    if colours is None:
        plain = torch.ones(3) if texture is not None else torch.tensor(SKIN)
        colours = plain.expand(len(vertices), 3).contiguous()
    return Mesh(
        vertices,
        faces,
        normals if where is None else normals[where],
        colours,
        uv,
        () if texture is None else (Texture(texture),),
        open=bool((topology.neighbours[proper] < 0).any()),
    )


def _same_places(vertices: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Vertices at the same place: the first of each place [U], and the place of each vertex [V]; None if all differ."""
    points = np.ascontiguousarray(vertices.detach().cpu().numpy(), np.float32) + np.float32(0)  # -0 becomes 0
    bits = points.view(np.uint32).astype(np.uint64)
    key = bits[:, 0] * np.uint64(0x9E3779B97F4A7C15)
    for column in (1, 2):
        key = ((key ^ (key >> np.uint64(29))) + bits[:, column]) * np.uint64(0xBF58476D1CE4E5B9 + 2 * column)
    _, first, where = np.unique(key, return_index=True, return_inverse=True)
    if len(first) == len(points):
        return None, None
    if not (points[first][where] == points).all():  # two places have the same key
        _, found = torch.unique(vertices, dim=0, return_inverse=True)
        _, first, where = np.unique(found.cpu().numpy(), return_index=True, return_inverse=True)
    order = np.argsort(first)  # keeps neighbors in memory together
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return torch.from_numpy(first[order]).to(vertices.device), torch.from_numpy(rank[where]).to(vertices.device)


def mesh_albedo(mesh: Mesh, fragments: Fragments) -> Tensor:
    """Linear albedo [N,H,W,3] of a mesh's fragments: vertex colors, times the texture where there is one; 0 outside."""
    color = interpolate(mesh.colours[None], mesh.faces, fragments)
    if mesh.uv is None or not mesh.textures:
        return color
    uv = interpolate(mesh.uv[None], mesh.faces, fragments)
    if mesh.texture_of_face is None:
        return color * _look_up(mesh.textures[0], uv)
    hit = fragments.face_id >= 0
    number = torch.where(hit, mesh.texture_of_face[fragments.face_id.clamp(min=0).long()], -1)
    for k, texture in enumerate(mesh.textures):
        here = number == k
        if here.any():
            color[here] = color[here] * _look_up(texture, uv[here][None])[0]
    return color


def _look_up(texture: Texture, uv: Tensor) -> Tensor:
    if texture.wrap != ("repeat", "repeat"):
        columns = []
        for a, wrap, side in zip(uv.unbind(-1), texture.wrap, reversed(texture.image.shape[:2])):
            if wrap == "mirror":
                a = 1 - (a - 2 * (a / 2).floor() - 1).abs()
            if wrap != "repeat":
                a = a.clamp(0.5 / side, 1 - 0.5 / side)  # nothing from the opposite border
            columns.append(a)
        uv = torch.stack(columns, -1)
    return sample_texture(texture.image[None].expand(len(uv), -1, -1, -1), uv, wrap="repeat")
