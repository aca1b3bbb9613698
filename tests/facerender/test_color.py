"""sRGB and linear light."""

import numpy as np
import torch

from facerender.color import to_linear, to_linear_array, to_srgb

BYTES = np.arange(256, dtype=np.float32) / 255


def test_every_byte_survives_the_way_to_linear_light_and_back():
    back = to_srgb(to_linear(torch.from_numpy(BYTES)))
    assert torch.equal((back * 255).round(), torch.arange(256.0))


def test_arrays_and_tensors_have_the_same_linear_light():
    got = to_linear_array(BYTES)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, to_linear(torch.from_numpy(BYTES)).numpy(), rtol=1e-6)


def test_known_values_of_the_standard():
    """IEC 61966-2-1: the two branches meet at 0.04045, and mid gray 0.5 is 0.2140 in linear light."""
    at = torch.tensor([0.0, 0.04045, 0.5, 1.0], dtype=torch.float64)
    want = torch.tensor([0.0, 0.0031308, 0.2140411, 1.0], dtype=torch.float64)
    torch.testing.assert_close(to_linear(at), want, atol=1e-7, rtol=0)


def test_linear_light_outside_its_range_is_clamped():
    torch.testing.assert_close(to_srgb(torch.tensor([-1.0, 2.0])), torch.tensor([0.0, 1.0]))


def test_gradients_are_finite_at_black():
    x = torch.zeros(3, requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(to_srgb(x).sum(), x)[0]).all()
    assert torch.isfinite(torch.autograd.grad(to_linear(x).sum(), x)[0]).all()
