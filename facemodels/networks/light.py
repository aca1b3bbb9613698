"""A small trunk for training and running on CPUs."""

import torch.nn.functional as F
from torch import Tensor, nn

from facemodels.networks.resnet import BasicBlock
from facemodels.networks.trunk import Features, Trunk


class LightNet(Trunk):
    """A 3x3 convolution and four residual blocks, each of which halves the map.

    1.2 million parameters, 52 million multiplications for 112x112 pixels. Convolutions are dense rather than depthwise:
    on a CPU with bfloat16 matrix units they are faster than MobileNet-like blocks of a third of their parameters, which
    are bound by memory. Strides take the place of a first max-pool, so that single pixels of a landmark channel reach
    the first layer.

    Args:
        in_channels: see `Trunk`.
        outputs: see `Trunk`.
    """

    def __init__(self, in_channels: int = 3, outputs: int | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 24, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1 = BasicBlock(24, 32, 2)
        self.layer2 = BasicBlock(32, 64, 2)
        self.layer3 = BasicBlock(64, 128, 2)
        self.layer4 = BasicBlock(128, 256, 2)
        self._finish((32, 64, 128, 256), (4, 8, 16, 32), outputs)

    def forward(self, x: Tensor) -> Features:
        """See `Trunk`."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return self._features(maps)
