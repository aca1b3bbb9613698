"""Cycle: Yang, Zhao, Yang, Shen, Cycle-consistency of dynamic faces, IEEE Transactions on Multimedia 26, 2023.

Pose and expression change a face's looks alike, and a network that learns from pictures alone confuses them. The paper takes the change of pose, or of expression, between
two frames of a video, injects it into one of them, and asks the network to find it there again and to take it back: the first frame must return.

A network with a branch each for identity a, expression b, pose p = (R, scale, shift) and texture (t, with light g) looks at frames 1 and 2 of a person. On each frame, by
what a rendering of it shows (Deng et al. 2019, with their weights):

    L = 1.92 L_photo + 1.6e-3 L_landmarks + 6e-3 L_coefficients + 10 L_gamma + 5 L_reflectance + L_pair        L_pair: a and t of both frames are the same

and, from stage 2 on, for each of the two cycles, here that of pose:

    dp = p2 p1^-1                          the variation; rotations and scales are composed, never subtracted
    J  = compose(frame 1; a1, b1, dp p1)   injected
    a_J, b_J, p_J, t_J, g_J                what the network sees in J
    L_variation = d(p_J p1^-1, dp)^2       extracted
    L_picture   = |render(a_J, b_J, dp^-1 p_J, t_J, g_J) - frame 1|       reversed with what was injected
    L_kept      = |a_J - a1|^2 + |b_J - b1|^2 + |t_J - t1|^2 + |g_J - g1|^2

That of expression is the same with db = b2 - b1 at the pose of frame 1, which J must keep. (Reversed with what was extracted, p1 would come back whatever the network says, and
the picture would not teach it.)

Certain are the idea, the four branches and that nothing is labelled: in public there is the paper's abstract alone. Everything else is chosen here, and what follows is
reasoned, not measured, unless it says so.

* Each cycle teaches one branch. In L_picture the other properties of J have their values but give no gradient; L_kept alone reaches their branches. What frames 1 and 2 say
  is the goal and gets no gradient from it: a network that sees no change in any frame would reach it best.
* J is a picture without gradient for `detached` steps; then the variation that was injected, and nothing else, is taught through J too.
* J is composed by "render" (the model over the frame), "texture" (the frame's own colours where the surface is seen, those of the face's other half where that is, the
  model's else, over the frame without its face) or "warp" (the same, over the frame moved along with the face). Colours that were taken along are lit anew: by
  the ratio of the light on the surface there and here. Measured on 24 rendered pairs in which the pose alone changes, with true shapes and light and a model that knows
  the mean face's colours alone, as the mean colour distance of J to the true picture, sRGB 0..1: the frame itself 0.106, "render" 0.084, "texture" 0.009; that without
  new light 0.040, and without the other half 0.011. Where the expression alone changes: 0.022, 0.083, 0.006; 0.009, 0.006.
* The weight of coefficients is twenty times that of Deng et al. (3e-4), who train on hundreds of thousands of faces: in short trainings from nothing, identity and expression take over
  what pose should explain. Measured after 500 steps on held-out rendered faces: neutral shape 3.21 mm instead of 3.69 (the mean face: 3.17), expression 1.43 instead of 2.65 mm,
  rotation 14.8 instead of 15.3 degrees, at a photometric error of 0.118 instead of 0.114.
* The variation of an expression goes the way that the network says, but half to one and a half times `variation_mm` far, and no gradient reaches how far. Left at what it says, the cycles teach it to say less:
  what is injected shrinks with what is seen, and what is kept is kept best by a network that sees nothing. Measured after 4000 steps without cycles and some with both (one seed; expression that moves
  when pose alone changes, mm a degree; the share of true changes of expression that is seen; the first by the second): unsized, 300 steps, weight_kept 0.1: 0.029, 0.15, 0.20, at 1: 0.011, 0.05, 0.25; sized,
  with the cycles' weights of 1 that it had then, 1000 steps: 0.023, 0.24, 0.10. Without cycles: 0.051, 0.21, 0.24 and 0.048, 0.23, 0.21.
* What the cycles give and cost, over three seeds, after 4000 steps without them: 1500 steps with both come to the photometric error of 1000 without (0.0926 and 0.0926), and there the expression moves by
  0.023 instead of 0.053 mm a degree when the pose alone changes. At equal steps the leak falls as far and the photometric error is 2.5 % higher: a network without the cycles lets the expression follow
  the pose, and fits single frames the better for it (`benchmarks/results/training.md`).
* The weights of the cycles, 0.2 each, were chosen by one seed: that of the pose takes the leak away and some of the response with it, that of the expression brings the response back; at 1 each the leak is hardly less
  than at 0.3, and the photometric error 8 % higher.
* Differences of shapes are mean squares in mm^2 over the face, so that identity and expression, whose coefficients have other units, weigh the same.
* For J, batch norm uses J's batch statistics and does not update the running averages: no frame of a video is composed.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import facerender as fr
from facemodels.core.alignment import similarity
from facemodels.core.drawing import tile
from facemodels.core.errors import InputError
from facemodels.core.parameters import FaceParameters, flip_y
from facemodels.core.seeding import seed_of
from facemodels.core.surface import gather_points
from facemodels.data import FaceBatch
from facemodels.data.clips import SyntheticClips, clips, rendered
from facemodels.data.synthetic import RandomizationConfig
from facemodels.losses import (
    coefficient_loss,
    deep3d_landmark_weights,
    gamma_loss,
    gram_loss,
    gram_matrix,
    landmark_loss,
    photometric_loss,
    reflectance_loss,
    rotation_angle,
)
from facemodels.methods.face_method import FaceMethod
from facemodels.networks import LightNet, ResNet, regression_head, resnet18, resnet50
from facemodels.networks.norm import frozen_bn_stats
from facemodels.training.config import Config
from facerender.color import to_linear, to_srgb

HELD_OUT = 7_000_041  # seed of validation faces, whatever the seed of training
CYCLES, MODES = ("pose", "expression"), ("render", "texture", "warp")
INNER = {"eyeballs", "mouth", "teeth", "tongue"}  # compared besides the face, where a model has them
GAP = (5, 50)  # frames from the first of a pair to the second


@dataclass
class CycleConfig(Config):
    """model: the morphable model. trunk: "resnet50" (224 pixels) or "light" (112); separate: an encoder for each branch (of resnet18 in place of resnet50), not layers 3 and
    4 alone (of the light trunk: layer 4). frames: pairs of them, "synthetic" or a folder of videos. cycles: "pose", "expression", both or none. compose_pose, compose_expression: "render", "texture" or
    "warp". pair: "distance" of identity and texture of the two frames, or "swap": each frame is rendered with the other's. weight_*: of the losses; those of pictures,
    angles (of the pose, squared, and of shifts in sides and logarithms of scales), the expression's variation and kept properties within the two cycles. variation_mm: how far
    the variation of an expression moves the face's vertices on average, 0 for as far as the network says. coarse: first steps with landmarks alone, nothing is
    rendered; stage1: steps without cycles, those among them; detached: steps of
    the cycles with J as a picture alone. cache: rendered frames that are kept, 0 for new ones in every step. held_out: frames to validate on. yaw: largest of rendered
    faces, degrees."""

    output: str = "runs/cycle"
    model: str = "builtin"
    trunk: str = "light"
    separate: bool = False
    frames: str = "synthetic"
    cycles: tuple[str, ...] = CYCLES
    compose_pose: str = "texture"
    compose_expression: str = "warp"
    pair: str = "distance"
    weight_photometric: float = 1.92
    weight_landmarks: float = 1.6e-3
    weight_probable: float = 6e-3
    weight_gamma: float = 10.0
    weight_reflectance: float = 5.0
    weight_pair: float = 0.1
    weight_pose_cycle: float = 0.2
    weight_expression_cycle: float = 0.2
    weight_picture: float = 1.92
    weight_angle: float = 10.0
    weight_variation: float = 0.5
    weight_kept: float = 2.5
    variation_mm: float = 1.2
    coarse: int = 0
    stage1: int = 0
    detached: int = 0
    cache: int = 0
    held_out: int = 256
    yaw: float = 60.0
    lr: float = 1e-3
    weight_decay: float = 5e-4
    clip: float = 5.0
    ema: float = 0.998

    def __post_init__(self):
        super().__post_init__()
        choices = {
            "trunk": ("resnet50", "light"),
            "compose_pose": MODES,
            "compose_expression": MODES,
            "pair": ("distance", "swap"),
        }
        for name, words in choices.items():
            if getattr(self, name) not in words:
                raise InputError(f"{name} must be {' or '.join(words)}, got {getattr(self, name)!r}")
        if unknown := [c for c in self.cycles if c not in CYCLES]:
            raise InputError(f"cycles must be of {' and '.join(CYCLES)}, got {unknown[0]!r}")
        if self.held_out < 8 or min(self.cache, self.coarse, self.stage1, self.detached, self.variation_mm) < 0:
            got = f"{self.held_out}, {self.cache}, {self.coarse}, {self.stage1}, {self.detached} and {self.variation_mm:g}"
            raise InputError(
                f"held_out must be at least 8, cache, coarse, stage1, detached and variation_mm at least 0, got {got}"
            )
        if self.cycles and self.coarse > self.stage1:
            raise InputError(
                f"cycles draw pictures, so coarse, the steps without any, must be at most stage1, got {self.coarse} and {self.stage1}"
            )
        if self.batch % 2 or self.batch < 4:
            raise InputError(
                f"batch must be even, for pairs of frames, and at least 4, for batch norms of first frames, got {self.batch}"
            )


PRESETS = {
    "smoke": dict(steps=9, batch=4, stage1=3, detached=3, held_out=8, validate_every=9, checkpoint_every=9, panel_every=9, log_every=3, warmup=2),
    "ablation": dict(steps=800, batch=16, stage1=500, detached=100, cache=8000, precision="bfloat16", validate_every=800, checkpoint_every=200, panel_every=800, warmup=50),
    "cpu": dict(steps=6500, batch=16, coarse=2000, stage1=3500, detached=200, cache=24_000, precision="bfloat16", validate_every=500, checkpoint_every=500, panel_every=2000, warmup=200),
    "gpu": dict(trunk="resnet50", steps=100_000, batch=64, stage1=50_000, detached=5000, lr=2e-4, precision="bfloat16", validate_every=2000, checkpoint_every=2000, panel_every=5000, warmup=1000, prefetch=2),
    "paper": dict(trunk="resnet50", steps=400_000, stage1=200_000, detached=20_000, batch=32, optimizer="adam", lr=1e-4, weight_decay=0.0, ema=0.0),
}  # fmt: skip


# -------------------------------------------------------------------------------------------------------------------------- properties


class Pose(NamedTuple):
    """rotation [N,3,3], scale [N] pixels per mm, translation [N,2] pixels, y up from the lower left corner: a weak-perspective camera; or what takes one such camera to
    another: a rotation, a ratio of scales, a shift. ``p2.after(p1.inverse())`` is the variation from p1 to p2, and ``variation.after(p1)`` is p2 again."""

    rotation: Tensor
    scale: Tensor
    translation: Tensor

    def after(self, other: "Pose") -> "Pose":
        return Pose(self.rotation @ other.rotation, self.scale * other.scale, self.translation + other.translation)

    def inverse(self) -> "Pose":
        return Pose(self.rotation.mT, 1 / self.scale, -self.translation)


class Properties(NamedTuple):
    """What is in a picture: identity [N,I], expression [N,E] and albedo [N,A], coefficients of the morphable model; rotation, scale and translation as in `Pose`; light
    [N,9,3], spherical harmonics of the preset "deep3d" in camera space."""

    identity: Tensor
    expression: Tensor
    rotation: Tensor
    scale: Tensor
    translation: Tensor
    albedo: Tensor
    light: Tensor

    @property
    def pose(self) -> Pose:
        return Pose(self.rotation, self.scale, self.translation)

    def posed(self, pose: Pose) -> "Properties":
        return self._replace(**pose._asdict())

    def each(self, change) -> "Properties":
        return Properties(*map(change, self))

    def held(self, *but: str) -> "Properties":
        """The same values without gradients, but those named."""
        return Properties(*(v if name in but else v.detach() for name, v in self._asdict().items()))


OWN = {"pose": Pose._fields, "expression": ("expression",)}  # what a cycle varies


def injected(cycle: str, first: Properties, second: Properties) -> tuple[Pose | Tensor, Properties]:
    """(the variation of a cycle's property from the first frame to the second, the first's properties with it)."""
    if cycle == "pose":
        variation = second.pose.after(first.pose.inverse())
        return variation, first.posed(variation.after(first.pose))
    variation = second.expression - first.expression
    return variation, first._replace(expression=first.expression + variation)


def reversed_by(cycle: str, properties: Properties, variation: Pose | Tensor) -> Properties:
    """Properties with a variation taken back."""
    if cycle == "pose":
        return properties.posed(variation.inverse().after(properties.pose))
    return properties._replace(expression=properties.expression - variation)


# ----------------------------------------------------------------------------------------------------------------------------- network


class Network(nn.Module):
    """Picture [N,3,S,S] in 0..1 -> `Properties`. counts: of identity, expression and albedo. Expressions are in 0..1 where the model's are `blendshapes`."""

    def __init__(self, trunk: str, separate: bool, counts: tuple[int, int, int], blendshapes: bool):
        super().__init__()
        light = trunk == "light"
        make, self.size = (LightNet, 112) if light else (resnet18 if separate else resnet50, 224)
        outputs = {"identity": counts[0], "expression": counts[1], "pose": 9, "texture": counts[2] + 27}
        halves = {name: _halves(make(), 3 if light else 2, 40 if light else None) for name in outputs}
        self.shared = None if separate else halves["identity"][0]
        self.branches = nn.ModuleDict(
            {name: nn.Sequential(*both) if separate else both[1] for name, both in halves.items()}
        )
        self.whole = light  # its last map and not the mean of it, which has lost where things are
        inputs, hidden = (40 * 16, 256) if light else (make().channels[-1], 512)
        self.heads = nn.ModuleDict({name: regression_head(inputs, (hidden,), n) for name, n in outputs.items()})
        self.blendshapes, self.albedo = blendshapes, counts[2]
        with torch.no_grad():
            self.heads["pose"][-1].bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0, 1.6, 0.5, 0.5]))
        self.register_buffer(
            "ambient",
            fr.lighting.ambient_and_directional(*(torch.tensor([v]) for v in ([0.5] * 3, [0.0, 0.3, 1.0], [0.6] * 3))),
            persistent=False,
        )

    def forward(self, image: Tensor) -> Properties:
        x = ((image - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)
        x = x if self.shared is None else self.shared(x)
        maps = {name: branch(x).float() for name, branch in self.branches.items()}
        with torch.autocast(image.device.type, enabled=False):  # coefficients in full precision
            said = {name: self.heads[name](m.flatten(1) if self.whole else m.mean((2, 3))) for name, m in maps.items()}
            expression = (
                torch.sigmoid(4 * said["expression"] - 3) if self.blendshapes else said["expression"]
            )  # begins at 0.05
            albedo, light = said["texture"].split([self.albedo, 27], 1)
            return Properties(
                said["identity"],
                expression,
                *_pose(said["pose"], self.size),
                albedo,
                self.ambient + light.view(-1, 9, 3),
            )


def _halves(trunk, shared, width=None):
    """The layers to `shared` of four, and those after it, narrowed to `width` channels."""
    pool = [nn.MaxPool2d(3, 2, 1)] if isinstance(trunk, ResNet) else []
    layers = [trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4]
    narrow = (
        []
        if width is None
        else [nn.Conv2d(trunk.channels[-1], width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    )
    return nn.Sequential(trunk.conv1, trunk.bn1, nn.ReLU(inplace=True), *pool, *layers[:shared]), nn.Sequential(
        *layers[shared:], *narrow
    )


def _pose(numbers, size):
    """Two axes of the rotation, log scale in sides per metre, translation in sides: [N,9] -> `Pose`."""
    rotation = fr.camera.rotation_from_axes(numbers[:, :3], numbers[:, 3:6])
    return Pose(rotation, numbers[:, 6].exp() * (size / 1000), numbers[:, 7:9] * size)


# ------------------------------------------------------------------------------------------------------------------------- composition


class Surface(NamedTuple):
    """A posed face: vertices [N,V,3] mm; place [N,V,3] pixels, y down, z towards the viewer; clip [N,V,4]; normals [N,V,3] in camera space."""

    vertices: Tensor
    place: Tensor
    clip: Tensor
    normals: Tensor


def surface(model, properties: Properties, size: int) -> Surface:
    p = properties
    vertices = model.shape(p.identity, p.expression)
    turned = p.scale[:, None, None] * vertices @ p.rotation.mT
    place = torch.stack(
        [turned[..., 0] + p.translation[:, :1], size - turned[..., 1] - p.translation[:, 1:], turned[..., 2]], -1
    )
    clip = fr.camera.weak_perspective(vertices, p.scale, p.rotation, p.translation, (size, size))
    return Surface(vertices, place, clip, (fr.vertex_normals(vertices, model.topology) @ p.rotation.mT).contiguous())


def albedo(model, properties: Properties) -> Tensor:
    """Linear [N|1,V,3]; a middling grey of a model without colours."""
    return model.albedo(properties.albedo) if model.num_albedo else torch.full_like(model.mean[None], 0.45)


def compose(mode: str, frame: Tensor, here: Properties, there: Properties, model, inner: Tensor) -> Tensor:
    """The frame with its face at other properties: linear [N,S,S,3].

    frame: linear [N,S,S,3], where the face has the properties `here`. there: where it goes, by pose and expression; identity, albedo and light are those of `here`.
    inner: [F] bool, triangles of the inside of mouth and eyes. mode: "render", "texture" or "warp", see the file's beginning.

    With `there` as `here`, "texture" and "warp" give the frame's own pixels where the face is, "warp" everywhere. Differentiable in pose and expression `there`, but not
    in what is seen where, and in nothing else.

    Of a pixel that shows a point of the surface, the colour is taken from the frame where that point is seen: in the picture, with the surface all around it, at
    most half a pixel and what the surface's slope makes of it behind what is drawn there, and not squeezed to less than 0.3 of its breadth; else from where its
    counterpart on the face's other half is seen so; else from the model. Where less than three pixels are hidden, along outlines and not inside mouth and eyes, it is
    that of those around them: a line in another colour would tell a network what was done.
    """
    size, topology = frame.shape[1], model.topology
    here, colours = here.held(), albedo(model, here).detach()
    there = there._replace(identity=here.identity, albedo=here.albedo, light=here.light)
    new = surface(model, there, size)
    if mode == "render":
        return fr.render_face(
            new.clip,
            new.normals,
            colours.contiguous(),
            there.light.contiguous(),
            topology,
            (size, size),
            background=frame.contiguous(),
        )[0]
    old = surface(model, here, size)
    fragments = fr.rasterize(new.clip, topology, (size, size))
    attributes = [colours.expand(len(frame), -1, -1), new.normals, old.place, old.normals]
    if model.symmetry is not None:
        other = model.symmetry.long()
        attributes += [old.place[:, other], old.normals[:, other]]
    pixels = fr.interpolate(torch.cat(attributes, -1).contiguous(), topology, fragments).split(3, -1)
    drawn = fragments.face_id >= 0
    lit = lambda normals: fr.sh_shade(torch.ones_like(normals), normals.contiguous(), there.light.contiguous())  # noqa: E731
    light = lit(pixels[1])
    colour = pixels[0] * light
    with torch.no_grad():
        first = fr.rasterize(old.clip, topology, (size, size))
        covered = (first.face_id >= 0).to(frame.dtype)
        depth = fr.interpolate(old.place[..., 2:].contiguous(), topology, first)[..., 0]
    for k in range(len(pixels) - 2, 1, -2):  # the other half's colours, then over them its own
        place, normals = pixels[k], pixels[k + 1]
        ratio = (light / lit(normals).clamp(min=0.05)).clamp(0.4, 2.5)
        seen = _seen(place, normals, pixels[1], covered, depth) & drawn
        colour = torch.where(seen[..., None], _sampled(frame, place[..., :2]) * ratio, colour)
    with torch.no_grad():  # seen is now what shows its own colours
        hidden = (drawn & ~seen).to(frame.dtype)
        rim = drawn & ~seen & (_grown(1 - _grown(1 - hidden)) == 0) & ~inner[fragments.face_id.clamp(min=0).long()]
        around = filled(colour, seen.to(frame.dtype))
    colour = torch.where(rim[..., None], around, colour)
    if mode == "texture":
        with torch.no_grad():
            face = _grown(covered)
            behind = torch.lerp(frame, filled(frame, 1 - face), face[..., None])
    else:
        ys, xs = torch.meshgrid(*[torch.arange(size, dtype=frame.dtype, device=frame.device) + 0.5] * 2, indexing="ij")
        here_xy = torch.stack([xs, ys], -1)
        moved = (pixels[2][..., :2] - here_xy) * drawn[..., None]
        border = torch.ones_like(xs)
        border[1:-1, 1:-1] = 0
        behind = _sampled(frame, here_xy + filled(moved, torch.maximum(border, drawn.to(frame.dtype))))
    return torch.where(drawn[..., None], colour, behind)


def _sampled(frame, place):
    """Colours [N,S,S,C] of frames at places [N,S,S,2], pixels with y down; beyond the border its own."""
    return F.grid_sample(
        frame.permute(0, 3, 1, 2), 2 * place / frame.shape[1] - 1, padding_mode="border", align_corners=False
    ).permute(0, 2, 3, 1)


def _grown(mask):
    """A mask [N,S,S] and the pixels around it."""
    return F.max_pool2d(mask[:, None], 3, 1, 1)[:, 0]


@torch.no_grad()
def _seen(place, normals, new_normals, covered, depth):
    """Which points of the surface [N,S,S,3] a frame shows, see `compose`; covered and depth [N,S,S] are of the frame."""
    inside = ((place[..., :2] > 0) & (place[..., :2] < covered.shape[1])).all(-1)
    whole = _sampled(covered[..., None], place[..., :2])[..., 0] > 0.99
    grid = 2 * place[..., :2] / covered.shape[1] - 1
    front = F.grid_sample(depth[:, None], grid, mode="nearest", padding_mode="border", align_corners=False)[:, 0]
    facing, new_facing = (F.normalize(n, dim=-1)[..., 2].abs() for n in (normals, new_normals))
    slope = (1 - facing.square()).clamp(min=0).sqrt() / facing.clamp(min=0.05)
    return inside & whole & (place[..., 2] > front - 0.5 - 0.75 * slope.clamp(max=3)) & (facing > 0.3 * new_facing)


def filled(values: Tensor, known: Tensor) -> Tensor:
    """Values [N,H,W,C] where they are known [N,H,W] (0 or 1), and smooth ones between and beyond: means over ever larger squares of what is known there."""
    return _filled((values * known[..., None]).permute(0, 3, 1, 2), known[:, None]).permute(0, 2, 3, 1)


def _filled(sums, known):
    mean = sums / known.clamp(min=1e-6)
    if max(known.shape[-2:]) == 1:
        return mean
    half = F.avg_pool2d(torch.cat([sums, known], 1), 2, ceil_mode=True)
    coarse = _filled(half[:, :-1], half[:, -1:])
    return torch.lerp(
        F.interpolate(coarse, known.shape[-2:], mode="bilinear", align_corners=False), mean, (known > 0).to(mean.dtype)
    )


# ---------------------------------------------------------------------------------------------------------------------------- training


class Prediction(NamedTuple):
    """properties: of the faces. landmarks [N,68,3] of the posed model: pixels of the crop, y down; z towards the viewer."""

    properties: Properties
    landmarks: Tensor


class Cycle(FaceMethod):
    name, config_class, PRESETS = "cycle", CycleConfig, PRESETS
    monitor = "photometric"

    def __init__(self, config: CycleConfig):
        super().__init__(config)
        m = self.model
        face = m.regions["face"].long()
        inside = torch.zeros(m.num_vertices, dtype=torch.bool)
        inside[face] = True
        self.register_buffer("face", face, persistent=False)
        self.register_buffer("skin", inside, persistent=False)
        counted = inside.clone()
        for region in INNER & m.regions.keys():
            counted[m.regions[region].long()] = True
        self.register_buffer("counted", counted[m.faces.long()].all(1), persistent=False)  # triangles; all are drawn
        self.register_buffer("inner", self.counted & ~inside[m.faces.long()].any(1), persistent=False)
        self.register_buffer(
            "landmark_rows",
            gather_points(m.rows.view(-1, m.num_vertices, 3), m.landmark_index, m.landmark_weights),
            persistent=False,
        )
        self.register_buffer("identity_gram", gram_matrix(m.identity_basis[:, face].flatten(1)), persistent=False)
        self.register_buffer("expression_gram", gram_matrix(m.expression_basis[:, face].flatten(1)), persistent=False)
        self.network = Network(
            config.trunk, config.separate, (m.num_identity, m.num_expression, m.num_albedo), m.blendshapes
        )
        self.size = self.network.size
        self.randomization = RandomizationConfig(yaw=config.yaw, box=(1.3, 1.55))
        self.source = SyntheticClips(m, self.size, 2, GAP, self.randomization)
        self.frames = None  # a store that batches are taken from; None for faces that are new in every step

    def prepare_data(self):
        c = self.config
        if c.frames != "synthetic":
            self.frames = clips(c.frames, self.size, gap=GAP)
            points = self.frames.faces.landmarks
            if c.weight_landmarks and points is not None and points.shape[1] != 68:
                raise InputError(
                    f"{c.frames}: landmarks must be 68 a face, got {points.shape[1]}; weight_landmarks=0 does without"
                )
        elif c.cache:
            self.frames = rendered(self.source, c.seed, c.cache // 2)

    def batch(self, step, indices, device) -> FaceBatch:
        """Frames, two of a person in a row, with pictures and, where they are known, landmarks alone."""
        c, pairs = self.config, range(indices.start // 2, indices.stop // 2)
        frames = (
            self.frames(c.seed, step * c.batch // 2, pairs).to(device)
            if self.frames
            else self.source(c.seed, step, pairs)
        )
        return FaceBatch(frames.image, frames.landmarks)

    # -------------------------------------------------------------------------------------------------------------------------- losses

    def _landmarks(self, p: Properties) -> Tensor:
        """The 68 of faces, as in `Prediction`."""
        at_rest = (
            torch.cat([torch.ones_like(p.scale[:, None]), p.identity, p.expression], 1) @ self.landmark_rows.flatten(1)
        ).view(len(p.scale), -1, 3)
        x, y, z = (p.scale[:, None, None] * at_rest @ p.rotation.mT).unbind(-1)
        return torch.stack([x + p.translation[:, :1], self.size - y - p.translation[:, 1:], z], -1)

    def render(self, properties: Properties) -> tuple[Tensor, Tensor]:
        """(sRGB [N,S,S,3], where the face is [N,S,S] 0 or 1)."""
        posed = surface(self.model, properties, self.size)
        image, face_id = fr.render_face(
            posed.clip,
            posed.normals,
            albedo(self.model, properties).contiguous(),
            properties.light.contiguous(),
            self.model.topology,
            (self.size, self.size),
        )
        return to_srgb(image), ((face_id >= 0) & self.counted[face_id.clamp(min=0).long()]).to(image.dtype)

    def pose_distance(self, first: Pose, second: Pose) -> Tensor:
        """Mean of the squared angle, plus those of the shift in sides and of the logarithm of the ratio of scales."""
        shift = (first.translation - second.translation) / self.size
        return (
            rotation_angle(first.rotation, second.rotation).square()
            + shift.square().sum(-1)
            + (first.scale / second.scale).log().square()
        ).mean()

    def forward(self, group, batch, step, shared) -> dict[str, Tensor]:
        c = self.config
        images = batch.image.permute(0, 2, 3, 1).contiguous()
        said = self.network(batch.image).each(Tensor.float)
        parts = self._base(
            said, images, batch.landmarks, step >= c.coarse or batch.landmarks is None or not c.weight_landmarks
        )
        weights = {
            k: getattr(c, f"weight_{k}")
            for k in ("photometric", "landmarks", "probable", "gamma", "reflectance", "pair")
        }
        if step >= c.stage1:
            for cycle in c.cycles:
                parts |= self._cycle(
                    cycle,
                    images[0::2],
                    said.each(lambda v: v[0::2]),
                    said.each(lambda v: v[1::2]),
                    step >= c.stage1 + c.detached,
                    seed_of(c.seed, step),
                )
                weight = c.weight_pose_cycle if cycle == "pose" else c.weight_expression_cycle
                inner = {"picture": c.weight_picture, "kept": c.weight_kept, "kept_pose": c.weight_angle}
                weights |= {f"{cycle}_{k}": weight * w for k, w in inner.items()}
                weights[f"{cycle}_variation"] = weight * (c.weight_angle if cycle == "pose" else c.weight_variation)
        return {"loss": sum(weights[k] * v for k, v in parts.items())} | parts

    def _base(self, said, images, landmarks, drawn_too=True):
        """The losses of single frames, and what the two of a pair must agree in."""
        c, m, parts = self.config, self.model, {}
        shown = said
        if c.pair == "swap":
            shown = said._replace(
                **{k: getattr(said, k).unflatten(0, (-1, 2)).flip(1).flatten(0, 1) for k in ("identity", "albedo")}
            )
        if drawn_too:
            drawn, mask = self.render(shown)
            parts["photometric"] = photometric_loss(drawn, images, mask)
            if m.num_albedo:
                parts["reflectance"] = reflectance_loss(albedo(m, said), self.skin)
        if c.weight_landmarks and landmarks is not None:
            known = torch.isfinite(landmarks[..., :2]).all(-1)
            unit = self.size / 224
            parts["landmarks"] = landmark_loss(
                self._landmarks(shown)[..., :2] / unit,
                landmarks[..., :2] / unit,
                deep3d_landmark_weights(images.device) * known,
            )
        parts["probable"] = coefficient_loss(said.identity, said.expression, said.albedo)
        parts["gamma"] = gamma_loss(said.light)
        if c.pair == "distance":
            first, second = (said.each(lambda v, k=k: v[k::2]) for k in (0, 1))
            parts["pair"] = gram_loss(first.identity, second.identity, self.identity_gram) + _mean_square(
                first.albedo - second.albedo
            )
        return parts

    def _cycle(self, cycle, images, first, second, through, seed) -> dict[str, Tensor]:
        """The losses of a cycle on first frames [N,S,S,3]; `through`: J carries gradients to the variation that was injected. seed: of what is drawn at random."""
        own = OWN[cycle]
        first, second = (p.held(*own) if through else p.held() for p in (first, second))
        if cycle == "expression" and self.config.variation_mm:
            second = self._sized(first, second, seed)
        variation, goal = injected(cycle, first, second)
        mode = getattr(self.config, f"compose_{cycle}")
        picture = to_srgb(compose(mode, to_linear(images), first, goal, self.model, self.inner))
        with frozen_bn_stats(self.network):
            found = self.network(picture.permute(0, 3, 1, 2).contiguous()).each(Tensor.float)
        back, mask = self.render(reversed_by(cycle, found.held(*own), variation))
        parts = {"picture": photometric_loss(back, images, mask)}
        first, goal = first.held(), goal.held()
        parts["kept"] = (
            gram_loss(found.identity, first.identity, self.identity_gram)
            + _mean_square(found.albedo - first.albedo)
            + _mean_square(found.light - first.light)
        )
        expression = gram_loss(found.expression, goal.expression, self.expression_gram)
        if cycle == "pose":  # distances of variations are those of what they are applied to: p1 is on both sides
            parts["variation"] = self.pose_distance(found.pose, goal.pose)
            parts["kept"] = parts["kept"] + expression
        else:
            parts["variation"] = expression
            parts["kept_pose"] = self.pose_distance(found.pose, first.pose)
        return {f"{cycle}_{k}": v for k, v in parts.items()}

    def _sized(self, first: Properties, second: Properties, seed: int) -> Properties:
        """`second` whose expression is as far from the first's as `variation_mm` says, on the way that it went; at most 30 times as far, and within what expressions can be.
        Gradients reach the way, not the distance, of which this is free."""
        size = (
            torch.rand(len(first.scale), generator=torch.Generator().manual_seed(seed)).to(
                first.scale, non_blocking=True
            )
            + 0.5
        )
        factor = (
            self.config.variation_mm * size / self._expression_mm(first.expression, second.expression).clamp(min=1e-6)
        )
        expression = first.expression + factor.clamp(max=30.0)[:, None] * (second.expression - first.expression)
        return second._replace(expression=expression.clamp(0, 1) if self.model.blendshapes else expression)

    # ---------------------------------------------------------------------------------------------------------------------- inference

    @torch.no_grad()
    def predict(self, image: Tensor) -> Prediction:
        """Faces of pictures [N,3,S,S], sRGB in 0..1, cropped as `data.crops.landmark_box` does; S is `size`."""
        said = self.network(image).each(Tensor.float)
        return Prediction(said, self._landmarks(said))

    def reconstruct(self, image: Tensor) -> FaceParameters:
        p, landmarks = self.predict(image)
        return FaceParameters(
            p.identity,
            p.expression,
            p.rotation,
            p.scale,
            flip_y(p.translation, self.size),
            landmarks,
            p.albedo,
            p.light,
        )

    def _expression_mm(self, first: Tensor, second: Tensor) -> Tensor:
        """How far the face's vertices are between expressions [N,E], mean [N]."""
        basis = self.model.expression_basis[:, self.face]
        return ((first - second) @ basis.flatten(1)).view(len(first), -1, 3).norm(dim=-1).mean(1)

    def _neutral_mm(self, got: Tensor, wanted: Tensor) -> Tensor:
        """How far the face's vertices are between identities [N,I] after a similarity, mean [N]."""
        got, wanted = (self.model.shape(i)[:, self.face[::16]] for i in (got, wanted))
        return (similarity(got, wanted)(got) - wanted).norm(dim=-1).mean(1)

    @torch.no_grad()
    def validate(self, device) -> dict[str, float]:
        """On held-out rendered pairs: photometric, mean colour distance (sRGB 0..1) where the face is rendered; nme_percent of the 68 landmarks, of sqrt(w h) of their box;
        errors of rotation, expression and neutral shape (the last after a similarity), and of no expression and the mean face in their place.

        On pairs in which pose or expression alone changes, sums over the pairs: how far the predicted other one moves, over the true change (*_leak_*), and how far the
        predicted one itself does (*_response, 1 is right: a network that says the same of every picture leaks nothing either). Pairs that change by less than
        a degree or 0.1 mm do not count; a result is left out where no pair is left.
        """
        pairs, totals = self.config.held_out // 2, {}
        for k in range(0, pairs, 8):
            some = range(min(8, pairs - k))
            faces = self.source(HELD_OUT, k // 8, some)
            p = self.predict(faces.image)
            drawn, mask = self.render(p.properties)
            images = faces.image.permute(0, 2, 3, 1)
            box = (faces.landmarks.amax(1) - faces.landmarks.amin(1)).prod(-1).sqrt()
            values = {
                "photometric": torch.stack(
                    [photometric_loss(drawn[n : n + 1], images[n : n + 1], mask[n : n + 1]) for n in range(len(images))]
                ),
                "nme_percent": 100 * (p.landmarks[..., :2] - faces.landmarks).norm(dim=-1).mean(1) / box,
                "rotation_degrees": rotation_angle(p.properties.rotation, faces.rotation).rad2deg(),
                "expression_mm": self._expression_mm(p.properties.expression, faces.expression),
                "expression_of_none_mm": self._expression_mm(torch.zeros_like(faces.expression), faces.expression),
                "neutral_mm": self._neutral_mm(p.properties.identity, faces.identity),
                "neutral_of_mean_face_mm": self._neutral_mm(torch.zeros_like(faces.identity), faces.identity),
            }
            for name, value in values.items():
                totals[name] = totals.get(name, 0) + value.sum() / (2 * pairs)
        return totals | self._leaks(pairs)

    def _leaks(self, pairs):
        results = {}
        for only in CYCLES:
            source, moved, true = SyntheticClips(self.model, self.size, 2, 1, self.randomization, only=only), [], []
            for k in range(0, pairs, 8):
                faces = source(HELD_OUT, k // 8, range(min(8, pairs - k)))
                moved.append(self._changes(self.predict(faces.image).properties))
                true.append(self._changes(faces)[CYCLES.index(only)])
            degrees, mm = torch.cat(moved, 1)
            true = torch.cat(true)
            enough = true > (1.0 if only == "pose" else 0.1)
            if not enough.any():
                continue
            whole = true[enough].sum()
            leak, unit = (
                (mm, "expression_leak_mm_per_degree") if only == "pose" else (degrees, "rotation_leak_degrees_per_mm")
            )
            results[unit] = leak[enough].sum() / whole
            results["rotation_response" if only == "pose" else "expression_response"] = (
                degrees if only == "pose" else mm
            )[enough].sum() / whole
        return results

    def _changes(self, p):
        """[2,N] of pairs: how far the rotation goes, degrees, and the expression, mm."""
        return torch.stack(
            [
                rotation_angle(p.rotation[0::2], p.rotation[1::2]).rad2deg(),
                self._expression_mm(p.expression[0::2], p.expression[1::2]),
            ]
        )

    def visualize(self, batch) -> Tensor:
        """Rows: first frames, second ones, rendering of the first; of each cycle, what was injected, what came back, and how far that is from the first frame."""
        images = batch.image[:12].permute(0, 2, 3, 1).contiguous()
        said = self.network(batch.image[:12]).each(Tensor.float)
        first, second = (said.each(lambda v, k=k: v[k::2]) for k in (0, 1))
        frame = to_linear(images[0::2])

        def over(properties):
            drawn, mask = self.render(properties)
            return torch.lerp(frame, to_linear(drawn), mask[..., None]), mask

        rows = [frame, to_linear(images[1::2]), over(first)[0]]
        for cycle in self.config.cycles:
            to = self._sized(first, second, 0) if cycle == "expression" and self.config.variation_mm else second
            variation, goal = injected(cycle, first, to)
            picture = compose(getattr(self.config, f"compose_{cycle}"), frame, first, goal, self.model, self.inner)
            found = self.network(to_srgb(picture).permute(0, 3, 1, 2).contiguous()).each(Tensor.float)
            back, mask = over(reversed_by(cycle, found, variation))
            rows += [picture, back, to_linear((2 * (to_srgb(back) - images[0::2]).abs()).clamp(0, 1)) * mask[..., None]]
        return tile(torch.cat(rows), len(frame))


def _mean_square(difference):
    """Mean over the batch and the coefficients; 0 of none (a model without colours)."""
    return difference.square().sum() / max(difference.numel(), 1)
