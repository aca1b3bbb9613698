"""Vertex normals."""

from typing import Any

import torch
from torch import Tensor

from ._autograd import Op, no_double_backward
from ._checks import GEOMETRY, check_device, check_tensor, deprecated_keyword, full_precision
from .topology import Faces, topology_of


@deprecated_keyword("topology", "faces")
def vertex_normals(vertices: Tensor, faces: Faces) -> Tensor:
    """Compute area-weighted unit normals: the sum of the cross products of a vertex's faces, scaled to length 1.

    Differentiable once, to `vertices`. Sums run in a fixed order, so both directions are deterministic.

    Args:
        vertices: float32 or float64 [N,V,3], in any unit.
        faces: `Topology` of the mesh; a face list int32 [F,3] works too, and costs building a `Topology` at each call.
            Counterclockwise faces, as seen from outside, give normals that point outwards. Deprecated name:
            `topology`.

    Returns:
        Unit normals [N,V,3]; zero where undefined: a vertex without faces, or whose faces cancel out or have no area.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a shape, an index or a device does not fit.
    """
    vertices = full_precision(vertices)
    sizes = check_tensor("vertices", vertices, ("N", "V", 3), GEOMETRY)
    topology = topology_of(faces, sizes["V"])
    check_device(vertices=vertices, faces=topology.faces)
    return _VertexNormals.call(vertices, topology.faces, topology.offsets, topology.corners)


class _VertexNormals(Op):
    @staticmethod
    def forward(vertices: Tensor, faces: Tensor, offsets: Tensor, corners: Tensor) -> Tensor:
        return torch.ops.facerender.vertex_normals(vertices, faces, offsets, corners)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        op = torch.ops.facerender.vertex_normals_backward
        return no_double_backward(op, grad, *ctx.saved_tensors), None, None, None


@torch.library.register_fake("facerender::vertex_normals")
def _vertex_normals_fake(vertices: Tensor, faces: Tensor, offsets: Tensor, corners: Tensor) -> Tensor:
    return vertices.new_empty(vertices.shape)


@torch.library.register_fake("facerender::vertex_normals_backward")
def _vertex_normals_backward_fake(
    grad: Tensor, vertices: Tensor, faces: Tensor, offsets: Tensor, corners: Tensor
) -> Tensor:
    return vertices.new_empty(vertices.shape)
