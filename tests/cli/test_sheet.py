"""facemodels sheet: a picture of random people."""

import imageio.v3 as iio
import numpy as np
import pytest

from facemodels.cli.main import main


def test_command_writes_a_sheet(tmp_path, capsys):
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
def test_errors_are_one_sentence(arguments, words, capsys):
    assert main(["sheet", *arguments]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_model_is_never_overwritten_by_its_own_picture_or_viewer(tmp_path, capsys):
    before = tmp_path / "model.html"  # whatever it is called
    before.write_bytes(b"a model")
    assert main(["sheet", "-o", str(tmp_path / "a.png"), "--model", str(before), "--viewer", str(before)]) == 1
    assert "never overwritten" in capsys.readouterr().err and before.read_bytes() == b"a model"
