"""Convolutional trunks, in plain PyTorch with the published layer names, and the reading of their weights.

Which there are and what each is for: `resnet50` and `resnet18` (the methods' papers), `VGGFace` (UH-E2FAR), `MobileNet` (3DDFA), `LightNet` (two CPU cores). All are a `Trunk`, whose
docstring says what goes in and what comes out.
"""

from facemodels.networks.head import regression_head
from facemodels.networks.light import LightNet
from facemodels.networks.mobilenet import MobileNet
from facemodels.networks.resnet import ResNet, resnet18, resnet50
from facemodels.networks.trunk import Features, Trunk
from facemodels.networks.vgg import VGGFace
from facemodels.networks.weights import fill, load_weights, read_weights

__all__ = [
    "Features",
    "LightNet",
    "MobileNet",
    "ResNet",
    "Trunk",
    "VGGFace",
    "fill",
    "load_weights",
    "read_weights",
    "regression_head",
    "resnet18",
    "resnet50",
]
