"""Other renderers on the same mesh and the same work, where they are installed, for benchmarks.ops.

The work is visibility, depth and three interpolated colors. Each peer gives `forward()` and, if it has one,
`backward()` (from d image to d colors and d positions), at its own best settings. None of their code is part of this
repository.
"""

import importlib

import numpy as np
import torch

import facerender as fr


class Scene:
    """One mesh, seen from the front, as the inputs of every renderer."""

    def __init__(self, vertices, faces, size, batch, device):
        self.size, self.batch, self.device = size, batch, device
        v = torch.as_tensor(vertices, dtype=torch.float32)
        span = v.amax(0) - v.amin(0)
        p = (v - (v.amax(0) + v.amin(0)) / 2) / span[:2].max() * 1.6  # 80 % of the image
        self.clip = (
            torch.cat([p[:, :2], -p[:, 2:] / 4, torch.ones_like(p[:, :1])], 1)[None].repeat(batch, 1, 1).to(device)
        )
        self.faces = torch.as_tensor(faces, dtype=torch.int32).to(device)
        self.colors = torch.rand(batch, len(v), 3, generator=torch.Generator().manual_seed(0)).to(device)
        self.grad = torch.randn(batch, size, size, 3, generator=torch.Generator().manual_seed(1)).to(device)


def backward_of(run, leaves, grad):
    """Return a function that runs the backward pass alone, and can be called repeatedly."""
    image = run()
    return lambda: torch.autograd.grad(image, leaves, grad, retain_graph=True)


def ours(s: Scene):
    clip, colors = s.clip.clone().requires_grad_(), s.colors.clone().requires_grad_()

    def run(clip=clip, colors=colors):
        return fr.interpolate(colors, s.faces, fr.rasterize(clip, s.faces, (s.size, s.size)))

    return lambda: run(s.clip, s.colors), backward_of(run, (clip, colors), s.grad)


def ours_fused(s: Scene):
    clip, colors = s.clip.clone().requires_grad_(), s.colors.clone().requires_grad_()

    def run(clip=clip, colors=colors):
        return fr.render_face(clip, None, colors, None, s.faces, (s.size, s.size))[0]

    return lambda: run(s.clip, s.colors), backward_of(run, (clip, colors), s.grad)


def drtk(s: Scene):
    d = importlib.import_module("drtk")
    half = s.size / 2
    v = torch.stack(
        [(s.clip[..., 0] + 1) * half - 0.5, (1 - s.clip[..., 1]) * half - 0.5, s.clip[..., 2] + 2], -1
    ).contiguous()
    grad = s.grad.movedim(-1, 1).contiguous()
    leaf, colors = v.clone().requires_grad_(), s.colors.clone().requires_grad_()

    def run(v=leaf, colors=colors):
        index = d.rasterize(v.detach(), s.faces, s.size, s.size)
        _, bary = d.render(v, s.faces, index)
        return d.interpolate(colors, s.faces, index, bary)

    return lambda: run(v, s.colors), backward_of(run, (leaf, colors), grad)


def sim3dr(s: Scene):
    if s.device.type != "cpu" or s.batch != 1:
        raise ImportError("Sim3DR draws one image on the CPU")
    c = importlib.import_module("Sim3DR_Cython")
    half = s.size / 2
    v = (
        torch.stack([(s.clip[0, :, 0] + 1) * half - 0.5, (1 - s.clip[0, :, 1]) * half - 0.5, -s.clip[0, :, 2]], -1)
        .numpy()
        .copy()
    )
    faces, colors = s.faces.numpy().copy(), s.colors[0].numpy().copy()

    def run():
        image, depth = np.zeros((s.size, s.size, 3), np.uint8), np.full((s.size, s.size), -1e8, np.float32)
        c.rasterize(image, v, faces, colors, depth, len(faces), s.size, s.size, 3, reverse=False)
        return image

    return run, None


def nvdiffrast(s: Scene):
    if s.device.type != "cuda":
        raise ImportError("nvdiffrast needs CUDA")
    dr = importlib.import_module("nvdiffrast.torch")
    context = dr.RasterizeCudaContext(s.device)
    clip, colors = s.clip.clone().requires_grad_(), s.colors.clone().requires_grad_()

    def run(clip=clip, colors=colors):
        raster, _ = dr.rasterize(context, clip, s.faces, (s.size, s.size), grad_db=False)
        return dr.interpolate(colors, raster, s.faces)[0]

    return lambda: run(s.clip, s.colors), backward_of(run, (clip, colors), s.grad)


def pytorch3d(s: Scene):
    rasterizer = importlib.import_module("pytorch3d.renderer.mesh.rasterize_meshes")
    structures = importlib.import_module("pytorch3d.structures")
    ops = importlib.import_module("pytorch3d.ops")
    v = s.clip[..., :3] * s.clip.new_tensor([-1, 1, 1]) + s.clip.new_tensor([0, 0, 2])
    leaf, colors = v.clone().requires_grad_(), s.colors.clone().requires_grad_()
    faces = s.faces.long()[None].expand(s.batch, -1, -1)

    def run(v=leaf, colors=colors):
        meshes = structures.Meshes(v, faces)
        pixel_face, _, bary, _ = rasterizer.rasterize_meshes(
            meshes, (s.size, s.size), blur_radius=0.0, faces_per_pixel=1, perspective_correct=False
        )
        per_face = colors[:, s.faces.long()].reshape(-1, 3, 3)
        return ops.interpolate_face_attributes(pixel_face, bary, per_face)[..., 0, :]

    return lambda: run(v, s.colors), backward_of(run, (leaf, colors), s.grad)


PEERS = {"Sim3DR": sim3dr, "DRTK": drtk, "pytorch3d": pytorch3d, "nvdiffrast": nvdiffrast}


def installed(s: Scene, names=tuple(PEERS)):
    """Return name -> (forward, backward or None) of the peers that can be imported, and why the others cannot."""
    found, missing = {}, {}
    for name in names:
        try:
            found[name] = PEERS[name](s)
        except ImportError as error:
            missing[name] = str(error)
    return found, missing
