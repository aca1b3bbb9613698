"""The interface of all trunks: what they take and return."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Features(NamedTuple):
    """What a trunk returns."""

    maps: tuple[Tensor, ...]  # [N, channels[k], about H / strides[k], W / strides[k]], fine to coarse
    pooled: Tensor  # [N, channels[-1]], the mean of the last map over its pixels
    outputs: Tensor | None  # [N, outputs], the linear layer `fc` of pooled; None where the trunk was made without


class Trunk(nn.Module):
    """A convolutional network: ``trunk(x)`` takes images [N,C,H,W], normalized as its weights expect, and returns
    `Features`.

    Every trunk is made with ``in_channels`` (any number; 4 with a landmark channel) and ``outputs`` (the size of a
    linear layer ``fc`` on the pooled vector, None for none). Batches in the memory format ``channels_last`` are the
    fastest. Inside autocast the maps come in its precision; pooled and outputs are float32 all the same: 8 bits of
    mantissa are too few for a pose.

    Attributes:
        channels: of each map, fine to coarse; channels[-1] is the size of the pooled vector too.
        strides: of each map, input pixels per pixel.
        fc: the linear layer on the pooled vector, or None.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    fc: nn.Linear | None

    def _finish(self, channels: tuple[int, ...], strides: tuple[int, ...], outputs: int | None) -> None:
        """Complete the constructor: `fc` after all other layers, and the initial weights of He et al. (2015)."""
        self.channels, self.strides = channels, strides
        self.fc = None if outputs is None else nn.Linear(channels[-1], outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _features(self, maps: list[Tensor], pool: int | None = None) -> Features:
        """Pool the last map, or its upper left pool x pool pixels, and apply `fc`."""
        last = maps[-1][:, :, :pool, :pool]
        with torch.autocast(last.device.type, enabled=False):
            pooled = (last.float() if last.dtype in (torch.bfloat16, torch.float16) else last).mean((2, 3))
            outputs = None if self.fc is None else self.fc(pooled.to(self.fc.weight.dtype))
        return Features(tuple(maps), pooled, outputs)
