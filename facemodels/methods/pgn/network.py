"""The network of PGN: an encoder, a head for coefficients and a head for landmarks, read from a UV position map."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facemodels.methods.pgn.pose import LOG_SCALE
from facemodels.models.morphable import MorphableModel
from facemodels.networks import LightNet, Trunk, regression_head, resnet50


class Heads(NamedTuple):
    """The outputs of the network.

    Attributes:
        identity: [N,I] coefficients of the morphable model.
        expression: [N,E] coefficients of the morphable model.
        points: [N,P,3]: the predicted 68 landmarks and, of a map, the other taught points after them. In sides of the
            picture: x and y (up) from the lower left corner, z toward the viewer with an arbitrary origin.
        pose: [N,9], the regressed pose of the baseline (see `pose.regressed_pose`); else None.
    """

    identity: Tensor
    expression: Tensor
    points: Tensor
    pose: Tensor | None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Heads":
        """Apply a function to every tensor."""
        pose = None if self.pose is None else function(self.pose)
        return Heads(function(self.identity), function(self.expression), function(self.points), pose)


class Network(nn.Module):
    """The encoder with its heads: pictures [N,3,S,S], sRGB in 0..1, to `Heads`.

    Attributes:
        size: S, the side of the pictures in pixels.
    """

    uv: Tensor
    mean_points: Tensor

    def __init__(
        self, trunk: str, identity: int, expression: int, uv: Tensor | None, mean_points: Tensor, regressed: bool
    ) -> None:
        """Build the network with random weights.

        Args:
            trunk: "resnet50" or "light".
            identity: number of identity coefficients.
            expression: number of expression coefficients.
            uv: [P,2] in 0..1, where in the map the points are read; None for the direct head, which regresses the 68
                landmarks.
            mean_points: [P,3], the points of the mean face as it looks at the camera, in the units of `Heads.points`.
                The head predicts offsets from them, so the pose is solved from a face from the first step on.
            regressed: whether there is a head for the pose.
        """
        super().__init__()
        light = trunk == "light"
        self.trunk: Trunk
        self.trunk, self.size, map_size = (LightNet(), 112, 4) if light else (resnet50(), 224, 7)
        top, self.counts = self.trunk.channels[-1], (identity, expression)
        inputs = top * map_size**2 if light else top
        self.coefficients = regression_head(inputs, (512,), identity + expression)
        # The heads of the light trunk read its whole last map: the mean over it has lost where things are.
        self.reads_map = light
        self.pose = regression_head(inputs, (256,), 9) if regressed else None
        if self.pose is not None:
            last = self.pose[-1]
            assert isinstance(last, nn.Linear)
            with torch.no_grad():
                last.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0, LOG_SCALE, 0.5, 0.5]))
        self.register_buffer("mean_points", mean_points, persistent=False)
        self.map: nn.Sequential | None = None
        self.direct: nn.Sequential | None = None
        if uv is None:
            self.direct = regression_head(inputs, (256,), 68 * 3)
        else:
            self.register_buffer("uv", uv, persistent=False)
            self.map = _map_decoder(top, (128, 64, 32) if light else (512, 256, 128, 64))

    def forward(self, image: Tensor) -> Heads:
        """Predict `Heads` for pictures [N,3,S,S], sRGB in 0..1."""
        features = self.trunk(((image - 0.5) / 0.25).contiguous(memory_format=torch.channels_last))
        top = features.maps[-1]
        position_map = self.map(top).float() if self.map is not None else None
        with torch.autocast(image.device.type, enabled=False):  # coefficients and points in full precision
            code = top.flatten(1).float() if self.reads_map else features.pooled.float()
            identity, expression = self.coefficients(code).split(self.counts, 1)
            if position_map is None:
                assert self.direct is not None
                points = self.direct(code).view(-1, 68, 3)
            else:
                grid = (2 * self.uv - 1).expand(len(image), 1, -1, 2)
                points = F.grid_sample(position_map, grid, padding_mode="border", align_corners=False)[:, :, 0].mT
            return Heads(
                identity, expression, points + self.mean_points, None if self.pose is None else self.pose(code)
            )


def _map_decoder(channels: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Transposed convolutions from the encoder's last map to a position map [N,3,.,.], each doubling the side."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [
            nn.ConvTranspose2d(channels, width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        channels = width
    last = nn.Conv2d(channels, 3, 3, padding=1)
    assert last.bias is not None
    nn.init.normal_(last.weight, std=1e-3)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


def vertex_uv(model: MorphableModel) -> Tensor:
    """Texture coordinates of vertices, stretched so that the face region fills 0..1 up to a margin of 0.05.

    Returns:
        [V,2]; a vertex on a seam has one of its coordinates.
    """
    uv = torch.zeros(model.num_vertices, 2, device=model.uv.device)
    uv[model.faces.long().flatten()] = model.uv[model.uv_faces.long().flatten()]
    low, high = uv[model.regions["face"]].amin(0), uv[model.regions["face"]].amax(0)
    return 0.05 + 0.9 * (uv - low) / (high - low)
