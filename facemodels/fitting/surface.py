"""Triangle meshes that are matched to each other: closest points, borders, samples."""

import torch
from torch import Tensor

import facerender as fr
from facemodels.core.surface import Closest, ClosestPoints, interpolate_faces


class Surface:
    """A triangle mesh for closest-point searches that knows its borders.

    Args:
        vertices: [V,3].
        topology: Its faces.
    """

    def __init__(self, vertices: Tensor, topology: fr.Topology) -> None:
        self.vertices, self.faces = vertices, topology.faces.long()
        self.search = ClosestPoints(vertices, self.faces)
        self.border = topology.neighbours < 0  # [F,3]
        a, b, c = vertices[self.faces].unbind(1)
        cross = torch.linalg.cross(b - a, c - a)
        self.area = cross.norm(dim=-1)
        self.normals = cross / self.area[:, None].clamp(min=1e-20)

    def on_border(self, found: Closest) -> Tensor:
        """bool [P]: closest points on a border, where the surface ends: they are no counterparts."""
        # Edge k, from corner k to k + 1, lies opposite to corner k + 2.
        return (self.border[found.face_id] & (found.bary.roll(-2, -1) < 1e-6)).any(-1)

    def at(self, found: Closest) -> tuple[Tensor, Tensor]:
        """Points and normals, [P,3] each."""
        return interpolate_faces(self.vertices, self.faces, found.face_id, found.bary), self.normals[found.face_id]

    def samples(self, count: int) -> Closest:
        """Points spread evenly over the surface, always the same ones."""
        generator = torch.Generator().manual_seed(0)
        share, u, v = (torch.rand(count, generator=generator, dtype=torch.float64).to(self.area) for _ in range(3))
        face = torch.searchsorted((self.area / self.area.sum()).cumsum(0), share).clamp(max=len(self.faces) - 1)
        u = u.sqrt()
        return Closest(torch.zeros_like(u), face, torch.stack([1 - u, u * (1 - v), u * v], -1))
