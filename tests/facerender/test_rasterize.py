"""Which pixel belongs to which triangle: exactly."""

import math
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

import facerender as fr
from facerender import reference
from tests.ops import scene

HEIGHT, WIDTH = 13, 21


def on_screen(pixels, z=None, size=(HEIGHT, WIDTH)):
    """Clip positions [1,V,4], w = 1, of pixel coordinates [V,2]."""
    pixels = torch.as_tensor(pixels, dtype=torch.float64)
    x, y = pixels[:, 0] * (2 / size[1]) - 1, 1 - pixels[:, 1] * (2 / size[0])
    z = torch.zeros_like(x) if z is None else torch.as_tensor(z, dtype=torch.float64)
    return torch.stack([x, y, z, torch.ones_like(x)], -1)[None]


def faces_of(rows):
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, 3)


def rational_coverage(clip, faces, size):
    """[F,H,W] by Fractions and half-planes, with no code of the library.

    Vertices are snapped; a pixel center is moved right by an infinitely small step, and down by an infinitely smaller
    one.
    """
    height, width = size
    inside = np.zeros((len(faces), height, width), bool)
    points = []
    for x, y, _, w in clip.double().tolist():
        assert w == 1
        points.append(
            (Fraction(round((x + 1) * width / 2 * 256), 256), Fraction(round((1 - y) * height / 2 * 256), 256))
        )
    for f, (a, b, c) in enumerate(faces.tolist()):
        p, q, r = points[a], points[b], points[c]
        if (q[0] - p[0]) * (r[1] - p[1]) < (q[1] - p[1]) * (r[0] - p[0]):
            q, r = r, q
        for i in range(height):
            for j in range(width):
                x, y = j + Fraction(1, 2), i + Fraction(1, 2)
                signs = []
                for (x0, y0), (x1, y1) in ((p, q), (q, r), (r, p)):
                    dx, dy = x1 - x0, y1 - y0
                    # value, then its change along the first step, then along the second
                    signs.append((dx * (y - y0) - dy * (x - x0), -dy, dx))
                inside[f, i, j] = all(s > (0, 0, 0) for s in signs)
    return inside


def soups():
    """(name, clip [1,V,4], faces): meshes that are hard on a rasterizer."""
    g = torch.Generator().manual_seed(3)

    def rand(*shape):
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    size = torch.tensor([WIDTH, HEIGHT])
    index = torch.randint(0, 24, (30, 3), generator=g)
    yield "random", rand(24, 2) * (size + 8) - 4, index
    yield "vertices on pixel centers", (rand(24, 2) * size).floor() + 0.5, index
    yield "vertices on pixel corners", (rand(24, 2) * size).round(), index
    yield "vertices on half pixels", (rand(24, 2) * size * 2).round() / 2, index
    center = rand(30, 1, 2) * size
    hit = center.floor() + 0.5  # most of these hold the center
    yield "sub-pixel", (hit + rand(30, 3, 2) * 0.4 - 0.2).reshape(-1, 2), torch.arange(90).reshape(-1, 3)
    yield "smaller than the grid", (hit + rand(30, 3, 2) * 0.01 - 0.005).reshape(-1, 2), torch.arange(90).reshape(-1, 3)
    ends = rand(30, 2, 2) * size
    sliver = torch.cat([ends, ends.mean(1, keepdim=True) + rand(30, 1, 2) * 0.02], 1)
    yield "slivers", sliver.reshape(-1, 2), torch.arange(90).reshape(-1, 3)
    yield "huge", (rand(24, 2) - 0.5) * 8000, index
    yield "one to eight pixels", (center + rand(30, 3, 2) * 8).reshape(-1, 2), torch.arange(90).reshape(-1, 3)
    yield (
        "level and upright edges",
        torch.stack([(rand(24) * WIDTH).round() + 0.5, (rand(24) * HEIGHT).round() + 0.5], 1),
        index,
    )


SOUPS = list(soups())


@pytest.mark.parametrize("name,pixels,index", SOUPS, ids=[s[0] for s in SOUPS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coverage_is_that_of_rational_arithmetic(name, pixels, index, dtype, device):
    clip = on_screen(pixels).to(dtype)
    inside = rational_coverage(clip[0], index, (HEIGHT, WIDTH))
    # one triangle at a time, so that nothing hides anything
    for f in range(len(index)):
        got = (
            fr.rasterize(clip.to(device), faces_of(index[f].tolist()).to(device), (HEIGHT, WIDTH)).face_id[0].cpu() == 0
        )
        assert np.array_equal(got.numpy(), inside[f]), f"triangle {f}: {pixels[index[f]].tolist()}"


@pytest.mark.parametrize("name,pixels,index", SOUPS, ids=[s[0] for s in SOUPS])
@pytest.mark.parametrize("cull", ["none", "back", "front"])
def test_ids_are_those_of_the_reference_with_depth(name, pixels, index, cull, device):
    z = (
        torch.rand(len(pixels), generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 2.4 - 1.2
    )  # partly outside -1..1
    clip = on_screen(pixels, z).float()
    got = fr.rasterize(clip.to(device), index.int().to(device), (HEIGHT, WIDTH), cull, layers=3)
    want = reference.rasterize(clip, index.int(), (HEIGHT, WIDTH), cull, layers=3)
    assert torch.equal(got.face_id.cpu(), want.face_id)
    assert (got.face_id >= 0).any() or name == "slivers"


@pytest.mark.parametrize("size", [(8, 8), (4, 7), (1, 1), (300, 310)])
@pytest.mark.parametrize("reach", [20, 150, 1000, 9000])
def test_huge_triangles_of_which_the_image_shows_a_few_pixels(reach, size, device):
    """Their clipped boxes are small, and their edge functions too large for 32 bits."""
    g = torch.Generator().manual_seed(reach)
    pixels = (torch.rand(3 * 40, 2, generator=g, dtype=torch.float64) * 2 - 1) * reach
    pixels = pixels.reshape(40, 3, 2)
    pixels[:, 0] = torch.rand(40, 2, generator=g, dtype=torch.float64) * 5  # one corner near the image's own
    clip, faces = (
        on_screen(pixels.reshape(-1, 2), size=size).float(),
        torch.arange(120, dtype=torch.int32).reshape(-1, 3),
    )
    near = (slice(None), slice(0, 12), slice(0, 12))
    for f in range(40):
        got = fr.rasterize(clip.to(device), faces[f : f + 1].to(device), size).face_id.cpu()[near]
        crop = rational_coverage(clip[0], faces[f : f + 1], size) if size[0] < 10 else None
        want = (
            fr.rasterize(clip.double(), faces[f : f + 1], size).face_id[near]
            if crop is None
            else torch.from_numpy(crop[0].astype(np.int32) - 1)[None][near]
        )
        assert torch.equal(got, want)


@pytest.mark.parametrize("seed", range(12))
def test_near_plane_crossings_are_those_of_the_reference(seed, device):
    g = torch.Generator().manual_seed(seed)
    clip = torch.randn(2, 12, 4, generator=g)
    clip[..., 3] = torch.randn(2, 12, generator=g) * [1.0, 1e-3, 100.0, 1.0][seed % 4]
    if seed % 4 == 3:
        clip = (clip * 2).round() / 2  # corners at w = 0, edges through pixel centers
    faces = torch.randint(0, 12, (14, 3), generator=g, dtype=torch.int32)
    got = fr.rasterize(clip.to(device), faces.to(device), (HEIGHT, WIDTH), layers=2).face_id.cpu()
    assert torch.equal(got, reference.rasterize(clip, faces, (HEIGHT, WIDTH), layers=2).face_id)


@pytest.mark.parametrize("seed", range(40))
def test_every_pixel_center_of_a_closed_fan_belongs_to_exactly_one_triangle(seed, device):
    """Drawn one by one, so that an overlap would be seen as well as a hole."""
    g = torch.Generator().manual_seed(seed)
    spokes = int(torch.randint(3, 9, (), generator=g))
    angles = torch.sort(torch.rand(spokes, generator=g, dtype=torch.float64) * 0.5 + torch.arange(spokes))[0] * (
        2 * math.pi / spokes
    )
    rim = torch.stack([10 + 40 * angles.cos(), 6 + 40 * angles.sin()], 1)
    hub = torch.rand(1, 2, generator=g, dtype=torch.float64) * torch.tensor([WIDTH, HEIGHT])
    if seed % 2:
        hub = hub.floor() + 0.5  # exactly on a pixel center
    if seed % 5 == 0:
        rim = (rim - 0.5).round() + 0.5  # spokes through many pixel centers
    clip = on_screen(torch.cat([hub, rim])).float()
    if seed % 3 == 2:  # the same picture with w other than 1, and some of the rim behind the camera
        far = torch.tensor([[10.0 + 60 * a.cos(), 6 + 60 * a.sin()] for a in angles], dtype=torch.float64)
        clip = torch.cat([on_screen(hub).float() * 3, on_screen(far).float() * 0.7], 1)
    count = torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
    for k in range(spokes):
        face = faces_of([0, 1 + k, 1 + (k + 1) % spokes] if k % 2 else [0, 1 + (k + 1) % spokes, 1 + k]).to(device)
        count += (fr.rasterize(clip.to(device), face, (HEIGHT, WIDTH)).face_id[0].cpu() >= 0).long()
    assert torch.equal(count, torch.ones_like(count)), f"holes {(count == 0).sum()}, twice {(count > 1).sum()}"


def test_a_fan_around_a_point_with_corners_behind_the_camera_has_no_holes(device):
    """The floor under the viewer: four triangles around a point in front; two of their outer corners lie behind."""
    floor = torch.tensor(
        [[0.1, -1.0, -2.0], [9.0, -1.0, -9.0], [-9.0, -1.0, -9.0], [-9.0, -1.0, 9.0], [9.0, -1.0, 9.0]]
    )
    clip = fr.camera.pinhole(floor[None], 12.0, (WIDTH / 2, HEIGHT / 2), (HEIGHT, WIDTH), 0.1, 100.0)
    faces = faces_of([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1]]).to(device)
    count = sum(
        (fr.rasterize(clip.to(device), faces[k : k + 1], (HEIGHT, WIDTH)).face_id[0].cpu() >= 0).long()
        for k in range(4)
    )
    horizon = (
        1 - 2 * torch.arange(0.5, HEIGHT) / HEIGHT < -(1 / 9.0) * 2 * 12 / HEIGHT - 1e-3
    )  # rows that look at the floor
    assert torch.equal(count[horizon], torch.ones_like(count[horizon]))


def test_a_symmetric_face_has_no_holes_down_its_middle(device):
    """Vertices and edges exactly on the column of pixel centers in the middle."""
    from benchmarks.meshes import head

    v, f, _ = head(24)
    v = torch.from_numpy(v)
    clip = fr.camera.orthographic(v[None] - (v.amax(0) + v.amin(0)) / 2, 1.3)
    size = (225, 225)
    clip[0, clip[0, :, 0].abs() < 2e-3, 0] = 0  # the middle column of an odd width
    seen = fr.rasterize(clip.to(device), torch.from_numpy(f).to(device), size).face_id[0].cpu() >= 0
    for row in seen:
        columns = row.nonzero()
        assert len(columns) == 0 or bool(row[columns.min() : columns.max() + 1].all())


def test_at_equal_depth_the_lower_index_wins(device):
    clip = on_screen([[1, 1], [19, 1], [10, 12]]).float().to(device)
    for order in ([[0, 1, 2], [0, 2, 1], [1, 2, 0]], [[2, 1, 0], [0, 1, 2], [1, 0, 2]]):
        ids = fr.rasterize(clip, faces_of(order).to(device), (HEIGHT, WIDTH), layers=3).face_id[0].cpu()
        inside = ids[..., 0] >= 0
        assert inside.any() and (ids[inside] == torch.tensor([0, 1, 2], dtype=torch.int32)).all()


def test_the_order_of_faces_does_not_matter(device):
    g = torch.Generator().manual_seed(0)
    clip = torch.randn(1, 60, 4, generator=g)
    clip[..., 3] = 1
    faces = (
        torch.randint(0, 60, (400, 3), generator=g, dtype=torch.int32).sort(1)[0].unique(dim=0)
    )  # no two alike, which would tie
    order = torch.randperm(len(faces), generator=g)
    a = fr.rasterize(clip.to(device), faces.to(device), (64, 64)).face_id.cpu()
    b = fr.rasterize(clip.to(device), faces[order].to(device), (64, 64)).face_id.cpu()
    assert torch.equal(a, torch.where(b >= 0, order[b.clamp(min=0).long()].int(), b))


def test_culling_keeps_counter_clockwise_triangles_as_the_front(device):
    counter = (
        on_screen([[2, 11], [18, 11], [10, 2]]).float().to(device)
    )  # y down: left, right, up is counter-clockwise on the screen
    face = faces_of([[0, 1, 2]]).to(device)
    assert (fr.rasterize(counter, face, (HEIGHT, WIDTH), "back").face_id >= 0).any()
    assert (fr.rasterize(counter, face, (HEIGHT, WIDTH), "front").face_id < 0).all()
    assert (fr.rasterize(counter, face.flip(1).contiguous(), (HEIGHT, WIDTH), "front").face_id >= 0).any()


def test_hand_worked_barycentrics_and_depth(device):
    """A triangle with corners at pixel (0, 0), (8, 0), (0, 8): at pixel (1, 2) the center is (2.5, 1.5)."""
    clip = on_screen([[0, 0], [8, 0], [0, 8]], z=[0.0, 0.8, -0.4], size=(8, 8)).float().to(device)
    out = fr.rasterize(clip, faces_of([[0, 1, 2]]).to(device), (8, 8))
    torch.testing.assert_close(out.bary[0, 1, 2].cpu(), torch.tensor([0.5, 0.3125, 0.1875]))
    torch.testing.assert_close(out.depth[0, 1, 2].cpu(), torch.tensor(0.3125 * 0.8 - 0.1875 * 0.4))
    # the diagonal x + y = 8 passes through the centers of pixels (i, 7 - i): a right edge, which does not own them
    assert [int((out.face_id[0, i] >= 0).sum()) for i in range(8)] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert out.bary[0, 7, 7].abs().sum() == 0 and out.depth[0, 7, 7] == 1 and out.face_id[0, 7, 7] == -1


def test_perspective_correct_barycentrics(device):
    """A corner twice as far away counts half as much on the screen."""
    clip = on_screen([[0, 0], [16, 0], [0, 16]], size=(16, 16))
    clip[0, 1] *= 3
    clip = clip.float().to(device)
    b = fr.rasterize(clip, faces_of([[0, 1, 2]]).to(device), (16, 16)).bary[0, 2, 5].cpu()
    affine = torch.tensor([1 - 5.5 / 16 - 2.5 / 16, 5.5 / 16, 2.5 / 16])
    weights = affine / torch.tensor([1.0, 3.0, 1.0])
    torch.testing.assert_close(b, weights / weights.sum())


@pytest.mark.parametrize("layers", [1, 2])
def test_without_barycentrics_the_rest_is_the_same(layers, device):
    clip, topology = scene(torch.float32, device, batch=2, vertices=300, faces=900)
    results = []
    for barycentrics in (True, False):
        leaf = clip.clone().requires_grad_()
        out = fr.rasterize(leaf, topology, (HEIGHT, WIDTH), layers=layers, barycentrics=barycentrics)
        assert (out.bary is not None) == barycentrics
        results.append(
            (
                out.face_id,
                out.depth,
                *torch.autograd.grad(
                    (out.depth * torch.linspace(-1, 1, WIDTH, device=device).reshape(WIDTH, *[1] * (layers - 1))).sum(),
                    leaf,
                ),
            )
        )
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
    torch.testing.assert_close(results[0][2], results[1][2])
    assert results[0][2].any()
    with pytest.raises(TypeError, match=r"fragments.bary must be a tensor .*, got None"):
        fr.interpolate(clip, topology, out)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("component", range(4))
def test_a_corner_that_is_not_finite_takes_its_triangle_away_and_nothing_else(bad, component, device):
    clip = on_screen(
        [[1, 1], [19, 1], [10, 12], [2, 2], [18, 2], [10, 11]], z=[0.5, 0.5, 0.5, -0.5, -0.5, -0.5]
    ).float()
    faces = faces_of([[0, 1, 2], [3, 4, 5]])
    alone = fr.rasterize(clip[:, :3].to(device), faces[:1].to(device), (HEIGHT, WIDTH))
    clip[0, 4, component] = bad
    leaf = clip.to(device).requires_grad_()
    out = fr.rasterize(leaf, faces.to(device), (HEIGHT, WIDTH))
    assert torch.equal(out.face_id, alone.face_id)
    assert torch.isfinite(out.bary).all() and torch.isfinite(out.depth).all()
    (grad,) = torch.autograd.grad(
        (out.bary * torch.tensor([1.0, 2.0, 3.0], device=device)).sum() + out.depth.sum(), leaf
    )
    assert torch.isfinite(grad).all() and (grad[0, 3:] == 0).all() and (grad[0, :3] != 0).any()


def test_triangles_without_area_and_behind_the_camera_are_not_drawn(device):
    line = on_screen([[1, 1], [10, 6], [19, 11]]).float()
    behind = on_screen([[1, 1], [19, 1], [10, 12]]).float() * -1
    beyond = on_screen([[1, 1], [19, 1], [10, 12]], z=[1.5, 1.5, 1.5]).float()
    for clip in (line, behind, beyond, torch.zeros(1, 3, 4)):
        out = fr.rasterize(clip.to(device), faces_of([[0, 1, 2], [0, 0, 1]]).to(device), (HEIGHT, WIDTH))
        assert (out.face_id == -1).all() and (out.bary == 0).all() and (out.depth == 1).all()


def test_nearly_degenerate_triangles_give_finite_barycentrics(device):
    g = torch.Generator().manual_seed(0)
    ends = torch.rand(500, 2, 2, generator=g, dtype=torch.float64) * torch.tensor([WIDTH, HEIGHT])
    middle = ends.mean(1, keepdim=True) + (torch.rand(500, 1, 2, generator=g, dtype=torch.float64) - 0.5) * 0.01
    clip = on_screen(torch.cat([ends, middle], 1).reshape(-1, 2)).float().to(device).requires_grad_()
    out = fr.rasterize(clip, torch.arange(1500, dtype=torch.int32).reshape(-1, 3).to(device), (HEIGHT, WIDTH))
    assert (out.face_id >= 0).any()
    assert out.bary.amin() >= 0 and out.bary.amax() <= 1
    torch.testing.assert_close(out.bary.sum(-1), (out.face_id >= 0).float())
    (grad,) = torch.autograd.grad(out.bary.square().sum(), clip)
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("batch", [1, 7])  # split over threads, and whole images on threads
def test_an_index_out_of_range_is_an_error_on_the_cpu(batch):
    clip = on_screen([[1, 1], [19, 1], [10, 12]]).float().repeat(batch, 1, 1)
    for index in (3, -1, 2**31 - 1, -(2**31)):
        with pytest.raises(RuntimeError, match=f"faces holds the vertex index {index}, but there are 3 vertices"):
            fr.rasterize(clip, faces_of([[0, 1, index]]), (HEIGHT, WIDTH))
        with pytest.raises(RuntimeError, match=f"faces holds the vertex index {index}, but there are 3 vertices"):
            fr.render_face(clip, None, torch.zeros(1, 3, 3), None, faces_of([[0, 1, index]]), (HEIGHT, WIDTH))


def test_an_index_out_of_range_is_not_drawn_on_cuda(cuda):
    clip = on_screen([[1, 1], [19, 1], [10, 12]]).float().to(cuda)
    out = fr.rasterize(clip, faces_of([[0, 1, 2**31 - 1], [-5, 1, 2], [0, 1, 2]]).to(cuda), (HEIGHT, WIDTH))
    assert set(out.face_id.unique().tolist()) == {-1, 2}


def test_sizes_and_choices_are_checked():
    clip, face = on_screen([[1, 1], [19, 1], [10, 12]]).float(), faces_of([[0, 1, 2]])
    for arguments, error, message in (
        ({"size": 64}, TypeError, r"size must be \(height, width\), two integers, got int 64"),
        ({"size": (8, 20000)}, ValueError, r"size must have a height and width in 0..16384, got \(8, 20000\)"),
        ({"size": (8, -1)}, ValueError, r"0..16384"),
        ({"size": (8, 8), "cull": "ccw"}, ValueError, r"cull must be one of 'none', 'back', 'front', got 'ccw'"),
        ({"size": (8, 8), "layers": 0}, ValueError, r"layers must be a positive integer, got 0"),
    ):
        with pytest.raises(error, match=message):
            fr.rasterize(clip, face, **arguments)
    with pytest.raises(TypeError, match=r"faces must be int32 \[F,3\], got int64 \[1, 3\]"):
        fr.rasterize(clip, face.long(), (8, 8))


@pytest.mark.parametrize("size", [(0, 8), (8, 0), (1, 1), (1, 40), (40, 1), (16384, 1)])
def test_unusual_sizes(size, device):
    clip = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]], device=device)
    out = fr.rasterize(clip, faces_of([[0, 1, 2]]).to(device), size)
    assert out.face_id.shape == (1, *size) and (out.face_id == 0).all()


def test_every_cpu_level_gives_the_same_bits():
    """The processor's best instruction set against the one that every machine has."""
    program = """
import hashlib, os, sys, torch

def main():
    import facerender as fr
    from tests.ops import random, scene
    size = (75, 91)
    clip, topology = scene(vertices=400, faces=6000, batch=2)
    clip[1, :, 3] = 1
    albedo, normals = (random((2, 400, 3), torch.float32, "cpu", k) for k in range(2))
    light = random((2, 9, 3), torch.float32, "cpu", 3)
    out = [*fr.rasterize(clip, topology, size), *fr.render_face(clip, albedo, normals, light, topology, size)]
    out += [fr.interpolate(albedo, topology, fr.rasterize(clip, topology, size)), fr.sh_shade(albedo, normals, light)]
    leaves = [t.requires_grad_() for t in (clip, albedo, normals, light)]
    image = fr.render_face(*leaves, topology, size)[0]
    image = image + fr.interpolate(normals, topology, fr.rasterize(clip, topology, size))
    weight = random(image.shape, torch.float32, "cpu", 5)
    out = [o.detach() for o in out] + list(torch.autograd.grad((image * weight).sum(), leaves[:3]))
    print(fr.build_info()["cpu_level"], hashlib.sha256(b"".join(o.numpy().tobytes() for o in out)).hexdigest())

for level in ("", "x86-64-v3", "baseline"):
    child = os.fork()  # with torch imported, and facerender, which reads the variable, not yet
    if child == 0:
        os.environ["FACERENDER_CPU_LEVEL"] = level
        main()
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, level
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=os.getcwd())
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    assert len(lines) == 3
    results = {name: digest for name, digest in lines}
    if len(results) == 1:
        pytest.skip("this build or machine has the baseline alone")
    assert len(set(results.values())) == 1, results
