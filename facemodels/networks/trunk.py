"""What all trunks have in common."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Features(NamedTuple):
    maps: tuple[Tensor, ...]  # [N, channels[k], about H / strides[k], W / strides[k]], fine to coarse
    pooled: Tensor  # [N, channels[-1]], the mean of the last map over its pixels
    outputs: Tensor | None  # [N, outputs], the linear layer `fc` of pooled; None where the trunk was made without


class Trunk(nn.Module):
    """A convolutional network: ``trunk(x)`` takes images [N,C,H,W], already normalised as its weights want them, and gives `Features`.

    Every trunk is made with ``in_channels`` (any number; 4 with a landmark channel) and ``outputs`` (the size of a linear layer ``fc`` on the pooled vector, None
    for none). Batches in the memory format ``channels_last`` are the fastest. Inside autocast the maps come in its precision; pooled and outputs are float32 all the
    same: 8 bits of mantissa are too few for a pose.

    Attributes:
        channels: of each map, fine to coarse; channels[-1] is the size of the pooled vector too.
        strides: of each map, input pixels per pixel.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def _finish(self, channels, strides, outputs):
        """The last thing a constructor does: `fc` after all other layers, and the weights that He et al. (2015) start from."""
        self.channels, self.strides = channels, strides
        self.fc = None if outputs is None else nn.Linear(channels[-1], outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _features(self, maps, pool=None):
        last = maps[-1][:, :, :pool, :pool]
        with torch.autocast(last.device.type, enabled=False):
            pooled = (last.float() if last.dtype in (torch.bfloat16, torch.float16) else last).mean((2, 3))
            outputs = None if self.fc is None else self.fc(pooled.to(self.fc.weight.dtype))
        return Features(tuple(maps), pooled, outputs)
