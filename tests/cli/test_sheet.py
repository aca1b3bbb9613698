"""Random people, their pictures, and the command that draws them."""

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from facemodels import MorphableModel, load_model
from facemodels.cli.main import COMMANDS, main
from facemodels.core import drawing
from facemodels.models.sampling import EXPRESSIONS, activations, random_coefficients
from tests.tiny_model import tiny


@pytest.fixture(scope="module")
def model():
    return load_model("builtin")


def test_the_same_seed_gives_the_same_people_and_another_gives_others(model):
    a, b, c = (random_coefficients(model, 3, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    for name in ("identity", "expression", "albedo"):
        assert torch.equal(getattr(a, name), getattr(b, name)) and not torch.equal(getattr(a, name), getattr(c, name))


def test_coefficients_are_within_what_they_mean(model):
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


def test_a_portrait_shows_the_face_in_the_middle_lit_and_coloured(model):
    face = model()
    image = drawing.portrait(face.vertices, model.topology, face.albedo, size=96)
    assert image.shape == (1, 96, 96, 3)
    background = torch.tensor(drawing.BACKGROUND)
    assert torch.allclose(image[0, 0, 0], background) and not torch.allclose(image[0, 48, 48], background)
    nose = image[0, 44:56, 44:52].mean((0, 1))
    assert nose[0] > nose[1] > nose[2] > 0.05  # skin
    left, right = drawing.portrait(
        face.vertices.expand(2, -1, -1), model.topology, face.albedo, 96, torch.tensor([30.0, -30.0])
    )
    assert (left - right.flip(1)).abs().mean() < (left - right).abs().mean() * 0.7  # turned the other way


def test_tiles_keep_order():
    images = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 2, 3, 3) / 5
    sheet = drawing.tile(images, 2)
    assert sheet.shape == (6, 6, 3) and sheet[0, 3, 0] == 0.2 and sheet[2, 0, 0] == 0.4


def test_the_command_writes_a_sheet(tmp_path, capsys):
    out = tmp_path / "faces.png"
    assert main(["sheet", "-o", str(out), "--count", "3", "--columns", "2", "--size", "64"]) == 0
    picture = iio.imread(out)
    assert picture.shape == (128, 256, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500
    assert "3 people of the model builtin" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["-o", "x.gif"], "pictures are written as .png or .jpg"),
        (["-o", "x.png", "--count", "0"], "--count"),
        (["-o", "x.png", "--model", "missing.pkl"], "missing.pkl"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, words, capsys):
    assert main(["sheet", *arguments]) == 1
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"facemodels {command}" in capsys.readouterr().out.split("example")[-1]
