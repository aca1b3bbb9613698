"""ARKit's 52 curves of models that have them, and a sentence about those that do not."""

import pytest
import torch

import facemodels
from facemodels import InputError
from facemodels.models.arkit import arkit_curves, arkit_weights
from facemodels.models.builtin.expressions import NAMES


class Named:
    """As much of a model as has expressions."""

    def __init__(self, names, blendshapes=True):
        self.name, self.expression_names, self.blendshapes = "a model", tuple(names), blendshapes


def test_the_built_in_model_has_them_as_they_are():
    values = torch.rand(3, 52, generator=torch.Generator().manual_seed(0)) * 1.5
    torch.testing.assert_close(arkit_curves(facemodels.load_model("builtin"), values), values.clamp(0, 1))


def test_two_sides_of_one_curve_are_averaged_and_what_is_missing_is_0():
    # As ICT-FaceKit names them: two for browInnerUp and cheekPuff, no tongueOut, and more than ARKit has.
    names = [n for n in NAMES if n not in ("browInnerUp", "cheekPuff", "tongueOut")]
    names = ["browInnerUpLeft", "cheekPuffRight", *names, "cheekPuffLeft", "browInnerUpRight", "pupilDilateLeft"]
    values = torch.zeros(1, len(names))
    for name, value in (("browInnerUpLeft", 0.2), ("browInnerUpRight", 0.6), ("cheekPuffLeft", 1), ("jawOpen", 0.7)):
        values[0, names.index(name)] = value
    values[0, -1] = 1
    curves = dict(zip(NAMES, arkit_curves(Named(names), values)[0].tolist()))
    expected = {"browInnerUp": 0.4, "cheekPuff": 0.5, "jawOpen": 0.7}
    assert {name: value for name, value in curves.items() if value} == pytest.approx(expected)


@pytest.mark.parametrize("names, blendshapes", [(("anger", "disgust", "fear"), True), ((), True), (NAMES, False)])
def test_a_model_without_them_says_how_to_get_them(names, blendshapes):
    if blendshapes:
        assert arkit_weights(names) is None
    with pytest.raises(InputError, match="a model are not ARKit's; --model builtin carries"):
        arkit_curves(Named(names, blendshapes), torch.zeros(1, len(names)))
