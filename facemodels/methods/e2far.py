"""UH-E2FAR: Dou, Shah, Kakadiaris, End-to-end 3D face reconstruction with deep neural networks, CVPR 2017.

One network, one picture, no iteration: the coefficients of a morphable model. Two ideas. The neutral shape of a person is read from the top of
the network, but an expression is made of local changes, so its branch fuses features of two depths (the fusion-CNN). And identity and
expression are tasks of their own, each judged by the vertices that its coefficients move (the multi-task loss):

    L = E_id + 5 E_exp,    E = mean over vertices and coordinates of (U (p - p*))^2

Layers, sizes and weights follow a public reimplementation (VGG-Face trunk, 180 x 180 pixels, conv6 5x5 stride 2 after pool4, conv7 1x1 after
pool5, conv8 1x1 on both; fully connected 4096, 1024). Where it has none, this file has ReLU after every layer but the last, and dropout of
one half between the fully connected ones. U is in millimetres over the face region, so errors are mm^2; E is computed as d^T G d with the Gram
matrix G = U^T U / 3V, which is the same number at a thousandth of the cost.

A picture shows neither how large a head is nor where the origin of its coordinates lies, and the paper measures shapes after they are aligned. So of the identity's U
only what no small change of size, turn or shift of the mean face makes is kept (`shape_alone`); the rest would be noise in the loss, a third of it for the built-in model.

The paper trained on renderings of random faces besides photographs; here it is renderings alone (`facemodels.data.synthetic`), upright and closely cropped as faces are
that were aligned by their landmarks. The network gives no pose. Its light trunk (112 pixels, 1.2 million parameters) has no pretrained weights such as VGG-Face's: it learns
68 landmarks on the side, which place its shapes in pictures (`E2FAR.reconstruct`) and nothing else reads, and its heads and its fusion are normalised and without dropout, for short trainings at high rates.
"""

from dataclasses import dataclass

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
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from facemodels.losses import gram_loss, gram_matrix, landmark_loss, shape_alone
from facemodels.methods.face_method import FaceMethod
from facemodels.networks import LightNet, VGGFace, load_weights, regression_head
from facemodels.training.config import Config
from facerender.color import to_linear

# How kept renderings are changed each time: without, 60,000 of them are known by heart after ten epochs (the loss on them falls on, the error of others no longer does).
GENTLE = AugmentConfig(
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
# Its pictures are cropped closer than `data.crops.landmark_box` does, which is sqrt(2) times as large as the landmarks and not 1.15 to 1.3 times: crops by that rule are taken this much larger,
# and only their middle is looked at.
AROUND = 1.16
HELD_OUT = 7_000_003  # seed of validation faces, whatever the seed of training


@dataclass
class E2FARConfig(Config):
    """model: the morphable model. trunk: "vgg" (VGG-Face, 180 pixels) or "light" (112 pixels). fusion: False reads expressions from the top
    layer too, the paper's ablation. expression_weight: of E_exp. landmark_weight: of the light trunk's landmarks, mean squared distance in crop pixels. weights: a file
    of VGG-Face weights to start from. cache: synthetic faces that are rendered once and kept, 0 for new ones in every step. held_out: faces to validate on. yaw: largest,
    degrees."""

    output: str = "runs/e2far"
    model: str = "builtin"
    trunk: str = "light"
    fusion: bool = True
    expression_weight: float = 5.0
    landmark_weight: float = 0.05
    weights: str = ""
    cache: int = 0
    held_out: int = 512
    yaw: float = 45.0
    lr: float = 1e-3
    weight_decay: float = 5e-4
    clip: float = 1.0
    ema: float = 0.998

    def __post_init__(self):
        super().__post_init__()
        if self.trunk not in ("vgg", "light"):
            raise InputError(f"trunk must be vgg or light, got {self.trunk!r}")
        if self.held_out < 1 or self.cache < 0 or self.batch < 2:
            raise InputError(
                f"held_out must be at least 1, cache at least 0 and batch, for batch norm, at least 2, got {self.held_out}, {self.cache} and {self.batch}"
            )


PRESETS = {
    "smoke": dict(steps=12, batch=4, held_out=8, validate_every=6, checkpoint_every=6, panel_every=12, log_every=3, warmup=2),
    "ablation": dict(steps=1000, batch=64, cache=12_000, precision="bfloat16", validate_every=500, checkpoint_every=500, panel_every=1000, warmup=100),
    "cpu": dict(steps=8000, batch=64, cache=60_000, precision="bfloat16", validate_every=1000, checkpoint_every=1000, panel_every=2000, warmup=200),
    "gpu": dict(steps=100_000, batch=256, precision="bfloat16", validate_every=2000, checkpoint_every=2000, panel_every=5000, warmup=1000, prefetch=2),
    # The reimplementation: Adam 1e-4, batch 32, 100 epochs, times 0.1 at 80; 250,000 renderings are what is remembered of the paper.
    "paper": dict(trunk="vgg", steps=780_000, batch=32, optimizer="adam", lr=1e-4, schedule="step", milestones=(625_000,), decay=0.1, clip=0.0, ema=0.0),
}  # fmt: skip


class Network(nn.Module):
    """Picture [N,3,S,S] in 0..1 -> (identity [N,I], expression [N,E])."""

    def __init__(self, trunk: str, identity: int, expression: int, fusion: bool = True):
        super().__init__()
        self.fusion = fusion
        if trunk == "vgg":
            self.trunk, self.size, width, hidden, spatial, padding = VGGFace(), 180, 512, (4096, 1024), 5, 1
            mean, scale = (129.1863, 104.7624, 93.5940), 255.0
        else:
            self.trunk, self.size, width, hidden, spatial, padding = LightNet(), 112, 256, (192, 192), 4, 2
            mean, scale = (127.5, 127.5, 127.5), 2.0
        # VGG-Face's weights want 0..255 less their mean; the light trunk about -1..1.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) / 255, persistent=False)
        self.scale = scale
        below, top = self.trunk.channels[-2:]
        if fusion:
            self.conv6 = nn.Conv2d(below, width, 5, 2, padding)
            self.conv7 = nn.Conv2d(top, width, 1)
            self.conv8 = nn.Conv2d(2 * width, width, 1)
            self.norms = nn.ModuleList(nn.BatchNorm2d(width) if trunk == "light" else nn.Identity() for _ in range(3))
        light = trunk != "vgg"
        self.landmarks = regression_head(top * spatial**2, (128,), 136, light) if light else None
        self.identity = regression_head(top * spatial**2, hidden, identity, light)
        self.expression = regression_head((width if fusion else top) * spatial**2, hidden, expression, light)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """And, of the light trunk, landmarks [N,68,2] in crop pixels."""
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
    name, config_class, PRESETS = "e2far", E2FARConfig, PRESETS
    monitor = "error_mm2"

    def __init__(self, config: E2FARConfig):
        super().__init__(config)
        face = self.model.regions["face"]
        self.register_buffer(
            "identity_gram",
            gram_matrix(shape_alone(self.model.identity_basis[:, face], self.model.mean[face]).flatten(1)),
            persistent=False,
        )
        self.register_buffer(
            "expression_gram", gram_matrix(self.model.expression_basis[:, face].flatten(1)), persistent=False
        )
        self.network = Network(config.trunk, self.model.num_identity, self.model.num_expression, config.fusion)
        self.source = Synthetic(
            self.model,
            self.network.size,
            RandomizationConfig(yaw=config.yaw, pitch=10, roll=3, box=(1.15, 1.3), shift=0.015, occluded=0.15, degraded=0.3),
        )
        self.size, self.cached = round(self.network.size * AROUND), None

    def initialize(self):
        super().initialize()
        if self.config.weights:
            load_weights(self.network.trunk, self.config.weights, skip=("fc",))

    def prepare_data(self):
        if self.config.cache:
            self.cached = Cached(self.source, self.config.seed, self.config.cache)

    def batch(self, step, indices, device) -> FaceBatch:
        if self.cached is None:
            return self.source(self.config.seed, step, indices)
        faces = self.cached(self.config.seed, step * self.config.batch, indices).to(device)
        return augment(faces, self.config.seed, step, indices, GENTLE)

    def forward(self, group, batch: FaceBatch, step, shared) -> dict[str, Tensor]:
        image = faces.image.contiguous(memory_format=torch.channels_last) if self.config.channels_last else faces.image
        identity, expression, landmarks = self.network(image)
        id_error = gram_loss(identity, faces.identity, self.identity_gram)
        exp_error = gram_loss(expression, faces.expression, self.expression_gram)
        parts = {
            "loss": id_error + self.config.expression_weight * exp_error,
            "identity_mm2": id_error,
            "expression_mm2": exp_error,
        }
        if landmarks is not None and self.config.landmark_weight:
            parts["landmarks_px2"] = landmark_loss(landmarks, faces.landmarks, torch.ones(68, device=landmarks.device))
            parts["loss"] = parts["loss"] + self.config.landmark_weight * parts["landmarks_px2"]
        return parts

    def predict(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of pictures [N,3,S,S], sRGB in 0..1, cropped around the face as the training faces are. Blend-shape weights are put into 0..1."""
        identity, expression, _ = self.network(image)
        return identity, expression.clamp(0, 1) if self.model.blendshapes else expression

    @torch.no_grad()
    def reconstruct(self, image: Tensor) -> FaceParameters:
        """Pose is what takes the landmarks of the shape best to those that the light trunk has learnt on the side; turns of up to 60 degrees or so."""
        size, edge = self.size, (self.size - self.network.size) // 2
        inner = slice(edge, edge + self.network.size)
        identity, expression, seen = self.network(image[..., inner, inner])
        if seen is None:
            raise InputError(f"{self.name} with the trunk vgg gives no pose to place a face with; the light trunk does")
        if self.model.blendshapes:
            expression = expression.clamp(0, 1)
        points, seen = self.model.landmarks(self.model.shape(identity, expression)), seen + edge
        target = flip_y(seen[..., :2], size)
        extent = [(p[..., :2] - p[..., :2].mean(1, keepdim=True)).square().sum((1, 2)).sqrt() for p in (target, points)]
        scale, rotation, translation = found = scaled_orthography(
            points, target, points[..., 2] * (extent[0] / extent[1])[:, None]
        )
        placed = found(points)
        landmarks = flip_y(placed, size)
        return FaceParameters(identity, expression, rotation, scale, flip_y(translation[:, :2], size), landmarks)

    @torch.no_grad()
    def validate(self, device) -> dict[str, float]:
        """Held-out synthetic faces: mean distances of vertices of the face, mm, and those of the mean face without expression; neutral shapes after the similarity that
        lays them on the true ones best."""
        face = self.model.regions["face"].to(device)
        mean = self.model.mean[face]
        names = ("neutral_mm", "neutral_of_mean_face_mm", "expression_mm", "expression_of_none_mm", "error_mm2")
        sums, block = torch.zeros(len(names), device=device), 32
        for k in range(0, self.config.held_out, block):
            faces = self.source(HELD_OUT, k // block, range(min(block, self.config.held_out - k)))
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

    def visualize(self, faces: FaceBatch) -> Tensor:
        """Columns: picture, true shape, predicted shape; both without pose."""
        n = min(6, len(faces))
        identity, expression = self.predict(faces.image[:n])
        size = self.network.size
        shapes = [self.model.shape(faces.identity[:n], faces.expression[:n]), self.model.shape(identity, expression)]
        drawn = [portrait(v, self.model.topology, size=size) for v in shapes]
        return tile(torch.stack([to_linear(faces.image[:n]).permute(0, 2, 3, 1), *drawn], 1).flatten(0, 1), 6)
