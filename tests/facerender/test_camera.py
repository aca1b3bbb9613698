"""Cameras: where points land, in pixels and in depth."""

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
