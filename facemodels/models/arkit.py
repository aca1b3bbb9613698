"""ARKit's 52 expression curves, made of the expressions of a model that has them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.models.builtin.expressions import NAMES
from facemodels.models.morphable import MorphableModel

FEWEST = 40  # of ARKit's names that a model must have; those that it lacks, such as tongueOut, stay 0


def arkit_weights(names: Sequence[str]) -> Tensor | None:
    """What ARKit's curves are made of.

    Args:
        names: [E] of a model's expressions.

    Returns:
        [52,E]: a curve is the expression of its name, or the mean of the two that end in Left and Right, as ICT-FaceKit
        has browInnerUp and cheekPuff. None if fewer than `FEWEST` curves are there.
    """
    place = {name: k for k, name in enumerate(names)}
    weights = torch.zeros(len(NAMES), len(names))
    for row, name in zip(weights, NAMES):
        parts = [name] if name in place else [name + "Left", name + "Right"]
        if all(part in place for part in parts):
            row[[place[part] for part in parts]] = 1 / len(parts)
    return weights if (weights > 0).any(1).sum() >= FEWEST else None


def has_arkit(model: MorphableModel) -> bool:
    """Whether ARKit's curves can be made of a model's expressions."""
    return model.blendshapes and arkit_weights(model.expression_names) is not None


def arkit_curves(model: MorphableModel, expression: Tensor) -> Tensor:
    """ARKit's curves, in the order of `facemodels.models.builtin.expressions.NAMES`.

    Args:
        model: The model.
        expression: [N,E], activations of its expressions.

    Returns:
        [N,52] in 0..1.

    Raises:
        InputError: The model's expressions are not ARKit's.
    """
    weights = arkit_weights(model.expression_names) if model.blendshapes else None
    if weights is None:
        raise InputError(
            f"the expressions of the model {model.name} are not ARKit's; --model builtin carries faces over to the "
            "built-in model, which has them, and facemodels transfer does so with coefficients"
        )
    return (expression.to(weights) @ weights.T).clamp(0, 1)
