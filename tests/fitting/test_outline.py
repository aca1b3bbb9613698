"""Where a photo shows the outline of a face (facemodels.fitting.outline)."""

import math

import torch

from facemodels.fitting.outline import REACH, outline_offsets

SIZE, RADIUS, MIDDLE = 160, 40.0, (80.0, 76.0)


def disc(background, inner=(0.75, 0.55, 0.45)):
    """[S,S,3]: a disc, antialiased, before a background [S,S,3]."""
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    inside = (RADIUS + 0.5 - torch.hypot(x - MIDDLE[0], y - MIDDLE[1])).clamp(0, 1)[..., None]
    shading = 1 - 0.4 * (x - MIDDLE[0])[..., None] / SIZE
    return inside * shading * torch.tensor(inner) + (1 - inside) * background


def ring(radius, count=120):
    """Points of a circle [M,2] around the disc's middle, and its normals."""
    angle = torch.arange(count) * (2 * math.pi / count)
    outwards = torch.stack([angle.cos(), angle.sin()], -1)
    return torch.tensor(MIDDLE) + radius * outwards, outwards


def even(*color):
    return torch.tensor(color).expand(SIZE, SIZE, 3)


def test_an_outline_is_found_from_within_and_from_without():
    for off in (-6.0, -2.5, 0.0, 3.0, 7.0):
        offsets, found = outline_offsets(disc(even(0.2, 0.3, 0.25)), *ring(RADIUS + off))
        assert found.all()
        torch.testing.assert_close(offsets, torch.full_like(offsets, -off), atol=1.0, rtol=0)


def test_nothing_is_found_where_colors_do_not_change():
    for photo in (even(0.5, 0.5, 0.5), disc(even(0.2, 0.3, 0.25))):
        offsets, found = outline_offsets(photo, *ring(RADIUS - REACH - 12))
        assert not found.any() and (offsets.abs() <= REACH + 0.5).all()


def test_noise_is_no_outline():
    photo = even(0.5, 0.5, 0.5) + 0.05 * torch.randn(SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0))
    _, found = outline_offsets(photo, *ring(RADIUS))
    assert not found.any()


def test_what_lies_behind_does_not_lead_astray():
    background = even(0.25, 0.3, 0.2).clone()
    background[:, 122:126] = 0.95  # a post close behind the disc, brighter than it
    background[::7, :60] = 0.9  # and a fence
    offsets, found = outline_offsets(disc(background), *ring(RADIUS - 2))
    assert found.float().mean() > 0.9
    assert ((offsets[found] - 2).abs() <= 1.5).float().mean() > 0.9


def test_an_outline_without_points_and_one_outside_the_photo():
    photo = disc(even(0.2, 0.3, 0.25))
    offsets, found = outline_offsets(photo, torch.zeros(0, 2), torch.zeros(0, 2))
    assert offsets.shape == found.shape == (0,) and found.dtype == torch.bool
    points, outwards = ring(RADIUS)
    assert not outline_offsets(photo, points + 500, outwards)[1].any()
