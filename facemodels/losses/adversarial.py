"""Losses of a critic and of the predictor that it judges."""

import torch.nn.functional as F
from torch import Tensor

from facemodels.losses.common import in_float32, safe_mean

FORMS = ("minimax", "nonsaturating", "least_squares", "hinge")


@in_float32
def critic_loss(real: Tensor, predicted: Tensor, form: str = "minimax") -> Tensor:
    """Loss of a critic: the mean over real scores plus the mean over predicted scores.

    Args:
        real: the critic's scores of real samples, of any shape, before any sigmoid.
        predicted: its scores of predictions, of any shape.
        form: "minimax" or "nonsaturating": -log C(real) - log(1 - C(predicted)), C = sigmoid(score) (Goodfellow et al.
            2014; the self-critic of 2DASL, Tu et al. 2019, weight 0.005). "least_squares": (real - 1)^2 + predicted^2
            (Mao et al. 2017). "hinge": max(0, 1 - real) + max(0, 1 + predicted) (Lim and Ye 2017).

    Raises:
        ValueError: an unknown form.
    """
    if form in ("minimax", "nonsaturating"):
        return safe_mean(F.softplus(-real)) + safe_mean(F.softplus(predicted))
    if form == "least_squares":
        return safe_mean((real - 1).square()) + safe_mean(predicted.square())
    if form == "hinge":
        return safe_mean(F.relu(1 - real)) + safe_mean(F.relu(1 + predicted))
    raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")


@in_float32
def adversarial_loss(predicted: Tensor, form: str = "minimax") -> Tensor:
    """Loss of the predictor against the critic of the same form.

    Args:
        predicted: the critic's scores of the predictions, of any shape, before any sigmoid.
        form: "minimax": log(1 - C), the formula of 2DASL, whose gradient vanishes while the critic is certain.
            "nonsaturating": -log C. "least_squares": (score - 1)^2. "hinge": -score.

    Raises:
        ValueError: an unknown form.
    """
    if form == "minimax":
        return -safe_mean(F.softplus(predicted))
    if form == "nonsaturating":
        return safe_mean(F.softplus(-predicted))
    if form == "least_squares":
        return safe_mean((predicted - 1).square())
    if form == "hinge":
        return -safe_mean(predicted)
    raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
