"""Gradients of silhouettes and occlusion edges, which sampling at pixel centres hides from the other ops."""

import torch
from torch import Tensor

from ._autograd import Op, once
from ._checks import ATTRIBUTE, GEOMETRY, check_attributes_fit_geometry, check_device, check_tensor, deterministic, full_precision
from .rasterize import Fragments
from .topology import topology_of


def edge_gradients(image: Tensor, fragments: Fragments, clip: Tensor, topology) -> Tensor:
    """Returns the image, and gives `clip` the gradients of the outlines in it.

    The gradient is that of an image whose pixels average over their area, estimated from one sample a pixel: between every two
    neighbouring centres that see different triangles the op walks over the mesh to the true outline (where the surface ends or folds
    over) and moves its two vertices. Surfaces that go on from one pixel to the next have no edge there, whatever their colours. So it is
    right for triangles smaller than a pixel too, also where the outline's own triangle is seen at no pixel centre. The curve in which
    two surfaces cut through each other gets no gradient.

    Args:
        image: [N,H,W,C], computed from `fragments` (so that its own gradients inside triangles flow as usual).
        fragments: what `rasterize` returned, one layer.
        clip: [N,V,4] float32 or float64, the positions that were rasterized.
        topology: the mesh's `Topology`. A plain [F,3] tensor works too and costs building one each time.

    Returns:
        The image, unchanged.

    Differentiability: to `image` (as it is) and to `clip`; once.
    """
    image, clip = full_precision(image, clip)
    sizes = check_tensor("clip", clip, ("N", "V", 4), GEOMETRY)
    topology = topology_of(topology, sizes["V"])
    check_tensor("fragments.face_id", fragments.face_id, ("N", "H", "W"), (torch.int32,), sizes)
    check_tensor("image", image, ("N", "H", "W", "C"), ATTRIBUTE, sizes)
    check_attributes_fit_geometry("image", image, "clip", clip)
    check_device(image=image, face_id=fragments.face_id, clip=clip, topology=topology.faces)
    return _EdgeGradients.call(image, fragments.face_id, clip, topology.faces, topology.neighbours)


class _EdgeGradients(Op):
    @staticmethod
    def forward(image, face_id, clip, faces, neighbours):
        return image.clone()  # a view of the input would not do: the output's gradient is a different one

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        image, face_id, clip, faces, neighbours = ctx.saved_tensors
        grad_clip = None
        if ctx.needs_input_grad[2]:
            grad_clip = once(torch.ops.facerender.edge_gradients_backward, grad.to(clip.dtype), image, clip, faces, neighbours, face_id, deterministic())
        return grad, None, grad_clip, None, None


@torch.library.register_fake("facerender::edge_gradients_backward")
def _(grad, image, clip, faces, neighbours, face_id, deterministic):
    return clip.new_empty(clip.shape)
