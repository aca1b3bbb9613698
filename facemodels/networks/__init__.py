"""Convolutional trunks, in plain PyTorch with the published layer names, and the reading of their weights.

* `trunk`: `Trunk`, what all of them take and return.
* `resnet`: ResNet-18 and ResNet-50, of the methods' papers.
* `vgg`: VGG-Face, of UH-E2FAR.
* `mobilenet`: MobileNet-V1, of 3DDFA.
* `light`: `LightNet`, for two CPU cores.
* `head`: the fully connected layers that turn features into numbers.
* `norm`: batch norm over all processes, and with frozen running averages.
* `weights`, `matconvnet`: weights from files.
"""

from facemodels.networks.head import fit_linear, regression_head
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
    "fit_linear",
    "load_weights",
    "read_weights",
    "regression_head",
    "resnet18",
    "resnet50",
]
