"""Convolutional trunks, in plain PyTorch with the published layer names, and the reading of their weights.

Which there are and what each is for: `resnet50` and `resnet18` (the methods' papers), `VGGFace` (UH-E2FAR), `MobileNet` (3DDFA), `LightNet` (two CPU cores). All are a `Trunk`, whose
docstring says what goes in and what comes out.
"""

from .head import regression_head
from .light import LightNet
from .mobilenet import MobileNet
from .resnet import ResNet, resnet18, resnet50
from .trunk import Features, Trunk
from .vgg import VGGFace
from .weights import fill, load_weights, read_weights

__all__ = ["Features", "LightNet", "MobileNet", "ResNet", "Trunk", "VGGFace", "fill", "load_weights", "read_weights", "regression_head", "resnet18", "resnet50"]
