"""Residual networks (He et al. 2016) with the layer names of the published ImageNet weights.

conv1, bn1, layer1.0.conv1, ..., fc. The 3x3 convolution of a bottleneck carries its stride, as in those weights (and
in 2DASL's), not its first 1x1 as in the paper.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from facemodels.networks.trunk import Features, Trunk


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: [N,in,H,W] -> [N,width,H/stride,W/stride]."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the convolutions and add the shortcut."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut: [N,in,H,W] -> [N,4 width,H/stride,W/stride]."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the convolutions and add the shortcut."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


def _shortcut(channels: int, out: int, stride: int) -> nn.Sequential | None:
    """Make a 1x1 convolution where the block changes the shape, None where it does not."""
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


class ResNet(Trunk):
    """A residual network of four stages of widths 64, 128, 256, 512.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: how many blocks each stage has.
        in_channels: see `Trunk`.
        outputs: see `Trunk`.
        last_stride: of the fourth stage; 1 for 2DASL.
        pool: side of the window, at the upper left of the last map, that is averaged; None for the whole map. 2DASL has
            7: at its 120 pixels the map has a side of 8, and its weights were trained without the last row and column.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        in_channels: int = 3,
        outputs: int | None = None,
        last_stride: int = 2,
        pool: int | None = None,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        widths, strides, channels = (64, 128, 256, 512), (1, 2, 2, last_stride), 64
        for k in range(4):
            blocks: list[nn.Module] = []
            for j in range(depths[k]):
                blocks.append(block(channels, widths[k], strides[k] if j == 0 else 1))
                channels = widths[k] * block.expansion
            setattr(self, f"layer{k + 1}", nn.Sequential(*blocks))
        self._finish(tuple(w * block.expansion for w in widths), (4, 8, 16, 16 * last_stride), outputs)

    def forward(self, x: Tensor) -> Features:
        """See `Trunk`."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return self._features(maps, self.pool)


def resnet18(in_channels: int = 3, outputs: int | None = None, last_stride: int = 2, pool: int | None = None) -> ResNet:
    """Make a ResNet-18: 11,176,512 parameters with 3 channels and without outputs.

    Maps of 64, 128, 256 and 512 channels. Arguments as in `ResNet`.
    """
    return ResNet(BasicBlock, (2, 2, 2, 2), in_channels, outputs, last_stride, pool)


def resnet50(in_channels: int = 3, outputs: int | None = None, last_stride: int = 2, pool: int | None = None) -> ResNet:
    """Make a ResNet-50: 23,508,032 parameters with 3 channels and without outputs.

    Maps of 256, 512, 1024 and 2048 channels. Arguments as in `ResNet`. ``resnet50(4, 62, last_stride=1, pool=7)`` is
    the regressor of 2DASL (Tu et al. 2019, released code): 23,638,206 parameters, 120x120 pixels.
    """
    return ResNet(Bottleneck, (3, 4, 6, 3), in_channels, outputs, last_stride, pool)
