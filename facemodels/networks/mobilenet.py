"""MobileNet-V1 (Howard et al. 2017) with the layer names of 3DDFA's released weights.

conv1, bn1, dw2_1.conv_dw, dw2_1.bn_dw, dw2_1.conv_sep, dw2_1.bn_sep, ..., dw6, fc.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from facemodels.networks.trunk import Features, Trunk

# (name, channels, stride) of the depthwise separable blocks, in order.
BLOCKS = (
    ("dw2_1", 64, 1),
    ("dw2_2", 128, 2),
    ("dw3_1", 128, 1),
    ("dw3_2", 256, 2),
    ("dw4_1", 256, 1),
    ("dw4_2", 512, 2),
    *((f"dw5_{k}", 512, 1) for k in range(1, 6)),
    ("dw5_6", 1024, 2),
    ("dw6", 1024, 1),
)
LAST = ("dw3_1", "dw4_1", "dw5_5", "dw6")  # the last block of each size of map


class SeparableBlock(nn.Module):
    """A depthwise 3x3 and a pointwise convolution, each with batch norm and ReLU.

    [N,channels,H,W] -> [N,out,H/stride,W/stride].
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        self.bn_dw = nn.BatchNorm2d(channels)
        self.conv_sep = nn.Conv2d(channels, out, 1, bias=False)
        self.bn_sep = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both convolutions."""
        x = F.relu(self.bn_dw(self.conv_dw(x)), inplace=True)
        return F.relu(self.bn_sep(self.conv_sep(x)), inplace=True)


class MobileNet(Trunk):
    """MobileNet-V1; at full width 3,206,976 parameters with 3 channels and without outputs.

    With 62 outputs and 120x120 pixels it is 3DDFA's network, at half the width the small one of 3DDFA_V2.

    Args:
        in_channels: see `Trunk`.
        outputs: see `Trunk`.
        width: factor of the number of channels.
    """

    def __init__(self, in_channels: int = 3, outputs: int | None = None, width: float = 1.0) -> None:
        super().__init__()
        channels = int(32 * width)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for name, out, stride in BLOCKS:
            setattr(self, name, SeparableBlock(channels, int(out * width), stride))
            channels = int(out * width)
        self._finish(tuple(int(c * width) for c in (128, 256, 512, 1024)), (4, 8, 16, 32), outputs)

    def forward(self, x: Tensor) -> Features:
        """See `Trunk`."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        maps = []
        for name, _, _ in BLOCKS:
            x = getattr(self, name)(x)
            if name in LAST:
                maps.append(x)
        return self._features(maps)
