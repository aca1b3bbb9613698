"""What can be computed once per face list: adjacency, and an order that suits caches."""

from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ._checks import brief, check_tensor


class Topology:
    """The connections of a mesh, on one device.

    They are computed on the CPU. If the faces are on a GPU, the constructor waits until they have been copied from it.

    Attributes:
        faces: int32 [F,3], vertex indices of each face.
        num_vertices: V.
        offsets: int32 [V+1]. Corners of vertex v are ``corners[offsets[v] : offsets[v + 1]]``.
        corners: int32 [3F]. Corner c is corner ``c % 3`` of face ``c // 3``.
        neighbours: int32 [F,3], the face across the edge opposite each corner; -1 at a border and where more than two
            faces meet.
    """

    faces: Tensor
    num_vertices: int
    offsets: Tensor
    corners: Tensor
    neighbours: Tensor

    def __init__(self, faces: Tensor, num_vertices: int) -> None:
        """Build the adjacency of a face list.

        Args:
            faces: int32 [F,3], vertex indices of each face, on any device.
            num_vertices: V, the number of vertices of the mesh.

        Raises:
            TypeError: `faces` is no int32 tensor.
            ValueError: `faces` is not [F,3] or holds an index outside 0..V-1, or `num_vertices` is no count.
        """
        check_tensor("faces", faces, ("F", 3), (torch.int32,))
        if not isinstance(num_vertices, (int, np.integer)) or num_vertices < 0:
            raise ValueError(f"num_vertices must be a count, got {brief(num_vertices)}")
        self.faces, self.num_vertices = faces.contiguous(), int(num_vertices)
        host = self.faces.detach().cpu()
        if host.numel() and (host.min() < 0 or host.max() >= self.num_vertices):
            raise ValueError(
                f"faces must hold indices in 0..{self.num_vertices - 1} for {self.num_vertices} vertices, "
                f"got {int(host.min())}..{int(host.max())}"
            )
        offsets, corners = torch.ops.facerender.vertex_corners(host, self.num_vertices)
        self.offsets, self.corners = offsets.to(faces.device), corners.to(faces.device)
        self.neighbours = torch.ops.facerender.face_neighbours(host).to(faces.device)

    @property
    def device(self) -> torch.device:
        """The device of all four tensors."""
        return self.faces.device

    def to(self, device: torch.device | str) -> "Topology":
        """Return a copy on another device, or this one if it is there already."""
        if self.faces.to(device) is self.faces:
            return self
        other = object.__new__(Topology)
        other.num_vertices = self.num_vertices
        for name in ("faces", "offsets", "corners", "neighbours"):
            setattr(other, name, getattr(self, name).to(device))
        return other

    def __repr__(self) -> str:
        """Show the sizes and the device."""
        return f"Topology(F={self.faces.shape[0]}, V={self.num_vertices}, device={self.device})"


#: What every op takes as its argument `faces`: vertex indices int32 [F,3], or the `Topology` of the mesh. Ops that need
#: adjacency (`vertex_normals`, `edge_gradients`) build a `Topology` at each call that gets a tensor.
Faces: TypeAlias = Tensor | Topology


def locality_order(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find an order of vertices and faces in which neighbors in space are neighbors in memory.

    Caches then serve every op better. Both orders follow a Morton curve through the shape. Worth it for meshes whose
    order is arbitrary (subdivided, merged, decimated).

    Args:
        vertices: float [V,3], any shape of the model, for example the mean.
        faces: int32 [F,3].

    Returns:
        Vertex order int64 [V], face order int64 [F], and reordered faces int32 [F,3]: ``vertices[vertex_order]`` with
        the returned faces is the same mesh, and ``face_order[face_id]`` gives indices into the old list. A face keeps
        the order of its corners.

    Raises:
        TypeError: an argument has the wrong dtype.
        ValueError: a shape is wrong, a vertex is not finite, or an index is out of range.
    """
    check_tensor("vertices", vertices, ("V", 3), (torch.float32, torch.float64))
    check_tensor("faces", faces, ("F", 3), (torch.int32,))
    v, f = vertices.detach().cpu().numpy().astype(np.float64), faces.detach().cpu().numpy()
    if not np.isfinite(v).all():
        raise ValueError("vertices must be finite")
    if f.size and (f.min() < 0 or f.max() >= len(v)):
        raise ValueError(f"faces must hold indices in 0..{len(v) - 1}, got {f.min()}..{f.max()}")
    vertex_order = _morton_order(v)
    rank = np.empty(len(v), np.int32)
    rank[vertex_order] = np.arange(len(v), dtype=np.int32)
    face_order = _morton_order(v[f].mean(1)) if len(f) else np.zeros(0, np.int64)
    reordered = rank[f[face_order]] if len(f) else f

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(faces.device)

    return tensor(vertex_order), tensor(face_order), tensor(reordered.astype(np.int32))


def _morton_order(points: np.ndarray) -> np.ndarray:
    """Return the order int64 [P] of points float64 [P,3] along a Morton curve."""
    return torch.ops.facerender.morton_order(torch.from_numpy(points)).numpy()


def faces_of(faces: Faces, num_vertices: int | None = None) -> Tensor:
    """Return the face list of a `Topology`, whose mesh must have `num_vertices`, or a face list itself."""
    if not isinstance(faces, Topology):
        return faces
    return topology_of(faces, faces.num_vertices if num_vertices is None else num_vertices).faces


def topology_of(faces: Faces, num_vertices: int) -> Topology:
    """Return a `Topology`, whose mesh must have `num_vertices`, or build that of a face list."""
    topology = faces if isinstance(faces, Topology) else Topology(faces, num_vertices)
    if topology.num_vertices != num_vertices:
        raise ValueError(f"faces must be those of a mesh with {num_vertices} vertices, got {topology}")
    return topology


@torch.library.register_fake("facerender::vertex_corners")
def _vertex_corners_fake(faces: Tensor, num_vertices: int) -> tuple[Tensor, Tensor]:
    return faces.new_empty(num_vertices + 1), faces.new_empty(faces.numel())


@torch.library.register_fake("facerender::face_neighbours")
def _face_neighbours_fake(faces: Tensor) -> Tensor:
    return faces.new_empty(faces.shape)


@torch.library.register_fake("facerender::morton_order")
def _morton_order_fake(points: Tensor) -> Tensor:
    return points.new_empty(points.shape[0], dtype=torch.int64)
