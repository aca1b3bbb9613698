"""Corners opposite each other across the eye, nearly infinite or nearly at the eye: no NaN, and the right pixels."""

import pytest
import torch

import facerender as fr
from benchmarks.fuzz_ops import KINDS, SIZE, faults, mesh
from facerender import reference

TRIANGLE = torch.tensor([[0, 1, 2]], dtype=torch.int32)


@pytest.mark.parametrize("kind", KINDS)
def test_random_meshes_at_the_edge_of_what_numbers_hold(kind):
    for seed in range(40):
        assert not list(faults(kind, seed)), f"benchmarks.fuzz_ops: {kind}, seed {seed}"


def test_the_fuzzer_notices_ids_and_depths_that_are_wrong(monkeypatch):
    right = reference.rasterize

    def wrong(*arguments, **options):
        found = right(*arguments, **options)
        return found._replace(face_id=found.face_id.roll(1, 2), depth=found.depth * 2)

    monkeypatch.setattr(reference, "rasterize", wrong)
    said = " ".join(faults("across", 0))
    assert "face ids differ from the reference" in said and "the reference's depth leaves -1..1" in said


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1.0, 2.0, 3.0, 0.7])
@pytest.mark.parametrize("corner", range(3))
def test_a_triangle_with_opposite_corners_has_no_area_and_is_not_drawn(corner, k, dtype, device):
    a, b = [0.25, -0.5, 0.125, 1.0], [0.5, 1.0, 0.0, 1.5]  # a in powers of two, so that k a is exact
    clip = torch.tensor([a, b, [-k * x for x in a]], dtype=dtype).roll(corner, 0)[None]
    for moved in (clip, clip * torch.tensor([1, 1, 7.0, 1], dtype=dtype)):
        for drawn in (
            fr.rasterize(moved.to(device), TRIANGLE.to(device), SIZE).face_id.cpu(),
            reference.rasterize(moved, TRIANGLE, SIZE).face_id,
        ):
            assert (drawn == -1).all()
    # Next to opposite it has area, and is drawn where it is in front.
    clip[0, (corner + 2) % 3, 1] += 0.5
    drawn = fr.rasterize(clip.to(device), TRIANGLE.to(device), SIZE).face_id.cpu()
    assert (drawn == 0).any() and torch.equal(drawn, reference.rasterize(clip, TRIANGLE, SIZE).face_id)


def test_two_corners_in_one_direction_are_no_opposites(device):
    """A = k C with a positive k is one point of the picture: without area too, by the snapped corners."""
    a = torch.tensor([0.25, -0.5, 0.125, 1.0])
    clip = torch.stack([a, torch.tensor([0.5, 1.0, 0.0, 1.5]), 3 * a])[None]
    assert (fr.rasterize(clip.to(device), TRIANGLE.to(device), SIZE).face_id == -1).all()


@pytest.mark.parametrize("kind", ["opposite", "decades of w", "huge"])
def test_depth_stays_in_range_and_its_gradient_is_finite(kind, device):
    hits = 0
    for seed in range(60):
        clip, faces = mesh(kind, seed)
        clip = clip.to(device).requires_grad_()
        fragments = fr.rasterize(clip, faces.to(device), (23, 31))
        hits += int((fragments.face_id >= 0).sum())
        assert (fragments.depth.abs() <= 1).all()
        (grad,) = torch.autograd.grad(fragments.depth.sum() + fragments.bary[..., 0].sum(), clip)
        assert grad.isfinite().all()
    assert hits > 2000


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("sign", [1, -1])
def test_a_vertex_of_3e38_leaves_the_gradients_of_its_neighbors_finite(axis, sign, device):
    """A strip of triangles of which one corner is nearly infinite: the others keep their gradients."""
    g = torch.Generator().manual_seed(3)
    corners = torch.tensor([[-0.9, -0.9], [-0.8, 0.9], [-0.1, -0.8], [0.0, 0.8], [0.8, -0.9], [0.9, 0.8]])
    clip = torch.cat([corners, torch.zeros(6, 1), torch.ones(6, 1)], 1)[None]
    faces = torch.tensor([[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]], dtype=torch.int32, device=device)
    topology = fr.Topology(faces, 6)
    normals, albedo, weight = (torch.randn(1, *s, generator=g).to(device) for s in ((6, 3), (6, 3), (40, 50, 3)))
    light = fr.lighting.studio(device=device)

    def gradient(positions):
        positions = positions.to(device).requires_grad_()
        rest = normals, albedo, light, topology, (40, 50)
        image, face_id = fr.render_face(positions, *rest)
        fragments = fr.rasterize(positions, topology, (40, 50))
        image = fr.edge_gradients(image, fragments, positions, topology)
        (found,) = torch.autograd.grad((image * weight).sum() + fragments.depth.sum(), positions)
        (inner,) = torch.autograd.grad((fr.render_face(positions, *rest)[0] * weight).sum(), positions)
        return found.cpu(), inner.cpu(), face_id.cpu()

    far = clip.clone()
    far[0, 5, axis] = sign * 3e38  # of the last triangle alone
    (_, before, _), (everything, after, face_id) = gradient(clip), gradient(far)
    assert everything.isfinite().all() and after.isfinite().all()
    assert {0, 1, 2} <= set(face_id.unique().tolist())
    torch.testing.assert_close(after[0, 0], before[0, 0])  # vertex 0 is a corner of the first triangle alone


def test_a_mesh_near_the_eye_is_drawn_at_any_scale(device):
    """Clip positions are homogeneous: a common factor changes nothing, within what floats hold."""
    clip, faces = mesh("across", 4)
    clip = clip.float()
    want = fr.rasterize(clip.to(device), faces.to(device), SIZE).face_id.cpu()
    assert (want >= 0).any()
    for exponent in (-60, -40, 40, 60):
        scaled = clip * 2.0**exponent
        got = fr.rasterize(scaled.to(device), faces.to(device), SIZE).face_id.cpu()
        assert torch.equal(got, want), exponent
        assert torch.equal(reference.rasterize(scaled, faces, SIZE).face_id, want)


def test_triangles_without_barycentrics_have_no_gradient_at_all(device):
    """In sixteen lanes as for single pixels, and as in the reference."""
    clip = torch.tensor([[[-0.9, -0.9, 0.1, 1], [3e38, 0.2, 0.3, 1], [-0.8, 0.9, -0.2, 1]]])
    for width in (9, 16, 33):
        found = []
        for module, place in ((fr, device), (reference, torch.device("cpu"))):
            positions = clip.to(place).requires_grad_()
            fragments = module.rasterize(positions, TRIANGLE.to(place), (12, width))
            assert (fragments.face_id >= 0).sum() > 20
            assert fragments.bary[fragments.face_id >= 0].unique().tolist() == [0.25, 0.5]
            (grad,) = torch.autograd.grad(fragments.depth.sum() + fragments.bary[..., 0].sum(), positions)
            found.append(grad.cpu())
        assert (found[0] == 0).all() and torch.equal(*found)
