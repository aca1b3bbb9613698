"""The CUDA kernels against the CPU back end: one file of over 600 lines, since its fixture compiles all of them once.

They run thread by thread on the CPU (tests/shim/cuda_shim.h), and are compiled by nvcc where it is installed.
"""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import facerender as fr
from benchmarks.fuzz_ops import KINDS, mesh
from tests import shim
from tests.ops import random, scene

ROOT = Path(__file__).parents[2]
SIZE = (20, 27)
BLOCK = (1, 3)  # batch sizes


@pytest.fixture(scope="session")
def kernels():
    if fr.build_info()["sanitize"]:
        pytest.skip("the shim's fibers cannot run under AddressSanitizer")
    if shutil.which("g++") is None:
        pytest.skip("the shim needs g++")
    return shim.load()


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


CPU = torch.ops.facerender


def same(got, want):
    for g, w in zip(got if isinstance(got, tuple) else (got,), want if isinstance(want, tuple) else (want,)):
        assert torch.equal(g, w)


def close(got, want):
    for g, w in zip(got if isinstance(got, tuple) else (got,), want if isinstance(want, tuple) else (want,)):
        assert g.shape == w.shape
        scale = max(1.0, float(w.abs().max())) if w.numel() else 1.0
        torch.testing.assert_close(
            g,
            w,
            rtol=1e-4 if g.dtype == torch.float32 else 1e-8,
            atol=(1e-5 if g.dtype == torch.float32 else 1e-9) * scale,
        )


@pytest.mark.parametrize("cull", [0, 1, 2])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", ["across the camera", "in front", "sub-pixel", "large"])
def test_rasterize_has_the_same_bits(kernels, dtype, cull, layers, kind):
    clip, topology = scene(dtype, batch=3, vertices=60, faces=150)
    if kind != "across the camera":
        clip[..., 3] = 1
    if kind == "sub-pixel":
        clip[..., :2] = clip[:, :1, :2] + clip[..., :2] * 0.02
    if kind == "large":
        clip[..., :2] *= 30
    for bary in (True, False):
        same(
            kernels.rasterize(clip, topology.faces, *SIZE, cull, layers, bary),
            CPU.rasterize(clip, topology.faces, *SIZE, cull, layers, bary),
        )


@pytest.mark.parametrize(
    "images, multiprocessors", [(5, 0), (8, 1), (5, 1)], ids=["meshlets of 124", "meshlets of 60", "meshlets of 28"]
)
@pytest.mark.parametrize(
    "order", ["by rows", "shuffled"]
)  # shuffled, a meshlet of 124 triangles has more vertices than fit
def test_meshlets_have_the_same_bits(kernels, dtype, images, multiprocessors, order, monkeypatch):
    """A surface of small triangles with rotated corners in several images, whose meshlets share vertices."""
    monkeypatch.setenv("FACERENDER_SHIM_MULTIPROCESSORS", str(multiprocessors))
    rows, columns = 18, 24
    g = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.linspace(-0.9, 0.9, rows), torch.linspace(-0.9, 0.9, columns), indexing="ij")
    clip = (
        torch.stack([x, y, torch.zeros_like(x), torch.ones_like(x)], -1)
        .reshape(1, -1, 4)
        .repeat(images, 1, 1)
        .to(dtype)
    )
    clip[..., :3] += 0.05 * torch.randn(clip[..., :3].shape, generator=g).to(dtype)
    i = (torch.arange(rows - 1)[:, None] * columns + torch.arange(columns - 1)).reshape(-1)
    faces = torch.stack(
        [torch.stack([i, i + 1, i + columns], 1), torch.stack([i + 1, i + columns + 1, i + columns], 1)], 1
    ).reshape(-1, 3)
    turn = (torch.arange(3) + torch.randint(0, 3, (len(faces), 1), generator=g)) % 3
    faces = faces.gather(1, turn).int().contiguous()
    if order == "shuffled":
        faces = faces[torch.randperm(len(faces), generator=g)].contiguous()
    got, want = kernels.rasterize(clip, faces, 40, 56, 0, 1), CPU.rasterize(clip, faces, 40, 56, 0, 1)
    assert want[0].unique().numel() > 300
    same(got, want)


@pytest.mark.parametrize("batch", [1, 4])
def test_few_large_triangles_have_the_same_bits(kernels, dtype, batch):
    """Work items of four triangles, because a warp draws large ones one by one."""
    clip, topology = scene(dtype, batch=batch, vertices=30, faces=25)
    clip[..., 3] = 1
    size = (70, 90)
    got, want = kernels.rasterize(clip, topology.faces, *size, 0, 2), CPU.rasterize(clip, topology.faces, *size, 0, 2)
    assert want[0].unique().numel() > 8
    same(got, want)


@pytest.mark.parametrize("batch", BLOCK)  # with one image, work items are smaller and no meshlets are built
def test_triangles_of_all_sizes_have_the_same_bits(kernels, dtype, batch):
    """Several blocks, the last one incomplete, with triangles of every kind.

    They cover a pixel, a few or hundreds, are wider than 120 pixels, cross the camera plane or have an invalid index.
    """
    clip, _ = scene(dtype, batch=batch, vertices=900, faces=1)
    clip[..., 3] = clip[..., 3].abs()
    clip[:, :3, 3] = -0.3
    g = torch.Generator().manual_seed(1)
    clip[..., :2] = (
        torch.linspace(-1, 1, 900)[:, None] * clip[..., 3:] * torch.tensor([1.0, -0.7])
        + clip[..., :2] * torch.rand(900, 1, generator=g).to(dtype) ** 6
    )
    first = torch.randint(0, 880, (1300,), generator=g)
    near = torch.randint(1, 20, (1300, 2), generator=g)
    faces = torch.stack([first, first + near[:, 0], first + near[:, 1]], 1).int()
    faces[::200] = torch.randint(0, 900, (7, 3), generator=g).int()
    faces[5::300, 2] = -7
    size = (90, 150)
    valid = torch.where((faces < 0).any(1, keepdim=True), faces[:, :1].expand(-1, 3), faces).contiguous()
    got, want = kernels.rasterize(clip, faces, *size, 0, 2), CPU.rasterize(clip, valid, *size, 0, 2)
    assert want[0].unique().numel() > 100
    same(got, want)


@pytest.mark.parametrize("kind", KINDS)
def test_extremes_have_the_same_bits_and_finite_gradients(kernels, kind):
    """What benchmarks.fuzz_ops tries on the CPU back end: a few cases of each kind."""
    for seed in range(8):
        clip, faces = mesh(kind, seed)
        found = CPU.rasterize(clip, faces, *SIZE, seed % 3, 2)
        same(kernels.rasterize(clip, faces, *SIZE, seed % 3, 2), found)
        grads = random(found[1].shape, clip.dtype, "cpu", 1), random(found[2].shape, clip.dtype, "cpu", 2)
        for deterministic in (False, True):
            got = kernels.rasterize_backward(*grads, clip, faces, found[0], deterministic)
            want = CPU.rasterize_backward(*grads, clip, faces, found[0], deterministic)
            assert got.isfinite().all() and want.isfinite().all()
            if not deterministic and kind in ("across", "on a grid", "opposite"):  # moderate numbers
                close(got, want)


@pytest.mark.parametrize("deterministic", [False, True])
def test_rasterize_backward(kernels, dtype, deterministic):
    clip, topology = scene(dtype, batch=3, vertices=40, faces=60)
    face_id, bary, depth = CPU.rasterize(clip, topology.faces, *SIZE, 0, 2)
    grads = random(bary.shape, dtype, "cpu", 1), random(depth.shape, dtype, "cpu", 2)
    for pair in (grads, (grads[0], None), (None, grads[1])):
        arguments = (*pair, clip, topology.faces, face_id, deterministic)
        close(kernels.rasterize_backward(*arguments), CPU.rasterize_backward(*arguments))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("batch", BLOCK)
def test_interpolate(kernels, dtype, batch, deterministic):
    clip, topology = scene(dtype, batch=3, vertices=40, faces=60)
    face_id, bary, _ = CPU.rasterize(clip, topology.faces, *SIZE, 0, 2)
    channels = 5 if batch == 1 else 19  # fewer than the kernel stages at a time, and more
    attributes, background = random((batch, 40, channels), dtype, "cpu", 1), random((channels,), dtype, "cpu", 2)
    for fill in (None, background):
        same(
            kernels.interpolate(attributes, topology.faces, face_id, bary, fill),
            CPU.interpolate(attributes, topology.faces, face_id, bary, fill),
        )
    grad = random((*face_id.shape, channels), dtype, "cpu", 3)
    for wants in ((True, True), (True, False), (False, True)):
        arguments = (grad, attributes, topology.faces, face_id, bary, *wants, deterministic)
        close(kernels.interpolate_backward(*arguments), CPU.interpolate_backward(*arguments))


@pytest.mark.parametrize("shape", [(3, 500, 1), (3, 1, 500), (3, 7, 70)])
def test_interpolate_at_points_without_an_image(kernels, shape):
    clip, topology = scene(batch=3, vertices=40, faces=60)
    g = torch.Generator().manual_seed(2)
    face_id = torch.randint(-1, 60, shape, generator=g, dtype=torch.int32)
    bary = torch.rand(*shape, 3, generator=g)
    attributes, grad = random((3, 40, 4), torch.float32, "cpu", 1), random((*shape, 4), torch.float32, "cpu", 2)
    arguments = (grad, attributes, topology.faces, face_id, bary, True, True, False)
    close(kernels.interpolate_backward(*arguments), CPU.interpolate_backward(*arguments))


@pytest.mark.parametrize("lit", [True, False])
def test_sums_of_warps_with_one_visible_face(kernels, lit):
    """Two triangles and a background: warps with one visible face sum before their atomics, others do not."""
    corners = torch.tensor([[-0.9, -0.8], [0.9, -0.7], [0.8, 0.9], [-0.7, 0.8]])
    clip = torch.cat([corners, torch.zeros(4, 1), torch.tensor([[1.0], [1.2], [0.9], [1.1]])], 1)[None].repeat(2, 1, 1)
    clip[1, :, 0] *= 0.5
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    normals, albedo, light = (
        random((2, 4, 3), torch.float32, "cpu", 1),
        random((2, 4, 3), torch.float32, "cpu", 2),
        random((2, 9, 3), torch.float32, "cpu", 3),
    )
    size = (40, 70)
    face_id, bary, depth = CPU.rasterize(clip, faces, *size, 0, 1)
    visible, grad = face_id[..., 0].contiguous(), random((2, *size, 3), torch.float32, "cpu", 4)
    assert all((visible == f).sum() > 300 for f in (-1, 0, 1))
    for wants in (
        (True, True, True, True),
        (True, False, False, False),
        (False, True, False, False),
        (False, False, True, True),
        (False, False, False, True),
    ):
        arguments = (
            grad,
            clip,
            normals if lit else None,
            albedo,
            light if lit else None,
            faces,
            visible,
            1,
            *wants,
            False,
        )
        close(kernels.render_face_backward(*arguments), CPU.render_face_backward(*arguments))
    arguments = (
        random(bary.shape, torch.float32, "cpu", 5),
        random(depth.shape, torch.float32, "cpu", 6),
        clip,
        faces,
        face_id,
        False,
    )
    close(kernels.rasterize_backward(*arguments), CPU.rasterize_backward(*arguments))


def grid(rows, columns):
    """A sheet of triangles over the whole image, in two images, with shuffled vertices."""
    y, x = torch.meshgrid(torch.linspace(-0.98, 0.98, rows), torch.linspace(-0.96, 0.96, columns), indexing="ij")
    bent = 0.3 * torch.sin(3 * x) * y
    corner = (torch.arange(rows - 1)[:, None] * columns + torch.arange(columns - 1)).reshape(-1, 1)
    faces = torch.cat([corner + torch.tensor([0, 1, columns]), corner + torch.tensor([1, columns + 1, columns])])
    order = torch.randperm(rows * columns, generator=torch.Generator().manual_seed(3))
    clip = torch.empty(rows * columns, 4)
    clip[order] = torch.stack([x, y, bent, 1 + 0.2 * x * y], -1).reshape(-1, 4)
    return torch.stack([clip, clip * torch.tensor([0.9, 1.0, 1.0, 1.1])]), order[faces].int().contiguous()


def fan(triangles):
    """Triangles around one vertex, which all of them share."""
    angle = torch.arange(triangles) * (2 * torch.pi / triangles)
    ring = torch.stack([angle.cos(), angle.sin(), 0 * angle, 1 + 0 * angle], 1)
    clip = torch.cat([torch.tensor([[0.1, 0.05, 0.2, 1.1]]), ring])
    around = torch.arange(triangles)
    return clip[None].repeat(2, 1, 1), torch.stack([0 * around, 1 + around, 1 + (around + 1) % triangles], 1).int()


def faces_in_a_warp(face_id):
    """The largest number of faces that are visible in 8x4 pixels."""
    blocks = (
        face_id[:, : face_id.shape[1] // 4 * 4, : face_id.shape[2] // 8 * 8]
        .unfold(1, 4, 4)
        .unfold(2, 8, 8)
        .reshape(-1, 32)
    )
    return max(row[row >= 0].unique().numel() for row in blocks)


@pytest.mark.parametrize("multiprocessors", [0, 1000])  # four patches per block, and one
@pytest.mark.parametrize(
    "mesh,size",
    [(grid(50, 90), (28, 76)), (grid(6, 9), (28, 76)), (fan(500), (40, 40))],
    ids=["sub-pixel", "large", "fan"],
)
def test_sums_of_warps(kernels, mesh, size, multiprocessors, monkeypatch):
    """Warps with many visible faces sum by corners, others by faces; all faces of the fan share one vertex."""
    monkeypatch.setenv("FACERENDER_SHIM_MULTIPROCESSORS", str(multiprocessors))
    clip, faces = mesh
    vertices = clip.shape[1]
    face_id, bary, depth = CPU.rasterize(clip, faces, *size, 0, 1)
    visible, grad = face_id[..., 0].contiguous(), random((2, *size, 3), torch.float32, "cpu", 4)
    assert faces_in_a_warp(visible) <= 10 if vertices == 54 else faces_in_a_warp(visible) > 25
    normals, light = random((2, vertices, 3), torch.float32, "cpu", 1), random((2, 9, 3), torch.float32, "cpu", 3)
    for shared in BLOCK[:1] + (2,):
        albedo = random((shared, vertices, 3), torch.float32, "cpu", 2)
        for wants in (
            (True,) * 4,
            (True, False, False, False),
            (False, True, False, False),
            (False, False, True, True),
            (False, True, True, False),
        ):
            for lit in (True, False):
                arguments = (
                    grad,
                    clip,
                    normals if lit else None,
                    albedo,
                    light if lit else None,
                    faces,
                    visible,
                    1,
                    *wants,
                    False,
                )
                close(kernels.render_face_backward(*arguments), CPU.render_face_backward(*arguments))
    arguments = (
        random(bary.shape, torch.float32, "cpu", 5),
        random(depth.shape, torch.float32, "cpu", 6),
        clip,
        faces,
        face_id,
        False,
    )
    close(kernels.rasterize_backward(*arguments), CPU.rasterize_backward(*arguments))
    for channels in (1, 3, 8, 11):
        attributes, grad = (
            random((2, vertices, channels), torch.float32, "cpu", 7),
            random((*face_id.shape, channels), torch.float32, "cpu", 8),
        )
        arguments = (grad, attributes, faces, face_id, bary, True, True, False)
        close(kernels.interpolate_backward(*arguments), CPU.interpolate_backward(*arguments))


@pytest.mark.parametrize("mesh,size", [(grid(50, 90), (28, 76)), (grid(6, 9), (28, 76))], ids=["sub-pixel", "large"])
def test_sums_that_are_not_finite_stay_so(kernels, mesh, size):
    clip, faces = mesh
    vertices = clip.shape[1]
    face_id, bary, depth = CPU.rasterize(clip, faces, *size, 0, 1)
    normals, albedo, light = (
        random((2, vertices, 3), torch.float32, "cpu", 1),
        random((2, vertices, 3), torch.float32, "cpu", 2),
        random((2, 9, 3), torch.float32, "cpu", 3),
    )
    grad = random((2, *size, 3), torch.float32, "cpu", 4)
    grad[0, 11, 21, 1] = torch.nan
    arguments = (
        grad,
        clip,
        normals,
        albedo,
        light,
        faces,
        face_id[..., 0].contiguous(),
        1,
        True,
        True,
        True,
        True,
        False,
    )
    for got, want in zip(kernels.render_face_backward(*arguments), CPU.render_face_backward(*arguments)):
        assert want.isnan().any() and torch.equal(got.isnan(), want.isnan())
    close(
        tuple(g.nan_to_num() for g in kernels.render_face_backward(*arguments)),
        tuple(g.nan_to_num() for g in CPU.render_face_backward(*arguments)),
    )
    arguments = (grad[:, :, :, None], depth * torch.nan, clip, faces, face_id, False)
    assert torch.equal(kernels.rasterize_backward(*arguments).isnan(), CPU.rasterize_backward(*arguments).isnan())
    arguments = (grad[:, :, :, None], albedo, faces, face_id, bary, True, False, False)
    assert torch.equal(
        kernels.interpolate_backward(*arguments)[0].isnan(), CPU.interpolate_backward(*arguments)[0].isnan()
    )


def test_positions_at_any_address(kernels, dtype):
    """The kernels load 16 bytes at a time, but a tensor may begin at any address."""
    clip, topology = scene(dtype, batch=2, vertices=40, faces=60)
    moved = torch.empty(clip.numel() + 1, dtype=dtype)[1:].view_as(clip).copy_(clip)
    assert moved.data_ptr() % 16
    same(kernels.rasterize(moved, topology.faces, *SIZE, 0, 1), CPU.rasterize(clip, topology.faces, *SIZE, 0, 1))
    face_id, bary, depth = CPU.rasterize(clip, topology.faces, *SIZE, 0, 1)
    close(
        kernels.rasterize_backward(bary, depth, moved, topology.faces, face_id, False),
        CPU.rasterize_backward(bary, depth, clip, topology.faces, face_id, False),
    )
    albedo, grad, visible = (
        random((2, 40, 3), dtype, "cpu", 1),
        random((2, *SIZE, 3), dtype, "cpu", 2),
        face_id[..., 0].contiguous(),
    )
    results = []
    for ops, c in ((CPU, clip), (kernels, moved)):
        image = ops.render_face(c, None, albedo, None, topology.faces, None, *SIZE, 0, 1)[0]
        arguments = (grad, c, None, albedo, None, topology.faces, visible, 1, True, False, True, False, False)
        gradients = ops.render_face_backward(*arguments)
        edges = ops.edge_gradients_backward(grad, image, c, topology.faces, topology.neighbours, visible, False)
        results.append((image, *gradients, edges))
    close(results[1], results[0])


@pytest.mark.parametrize("attribute", [torch.float16, torch.bfloat16])
def test_attributes_of_16_bits(kernels, attribute):
    clip, topology = scene(batch=3, vertices=40, faces=60)
    face_id, bary, _ = CPU.rasterize(clip, topology.faces, *SIZE, 0, 1)
    a = [random((3, 40, 3), attribute, "cpu", k) for k in range(2)]
    light = random((3, 9, 3), torch.float32, "cpu", 3)
    same(
        kernels.interpolate(a[0], topology.faces, face_id, bary, None),
        CPU.interpolate(a[0], topology.faces, face_id, bary, None),
    )
    same(kernels.sh_shade(*a, light, 1), CPU.sh_shade(*a, light, 1))
    arguments = (clip, *a, light, topology.faces, None, *SIZE, 0, 1)
    same(kernels.render_face(*arguments), CPU.render_face(*arguments))


@pytest.mark.parametrize(
    "batch", [1, 3, 8]
)  # a thread computes one image, or several, of which the last may be missing
def test_vertex_normals_have_the_same_bits(kernels, dtype, batch):
    _, topology = scene(dtype, vertices=300, faces=500)
    v, g = random((batch, 300, 3), dtype, "cpu", 1), random((batch, 300, 3), dtype, "cpu", 2)
    mesh = (topology.faces, topology.offsets, topology.corners)
    same(kernels.vertex_normals(v, *mesh), CPU.vertex_normals(v, *mesh))
    same(kernels.vertex_normals_backward(g, v, *mesh), CPU.vertex_normals_backward(g, v, *mesh))


@pytest.mark.parametrize("albedo_batch", BLOCK)
@pytest.mark.parametrize("light_batch", BLOCK)
def test_sh_shade(kernels, dtype, albedo_batch, light_batch):
    albedo, normals, grad = (
        random((albedo_batch, 700, 3), dtype, "cpu", 1),
        random((3, 700, 3), dtype, "cpu", 2),
        random((3, 700, 3), dtype, "cpu", 4),
    )
    light = random((light_batch, 9, 3), dtype, "cpu", 3)
    for preset in range(3):
        same(kernels.sh_shade(albedo, normals, light, preset), CPU.sh_shade(albedo, normals, light, preset))
    for wants in ((True, True, True), (True, False, False), (False, False, True)):
        arguments = (grad, albedo, normals, light, 2, *wants)
        close(kernels.sh_shade_backward(*arguments), CPU.sh_shade_backward(*arguments))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("shared", BLOCK)
def test_render_face(kernels, dtype, shared, deterministic):
    clip, topology = scene(dtype, batch=3, vertices=60, faces=150)
    normals, albedo, light = (
        random((3, 60, 3), dtype, "cpu", 1),
        random((shared, 60, 3), dtype, "cpu", 2),
        random((shared, 9, 3), dtype, "cpu", 3),
    )
    for background in (None, random((3,), dtype, "cpu", 4), random((shared, *SIZE, 3), dtype, "cpu", 5)):
        for lit in (True, False):
            arguments = (
                clip,
                normals if lit else None,
                albedo,
                light if lit else None,
                topology.faces,
                background,
                *SIZE,
                0,
                1,
            )
            same(kernels.render_face(*arguments), CPU.render_face(*arguments))
    face_id = CPU.render_face(clip, normals, albedo, light, topology.faces, None, *SIZE, 0, 1)[1]
    grad = random((3, *SIZE, 3), dtype, "cpu", 6)
    for wants in ((True,) * 4, (True, False, False, False), (False, False, True, True)):
        arguments = (grad, clip, normals, albedo, light, topology.faces, face_id, 1, *wants, deterministic)
        close(kernels.render_face_backward(*arguments), CPU.render_face_backward(*arguments))


@pytest.mark.parametrize("multiprocessors", [0, 1000])  # four tiles per warp, and one
@pytest.mark.parametrize("size", [(21, 104), (16, 83), (14, 40)])
def test_tiles_have_the_same_bits(kernels, dtype, size, multiprocessors, monkeypatch):
    """Rows of tiles with no, few and many visible faces, across the image's border, aligned to 16 bytes and not."""
    monkeypatch.setenv("FACERENDER_SHIM_MULTIPROCESSORS", str(multiprocessors))
    clip, topology = scene(dtype, batch=3, vertices=60, faces=50)
    clip[..., 3] = 1
    clip[..., :2] = clip[..., :2] * torch.tensor([0.12, 0.2]) + torch.tensor([0.4, 0.3])
    clip[2, :, 0] += 2  # an image without a face
    for bary in (True, False):
        for layers in (1, 2):
            arguments = (clip, topology.faces, *size, 0, layers, bary)
            same(kernels.rasterize(*arguments), CPU.rasterize(*arguments))
    light = random((3, 9, 3), dtype, "cpu", 3)
    for attribute in (dtype, torch.float16, torch.bfloat16) if dtype == torch.float32 else (dtype,):
        for shared in BLOCK:
            normals, albedo = random((3, 60, 3), attribute, "cpu", 1), random((shared, 60, 3), attribute, "cpu", 2)
            for background in (
                None,
                random((3,), attribute, "cpu", 4),
                random((shared, *size, 3), attribute, "cpu", 5),
            ):
                for lit in (True, False):
                    arguments = (
                        clip,
                        normals if lit else None,
                        albedo,
                        light if lit else None,
                        topology.faces,
                        background,
                        *size,
                        0,
                        1,
                    )
                    want = CPU.render_face(*arguments)
                    same(kernels.render_face(*arguments), want)
    padded = torch.nn.functional.pad((want[1] >= 0).float(), (0, -size[1] % 32, 0, -size[0] % 4))
    tiles = torch.nn.functional.max_pool2d(padded, (4, 32))
    assert tiles[:2].max() == 1 and tiles[:2].min() == 0 and tiles[2].max() == 0


@pytest.mark.parametrize("images", [1, 2])
def test_batches_in_parts_have_the_same_bits(kernels, dtype, images, monkeypatch):
    """If the cache holds the keys of a few images only, a batch is processed in parts.

    Each part has its own vertices, normals, albedo, light and background, and writes its own images.
    """
    monkeypatch.setenv("FACERENDER_SHIM_L2_BYTES", str(2 * images * 8 * SIZE[0] * SIZE[1] + 100))
    clip, topology = scene(dtype, batch=5, vertices=60, faces=150)
    for layers in (1, 3):
        arguments = (clip, topology.faces, *SIZE, 0, layers)
        same(kernels.rasterize(*arguments), CPU.rasterize(*arguments))
    for shared in (1, 5):
        normals, albedo, light = (
            random((5, 60, 3), dtype, "cpu", 1),
            random((shared, 60, 3), dtype, "cpu", 2),
            random((shared, 9, 3), dtype, "cpu", 3),
        )
        arguments = (
            clip,
            normals,
            albedo,
            light,
            topology.faces,
            random((shared, *SIZE, 3), dtype, "cpu", 5),
            *SIZE,
            0,
            1,
        )
        same(kernels.render_face(*arguments), CPU.render_face(*arguments))


@pytest.mark.parametrize("deterministic", [False, True])
def test_edge_gradients(kernels, dtype, deterministic):
    clip, topology = scene(dtype, batch=3, vertices=40, faces=60)
    clip[..., 3] = clip[..., 3].abs()
    face_id = CPU.rasterize(clip, topology.faces, *SIZE, 0, 1)[0][..., 0].contiguous()
    image, grad = random((3, *SIZE, 4), dtype, "cpu", 1), random((3, *SIZE, 4), dtype, "cpu", 2)
    arguments = (grad, image, clip, topology.faces, topology.neighbours, face_id, deterministic)
    got = kernels.edge_gradients_backward(*arguments)
    assert got.abs().max() > 0
    close(got, CPU.edge_gradients_backward(*arguments))


def test_faces_with_invalid_indices_are_skipped(kernels, dtype):
    clip, topology = scene(dtype, batch=2, vertices=40, faces=60)
    broken = topology.faces.clone()
    broken[::3, 1] = torch.tensor([40, -1, 2**31 - 1, -(2**31)] * 5, dtype=torch.int32)
    valid = torch.where(
        (torch.arange(60) % 3 == 0)[:, None], topology.faces[:, :1].expand(-1, 3), topology.faces
    )  # no area instead
    got, want = kernels.rasterize(clip, broken, *SIZE, 0, 1), CPU.rasterize(clip, valid.contiguous(), *SIZE, 0, 1)
    same(got, want)
    grad = kernels.rasterize_backward(
        got[1], got[2], clip, broken, torch.full_like(got[0], 70), False
    )  # ids out of range
    assert (grad == 0).all()


def test_kernels_without_work_wait_for_the_previous_one(kernels, dtype):
    """Otherwise later work of the stream starts too early; the shim raises if no thread of a kernel waits."""
    faces = torch.arange(90, dtype=torch.int32).reshape(-1, 3)
    for vertices in (0, 90):
        clip = torch.full((2, vertices, 4), 3.0, dtype=dtype)
        face_id, bary, depth = kernels.rasterize(clip, faces, *SIZE, 0, 2)
        assert (face_id == -1).all() and (bary == 0).all() and (depth == 1).all()
        normals, light, grad = (
            torch.zeros(2, vertices, 3, dtype=dtype),
            torch.zeros(2, 9, 3, dtype=dtype),
            torch.ones(2, *SIZE, 3, dtype=dtype),
        )
        image, visible = kernels.render_face(clip, normals, normals, light, faces, None, *SIZE, 0, 1)
        assert (image == 0).all()
        for deterministic in (False, True):
            kernels.rasterize_backward(bary, depth, clip, faces, face_id, deterministic)
            kernels.interpolate_backward(
                grad[:, :, :, None].expand(-1, -1, -1, 2, -1), normals, faces, face_id, bary, True, True, deterministic
            )
            found = kernels.render_face_backward(
                grad, clip, normals, normals, light, faces, visible, 1, True, True, True, True, deterministic
            )
            assert all((g == 0).all() for g in found)
            kernels.edge_gradients_backward(
                grad, image, clip, faces, torch.full_like(faces, -1), visible, deterministic
            )


def test_deterministic_sums_do_not_depend_on_order(kernels):
    """The shim runs threads in order, so reordering a batch changes float sums, but not fixed-point sums."""
    clip, topology = scene(batch=6, vertices=8, faces=30)
    attributes = random((1, 8, 3), torch.float32, "cpu", 1)
    face_id, bary, _ = CPU.rasterize(clip, topology.faces, *SIZE, 0, 1)
    grad = (
        random((*face_id.shape, 3), torch.float32, "cpu", 2) * 10.0 ** torch.randint(-6, 6, (*face_id.shape, 3)).float()
    )
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    sums = [
        kernels.interpolate_backward(grad[o], attributes, topology.faces, face_id[o], bary[o], True, False, True)[0]
        for o in (torch.arange(6), order)
    ]
    assert torch.equal(*sums)

    clip[..., 3] = clip[..., 3].abs()
    face_id, bary, depth = CPU.rasterize(clip, topology.faces, *SIZE, 0, 1)
    normals, light, grad = (
        random((1, 8, 3), torch.float32, "cpu", 3),
        random((6, 9, 3), torch.float32, "cpu", 4),
        grad[:, :, :, 0].contiguous(),
    )
    found = [
        kernels.render_face_backward(
            grad[o],
            clip[o],
            normals,
            attributes,
            light[o],
            topology.faces,
            face_id[o, ..., 0].contiguous(),
            1,
            True,
            True,
            True,
            True,
            True,
        )
        for o in (torch.arange(6), order)
    ]
    assert torch.equal(found[0][0][order], found[1][0]) and torch.equal(
        found[0][3][order], found[1][3]
    )  # of each image
    assert torch.equal(found[0][1], found[1][1]) and torch.equal(found[0][2], found[1][2])  # of all of them
    found = [
        kernels.rasterize_backward(grad[o][:, :, :, None], depth[o], clip[o], topology.faces, face_id[o], True)
        for o in (torch.arange(6), order)
    ]
    assert torch.equal(found[0][order], found[1])


SOURCES = sorted((ROOT / "csrc/cuda").glob("*.cu"))


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
@pytest.mark.parametrize("standard,arch", [("c++17", "sm_75"), ("c++20", "sm_90")])  # without and with vector atomics
def test_compiles_with_nvcc_without_spills(source, standard, arch):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not on the path")
    include = Path(torch.__file__).parent / "include"
    flags = [
        "-O3",
        "--fmad=false",
        "-Xptxas",
        "-v,-warn-spills",
        "-DUSE_CUDA",
        "-DTORCH_TARGET_VERSION=0x020b000000000000",
    ]
    command = [nvcc, f"-std={standard}", f"-arch={arch}", *flags, f"-I{include}", "-c", str(source), "-o", "/dev/null"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "Registers are spilled" not in run.stderr and "warning" not in run.stderr, [
        line for line in run.stderr.splitlines() if "warning" in line
    ]
