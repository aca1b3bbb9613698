"""Vertex normals."""

import torch
from torch import Tensor

from ._autograd import Op, once
from ._checks import GEOMETRY, check_device, check_tensor, full_precision
from .topology import Topology, topology_of


def vertex_normals(vertices: Tensor, topology: Topology) -> Tensor:
    """Area-weighted unit normals: the sum of the cross products of a vertex's faces, scaled to length 1.

    Args:
        vertices: [N,V,3] float32 or float64.
        topology: the mesh's `Topology`. Counter-clockwise faces, seen from outside, give normals that point outwards.

    Returns:
        [N,V,3]; zero where undefined: a vertex without faces, or whose faces cancel out or have no area.

    Differentiability: to `vertices`, once. Sums run in a fixed order, so both directions are deterministic.
    """
    vertices = full_precision(vertices)
    sizes = check_tensor("vertices", vertices, ("N", "V", 3), GEOMETRY)
    topology = topology_of(topology, sizes["V"])
    check_device(vertices=vertices, topology=topology.faces)
    return _VertexNormals.call(vertices, topology.faces, topology.offsets, topology.corners)


class _VertexNormals(Op):
    @staticmethod
    def forward(vertices, faces, offsets, corners):
        return torch.ops.facerender.vertex_normals(vertices, faces, offsets, corners)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        return once(torch.ops.facerender.vertex_normals_backward, grad, *ctx.saved_tensors), None, None, None


@torch.library.register_fake("facerender::vertex_normals")
def _(vertices, faces, offsets, corners):
    return vertices.new_empty(vertices.shape)


@torch.library.register_fake("facerender::vertex_normals_backward")
def _(grad, vertices, faces, offsets, corners):
    return vertices.new_empty(vertices.shape)
