"""Lights: the bases of spherical harmonics, and lights over them."""

import math

import pytest
import torch

import facerender as fr
from facerender import lighting

F64 = torch.float64


@pytest.mark.parametrize("preset", ["standard", "deep3d", "deca"])
def test_a_directional_light_is_a_clamped_cosine_up_to_the_second_band(preset):
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
def test_converted_coefficients_give_the_same_colors(source, target):
    n, light = torch.randn(2, 50, 3, dtype=F64), torch.randn(2, 9, 3, dtype=F64)
    a = fr.sh_shade(torch.ones_like(n), n, light, source)
    torch.testing.assert_close(fr.sh_shade(torch.ones_like(n), n, lighting.convert(light, source, target), target), a)


def test_deep3d_basis_by_its_published_constants():
    n = torch.nn.functional.normalize(torch.randn(7, 3, dtype=F64), dim=-1)
    x, y, z = n.unbind(-1)
    a = [math.pi, 2 * math.pi / math.sqrt(3), 2 * math.pi / math.sqrt(8)]
    c = [1 / math.sqrt(4 * math.pi), math.sqrt(3) / math.sqrt(4 * math.pi), 3 * math.sqrt(5) / math.sqrt(12 * math.pi)]
    want = [
        a[0] * c[0] * torch.ones_like(x),
        -a[1] * c[1] * y,
        a[1] * c[1] * z,
        -a[1] * c[1] * x,
        a[2] * c[2] * x * y,
        -a[2] * c[2] * y * z,
        0.5 * a[2] * c[2] / math.sqrt(3) * (3 * z**2 - 1),
        -a[2] * c[2] * x * z,
        0.5 * a[2] * c[2] * (x**2 - y**2),
    ]
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
