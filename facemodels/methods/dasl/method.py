"""2DASL itself: data, losses, inference and validation of a `DASL` about one morphable model."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

import facerender as fr
from facemodels.core.camera import scaled_orthography
from facemodels.core.drawing import CLAY, draw_points, tile
from facemodels.core.errors import InputError
from facemodels.core.landmarks import NUM_LANDMARKS, center_depth, eighteen_points
from facemodels.core.parameters import FaceParameters, flip_y
from facemodels.core.progress import progress
from facemodels.core.seeding import seed_of
from facemodels.core.surface import gather_points
from facemodels.data import FaceBatch
from facemodels.data.augment import AugmentConfig, augment
from facemodels.data.cache import Cached, Shuffled
from facemodels.data.counter_rng import CounterRNG
from facemodels.data.photographs import check_teacher_labels, photographs, read_teacher_labels
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from facemodels.data.tddfa import LP300W, lp300w
from facemodels.losses import (
    PointBasis,
    Whitening,
    mean_one,
    projected_points,
    rotation_angle,
    wpdc_loss,
)
from facemodels.methods.dasl.network import SIZE, Critic, Network, landmark_channel
from facemodels.methods.dasl.parameters import CAMERA, parameters_of, pose_of, reduce_basis
from facemodels.methods.dasl.schemes import (
    critic_training_loss,
    cycle_loss,
    l2d_loss,
    l3d_loss,
    self_critic_loss,
)
from facemodels.methods.dasl.settings import PRESETS, DASLConfig
from facemodels.methods.face_method import FaceMethod
from facemodels.networks import Trunk, fit_linear, load_weights
from facemodels.training.method import Panel
from facerender._checks import brief_repr
from facerender.color import to_linear

FEWEST = 5  # photographs
HELD_OUT = 7_000_019  # seed of validation faces, whatever the seed of training
# Weights of the 18 landmarks in l2d and cycle: the authors' released code.
POINT_WEIGHTS = (1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 2, 1, 1, 4, 1, 2, 4, 2)
# The ear lobe on the left of the picture, mm on the built-in model's mean face, where AFLW's labels of frontal faces
# lie; the other one is its mirror image.
LOBE = (-68.4, -40.0, -7.0)
LOBES_AND_CHIN = [12, 16, 20]  # among AFLW's 21 points
CHIN = 8  # among iBUG's 68 points
# Random changes of photographs in training.
PHOTOGRAPHS = AugmentConfig(rotation=12, scale=0.06, shift=0.035, covered=0.1, blurred=0.1, ended=0.2)
RENDERED = 4096  # renderings by which the last layer on a published trunk begins
OTHER_VERTICES = 132  # vertices besides the landmarks at which wpdc measures the effect of a parameter (Zhu et al.)


@brief_repr
class Prediction(NamedTuple):
    """What `DASL.predict` finds in N pictures.

    Attributes:
        parameters: The coefficients and the camera, whose rotation and scale are those of the 3x4 matrix as `pose_of`
            reads them; the landmarks are where the matrix itself puts them.
        raw: [N,62], raw parameters; y up.
        channel: Where the landmarks in the channel came from: "given" or "own first pass".
    """

    parameters: FaceParameters
    raw: Tensor
    channel: str


@brief_repr
class Batch(NamedTuple):
    """A batch of training samples.

    Attributes:
        labelled: Labeled faces.
        wild: In stage 2, pictures with landmarks, nothing else; None in stage 1.
        blank: [N] or [2N] bool, samples (labeled, then wild) whose channel stays empty in the first pass.
    """

    labelled: FaceBatch
    wild: FaceBatch | None
    blank: Tensor


@brief_repr
class Landmarks(NamedTuple):
    """The 68 landmarks of N faces.

    Attributes:
        head: [N,68,3], mm, of the head without its pose.
        pixels: [N,68,3], in the picture: pixels with y down, z toward the viewer.
    """

    head: Tensor
    pixels: Tensor


class DASL(FaceMethod):
    """2DASL about a morphable model."""

    name, config_class, PRESETS = "dasl", DASLConfig, PRESETS
    given = "the picture alone; the landmark channel holds those of the network's own first pass"
    monitor = "nme_percent"
    measured_on = "on held-out renderings, against their landmarks"
    size = SIZE
    optional = ("critic.",)

    config: DASLConfig
    rows: Tensor
    point_weights: Tensor
    lobe_rows: Tensor
    to_shape: Tensor
    from_shape: Tensor
    to_expression: Tensor
    from_expression: Tensor
    parameter_mean: Tensor
    parameter_std: Tensor

    def __init__(self, config: DASLConfig) -> None:
        """Build the networks and read the morphable model; its file is the only one that is read."""
        super().__init__(config)
        model = self.model
        assert model.landmark_index is not None and model.landmark_weights is not None  # FaceMethod checks them
        face, corners, weights = model.regions["face"], model.landmark_index.long(), model.landmark_weights
        rows = model.rows.view(-1, model.num_vertices, 3)
        # The model at the 68 landmarks, then at the vertices of the face.
        taught = torch.cat([gather_points(rows, corners, weights), rows[:, face.long()]], 1)
        self.register_buffer("rows", taught, persistent=False)
        point_weights = torch.tensor(POINT_WEIGHTS + (1, 1, 1) * config.extra, dtype=torch.float32)
        self.register_buffer("point_weights", point_weights, persistent=False)
        self.has_ears = "ears" in model.regions
        ears = model.regions["ears" if self.has_ears else "face"]
        lobes = torch.cdist(torch.tensor([LOBE, (-LOBE[0], *LOBE[1:])]), model.mean[ears]).argmin(1)
        self.register_buffer("lobe_rows", rows[:, ears[lobes]], persistent=False)
        # What directions the parameters stand for is saved: another machine's linear algebra may find others.
        for name, matrix in reduce_basis(model)._asdict().items():
            self.register_buffer(name, matrix)
        outputs = CAMERA + len(self.from_shape) + len(self.from_expression)
        self.register_buffer("parameter_mean", torch.zeros(outputs))  # of whitening, see `initialize`
        self.register_buffer("parameter_std", torch.ones(outputs))
        self.network = Network(config.trunk, outputs)
        self.critic = Critic(outputs, config.trunk == "light") if "critic" in config.schemes else None
        self.source: Synthetic[CounterRNG] = Synthetic(
            model, SIZE, RandomizationConfig(yaw=config.yaw, box=(1.3, 1.55))
        )
        # Stores that batches are drawn from; None: new renderings in every step.
        self.labelled: Shuffled | None = None
        self.wild: Shuffled | None = None
        # Photographs for validation, and the teacher's landmarks of them.
        self.held: FaceBatch | None = None
        self.held_taught: Tensor | None = None

    def initialize(self) -> None:
        """Set the whitening, from the labels that are trained on; or take it and all weights from `config.start`."""
        c = self.config
        if c.start:
            super().initialize()
            return
        if c.weights:
            try:
                load_weights(self.network.trunk, c.weights, skip=("fc",))
            except InputError as error:
                found = str(error).partition("; skip=")[0]  # the end is for Python
                raise InputError(
                    f"weights={c.weights}: not those of trunk={c.trunk}; give another trunk, or a whole checkpoint of "
                    f"2DASL as start ({found})"
                ) from None
        if c.labelled == "synthetic":
            labels = [self.source.labels(c.seed, k, range(256)) for k in range(8)]
            raw = torch.cat([self.raw_parameters(faces) for faces in labels])
        else:
            self._read_wild()  # before 300W-LP, which takes minutes
            faces = self._read_labelled().faces
            raw = self.raw_parameters(replace(faces, image=faces.image[:, :, :0]).to(self.rows.device))
        self.parameter_mean.copy_(raw.mean(0))
        self.parameter_std.copy_(torch.where(raw.std(0) > 1e-8, raw.std(0), 1.0))
        if c.weights and c.labelled == "synthetic" and not self.network.light:
            self._fit_last_layer()

    @torch.no_grad()
    def _fit_last_layer(self) -> None:
        """Begin with the last layer that a regression on renderings gives.

        From a random one, the first steps would destroy what the trunk's weights know.
        """
        trunk, features, targets = cast(Trunk, self.network.trunk).eval(), [], []
        assert trunk.fc is not None  # of all trunks but the light one
        for k in progress(range(RENDERED // 64), "fitting the last layer"):
            faces = self.source(seed_of(self.config.seed, 2), k, range(64))
            blank = landmark_channel(faces.image.new_zeros(64, 1, 2), torch.zeros(64, 1, dtype=torch.bool))
            features.append(trunk(self.network.inputs(faces.image, blank)).pooled)
            targets.append(self.whitening.whitened(self.raw_parameters(faces)))
        trunk.train()
        fit_linear(trunk.fc, torch.cat(features), torch.cat(targets))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the network's parameters and, for the scheme, the critic's, which are trained in turn."""
        groups = {"network": list(self.network.parameters())}
        if self.critic is not None:
            groups["critic"] = list(self.critic.parameters())
        return groups

    def is_active(self, group: str, step: int) -> bool:
        """Whether a group is updated in a step: the critic is in stage 2."""
        return group != "critic" or step >= self.config.stage1

    # Data

    def _read_labelled(self) -> Shuffled:
        if self.labelled is None:
            path = Path(self.config.labelled)
            faces = lp300w(path, SIZE, self.config.model, self.config.kept or None)
            assert faces.identity is not None and faces.expression is not None
            counts = faces.identity.shape[1], faces.expression.shape[1]
            if counts != (self.model.num_identity, self.model.num_expression):
                raise InputError(
                    f"{path}: labeled with a model of {counts[0]} identity and {counts[1]} expression modes, and "
                    f"{self.model.name} has others; give its Basel model with model="
                )
            self.labelled = Shuffled(faces)
        return self.labelled

    def prepare_data(self) -> None:
        """Read photographs, render what is cached. `held_out` photographs are for validation, the same in every run."""
        c = self.config
        self._read_wild()  # first: what is wrong with files should not be found after minutes of rendering
        if c.labelled != "synthetic":
            self._read_labelled()
        elif c.cache:
            self.labelled = Cached(self.source, c.seed, c.cache)
        if c.wild == "synthetic" and c.schemes and c.cache and c.stage1 < c.steps:
            self.wild = Cached(self.source, seed_of(c.seed, 1), c.cache)

    def _read_wild(self) -> None:
        c = self.config
        if c.wild == "synthetic" or self.wild is not None:
            return
        # Cheap checks of the other files, before thousands of photographs are read.
        if c.teacher:
            check_teacher_labels(c.teacher)
        if c.labelled != "synthetic":
            LP300W(c.labelled)
        faces = photographs(Path(c.wild), c.kept or None)
        if len(faces) < FEWEST:
            raise InputError(f"{c.wild}: {len(faces)} pictures can be used, and at least {FEWEST} are needed")
        held_out = c.held_out if 2 * c.held_out <= len(faces) else len(faces) // 5
        order = torch.randperm(len(faces), generator=torch.Generator().manual_seed(HELD_OUT))
        held, taken = order[:held_out], order[held_out:]
        self.held = faces[held]
        self.measured_on = f"on {held_out} held-out pictures, 18 landmarks of each against those in {c.wild}"
        # By the pictures' own points, because a teacher predicts all points.
        assert faces.visible is not None
        hidden = 1 - eighteen_points(faces.visible[..., None].float())[..., 0].eq(1).float().mean(1)
        if c.teacher:
            points = read_teacher_labels(c.teacher, faces)
            visible = points.isfinite().all(-1)
            faces = replace(faces, landmarks=points, visible=visible)
            self.held_taught = points[held]
            taken = taken[visible[taken].any(1)]
            if not len(taken):
                raise InputError(
                    f"{c.teacher}: holds no landmarks of the photographs that are trained on; make it anew with a "
                    "higher --worst"
                )
        self.wild = Shuffled(faces, torch.cat([taken] + (c.profiles - 1) * [taken[hidden[taken] >= 1 / 3]]))

    def data_notes(self) -> list[str]:
        """Return how many of the landmarks of photographs are compared."""
        c = self.config
        comparing = [scheme for scheme in ("l2d", "cycle") if scheme in c.schemes]
        if self.held is None or not comparing:
            return []
        assert self.held.landmarks is not None
        count = 68 if c.teacher else self.held.landmarks.shape[1]
        begins = f"{' and '.join(comparing)} {'compare' if len(comparing) > 1 else 'compares'}"
        if not c.extra:
            return [
                f"{begins} 18 of the {count} landmarks of each picture, without "
                + ("the jaw, the lids and most of the lips" if count == 68 else "the chin and the ear lobes")
                + "; extra=true compares all"
                + (", where the jaw is marked at places of the head" if count == 68 else "")
            ]
        if count == 21 and not self.has_ears:
            return [f"{begins} 19 of the 21 landmarks of each picture, since {self.model.name} has no ears"]
        whose = f"that the teacher gives ({c.teacher})" if c.teacher else "of each picture"
        return [f"{begins} all {count} landmarks {whose}"]

    def batch(self, step: int, indices: range, device: torch.device) -> Batch:
        """Make a part of a step's batch: labeled faces and, in stage 2, as many pictures with 2D landmarks."""
        c, seed = self.config, seed_of(self.config.seed, 1)
        if self.labelled:
            labelled = self.labelled(c.seed, step * c.batch, indices).to(device)
        else:
            labelled = self.source(c.seed, step, indices)
        wild, sets = None, 1
        if c.schemes and step >= c.stage1:
            sets = 2
            if self.wild:
                wild = self.wild(seed, step * c.batch, indices).to(device)
            else:
                wild = self.source(seed, step, indices)
            if c.wild != "synthetic":
                wild = augment(wild, seed, step, indices, PHOTOGRAPHS)
            wild = FaceBatch(wild.image, wild.landmarks, wild.visible)
        blank = [seed_of(c.seed, 2 + k, step, i) % 2**24 < c.blank * 2**24 for k in range(sets) for i in indices]
        return Batch(labelled, wild, torch.tensor(blank).to(device, non_blocking=True))

    # The 62 parameters

    def raw_parameters(self, faces: FaceBatch) -> Tensor:
        """Return the raw parameters [N,62] of labeled faces."""
        return parameters_of(faces, self.to_shape, self.to_expression)

    @property
    def whitening(self) -> Whitening:
        """Mean and standard deviation of the raw parameters."""
        return Whitening(self.parameter_mean, self.parameter_std)

    def points(self, where: Tensor | slice) -> PointBasis:
        """Return the reduced model at some of its points: the 68 landmarks, then the vertices of the face."""
        return self._reduced(self.rows[:, where])

    def _reduced(self, rows: Tensor) -> PointBasis:
        """Return the reduced model at points where the morphable model has the rows [1+I+E,P,3]."""
        shape, expression = (
            (back @ rows[k : k + back.shape[1]].flatten(1)).view(len(back), -1, 3)
            for back, k in ((self.from_shape, 1), (self.from_expression, 1 + self.from_shape.shape[1]))
        )
        return PointBasis(rows[0], shape, expression)

    def landmarks_of(self, q: Tensor, points: PointBasis | None = None) -> Landmarks:
        """Return the landmarks of whitened parameters.

        Args:
            q: [N,62].
            points: The reduced model at the landmarks; None: it is computed.
        """
        raw, points = self.whitening.raw(q), points or self.points(slice(0, NUM_LANDMARKS))
        basis = torch.cat([points.shape, points.expression]).flatten(1)
        head = points.mean + (raw[:, CAMERA:] @ basis).view(-1, 68, 3)
        return Landmarks(head, flip_y(projected_points(raw, points), SIZE))

    # Losses

    def forward(self, group: str, batch: Batch, step: int, shared: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the losses of the network or of the critic.

        The network leaves `shared["parameters"]` to the critic: whitened parameters [N,62] of the pictures in the wild.
        """
        labelled, wild, blank = batch
        if group == "critic":
            assert self.critic is not None and wild is not None
            true = self.whitening.whitened(self.raw_parameters(labelled))
            return {
                "loss": critic_training_loss(
                    self.critic(labelled.image, true), self.critic(wild.image, shared["parameters"])
                )
            }
        c, n, given = self.config, len(labelled), [f for f in (labelled, wild) if f is not None]
        both = torch.cat([f.image for f in given])
        known = [_eighteen(f) for f in given]
        points, shown = (torch.cat(t) for t in zip(*known))
        q = self.network(both, landmark_channel(points, shown & ~blank[:, None], form=c.channel))
        # The points at which the effect of a parameter is measured: the landmarks, and others, drawn anew.
        generator = torch.Generator().manual_seed(seed_of(c.seed, step))
        others = 68 + torch.randperm(self.rows.shape[1] - 68, generator=generator)[:OTHER_VERTICES]
        where = torch.cat([torch.arange(68), others]).to(points.device, non_blocking=True)
        true = self.whitening.whitened(self.raw_parameters(labelled))
        parts = {"l3d_labelled": wpdc_loss(q[:n], true, self.whitening, self.points(where))}
        parts["loss"] = parts["l3d_labelled"]
        if wild is None:
            return parts
        first = q[n:]
        shared["parameters"] = first.detach()
        schemes, second = self.scheme_losses(first, wild, *known[1])
        parts |= schemes
        parts["loss"] = parts["loss"] + sum(getattr(c, f"weight_{s}") * parts[s] for s in c.schemes)
        if c.weight_prior:
            passes = [first, second] if second is not None else [first]
            parts["prior"] = torch.cat(passes)[:, CAMERA:].square().mean()
            parts["loss"] = parts["loss"] + c.weight_prior * parts["prior"]
        return parts

    def scheme_losses(
        self, first: Tensor, wild: FaceBatch, eighteen: Tensor, visible: Tensor
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Make the second pass, and compute the losses of the chosen schemes (`schemes`) on pictures in the wild.

        Args:
            first: [N,62], whitened parameters of the first pass.
            wild: The pictures.
            eighteen: [N,18,2], their landmarks.
            visible: [N,18], which of them are known.

        Returns:
            Losses by scheme, and whitened parameters of the second pass, if there is one.
        """
        c, losses, second = self.config, {}, None
        known, weights = self._known_points(wild, eighteen, visible)
        landmarks = self.landmarks_of(first)
        y2d = eighteen_points(landmarks.pixels[..., :2])
        if "l2d" in c.schemes:
            compared = self.compared_points(first, landmarks.pixels, known)
            losses["l2d"] = l2d_loss(compared, known, weights, c.unit, c.squared)
        if "l3d" in c.schemes or "cycle" in c.schemes:
            everything = torch.ones_like(y2d[..., 0], dtype=torch.bool)
            second = self.network(wild.image, landmark_channel(y2d, everything, form=c.channel))
            again = self.landmarks_of(second)
            if "l3d" in c.schemes:
                losses["l3d"] = l3d_loss(again.head, landmarks.head)
            if "cycle" in c.schemes:
                compared = self.compared_points(second, again.pixels, known)
                losses["cycle"] = cycle_loss(compared, known, weights, c.unit, c.squared)
        if self.critic is not None:
            losses["critic"] = self_critic_loss(self.critic(wild.image, first))
        return losses, second

    def _known_points(self, wild: FaceBatch, eighteen: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return the known points [N,P,2|3] that l2d and cycle compare, and their weights [N,P], of mean 1.

        They are the 18 points; with `extra`, all 68 with their depth about its mean, or the 18, lobes and chin.
        """
        known, seen = eighteen, visible
        assert wild.landmarks is not None and wild.visible is not None
        if self.config.extra and wild.landmarks.shape[1] == 68:
            known, seen = center_depth(wild.landmarks), wild.visible
        elif self.config.extra:
            others, others_seen = self.lobes_and_chin(wild)
            known, seen = torch.cat([known, others], 1), torch.cat([seen, others_seen], 1)
        return known, mean_one(seen.float() if seen.shape[1] == 68 else self.point_weights * seen)

    def lobes_and_chin(self, faces: FaceBatch) -> tuple[Tensor, Tensor]:
        """Return ear lobes and chin [N,3,2] among AFLW's points, and which of them are known [N,3]."""
        assert faces.landmarks is not None and faces.visible is not None
        known = faces.visible[:, LOBES_AND_CHIN].clone()
        known[:, :2] &= self.has_ears
        return faces.landmarks[:, LOBES_AND_CHIN], known

    def compared_points(self, q: Tensor, pixels: Tensor, known: Tensor) -> Tensor:
        """Return the predicted points that correspond to known ones, see `_known_points`.

        Args:
            q: [N,62], whitened parameters.
            pixels: [N,68,3], their landmarks in the picture.
            known: [N,P,2|3].
        """
        if known.shape[1] == 68:
            return center_depth(pixels[..., : known.shape[2]])
        points = eighteen_points(pixels[..., :2])
        if not self.config.extra:
            return points
        lobes = projected_points(self.whitening.raw(q), self._reduced(self.lobe_rows))
        return torch.cat([points, flip_y(lobes[..., :2], SIZE), pixels[:, CHIN : CHIN + 1, :2]], 1)

    # Inference

    @torch.no_grad()
    def predict(self, image: Tensor, landmarks: Tensor | None = None) -> Prediction:
        """Predict the faces of pictures.

        Args:
            image: [N,3,120,120], sRGB in 0..1, cropped as `core.crops.landmark_box` does.
            landmarks: [N,68,2] or [N,21,2], pixels, for the channel; NaN where unknown. None: those of a first pass
                with an empty channel.
        """
        channel = "own first pass" if landmarks is None else "given"
        form, basis = self.config.channel, self.points(slice(0, NUM_LANDMARKS))
        if landmarks is None:
            nothing = torch.zeros(len(image), 18, 2, device=image.device)
            empty = landmark_channel(nothing, torch.zeros_like(nothing[..., 0], dtype=torch.bool), form=form)
            landmarks = self.landmarks_of(self.network(image, empty), basis).pixels[..., :2]
        points = eighteen_points(landmarks.float())
        q = self.network(image, landmark_channel(points, points.isfinite().all(-1), form=form)).float()
        raw = self.whitening.raw(q)
        rotation, scale, translation = pose_of(raw)
        shape, expression = raw[:, CAMERA:].split([len(self.from_shape), len(self.from_expression)], 1)
        return Prediction(
            FaceParameters(
                shape @ self.from_shape,
                expression @ self.from_expression,
                rotation,
                scale,
                flip_y(translation, SIZE),
                self.landmarks_of(q, basis).pixels,
            ),
            raw,
            channel,
        )

    @torch.no_grad()
    def reconstruct(self, image: Tensor) -> FaceParameters:
        """Reconstruct the faces of pictures, see `FaceMethod.reconstruct`.

        The landmarks are those of the 3x4 matrix, which is more than a rotation and a scale. The camera is the rotation
        and scale that put the landmarks of the shape nearest to them.
        """
        p = self.predict(image).parameters
        expression = p.expression.clamp(0, 1) if self.model.blendshapes else p.expression
        coefficients = torch.cat([torch.ones_like(p.scale)[:, None], p.identity, expression], 1)
        points = (coefficients @ self.rows[:, :NUM_LANDMARKS].flatten(1)).view(-1, NUM_LANDMARKS, 3)
        target = flip_y(p.landmarks[..., :2], SIZE)
        scale, rotation, translation = scaled_orthography(
            points, target, p.landmarks[..., 2], steps=5
        )  # few steps, because it begins near the solution
        return FaceParameters(p.identity, expression, rotation, scale, flip_y(translation[:, :2], SIZE), p.landmarks)

    def landmarks(self, image: Tensor) -> Tensor:
        """Return the landmarks [N,68,3] of pictures by the 3x4 matrix."""
        return self.predict(image).parameters.landmarks

    @torch.no_grad()
    def validate(self, device: torch.device) -> dict[str, Tensor]:
        """Measure errors on held-out faces, no landmarks given.

        Returns:
            nme_synthetic_percent: Mean distance of landmarks of renderings, percent of sqrt(w h) of their box.
            shape_mm, shape_of_mean_face_mm: Mean distance of the face's vertices, without pose, of the prediction and
                of the mean face.
            rotation_degrees: Mean angle between predicted and true rotation.
            nme_percent: Of held-out photographs if there are any, else as nme_synthetic_percent. Of photographs, the
                mean distance of the 18 points, percent of the box's side that the crop implies (120 / sqrt 2 pixels,
                see `landmark_box`), because the 68 points are not known.
            nme_taught_percent: The same of all 68 points, to the teacher's.
        """
        totals: dict[str, Tensor] = {}
        block, count = 32, self.config.held_out
        for k in range(0, count, block):
            faces = self.source(HELD_OUT, k // block, range(min(block, count - k)))
            for name, values in self._synthetic_errors(faces).items():
                totals[name] = totals.get(name, 0) + values.sum() / count
        if self.held is None:
            return totals | {"nme_percent": totals["nme_synthetic_percent"]}
        error, taught = [], []
        for k in range(0, len(self.held), block):
            faces = self.held[k : k + block].to(device)
            assert faces.landmarks is not None
            got = self.landmarks(faces.image.float() / 255)[..., :2]
            error.append((eighteen_points(got) - eighteen_points(faces.landmarks[..., :2])).norm(dim=-1).nanmean(1))
            if self.held_taught is not None:
                taught.append((got - self.held_taught[k : k + block, :, :2].to(device)).norm(dim=-1).mean(1))
        results = {"nme_percent": error} | ({"nme_taught_percent": taught} if taught else {})
        return totals | {name: torch.cat(values).nanmean() * 100 / (SIZE / 2**0.5) for name, values in results.items()}

    def _synthetic_errors(self, faces: FaceBatch) -> dict[str, Tensor]:
        """Return errors [N] of renderings by name."""
        assert faces.landmarks is not None and faces.rotation is not None
        assert faces.identity is not None and faces.expression is not None
        p = self.predict(faces.image).parameters
        box = faces.landmarks.amax(1) - faces.landmarks.amin(1)
        distance = (p.landmarks[..., :2] - faces.landmarks).norm(dim=-1).mean(1) / box.prod(-1).sqrt()
        offsets = self.rows[1:, 68:].flatten(1)
        true, got = torch.cat([faces.identity, faces.expression], 1), torch.cat([p.identity, p.expression], 1)
        shape = [(d @ offsets).view(len(d), -1, 3).norm(dim=-1).mean(1) for d in (got - true, true)]
        return {
            "nme_synthetic_percent": 100 * distance,
            "shape_mm": shape[0],
            "shape_of_mean_face_mm": shape[1],
            "rotation_degrees": rotation_angle(p.rotation, faces.rotation).rad2deg(),
        }

    def visualize(self, batch: Batch) -> Panel:
        """Draw predictions without given landmarks, of labeled pictures and then of those in the wild."""
        some = [f[: 6 // (1 + (batch.wild is not None))] for f in (batch.labelled, batch.wild) if f is not None]
        image = torch.cat([f.image for f in some])
        given = torch.cat([_eighteen(f)[0] for f in some])
        p = self.predict(image)
        rotation, scale, translation = pose_of(p.raw)
        linear = to_linear(image).permute(0, 2, 3, 1)
        vertices = self.model.shape(p.parameters.identity, p.parameters.expression)
        topology, size = self.model.topology, (SIZE, SIZE)
        clip = fr.camera.weak_perspective(vertices, scale, rotation, translation, size)
        normals = fr.vertex_normals(vertices, topology) @ rotation.mT
        clay = torch.tensor(CLAY, device=image.device).expand(1, vertices.shape[1], 3)
        light = fr.lighting.studio(len(image), device=image.device)
        drawn, _ = fr.render_face(clip, normals, clay, light, topology, size, background=linear)
        rows = [draw_points(linear, given), drawn, draw_points(linear, p.parameters.landmarks[..., :2])]
        captions = ("picture and its known points", "predicted face", "predicted landmarks")
        columns = [kind for kind, f in zip(("labeled", "2D points alone"), some) for _ in range(len(f))]
        return Panel(tile(torch.cat(rows), len(image)), captions, columns)


def _eighteen(faces: FaceBatch) -> tuple[Tensor, Tensor]:
    """Return the 18 points [N,18,2] of faces and which of them are visible [N,18]."""
    assert faces.landmarks is not None and faces.visible is not None
    visible = eighteen_points(faces.visible[..., None].float())[..., 0] > 0.5
    return eighteen_points(faces.landmarks[..., :2]), visible
