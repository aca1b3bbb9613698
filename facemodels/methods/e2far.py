"""UH-E2FAR: Dou, Shah, Kakadiaris, End-to-end 3D face reconstruction with deep neural networks, CVPR 2017.

One network regresses the coefficients of a morphable model from one picture. Two ideas. The neutral shape of a person
is read from the top of the network, but an expression consists of local changes, so its branch fuses features of two
depths (the fusion-CNN). And identity and expression are separate tasks, each judged by the vertices that its
coefficients move (the multi-task loss):

    L = E_id + 5 E_exp,    E = mean over vertices and coordinates of (U (p - p*))^2

U is in millimeters over the face region, so errors are mm^2; E is computed as d^T G d with the Gram matrix
G = U^T U / 3V, which is the same number at a thousandth of the cost. Of the identity's U, only what no small similarity
of the mean face produces is kept (`shape_alone`): a picture shows neither the size of a head nor the origin of its
coordinates, and the paper measures shapes after alignment.

Layers, sizes and weights follow a public reimplementation (VGG-Face trunk, 180 x 180 pixels, conv6 5x5 stride 2 after
pool4, conv7 1x1 after pool5, conv8 1x1 on both; fully connected 4096, 1024). docs/notes/e2far.md has what was chosen
beyond it, the light trunk and its landmarks among them.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from facemodels.core.alignment import similarity
from facemodels.core.camera import scaled_orthography
from facemodels.core.drawing import portrait, tile
from facemodels.core.errors import InputError
from facemodels.core.parameters import FaceParameters, flip_y
from facemodels.data import FaceBatch
from facemodels.data.augment import AugmentConfig, augment
from facemodels.data.cache import Cached
from facemodels.data.counter_rng import CounterRNG
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from facemodels.losses import gram_loss, gram_matrix, landmark_loss, shape_alone
from facemodels.methods.face_method import FaceMethod
from facemodels.networks import LightNet, VGGFace, load_weights, regression_head
from facemodels.training.config import SAMPLES, WEIGHT, Config, Ranges
from facemodels.training.method import Panel
from facerender.color import to_linear

# Random changes of cached renderings, against overfitting to them (see docs/notes/e2far.md).
CACHED = AugmentConfig(
    rotation=3,
    scale=0.03,
    shift=0.015,
    brightness=0.1,
    contrast=0.1,
    tint=0.05,
    saturation=0.1,
    grey=0.02,
    blurred=0.1,
    covered=0.15,
    patch=0.3,
)
# Its training pictures are cropped closer than `landmark_box` does: 1.15 to 1.3 times the box of the landmarks, not
# sqrt(2) times. So crops by that rule are taken this much larger, and the network reads their center.
AROUND = 1.16
HELD_OUT = 7_000_003  # seed of validation faces, whatever the seed of training


@dataclass
class E2FARConfig(Config):
    """Settings of UH-E2FAR."""

    RANGES: ClassVar[Ranges] = {
        "batch": (2, 65_536),  # for batch norm
        "cache": SAMPLES,
        "yaw": (0.0, 90.0),
        "held_out": (1, SAMPLES[1]),
        "expression_weight": WEIGHT,
        "landmark_weight": WEIGHT,
    }

    output: str = "runs/e2far"

    # Network
    model: str = "builtin"  # the morphable model: "builtin" or a file
    trunk: str = "light"  # "vgg" (VGG-Face, 180 pixels) or "light" (112 pixels)
    fusion: bool = True  # fuse two depths for the expression; false reads the top alone: the paper's ablation
    weights: str = ""  # file of VGG-Face weights to start from

    # Data
    cache: int = 0  # rendered faces that are kept and reused; 0: new ones in every step
    yaw: float = 45.0  # largest yaw of rendered faces, degrees
    held_out: int = 512  # faces to validate on

    # Losses
    expression_weight: float = 5.0  # of E_exp
    landmark_weight: float = 0.05  # of the light trunk's landmarks, mean squared distance in crop pixels

    # Other defaults
    lr: float = 1e-3
    weight_decay: float = 5e-4
    clip: float = 1.0
    ema: float = 0.998

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trunk not in ("vgg", "light"):
            raise InputError(f"trunk must be vgg or light, got {self.trunk!r}")


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        steps=12, batch=4, held_out=8, validate_every=6, checkpoint_every=6, panel_every=12, log_every=3, warmup=2
    ),
    "ablation": dict(
        steps=1000, batch=64, cache=12_000, precision="bfloat16", validate_every=500, checkpoint_every=500,
        panel_every=1000, warmup=100,
    ),
    "cpu": dict(
        steps=8000, batch=64, cache=60_000, precision="bfloat16", validate_every=1000, checkpoint_every=1000,
        panel_every=2000, warmup=200,
    ),
    "gpu": dict(
        steps=100_000, batch=256, precision="bfloat16", validate_every=2000, checkpoint_every=2000, panel_every=5000,
        warmup=1000, prefetch=2,
    ),
    # The reimplementation: Adam 1e-4, batch 32, 100 epochs, times 0.1 at 80. That the paper has 250,000 renderings is
    # from memory.
    "paper": dict(
        trunk="vgg", steps=780_000, batch=32, optimizer="adam", lr=1e-4, schedule="step", milestones=(625_000,),
        decay=0.1, clip=0.0, ema=0.0,
    ),
}  # fmt: skip


class Network(nn.Module):
    """Regresses identity and expression coefficients from a picture and, with the light trunk, landmarks."""

    mean: Tensor

    def __init__(self, trunk: str, identity: int, expression: int, fusion: bool = True) -> None:
        """Build the network.

        Args:
            trunk: "vgg" or "light".
            identity: Number of identity coefficients.
            expression: Number of expression coefficients.
            fusion: Whether the expression is read from two depths, or from the top alone.
        """
        super().__init__()
        self.fusion = fusion
        light = trunk != "vgg"
        self.trunk: LightNet | VGGFace
        # VGG-Face's weights expect 0..255 less their mean; the light trunk about -1..1.
        if light:
            self.trunk, self.size, width, hidden, spatial, padding = LightNet(), 112, 256, (192, 192), 4, 2
            mean, self.scale = (127.5, 127.5, 127.5), 2.0
        else:
            self.trunk, self.size, width, hidden, spatial, padding = VGGFace(), 180, 512, (4096, 1024), 5, 1
            mean, self.scale = (129.1863, 104.7624, 93.5940), 255.0
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) / 255, persistent=False)
        below, top = self.trunk.channels[-2:]
        if fusion:
            self.conv6 = nn.Conv2d(below, width, 5, 2, padding)
            self.conv7 = nn.Conv2d(top, width, 1)
            self.conv8 = nn.Conv2d(2 * width, width, 1)
            self.norms = nn.ModuleList(nn.BatchNorm2d(width) if light else nn.Identity() for _ in range(3))
        self.landmarks = regression_head(top * spatial**2, (128,), 136, light) if light else None
        self.identity = regression_head(top * spatial**2, hidden, identity, light)
        self.expression = regression_head((width if fusion else top) * spatial**2, hidden, expression, light)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Predict coefficients and landmarks.

        Args:
            image: [N,3,S,S], sRGB in 0..1; S is `size`.

        Returns:
            identity [N,I], expression [N,E], and landmarks [N,68,2] in pixels with y down, or None of the VGG trunk.
        """
        maps = self.trunk((image - self.mean) * self.scale).maps
        below, top = maps[-2:]
        fused = top
        if self.fusion:
            fused = torch.cat([self.norms[0](self.conv6(below)).relu(), self.norms[1](self.conv7(top)).relu()], 1)
            fused = self.norms[2](self.conv8(fused)).relu()
        with torch.autocast(image.device.type, enabled=False):  # coefficients in full precision
            top, fused = top.flatten(1).float(), fused.flatten(1).float()
            landmarks = None if self.landmarks is None else self.size * (0.5 + self.landmarks(top).view(-1, 68, 2))
            return self.identity(top), self.expression(fused), landmarks


class E2FAR(FaceMethod):
    """UH-E2FAR about a morphable model."""

    name, config_class, PRESETS = "e2far", E2FARConfig, PRESETS
    monitor = "error_mm2"
    measured_on = "on held-out renderings"

    config: E2FARConfig
    identity_gram: Tensor
    expression_gram: Tensor

    def __init__(self, config: E2FARConfig) -> None:
        """Build the network and read the morphable model; its file is the only one that is read."""
        super().__init__(config)
        face = self.model.regions["face"]
        shapes = shape_alone(self.model.identity_basis[:, face], self.model.mean[face])
        self.register_buffer("identity_gram", gram_matrix(shapes.flatten(1)), persistent=False)
        expressions = self.model.expression_basis[:, face]
        self.register_buffer("expression_gram", gram_matrix(expressions.flatten(1)), persistent=False)
        self.network = Network(config.trunk, self.model.num_identity, self.model.num_expression, config.fusion)
        # Closely cropped and upright, as faces that were aligned by their landmarks.
        self.source: Synthetic[CounterRNG] = Synthetic(
            self.model,
            self.network.size,
            RandomizationConfig(
                yaw=config.yaw, pitch=10, roll=3, box=(1.15, 1.3), shift=0.015, occluded=0.15, degraded=0.3
            ),
        )
        self.size = round(self.network.size * AROUND)
        self.cached: Cached | None = None  # None: new renderings in every step

    def initialize(self) -> None:
        """Take the weights of `start`, or of the trunk those of `weights`."""
        super().initialize()
        if self.config.weights:
            load_weights(self.network.trunk, self.config.weights, skip=("fc",))

    def prepare_data(self) -> None:
        """Render the faces that are cached."""
        if self.config.cache:
            self.cached = Cached(self.source, self.config.seed, self.config.cache)

    def batch(self, step: int, indices: range, device: torch.device) -> FaceBatch:
        """Make a part of a step's batch: rendered faces with all labels."""
        if self.cached is None:
            return self.source(self.config.seed, step, indices)
        faces = self.cached(self.config.seed, step * self.config.batch, indices).to(device)
        return augment(faces, self.config.seed, step, indices, CACHED)

    def forward(self, group: str, batch: FaceBatch, step: int, shared: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the multi-task loss and, with the light trunk, that of the landmarks."""
        c, image = self.config, batch.image
        assert batch.identity is not None and batch.expression is not None and batch.landmarks is not None
        if c.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        identity, expression, landmarks = self.network(image)
        id_error = gram_loss(identity, batch.identity, self.identity_gram)
        exp_error = gram_loss(expression, batch.expression, self.expression_gram)
        parts = {
            "loss": id_error + c.expression_weight * exp_error,
            "identity_mm2": id_error,
            "expression_mm2": exp_error,
        }
        if landmarks is not None and c.landmark_weight:
            parts["landmarks_px2"] = landmark_loss(landmarks, batch.landmarks, torch.ones(68, device=landmarks.device))
            parts["loss"] = parts["loss"] + c.landmark_weight * parts["landmarks_px2"]
        return parts

    def predict(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Predict identity [N,I] and expression [N,E]; blend-shape weights are clamped to 0..1.

        Args:
            image: [N,3,S,S], sRGB in 0..1, cropped as the training faces are; S is `network.size`.
        """
        identity, expression, _ = self.network(image)
        return identity, expression.clamp(0, 1) if self.model.blendshapes else expression

    @torch.no_grad()
    def reconstruct(self, image: Tensor) -> FaceParameters:
        """Reconstruct the faces of pictures, see `FaceMethod.reconstruct`.

        The network predicts no pose. The camera is the one that takes the landmarks of the shape to those that the
        light trunk predicts; it is good for rotations of up to about 60 degrees.
        """
        size, edge = self.size, (self.size - self.network.size) // 2
        inner = slice(edge, edge + self.network.size)
        identity, expression, predicted = self.network(image[..., inner, inner])
        if predicted is None:
            raise InputError(f"{self.name} with the trunk vgg gives no pose to place a face with; the light trunk does")
        if self.model.blendshapes:
            expression = expression.clamp(0, 1)
        points, predicted = self.model.landmarks(self.model.shape(identity, expression)), predicted + edge
        target = flip_y(predicted[..., :2], size)
        extent = [(p[..., :2] - p[..., :2].mean(1, keepdim=True)).square().sum((1, 2)).sqrt() for p in (target, points)]
        depth = points[..., 2] * (extent[0] / extent[1])[:, None]
        scale, rotation, translation = found = scaled_orthography(points, target, depth)
        landmarks = flip_y(found(points), size)
        return FaceParameters(identity, expression, rotation, scale, flip_y(translation[:, :2], size), landmarks)

    @torch.no_grad()
    def validate(self, device: torch.device) -> dict[str, float]:
        """Measure errors on held-out renderings.

        Returns:
            neutral_mm, neutral_of_mean_face_mm: Mean distance of the face's vertices, of the neutral shape and of the
                mean face, after the similarity that fits each to the true shape best.
            expression_mm, expression_of_none_mm: Mean distance of vertices due to the expression alone, of the
                predicted one and of none.
            error_mm2: The multi-task loss.
        """
        face = self.model.regions["face"].to(device)
        mean = self.model.mean[face]
        names = ("neutral_mm", "neutral_of_mean_face_mm", "expression_mm", "expression_of_none_mm", "error_mm2")
        sums, block = torch.zeros(len(names), device=device), 32
        for k in range(0, self.config.held_out, block):
            faces = self.source(HELD_OUT, k // block, range(min(block, self.config.held_out - k)))
            assert faces.identity is not None and faces.expression is not None
            identity, expression = self.predict(faces.image)
            basis = self.model.identity_basis[:, face].flatten(1)
            true, got = (mean + (c @ basis).view(len(c), -1, 3) for c in (faces.identity, identity))
            neutral = [(similarity(s, true)(s) - true).norm(dim=-1).mean(1).sum() for s in (got, mean.expand_as(true))]
            basis = self.model.expression_basis[:, face].flatten(1)
            moved = [
                (d @ basis).view(len(d), -1, 3).norm(dim=-1).mean(1).sum()
                for d in (expression - faces.expression, faces.expression)
            ]
            error = gram_loss(identity, faces.identity, self.identity_gram) + self.config.expression_weight * gram_loss(
                expression, faces.expression, self.expression_gram
            )
            sums += torch.stack([*neutral, *moved, error * len(identity)])
        return dict(zip(names, (sums / self.config.held_out).tolist()))

    def visualize(self, batch: FaceBatch) -> Panel:
        """Draw pictures, true shapes and predicted shapes; the shapes without pose."""
        n = min(6, len(batch))
        assert batch.identity is not None and batch.expression is not None
        identity, expression = self.predict(batch.image[:n])
        size = self.network.size
        shapes = [self.model.shape(batch.identity[:n], batch.expression[:n]), self.model.shape(identity, expression)]
        drawn = [portrait(v, self.model.topology, size=size) for v in shapes]
        rows = torch.cat([to_linear(batch.image[:n]).permute(0, 2, 3, 1), *drawn])
        return Panel(tile(rows, n), ("picture", "true shape", "predicted shape"))
