"""Losses of vertices."""

import math

import torch

from facemodels import losses as L
from tests.losses.cases import (
    N,
    P,
    S,
    cases,
    random,
)


def test_vertex_loss_is_the_mean_square_over_coordinates_and_the_gram_form_equals_it():
    _, (a, b, basis), _ = cases()["vertex"]
    total = 0.0
    for n in range(N):
        for j in range(3 * P):
            total += sum((a[n, k] - b[n, k]).item() * basis[k, j].item() for k in range(S)) ** 2
    value = L.vertex_loss(a, b, basis)
    assert math.isclose(value.item(), total / (N * 3 * P), rel_tol=1e-12)
    a = a.clone().requires_grad_()
    direct, short = L.vertex_loss(a, b, basis), L.gram_loss(a, b, L.gram_matrix(basis))
    torch.testing.assert_close(short, direct, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(short, a)[0], torch.autograd.grad(direct, a)[0], rtol=1e-10, atol=1e-14
    )


def test_the_gram_form_equals_the_direct_one_in_float32_at_a_models_size():
    basis = random(60, 30000, dtype=torch.float32) * torch.logspace(1, -2, 60)[:, None]
    a, b = random(N, 60, dtype=torch.float32), random(N, 60, seed=1, dtype=torch.float32)
    torch.testing.assert_close(L.gram_loss(a, b, L.gram_matrix(basis)), L.vertex_loss(a, b, basis), rtol=1e-5, atol=0)
