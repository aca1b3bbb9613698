import math

import pytest
import torch

import facerender as fr
from facerender import camera, lighting

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


@pytest.mark.parametrize("preset", ["standard", "deep3d", "deca"])
def test_a_directional_light_is_a_clamped_cosine_up_to_the_third_band(preset):
    n = torch.nn.functional.normalize(torch.randn(1, 4000, 3, dtype=F64), dim=-1)
    d = torch.tensor([[0.0, 0.6, 0.8]], dtype=F64)
    light = lighting.ambient_and_directional(torch.full((1, 3), 0.2, dtype=F64), d, torch.ones(1, 3, dtype=F64), preset)
    got = fr.sh_shade(torch.ones_like(n), n, light, preset)[0, :, 0]
    c = n[0] @ d[0]
    exact_bands = 0.2 + 0.25 + 0.5 * c + 5 / 16 * (1.5 * c * c - 0.5)
    torch.testing.assert_close(got, exact_bands)
    assert (got - 0.2 - c.clamp(min=0)).abs().max() < 0.1


@pytest.mark.parametrize("source", ["standard", "deep3d", "deca"])
@pytest.mark.parametrize("target", ["standard", "deep3d", "deca"])
def test_converted_coefficients_give_the_same_colours(source, target):
    n, light = torch.randn(2, 50, 3, dtype=F64), torch.randn(2, 9, 3, dtype=F64)
    a = fr.sh_shade(torch.ones_like(n), n, light, source)
    torch.testing.assert_close(fr.sh_shade(torch.ones_like(n), n, lighting.convert(light, source, target), target), a)


def test_deep3d_basis_by_its_published_constants():
    n = torch.nn.functional.normalize(torch.randn(7, 3, dtype=F64), dim=-1)
    x, y, z = n.unbind(-1)
    a = [math.pi, 2 * math.pi / math.sqrt(3), 2 * math.pi / math.sqrt(8)]
    c = [1 / math.sqrt(4 * math.pi), math.sqrt(3) / math.sqrt(4 * math.pi), 3 * math.sqrt(5) / math.sqrt(12 * math.pi)]
    want = [
        a[0] * c[0] * torch.ones_like(x), -a[1] * c[1] * y, a[1] * c[1] * z, -a[1] * c[1] * x, a[2] * c[2] * x * y, -a[2] * c[2] * y * z,
        0.5 * a[2] * c[2] / math.sqrt(3) * (3 * z**2 - 1), -a[2] * c[2] * x * z, 0.5 * a[2] * c[2] * (x**2 - y**2),
    ]  # fmt: skip
    torch.testing.assert_close(lighting.sh_basis(n, "deep3d"), torch.stack(want, -1))


def test_standard_basis_is_orthonormal():
    g = torch.Generator().manual_seed(0)
    n = torch.nn.functional.normalize(torch.randn(400_000, 3, generator=g, dtype=F64), dim=-1)
    b = lighting.sh_basis(n, "standard")
    torch.testing.assert_close(4 * math.pi * b.T @ b / len(n), torch.eye(9, dtype=F64), atol=0.02, rtol=0)


def test_deep3d_coefficients_are_three_channels_of_nine_plus_eight_tenths():
    gamma = torch.arange(27.0)[None]
    light = lighting.deep3d_coefficients(gamma)
    assert light[0, 0].tolist() == pytest.approx([0.8, 9.8, 18.8]) and light[0, 3].tolist() == [3, 12, 21]


def test_an_unknown_preset_is_named():
    with pytest.raises(ValueError, match="preset must be one of 'standard', 'deep3d', 'deca', got 'sh9'"):
        fr.sh_shade(torch.ones(1, 2, 3), torch.ones(1, 2, 3), torch.ones(1, 9, 3), "sh9")
