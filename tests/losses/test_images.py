"""Losses of images and embeddings."""

import math

import numpy as np
import pytest
import torch

from facemodels import losses as L
from facemodels.core.landmarks import five_points
from tests.losses.cases import (
    F64,
    N,
    cases,
    embed,
    random,
    uniform,
)


def test_photometric_loss_is_the_mean_color_distance_over_the_mask():
    _, (a, b, m), _ = cases()["photometric"]
    m = m * uniform(*m.shape, seed=30)
    total = 0.0
    for n, i, j in np.ndindex(*m.shape):
        total += m[n, i, j].item() * math.sqrt(
            1e-6 + sum((a[n, i, j, c] - b[n, i, j, c]).item() ** 2 for c in range(3))
        )
    assert math.isclose(L.photometric_loss(a, b, m).item(), total / m.sum().item(), rel_tol=1e-12)
    assert L.photometric_loss(a, b, m > 0.5) == L.photometric_loss(a, b, (m > 0.5).double())


def test_photometric_loss_sees_nothing_outside_the_mask_and_an_empty_mask_is_zero():
    _, (a, b, m), _ = cases()["photometric"]
    changed = torch.where(m[..., None] > 0, a, 1 - a)
    assert L.photometric_loss(changed, b, m) == L.photometric_loss(a, b, m)
    a = a.clone().requires_grad_()
    value = L.photometric_loss(a, b, torch.zeros_like(m))
    assert value == 0 and not torch.autograd.grad(value, a)[0].any()
    soft = m.clone().requires_grad_()
    assert not L.photometric_loss(a.detach(), b, soft).requires_grad, "the mask must not be trained"


def census_in_loops(a, b, mask, radius):
    def gray(image):
        return 255 * (0.2989 * image[..., 0] + 0.5870 * image[..., 1] + 0.1140 * image[..., 2])

    a, b, mask = gray(a.numpy()), gray(b.numpy()), mask.numpy()
    total = count = 0.0
    for n, i, j in np.ndindex(*a.shape):
        if not (radius <= i < a.shape[1] - radius and radius <= j < a.shape[2] - radius):
            continue
        h = 0.0
        for di in range(-radius, radius + 1):
            for dj in range(-radius, radius + 1):
                t = []
                for g in (a, b):
                    d = g[n, i + di, j + dj] - g[n, i, j]
                    t.append(d / math.sqrt(0.81 + d * d))
                s = (t[0] - t[1]) ** 2
                h += s / (0.1 + s)
        total += mask[n, i, j] * (abs(h) + 0.01) ** 0.4
        count += mask[n, i, j]
    return total / (2 * count + 1e-6)


@pytest.mark.parametrize("radius", [1, 3])
def test_census_loss_is_the_robust_soft_hamming_distance_of_patches(radius):
    _, (a, b, m), _ = cases()["census"]
    assert math.isclose(L.census_loss(a, b, m, radius).item(), census_in_loops(a, b, m, radius), rel_tol=1e-10)


def test_census_loss_is_symmetric_blind_to_brightness_and_zero_for_an_empty_mask():
    _, (a, b, m), _ = cases()["census"]
    want = L.census_loss(a, b, m)
    torch.testing.assert_close(L.census_loss(b, a, m), want)
    torch.testing.assert_close(L.census_loss(a + 0.2, b - 0.1, m), want, rtol=1e-9, atol=0)
    assert L.census_loss(a, b, 0 * m) == 0
    gray_a, gray_b = a[..., :1], b[..., :1]
    color = L.census_loss(gray_a.expand(-1, -1, -1, 3), gray_b.expand(-1, -1, -1, 3), m)
    torch.testing.assert_close(L.census_loss(0.9999 * gray_a, 0.9999 * gray_b, m), color, rtol=1e-9, atol=0)
    with pytest.raises(ValueError, match=r"at least 7 pixels high and wide, as the patch is, got \[3, 6, 8, 3\]"):
        L.census_loss(a[:, :6], b[:, :6], m[:, :6])


def similarity_by_least_squares(source, goal):
    """[[a, -b, x], [b, a, y]] that takes source [5,2] to goal [5,2], by solving the overdetermined system."""
    rows, right = [], []
    for (x, y), (u, v) in zip(source, goal):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        right += [u, v]
    a, b, x, y = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    return np.array([[a, -b, x], [b, a, y]])


def test_the_face_crop_samples_where_the_least_squares_similarity_says():
    """Bilinear interpolation is exact for an image linear in x and y: a crop's values tell where they came from."""
    H, W = 90, 110
    y, x = torch.meshgrid(torch.arange(H, dtype=F64) + 0.5, torch.arange(W, dtype=F64) + 0.5, indexing="ij")
    image = torch.stack([x / W, y / H, (x + y) / (W + H)], -1)[None]
    turn = np.array([[0.52, -0.13], [0.13, 0.52]])
    goal = np.array(L.ARCFACE_POINTS)
    points = (goal - 56) @ turn.T + [54, 46] + np.random.default_rng(0).normal(size=(5, 2))
    crop = L.face_crop(image, torch.from_numpy(points)[None])
    assert crop.shape == (1, 3, 112, 112)
    forth = similarity_by_least_squares(points, goal)
    back = np.linalg.inv(np.vstack([forth, [0, 0, 1]]))
    for row, column in ((50, 56), (30, 40), (80, 70), (56, 20)):
        at = back @ [column + 0.5, row + 0.5, 1]
        want = 2 * np.array([at[0] / W, at[1] / H, (at[0] + at[1]) / (W + H)]) - 1
        np.testing.assert_allclose(crop[0, :, row, column].numpy(), want, atol=1e-9)
    half = L.face_crop(image, torch.from_numpy(points)[None], size=56)
    torch.testing.assert_close(half, torch.nn.functional.avg_pool2d(crop, 2), rtol=0, atol=1e-9)


def test_a_face_that_lies_where_arcface_wants_it_is_not_changed():
    image = uniform(1, 112, 112, 3)
    points = torch.tensor(L.ARCFACE_POINTS, dtype=F64)[None]
    torch.testing.assert_close(L.face_crop(image, points), 2 * image.movedim(-1, 1) - 1, rtol=0, atol=1e-9)


def test_five_equal_points_give_a_crop_of_one_color_without_nan():
    image = uniform(1, 20, 20, 3).requires_grad_()
    crop = L.face_crop(image, torch.full((1, 5, 2), 7.5, dtype=F64))
    torch.testing.assert_close(crop, (2 * image[0, 7, 7] - 1)[None, :, None, None].expand_as(crop))
    assert torch.autograd.grad(crop.sum(), image)[0].isfinite().all()
    with pytest.raises(ValueError, match=r"\[N,5,2\], got \[1, 68, 2\]"):
        L.face_crop(image, torch.zeros(1, 68, 2, dtype=F64))


def test_five_points_are_eyes_nose_and_mouth_corners():
    landmarks = random(2, 68, 2)
    want = [
        (landmarks[:, 36] + landmarks[:, 39]) / 2,
        (landmarks[:, 42] + landmarks[:, 45]) / 2,
        landmarks[:, 30],
        landmarks[:, 48],
        landmarks[:, 54],
    ]
    torch.testing.assert_close(five_points(landmarks), torch.stack(want, 1))


def test_perceptual_loss_is_one_minus_the_cosine_and_trains_only_the_rendered_image():
    a, b = uniform(N, 3, 4, 4).requires_grad_(), uniform(N, 3, 4, 4, seed=1).requires_grad_()
    x, y = embed(a).detach().numpy(), embed(b).detach().numpy()
    want = np.mean([1 - x[n] @ y[n] / math.sqrt(x[n] @ x[n]) / math.sqrt(y[n] @ y[n]) for n in range(N)])
    value = L.perceptual_loss(a, b, embed)
    assert math.isclose(value.item(), want, rel_tol=1e-12)
    value.backward()
    assert a.grad.any() and b.grad is None
    torch.testing.assert_close(L.perceptual_loss(a, b, lambda i: 9 * embed(i)), value)
    nothing = torch.zeros_like(a).requires_grad_()
    assert torch.autograd.grad(L.perceptual_loss(nothing, b, embed), nothing)[0].isfinite().all()
