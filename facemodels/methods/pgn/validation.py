"""Validation of PGN on held-out rendered faces, with the paper's case study: which parameters cause the error."""

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from facemodels.core.alignment import similarity
from facemodels.data.clips import SyntheticGroups
from facemodels.losses import rotation_angle

if TYPE_CHECKING:
    from facemodels.methods.pgn.method import PGN

HELD_OUT = 7_000_037  # seed of validation faces, whatever the seed of training


@torch.no_grad()
def validation_errors(method: "PGN") -> dict[str, Tensor]:
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
