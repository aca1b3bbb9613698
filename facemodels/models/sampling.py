"""Random people and expressions of a morphable model."""

from dataclasses import dataclass

import torch
from torch import Tensor

from facemodels.models.morphable import MorphableModel
from facerender._checks import brief_repr

# Expressions that people make, as activations of ARKit's blend shapes; a name without a side stands for both sides.
EXPRESSIONS = {
    "smile": {"mouthSmile": 0.75, "cheekSquint": 0.4, "eyeSquint": 0.2, "mouthDimple": 0.2},
    "laugh": {"mouthSmile": 0.85, "jawOpen": 0.4, "cheekSquint": 0.6, "eyeSquint": 0.4, "mouthUpperUp": 0.3},
    "surprise": {"browInnerUp": 0.8, "browOuterUp": 0.7, "eyeWide": 0.7, "jawOpen": 0.4},
    "anger": {"browDown": 0.9, "noseSneer": 0.35, "mouthPress": 0.6, "eyeSquint": 0.35},
    "sadness": {"browInnerUp": 0.7, "mouthFrown": 0.7, "mouthShrugLower": 0.3, "eyeSquint": 0.15},
    "disgust": {"noseSneer": 0.8, "mouthUpperUp": 0.5, "browDown": 0.5, "mouthFrown": 0.3, "cheekSquint": 0.3},
    "fear": {"browInnerUp": 0.9, "eyeWide": 0.8, "mouthStretch": 0.6, "jawOpen": 0.15},
    "speech, ah": {"jawOpen": 0.5, "mouthLowerDown": 0.25},
    "speech, oo": {"mouthPucker": 0.7, "mouthFunnel": 0.35, "jawOpen": 0.1},
    "speech, ee": {"mouthStretch": 0.4, "mouthSmile": 0.3, "jawOpen": 0.12, "mouthLowerDown": 0.4},
    "kiss": {"mouthPucker": 0.9, "eyeBlink": 0.2},
    "asleep": {"eyeBlink": 1.0},
    "wink": {"eyeBlinkLeft": 1.0, "mouthSmileLeft": 0.6, "cheekSquintLeft": 0.5},
    "doubt": {"browOuterUpLeft": 0.9, "browDownRight": 0.6, "mouthLeft": 0.4},
    "puffed cheeks": {"cheekPuff": 0.9, "mouthPress": 0.4},
}


@brief_repr
@dataclass(frozen=True)
class Coefficients:
    """Coefficients of N faces of a morphable model.

    Attributes:
        identity: [N,I].
        expression: [N,E].
        albedo: [N,A]; None for a model without colors.
    """

    identity: Tensor
    expression: Tensor
    albedo: Tensor | None


def random_coefficients(
    model: MorphableModel, count: int, generator: torch.Generator | None = None, expressions: bool = True
) -> Coefficients:
    """Draw random people. The same state of the generator gives the same people.

    Identity and albedo are normal, clamped at 2.5 standard deviations. Expressions of a blend-shape model mix two of
    `EXPRESSIONS` and a little of everything, within 0..1; those of other models are normal with a deviation of 0.8.

    Args:
        model: the model.
        count: N.
        generator: on the CPU; None: torch's global one.
        expressions: whether each has a random expression; False: all are neutral.

    Returns:
        Coefficients on the model's device.
    """
    device = model.mean.device

    def normal(modes: int) -> Tensor:
        return torch.randn(count, modes, generator=generator).clamp(-2.5, 2.5).to(device)

    identity, albedo = normal(model.num_identity), normal(model.num_albedo) if model.num_albedo else None
    if not expressions:
        expression = torch.zeros(count, model.num_expression, device=device)
    elif model.blendshapes:
        pick = torch.randint(len(EXPRESSIONS), (count, 2), generator=generator)
        strength = torch.rand(count, 2, generator=generator)
        little = torch.rand(count, model.num_expression, generator=generator)
        expression = mixed_expressions(model, pick, strength, little).to(device)
    else:
        expression = 0.8 * normal(model.num_expression)
    return Coefficients(identity, expression, albedo)


def mixed_expressions(model: MorphableModel, pick: Tensor, strength: Tensor, little: Tensor) -> Tensor:
    """Mix two of `EXPRESSIONS` and a little of everything.

    Args:
        model: a blend-shape model.
        pick: int64 [N,2], which two.
        strength: [N,2], uniform in 0..1. The first expression gets up to 0.9 of its activations, the second up to 0.35.
        little: [N,E], uniform in 0..1, of everything.

    Returns:
        Activations [N,E] in 0..1.
    """
    table = torch.stack([activations(model, e) for e in EXPRESSIONS.values()])
    strength = strength * torch.tensor([0.9, 0.35])
    mixed = ((table[pick] * strength[..., None]).sum(1) + little**6 * 0.3).clamp(0, 1)
    names = model.expression_names
    if "mouthClose" in names and "jawOpen" in names:  # it closes the lips of an open jaw, and has no meaning beyond
        close, open_ = names.index("mouthClose"), names.index("jawOpen")
        mixed[:, close] = torch.minimum(mixed[:, close], mixed[:, open_])
    return mixed


def activations(model: MorphableModel, expression: dict[str, float]) -> Tensor:
    """Coefficients [E] of named activations.

    A name without a side sets both sides. Names that the model does not have are left out.
    """
    out = torch.zeros(model.num_expression)
    index = {name: k for k, name in enumerate(model.expression_names)}
    for name, value in expression.items():
        for full in (name, name + "Left", name + "Right"):
            if full in index:
                out[index[full]] = value
    return out
