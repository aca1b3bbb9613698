"""Adversarial losses."""

import math

import pytest
import torch

from facemodels import losses as L
from tests.losses.cases import (
    random,
)


def test_the_critics_losses_are_their_formulas():
    real, score = random(4, seed=1), random(5, seed=2)

    def sigmoid(s):
        return 1 / (1 + math.exp(-s))

    def mean(f, x):
        return sum(f(v) for v in x.tolist()) / len(x)

    cross_entropy = mean(lambda s: -math.log(sigmoid(s)), real) + mean(lambda s: -math.log(1 - sigmoid(s)), score)
    want = {
        "minimax": (cross_entropy, mean(lambda s: math.log(1 - sigmoid(s)), score)),
        "nonsaturating": (cross_entropy, mean(lambda s: -math.log(sigmoid(s)), score)),
        "least_squares": (
            mean(lambda s: (s - 1) ** 2, real) + mean(lambda s: s * s, score),
            mean(lambda s: (s - 1) ** 2, score),
        ),
        "hinge": (
            mean(lambda s: max(0, 1 - s), real) + mean(lambda s: max(0, 1 + s), score),
            mean(lambda s: -s, score),
        ),
    }
    assert set(want) == set(L.FORMS)
    for form, (critic, adversarial) in want.items():
        assert math.isclose(L.critic_loss(real, score, form).item(), critic, rel_tol=1e-12)
        assert math.isclose(L.adversarial_loss(score, form).item(), adversarial, rel_tol=1e-12)


@pytest.mark.parametrize("form", L.FORMS)
def test_extreme_scores_stay_finite_and_the_predictor_wants_higher_ones(form):
    scores = torch.tensor([-1000.0, -1.0, 0.0, 1.0, 1000.0], requires_grad=True)
    critic, adversarial = L.critic_loss(scores, scores, form), L.adversarial_loss(scores, form)
    gradients = torch.autograd.grad(critic, scores, retain_graph=True)[0], torch.autograd.grad(adversarial, scores)[0]
    assert critic.isfinite() and adversarial.isfinite() and all(g.isfinite().all() for g in gradients)
    assert (gradients[1][1:3] < 0).all(), "a score at which the critic doubts must be pushed up"


def test_an_unknown_form_is_named():
    with pytest.raises(ValueError, match="minimax, nonsaturating, least_squares, hinge, got 'wgan'"):
        L.critic_loss(torch.zeros(1), torch.zeros(1), "wgan")
    with pytest.raises(ValueError, match="got 'wgan'"):
        L.adversarial_loss(torch.zeros(1), "wgan")
