"""Losses of landmarks."""

import math

import pytest
import torch

from facemodels import losses as L
from tests.losses.cases import (
    F64,
    N,
    P,
    cases,
    random,
)


def test_landmark_loss_is_the_weighted_square_over_points_and_batch():
    _, (p, t, w), _ = cases()["landmark"]
    want = sum(w[n, k] * sum((p[n, k, c] - t[n, k, c]) ** 2 for c in range(2)) for n in range(N) for k in range(P)) / (
        N * P
    )
    assert math.isclose(L.landmark_loss(p, t, w).item(), want.item(), rel_tol=1e-12)
    want = sum(w[n, k] * math.hypot(*(p[n, k] - t[n, k]).tolist()) for n in range(N) for k in range(P)) / (N * P)
    assert math.isclose(L.landmark_loss(p, t, w, squared=False).item(), want.item(), rel_tol=1e-9)


def test_the_default_landmark_weights_are_deep3ds():
    weights = L.deep3d_landmark_weights()
    assert [k for k in range(68) if weights[k] == 20] == [
        28,
        29,
        30,
        60,
        61,
        62,
        63,
        64,
        65,
        66,
        67,
    ] and weights.sum() == 57 + 11 * 20
    p, t = random(N, 68, 2), random(N, 68, 2, seed=1)
    assert L.landmark_loss(p, t) == L.landmark_loss(p, t, weights)
    with pytest.raises(ValueError, match="68 landmarks, got 21"):
        L.landmark_loss(p[:, :21], t[:, :21])


def test_points_without_weight_may_be_nan_and_get_no_gradient():
    _, (p, t, w), _ = cases()["landmark"]
    t, w, p = t.clone(), w.clone(), p.clone().requires_grad_()
    t[0, 2], w[0, 2] = math.nan, 0
    for loss in (L.landmark_loss, L.wing_loss):
        value = loss(p, t, w)
        gradient = torch.autograd.grad(value, p)[0]
        assert value.isfinite() and gradient.isfinite().all() and not gradient[0, 2].any() and gradient[0, 3].all()


def test_mean_one_makes_the_loss_a_weighted_mean_over_the_points_that_have_weight():
    _, (p, t, _), _ = cases()["landmark"]
    w = torch.tensor([[1.0, 0, 2, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 3], [0] * 7], dtype=F64)
    square = (p - t).square().sum(-1)
    rows = [(square[0, 0] + 2 * square[0, 2] + square[0, 5]) / 4, square[1, 6], 0]
    torch.testing.assert_close(L.landmark_loss(p, t, L.mean_one(w)), sum(rows) / 3, rtol=1e-12, atol=0)
    torch.testing.assert_close(L.mean_one(5 * w), L.mean_one(w))


def test_losses_of_points_do_not_depend_on_their_order_nor_on_repeating_the_batch():
    _, (p, t, w), _ = cases()["landmark"]
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    for loss in (L.landmark_loss, L.wing_loss):
        torch.testing.assert_close(loss(p[:, order], t[:, order], w[:, order]), loss(p, t, w))
        torch.testing.assert_close(loss(p.repeat(2, 1, 1), t.repeat(2, 1, 1), w.repeat(2, 1)), loss(p, t, w))


def test_wing_is_logarithmic_up_to_omega_and_linear_beyond():
    zero = torch.zeros(1, 1, 1, dtype=F64)
    for x in (0.0, 0.3, -4.0, 9.999, 10.0, 25.0):
        size = abs(x)
        want = 10 * math.log(1 + size / 2) if size < 10 else size - (10 - 10 * math.log(1 + 10 / 2))
        assert math.isclose(L.wing_loss(zero + x, zero).item(), want, rel_tol=1e-12)
