"""Gradients of outlines against finite differences of a supersampled image."""

import numpy as np
import pytest
import torch

import facerender as fr

F64 = torch.float64
STEP = 0.01


def icosphere(levels):
    p = (1 + 5**0.5) / 2
    v = np.array(
        [
            [-1, p, 0],
            [1, p, 0],
            [-1, -p, 0],
            [1, -p, 0],
            [0, -1, p],
            [0, 1, p],
            [0, -1, -p],
            [0, 1, -p],
            [p, 0, -1],
            [p, 0, 1],
            [-p, 0, -1],
            [-p, 0, 1],
        ]
    )
    f = np.array(
        [
            [0, 11, 5],
            [0, 5, 1],
            [0, 1, 7],
            [0, 7, 10],
            [0, 10, 11],
            [1, 5, 9],
            [5, 11, 4],
            [11, 10, 2],
            [10, 7, 6],
            [7, 1, 8],
        ]
        + [
            [3, 9, 4],
            [3, 4, 2],
            [3, 2, 6],
            [3, 6, 8],
            [3, 8, 9],
            [4, 9, 5],
            [2, 4, 11],
            [6, 2, 10],
            [8, 6, 7],
            [9, 8, 1],
        ]
    )
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    for _ in range(levels):
        edges = np.sort(np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]), 1)
        unique, where = np.unique(edges, axis=0, return_inverse=True)
        ab, bc, ca = where.reshape(3, -1) + len(v)
        middle = v[unique].sum(1)
        v = np.concatenate([v, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
        a, b, c = f.T
        f = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    return torch.tensor(v, dtype=F64), torch.tensor(f, dtype=torch.int32)


class Scene:
    """An ellipsoid before a tilted quadrilateral, before nothing; x, y, size and turn move the ellipsoid."""

    def __init__(self, levels, size, perspective, device):
        self.sphere, faces = icosphere(levels)
        n = len(self.sphere)
        faces = torch.cat([faces, torch.tensor([[n, n + 1, n + 2], [n, n + 2, n + 3]], dtype=torch.int32)])
        self.topology = fr.Topology(faces, n + 4).to(device)
        self.colors = torch.tensor([[0.9, 0.2, 0.4]] * n + [[0.1, 0.8, 0.3]] * 4, dtype=F64)[None].to(device)
        self.size, self.perspective, self.device = size, perspective, device
        at = torch.arange(size, dtype=F64) / size
        self.weight = torch.stack(
            [torch.sin(5 * at + 3 * at[:, None]), torch.cos(4 * at - 6 * at[:, None]), torch.sin(4 * at * at[:, None])],
            -1,
        )[None].to(device)

    def clip(self, p):
        x, y, z = self.sphere.unbind(-1)
        x, y, z = 1.3 * (x * p[3].cos() - y * p[3].sin()), x * p[3].sin() + y * p[3].cos(), z
        body = torch.stack([x * p[2] + p[0], y * p[2] + p[1], -0.3 * z * p[2] - 0.2], -1)
        quad = torch.tensor([[-0.8, -0.7, 0.5], [0.9, -0.6, 0.4], [0.7, 0.8, 0.5], [-0.9, 0.75, 0.6]], dtype=F64)
        v = torch.cat([body, quad])
        w = 1.5 + v[:, 2:] if self.perspective else torch.ones_like(v[:, 2:])
        near = (
            torch.cat([torch.full_like(body[:, :1], 1.3), torch.full_like(quad[:, :1], 2.0)])
            if self.perspective
            else 1.0
        )
        return torch.cat([v[:, :2] * near, v[:, 2:] * w, w], -1)[None].to(self.device)

    def image(self, p, scale=1):
        clip, size = self.clip(p), (self.size * scale, self.size * scale)
        fragments = fr.rasterize(clip, self.topology, size)
        return fr.interpolate(self.colors, self.topology, fragments, 0.0), fragments, clip

    def gradient(self, p):
        p = p.clone().requires_grad_()
        image, fragments, clip = self.image(p)
        loss = (fr.edge_gradients(image, fragments, clip, self.topology) * self.weight).sum()
        return torch.autograd.grad(loss, p)[0]

    def finite_difference(self, p, samples=16):
        def loss(q):
            image = self.image(q, samples)[0].reshape(1, self.size, samples, self.size, samples, 3).mean((2, 4))
            return (image * self.weight).sum()

        steps = torch.eye(4, dtype=F64) * STEP
        with torch.no_grad():
            return torch.stack([loss(p + s) - loss(p - s) for s in steps]).cpu() / (2 * STEP)


@pytest.mark.parametrize("perspective", [False, True], ids=["orthographic", "perspective"])
@pytest.mark.parametrize(
    "levels,triangle", [(1, "larger than pixels"), (3, "of about a pixel"), (5, "a sixth of a pixel")]
)
def test_outlines_move_as_the_supersampled_image_does(levels, triangle, perspective, device):
    scene = Scene(levels, 48, perspective, device)
    g = torch.Generator().manual_seed(levels)
    got, want = torch.zeros(4, dtype=F64), torch.zeros(4, dtype=F64)
    for _ in range(4):  # different places on the pixel grid
        p = torch.tensor([0.05, -0.02, 0.4, 0.3], dtype=F64) + (torch.rand(4, generator=g, dtype=F64) - 0.5) * 0.08
        got += scene.gradient(p).cpu()
        want += scene.finite_difference(p)
    # Each pair of pixels stands for a pixel of outline: one or two percent of the gradient is noise of the estimate.
    assert (got - want).abs().max() < 0.025 * want.abs().max(), (got, want)


def test_a_moving_square_changes_area_by_its_sides(device):
    """Worked by hand: 8 rows, 4 pixels a unit of clip x; moving it right by d loses 8 * 4 * d left, gains it right."""
    size = 8
    clip = torch.tensor(
        [[[-0.51, -1.3, 0, 1], [0.53, -1.3, 0, 1], [0.53, 1.3, 0, 1], [-0.51, 1.3, 0, 1]]], dtype=F64, device=device
    ).requires_grad_()
    topology = fr.Topology(torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32), 4).to(device)
    fragments = fr.rasterize(clip, topology, (size, size))
    image = fr.interpolate(torch.ones(1, 4, 1, dtype=F64, device=device), topology, fragments)
    out = fr.edge_gradients(image, fragments, clip, topology)
    left = (torch.arange(size, device=device) < 4)[None, None, :, None]
    (grad,) = torch.autograd.grad((out * left).sum(), clip, retain_graph=True)
    torch.testing.assert_close(grad[..., 0].sum().cpu(), torch.tensor(-32.0, dtype=F64))
    assert (grad[0, 1:3, 0] == 0).all()  # the left side belongs to the left corners
    (grad,) = torch.autograd.grad((out * ~left).sum(), clip)
    torch.testing.assert_close(grad[..., 0].sum().cpu(), torch.tensor(32.0, dtype=F64))


def test_a_surface_that_goes_on_has_no_edges_inside(device):
    """A wavy sheet fills the image, its triangles smaller than pixels, with random colors: no outline, no gradient."""
    n, size = 60, 24
    line = torch.linspace(-1.3, 1.3, n, dtype=F64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    clip = (
        torch.stack([x, y, 0.2 * torch.sin(4 * x) * torch.cos(3 * y), torch.ones_like(x)], -1)
        .reshape(1, -1, 4)
        .to(device)
        .requires_grad_()
    )
    cell = torch.arange(n * n, dtype=torch.int32).reshape(n, n)
    a, b, c, d = (
        cell[:-1, :-1].reshape(-1),
        cell[:-1, 1:].reshape(-1),
        cell[1:, 1:].reshape(-1),
        cell[1:, :-1].reshape(-1),
    )
    topology = fr.Topology(torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)]), n * n).to(device)
    fragments = fr.rasterize(clip.detach(), topology, (size, size))
    assert (fragments.face_id >= 0).all()
    image = torch.rand(1, size, size, 3, dtype=F64).to(device)
    (grad,) = torch.autograd.grad(
        (fr.edge_gradients(image, fragments, clip, topology) * torch.rand_like(image)).sum(), clip
    )
    assert (grad == 0).all()


def test_a_fold_within_one_mesh_is_an_edge(device):
    """A sheet folded over itself: the upper layer's fold occludes the lower layer, and its line gets the gradient."""
    size = 16
    strip = torch.tensor(
        [[-0.9, 0.0], [0.31, 0.0], [-0.4, -0.4]], dtype=F64
    )  # x and z: out to the fold at 0.31, and back in front
    clip = torch.cat(
        [
            torch.stack([strip[:, 0], torch.full((3,), y, dtype=F64), strip[:, 1], torch.ones(3, dtype=F64)], 1)
            for y in (-1.2, 1.2)
        ]
    )[None]
    clip = clip.to(device).requires_grad_()
    faces = torch.tensor([[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4]], dtype=torch.int32)
    topology = fr.Topology(faces, 6).to(device)
    fragments = fr.rasterize(clip, topology, (size, size))
    image = torch.zeros(1, size, size, 1, dtype=F64, device=device)
    image[fragments.face_id >= 0], image[fragments.face_id >= 2] = 0.2, 1.0
    assert (image == 1).any() and (image == 0.2).any() and (image == 0).any()
    (grad,) = torch.autograd.grad(fr.edge_gradients(image, fragments, clip, topology).sum(), clip)
    # The upper layer's free end, vertices 2 and 5, moves over the lower one: -(1 - 0.2) a pixel.
    # The fold moves over nothing: +1.
    torch.testing.assert_close(grad[0, [2, 5], 0].sum().cpu(), torch.tensor(-0.8 * 16 * 8, dtype=F64))
    torch.testing.assert_close(grad[0, [1, 4], 0].sum().cpu(), torch.tensor(1.0 * 16 * 8, dtype=F64))


def test_vertices_behind_the_camera_get_no_gradient_and_no_nan(device):
    g = torch.Generator().manual_seed(0)
    clip = torch.randn(1, 30, 4, generator=g).to(device).requires_grad_()
    topology = fr.Topology(torch.randint(0, 30, (40, 3), generator=g, dtype=torch.int32), 30).to(device)
    fragments = fr.rasterize(clip.detach(), topology, (32, 32))
    image = torch.rand(1, 32, 32, 3, generator=g).to(device)
    (grad,) = torch.autograd.grad(fr.edge_gradients(image, fragments, clip, topology).square().sum(), clip)
    assert torch.isfinite(grad).all() and (grad[0, clip[0, :, 3] <= 0] == 0).all()


def test_fitting_a_silhouette_finds_the_circle(device):
    """Shape from outline alone: a disc moves and grows until it covers the target."""
    angles = torch.arange(40, dtype=F64) * (2 * torch.pi / 40)
    rim = torch.stack([angles.cos(), angles.sin()], 1)
    disc = torch.cat([torch.zeros(1, 2, dtype=F64), rim]).to(device)
    faces = torch.tensor([[0, 1 + k, 1 + (k + 1) % 40] for k in range(40)], dtype=torch.int32)
    topology = fr.Topology(faces, 41).to(device)

    def silhouette(center, radius):
        xy = disc * radius + center
        clip = torch.cat([xy, torch.zeros_like(xy[:, :1]), torch.ones_like(xy[:, :1])], 1)[None]
        fragments = fr.rasterize(clip, topology, (48, 48))
        return fr.edge_gradients((fragments.face_id >= 0).to(F64)[..., None], fragments, clip, topology)

    target = silhouette(torch.tensor([0.25, -0.2], dtype=F64, device=device), 0.5).detach()
    center, radius = (
        torch.tensor([-0.15, 0.1], dtype=F64, device=device, requires_grad=True),
        torch.tensor(0.3, dtype=F64, device=device, requires_grad=True),
    )
    optimizer = torch.optim.Adam([center, radius], 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        (silhouette(center, radius) - target).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(center.detach().cpu(), torch.tensor([0.25, -0.2], dtype=F64), atol=0.02, rtol=0)
    assert abs(float(radius.detach()) - 0.5) < 0.02
