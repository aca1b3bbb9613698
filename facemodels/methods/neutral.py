"""What a method answers for faces without expression: the zero of its expression curves (`Face.arkit`).

neutral.json, beside the weights, has a number for each curve: 90 % of the answers for rendered faces without expression
lie below it. It is measured on 512 renderings of the method's own model, up to 60 degrees of yaw, without refinement.

    python -m facemodels.methods.neutral facemodels/weights/dasl
"""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from facemodels.io.files import write_atomically
from facemodels.methods.face_method import FaceMethod
from facemodels.models.morphable import MorphableModel
from facemodels.training.config import read_json

FILE = "neutral.json"
SHARE = 0.9  # of the neutral faces, which are below
BATCHES, BATCH, SEED, YAW = 16, 32, 77, 60.0


def read_neutral(folder: Path, model: MorphableModel) -> Tensor | None:
    """The neutral answers [E] that lie beside weights; None where there are none.

    Raises:
        InputError: The file does not hold a number in 0..1 for each curve of the model.
    """
    if not (folder / FILE).is_file():
        return None
    try:
        curves = read_json(folder / FILE)
        values = torch.tensor([float(curves[name]) for name in model.expression_names])
    except (ValueError, KeyError, TypeError, OverflowError):
        values = torch.tensor([torch.nan])
    if not ((values >= 0) & (values < 1)).all():
        raise InputError(f"{folder / FILE}: expected a number in 0..1 for each expression of the model {model.name}")
    return values


@torch.no_grad()
def measure_neutral(method: FaceMethod, batches: int = BATCHES) -> dict[str, float]:
    """Measure the neutral answers of a method.

    Args:
        method: The method; its model has blend shapes.
        batches: Batches of renderings.

    Returns:
        Name of a curve -> `SHARE` of the answers lie below.

    Raises:
        InputError: The expressions of the method's model are not activations in 0..1.
    """
    if not method.model.blendshapes:
        raise InputError(
            f"the model {method.model.name} has no blend shapes, so there are no curves with a neutral value"
        )
    faces: Synthetic = Synthetic(method.model, method.size, RandomizationConfig(yaw=YAW, expressive=0.0))
    answers = torch.cat([method.reconstruct(faces(SEED, k, range(BATCH)).image).expression for k in range(batches)])
    levels = answers.clamp(0, 1).quantile(SHARE, 0)
    values = torch.zeros(method.model.num_expression)
    values[: len(levels)] = levels
    return {name: round(float(v), 4) for name, v in zip(method.model.expression_names, values)}


def main(arguments: list[str]) -> int:
    """Run `python -m facemodels.methods.neutral FOLDER` and return its exit code."""
    from facemodels.methods.registry import load_method

    if len(arguments) != 1:
        print("usage: python -m facemodels.methods.neutral FOLDER", file=sys.stderr)
        return 2
    path = Path(arguments[0]) / FILE
    try:
        curves = measure_neutral(load_method(arguments[0]))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_atomically({path: (json.dumps(curves, indent=1) + "\n").encode()})
    print(f"{path}: up to {max(curves.values()):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
