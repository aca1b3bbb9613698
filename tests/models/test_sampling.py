"""Random people of a model, and named expressions."""

import pytest
import torch

from facemodels import MorphableModel, load_model
from facemodels.models.sampling import EXPRESSIONS, activations, random_coefficients
from tests.tiny_model import tiny


@pytest.fixture(scope="module")
def model():
    return load_model("builtin")


def test_the_same_seed_gives_the_same_people_and_another_gives_others(model):
    a, b, c = (random_coefficients(model, 3, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    for name in ("identity", "expression", "albedo"):
        assert torch.equal(getattr(a, name), getattr(b, name)) and not torch.equal(getattr(a, name), getattr(c, name))


def test_coefficients_are_within_their_meaningful_range(model):
    people = random_coefficients(model, 400, torch.Generator().manual_seed(0))
    assert people.identity.abs().max() <= 2.5 and abs(people.identity.std() - 1) < 0.05
    assert people.expression.min() >= 0 and people.expression.max() <= 1
    assert (random_coefficients(model, 2, expressions=False).expression == 0).all()
    other = random_coefficients(MorphableModel(tiny()), 400, torch.Generator().manual_seed(0))
    assert other.expression.min() < -1


def test_every_activation_of_the_table_is_a_blend_shape_of_the_model(model):
    for expression in EXPRESSIONS.values():
        for name, value in expression.items():
            coefficients = activations(model, {name: value})
            assert coefficients.sum() > 0, name
