"""The table of ops: what test_ops.py checks of each. A new op gets a row here and goes through all of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

import facerender as fr
from facerender import reference

SIZE = (9, 19)  # wide enough for the sixteen-lane loops, and not a multiple of sixteen


def scene(dtype=torch.float32, device="cpu", batch=2, vertices=14, faces=12, seed=0):
    """A random triangle soup in front of the camera and across it: clip [N,V,4] and a Topology."""
    g = torch.Generator().manual_seed(seed)
    clip = torch.randn(batch, vertices, 4, generator=g, dtype=torch.float64)
    clip[..., 3] = clip[..., 3].abs() * 0.5 + 0.6
    clip[:, :2, 3] *= -1  # behind the camera
    index = torch.randint(0, max(vertices, 1), (faces, 3), generator=g, dtype=torch.int32)
    return clip.to(dtype).to(device), fr.Topology(index, vertices).to(device)


def random(shape, dtype, device, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype).to(device)


@dataclass(frozen=True)
class Op:
    name: str
    public: Callable  # (case, *tensors) -> tensors that are differentiable
    reference: Callable  # the same in facerender.reference
    tensors: Callable  # (dtype, device, batch, vertices, faces) -> (what is not differentiated, differentiable tensors)
    attributes: tuple = ()  # indices of the tensors that may be of 16 bits
    spoil: tuple = ()  # (index of a tensor, how to break it, the exception, what its message says)


def _rasterize_case(dtype, device, batch=2, vertices=14, faces=12):
    clip, topology = scene(dtype, device, batch, vertices, faces)
    return topology, (clip,)


def _interpolate_case(dtype, device, batch=2, vertices=14, faces=12):
    clip, topology = scene(dtype, device, batch, vertices, faces)
    return topology, (clip, random((batch, vertices, 5), dtype, device, 1), random((5,), dtype, device, 2))


def _normals_case(dtype, device, batch=2, vertices=14, faces=12):
    _, topology = scene(dtype, device, batch, vertices, faces)
    return topology, (random((batch, vertices, 3), dtype, device, 1),)


def _shade_case(dtype, device, batch=2, vertices=14, faces=12):
    return None, (
        random((batch, vertices, 3), dtype, device, 1),
        random((batch, vertices, 3), dtype, device, 2),
        random((batch, 9, 3), dtype, device, 3),
    )


def _render_case(dtype, device, batch=2, vertices=14, faces=12):
    clip, topology = scene(dtype, device, batch, vertices, faces)
    normals, albedo, light = (
        random(s, dtype, device, k) for k, s in enumerate([(batch, vertices, 3), (1, vertices, 3), (batch, 9, 3)])
    )
    return topology, (clip, normals, albedo, light, random((3,), dtype, device, 4))


def _edge_case(dtype, device, batch=2, vertices=14, faces=12):
    clip, topology = scene(dtype, device, batch, vertices, faces)
    return topology, (clip, random((batch, vertices, 3), dtype, device, 1))


def _render(module):
    return lambda topology, clip, normals, albedo, light, background: module.render_face(
        clip, normals, albedo, light, topology, SIZE, background
    )[0]


def _edges(module):
    def run(topology, clip, attributes):
        # The image without its interior gradient to clip, so that what comes is that of the outlines alone.
        fragments = fr.rasterize(clip.detach(), topology, SIZE)
        image = fr.interpolate(attributes, topology, fragments)
        return module.edge_gradients(image, fragments, clip, topology)

    return run


HALF = torch.float16
OPS = [
    Op(
        "rasterize",
        lambda topology, clip: fr.rasterize(clip, topology, SIZE, layers=2)[1:],
        lambda topology, clip: reference.rasterize(clip, topology, SIZE, layers=2)[1:],
        _rasterize_case,
        spoil=(
            (0, lambda t: t[0], ValueError, r"clip must be \[N,V,4\], got float32 \[14, 4\]"),
            (0, lambda t: t[..., :3], ValueError, r"clip must be \[N,V,4\].* got float32 \[2, 14, 3\]"),
            (0, lambda t: t.to(HALF), TypeError, r"clip must be float32 or float64 \[N,V,4\], got float16"),
            (0, lambda t: t.tolist(), TypeError, r"clip must be a tensor \[N,V,4\]"),
            (0, lambda t: t.to("meta"), ValueError, r"faces must be on the device of clip, meta, got cpu"),
        ),
    ),
    Op(
        "interpolate",
        lambda topology, clip, a, background: fr.interpolate(
            a, topology, fr.rasterize(clip, topology, SIZE), background
        ),
        lambda topology, clip, a, background: reference.interpolate(
            a, topology, reference.rasterize(clip, topology, SIZE), background
        ),
        _interpolate_case,
        attributes=(1, 2),
        spoil=(
            (1, lambda t: t[:, :, 0], ValueError, r"attributes must be \[N\|1,V,C\], got float32 \[2, 14\]"),
            (
                1,
                lambda t: t.double(),
                TypeError,
                r"attributes must be float32, float16 or bfloat16 beside fragments.bary",
            ),
            (1, lambda t: t.int(), TypeError, r"attributes must be float32 or float64 or .*, got int32"),
            (2, lambda t: t[:4], ValueError, r"background must be \[C\] with C=5.* got float32 \[4\]"),
        ),
    ),
    Op(
        "vertex_normals",
        lambda topology, v: fr.vertex_normals(v, topology),
        lambda topology, v: reference.vertex_normals(v, topology),
        _normals_case,
        spoil=(
            (0, lambda t: t[..., :2], ValueError, r"vertices must be \[N,V,3\].* got float32 \[2, 14, 2\]"),
            (
                0,
                lambda t: t[:, :7],
                ValueError,
                r"faces must be those of a mesh with 7 vertices, got Topology\(F=12, V=14",
            ),
        ),
    ),
    Op(
        "sh_shade",
        lambda _, albedo, normals, light: fr.sh_shade(albedo, normals, light, "deca"),
        lambda _, albedo, normals, light: reference.sh_shade(albedo, normals, light, "deca"),
        _shade_case,
        attributes=(0, 1),
        spoil=(
            (2, lambda t: t[:, :4], ValueError, r"coefficients must be \[N\|1,9,3\].* got float32 \[2, 4, 3\]"),
            (
                0,
                lambda t: t[:, :3],
                ValueError,
                r"albedo must be \[2, 14, 3\] like normals, or \[1, 14, 3\], got \[2, 3, 3\]",
            ),
            (1, lambda t: t.to(HALF), TypeError, r"albedo must be float16, like normals, got float32"),
        ),
    ),
    Op(
        "render_face",
        _render(fr),
        _render(reference),
        _render_case,
        attributes=(1, 2, 4),
        spoil=(
            (1, lambda t: None, ValueError, r"normals and coefficients must be given together"),
            (2, lambda t: t[:, :5], ValueError, r"albedo must be \[N\|1,V,3\] with .*V=14.* got float32 \[1, 5, 3\]"),
            (3, lambda t: t.double(), TypeError, r"coefficients must be float32, like clip, got float64"),
            (4, lambda t: t[:2], ValueError, r"background must be \[3\], got float32 \[2\]"),
        ),
    ),
    Op(
        "edge_gradients",
        _edges(fr),
        _edges(reference),
        _edge_case,
        attributes=(1,),
        spoil=(
            (
                1,
                lambda t: t.double(),
                TypeError,
                r"attributes must be float32, float16 or bfloat16 beside fragments.bary",
            ),
        ),
    ),
]
