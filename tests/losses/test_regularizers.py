"""Losses of light, albedo and coefficients."""

import math

import pytest
import torch

from facemodels import losses as L
from tests.losses.cases import (
    N,
    P,
    cases,
    random,
)


def test_gamma_loss_is_the_variance_over_the_colors():
    _, (gamma,), _ = cases()["gamma"]
    want = sum((gamma[n, k, c] - gamma[n, k].mean()) ** 2 for n in range(N) for k in range(9) for c in range(3)) / (
        N * 27
    )
    assert math.isclose(L.gamma_loss(gamma).item(), want.item(), rel_tol=1e-12)
    torch.testing.assert_close(L.gamma_loss(gamma + random(N, 9, 1)), L.gamma_loss(gamma))
    assert L.gamma_loss(gamma[..., :1].expand(-1, -1, 3)).item() < 1e-30


def test_reflectance_loss_is_the_variance_of_the_albedo_over_the_skin():
    _, (albedo, m), _ = cases()["reflectance"]
    total = 0.0
    for n in range(N):
        mean = [sum(m[v] * albedo[n, v, c] for v in range(P)) / m.sum() for c in range(3)]
        total += sum(((albedo[n, v, c] - mean[c]) * m[v]) ** 2 for v in range(P) for c in range(3))
    assert math.isclose(L.reflectance_loss(albedo, m).item(), (total / (N * m.sum())).item(), rel_tol=1e-12)
    torch.testing.assert_close(L.reflectance_loss(albedo + random(N, 1, 3), m), L.reflectance_loss(albedo, m))
    torch.testing.assert_close(L.reflectance_loss(2 * albedo, m), 4 * L.reflectance_loss(albedo, m))
    assert L.reflectance_loss(albedo, torch.zeros(P, dtype=bool)) == 0
    with pytest.raises(ValueError, match=r"skin must be \[7\]"):
        L.reflectance_loss(albedo, torch.ones(N, P))


def test_coefficient_loss_weights_identity_expression_and_albedo_as_deep3d_does():
    a, b, t = random(N, 5), random(N, 3, seed=1), random(N, 4, seed=2)
    want = sum(1.0 * (a[n] @ a[n]) + 0.8 * (b[n] @ b[n]) + 0.017 * (t[n] @ t[n]) for n in range(N)) / N
    assert math.isclose(L.coefficient_loss(a, b, t).item(), want.item(), rel_tol=1e-12)
    torch.testing.assert_close(L.coefficient_loss(a), (a * a).sum() / N)
    torch.testing.assert_close(L.coefficient_loss(a, albedo=t), (a * a).sum() / N + 0.017 * (t * t).sum() / N)
