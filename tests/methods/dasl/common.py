"""What the tests of 2DASL share."""

import imageio.v3 as iio
import numpy as np
from torch import nn

from facemodels.methods.dasl import (
    PRESETS,
    DASLConfig,
)
from facemodels.training.config import configured


def small(folder, **changes):
    return configured(DASLConfig, PRESETS["smoke"] | {"output": str(folder), "device": "cpu"} | changes)


class FixedNetwork(nn.Module):
    """In place of the network: returns the given parameters one after the other, and records its inputs."""

    def __init__(self, *answers):
        super().__init__()
        self.answers, self.shown = list(answers), []

    def forward(self, image, channel):
        self.shown.append(channel)
        return self.answers[len(self.shown) - 1]


def pictures(folder, count):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(count):
        iio.imwrite(folder / f"{k}.png", rng.integers(0, 255, (90, 80, 3), dtype=np.uint8))
        np.savetxt(folder / f"{k}.txt", 20 + 40 * rng.random((68, 2)))
    return folder
