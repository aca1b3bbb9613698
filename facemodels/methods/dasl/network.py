"""The landmark channel, the network, and the critic of 2DASL."""

import torch
from torch import Tensor, nn

from facemodels.networks import LightNet, MobileNet, ResNet, regression_head, resnet50

SIZE = 120  # pixels, the side of pictures


def landmark_channel(points: Tensor, shown: Tensor, size: int = SIZE, form: str = "hard") -> Tensor:
    """Draw the fourth channel: -1, and 1 at points.

    Args:
        points: [N,P,2], pixels with y down; any value where not shown.
        shown: [N,P] bool, whether a point is drawn.
        size: Side of the channel in pixels.
        form: "hard": one pixel a point, points outside at the border, no gradient. "soft": a Gaussian with a standard
            deviation of one pixel, differentiable at the points.

    Returns:
        [N,1,size,size].
    """
    points = torch.where(shown[..., None], points, 0)
    if form == "soft":
        centers = torch.arange(size, device=points.device) + 0.5
        x, y = ((centers - points[..., k, None]).square().div(-2).exp() for k in (0, 1))
        return 2 * (shown[..., None, None] * y[..., None] * x[..., None, :]).amax(1, keepdim=True) - 1
    column, row = points.detach().floor().long().clamp(0, size - 1).unbind(-1)
    channel = points.new_full((len(points), size * size), -1.0)
    channel.scatter_reduce_(1, row * size + column, torch.where(shown, 1.0, -1.0).to(points.dtype), "amax")
    return channel.view(-1, 1, size, size)


class Network(nn.Module):
    """Regresses whitened parameters from a picture and the landmark channel."""

    def __init__(self, trunk: str, outputs: int = 62) -> None:
        """Build the network, which begins at the mean parameters.

        Args:
            trunk: "resnet50", "mobilenet", "mobilenet_05" or "light".
            outputs: Number of parameters.
        """
        super().__init__()
        self.light = trunk == "light"
        if self.light:
            # The head reads the whole last map, not its spatial mean, which discards positions that a short training
            # needs.
            self.trunk: nn.Module = LightNet(4)
            self.head = regression_head(256 * 16, (256,), outputs)
            return
        deep: ResNet | MobileNet
        if trunk == "resnet50":
            deep = resnet50(4, outputs, last_stride=1, pool=7)
        else:
            deep = MobileNet(4, outputs, 1.0 if trunk == "mobilenet" else 0.5)
        assert deep.fc is not None
        nn.init.normal_(deep.fc.weight, std=1e-3)
        nn.init.zeros_(deep.fc.bias)
        self.trunk = deep

    def forward(self, image: Tensor, channel: Tensor) -> Tensor:
        """Predict whitened parameters [N,outputs].

        Args:
            image: [N,3,120,120], sRGB in 0..1.
            channel: [N,1,120,120], see `landmark_channel`.
        """
        features = self.trunk(self.inputs(image, channel))
        if not self.light:
            return features.outputs
        with torch.autocast(image.device.type, enabled=False):
            return self.head(features.maps[-1].flatten(1).float())

    @staticmethod
    def inputs(image: Tensor, channel: Tensor) -> Tensor:
        """What the trunk sees [N,4,120,120], arguments as of `forward`."""
        # Blue, green, red: the released code reads pictures with OpenCV.
        pixels = (image.flip(1) * 255 - 127.5) / 128
        return torch.cat([pixels, channel], 1).contiguous(memory_format=torch.channels_last)


class Critic(nn.Module):
    """Judges how likely parameters are the true ones of a picture.

    Six convolutions, each with ReLU and max-pooling, encode the picture into a vector; layers of 512, 1024, 1024 and 1
    read this code and the parameters. The last layer outputs a logit, because a softmax over one number, as in the
    reimplementation's notes, is constant. The widths of the encoder are not published.
    """

    def __init__(self, outputs: int = 62, light: bool = False) -> None:
        """Build the critic.

        Args:
            outputs: Number of parameters.
            light: A narrower one, whose first convolution has a stride of 2 instead of the pooling.
        """
        super().__init__()
        widths: tuple[int, ...] = (16, 16, 32, 64, 128, 128) if light else (32, 64, 128, 256, 512, 512)
        hidden = (128, 256, 256) if light else (512, 1024, 1024)
        layers: list[nn.Module] = []
        channels = 3
        for k, width in enumerate(widths):
            strided = light and k == 0  # the first map is most of the work
            layers += [
                nn.Conv2d(channels, width, 3, 2 if strided else 1, 1),
                nn.ReLU(inplace=True),
                nn.Identity() if strided else nn.MaxPool2d(2),
            ]
            channels = width
        self.encoder = nn.Sequential(*layers, nn.Flatten())
        layers, inputs = [], channels + outputs
        for width in hidden:
            layers += [nn.Linear(inputs, width), nn.LeakyReLU(0.2, inplace=True)]
            inputs = width
        self.critic = nn.Sequential(*layers, nn.Linear(inputs, 1))

    def forward(self, image: Tensor, parameters: Tensor) -> Tensor:
        """Return logits [N].

        Args:
            image: [N,3,120,120], sRGB in 0..1.
            parameters: [N,outputs], whitened.
        """
        code = self.encoder(((image * 255 - 127.5) / 128).contiguous(memory_format=torch.channels_last)).float()
        with torch.autocast(image.device.type, enabled=False):
            return self.critic(torch.cat([code, parameters.float()], 1))[:, 0]
