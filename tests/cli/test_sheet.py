"""facemodels sheet: a picture of random people."""

from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pytest

from facemodels.cli.main import main
from facemodels.models.builtin import builtin_data


def test_command_writes_a_sheet(tmp_path, capsys):
    out = tmp_path / "faces.png"
    assert main(["sheet", "-o", str(out), "--count", "3", "--columns", "2", "--size", "64"]) == 0
    picture = iio.imread(out)
    assert picture.shape == (128, 256, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500
    assert "3 people of the model builtin" in capsys.readouterr().out


@pytest.mark.parametrize("face, offset", [(True, 0.0), (False, 0.0), (False, 150.0)])
def test_heads_are_shown_up_to_the_crown_wherever_their_origin_lies(face, offset, tmp_path):
    """And down to the chin; the face of a model without such a region is what lies around the nose."""
    data = builtin_data()
    regions = {"face": data.regions["face"]} if face else {}
    mean = data.mean + np.float32([0, offset, 0])
    replace(data, mean=mean, regions=regions).save(tmp_path / "mine.safetensors")
    out = tmp_path / "faces.png"
    arguments = ["--model", str(tmp_path / "mine.safetensors"), "--count", "2", "--columns", "1", "--size", "64"]
    assert main(["sheet", "-o", str(out), *arguments]) == 0
    picture = iio.imread(out).astype(int)
    drawn = np.abs(picture - picture[0, 0]).sum(-1) > 30
    for row in (0, 64):
        one = drawn[row : row + 64]
        assert not one[0].any() and one[8].any() and one[55].any()
        assert one[63].any()  # the neck goes on


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["-o", "x.gif"], "pictures are written as .png or .jpg"),
        (["-o", "x.png", "--model", "missing.pkl"], "missing.pkl"),
    ],
)
def test_errors_are_one_sentence(arguments, words, capsys):
    assert main(["sheet", *arguments]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_model_is_never_overwritten_by_its_own_picture_or_viewer(tmp_path, capsys):
    before = tmp_path / "model.html"  # whatever it is called
    before.write_bytes(b"a model")
    assert main(["sheet", "-o", str(tmp_path / "a.png"), "--model", str(before), "--viewer", str(before)]) == 1
    assert "never overwritten" in capsys.readouterr().err and before.read_bytes() == b"a model"
