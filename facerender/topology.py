"""What can be computed once per face list."""

import numpy as np
import torch
from torch import Tensor

from . import _host
from ._checks import check_tensor


class Topology:
    """The connections of a mesh, on one device.

    Args:
        faces: [F,3] int32.
        num_vertices: V.

    Attributes:
        faces: [F,3] int32.
        num_vertices: V.
        offsets, corners: int32 [V+1] and [3F]: vertex v is corner ``c % 3`` of face ``c // 3`` for each c in
            ``corners[offsets[v] : offsets[v + 1]]``.
        neighbours: int32 [F,3]: the face across the edge opposite each corner; -1 at a border and where more than two faces meet.

    Raises:
        TypeError, ValueError: faces is not an int32 tensor [F,3], or holds an index outside 0..V-1.
    """

    def __init__(self, faces: Tensor, num_vertices: int):
        check_tensor("faces", faces, ("F", 3), (torch.int32,))
        if not isinstance(num_vertices, (int, np.integer)) or num_vertices < 0:
            raise ValueError(f"num_vertices must be a count, got {num_vertices!r}")
        self.faces, self.num_vertices = faces.contiguous(), int(num_vertices)
        host = self.faces.detach().cpu().numpy()
        if host.size and (host.min() < 0 or host.max() >= self.num_vertices):
            raise ValueError(f"faces must hold indices in 0..{self.num_vertices - 1} for {self.num_vertices} vertices, got {host.min()}..{host.max()}")
        offsets, corners = _host.vertex_corners(host, self.num_vertices)
        self.offsets = torch.from_numpy(offsets).to(faces.device)
        self.corners = torch.from_numpy(corners).to(faces.device)
        self.neighbours = torch.from_numpy(_host.face_neighbours(host)).to(faces.device)

    @property
    def device(self) -> torch.device:
        return self.faces.device

    def to(self, device) -> "Topology":
        """A copy on another device; this one if it is there already."""
        if self.faces.to(device) is self.faces:
            return self
        other = object.__new__(Topology)
        other.num_vertices = self.num_vertices
        for name in ("faces", "offsets", "corners", "neighbours"):
            setattr(other, name, getattr(self, name).to(device))
        return other

    def __repr__(self) -> str:
        return f"Topology(F={self.faces.shape[0]}, V={self.num_vertices}, device={self.device})"


def locality_order(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """An order of vertices and faces in which neighbours in space are neighbours in memory: caches then serve every op better.

    Both follow a Morton curve through the mean shape. Worth it for meshes whose order is arbitrary (subdivided, merged, decimated).

    Args:
        vertices: [V,3], any shape of the model, the mean say.
        faces: [F,3] int32.

    Returns:
        (vertex_order int64 [V], face_order int64 [F], faces int32 [F,3]): ``vertices[vertex_order]`` with the returned faces is the same
        mesh; ``face_order[face_id]`` gives ids of the old list. A face keeps its corners' order.
    """
    check_tensor("vertices", vertices, ("V", 3), (torch.float32, torch.float64))
    check_tensor("faces", faces, ("F", 3), (torch.int32,))
    v, f = vertices.detach().cpu().numpy().astype(np.float64), faces.detach().cpu().numpy()
    if not np.isfinite(v).all():
        raise ValueError("vertices must be finite")
    if f.size and (f.min() < 0 or f.max() >= len(v)):
        raise ValueError(f"faces must hold indices in 0..{len(v) - 1}, got {f.min()}..{f.max()}")
    vertex_order = _host.morton_order(v)
    rank = np.empty(len(v), np.int32)
    rank[vertex_order] = np.arange(len(v), dtype=np.int32)
    face_order = _host.morton_order(v[f].mean(1)) if len(f) else np.zeros(0, np.int64)
    reordered = rank[f[face_order]] if len(f) else f
    return tuple(torch.from_numpy(np.ascontiguousarray(a)).to(faces.device) for a in (vertex_order, face_order, reordered.astype(np.int32)))


def faces_of(faces, num_vertices: int | None = None) -> Tensor:
    """The face list of a Topology, whose mesh must have `num_vertices`; or faces themselves."""
    if not isinstance(faces, Topology):
        return faces
    return topology_of(faces, faces.num_vertices if num_vertices is None else num_vertices).faces


def topology_of(topology, num_vertices: int) -> Topology:
    if not isinstance(topology, Topology):
        topology = Topology(topology, num_vertices)
    if topology.num_vertices != num_vertices:
        raise ValueError(f"topology must be that of a mesh with {num_vertices} vertices, got {topology}")
    return topology
