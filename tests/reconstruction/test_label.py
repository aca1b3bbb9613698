"""Landmark files for photographs that have none."""

import numpy as np
import pytest
from PIL import Image

from facemodels import InputError, label_pictures
from facemodels.core.crops import Box
from facemodels.data.folder import folder
from facemodels.reconstruction import label
from facemodels.reconstruction.detect import Detection
from tests.stub_method import pretend


@pytest.fixture
def found(monkeypatch):
    """The boxes that the detector finds in every picture."""
    boxes: list[Box] = [(10, 10, 30, 30), (20, 20, 80, 90)]
    pretend(monkeypatch, lambda *_, **__: [Detection(b, 0.9, np.zeros((5, 2))) for b in boxes])
    return boxes


def picture(path, size=100):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)).save(path)


def test_the_landmarks_of_the_largest_face_are_written_where_there_are_none(found, tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.jpg", "sub/a.png", "broken.png"):
        picture(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no")
    own = np.random.default_rng(1).uniform(20, 80, (68, 2))
    np.savetxt(tmp_path / "b.txt", own)
    labels = label_pictures(tmp_path, "pgn")
    assert labels.written == [tmp_path / "a.txt", tmp_path / "sub" / "a.txt"]
    assert labels.present == [tmp_path / "b.txt"] and [*labels.without] == [tmp_path / "broken.png"]
    assert np.array_equal(np.loadtxt(tmp_path / "b.txt"), own)
    points = np.loadtxt(tmp_path / "a.txt")
    assert points.shape == (68, 2) and 20 < points[:, 0].mean() < 80 and np.ptp(points[:, 0]) > 25
    with pytest.warns(UserWarning, match="1 of 4 pictures are left out: broken.png"):
        assert len(folder(tmp_path)) == 3
    assert label_pictures(tmp_path, "pgn").written == []  # all are there now


def test_one_picture_is_labeled_by_its_file_and_what_is_no_path_is_said(found, tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    assert label_pictures(tmp_path / "a.png", "pgn").written == [tmp_path / "a.txt"]
    assert not (tmp_path / "b.txt").exists()
    with pytest.raises(InputError, match="label_pictures takes a folder of pictures or the file of one, .* got a list"):
        label_pictures([tmp_path / "a.png"], "pgn")


def test_the_command_names_what_has_no_landmarks(found, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    (tmp_path / "b.png").write_bytes(b"")
    assert label.main([str(tmp_path), "--method", "pgn"]) == 1
    said = capsys.readouterr()
    assert "1 landmark files written, 0 were there, 1 pictures have none" in said.out and "b.png" in said.err


@pytest.mark.parametrize(
    "names, words",
    [
        (None, "there is no such folder"),
        ([], "there are no pictures"),
        (["a.png", "a.jpg"], "rename a.jpg, a.png"),
        (["broken.png"], "no landmarks were found in any of 1 pictures; the first: .*broken.png"),
    ],
)
def test_folders_that_cannot_be_labeled_are_refused_in_one_sentence(names, words, found, tmp_path, capsys):
    path = tmp_path / "photos"
    if names is not None:
        path.mkdir()
        for name in names:
            picture(path / name)
        if names == ["broken.png"]:
            (path / "broken.png").write_bytes(b"no")
    with pytest.raises(InputError, match=words):
        label_pictures(path, "pgn")
    assert label.main([str(path), "--method", "pgn"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_pictures_without_a_face_are_named(found, tmp_path):
    picture(tmp_path / "a.png")
    found.clear()
    with pytest.raises(InputError, match=r"no landmarks were found in any of 1 pictures; the first: .*a.png: no face"):
        label_pictures(tmp_path, "pgn")
