"""What the tests of Cycle share: small settings, networks with fixed answers, and errors of properties."""

import torch
from torch import nn

import facerender as fr
from facemodels.methods.cycle import PRESETS, CycleConfig, Properties
from facemodels.training.config import configured

FIELDS = Properties._fields


def small(folder, **changes):
    fixed = {"output": str(folder), "device": "cpu", "stage1": 0, "detached": 0, "variation_mm": 0.0}
    return configured(CycleConfig, PRESETS["smoke"] | fixed | changes)


def properties(faces) -> Properties:
    return Properties(*(getattr(faces, name) for name in FIELDS))


class FixedNetwork(nn.Module):
    """Returns the given predictions, call after call; a function is called with the pictures."""

    def __init__(self, *predictions):
        super().__init__()
        self.predictions = list(predictions)

    def forward(self, image):
        prediction = self.predictions.pop(0)
        return prediction(image) if callable(prediction) else prediction


def losses(method, batch, *predictions, step=0, **settings):
    """The losses of a method whose network returns the predictions."""
    network, config = method.network, method.config
    method.network, method.config = FixedNetwork(*predictions), small(config.output, **settings)
    try:
        return method("network", batch, step, {})
    finally:
        method.network, method.config = network, config


def cycle_losses(method, batch, frames, cycle, extracted, **settings):
    """The losses with one cycle, of predictions for the frames and for the composed picture."""
    return losses(method, batch, frames, extracted, cycles=(cycle,), **settings)


ERRORS = {
    "identity": lambda v: v + torch.linspace(0.5, 0, v.shape[1]),
    "expression": lambda v: v + 0.3,
    "rotation": lambda v: fr.camera.euler_rotation(torch.tensor([[0.1, 0.15, 0.0]])) @ v,
    "scale": lambda v: 1.1 * v,
    "translation": lambda v: v + 4.0,
    "albedo": lambda v: v + 0.7,
    "light": lambda v: v * 1.15,
}


def with_error(truth, field):
    return truth._replace(**{field: ERRORS[field](getattr(truth, field))})


def reached(value, leaves):
    """Names of the properties that a loss has a gradient to."""
    if not value.requires_grad:
        return set()
    gradients = torch.autograd.grad(value, list(leaves), allow_unused=True, retain_graph=True)
    return {name for name, g in zip(FIELDS, gradients) if g is not None and g.abs().max() > 0}
