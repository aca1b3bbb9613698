"""Optimizers, the schedule of the learning rate, and the moving average of the weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from facemodels.training.config import Config


def make_optimizer(parameters: list[nn.Parameter], config: Config) -> torch.optim.Optimizer:
    """Make the optimizer that the settings name."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    return torch.optim.SGD(parameters, lr=config.lr, weight_decay=config.weight_decay, momentum=0.9, nesterov=True)


def learning_rate(config: Config, step: int) -> float:
    """Return the learning rate of a step, from 0: linear warmup, then the schedule."""
    c = config
    if step < c.warmup:
        return c.lr * (step + 1) / c.warmup
    if c.schedule == "constant":
        return c.lr
    if c.schedule == "step":
        return c.lr * c.decay ** sum(step >= m for m in c.milestones)
    return c.lr * 0.5 * (1 + math.cos(math.pi * (step - c.warmup) / max(1, c.steps - c.warmup)))


class WeightAverage:
    """Exponential moving average of a module's state dict.

    Attributes:
        state: The averaged state dict.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Begin with the module's values.

        Args:
            module: The module that is trained.
            decay: Share of the average that a step keeps.
        """
        self.module, self.decay = module, decay
        self.reset()

    def reset(self) -> None:
        """Begin again with the module's values."""
        self.state: dict[str, Tensor] = _copied(self.module)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the module's values after a step, from 0. The decay rises with the step, for short runs."""
        keep = min(self.decay, (1 + step) / (10 + step))
        values = self.module.state_dict()
        floats = [key for key, value in values.items() if value.is_floating_point()]
        integers = [key for key, value in values.items() if not value.is_floating_point()]
        if floats:  # a few kernels for hundreds of tensors
            torch._foreach_lerp_([self.state[k] for k in floats], [values[k] for k in floats], 1 - keep)
        if integers:
            torch._foreach_copy_([self.state[k] for k in integers], [values[k] for k in integers])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the module the averaged values, and its own again afterwards."""
        own = _copied(self.module)
        self.module.load_state_dict(self.state)
        try:
            yield
        finally:
            self.module.load_state_dict(own)


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in module.state_dict().items()}
