"""VGG-Face (Parkhi, Vedaldi, Zisserman 2015): the convolutions of VGG-16, with that network's layer names."""

import torch.nn.functional as F
from torch import Tensor, nn

from facemodels.networks.trunk import Features, Trunk

MEAN = (129.1863, 104.7624, 93.5940)  # RGB, subtracted from the images that the released weights expect
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and convolutions before each 2x2 max-pool


class VGGFace(Trunk):
    """The trunk of UH-E2FAR (Dou et al. 2017): conv1_1 ... conv5_3, 3x3 with bias and ReLU.

    14,714,688 parameters with 3 channels and without outputs. The maps are those after pool2, pool3, pool4 and pool5;
    with UH-E2FAR's 180x180 pixels the last two, which it fuses, are 512x11x11 and 512x5x5 (pooling drops an odd row).
    The released weights expect RGB, 0..255, less `MEAN`.

    Args:
        in_channels: see `Trunk`.
        outputs: see `Trunk`.
    """

    def __init__(self, in_channels: int = 3, outputs: int | None = None) -> None:
        super().__init__()
        channels = in_channels
        for block, (width, count) in enumerate(BLOCKS, 1):
            for k in range(1, count + 1):
                setattr(self, f"conv{block}_{k}", nn.Conv2d(channels, width, 3, padding=1))
                channels = width
        self._finish((128, 256, 512, 512), (4, 8, 16, 32), outputs)

    def forward(self, x: Tensor) -> Features:
        """See `Trunk`."""
        maps = []
        for block, (_, count) in enumerate(BLOCKS, 1):
            for k in range(1, count + 1):
                x = F.relu(getattr(self, f"conv{block}_{k}")(x), inplace=True)
            x = F.max_pool2d(x, 2)
            maps.append(x)
        return self._features(maps[1:])
