"""The network of Cycle: an encoder with a branch and a head each for identity, expression, pose and texture."""

import torch
from torch import Tensor, nn

import facerender as fr
from facemodels.methods.cycle.properties import Pose, Properties
from facemodels.networks import LightNet, ResNet, regression_head, resnet18, resnet50

LOG_SCALE = 1.6  # logarithm of the usual scale of heads in their crops, sides of the picture per meter
LIGHT_CHANNELS, LIGHT_MAP = 40, 4  # of the light trunk's branches: channels and side of the last map


class Network(nn.Module):
    """The network: pictures [N,3,S,S], sRGB in 0..1, to `Properties`.

    Attributes:
        size: S, the side of the pictures in pixels.
    """

    ambient: Tensor

    def __init__(self, trunk: str, separate: bool, counts: tuple[int, int, int], blendshapes: bool) -> None:
        """Build the network with random weights.

        Args:
            trunk: "resnet50" or "light".
            separate: whether each branch has an encoder of its own.
            counts: numbers of identity, expression and albedo coefficients.
            blendshapes: whether expressions are activations in 0..1.
        """
        super().__init__()
        light = trunk == "light"
        make, self.size = (LightNet, 112) if light else (resnet18 if separate else resnet50, 224)
        outputs = {"identity": counts[0], "expression": counts[1], "pose": 9, "texture": counts[2] + 27}
        shared_layers, width = (3, LIGHT_CHANNELS) if light else (2, None)
        split = {name: _split_trunk(make(), shared_layers, width) for name in outputs}
        self.shared = None if separate else split["identity"][0]
        self.branches = nn.ModuleDict(
            {name: nn.Sequential(*both) if separate else both[1] for name, both in split.items()}
        )
        # The heads of the light trunk read its whole last map: the mean over it has lost where things are.
        self.reads_map = light
        inputs, hidden = (LIGHT_CHANNELS * LIGHT_MAP**2, 256) if light else (make().channels[-1], 512)
        heads = {name: regression_head(inputs, (hidden,), n) for name, n in outputs.items()}
        self.heads = nn.ModuleDict(heads)
        self.blendshapes, self.num_albedo = blendshapes, counts[2]
        last = heads["pose"][-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0, LOG_SCALE, 0.5, 0.5]))
        ambient = fr.lighting.ambient_and_directional(
            torch.full((1, 3), 0.5), torch.tensor([[0.0, 0.3, 1.0]]), torch.full((1, 3), 0.6)
        )
        self.register_buffer("ambient", ambient, persistent=False)

    def forward(self, image: Tensor) -> Properties:
        """Predict the properties of faces in pictures [N,3,S,S], sRGB in 0..1."""
        x = ((image - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)
        x = x if self.shared is None else self.shared(x)
        maps = {name: branch(x).float() for name, branch in self.branches.items()}
        with torch.autocast(image.device.type, enabled=False):  # coefficients in full precision
            codes = {name: m.flatten(1) if self.reads_map else m.mean((2, 3)) for name, m in maps.items()}
            outputs = {name: self.heads[name](code) for name, code in codes.items()}
            expression = outputs["expression"]
            if self.blendshapes:
                expression = torch.sigmoid(4 * expression - 3)  # 0.05 at the start of training
            albedo, light = outputs["texture"].split([self.num_albedo, 27], 1)
            return Properties(
                outputs["identity"],
                expression,
                *pose_from_numbers(outputs["pose"], self.size),
                albedo,
                self.ambient + light.view(-1, 9, 3),
            )


def _split_trunk(trunk: LightNet | ResNet, shared: int, width: int | None) -> tuple[nn.Sequential, nn.Sequential]:
    """Split a trunk after `shared` of its four layers; the second part is narrowed to `width` channels, if given."""
    pool = [nn.MaxPool2d(3, 2, 1)] if isinstance(trunk, ResNet) else []
    layers = [trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4]
    narrow: list[nn.Module] = []
    if width is not None:
        conv = nn.Conv2d(trunk.channels[-1], width, 1, bias=False)
        narrow = [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    first = nn.Sequential(trunk.conv1, trunk.bn1, nn.ReLU(inplace=True), *pool, *layers[:shared])
    return first, nn.Sequential(*layers[shared:], *narrow)


def pose_from_numbers(numbers: Tensor, size: int) -> Pose:
    """Turn the output of the pose head into a pose.

    Args:
        numbers: [N,9]: two axes of the rotation, logarithm of the scale in sides of the picture per meter, and
            translation in sides.
        size: side of the picture in pixels.
    """
    rotation = fr.camera.rotation_from_axes(numbers[:, :3], numbers[:, 3:6])
    return Pose(rotation, numbers[:, 6].exp() * (size / 1000), numbers[:, 7:9] * size)
