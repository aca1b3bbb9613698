"""Losses of 3DDFA's 62 parameters."""

import math

import numpy as np
import pytest
import torch

from facemodels import losses as L
from tests.losses.cases import (
    F64,
    E,
    N,
    P,
    S,
    random,
    small_model,
)


def unwhitened(q, whitening):
    return q.numpy() * whitening.std.numpy() + whitening.mean.numpy()


def projected_in_loops(p, points):
    matrix, t = p[:12].reshape(3, 4)[:, :3], p[:12].reshape(3, 4)[:, 3]
    out = np.empty((P, 3))
    for i in range(P):
        v = points.mean[i].numpy().copy()
        for k in range(S):
            v += p[12 + k] * points.shape[k, i].numpy()
        for k in range(E):
            v += p[12 + S + k] * points.expression[k, i].numpy()
        out[i] = matrix @ v + t
    return out


def test_twelve_parameters_are_the_rows_of_an_affine_map_then_shape_then_expression():
    points, whitening = small_model()
    q = random(N, 12 + S + E, seed=6)
    got = L.projected_points(whitening.raw(q), points)
    np.testing.assert_allclose(
        got.numpy(), [projected_in_loops(p, points) for p in unwhitened(q, whitening)], rtol=1e-12
    )
    torch.testing.assert_close(whitening.whitened(whitening.raw(q)), q)
    with pytest.raises(ValueError, match=r"\[N,18\] for 4 shape and 2 expression modes, got \[3, 62\]"):
        L.projected_points(random(3, 62), points)


def test_a_point_basis_at_some_points_is_the_basis_of_those():
    points, whitening = small_model()
    index, raw = torch.tensor([5, 0, 2]), whitening.raw(random(N, 12 + S + E))
    torch.testing.assert_close(L.projected_points(raw, points.at(index)), L.projected_points(raw, points)[:, index])


def test_pdc_is_the_mean_square_of_whitened_parameters():
    q, t = random(N, 62), random(N, 62, seed=1)
    want = sum((q[n, k] - t[n, k]) ** 2 for n in range(N) for k in range(62)) / (62 * N)
    assert math.isclose(L.pdc_loss(q, t).item(), want.item(), rel_tol=1e-12)


def test_vdc_is_the_mean_square_of_projected_coordinates_with_the_targets_depth():
    points, whitening = small_model()
    q, t = random(N, 12 + S + E, seed=6), random(N, 12 + S + E, seed=7)
    total = 0.0
    for p, g in zip(unwhitened(q, whitening), unwhitened(t, whitening)):
        p[11] = g[11]
        total += ((projected_in_loops(p, points) - projected_in_loops(g, points)) ** 2).sum()
    q = q.requires_grad_()
    value = L.vdc_loss(q, t, whitening, points)
    assert math.isclose(value.item(), total / (N * P * 3), rel_tol=1e-12)
    assert not torch.autograd.grad(value, q)[0][:, 11].any()


def wpdc_in_loops(q, t, whitening, points, scale):
    weights = np.empty((N, 12 + S + E))
    for n, (p, g) in enumerate(zip(unwhitened(q, whitening), unwhitened(t, whitening))):
        at = g.copy()
        at[:12] = np.eye(3, 4).flatten()
        shape = projected_in_loops(at, points)  # the target's points before the affine map
        for k in range(11):
            row, column = divmod(k, 4)
            reach = math.sqrt(P) if column == 3 else math.sqrt(sum(shape[i, column] ** 2 for i in range(P)))
            weights[n, k] = abs(p[k] - g[k]) * reach + 1e-6
        for k in range(S + E):
            mode = points.shape[k] if k < S else points.expression[k - S]
            weights[n, 12 + k] = scale * abs(p[12 + k] - g[12 + k]) * math.sqrt((mode.numpy() ** 2).sum()) + 1e-6
        weights[n, 11] = 0
        weights[n] /= weights[n].max()
    return weights


def test_wpdc_weighs_each_parameter_by_what_its_error_moves():
    points, whitening = small_model()
    q, t = random(N, 12 + S + E, seed=6), random(N, 12 + S + E, seed=7)
    weights = wpdc_in_loops(q, t, whitening, points, 0.57339936)
    np.testing.assert_allclose(L.wpdc_weights(q, t, whitening, points).numpy(), weights, rtol=1e-12)
    want = sum(weights[n, k] * (q[n, k] - t[n, k]).item() ** 2 for n in range(N) for k in range(12 + S + E)) / (
        N * (12 + S + E)
    )
    assert math.isclose(L.wpdc_loss(q, t, whitening, points).item(), want, rel_tol=1e-12)


def test_the_gradient_of_wpdc_is_that_of_a_square_with_its_weights_held():
    points, whitening = small_model()
    q, t = random(N, 12 + S + E, seed=6).requires_grad_(), random(N, 12 + S + E, seed=7)
    weights = torch.from_numpy(wpdc_in_loops(q.detach(), t, whitening, points, 0.57339936))
    got = torch.autograd.grad(L.wpdc_loss(q, t, whitening, points), q)[0]
    torch.testing.assert_close(got, 2 * weights * (q.detach() - t) / weights.numel(), rtol=1e-10, atol=1e-14)
    assert not got[:, 11].any()


def test_wpdc_in_millimetres_is_the_published_one_in_micrometres():
    """In 3DDFA's unit the matrix is a thousand times smaller, the basis larger, and the constant 0.00057339936."""
    points, whitening = small_model()
    q, t = random(N, 12 + S + E, seed=6), random(N, 12 + S + E, seed=7)
    unit = torch.ones(12 + S + E, dtype=F64)
    unit[[0, 1, 2, 4, 5, 6, 8, 9, 10]] = 1e-3
    micrometres = L.PointBasis(*(1000 * part for part in points)), L.Whitening(*(unit * part for part in whitening))
    torch.testing.assert_close(
        L.wpdc_loss(q, t, micrometres[1], micrometres[0], 0.00057339936),
        L.wpdc_loss(q, t, whitening, points),
        rtol=1e-12,
        atol=0,
    )
    torch.testing.assert_close(
        L.vdc_loss(q, t, micrometres[1], micrometres[0]), L.vdc_loss(q, t, whitening, points), rtol=1e-12, atol=0
    )


def test_the_depth_of_the_prediction_and_the_order_of_the_points_change_neither_vdc_nor_wpdc():
    points, whitening = small_model()
    q, t = random(N, 12 + S + E, seed=6), random(N, 12 + S + E, seed=7)
    deeper, mixed = q.clone(), points.at(torch.tensor([6, 2, 0, 5, 1, 4, 3]))
    deeper[:, 11] += 5
    for loss in (L.vdc_loss, L.wpdc_loss):
        want = loss(q, t, whitening, points)
        torch.testing.assert_close(loss(deeper, t, whitening, points), want)
        torch.testing.assert_close(loss(q, t, whitening, mixed), want)
