"""facemodels train on a folder of photographs, as users meet it."""

import numpy as np
import pytest

from facemodels.cli.main import main
from tests.methods.dasl.common import pictures


def words(tmp_path):
    settings = (f"wild={tmp_path / 'photos'}", f"output={tmp_path / 'run'}", "steps=1", "stage1=0", "device=cpu")
    return ["train", "dasl", "--preset", "smoke", *(word for s in settings for word in ("--set", s))]


def test_pictures_that_are_left_out_are_named(tmp_path):
    photos = pictures(tmp_path / "photos", 8)
    (photos / "7.txt").unlink()
    with pytest.warns(UserWarning, match="1 of 8 pictures are left out: 7.png"):
        assert main(words(tmp_path)) == 0


def test_photographs_without_landmark_files_are_answered_with_what_finds_them(tmp_path, capsys):
    photos = pictures(tmp_path / "photos", 6)
    for file in photos.glob("*.txt"):
        file.unlink()
    assert main(words(tmp_path)) == 1
    assert f"python -m facemodels.reconstruction.label {photos}" in capsys.readouterr().err.splitlines()[-1]
    for k in range(6):
        np.savetxt(photos / f"{k}.txt", np.full((68, 2), 5000.0))
    assert main(words(tmp_path)) == 1
    assert "none of 6 pictures can be used; the first: " in capsys.readouterr().err
