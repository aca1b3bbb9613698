"""Validation of Cycle on held-out rendered pairs: errors of single frames, and leaks between pose and expression."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from facemodels.core.alignment import similarity
from facemodels.data.clips import SyntheticClips
from facemodels.losses import photometric_loss, rotation_angle
from facemodels.methods.cycle.settings import CYCLES

if TYPE_CHECKING:
    from facemodels.methods.cycle.method import Cycle

HELD_OUT = 7_000_041  # seed of validation faces, whatever the seed of training
MIN_DEGREES, MIN_MM = 1.0, 0.1  # pairs that change by less do not count
NEUTRAL_STEP = 16  # neutral shapes are compared at every 16th vertex of the face


@torch.no_grad()
def validation_errors(method: "Cycle") -> dict[str, Tensor]:
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


def _neutral_mm(method: "Cycle", predicted: Tensor, true: Tensor) -> Tensor:
    """Mean distance [N] of the face's vertices between identities [N,I] after a similarity, mm."""
    index = method.face_index[::NEUTRAL_STEP]
    shape, true_shape = (method.model.shape(identity)[:, index] for identity in (predicted, true))
    return (similarity(shape, true_shape)(shape) - true_shape).norm(dim=-1).mean(1)


@torch.no_grad()
def leaks(method: "Cycle", pairs: int) -> dict[str, Tensor]:
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


def _changes(method: "Cycle", rotation: Tensor, expression: Tensor) -> Tensor:
    """How far rotations (degrees) and expressions (mm) change from the first to the second frame of pairs: [2,N]."""
    return torch.stack(
        [
            rotation_angle(rotation[0::2], rotation[1::2]).rad2deg(),
            method.expression_mm(expression[0::2], expression[1::2]),
        ]
    )
