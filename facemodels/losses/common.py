"""What all losses share: arithmetic in float32, checks of shapes, the mean of possibly nothing."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

HALF_PRECISION = (torch.bfloat16, torch.float16)

Loss = TypeVar("Loss", bound=Callable[..., Tensor])


def in_float32(loss: Loss) -> Loss:
    """Decorate a loss to convert half-precision arguments to float32 and to disable autocast.

    Sums of 16-bit terms would lose the small differences that losses measure.
    """

    @functools.wraps(loss)
    def wrapped(*arguments: Any, **named: Any) -> Tensor:
        device = next(v.device.type for v in (*arguments, *named.values()) if isinstance(v, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*[_widened(v) for v in arguments], **{k: _widened(v) for k, v in named.items()})

    return cast(Loss, wrapped)


def _widened(value: Any) -> Any:
    """Return a half-precision tensor as float32, and anything else as it is."""
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF_PRECISION else value


def check_shapes(**tensors: Tensor) -> None:
    """Raise ValueError unless all shapes are equal.

    Broadcasting would hide a wrong pairing: [N,68,2] against [68,2] or [N,1,2] gives a number, but not the loss.
    """
    if len({t.shape for t in tensors.values()}) > 1:
        raise ValueError(
            "shapes must be equal, got " + ", ".join(f"{name} {list(t.shape)}" for name, t in tensors.items())
        )


def safe_mean(values: Tensor) -> Tensor:
    """Return the mean of all values, 0 if there are none."""
    return values.sum() / max(values.numel(), 1)


def add_up(terms: Iterable[Tensor]) -> Tensor:
    """Return 0 + the first term + the second ..., as a tensor."""
    return cast(Tensor, sum(terms))
