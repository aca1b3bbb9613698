"""facemodels reconstruct: faces that are known, by the files of --boxes and --landmarks."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facemodels
from facemodels.core.crops import landmark_box
from facemodels.core.landmarks import FIVE, mirror_order
from facemodels.reconstruction.landmark_check import LandmarkWarning
from tests.stub_method import found_at, pretend, ramps, read_arrays, run_reconstruct


@pytest.fixture
def run(stub, tmp_path, monkeypatch):
    """`facemodels reconstruct` with the stub for its method, in a folder with two pictures, a.png and b.png."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.fromarray(ramps()).save(name)
    return lambda *words: run_reconstruct(stub, monkeypatch, *words)


def test_all_done_is_exit_code_0_and_a_hundred_faces_are_a_hundred(run):
    boxes = [(x, y, x + 20.0, y + 22.0) for y in range(0, 200, 20) for x in range(0, 300, 30)]
    Path("boxes.json").write_text(json.dumps({"crowd.png": boxes}))
    Image.fromarray(ramps()).save("crowd.png")
    assert run("crowd.png", "--boxes", "boxes.json", "-o", "out", "--write", "pose") == 0
    assert len(list(Path("out").glob("crowd_*_pose.csv"))) == 100


def test_boxes_and_landmarks_come_from_files(run):
    Path("boxes.json").write_text('{"a.png": [[110, 60, 210, 190], [120, 70, 200, 170]]}')
    assert run("a.png", "-o", "out", "--write", "pose", "--boxes", "boxes.json") == 0
    assert len(list(Path("out").glob("*_pose.csv"))) == 2
    points = np.random.default_rng(0).uniform(80, 200, (68, 2))
    points[36:42], points[42:48], points[48:] = (140, 100), (180, 100), (160, 160)  # upright
    np.savetxt("points.txt", points)
    # They are not those of the stub's face.
    assert run("a.png", "-o", "more", "--write", "coefficients", "--landmarks", "points.txt") == 1
    assert np.allclose(read_arrays("more/a_0.npz")["crop"][0], landmark_box(points), atol=1e-3)


def test_files_that_belong_to_no_photograph_are_named(run, capsys):
    np.savetxt("points.txt", np.random.default_rng(0).uniform(80, 200, (68, 2)))
    assert run("a.png", "b.png", "-o", "out", "--landmarks", "points.txt") == 1
    assert "landmarks of one photograph, and there are 2" in capsys.readouterr().err
    Path("boxes.json").write_text('{"a.png": [[110, 60, 210, 190]], "c.png": []}')
    assert run("a.png", "-o", "out", "--write", "pose", "--boxes", "boxes.json") == 1
    assert "c.png is none of the photographs" in capsys.readouterr().err and Path("out/a_0_pose.csv").is_file()


def test_a_box_that_cannot_be_cut_out_stops_its_own_photograph_alone(run, capsys):
    Path("boxes.json").write_text('{"a.png": [[0, 0, 1e9, 1e9]], "b.png": [[110, 60, 210, 190]]}')
    assert run("a.png", "b.png", "-o", "out", "--write", "pose", "--boxes", "boxes.json") == 1
    assert "a.png: a box of" in capsys.readouterr().err and Path("out/b_0_pose.csv").is_file()
    Path("boxes.json").write_text('{"a.png": [[0, 0, NaN, 1]]}')
    assert run("a.png", "-o", "out", "--boxes", "boxes.json") == 1
    assert "boxes.json: expected" in capsys.readouterr().err


def test_a_box_that_cannot_be_cut_is_said_with_its_file(run, capsys):
    Path("boxes.json").write_text('{"a.png": [0, 0, 1e9, 1e9]}')
    assert run("a.png", "-o", "out", "--boxes", "boxes.json") == 1
    said = capsys.readouterr().err
    assert "a.png: a box of" in said and "is too large to cut out (boxes.json)" in said


def test_an_empty_list_of_boxes_is_said_with_its_file(run, capsys):
    Path("boxes.json").write_text('{"a.png": []}')
    assert run("a.png", "-o", "out", "--boxes", "boxes.json") == 1
    assert "boxes.json has an empty list of boxes" in capsys.readouterr().err


def test_a_photograph_without_its_landmark_file_is_named(run, stub, monkeypatch, capsys):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(ramps()).save(name)
    marks = Path("marks")
    marks.mkdir()
    words = ["a.jpg", "b.jpg", "--landmarks", marks, "--write", "pose", "-o"]
    assert run(*words, "none") == 1
    assert "expected a landmark file named as a photograph" in capsys.readouterr().err
    (face,) = facemodels.reconstruct(ramps(), stub, boxes=[(110, 60, 210, 190)])
    np.savetxt(marks / "b.txt", face.landmarks[:, :2].numpy())
    assert run(*words, "one") == 0
    said = capsys.readouterr().err
    assert "a.jpg: has no landmark file" in said and "b.jpg" not in said


@pytest.mark.parametrize("count", [68, 5])
@pytest.mark.parametrize("wrong", ["right", "reversed", "mirrored", "permuted"])
def test_landmarks_in_another_order_than_the_faces_are_said(run, stub, capsys, wrong, count):
    (face,) = facemodels.reconstruct(ramps(), stub, boxes=[(110, 60, 210, 190)])
    points = face.landmarks[:, :2].numpy().astype(np.float64)
    points = np.array([points[list(group)].mean(0) for group in FIVE]) if count == 5 else points
    orders = {
        "right": range(count),
        "reversed": range(count)[::-1],
        "mirrored": mirror_order(count),
        "permuted": np.random.default_rng(2).permutation(count),
    }
    np.savetxt("marks.txt", points[list(orders[wrong])])
    assert run("a.png", "-o", "out", "--write", "pose", "--landmarks", "marks.txt") == (wrong != "right")
    said = capsys.readouterr().err
    if wrong == "right":
        assert not said
    else:
        assert said.count("\n") == 1 and "a.png: is done, but the landmarks are" in said and "marks.txt" in said
        with pytest.warns(LandmarkWarning, match="away from the face"):
            facemodels.reconstruct(ramps(), stub, landmarks=points[list(orders[wrong])])
    assert Path("out/a_pose.png").exists()
