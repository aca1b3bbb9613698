"""Cycle as a method: its data, the losses of single frames and of the two cycles, and inference."""

import torch
from torch import Tensor

import facerender as fr
from facemodels.core.alignment import similarity
from facemodels.core.drawing import tile
from facemodels.core.errors import InputError
from facemodels.core.parameters import FaceParameters
from facemodels.core.seeding import seed_of
from facemodels.core.surface import gather_points
from facemodels.data import FaceBatch
from facemodels.data.clips import StoredClips, SyntheticClips, clips, rendered
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
from facemodels.methods.cycle.composition import albedo, compose, posed_surface
from facemodels.methods.cycle.network import Network
from facemodels.methods.cycle.properties import (
    VARIED,
    Pose,
    Properties,
    inject,
    reverse,
)
from facemodels.methods.cycle.settings import CYCLES, PRESETS, CycleConfig
from facemodels.methods.face_method import FaceMethod
from facemodels.networks.norm import frozen_bn_stats
from facemodels.training.method import Panel
from facerender.color import to_linear, to_srgb

HELD_OUT = 7_000_041  # seed of validation faces, whatever the seed of training
MIN_DEGREES, MIN_MM = 1.0, 0.1  # pairs that change by less do not count
NEUTRAL_STEP = 16  # neutral shapes are compared at every 16th vertex of the face

INNER_REGIONS = {"eyeballs", "mouth", "teeth", "tongue"}  # compared besides the face, where a model has them
GAP = (5, 50)  # frames from the first of a pair to the second
MAX_STRETCH = 30.0  # largest factor on a variation of expression


class Cycle(FaceMethod):
    """Cycle-consistency of dynamic faces, see the package.

    Attributes:
        network: the network with its four branches.
        size: side of the pictures in pixels.
        source: renders pairs of frames.
        face_index: int64 [K], the vertices of the face region.
        face_mask: [V] bool, the same vertices.
        compared_triangles: [F] bool, the triangles where renderings are compared to frames; all are drawn.
        inner_triangles: [F] bool, the triangles inside mouth and eyes.
    """

    name = "cycle"
    config_class = CycleConfig
    PRESETS = PRESETS
    monitor = "photometric"
    measured_on = "on held-out renderings"

    config: CycleConfig
    face_index: Tensor
    face_mask: Tensor
    compared_triangles: Tensor
    inner_triangles: Tensor
    landmark_rows: Tensor
    identity_gram: Tensor
    expression_gram: Tensor

    def __init__(self, config: CycleConfig) -> None:
        """Build the network about the morphable model.

        Raises:
            InputError: the model cannot be read, or lacks landmarks or the region "face".
        """
        super().__init__(config)
        m = self.model
        face = m.regions["face"].long()
        inside = torch.zeros(m.num_vertices, dtype=torch.bool)
        inside[face] = True
        self.register_buffer("face_index", face, persistent=False)
        self.register_buffer("face_mask", inside, persistent=False)
        compared = inside.clone()
        for region in INNER_REGIONS & m.regions.keys():
            compared[m.regions[region].long()] = True
        triangles = m.faces.long()
        self.register_buffer("compared_triangles", compared[triangles].all(1), persistent=False)
        inner = self.compared_triangles & ~inside[triangles].any(1)
        self.register_buffer("inner_triangles", inner, persistent=False)
        landmark_rows = gather_points(m.rows.view(-1, m.num_vertices, 3), m.landmark_index, m.landmark_weights)
        self.register_buffer("landmark_rows", landmark_rows, persistent=False)
        self.register_buffer("identity_gram", gram_matrix(m.identity_basis[:, face].flatten(1)), persistent=False)
        self.register_buffer("expression_gram", gram_matrix(m.expression_basis[:, face].flatten(1)), persistent=False)
        counts = (m.num_identity, m.num_expression, m.num_albedo)
        self.network = Network(config.trunk, config.separate, counts, m.blendshapes)
        self.size = self.network.size
        self.randomization = RandomizationConfig(yaw=config.yaw, box=(1.3, 1.55))
        self.source = SyntheticClips(m, self.size, 2, GAP, self.randomization)
        # A store that batches are taken from; None for faces that are new in every step.
        self.frames: StoredClips | None = None

    def prepare_data(self) -> None:
        """Read or render the frames.

        Raises:
            InputError: videos cannot be read, or have other landmarks than 68.
        """
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

    def batch(self, step: int, indices: range, device: torch.device) -> FaceBatch:
        """Return frames, two of a person in a row: pictures and, where they are known, landmarks."""
        c, pairs = self.config, range(indices.start // 2, indices.stop // 2)
        if self.frames:
            frames = self.frames(c.seed, step * c.batch // 2, pairs).to(device)
        else:
            frames = self.source(c.seed, step, pairs)
        return FaceBatch(frames.image, frames.landmarks)

    def landmarks_of(self, properties: Properties) -> Tensor:
        """The 68 landmarks [N,68,3] of posed faces, as `FaceParameters` has them."""
        p = properties
        coefficients = torch.cat([torch.ones_like(p.scale[:, None]), p.identity, p.expression], 1)
        points = (coefficients @ self.landmark_rows.flatten(1)).view(len(p.scale), -1, 3)
        return p.pixels(points, self.size)

    def render(self, properties: Properties) -> tuple[Tensor, Tensor]:
        """Render faces.

        Returns:
            sRGB [N,S,S,3], black behind the face, and the mask of what is compared to frames [N,S,S], 0 or 1.
        """
        surface = posed_surface(self.model, properties, self.size)
        image, face_id = fr.render_face(
            surface.clip,
            surface.normals,
            albedo(self.model, properties),
            properties.light,
            self.model.topology,
            (self.size, self.size),
        )
        mask = (face_id >= 0) & self.compared_triangles[face_id.clamp(min=0).long()]
        return to_srgb(image), mask.to(image.dtype)

    def pose_distance(self, first: Pose, second: Pose) -> Tensor:
        """Mean of the squared angle, plus those of the shift in sides and of the logarithm of the ratio of scales."""
        shift = (first.translation - second.translation) / self.size
        return (
            rotation_angle(first.rotation, second.rotation).square()
            + shift.square().sum(-1)
            + (first.scale / second.scale).log().square()
        ).mean()

    def forward(self, group: str, batch: FaceBatch, step: int, shared: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the losses by name, and "loss", their weighted sum; see `Method.forward`."""
        c = self.config
        images = batch.image.permute(0, 2, 3, 1).contiguous()
        predicted = self.network(batch.image).map(Tensor.float)
        rendered_too = step >= c.coarse or batch.landmarks is None or not c.weight_landmarks
        losses = self._frame_losses(predicted, images, batch.landmarks, rendered_too)
        weights = {
            "photometric": c.weight_photometric,
            "landmarks": c.weight_landmarks,
            "probable": c.weight_probable,
            "gamma": c.weight_gamma,
            "reflectance": c.weight_reflectance,
            "pair": c.weight_pair,
        }
        if step >= c.stage1:
            through = step >= c.stage1 + c.detached
            for cycle in c.cycles:
                first, second = predicted.pairs()
                losses |= self._cycle_losses(cycle, images[0::2], first, second, through, seed_of(c.seed, step))
                weight = c.weight_pose_cycle if cycle == "pose" else c.weight_expression_cycle
                weights |= {
                    f"{cycle}_picture": weight * c.weight_picture,
                    f"{cycle}_kept": weight * c.weight_kept,
                    f"{cycle}_kept_pose": weight * c.weight_angle,
                    f"{cycle}_variation": weight * (c.weight_angle if cycle == "pose" else c.weight_variation),
                }
        return {"loss": sum((weights[k] * v for k, v in losses.items()), torch.zeros(()))} | losses

    def _frame_losses(
        self, predicted: Properties, images: Tensor, landmarks: Tensor | None, rendered_too: bool
    ) -> dict[str, Tensor]:
        """The losses of single frames [N,S,S,3], and the agreement of the two frames of a pair."""
        c, m = self.config, self.model
        losses: dict[str, Tensor] = {}
        shown = predicted
        if c.pair == "swap":
            identity, albedo_coefficients = (
                v.unflatten(0, (-1, 2)).flip(1).flatten(0, 1) for v in (predicted.identity, predicted.albedo)
            )
            shown = predicted._replace(identity=identity, albedo=albedo_coefficients)
        if rendered_too:
            picture, mask = self.render(shown)
            losses["photometric"] = photometric_loss(picture, images, mask)
            if m.num_albedo:
                losses["reflectance"] = reflectance_loss(albedo(m, predicted), self.face_mask)
        if c.weight_landmarks and landmarks is not None:
            known = torch.isfinite(landmarks[..., :2]).all(-1)
            unit = self.size / 224
            losses["landmarks"] = landmark_loss(
                self.landmarks_of(shown)[..., :2] / unit,
                landmarks[..., :2] / unit,
                deep3d_landmark_weights(images.device) * known,
            )
        losses["probable"] = coefficient_loss(predicted.identity, predicted.expression, predicted.albedo)
        losses["gamma"] = gamma_loss(predicted.light)
        if c.pair == "distance":
            first, second = predicted.pairs()
            losses["pair"] = gram_loss(first.identity, second.identity, self.identity_gram) + _mean_square(
                first.albedo - second.albedo
            )
        return losses

    def _cycle_losses(
        self, cycle: str, images: Tensor, first: Properties, second: Properties, through: bool, seed: int
    ) -> dict[str, Tensor]:
        """The losses of one cycle.

        Args:
            cycle: "pose" or "expression".
            images: [N,S,S,3], the first frames.
            first: predicted properties of the first frames.
            second: predicted properties of the second frames.
            through: whether gradients flow through the composed picture J to the injected variation.
            seed: of random sizes of variations.
        """
        varied = VARIED[cycle]
        first, second = (p.detached(*varied) if through else p.detached() for p in (first, second))
        if cycle == "expression" and self.config.variation_mm:
            second = self.resize_variation(first, second, seed)
        variation, target = inject(cycle, first, second)
        mode = getattr(self.config, f"compose_{cycle}")
        picture = to_srgb(compose(mode, to_linear(images), first, target, self.model, self.inner_triangles))
        with frozen_bn_stats(self.network):
            extracted = self.network(picture.permute(0, 3, 1, 2).contiguous()).map(Tensor.float)
        reversed_picture, mask = self.render(reverse(extracted.detached(*varied), variation))
        losses = {"picture": photometric_loss(reversed_picture, images, mask)}
        first, target = first.detached(), target.detached()
        losses["kept"] = (
            gram_loss(extracted.identity, first.identity, self.identity_gram)
            + _mean_square(extracted.albedo - first.albedo)
            + _mean_square(extracted.light - first.light)
        )
        expression = gram_loss(extracted.expression, target.expression, self.expression_gram)
        if cycle == "pose":  # the distance of two variations is that of the poses: p1 is on both sides
            losses["variation"] = self.pose_distance(extracted.pose, target.pose)
            losses["kept"] = losses["kept"] + expression
        else:
            losses["variation"] = expression
            losses["kept_pose"] = self.pose_distance(extracted.pose, first.pose)
        return {f"{cycle}_{name}": value for name, value in losses.items()}

    def resize_variation(self, first: Properties, second: Properties, seed: int) -> Properties:
        """Draw another size for the variations of expression; their direction stays.

        The mean displacement of the face's vertices becomes 0.5 to 1.5 times `variation_mm`, but at most 30 times the
        predicted one, and expressions stay in their range. The size is independent of the predicted size, so only the
        direction has a gradient.

        Args:
            first: properties of the first frames.
            second: properties of the second frames.
            seed: of the sizes.

        Returns:
            `second` with other expressions.
        """
        random = torch.rand(len(first.scale), generator=torch.Generator().manual_seed(seed))
        size = random.to(first.scale, non_blocking=True) + 0.5
        predicted_mm = self.expression_mm(first.expression, second.expression)
        factor = self.config.variation_mm * size / predicted_mm.clamp(min=1e-6)
        difference = second.expression - first.expression
        expression = first.expression + factor.clamp(max=MAX_STRETCH)[:, None] * difference
        return second._replace(expression=expression.clamp(0, 1) if self.model.blendshapes else expression)

    def expression_mm(self, first: Tensor, second: Tensor) -> Tensor:
        """Mean distance [N] of the face's vertices between expressions [N,E], mm."""
        basis = self.model.expression_basis[:, self.face_index]
        return ((first - second) @ basis.flatten(1)).view(len(first), -1, 3).norm(dim=-1).mean(1)

    @torch.no_grad()
    def predict(self, image: Tensor) -> Properties:
        """Predict the properties of the faces in pictures.

        Args:
            image: [N,3,S,S], sRGB in 0..1, cropped as `core.crops.landmark_box` does; S is `size`.
        """
        return self.network(image).map(Tensor.float)

    @torch.no_grad()
    def reconstruct(self, image: Tensor) -> FaceParameters:
        """Predict the parameters of the faces in pictures, see `predict`."""
        properties = self.predict(image)
        return properties.parameters(self.landmarks_of(properties), self.size)

    def validate(self, device: torch.device) -> dict[str, Tensor]:
        """Measure errors and leaks on held-out rendered pairs, see `validation_errors`."""
        return validation_errors(self)

    def visualize(self, batch: FaceBatch) -> Panel:
        """Draw first frames, second frames and the rendering of the first; then three rows for each cycle."""
        images = batch.image[:12].permute(0, 2, 3, 1).contiguous()
        first, second = self.network(batch.image[:12]).map(Tensor.float).pairs()
        frame = to_linear(images[0::2])
        rows = [frame, to_linear(images[1::2]), self._render_over(frame, first)[0]]
        captions = ["first frame", "second frame", "predicted from the first frame"]
        for cycle in self.config.cycles:
            captions += [
                f"{cycle} cycle: first frame with the second's {cycle}",
                f"{cycle} cycle: predicted from that, {cycle} reversed",
                f"{cycle} cycle: difference from the first frame, doubled",
            ]
            resized = cycle == "expression" and self.config.variation_mm
            changed = self.resize_variation(first, second, 0) if resized else second
            variation, target = inject(cycle, first, changed)
            mode = getattr(self.config, f"compose_{cycle}")
            picture = compose(mode, frame, first, target, self.model, self.inner_triangles)
            extracted = self.network(to_srgb(picture).permute(0, 3, 1, 2).contiguous()).map(Tensor.float)
            reversed_picture, mask = self._render_over(frame, reverse(extracted, variation))
            difference = (2 * (to_srgb(reversed_picture) - images[0::2]).abs()).clamp(0, 1)
            rows += [picture, reversed_picture, to_linear(difference) * mask[..., None]]
        columns = [f"person {k + 1}" for k in range(len(frame))]
        return Panel(tile(torch.cat(rows), len(frame)), captions, columns)

    def _render_over(self, frame: Tensor, properties: Properties) -> tuple[Tensor, Tensor]:
        """Frames [N,S,S,3], linear, with rendered faces over them, and the mask of `render`."""
        picture, mask = self.render(properties)
        return torch.lerp(frame, to_linear(picture), mask[..., None]), mask


def _mean_square(difference: Tensor) -> Tensor:
    """Mean over the batch and the coefficients; 0 where there are none (a model without colors)."""
    return difference.square().sum() / max(difference.numel(), 1)


@torch.no_grad()
def validation_errors(method: Cycle) -> dict[str, Tensor]:
    """Measure errors on held-out rendered pairs.

    Args:
        method: the method; `config.held_out` is the number of frames.

    Returns:
        "photometric": mean color distance, sRGB in 0..1, where the face is rendered. "nme_percent": error of the 68
        landmarks, percent of sqrt(w h) of their box. Errors of rotation (degrees), expression and neutral shape (mm,
        the last after a similarity), and for comparison those of no expression and of the mean face. And `leaks`.
    """
    pairs = method.config.held_out // 2
    totals: dict[str, Tensor] = {}
    for k in range(0, pairs, 8):
        faces = method.source(HELD_OUT, k // 8, range(min(8, pairs - k)))
        assert faces.identity is not None and faces.expression is not None
        assert faces.rotation is not None and faces.landmarks is not None
        p = method.predict(faces.image)
        landmarks = method.landmarks_of(p)
        rendered, mask = method.render(p)
        images = faces.image.permute(0, 2, 3, 1)
        box = (faces.landmarks.amax(1) - faces.landmarks.amin(1)).prod(-1).sqrt()
        color_distances = [
            photometric_loss(rendered[n : n + 1], images[n : n + 1], mask[n : n + 1]) for n in range(len(images))
        ]
        values = {
            "photometric": torch.stack(color_distances),
            "nme_percent": 100 * (landmarks[..., :2] - faces.landmarks).norm(dim=-1).mean(1) / box,
            "rotation_degrees": rotation_angle(p.rotation, faces.rotation).rad2deg(),
            "expression_mm": method.expression_mm(p.expression, faces.expression),
            "expression_of_none_mm": method.expression_mm(torch.zeros_like(faces.expression), faces.expression),
            "neutral_mm": _neutral_mm(method, p.identity, faces.identity),
            "neutral_of_mean_face_mm": _neutral_mm(method, torch.zeros_like(faces.identity), faces.identity),
        }
        for name, value in values.items():
            totals[name] = totals.get(name, torch.zeros(())) + value.sum() / (2 * pairs)
    return totals | leaks(method, pairs)


def _neutral_mm(method: Cycle, predicted: Tensor, true: Tensor) -> Tensor:
    """Mean distance [N] of the face's vertices between identities [N,I] after a similarity, mm."""
    index = method.face_index[::NEUTRAL_STEP]
    shape, true_shape = (method.model.shape(identity)[:, index] for identity in (predicted, true))
    return (similarity(shape, true_shape)(shape) - true_shape).norm(dim=-1).mean(1)


@torch.no_grad()
def leaks(method: Cycle, pairs: int) -> dict[str, Tensor]:
    """Measure how pose leaks into expression and expression into pose, on pairs in which only one of them changes.

    Returns:
        Sums over the pairs. "expression_leak_mm_per_degree": how far the predicted expression moves when the pose alone
        changes, over the true change; "rotation_leak_degrees_per_mm": the other way round. "rotation_response" and
        "expression_response": how far the prediction of what changes itself moves, over the true change; 1 is right. A
        network that predicts the same for every picture leaks nothing either, but has a response of 0. Pairs that
        change by less than a degree or 0.1 mm do not count; a result is left out where no pair is left.
    """
    results: dict[str, Tensor] = {}
    for varied in CYCLES:
        source = SyntheticClips(method.model, method.size, 2, 1, method.randomization, only=varied)
        predicted_changes, true_changes = [], []
        for k in range(0, pairs, 8):
            faces = source(HELD_OUT, k // 8, range(min(8, pairs - k)))
            assert faces.rotation is not None and faces.expression is not None
            p = method.predict(faces.image)
            predicted_changes.append(_changes(method, p.rotation, p.expression))
            true_changes.append(_changes(method, faces.rotation, faces.expression)[CYCLES.index(varied)])
        degrees, mm = torch.cat(predicted_changes, 1)
        true = torch.cat(true_changes)
        enough = true > (MIN_DEGREES if varied == "pose" else MIN_MM)
        if not enough.any():
            continue
        total = true[enough].sum()
        if varied == "pose":
            results["expression_leak_mm_per_degree"] = mm[enough].sum() / total
            results["rotation_response"] = degrees[enough].sum() / total
        else:
            results["rotation_leak_degrees_per_mm"] = degrees[enough].sum() / total
            results["expression_response"] = mm[enough].sum() / total
    return results


def _changes(method: Cycle, rotation: Tensor, expression: Tensor) -> Tensor:
    """How far rotations (degrees) and expressions (mm) change from the first to the second frame of pairs: [2,N]."""
    return torch.stack(
        [
            rotation_angle(rotation[0::2], rotation[1::2]).rad2deg(),
            method.expression_mm(expression[0::2], expression[1::2]),
        ]
    )
