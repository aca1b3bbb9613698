"""PGN: Liu, Han, Lyu, King, Xu, Learning 3D face reconstruction with a pose guidance network, ACCV 2020.

The paper's finding: of identity, expression and pose, it is the pose that holds parametric methods back. So pose is not regressed. One encoder has two heads: the
coefficients of a morphable model, and the 68 landmarks in three dimensions, read from a UV position map. Pose is then what takes the model's landmarks X best to the
predicted ones Y, a similarity in closed form (`surface.similarity`, whose gradient is stable everywhere):

    f, R, t = argmin sum_i w_i |f R X_i + t - Y_i|^2,     V = f R S(identity, expression) + t

Labelled pictures teach landmarks, coefficients and vertices. Frames of one person without labels teach by what must agree: both heads with each other, the identity of all
frames, also exchanged between them, and their looks, carried from one frame into another through the geometry and compared by census where both see them:

    L = L_lmk + L_param + L_vert                                          labelled pictures
      + 0.1 L_2d + 0.1 L_id + 0.1 L_swap + 0.1 L_census + 1e-4 L_reg      frames of one person, from stage 2 on

In public there is the paper's abstract and first page; what they do not say is chosen here: sizes, weights, and errors of points in percent of the picture's side. `pose`
"regressed" is the baseline that the paper argues against (a head gives rotation, scale and translation), `landmarks` "direct" the landmark head without a map.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import facerender as fr
from facemodels.core.alignment import similarity
from facemodels.core.drawing import CLAY, draw_points, tile
from facemodels.core.errors import InputError
from facemodels.core.parameters import FaceParameters, flip_y
from facemodels.core.seeding import seed_of
from facemodels.core.surface import gather_points
from facemodels.data import FaceBatch
from facemodels.data.cache import Cached, Shuffled
from facemodels.data.clips import SyntheticGroups, clips, rendered
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from facemodels.data.tddfa import lp300w
from facemodels.losses import (
    census_loss,
    coefficient_loss,
    gram_loss,
    gram_matrix,
    landmark_loss,
    rotation_angle,
    shape_alone,
)
from facemodels.methods.face_method import FaceMethod
from facemodels.networks import LightNet, regression_head, resnet50
from facemodels.training.config import Config
from facerender.color import to_linear

HELD_OUT = 7_000_037  # seed of validation faces, whatever the seed of training
SCALE = 1.6  # logarithm of a usual size of heads in their crops, sides per metre
POINTS = 256  # vertices of the face, besides the landmarks, at which maps and shapes are taught


@dataclass
class PGNConfig(Config):
    """model: the morphable model. trunk: "resnet50" (224 pixels) or "light" (112). landmarks: "map" (read from a UV position map) or "direct". pose: "guided" (solved
    from the landmarks) or "regressed". labelled: "synthetic", or the folder of 300W-LP (with model its Basel model). frames: several of one person, "synthetic" or a
    folder of videos. weight_*: of the losses. stage1: steps with labelled pictures alone; that many or more than steps leaves frames out. cache: rendered faces that are
    kept, 0 for new ones in every step. held_out: faces to validate on. yaw: largest of rendered faces, degrees."""

    output: str = "runs/pgn"
    model: str = "builtin"
    trunk: str = "light"
    landmarks: str = "map"
    pose: str = "guided"
    labelled: str = "synthetic"
    frames: str = "synthetic"
    weight_landmarks: float = 1.0
    weight_coefficients: float = 1.0
    weight_vertices: float = 1.0
    weight_2d: float = 0.1
    weight_identity: float = 0.1
    weight_swap: float = 0.1
    weight_census: float = 0.1
    weight_probable: float = 1e-4
    stage1: int = 0
    cache: int = 0
    held_out: int = 512
    yaw: float = 75.0
    lr: float = 1e-3
    weight_decay: float = 5e-4
    clip: float = 5.0
    ema: float = 0.998

    def __post_init__(self):
        super().__post_init__()
        for name, choices in (
            ("trunk", ("resnet50", "light")),
            ("landmarks", ("map", "direct")),
            ("pose", ("guided", "regressed")),
        ):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} must be {' or '.join(choices)}, got {getattr(self, name)!r}")
        if self.held_out < 1 or self.cache < 0 or self.stage1 < 0:
            raise InputError(
                f"held_out must be at least 1, cache and stage1 at least 0, got {self.held_out}, {self.cache} and {self.stage1}"
            )
        if self.batch % 2:
            raise InputError(f"batch must be even, for pairs of frames, got {self.batch}")


PRESETS = {
    "smoke": dict(steps=12, batch=4, stage1=4, held_out=8, validate_every=6, checkpoint_every=6, panel_every=12, log_every=3, warmup=2),
    "ablation": dict(steps=2000, batch=32, stage1=1300, cache=8000, precision="bfloat16", validate_every=1000, checkpoint_every=500, panel_every=2000, warmup=100),
    "cpu": dict(steps=4000, batch=32, stage1=2000, cache=24_000, precision="bfloat16", validate_every=1000, checkpoint_every=1000, panel_every=2000, warmup=200),
    "gpu": dict(trunk="resnet50", steps=100_000, batch=128, stage1=50_000, lr=2e-4, precision="bfloat16", validate_every=2000, checkpoint_every=2000, panel_every=5000, warmup=1000, prefetch=2),
    "paper": dict(trunk="resnet50", steps=400_000, stage1=200_000, batch=32, optimizer="adam", lr=1e-4, weight_decay=0.0, ema=0.0),
}  # fmt: skip


# --------------------------------------------------------------------------------------------------------------------------------- network


class Heads(NamedTuple):
    """identity [N,I], expression [N,E]. points [N,P,3]: where the network sees the landmarks and, of a map, the other taught vertices (P is 68 + 256 or 68); x and y up
    from the lower left corner, z towards the viewer from anywhere; all in sides of the picture. pose [N,9], of the baseline: two axes of the rotation, log scale in sides
    per metre, translation in sides."""

    identity: Tensor
    expression: Tensor
    points: Tensor
    pose: Tensor | None


class Network(nn.Module):
    """Picture [N,3,S,S] in 0..1 -> `Heads`. uv [P,2] in 0..1: where in the map the points are; None for the direct head, which gives the 68 landmarks. at_rest [P,3]: the
    points of the mean face as it looks at the camera, from which the heads tell differences: pose is solved from something that is a face from the first step on."""

    def __init__(self, trunk: str, identity: int, expression: int, uv: Tensor | None, at_rest: Tensor, regressed: bool):
        super().__init__()
        light = trunk == "light"
        self.trunk, self.size, self.first = (LightNet(), 112, 4) if light else (resnet50(), 224, 7)
        top, self.counts = self.trunk.channels[-1], (identity, expression)
        inputs = top * self.first**2 if light else top
        self.coefficients = regression_head(inputs, (512,), identity + expression)
        self.whole = light  # its last map and not the mean of it, which has lost where things are
        self.pose = regression_head(inputs, (256,), 9) if regressed else None
        if self.pose is not None:
            with torch.no_grad():
                self.pose[-1].bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0, SCALE, 0.5, 0.5]))
        self.register_buffer("at_rest", at_rest, persistent=False)
        if uv is None:
            self.map, self.direct = None, regression_head(inputs, (256,), 68 * 3)
            return
        self.register_buffer("uv", uv, persistent=False)
        layers, channels = [], top
        for width in (128, 64, 32) if light else (512, 256, 128, 64):
            layers += [
                nn.ConvTranspose2d(channels, width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        last = nn.Conv2d(channels, 3, 3, padding=1)
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)
        self.map, self.direct = nn.Sequential(*layers, last), None

    def forward(self, image: Tensor) -> Heads:
        features = self.trunk(((image - 0.5) / 0.25).contiguous(memory_format=torch.channels_last))
        top = features.maps[-1]
        places = self.map(top).float() if self.map is not None else None
        with torch.autocast(image.device.type, enabled=False):  # coefficients and points in full precision
            code = top.flatten(1).float() if self.whole else features.pooled.float()
            identity, expression = self.coefficients(code).split(self.counts, 1)
            if places is None:
                points = self.direct(code).view(-1, 68, 3)
            else:
                grid = (2 * self.uv - 1).expand(len(image), 1, -1, 2)
                points = F.grid_sample(places, grid, padding_mode="border", align_corners=False)[:, :, 0].mT
            return Heads(identity, expression, points + self.at_rest, None if self.pose is None else self.pose(code))


class Pose(NamedTuple):
    """scale [N] pixels per mm, rotation [N,3,3], translation [N,3] pixels, y up from the lower left corner; t_z is that of the landmarks."""

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        """points [N,P,3] mm -> pixels."""
        return self.scale[:, None, None] * points @ self.rotation.mT + self.translation[:, None]


class Prediction(NamedTuple):
    """identity [N,I] and expression [N,E]: coefficients of the morphable model. rotation [N,3,3], scale [N] px/mm, translation [N,2] px: its weak-perspective camera, y
    up from the lower left corner. landmarks [N,68,3] of the posed model, seen [N,68,3] those of the landmark head: pixels of the crop, y down; z towards the viewer."""

    identity: Tensor
    expression: Tensor
    rotation: Tensor
    scale: Tensor
    translation: Tensor
    landmarks: Tensor
    seen: Tensor


def vertex_uv(model) -> Tensor:
    """Texture coordinates [V,2] of vertices (of a vertex on a seam, one of its places), stretched so that the face region fills 0..1 up to a margin of 0.05."""
    uv = torch.zeros(model.num_vertices, 2, device=model.uv.device)
    uv[model.faces.long().flatten()] = model.uv[model.uv_faces.long().flatten()]
    low, high = uv[model.regions["face"]].amin(0), uv[model.regions["face"]].amax(0)
    return 0.05 + 0.9 * (uv - low) / (high - low)


def carried(image: Tensor, here: Tensor, there: Tensor, topology: fr.Topology) -> tuple[Tensor, Tensor]:
    """What pictures taken at `here` would look like at `there`, by the surface alone: (pictures [N,S,S,3], where both see it [N,S,S] 0 or 1).

    image: [N,S,S,3]. here, there: vertices [N,V,3] of the two, pixels with y up and z towards the viewer. Differentiable at both (in `there` through the barycentric
    coordinates); visibility is not. A point is seen where it lies at most 2 pixels behind the surface that is drawn there.
    """
    size = image.shape[1]
    clip = [
        torch.cat(
            [
                2 * v[..., :2] / size - 1,
                (v[..., 2:].mean(1, keepdim=True) - v[..., 2:]) / (2 * size),
                torch.ones_like(v[..., :1]),
            ],
            -1,
        )
        for v in (here, there)
    ]
    seen = fr.rasterize(clip[1], topology, (size, size))
    place = fr.interpolate(here.contiguous(), topology, seen)
    grid = torch.stack([2 * place[..., 0] / size - 1, 1 - 2 * place[..., 1] / size], -1)
    new = F.grid_sample(image.permute(0, 3, 1, 2), grid, align_corners=False).permute(0, 2, 3, 1)
    with torch.no_grad():
        behind = -1e6
        first = fr.rasterize(clip[0], topology, (size, size))
        depth = torch.where(
            first.face_id >= 0, fr.interpolate(here[..., 2:].contiguous(), topology, first)[..., 0], behind
        )
        front = F.grid_sample(depth[:, None], grid, mode="nearest", padding_mode="border", align_corners=False)[:, 0]
        both = (seen.face_id >= 0) & (front > behind) & (place[..., 2] > front - 2) & (grid.abs() < 1).all(-1)
    return new, both.to(image.dtype)


# --------------------------------------------------------------------------------------------------------------------------------- training


class PGN(FaceMethod):
    name, config_class, PRESETS = "pgn", PGNConfig, PRESETS
    monitor = "dense_nme_percent"

    def __init__(self, config: PGNConfig):
        super().__init__(config)
        m = self.model
        if config.landmarks == "map" and m.uv is None:
            raise InputError(
                f"{config.model}: {m.name} has no texture coordinates for a position map; landmarks=direct does without"
            )
        face, corners, weights = m.regions["face"].long(), m.landmark_index.long(), m.landmark_weights
        others = face[torch.linspace(0, len(face) - 1, POINTS).long()]
        basis = torch.cat(
            [
                gather_points(m.rows.view(-1, m.num_vertices, 3), corners, weights),
                m.rows.view(-1, m.num_vertices, 3)[:, others],
            ],
            1,
        )
        self.register_buffer(
            "rows", basis.flatten(1), persistent=False
        )  # the model at the 68 landmarks, then at some vertices of the face
        self.register_buffer(
            "identity_gram",
            gram_matrix(shape_alone(m.identity_basis[:, face], m.mean[face]).flatten(1)),
            persistent=False,
        )
        self.register_buffer("expression_gram", gram_matrix(m.expression_basis[:, face].flatten(1)), persistent=False)
        uv = None
        if config.landmarks == "map":
            uv = vertex_uv(m)
            uv = torch.cat([(uv[corners] * weights[..., None]).sum(1), uv[others]])
        at_rest = basis[0, : 68 if uv is None else None] * (math.exp(SCALE) / 1000)
        at_rest = at_rest - at_rest[:68].mean(0) + at_rest.new_tensor([0.5, 0.5, 0.0])
        self.network = Network(config.trunk, m.num_identity, m.num_expression, uv, at_rest, config.pose == "regressed")
        self.size = self.network.size
        inside = torch.zeros(m.num_vertices, dtype=torch.bool)
        inside[face] = True
        self.face_topology = fr.Topology(m.faces[inside[m.faces.long()].all(1)], m.num_vertices)
        randomization = RandomizationConfig(yaw=config.yaw, box=(1.3, 1.55))
        self.source, self.groups = Synthetic(m, self.size, randomization), SyntheticGroups(m, self.size, 2, randomization)
        self.labelled = self.frames = (
            None  # stores that batches are taken from; None for faces that are new in every step
        )

    def _apply(self, move, *args, **kwargs):
        moved = super()._apply(move, *args, **kwargs)
        self.face_topology = self.face_topology.to(self.rows.device)
        return moved

    # ---------------------------------------------------------------------------------------------------------------------------- data

    def prepare_data(self):
        c = self.config
        if c.labelled != "synthetic":
            self.labelled = Shuffled(lp300w(Path(c.labelled), self.size, c.model))
        elif c.cache:
            self.labelled = Cached(self.source, c.seed, c.cache)
        if c.stage1 < c.steps and c.frames != "synthetic":
            self.frames = clips(c.frames, self.size, gap=None)
        elif c.stage1 < c.steps and c.cache:
            self.frames = rendered(self.groups, seed_of(c.seed, 1), c.cache // 2)

    def batch(self, step, indices, device) -> tuple[FaceBatch, FaceBatch | None]:
        """(labelled, frames): of the second, pictures alone, two of a person in a row; None in stage 1."""
        c = self.config
        first = (
            self.labelled(c.seed, step * c.batch, indices).to(device)
            if self.labelled
            else self.source(c.seed, step, indices)
        )
        if step < c.stage1:
            return first, None
        pairs, seed = range(indices.start // 2, indices.stop // 2), seed_of(c.seed, 1)
        second = (
            self.frames(seed, step * c.batch // 2, pairs).to(device) if self.frames else self.groups(seed, step, pairs)
        )
        return first, FaceBatch(second.image)

    # -------------------------------------------------------------------------------------------------------------------------- losses

    def shape(self, identity: Tensor, expression: Tensor) -> Tensor:
        """[N,68+256,3] mm: the landmarks, then the other taught vertices."""
        one = identity.new_ones(len(identity), 1)
        return (torch.cat([one, identity, expression], 1) @ self.rows).view(len(identity), -1, 3)

    def pose(self, shape: Tensor, heads: Heads) -> Pose:
        """What takes the landmarks of shapes [N,P,3] to where the network sees them, or what it regresses."""
        if heads.pose is None:
            scale, rotation, translation = similarity(shape[:, :68], heads.points[:, :68] * self.size)
            return Pose(scale, rotation, translation)
        rotation = fr.camera.rotation_from_axes(heads.pose[:, :3], heads.pose[:, 3:6])
        translation = F.pad(heads.pose[:, 7:9], (0, 1))
        return Pose(heads.pose[:, 6].exp() * self.size / 1000, rotation, translation * self.size)

    def _true(self, faces):
        """(shape [N,P,3] mm, posed [N,P,3] pixels) of labelled faces."""
        shape = self.shape(faces.identity, faces.expression)
        return shape, Pose(faces.scale, faces.rotation, F.pad(faces.translation, (0, 1)))(shape)

    def _distance(self, points, target, dimensions=3):
        """Mean squared distance of points in pixels, in percent of the picture's side; depth is without origin."""
        unit = self.size / 100
        points, target = points / unit, target / unit
        if dimensions == 3:
            points, target = (
                torch.cat([p[..., :2], p[..., 2:] - p[:, :68, 2:].mean(1, keepdim=True)], -1) for p in (points, target)
            )
        else:
            points, target = points[..., :2], target[..., :2]
        return landmark_loss(points, target, torch.ones(points.shape[1], device=points.device))

    def forward(self, group, batch, step, shared) -> dict[str, Tensor]:
        labelled, frames = batch
        c, n = self.config, len(labelled)
        heads = self.network(torch.cat([f.image for f in batch if f is not None]))
        heads = Heads(*(None if h is None else h.float() for h in heads))
        parts = self._supervised(Heads(*(None if h is None else h[:n] for h in heads)), labelled)
        if frames is not None:
            parts |= self._agreement(
                Heads(*(None if h is None else h[n:] for h in heads)), frames.image.permute(0, 2, 3, 1)
            )
        weights = {
            "landmarks": c.weight_landmarks,
            "coefficients": c.weight_coefficients,
            "vertices": c.weight_vertices,
            "pose": 1.0,
        }
        weights |= {
            "2d": c.weight_2d,
            "identity": c.weight_identity,
            "swap": c.weight_swap,
            "census": c.weight_census,
            "probable": c.weight_probable,
        }
        return {"loss": sum(weights[k] * v for k, v in parts.items())} | parts

    def _supervised(self, heads, faces):
        """L_lmk, L_param and L_vert."""
        true, posed = self._true(faces)
        points = heads.points * self.size
        shape = self.shape(heads.identity, heads.expression)
        parts = {"landmarks": self._distance(points[:, :68], posed[:, :68])}
        if points.shape[1] > 68:
            others = (
                points[:, 68:] - F.pad(points[:, :68, 2:].mean(1, keepdim=True), (2, 0)),
                posed[:, 68:] - F.pad(posed[:, :68, 2:].mean(1, keepdim=True), (2, 0)),
            )
            parts["landmarks"] = (
                parts["landmarks"]
                + landmark_loss(*(o * 100 / self.size for o in others), torch.ones(POINTS, device=shape.device))
            ) / 2
        parts["coefficients"] = gram_loss(heads.identity, faces.identity, self.identity_gram) + 5 * gram_loss(
            heads.expression, faces.expression, self.expression_gram
        )
        parts["vertices"] = self._distance(self.pose(shape, heads)(shape), posed)
        if heads.pose is not None:
            wanted = torch.cat(
                [
                    faces.rotation[:, 0],
                    faces.rotation[:, 1],
                    (faces.scale * 1000 / self.size).log()[:, None],
                    faces.translation / self.size,
                ],
                1,
            )
            parts["pose"] = (heads.pose - wanted).square().mean()
        return parts

    def _agreement(self, heads, images):
        """L_2d, L_id, L_swap, L_census and L_reg of frames, two of a person in a row."""
        points = heads.points[:, :68] * self.size
        shape = self.shape(heads.identity, heads.expression)
        pose = self.pose(shape, heads)
        parts = {"2d": self._distance(pose(shape[:, :68]), points, 2)}
        parts["identity"] = gram_loss(heads.identity[0::2], heads.identity[1::2], self.identity_gram)
        others = torch.stack([heads.identity[1::2], heads.identity[0::2]], 1).flatten(0, 1)
        swapped = self.shape(others, heads.expression)
        parts["swap"] = self._distance(self.pose(swapped, heads)(swapped[:, :68]), points)
        if self.config.weight_census:
            vertices = pose(self.model.shape(heads.identity, heads.expression))
            total = 0
            for here, there in ((0, 1), (1, 0)):
                new, both = carried(images[here::2], vertices[here::2], vertices[there::2], self.face_topology)
                total = total + census_loss(new, images[there::2], both) / 2
            parts["census"] = total
        parts["probable"] = coefficient_loss(heads.identity, heads.expression)
        return parts

    # ---------------------------------------------------------------------------------------------------------------------- inference

    @torch.no_grad()
    def predict(self, image: Tensor) -> Prediction:
        """Faces of pictures [N,3,S,S], sRGB in 0..1, cropped as `data.crops.landmark_box` does; S is `size`."""
        heads = Heads(*(None if h is None else h.float() for h in self.network(image)))
        identity, expression = (
            heads.identity,
            heads.expression.clamp(0, 1) if self.model.blendshapes else heads.expression,
        )
        shape = self.shape(identity, expression)
        scale, rotation, translation = pose = self.pose(shape, heads)
        landmarks, seen = (flip_y(p, self.size) for p in (pose(shape[:, :68]), heads.points[:, :68] * self.size))
        return Prediction(identity, expression, rotation, scale, translation[:, :2], landmarks, seen)

    def reconstruct(self, image: Tensor) -> FaceParameters:
        p = self.predict(image)
        return FaceParameters(
            p.identity, p.expression, p.rotation, p.scale, flip_y(p.translation, self.size), p.landmarks
        )

    @torch.no_grad()
    def validate(self, device) -> dict[str, float]:
        """On held-out rendered faces: errors of landmarks and of the other taught vertices (dense) in the picture, percent of sqrt(w h) of the landmarks' box, the dense
        one also with identity, expression or pose replaced by the true one (the paper's case study); neutral shapes, mm after a similarity, of one picture, of the mean of
        four pictures of a person, and of the mean face.

        Without perspective a picture does not tell a small head from a large one, and a scale that is right for the predicted head is wrong for the true one. So the true identity
        is put in as large, and in the place, as the predicted one, and the true pose is the similarity that takes the predicted shape to the true vertices."""
        totals, people = {}, self.config.held_out // 4 + 1
        four = SyntheticGroups(self.model, self.size, 4, self.source.randomization)
        for k in range(0, people, 8):
            faces = four(HELD_OUT, k // 8, range(min(8, people - k)))
            p = self.predict(faces.image)
            true, posed = self._true(faces)
            box = (posed[:, :68, :2].amax(1) - posed[:, :68, :2].amin(1)).prod(-1).sqrt()
            here = Pose(p.scale, p.rotation, F.pad(p.translation, (0, 1)))

            def error(placed):
                return 100 * (placed - posed)[:, 68:, :2].norm(dim=-1).mean(1) / box

            mine, other = self.shape(p.identity, p.expression), self.shape(faces.identity, p.expression)

            values = {
                "nme_percent": 100 * (p.landmarks[..., :2] - faces.landmarks).norm(dim=-1).mean(1) / box,
                "nme_seen_percent": 100 * (p.seen[..., :2] - faces.landmarks).norm(dim=-1).mean(1) / box,
                "dense_nme_percent": error(here(mine)),
                "dense_nme_true_identity_percent": error(here(similarity(other, mine)(other))),
                "dense_nme_true_expression_percent": error(here(self.shape(p.identity, faces.expression))),
                "dense_nme_true_pose_percent": error(similarity(mine, posed)(mine)),
                "rotation_degrees": rotation_angle(p.rotation, faces.rotation).rad2deg(),
            }
            together = p.identity.unflatten(0, (-1, 4)).mean(1).repeat_interleave(4, 0)
            nothing = torch.zeros_like(faces.expression)
            wanted = self.shape(faces.identity, nothing)[:, 68:]
            for name, identity in (
                ("neutral_mm", p.identity),
                ("neutral_of_four_mm", together),
                ("neutral_of_mean_face_mm", torch.zeros_like(p.identity)),
            ):
                got = self.shape(identity, nothing)[:, 68:]
                values[name] = (similarity(got, wanted)(got) - wanted).norm(dim=-1).mean(1)
            for name, value in values.items():
                totals[name] = totals.get(name, 0) + value.sum() / (4 * people)
        return totals

    def visualize(self, batch) -> Tensor:
        """Rows: pictures with the landmarks that the head sees; the posed face on them; of frames, the other frame of the person carried over."""
        labelled, frames = batch
        image = labelled.image[:6] if frames is None else torch.cat([labelled.image[:3], frames.image[:4]])
        p = self.predict(image)
        linear = to_linear(image).permute(0, 2, 3, 1)
        vertices, topology, size = (
            self.model.shape(p.identity, p.expression),
            self.model.topology,
            (self.size, self.size),
        )
        clip = fr.camera.weak_perspective(vertices, p.scale, p.rotation, p.translation, size)
        normals = fr.vertex_normals(vertices, topology) @ p.rotation.mT
        clay = torch.tensor(CLAY, device=image.device).expand(1, vertices.shape[1], 3)
        drawn, _ = fr.render_face(
            clip,
            normals.contiguous(),
            clay.contiguous(),
            fr.lighting.studio(len(image), device=image.device),
            topology,
            size,
            background=linear.contiguous(),
        )
        rows = [draw_points(linear, p.seen[..., :2]), drawn]
        if frames is not None:
            alone = len(labelled.image[:3])
            posed = Pose(p.scale, p.rotation, F.pad(p.translation, (0, 1)))(vertices)[alone:]
            other = torch.arange(len(posed), device=image.device) ^ 1
            new, both = carried(linear[alone:][other].contiguous(), posed[other], posed, self.face_topology)
            rows.append(torch.cat([torch.zeros_like(linear[:alone]), new * both[..., None]]))
        return tile(torch.cat(rows), len(image))
