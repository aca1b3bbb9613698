"""Cameras: where points land, in pixels and in depth."""

import math

import pytest
import torch

import facerender as fr
from facerender import camera

F64 = torch.float64


def test_two_axes_make_a_rotation_and_those_of_a_rotation_make_it_again():
    rotation = camera.euler_rotation(torch.randn(5, 3, dtype=F64))
    torch.testing.assert_close(
        camera.rotation_from_axes(3 * rotation[:, 0], rotation[:, 1] + 2 * rotation[:, 0]), rotation
    )
    made = camera.rotation_from_axes(torch.randn(2, 4, 3, dtype=F64), torch.randn(2, 4, 3, dtype=F64))
    torch.testing.assert_close(made @ made.mT, torch.eye(3, dtype=F64).expand(2, 4, 3, 3))
    assert (torch.linalg.det(made) > 0).all()


def test_euler_rotation_is_rz_ry_rx():
    a = torch.tensor([[0.3, -0.7, 1.1]], dtype=F64)
    (x, y, z), one, zero = a[0], torch.ones((), dtype=F64), torch.zeros((), dtype=F64)
    rx = torch.stack([one, zero, zero, zero, x.cos(), -x.sin(), zero, x.sin(), x.cos()]).reshape(3, 3)
    ry = torch.stack([y.cos(), zero, y.sin(), zero, one, zero, -y.sin(), zero, y.cos()]).reshape(3, 3)
    rz = torch.stack([z.cos(), -z.sin(), zero, z.sin(), z.cos(), zero, zero, zero, one]).reshape(3, 3)
    torch.testing.assert_close(camera.euler_rotation(a)[0], rz @ ry @ rx)


def test_deep3d_camera_puts_points_where_its_formula_does():
    """Deng et al.: x_px = 1015 x / (10 - z) + 112, and y from the bottom likewise."""
    v = torch.tensor([[[0.0, 0.0, 0.0], [0.5, -0.25, 0.4]]], dtype=F64)
    clip = camera.deep3d(v, torch.eye(3, dtype=F64)[None], torch.zeros(1, 3, dtype=F64))
    x, y, z = v[0].unbind(-1)
    want = torch.stack([1015 * x / (10 - z) + 112, 224 - (1015 * y / (10 - z) + 112)], -1)
    torch.testing.assert_close(camera.to_pixels(clip, (224, 224))[0], want)
    assert clip[0, 1, 2] / clip[0, 1, 3] < clip[0, 0, 2] / clip[0, 0, 3]  # towards the viewer is nearer


@pytest.mark.parametrize("units,count", [("millimeters", 100.0), ("centimeters", 10.0), ("meters", 0.1)])
def test_deep3d_camera_draws_other_units_where_it_draws_decimeters(units, count):
    v, rotation = torch.randn(2, 9, 3, dtype=F64), camera.euler_rotation(torch.randn(2, 3, dtype=F64))
    shift = torch.randn(2, 3, dtype=F64)
    want = camera.deep3d(v, rotation, shift, 96)
    torch.testing.assert_close(camera.deep3d(v * count, rotation, shift * count, 96, units_per_decimeter=count), want)
    assert torch.equal(camera.deep3d(v, rotation, shift, 96, units_per_decimeter=1), want)


def test_deep3d_camera_rejects_a_unit_without_length():
    v = torch.zeros(1, 1, 3)
    for count in (0, -100.0, float("nan")):
        with pytest.raises(ValueError, match="units_per_decimeter must be positive, got"):
            camera.deep3d(v, torch.eye(3)[None], v[:, 0], units_per_decimeter=count)


def test_near_and_far_are_the_ends_of_the_depth_range():
    v = torch.tensor([[[0.0, 0, -5], [0, 0, -15]]], dtype=F64)
    clip = camera.pinhole(v, 100.0, (50, 50), (100, 100), 5.0, 15.0)
    torch.testing.assert_close(clip[0, :, 2] / clip[0, :, 3], torch.tensor([-1.0, 1.0], dtype=F64))


def test_weak_perspective_is_scale_times_rotated_plus_shift():
    v = torch.randn(2, 5, 3, dtype=F64)
    rotation = camera.euler_rotation(torch.randn(2, 3, dtype=F64))
    scale, shift = torch.tensor([3.0, 7.0], dtype=F64), torch.randn(2, 3, dtype=F64) + 30
    clip = camera.weak_perspective(v, scale, rotation, shift, (48, 64))
    want = scale[:, None, None] * (v @ rotation.transpose(1, 2)) + shift[:, None]
    pixels = camera.to_pixels(clip, (48, 64))
    torch.testing.assert_close(pixels[..., 0], want[..., 0])
    torch.testing.assert_close(48 - pixels[..., 1], want[..., 1])


def test_look_at_brings_the_target_in_front():
    eye, target = torch.tensor([[3.0, 1, 2]], dtype=F64), torch.tensor([[0.0, 0.5, 0]], dtype=F64)
    rotation, translation = camera.look_at(eye, target)
    p = camera.transform(target[:, None], rotation, translation)[0, 0]
    torch.testing.assert_close(p, torch.tensor([0, 0, -float((eye - target).norm())], dtype=F64))
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3, dtype=F64)[None])


@pytest.mark.parametrize("projection", ["pinhole", "orthographic"])
@pytest.mark.parametrize("size", [(64, 64), (48, 96), (96, 48)])
def test_framing_keeps_the_mesh_inside(projection, size):
    v = torch.randn(1, 200, 3) * torch.tensor([1.0, 3.0, 2.0]) + 50
    clip = camera.framing(v, size, projection)
    ndc = clip[..., :3] / clip[..., 3:]
    assert ndc.abs().max() <= 1
    assert (ndc[..., :2] * torch.tensor([size[1], size[0]]) / min(size)).abs().max() > 0.7


def test_euler_angles_are_those_a_rotation_was_made_of():
    angles = (torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) - 0.5) * torch.tensor([6.0, 3.1, 6.0])
    assert torch.allclose(fr.camera.euler_angles(fr.camera.euler_rotation(angles)), angles, atol=1e-4)
    upright = fr.camera.euler_rotation(torch.tensor([[0.3, torch.pi / 2, 0.1]], dtype=torch.float64))
    again = fr.camera.euler_rotation(fr.camera.euler_angles(upright))
    assert torch.allclose(again, upright, atol=1e-6)  # at a quarter turn another set of angles, but the same rotation


def test_pinhole_takes_a_focal_length_and_a_center_for_each_image():
    v = torch.randn(3, 7, 3, dtype=F64) - torch.tensor([0.0, 0, 9])
    focal, center = torch.tensor([80.0, 100, 150]), torch.tensor([[50.0, 40], [45, 30], [60, 41]])
    got = camera.pinhole(v, focal, center, (80, 100), 1.0, 20.0)
    for n in range(3):
        point = (center[n, 0].item(), center[n, 1].item())
        want = camera.pinhole(v[n : n + 1], focal[n].item(), point, (80, 100), 1.0, 20.0)
        torch.testing.assert_close(got[n : n + 1], want)
        x, y, z = v[n].unbind(-1)
        pixels = torch.stack([focal[n] * x / -z + center[n, 0], center[n, 1] - focal[n] * y / -z], -1)
        torch.testing.assert_close(camera.to_pixels(got[n], (80, 100)), pixels)
    focal.requires_grad_()
    center.requires_grad_()
    camera.to_pixels(camera.pinhole(v, focal, center, (80, 100), 1.0, 20.0), (80, 100)).sum().backward()
    torch.testing.assert_close(center.grad, torch.full((3, 2), 7.0))
    assert focal.grad.abs().min() > 0


def test_pinhole_rejects_a_focal_length_or_center_that_does_not_fit():
    v = torch.zeros(3, 1, 3)
    with pytest.raises(ValueError, match=r"focal must be \[N\|1\] with N=3.*, got float32 \[2\]"):
        camera.pinhole(v, torch.ones(2), (1, 1), (2, 2), 1.0, 2.0)
    with pytest.raises(ValueError, match=r"center must be \[N\|1,2\] with N=3.*, got float32 \[2, 2\]"):
        camera.pinhole(v, 1.0, torch.ones(2, 2), (2, 2), 1.0, 2.0)
    with pytest.raises(ValueError, match=r"center must be \(x, y\) or \[N,2\]"):
        camera.pinhole(v, 1.0, (1, 1, 1), (2, 2), 1.0, 2.0)


def test_the_focal_length_of_a_field_of_view_puts_its_ends_at_the_sides():
    fov = torch.tensor([0.3, 1.2], dtype=F64)
    ray = torch.stack([(fov / 2).tan(), torch.zeros(2, dtype=F64), -torch.ones(2, dtype=F64)], -1)[:, None]
    clip = camera.pinhole(ray * 5, camera.focal_length(fov, 100), (50, 40), (80, 100), 1.0, 20.0)
    torch.testing.assert_close(camera.to_pixels(clip, (80, 100))[..., 0], torch.full((2, 1), 100.0, dtype=F64))
    assert float(camera.focal_length(1.0, 10)) == pytest.approx(9.1524388)


CUBE = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)[None]  # two units wide


@pytest.mark.parametrize(
    "shift,words",
    [
        ((0, 0, -10), None),
        ((0, 0, 10), "behind the camera"),
        ((-30, 0, -10), "left of the picture"),
        ((30, 0, -10), "right of the picture"),
        ((0, 30, -10), "above the picture"),
        ((0, -30, -10), "below the picture"),
        ((0, 0, -2.5), "nearer than the near plane"),
        ((0, 0, -90), "farther than the far plane"),
        ((float("nan"), 0, -10), "none of its vertices is finite"),
        ((0, 0, -4), None),  # some of it is too near
        ((0, 0, 0), "nearer than the near plane"),  # around the camera
    ],
)
def test_why_a_mesh_is_out_of_view(shift, words):
    clip = camera.pinhole(CUBE + torch.tensor(shift), 100.0, (50, 50), (100, 100), 3.8, 50.0)
    both = torch.cat([clip, camera.pinhole(CUBE - 10 * torch.eye(3)[2], 100.0, (50, 50), (100, 100), 3.8, 50.0)])
    assert fr.in_view(both).tolist() == [words is None, True]
    reason, other = camera.why_out_of_view(both, (100, 100))
    assert other is None and (reason is None if words is None else words in reason)


def test_a_mesh_that_is_too_small_is_said_to_be():
    clip = camera.pinhole(CUBE * 1e-3 - torch.tensor([0, 0, 10.0]), 100.0, (50, 50), (100, 100), 1.0, 50.0)
    assert fr.in_view(clip).all()
    assert camera.why_out_of_view(clip, (100, 100)) == ["it is smaller than a pixel (0.02 x 0.02 pixels)"]
    assert camera.why_out_of_view(torch.zeros(2, 0, 4), (9, 9)) == ["it has no vertices"] * 2
    assert fr.in_view(torch.zeros(2, 0, 4)).tolist() == [False, False]


def test_nothing_is_drawn_of_what_is_not_in_view():
    """The check never calls a mesh out of view of which a pixel is drawn."""
    g = torch.Generator().manual_seed(1)
    clip = torch.randn(300, 6, 4, generator=g) + 2 * torch.randn(300, 1, 4, generator=g)
    faces = torch.tensor([[0, 1, 2], [3, 4, 5], [0, 4, 2]], dtype=torch.int32)
    drawn = (fr.rasterize(clip, faces, (16, 16)).face_id >= 0).flatten(1).any(1)
    said = fr.in_view(clip)
    assert not (drawn & ~said).any() and 30 < (~said).sum() and 30 < drawn.sum()
    assert all(r is None for r, d in zip(camera.why_out_of_view(clip, (16, 16)), drawn, strict=True) if d)


@pytest.mark.parametrize("fov", [5.0, 20.0, 90.0, 150.0])
def test_framing_keeps_the_size_for_every_field_of_view(fov):
    sphere = torch.nn.functional.normalize(torch.randn(1, 4000, 3, dtype=F64), dim=-1) * 70 + 1000
    clip = camera.framing(sphere, (90, 140), fov=math.radians(fov))
    pixels = camera.to_pixels(clip, (90, 140))[0]
    extent = pixels.amax(0) - pixels.amin(0)
    assert extent[1].item() == pytest.approx(90 * 0.85, rel=0.03)
    assert (clip[..., 2].abs() <= clip[..., 3]).all() and fr.in_view(clip).all()


def test_framing_from_a_distance_of_ones_own():
    far, near = (camera.to_pixels(camera.framing(CUBE, (100, 100), distance=d), (100, 100))[0] for d in (200.0, 100.0))
    assert (near - 50).abs().max().item() == pytest.approx(2 * (far - 50).abs().max().item(), rel=0.02)
    inside = camera.framing(CUBE, (100, 100), distance=0.5)
    faces = torch.tensor([[0, 2, 4], [2, 6, 4]], dtype=torch.int32)  # the far side, z = -1
    assert (fr.rasterize(inside, faces, (100, 100)).face_id >= 0).all()
    for wrong in ({"distance": 0.0}, {"distance": math.nan}, {"fov": 0.0}, {"fov": 4.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            camera.framing(CUBE, (10, 10), **wrong)
