"""2DASL: Tu, Zhao, Jiang, Luo, Xie, Zhao, He, Ma, Feng, 3D face reconstruction from a single image assisted by 2D face images in the wild, 2019.

A network reads a picture and a fourth channel in which 18 landmarks are marked (the FLM), and gives 62 whitened parameters q: a 3x4 camera matrix, 40 shape and
10 expression coefficients. Pictures with parameters are rare, pictures with a few 2D landmarks are not. So beside the loss on labelled faces,

    L = L3d + 0.005 L2d-con + 0.005 L3d-con + 1 Lcyc + 0.005 Lsc,

four schemes learn from pictures x with landmarks x2d alone. The parameters of the first pass give the 3D landmarks X3d and their projections y2d; y2d, marked in the
channel in place of x2d, give those of a second pass, X3d' and x2d':

    l2d     2D landmark self-prediction consistency: y2d is x2d
    l3d     3D landmark self-prediction consistency: X3d' is X3d
    cycle   cycle consistency over 2D landmarks: x2d' is x2d
    critic  self-critic: a critic tells pairs (code of the picture, parameters) of labelled faces from predicted ones, and the network learns to please it

Layers, the 18 points and their weights, the constants and L3d (the WPDC of Zhu et al. 2016) are those of the authors' released code and of a public
reimplementation's notes. Chosen here, where nothing was found: distances of landmarks are in pixels of the 120-pixel crop divided by `unit`; the widths of the critic's
encoder; its last layer is a logit (a softmax of one number, as noted, is constant); the channel is left empty for a share `blank` of samples, so that the network can
be used without a landmark detector: its own first pass then marks the channel of the second (`predict`). Stage 1 is L3d on labelled faces alone, stage 2 everything.

Of the critic: where labelled faces are rendered and the others photographed, it tells them apart by the picture alone, whatever the parameters. The formula log(1 - C) has
hardly a gradient then and does no harm; the form -log C that is common elsewhere drove the parameters of photographs away (one run: error on held-out photographs of
AFLW from 12.8 % to 22.7 %). It has something to say where both kinds are photographs, as in the paper.

Beyond the paper, and off unless asked for: `extra`, `profiles` and `weight_prior`. From the end of one run of the preset `cpu`, 4500 steps with chin, lobes and profiles twice took the error on held-out
photographs of AFLW from 4.39 to 4.05 %; but shapes of photographs had grown far from the mean, with noses and chins to match (identity of norm 6.8, where renderings have 1.3): what few points in 2D leave
open, nothing held. 1200 steps with the prior at 0.1 brought them back to a norm of 2, at 4.46 %.

`teacher`: another network's 68 landmarks with depth (`facemodels.methods.teacher`) take the place of the few points that people marked, of which those of the brows and
of the nose's sides are not where iBUG's are (AFLW's lie 1.4 and 4 pixels of 120 from what 3DDFA_V2 says on average, those of the eyes 0.3). With it, `squared=false` and ten views of each photograph
took the distance from its points in held-out photographs from 2.41 to 2.10 % in 10,000 steps (not measured apart; the steps before, with squares and one view, had begun to stand still).

Labelled faces are rendered (`facemodels.data.synthetic`) or come from 300W-LP; of a morphable model with more coefficients, the 40 and 10 directions that move its
vertices most are taken (`reduced`).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

import facerender as fr
from facemodels.core.camera import scaled_orthography
from facemodels.core.drawing import CLAY, draw_points, tile
from facemodels.core.errors import InputError
from facemodels.core.landmarks import center_depth, eighteen_points
from facemodels.core.parameters import FaceParameters, flip_y
from facemodels.core.seeding import seed_of
from facemodels.core.surface import gather_points
from facemodels.data import FaceBatch
from facemodels.data.augment import AugmentConfig, augment
from facemodels.data.cache import Cached, Shuffled
from facemodels.data.photographs import photographs, read_teacher_labels
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from facemodels.data.tddfa import lp300w
from facemodels.losses import (
    PointBasis,
    Whitening,
    adversarial_loss,
    critic_loss,
    landmark_loss,
    mean_one,
    projected_points,
    rotation_angle,
    wpdc_loss,
)
from facemodels.methods.face_method import FaceMethod
from facemodels.models.morphable import MorphableModel
from facemodels.models.sampling import random_coefficients
from facemodels.networks import LightNet, MobileNet, regression_head, resnet50
from facemodels.training.config import Config
from facerender.color import to_linear

SIZE = 120
SCHEMES = ("l2d", "l3d", "cycle", "critic")
HELD_OUT = 7_000_019  # seed of validation faces, whatever the seed of training

POINT_WEIGHTS = (1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 2, 1, 1, 4, 1, 2, 4, 2)
# The lobe of the ear on the left of the picture, mm on the built-in model's mean face, where it carries AFLW's labels of frontal faces; the other one mirrored.
LOBE = (-68.4, -40.0, -7.0)


@dataclass
class DASLConfig(Config):
    """model: the morphable model. trunk: "resnet50" (the paper's), "mobilenet" (3DDFA's; "mobilenet_05" has half the
    width) or "light". labelled: "synthetic", or the folder of 300W-LP (with model its Basel model). wild: where 2D
    landmarks come from: "synthetic" (other rendered faces, of which only 2D is used), AFLW's crops (the zip, its labels beside it), or a folder of pictures with landmark
    files. schemes: which of l2d, l3d, cycle, critic; none is the baseline. weight_l2d, weight_l3d, weight_cycle, weight_critic: theirs. weight_prior: of
    the mean squared shape and expression parameters, whitened, of pictures in the wild, which the paper does not have: few points in 2D leave depth open.
    squared: l2d and cycle take squared distances of landmarks, as the paper does, or the distances themselves. unit: see above. channel: "hard"
    (single pixels, as in the paper, without gradient) or "soft" (Gaussians of one pixel, with). blank: share of samples whose channel is empty. profiles: how often photographs
    with a third or more of the points hidden are taken where others are taken once: faces seen from the side are rare in most sets. extra: l2d and cycle learn from the chin and,
    of AFLW and a model with ears, from the lobes too, which the paper leaves out: of a face seen from the side they are what tells how far it is turned; from all of 68 points, which
    must be points of the head and not of its outline, where photographs have them. teacher: a file of 68 landmarks with depth that another network saw in these photographs, which
    take the place of their own, but not of those that are held out (`facemodels.methods.teacher`). stage1: steps with labelled faces alone. cache: rendered faces of each kind that are kept, 0 for new ones in every
    step. kept: a folder for crops of photographs, which are then made once and read as they are needed; else they are in memory. held_out: faces of each kind to validate
    on. yaw: largest of rendered faces, degrees."""

    output: str = "runs/dasl"
    model: str = "builtin"
    trunk: str = "light"
    labelled: str = "synthetic"
    wild: str = "synthetic"
    teacher: str = ""
    schemes: tuple[str, ...] = SCHEMES
    weight_l2d: float = 0.005
    weight_l3d: float = 0.005
    weight_cycle: float = 1.0
    weight_critic: float = 0.005
    weight_prior: float = 0.0
    squared: bool = True
    unit: float = 12.0
    channel: str = "hard"
    blank: float = 0.5
    profiles: int = 1
    extra: bool = False
    stage1: int = 0
    cache: int = 0
    kept: str = ""
    held_out: int = 512
    yaw: float = 90.0
    lr: float = 1e-3
    weight_decay: float = 5e-4
    clip: float = 5.0
    ema: float = 0.998

    def __post_init__(self):
        super().__post_init__()
        if self.teacher and (self.wild == "synthetic" or not self.extra):
            raise InputError("teacher is for photographs and for all 68 points; give wild=PATH and extra=true with it")
        if self.teacher and not {"l2d", "cycle"} & {*self.schemes}:
            raise InputError(
                f"l2d and cycle learn from a teacher; give one of them with it, got schemes={','.join(self.schemes) or 'none'}"
            )
        if self.trunk not in ("mobilenet", "mobilenet_05", "resnet50", "light") or self.channel not in ("hard", "soft"):
            raise InputError(
                f"trunk must be mobilenet, mobilenet_05, resnet50 or light and channel hard or soft, got {self.trunk!r} and {self.channel!r}"
            )
        wrong = [s for s in self.schemes if s not in SCHEMES]
        if wrong:
            raise InputError(f"schemes must be some of {', '.join(SCHEMES)}, got {wrong[0]!r}")
        if (
            min(self.held_out, self.profiles) < 1
            or self.cache < 0
            or self.stage1 < 0
            or self.batch < 2
            or not 0 <= self.blank <= 1
            or not self.unit > 0
        ):
            got = f"{self.held_out}, {self.profiles}, {self.cache}, {self.stage1}, {self.batch}, {self.blank} and {self.unit}"
            raise InputError(
                f"held_out and profiles must be at least 1, cache and stage1 at least 0, batch at least 2, blank in 0..1 and unit positive, got {got}"
            )


PRESETS = {
    "smoke": dict(steps=12, batch=4, stage1=4, held_out=8, validate_every=6, checkpoint_every=6, panel_every=12, log_every=3, warmup=2),
    "ablation": dict(steps=400, batch=32, cache=8000, precision="bfloat16", validate_every=400, checkpoint_every=200, panel_every=400, warmup=40),
    "cpu": dict(steps=8000, batch=32, stage1=1500, cache=20_000, precision="bfloat16", validate_every=1000, checkpoint_every=1000, panel_every=2000, warmup=200),
    "gpu": dict(trunk="resnet50", steps=100_000, batch=128, stage1=40_000, lr=2e-4, precision="bfloat16", validate_every=2000, checkpoint_every=2000, panel_every=5000, warmup=1000, prefetch=2),
    # Adam 5e-5, batch 32, clip 5, cosine: the reimplementation's. The length of the stages is not known; 300W-LP has 122,450 pictures.
    "paper": dict(trunk="resnet50", steps=400_000, stage1=200_000, batch=32, optimizer="adam", lr=5e-5, weight_decay=0.0, ema=0.0),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------- 62 parameters of a model


class Reduced(NamedTuple):
    """The directions that move a model's vertices most. to_shape [I,S], to_expression [E,K]: from the model's coefficients, the least squares in vertices
    (shape = identity @ to_shape); from_shape [S,I], from_expression [K,E]: back."""

    to_shape: Tensor
    from_shape: Tensor
    to_expression: Tensor
    from_expression: Tensor


def reduced(model: MorphableModel, shape: int = 40, expression: int = 10) -> Reduced:
    """The principal directions of a model's random people and expressions, over the vertices of its face; all of them where the model has fewer."""
    face = model.regions.get("face", slice(None))
    people = random_coefficients(model, 4096, torch.Generator().manual_seed(0))
    found = []
    for basis, samples, count in (
        (model.identity_basis, None, shape),
        (model.expression_basis, people.expression, expression),
    ):
        flat = basis[:, face].flatten(1).double()
        gram = flat @ flat.T
        # Second moments: identity is normal with deviation 1; a neutral face has expression 0, so no mean is taken off.
        moment = (
            torch.eye(len(gram), dtype=torch.float64, device=gram.device)
            if samples is None
            else samples.double().T @ samples.double() / len(samples)
        )
        root = torch.linalg.cholesky(
            moment
            + 1e-9 * moment.trace() / len(moment) * torch.eye(len(moment), dtype=torch.float64, device=gram.device)
        )
        _, directions = torch.linalg.eigh(root.T @ gram @ root)
        back = (
            root @ directions.flip(1)[:, :count]
        ).T  # [k,K]: unit coefficients of the new directions are one deviation
        forth = gram @ back.T @ torch.linalg.inv(back @ gram @ back.T)
        found += [forth.float(), back.float()]
    return Reduced(*found)


def parameters_of(faces: FaceBatch, to_shape: Tensor, to_expression: Tensor) -> Tensor:
    """Raw parameters [N,12+S+K] of labelled faces: rows of [f R | t] in pixels with y up from the lower left corner, t_z = 0; shape; expression. The matrices are those
    of `Reduced`."""
    affine = torch.cat(
        [
            faces.scale[:, None, None] * faces.rotation,
            torch.cat([faces.translation, torch.zeros_like(faces.scale[:, None])], 1)[..., None],
        ],
        2,
    )
    return torch.cat([affine.flatten(1), faces.identity @ to_shape, faces.expression @ to_expression], 1)


def pose_of(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(rotation [N,3,3], scale [N], translation [N,2]) of raw parameters: f is the mean length of the first two rows, which are made unit; the third is their product
    (released code of 3DDFA)."""
    affine = parameters[:, :12].view(-1, 3, 4)
    first, second = affine[:, 0, :3], affine[:, 1, :3]
    scale = (first.norm(dim=1) + second.norm(dim=1)) / 2
    # A rotation, which the released code, with its rows as they are, does not make sure of.
    return fr.camera.rotation_from_axes(first, second), scale, affine[:, :2, 3]


# -------------------------------------------------------------------------------------------------------------------------- the landmark channel


def landmark_channel(points: Tensor, shown: Tensor, size: int = SIZE, form: str = "hard") -> Tensor:
    """The fourth channel [N,1,size,size]: -1, and 1 at points.

    points: [N,P,2] pixels, any value where not shown [N,P] bool. form "hard": one pixel a point, those outside at the border, no gradient; "soft": a Gaussian of one
    pixel's deviation, differentiable at the points.
    """
    points = torch.where(shown[..., None], points, 0)
    if form == "soft":
        centres = torch.arange(size, device=points.device) + 0.5
        x, y = ((centres - points[..., k, None]).square().div(-2).exp() for k in (0, 1))
        return 2 * (shown[..., None, None] * y[..., None] * x[..., None, :]).amax(1, keepdim=True) - 1
    column, row = points.detach().floor().long().clamp(0, size - 1).unbind(-1)
    channel = points.new_full((len(points), size * size), -1.0)
    channel.scatter_reduce_(1, row * size + column, torch.where(shown, 1.0, -1.0).to(points.dtype), "amax")
    return channel.view(-1, 1, size, size)


# --------------------------------------------------------------------------------------------------------------------------------- networks


class Network(nn.Module):
    """(picture [N,3,120,120] in 0..1, landmark channel [N,1,120,120]) -> whitened parameters [N,outputs]."""

    def __init__(self, trunk: str, outputs: int = 62):
        super().__init__()
        self.light = trunk == "light"
        if self.light:  # its last map whole and not its mean, which has lost where things are: a short training learns the pose from it
            self.trunk = LightNet(4)
            self.head = regression_head(256 * 16, (256,), outputs)
        else:
            self.trunk = (
                resnet50(4, outputs, last_stride=1, pool=7)
                if trunk == "resnet50"
                else MobileNet(4, outputs, 1.0 if trunk == "mobilenet" else 0.5)
            )
            nn.init.normal_(self.trunk.fc.weight, std=1e-3)  # both begin at the mean parameters
            nn.init.zeros_(self.trunk.fc.bias)

    def forward(self, image: Tensor, channel: Tensor) -> Tensor:
        # The released code reads pictures with OpenCV: blue, green, red.
        inputs = torch.cat([(image.flip(1) * 255 - 127.5) / 128, channel], 1).contiguous(
            memory_format=torch.channels_last
        )
        features = self.trunk(inputs)
        if not self.light:
            return features.outputs
        with torch.autocast(image.device.type, enabled=False):
            return self.head(features.maps[-1].flatten(1).float())


class Critic(nn.Module):
    """(picture [N,3,120,120] in 0..1, whitened parameters [N,outputs]) -> logit [N]: how likely the parameters are the true ones of the picture. Six convolutions, each
    with ReLU and max-pool, to one pixel; on their code and the parameters, layers of 512, 1024, 1024 and 1."""

    def __init__(self, outputs: int = 62, light: bool = False):
        super().__init__()
        widths, hidden = (
            ((16, 16, 32, 64, 128, 128), (128, 256, 256))
            if light
            else ((32, 64, 128, 256, 512, 512), (512, 1024, 1024))
        )
        layers, channels = [], 3
        for k, width in enumerate(widths):
            halved = light and k == 0  # by the convolution itself: the first map is most of the work
            layers += [
                nn.Conv2d(channels, width, 3, 2 if halved else 1, 1),
                nn.ReLU(inplace=True),
                nn.Identity() if halved else nn.MaxPool2d(2),
            ]
            channels = width
        self.encoder = nn.Sequential(*layers, nn.Flatten())
        layers, inputs = [], channels + outputs
        for width in hidden:
            layers += [nn.Linear(inputs, width), nn.LeakyReLU(0.2, inplace=True)]
            inputs = width
        self.critic = nn.Sequential(*layers, nn.Linear(inputs, 1))

    def forward(self, image: Tensor, parameters: Tensor) -> Tensor:
        code = self.encoder(((image * 255 - 127.5) / 128).contiguous(memory_format=torch.channels_last)).float()
        with torch.autocast(image.device.type, enabled=False):
            return self.critic(torch.cat([code, parameters.float()], 1))[:, 0]


class Prediction(NamedTuple):
    """identity [N,I] and expression [N,E]: coefficients of the morphable model. rotation [N,3,3], scale [N] px/mm, translation [N,2] px: its weak-perspective camera, y
    up from the lower left corner. landmarks [N,68,3]: pixels of the crop, y down; z towards the viewer, in pixels too. parameters [N,62], raw. channel: where the marked
    landmarks came from, "given" or "own first pass"."""

    identity: Tensor
    expression: Tensor
    rotation: Tensor
    scale: Tensor
    translation: Tensor
    landmarks: Tensor
    parameters: Tensor
    channel: str


# --------------------------------------------------------------------------------------------------------------------------------- training


class Batch(NamedTuple):
    """labelled faces; in stage 2 faces in the wild, of which only pictures and landmarks; blank [N] or [2N] bool, whose channel stays empty in the first pass."""

    labelled: FaceBatch
    wild: FaceBatch | None
    blank: Tensor


class DASL(FaceMethod):
    name, config_class, PRESETS = "dasl", DASLConfig, PRESETS
    given = "the picture alone; the landmark channel holds those of the network's own first pass"
    monitor = "nme_percent"
    size = SIZE
    optional = ("critic.",)

    def __init__(self, config: DASLConfig):
        super().__init__(config)
        face, corners, weights = (
            self.model.regions["face"],
            self.model.landmark_index.long(),
            self.model.landmark_weights,
        )
        rows = self.model.rows.view(-1, self.model.num_vertices, 3)
        # The model at the 68 landmarks, then at the vertices of the face.
        self.register_buffer(
            "rows", torch.cat([gather_points(rows, corners, weights), rows[:, face.long()]], 1), persistent=False
        )
        self.register_buffer(
            "point_weights",
            torch.tensor(POINT_WEIGHTS + (1, 1, 1) * config.extra, dtype=torch.float32),
            persistent=False,
        )
        self.has_ears = "ears" in self.model.regions
        ears = self.model.regions["ears" if self.has_ears else "face"]
        lobes = torch.cdist(torch.tensor([LOBE, (-LOBE[0], *LOBE[1:])]), self.model.mean[ears]).argmin(1)
        self.register_buffer("lobe_rows", rows[:, ears[lobes]], persistent=False)
        # Which directions the parameters stand for is saved with the weights: another machine's linear algebra may find others.
        for name, matrix in reduced(self.model)._asdict().items():
            self.register_buffer(name, matrix)
        outputs = 12 + len(self.from_shape) + len(self.from_expression)
        self.register_buffer("parameter_mean", torch.zeros(outputs))  # of whitening, see `begin`
        self.register_buffer("parameter_std", torch.ones(outputs))
        self.network = Network(config.trunk, outputs)
        self.critic = Critic(outputs, config.trunk == "light") if "critic" in config.schemes else None
        self.source = Synthetic(self.model, SIZE, RandomizationConfig(yaw=config.yaw, box=(1.3, 1.55)))
        self.labelled = self.wild = self.held = self.held_taught = (
            None  # stores that batches are taken from; None for faces that are new in every step
        )

    def initialize(self):
        """Whitening, from the labels that are trained on, or with the weights of `start`, of a run that may have had other schemes."""
        c = self.config
        if c.start:
            return super().initialize()
        if c.labelled == "synthetic":
            raw = torch.cat([self._raw(self.source.labels(c.seed, k, range(256))) for k in range(8)])
        else:
            self._read_labelled()
            raw = self._raw(
                replace(self.labelled.faces, image=self.labelled.faces.image[:, :, :0]).to(self.rows.device)
            )
        self.parameter_mean.copy_(raw.mean(0))
        self.parameter_std.copy_(torch.where(raw.std(0) > 1e-8, raw.std(0), 1.0))

    def _raw(self, faces):
        return parameters_of(faces, self.to_shape, self.to_expression)

    @property
    def whitening(self) -> Whitening:
        return Whitening(self.parameter_mean, self.parameter_std)

    def points(self, where: Tensor | slice) -> PointBasis:
        """The reduced model at some of: the 68 landmarks, then the vertices of the face."""
        return self._reduced(self.rows[:, where])

    def _reduced(self, rows: Tensor) -> PointBasis:
        identity = self.from_shape.shape[1]
        bases = [
            (back @ rows[k : k + back.shape[1]].flatten(1)).view(len(back), -1, 3)
            for back, k in ((self.from_shape, 1), (self.from_expression, 1 + identity))
        ]
        return PointBasis(rows[0], *bases)

    def parameter_groups(self):
        return {"network": list(self.network.parameters())} | (
            {"critic": list(self.critic.parameters())} if self.critic else {}
        )

    def is_active(self, group, step):
        return group != "critic" or step >= self.config.stage1

    # ---------------------------------------------------------------------------------------------------------------------------- data

    def _read_labelled(self):
        if self.labelled is None:
            path = Path(self.config.labelled)
            faces = lp300w(path, SIZE, self.config.model, self.config.kept or None)
            if (faces.identity.shape[1], faces.expression.shape[1]) != (
                self.model.num_identity,
                self.model.num_expression,
            ):
                raise InputError(
                    f"{path}: labelled with a model of {faces.identity.shape[1]} identity and {faces.expression.shape[1]} expression modes, and {self.model.name} has others; give its Basel model with model="
                )
            self.labelled = Shuffled(faces)

    def prepare_data(self):
        """Of photographs in the wild, `held_out` are kept for validation, the same ones in every run."""
        c = self.config
        if c.labelled != "synthetic":
            self._read_labelled()
        elif c.cache:
            self.labelled = Cached(self.source, c.seed, c.cache)
        if c.wild == "synthetic":
            if c.schemes and c.cache and c.stage1 < c.steps:
                self.wild = Cached(self.source, seed_of(c.seed, 1), c.cache)
            return
        path = Path(c.wild)
        faces = photographs(path, c.kept or None)
        if len(faces) <= c.held_out:
            raise InputError(
                f"{path}: {len(faces)} pictures, of which {c.held_out} would be held out for validation; give more, or a lower held_out"
            )
        order = torch.randperm(len(faces), generator=torch.Generator().manual_seed(HELD_OUT))
        held, taken = order[: c.held_out], order[c.held_out :]
        self.held = faces[held]
        hidden = 1 - eighteen_points(faces.visible[..., None].float())[..., 0].eq(1).float().mean(
            1
        )  # as their own points say: a teacher sees all of them
        if c.teacher:
            points = read_teacher_labels(c.teacher, faces)
            faces = replace(faces, landmarks=points, visible=points.isfinite().all(-1))
            self.held_taught = points[held]
            taken = taken[faces.visible[taken].any(1)]
            if not len(taken):
                raise InputError(
                    f"{c.teacher}: nothing was seen in the photographs that are trained on; make it anew with a higher --worst"
                )
        self.wild = Shuffled(faces, torch.cat([taken] + (c.profiles - 1) * [taken[hidden[taken] >= 1 / 3]]))

    def batch(self, step, indices, device) -> "Batch":
        c, seed = self.config, seed_of(self.config.seed, 1)
        labelled = (
            self.labelled(c.seed, step * c.batch, indices).to(device)
            if self.labelled
            else self.source(c.seed, step, indices)
        )
        wild, sets = None, 1
        if c.schemes and step >= c.stage1:
            wild, sets = (
                self.wild(seed, step * c.batch, indices).to(device) if self.wild else self.source(seed, step, indices),
                2,
            )
            if c.wild != "synthetic":
                wild = augment(
                    wild, seed, step, indices, AugmentConfig(rotation=12, scale=0.06, shift=0.035, covered=0.1, blurred=0.1)
                )
            wild = FaceBatch(wild.image, wild.landmarks, wild.visible)
        blank = [seed_of(c.seed, 2 + k, step, i) % 2**24 < c.blank * 2**24 for k in range(sets) for i in indices]
        return Batch(labelled, wild, torch.tensor(blank).to(device, non_blocking=True))

    # -------------------------------------------------------------------------------------------------------------------------- losses

    def forward(self, group, batch, step, shared) -> dict[str, Tensor]:
        labelled, wild, blank = batch
        if group == "critic":
            return self._criticised(labelled, wild, shared["parameters"])
        c, n, given = self.config, len(labelled), [f for f in (labelled, wild) if f is not None]
        both = torch.cat([f.image for f in given])
        targets = [
            (eighteen_points(f.landmarks[..., :2]), eighteen_points(f.visible[..., None].float())[..., 0] > 0.5)
            for f in given
        ]
        points, shown = (torch.cat(t) for t in zip(*targets))
        q = self.network(both, landmark_channel(points, shown & ~blank[:, None], form=c.channel))
        # The points where the effect of a parameter is measured: the landmarks, and 132 others, drawn anew.
        generator = torch.Generator().manual_seed(seed_of(c.seed, step))
        others = 68 + torch.randperm(self.rows.shape[1] - 68, generator=generator)[:132]
        where = torch.cat([torch.arange(68), others]).to(points.device, non_blocking=True)
        true = self.whitening.whitened(self._raw(labelled))
        parts = {"l3d_labelled": wpdc_loss(q[:n], true, self.whitening, self.points(where))}
        parts["loss"] = parts["l3d_labelled"]
        if wild is None:
            return parts
        shared["parameters"] = q[n:].detach()  # for the critic
        goal, seen = targets[1]
        if c.extra and wild.landmarks.shape[1] == 68:
            goal, seen = center_depth(wild.landmarks), wild.visible
        elif c.extra:
            others, known = self._labelled_others(wild)
            goal, seen = torch.cat([goal, others], 1), torch.cat([seen, known], 1)
        weights = mean_one(seen.float() if seen.shape[1] == 68 else self.point_weights * seen)
        x3d, y68 = self._landmarks(q[n:])
        y2d, second = eighteen_points(y68[..., :2]), None
        if "l2d" in c.schemes:
            parts["l2d"] = landmark_loss(self._compared(q[n:], y68, goal) / c.unit, goal / c.unit, weights, c.squared)
        if "l3d" in c.schemes or "cycle" in c.schemes:
            second = self.network(
                wild.image, landmark_channel(y2d, torch.ones_like(y2d[..., 0], dtype=torch.bool), form=c.channel)
            )
            again, again68 = self._landmarks(second)
            if "l3d" in c.schemes:
                parts["l3d"] = (again - x3d).square().mean()
            if "cycle" in c.schemes:
                parts["cycle"] = landmark_loss(
                    self._compared(second, again68, goal) / c.unit, goal / c.unit, weights, c.squared
                )
        if "critic" in c.schemes:
            parts["critic"] = adversarial_loss(self.critic(wild.image, q[n:]))
        parts["loss"] = parts["loss"] + sum(getattr(c, f"weight_{s}") * parts[s] for s in c.schemes)
        if c.weight_prior:
            parts["prior"] = torch.cat([q[n:], second] if second is not None else [q[n:]])[:, 12:].square().mean()
            parts["loss"] = parts["loss"] + c.weight_prior * parts["prior"]
        return parts

    def _labelled_others(self, faces) -> tuple[Tensor, Tensor]:
        """(lobes of the ears and chin [N,3,2] of AFLW's points, which of them are known [N,3])."""
        others = [12, 16, 20]
        known = faces.visible[:, others].clone()
        known[:, :2] &= self.has_ears
        return faces.landmarks[:, others], known

    def _compared(self, q, y68, goal) -> Tensor:
        """What whitened parameters, with their landmarks [N,68,3] in the picture, have to say of a goal [N,P,D]: all 68, or the 18 points and, with `extra`, lobes and chin."""
        if goal.shape[1] == 68:
            return center_depth(y68[..., : goal.shape[2]])
        points = eighteen_points(y68[..., :2])
        if not self.config.extra:
            return points
        x, y, _ = projected_points(self.whitening.raw(q), self._reduced(self.lobe_rows)).unbind(-1)
        return torch.cat([points, torch.stack([x, SIZE - y], -1), y68[:, 8:9, :2]], 1)

    def _criticised(self, labelled, wild, predicted):
        true = self.whitening.whitened(self._raw(labelled))
        return {"loss": critic_loss(self.critic(labelled.image, true), self.critic(wild.image, predicted))}

    def _landmarks(self, q):
        """(of the head itself [N,68,3] mm, in the picture [N,68,3] pixels with y down) of whitened parameters."""
        raw, points = self.whitening.raw(q), self.points(slice(0, 68))
        at_rest = points.mean + (raw[:, 12:] @ torch.cat([points.shape, points.expression]).flatten(1)).view(-1, 68, 3)
        x, y, z = projected_points(raw, points).unbind(-1)
        return at_rest, torch.stack([x, SIZE - y, z], -1)

    # ---------------------------------------------------------------------------------------------------------------------- inference

    @torch.no_grad()
    def predict(self, image: Tensor, landmarks: Tensor | None = None) -> Prediction:
        """Faces of pictures [N,3,120,120], sRGB in 0..1, cropped as `data.crops.landmark_box` does.

        landmarks: [N,68,2] or [N,21,2] pixels for the channel, NaN where unknown. None: a first pass with an empty channel finds them.
        """
        channel = "own first pass" if landmarks is None else "given"
        if landmarks is None:
            nothing = torch.zeros(len(image), 18, 2, device=image.device)
            q = self.network(
                image,
                landmark_channel(
                    nothing, torch.zeros_like(nothing[..., 0], dtype=torch.bool), form=self.config.channel
                ),
            )
            landmarks = self._landmarks(q)[1][..., :2]
        points = eighteen_points(landmarks.float())
        q = self.network(image, landmark_channel(points, points.isfinite().all(-1), form=self.config.channel)).float()
        raw = self.whitening.raw(q)
        rotation, scale, translation = pose_of(raw)
        s = self.to_shape.shape[1]
        return Prediction(
            raw[:, 12 : 12 + s] @ self.from_shape,
            raw[:, 12 + s :] @ self.from_expression,
            rotation,
            scale,
            translation,
            self._landmarks(q)[1],
            raw,
            channel,
        )

    @torch.no_grad()
    def reconstruct(self, image: Tensor) -> FaceParameters:
        """The 3x4 matrix is more than a rotation and a scale, and the landmarks are where it puts them; the camera is the one of rotation and scale that puts the shape's landmarks nearest
        to these."""
        p = self.predict(image)
        expression = p.expression.clamp(0, 1) if self.model.blendshapes else p.expression
        target = flip_y(p.landmarks[..., :2], SIZE)
        scale, rotation, translation = scaled_orthography(
            self.model.landmarks(self.model.shape(p.identity, expression)), target, p.landmarks[..., 2], steps=5
        )  # it begins near its end
        return FaceParameters(p.identity, expression, rotation, scale, flip_y(translation[:, :2], SIZE), p.landmarks)

    def landmarks(self, image: Tensor) -> Tensor:
        """[N,68,3] of pictures, by the 3x4 matrix."""
        return self.predict(image).landmarks

    @torch.no_grad()
    def validate(self, device) -> dict[str, float]:
        """On held-out faces, no landmarks given: mean distance of landmarks in percent of sqrt(w h) of their box, and of vertices of the rendered faces in mm, without
        pose, of the prediction and of the mean face. nme_percent is that of the photographs where there are any: 18 points, and the box is that of the crop
        (120 / sqrt 2 pixels, see `landmark_box`), since the 68 points are not known. nme_taught_percent: of all 68 there, from what a teacher said."""
        totals, block, count = {}, 32, self.config.held_out
        for k in range(0, count, block):
            faces = self.source(HELD_OUT, k // block, range(min(block, count - k)))
            p = self.predict(faces.image)
            box = faces.landmarks.amax(1) - faces.landmarks.amin(1)
            distance = (p.landmarks[..., :2] - faces.landmarks).norm(dim=-1).mean(1) / box.prod(-1).sqrt()
            offsets = self.rows[1:, 68:].flatten(1)
            true, got = (torch.cat([f.identity, f.expression], 1) for f in (faces, p))
            shape = [(d @ offsets).view(len(d), -1, 3).norm(dim=-1).mean(1) for d in (got - true, true)]
            angle = rotation_angle(p.rotation, faces.rotation).rad2deg()
            for name, values in (
                ("nme_synthetic_percent", 100 * distance),
                ("shape_mm", shape[0]),
                ("shape_of_mean_face_mm", shape[1]),
                ("rotation_degrees", angle),
            ):
                totals[name] = totals.get(name, 0) + values.sum() / count
        if self.held is None:
            return totals | {"nme_percent": totals["nme_synthetic_percent"]}
        error, taught = [], []
        for k in range(0, len(self.held), block):
            faces = self.held[k : k + block].to(device)
            got = self.landmarks(faces.image.float() / 255)[..., :2]
            error.append((eighteen_points(got) - eighteen_points(faces.landmarks[..., :2])).norm(dim=-1).nanmean(1))
            if self.held_taught is not None:
                taught.append((got - self.held_taught[k : k + block, :, :2].to(device)).norm(dim=-1).mean(1))
        results = {"nme_percent": error} | ({"nme_taught_percent": taught} if taught else {})
        return totals | {name: torch.cat(values).nanmean() * 100 / (SIZE / 2**0.5) for name, values in results.items()}

    def visualize(self, batch) -> Tensor:
        """Rows: pictures (labelled, then in the wild) with their known points; the face that is predicted without them, on the picture; its landmarks."""
        some = [f[: 6 // (1 + (batch.wild is not None))] for f in batch[:2] if f is not None]
        image, given = (
            torch.cat([f.image for f in some]),
            torch.cat([eighteen_points(f.landmarks[..., :2]) for f in some]),
        )
        p = self.predict(image)
        linear = to_linear(image).permute(0, 2, 3, 1)
        vertices = self.model.shape(p.identity, p.expression)
        topology, size = self.model.topology, (SIZE, SIZE)
        clip = fr.camera.weak_perspective(vertices, p.scale, p.rotation, p.translation, size)
        normals = fr.vertex_normals(vertices, topology) @ p.rotation.mT
        clay = torch.tensor(CLAY, device=image.device).expand(1, vertices.shape[1], 3)
        light = fr.lighting.studio(len(image), device=image.device)
        drawn, _ = fr.render_face(
            clip, normals.contiguous(), clay.contiguous(), light, topology, size, background=linear.contiguous()
        )
        rows = [draw_points(linear, given), drawn, draw_points(linear, p.landmarks[..., :2])]
        return tile(torch.cat(rows), len(image))
