"""Gradients of silhouettes and occlusion edges, which sampling at pixel centers hides from the other ops."""

from typing import Any

import torch
from torch import Tensor

from ._autograd import Op, no_double_backward
from ._checks import (
    ATTRIBUTE,
    GEOMETRY,
    check_attributes_fit_geometry,
    check_device,
    check_tensor,
    deprecated_keyword,
    full_precision,
)
from .rasterize import Fragments
from .topology import Faces, topology_of


@deprecated_keyword("topology", "faces")
def edge_gradients(image: Tensor, fragments: Fragments, clip: Tensor, faces: Faces) -> Tensor:
    """Return the image unchanged, and give `clip` the gradients of the outlines in it.

    The gradient is that of an image whose pixels average over their area, estimated from one sample a pixel: between
    every two neighboring centers with different visible triangles the op walks over the mesh to the true outline (where
    the surface ends or folds over) and moves its two vertices. Surfaces that go on from one pixel to the next have no
    edge there, whatever their colors. So it is right for triangles smaller than a pixel too, also where the outline's
    own triangle covers no pixel center. The curve in which two surfaces cut through each other gets no gradient.

    Differentiable once, to `image` (as it is) and to `clip`.

    Args:
        image: [N,H,W,C], computed from `fragments`, so that its own gradients inside triangles flow as usual.
        fragments: what `rasterize` returned, of one layer.
        clip: float32 or float64 [N,V,4], the positions that were rasterized.
        faces: `Topology` of the mesh; a face list int32 [F,3] works too, and costs building a `Topology` at each call.
            Deprecated name: `topology`.

    Returns:
        The image [N,H,W,C].

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a shape, an index or a device does not fit.
    """
    image, clip = full_precision(image), full_precision(clip)
    sizes = check_tensor("clip", clip, ("N", "V", 4), GEOMETRY)
    topology = topology_of(faces, sizes["V"])
    check_tensor("fragments.face_id", fragments.face_id, ("N", "H", "W"), (torch.int32,), sizes)
    check_tensor("image", image, ("N", "H", "W", "C"), ATTRIBUTE, sizes)
    check_attributes_fit_geometry("image", image, "clip", clip)
    check_device(image=image, face_id=fragments.face_id, clip=clip, faces=topology.faces)
    return _EdgeGradients.call(image, fragments.face_id, clip, topology.faces, topology.neighbours)


class _EdgeGradients(Op):
    @staticmethod
    def forward(image: Tensor, face_id: Tensor, clip: Tensor, faces: Tensor, neighbours: Tensor) -> Tensor:
        return image.clone()  # a view of the input would not do: the output's gradient is a different one

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        image, face_id, clip, faces, neighbours = ctx.saved_tensors
        grad_clip = None
        if ctx.needs_input_grad[2]:
            op = torch.ops.facerender.edge_gradients_backward
            deterministic = torch.are_deterministic_algorithms_enabled()
            grad_clip = no_double_backward(
                op, grad.to(clip.dtype), image, clip, faces, neighbours, face_id, deterministic
            )
        return grad, None, grad_clip, None, None


@torch.library.register_fake("facerender::edge_gradients_backward")
def _edge_gradients_backward_fake(
    grad: Tensor,
    image: Tensor,
    clip: Tensor,
    faces: Tensor,
    neighbours: Tensor,
    face_id: Tensor,
    deterministic: bool,
) -> Tensor:
    return clip.new_empty(clip.shape)
