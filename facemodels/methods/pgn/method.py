"""PGN as a method: its data, its losses in the order of the paper's equation, and inference."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import facerender as fr
from facemodels.core.alignment import similarity
from facemodels.core.drawing import BACKGROUND, CLAY, draw_points, tile
from facemodels.core.errors import InputError
from facemodels.core.parameters import FaceParameters, flip_y
from facemodels.core.seeding import seed_of
from facemodels.core.surface import gather_points
from facemodels.data import FaceBatch
from facemodels.data.cache import Cached, Shuffled
from facemodels.data.clips import StoredClips, SyntheticGroups, clips, rendered
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from facemodels.data.tddfa import LP300W, lp300w
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
from facemodels.methods.pgn.network import Heads, Network, vertex_uv
from facemodels.methods.pgn.pose import (
    LOG_SCALE,
    HeadPose,
    guided_pose,
    labeled_pose,
    pose_targets,
    regressed_pose,
)
from facemodels.methods.pgn.reprojection import reproject
from facemodels.methods.pgn.settings import PRESETS, PGNConfig
from facemodels.training.method import Panel
from facerender._checks import brief_repr
from facerender.color import to_linear

HELD_OUT = 7_000_037  # seed of validation faces, whatever the seed of training

POINTS = 256  # vertices of the face, besides the landmarks, at which maps and shapes are taught


@brief_repr
class Prediction(NamedTuple):
    """What PGN predicts for N pictures.

    Attributes:
        parameters: of the faces; the landmarks are those of the posed model.
        pose: the same pose in the network's convention: y up, and with a depth.
        head_landmarks: [N,68,3], the output of the landmark head: pixels with y down, z toward the viewer.
    """

    parameters: FaceParameters
    pose: HeadPose
    head_landmarks: Tensor


class PGN(FaceMethod):
    """The pose guidance network, see the package.

    Attributes:
        network: the encoder with its heads.
        size: side of the pictures in pixels.
        source: renders labeled faces.
        groups: renders frames of one person.
    """

    name = "pgn"
    config_class = PGNConfig
    PRESETS = PRESETS
    monitor = "dense_nme_percent"
    measured_on = "on held-out renderings"

    config: PGNConfig
    point_rows: Tensor
    identity_gram: Tensor
    expression_gram: Tensor

    def __init__(self, config: PGNConfig) -> None:
        """Build the network about the morphable model.

        Raises:
            InputError: the model cannot be read, or lacks landmarks, the region "face" or, for a position map, texture
                coordinates.
        """
        super().__init__(config)
        m = self.model
        if config.landmarks == "map" and m.uv is None:
            raise InputError(
                f"{config.model}: {m.name} has no texture coordinates for a position map; landmarks=direct does without"
            )
        face, corners, weights = m.regions["face"].long(), m.landmark_index.long(), m.landmark_weights
        others = face[torch.linspace(0, len(face) - 1, POINTS).long()]
        rows = m.rows.view(-1, m.num_vertices, 3)
        # The model at the 68 landmarks, then at some vertices of the face.
        basis = torch.cat([gather_points(rows, corners, weights), rows[:, others]], 1)
        self.register_buffer("point_rows", basis.flatten(1), persistent=False)
        identity_gram = gram_matrix(shape_alone(m.identity_basis[:, face], m.mean[face]).flatten(1))
        self.register_buffer("identity_gram", identity_gram, persistent=False)
        self.register_buffer("expression_gram", gram_matrix(m.expression_basis[:, face].flatten(1)), persistent=False)
        uv = None
        if config.landmarks == "map":
            uv = vertex_uv(m)
            uv = torch.cat([(uv[corners] * weights[..., None]).sum(1), uv[others]])
        mean_points = basis[0, : 68 if uv is None else None] * (math.exp(LOG_SCALE) / 1000)
        mean_points = mean_points - mean_points[:68].mean(0) + mean_points.new_tensor([0.5, 0.5, 0.0])
        regressed = config.pose == "regressed"
        self.network = Network(config.trunk, m.num_identity, m.num_expression, uv, mean_points, regressed)
        self.size = self.network.size
        inside = torch.zeros(m.num_vertices, dtype=torch.bool)
        inside[face] = True
        self.face_topology = fr.Topology(m.faces[inside[m.faces.long()].all(1)], m.num_vertices)
        randomization = RandomizationConfig(yaw=config.yaw, box=(1.3, 1.55))
        self.source: Synthetic = Synthetic(m, self.size, randomization)
        self.groups = SyntheticGroups(m, self.size, 2, randomization)
        # Stores that batches are taken from; None for faces that are new in every step.
        self.labelled: Shuffled | None = None
        self.frames: StoredClips | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PGN":
        super()._apply(fn, recurse)
        self.face_topology = self.face_topology.to(self.point_rows.device)
        return self

    def prepare_data(self) -> None:
        """Read or render the labeled pictures, and the frames of one person if there is a stage 2.

        Raises:
            InputError: data cannot be read.
        """
        c = self.config
        # Files before renderings, and the list of 300W-LP's before all: a wrong path is found at once.
        if c.labelled != "synthetic":
            LP300W(c.labelled)
        if c.stage1 < c.steps and c.frames != "synthetic":
            self.frames = clips(c.frames, self.size, gap=None)
        if c.labelled != "synthetic":
            self.labelled = Shuffled(lp300w(Path(c.labelled), self.size, c.model))
        elif c.cache:
            self.labelled = Cached(self.source, c.seed, c.cache)
        if c.stage1 < c.steps and c.frames == "synthetic" and c.cache:
            self.frames = rendered(self.groups, seed_of(c.seed, 1), c.cache // 2)

    def batch(self, step: int, indices: range, device: torch.device) -> tuple[FaceBatch, FaceBatch | None]:
        """Return labeled faces and, from stage 2 on, pictures of as many frames: two of a person in a row."""
        c = self.config
        if self.labelled:
            labeled = self.labelled(c.seed, step * c.batch, indices).to(device)
        else:
            labeled = self.source(c.seed, step, indices)
        if step < c.stage1:
            return labeled, None
        pairs, seed = range(indices.start // 2, indices.stop // 2), seed_of(c.seed, 1)
        if self.frames:
            frames = self.frames(seed, step * c.batch // 2, pairs).to(device)
        else:
            frames = self.groups(seed, step, pairs)
        return labeled, FaceBatch(frames.image)

    def face_points(self, identity: Tensor, expression: Tensor) -> Tensor:
        """The taught points of heads.

        Args:
            identity: [N,I] coefficients.
            expression: [N,E] coefficients.

        Returns:
            [N,68+256,3] mm: the landmarks, then vertices of the face.
        """
        one = identity.new_ones(len(identity), 1)
        return (torch.cat([one, identity, expression], 1) @ self.point_rows).view(len(identity), -1, 3)

    def pose(self, points: Tensor, heads: Heads) -> HeadPose:
        """Solve for the pose from the predicted landmarks, or take the regressed one.

        Args:
            points: [N,P,3] mm, points of the heads; the first 68 are the landmarks.
            heads: outputs of the network.
        """
        if heads.pose is None:
            return guided_pose(points[:, :68], heads.points[:, :68] * self.size)
        return regressed_pose(heads.pose, self.size)

    def labeled_points(self, faces: FaceBatch) -> tuple[Tensor, Tensor]:
        """The taught points [N,P,3] of labeled faces: on the head, millimeters; in the picture, pixels with y up."""
        assert faces.identity is not None and faces.expression is not None
        points = self.face_points(faces.identity, faces.expression)
        return points, labeled_pose(faces)(points)

    def forward(
        self, group: str, batch: tuple[FaceBatch, FaceBatch | None], step: int, shared: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the losses by name, and "loss", their weighted sum; see `Method.forward`."""
        labeled, frames = batch
        c, n = self.config, len(labeled)
        heads = self.network(torch.cat([f.image for f in batch if f is not None])).map(Tensor.float)
        losses = self._supervised_losses(heads.map(lambda v: v[:n]), labeled)
        if frames is not None:
            losses |= self._consistency_losses(heads.map(lambda v: v[n:]), frames.image.permute(0, 2, 3, 1))
        weights = {
            "landmarks": c.weight_landmarks,
            "coefficients": c.weight_coefficients,
            "vertices": c.weight_vertices,
            "pose": 1.0,
            "2d": c.weight_2d,
            "identity": c.weight_identity,
            "swap": c.weight_swap,
            "census": c.weight_census,
            "probable": c.weight_probable,
        }
        return {"loss": sum((weights[k] * v for k, v in losses.items()), torch.zeros(()))} | losses

    def _supervised_losses(self, heads: Heads, faces: FaceBatch) -> dict[str, Tensor]:
        """L_lmk, L_param and L_vert of labeled faces; for the baseline also the error of the regressed pose."""
        assert faces.identity is not None and faces.expression is not None
        _, target = self.labeled_points(faces)
        predicted = heads.points * self.size
        points = self.face_points(heads.identity, heads.expression)
        losses = {"landmarks": self._point_loss(predicted[:, :68], target[:, :68])}
        if predicted.shape[1] > 68:  # the other points of a map, which have the origin of depth of the landmarks
            others, other_targets = (
                p[:, 68:] - F.pad(p[:, :68, 2:].mean(1, keepdim=True), (2, 0)) for p in (predicted, target)
            )
            unit = torch.ones(POINTS, device=points.device)
            other_loss = landmark_loss(others * 100 / self.size, other_targets * 100 / self.size, unit)
            losses["landmarks"] = (losses["landmarks"] + other_loss) / 2
        losses["coefficients"] = gram_loss(heads.identity, faces.identity, self.identity_gram) + 5 * gram_loss(
            heads.expression, faces.expression, self.expression_gram
        )
        losses["vertices"] = self._point_loss(self.pose(points, heads)(points), target)
        if heads.pose is not None:
            losses["pose"] = (heads.pose - pose_targets(faces, self.size)).square().mean()
        return losses

    def _consistency_losses(self, heads: Heads, images: Tensor) -> dict[str, Tensor]:
        """L_2d, L_id, L_swap, L_census and L_reg of frames [N,S,S,3], two of a person in a row."""
        landmarks = heads.points[:, :68] * self.size
        points = self.face_points(heads.identity, heads.expression)
        pose = self.pose(points, heads)
        losses = {"2d": self._point_loss(pose(points[:, :68]), landmarks, 2)}
        losses["identity"] = gram_loss(heads.identity[0::2], heads.identity[1::2], self.identity_gram)
        swapped_identity = torch.stack([heads.identity[1::2], heads.identity[0::2]], 1).flatten(0, 1)
        swapped = self.face_points(swapped_identity, heads.expression)
        losses["swap"] = self._point_loss(self.pose(swapped, heads)(swapped[:, :68]), landmarks)
        if self.config.weight_census:
            vertices = pose(self.model.shape(heads.identity, heads.expression))
            losses["census"] = (
                self._census(images[0::2], vertices[0::2], images[1::2], vertices[1::2]) / 2
                + self._census(images[1::2], vertices[1::2], images[0::2], vertices[0::2]) / 2
            )
        losses["probable"] = coefficient_loss(heads.identity, heads.expression)
        return losses

    def _census(self, source: Tensor, source_vertices: Tensor, target: Tensor, target_vertices: Tensor) -> Tensor:
        """Census loss of source frames that are reprojected into the target frames."""
        reprojected, visible = reproject(source, source_vertices, target_vertices, self.face_topology)
        return census_loss(reprojected, target, visible)

    def _point_loss(self, points: Tensor, target: Tensor, dimensions: int = 3) -> Tensor:
        """Mean squared distance of points [N,P,3] in pixels, in percent of the picture's side.

        Args:
            points: predicted points, of which the first 68 are the landmarks.
            target: like points.
            dimensions: 3, with depth relative to the mean of the landmarks, or 2.
        """
        unit = self.size / 100
        points, target = points / unit, target / unit
        if dimensions == 3:
            points, target = (
                torch.cat([p[..., :2], p[..., 2:] - p[:, :68, 2:].mean(1, keepdim=True)], -1) for p in (points, target)
            )
        else:
            points, target = points[..., :2], target[..., :2]
        return landmark_loss(points, target, torch.ones(points.shape[1], device=points.device))

    @torch.no_grad()
    def predict(self, image: Tensor) -> Prediction:
        """Predict the faces in pictures.

        Args:
            image: [N,3,S,S], sRGB in 0..1, cropped as `core.crops.landmark_box` does; S is `size`.
        """
        heads = self.network(image).map(Tensor.float)
        expression = heads.expression.clamp(0, 1) if self.model.blendshapes else heads.expression
        points = self.face_points(heads.identity, expression)
        pose = self.pose(points, heads)
        landmarks = flip_y(pose(points[:, :68]), self.size)
        translation = flip_y(pose.translation[:, :2], self.size)
        parameters = FaceParameters(heads.identity, expression, pose.rotation, pose.scale, translation, landmarks)
        return Prediction(parameters, pose, flip_y(heads.points[:, :68] * self.size, self.size))

    def reconstruct(self, image: Tensor) -> FaceParameters:
        """Predict the parameters of the faces in pictures, see `predict`."""
        return self.predict(image).parameters

    def validate(self, device: torch.device) -> dict[str, Tensor]:
        """Measure errors on held-out rendered faces, see `validation_errors`."""
        return validation_errors(self)

    def visualize(self, batch: tuple[FaceBatch, FaceBatch | None]) -> Panel:
        """Draw landmarks of the landmark head, the posed face, and the other frame of each person reprojected."""
        labeled, frames = batch
        image = labeled.image[:6] if frames is None else torch.cat([labeled.image[:3], frames.image[:4]])
        parameters, pose, head_landmarks = self.predict(image)
        linear = to_linear(image).permute(0, 2, 3, 1)
        vertices = self.model.shape(parameters.identity, parameters.expression)
        topology, size = self.model.topology, (self.size, self.size)
        clip = fr.camera.weak_perspective(vertices, pose.scale, pose.rotation, pose.translation[:, :2], size)
        normals = fr.vertex_normals(vertices, topology) @ pose.rotation.mT
        clay = torch.tensor(CLAY, device=image.device).expand(1, vertices.shape[1], 3)
        drawn, _ = fr.render_face(
            clip,
            normals,
            clay,
            fr.lighting.studio(len(image), device=image.device),
            topology,
            size,
            background=linear,
        )
        rows = [draw_points(linear, head_landmarks[..., :2]), drawn]
        captions = ["landmarks, by the network's landmark head", "predicted face"]
        columns = ["labeled"] * len(image)
        if frames is not None:
            n = len(labeled.image[:3])
            placed = pose.without_depth()(vertices)[n:]
            other = torch.arange(len(placed), device=image.device) ^ 1
            reprojected, visible = reproject(linear[n:][other].contiguous(), placed[other], placed, self.face_topology)
            empty = torch.tensor(BACKGROUND, device=image.device)
            seen = torch.where(visible[..., None] > 0, reprojected, empty)
            rows.append(torch.cat([empty.expand_as(linear[:n]), seen]))
            captions.append("the person's other frame, drawn onto this one's predicted face")
            columns[n:] = [f"person {k // 2 + 1}, frame {k % 2 + 1}" for k in range(len(placed))]
        return Panel(tile(torch.cat(rows), len(image)), captions, columns)


@torch.no_grad()
def validation_errors(method: PGN) -> dict[str, Tensor]:
    """Measure errors on held-out rendered faces, four of each person.

    Without perspective a picture does not tell a small head from a large one, and a scale that is right for the
    predicted head is wrong for the true one. So the true identity is put in as large, and in the place, as the
    predicted one, and the true pose is the similarity that takes the predicted shape to the true vertices.

    Args:
        method: the method; `config.held_out` is the number of faces.

    Returns:
        Errors in the picture, percent of sqrt(w h) of the landmarks' box: of the posed model's landmarks
        ("nme_percent"), of the landmark head ("nme_seen_percent") and of the other taught vertices
        ("dense_nme_percent"), the last one also with identity, expression or pose replaced by the true one
        ("dense_nme_true_*"). The error of the rotation in degrees. Errors of neutral shapes, mm after a similarity: of
        one picture, of the mean of four pictures of a person, and of the mean face.
    """
    totals: dict[str, Tensor] = {}
    people = method.config.held_out // 4 + 1
    source = SyntheticGroups(method.model, method.size, 4, method.source.randomization)
    for k in range(0, people, 8):
        faces = source(HELD_OUT, k // 8, range(min(8, people - k)))
        assert faces.identity is not None and faces.expression is not None
        assert faces.rotation is not None and faces.landmarks is not None
        p, pose, head_landmarks = method.predict(faces.image)
        _, true_pixels = method.labeled_points(faces)
        box = (true_pixels[:, :68, :2].amax(1) - true_pixels[:, :68, :2].amin(1)).prod(-1).sqrt()
        dense_nme = partial(_dense_nme, true_pixels, box)
        points = method.face_points(p.identity, p.expression)
        true_identity = method.face_points(faces.identity, p.expression)
        true_expression = method.face_points(p.identity, faces.expression)
        values = {
            "nme_percent": 100 * (p.landmarks[..., :2] - faces.landmarks).norm(dim=-1).mean(1) / box,
            "nme_seen_percent": 100 * (head_landmarks[..., :2] - faces.landmarks).norm(dim=-1).mean(1) / box,
            "dense_nme_percent": dense_nme(pose(points)),
            "dense_nme_true_identity_percent": dense_nme(pose(similarity(true_identity, points)(true_identity))),
            "dense_nme_true_expression_percent": dense_nme(pose(true_expression)),
            "dense_nme_true_pose_percent": dense_nme(similarity(points, true_pixels)(points)),
            "rotation_degrees": rotation_angle(p.rotation, faces.rotation).rad2deg(),
        }
        mean_of_four = p.identity.unflatten(0, (-1, 4)).mean(1).repeat_interleave(4, 0)
        neutral = torch.zeros_like(faces.expression)
        true_neutral = method.face_points(faces.identity, neutral)[:, 68:]
        for name, identity in (
            ("neutral_mm", p.identity),
            ("neutral_of_four_mm", mean_of_four),
            ("neutral_of_mean_face_mm", torch.zeros_like(p.identity)),
        ):
            shape = method.face_points(identity, neutral)[:, 68:]
            values[name] = (similarity(shape, true_neutral)(shape) - true_neutral).norm(dim=-1).mean(1)
        for name, value in values.items():
            totals[name] = totals.get(name, torch.zeros(())) + value.sum() / (4 * people)
    return totals


def _dense_nme(true_pixels: Tensor, box: Tensor, pixels: Tensor) -> Tensor:
    """Mean distance [N] in the picture of points [N,P,3] behind the landmarks, percent of sqrt(w h) of the box."""
    return 100 * (pixels - true_pixels)[:, 68:, :2].norm(dim=-1).mean(1) / box
