"""facemodels fit: a photo, a mesh, and every input that cannot be used."""

import json
import re
from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pytest
import torch
import trimesh

from facemodels import MorphableModel, load_model
from facemodels.cli import fit_face_check
from facemodels.cli.fit_face_check import face_confidence, face_doubts
from facemodels.cli.fit_pictures import draw_photo_fit
from facemodels.cli.main import main
from facemodels.core.drawing import BACKGROUND, to_bytes
from facemodels.export import Mesh, write
from facemodels.fitting.photo import fit_image
from facemodels.models.builtin import builtin_data
from facemodels.models.formats.native import write_native
from tests.face_patch import patch, patch_data
from tests.synthetic_faces import rendered, scanned


@pytest.fixture
def model_file(tmp_path):
    write_native(patch_data(), tmp_path / "patch.safetensors")
    return str(tmp_path / "patch.safetensors")


def test_command_fits_a_photo_with_the_landmarks_beside_it(tmp_path, model_file, capsys):
    picture, _, _, _, landmarks = rendered(patch(), seed=7)
    iio.imwrite(tmp_path / "face.png", picture)
    np.savetxt(tmp_path / "face.txt", landmarks.numpy())
    out = tmp_path / "out"
    assert (
        main(
            [
                "fit",
                str(tmp_path / "face.png"),
                "--model",
                model_file,
                "--contour",
                "static",
                "--iterations",
                "20",
                "-o",
                str(out),
                "--mesh",
                ".ply",
                ".glb",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "68 landmarks" in said and "pixels off" in said
    overlay, error = iio.imread(out / "overlay.png"), iio.imread(out / "error.png")
    assert overlay.shape == (512, 3 * 512, 3) and error.shape[1] == 512
    photo, fitted = overlay[:, :512].astype(float), overlay[:, 512:1024].astype(float)
    assert 0 < np.abs(photo - fitted).mean() < 10  # drawn over it, and like it
    numbers = np.load(out / "coefficients.npz")
    assert numbers["identity"].shape == (1, 8) and numbers["rotation"].shape == (1, 3, 3)
    named = json.loads((out / "coefficients.json").read_text())
    assert set(named["expression"]) == {"chinDown", "mouthWide", "browsUp"}
    assert sorted(p.name for p in out.iterdir() if not p.name.startswith(".")) == [
        "coefficients.json",
        "coefficients.npz",
        "error.png",
        "face.glb",
        "face.ply",
        "overlay.png",
    ]


def test_what_lies_outside_the_photo_is_drawn_in_one_color():
    model = patch()
    picture, _, _, _, landmarks = rendered(model, seed=7)
    marks = landmarks.numpy()
    cut = int(marks[:, 1].min()) - 2  # rows above the brows
    picture, marks = picture[cut:], marks - [0, cut]
    fit = fit_image(picture, marks, model, "static", iterations=0, progress=False)
    overlay, _ = draw_photo_fit(picture, marks, fit, model)
    wanted = to_bytes(torch.tensor(BACKGROUND))
    assert (overlay[0, :512] == wanted).all() and (overlay[300, 200:300] != wanted).any()


def test_command_fits_a_mesh(tmp_path, model_file, capsys):
    vertices, landmarks, _ = scanned(patch(), 2)
    write(tmp_path / "scan.ply", Mesh(vertices, patch().faces), unit="cm")
    np.save(tmp_path / "points.npy", landmarks / 10)
    assert (
        main(
            [
                "fit",
                str(tmp_path / "scan.ply"),
                "--landmarks",
                str(tmp_path / "points.npy"),
                "--model",
                model_file,
                "-o",
                str(tmp_path / "out"),
                "--mesh",
                ".html",
                ".ply",
            ]
        )
        == 0
    )
    millimeters = re.search(r"([\d.]+) mm to the mesh's unit", capsys.readouterr().out)[1]
    assert float(millimeters) == pytest.approx(10, rel=0.02)
    assert (tmp_path / "out/face.html").stat().st_size > 10000
    again = [
        "fit",
        str(tmp_path / "scan.ply"),
        "--landmarks",
        str(tmp_path / "points.npy"),
        "--model",
        model_file,
        "-o",
        str(tmp_path / "meters"),
        "--mesh",
        ".ply",
    ]
    assert main([*again, "--unit", "m", "--axes", "z-up"]) == 0
    plain, turned = (
        np.asarray(trimesh.load(tmp_path / f"{folder}/face.ply", process=False).vertices)
        for folder in ("out", "meters")
    )
    np.testing.assert_allclose(turned * 1000, plain[:, [0, 2, 1]] * [1, -1, 1], atol=1e-2)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["missing.jpg"], "missing.jpg: there is no such file"),
        (["."], ": expected a file, found a folder"),
        (["photo.png", "--landmarks", "."], ": expected a landmark file, found a folder"),
        (["https://example.com/a.jpg"], "https://example.com/a.jpg: URLs are not read"),
        (["photo.png"], "needs landmarks"),
        (["photo.png", "--landmarks", "wrong.txt"], "68"),
        (["photo.png", "--mesh", ".fbx"], ".fbx"),
        (["broken.png", "--landmarks", "wrong.txt"], "not a readable picture"),
        (["broken.ply"], "broken.ply"),
    ],
)
def test_command_says_in_one_sentence_what_is_wrong(tmp_path, model_file, arguments, words, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    iio.imwrite("photo.png", np.zeros((64, 64, 3), np.uint8))
    for name in ("broken.png", "broken.ply"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
    (tmp_path / "wrong.txt").write_text("1 2\n3 4\n")
    assert main(["fit", *arguments, "--model", model_file, "-o", "out"]) == 1
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_a_fit_that_cannot_be_right_is_written_and_said_with_exit_code_1(tmp_path, model_file, capsys):
    picture, _, _, _, landmarks = rendered(patch(), seed=7)
    iio.imwrite(tmp_path / "face.png", picture)
    np.savetxt(tmp_path / "face.txt", landmarks.roll(1, 0).numpy())
    words = ["fit", str(tmp_path / "face.png"), "--model", model_file, "--iterations", "0", "--contour", "static", "-o"]
    assert main([*words, str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert "is probably wrong" in said.err and "mm off" in said.err and (tmp_path / "out" / "overlay.png").is_file()
    named = json.loads((tmp_path / "out" / "coefficients.json").read_text())
    assert len(named["doubts"]) == 1 and named["landmark_count"] == 68


def test_a_model_with_51_landmarks_is_compared_in_these(tmp_path, capsys):
    data = patch_data()
    data.landmark_weights[:17], data.contour = 0, None
    write_native(data, tmp_path / "51.safetensors")
    picture, _, _, _, landmarks = rendered(patch(), seed=7)
    iio.imwrite(tmp_path / "face.png", picture)
    np.savetxt(tmp_path / "face.txt", landmarks.numpy())
    words = ["fit", str(tmp_path / "face.png"), "--model", str(tmp_path / "51.safetensors"), "--iterations", "0"]
    assert main([*words, "--contour", "static", "-o", str(tmp_path / "out")]) == 0
    assert "51 of 68 landmarks" in (said := capsys.readouterr().out)
    assert float(re.search(r"([\d.]+) pixels off", said)[1]) < 2
    named = json.loads((tmp_path / "out" / "coefficients.json").read_text())  # JSON has no NaN
    assert named["landmarks"][0] == [None, None] and named["landmark_count"] == 51


@pytest.mark.parametrize("name", ["overlay.png", "error.png"])
def test_an_input_is_never_overwritten(tmp_path, model_file, capsys, name):
    picture, _, _, _, landmarks = rendered(patch(), seed=7)
    iio.imwrite(tmp_path / name, picture)
    np.savetxt(tmp_path / "points.txt", landmarks.numpy())
    before = (tmp_path / name).read_bytes()
    words = ["fit", str(tmp_path / name), "--landmarks", str(tmp_path / "points.txt"), "--model", model_file]
    assert main([*words, "-o", str(tmp_path)]) == 1
    assert "never overwritten" in capsys.readouterr().err and (tmp_path / name).read_bytes() == before


@pytest.fixture(scope="module")
def person():
    """A rendered person of the built-in model with its landmarks, in the middle of a larger picture."""
    picture, _, _, _, landmarks = rendered(load_model(), seed=1, yaw=0.3)
    canvas = np.full((448, 448, 3), picture[0, 0], np.uint8)
    canvas[112:336, 112:336] = picture
    return canvas, landmarks.numpy() + 112


def turned(points):
    return points.mean(0) * 2 - points


@pytest.mark.parametrize(
    ("moved", "words"),
    [
        (lambda p: p, None),
        (lambda p: p + [0, 70], "no face is seen at the landmarks"),
        (lambda p: p / 2, "no face is seen at the landmarks"),
        (turned, "no face is seen at the landmarks"),
        (lambda p: 2 * p - p.mean(0), "only about half as large"),
    ],
    ids=["right", "shifted", "of a half-size picture", "turned by 180 degrees", "twice as large"],
)
def test_a_photo_without_a_face_at_the_landmarks_gives_a_doubt(tmp_path, capsys, person, moved, words):
    iio.imwrite(tmp_path / "face.png", person[0])
    np.savetxt(tmp_path / "face.txt", moved(person[1]))
    words_given = ["fit", str(tmp_path / "face.png"), "--iterations", "0", "--contour", "static", "--mesh", ".ply"]
    code = main([*words_given, "-o", str(tmp_path / "out")])
    said = capsys.readouterr().err
    doubts = json.loads((tmp_path / "out" / "coefficients.json").read_text())["doubts"]
    assert code == (words is not None) and (words or "") in said and said.count("\n") == code
    assert len(doubts) == code and (tmp_path / "out" / "face.ply").is_file()


def test_without_the_weights_of_the_face_check_pixels_are_not_looked_at(person, monkeypatch):
    fit = fit_image(person[0], turned(person[1]), "builtin", "static", iterations=0, progress=False)
    assert fit.doubts == [] and len(face_doubts(person[0], fit, load_model())) == 1
    monkeypatch.setattr(fit_face_check, "load_face_check", lambda: None)
    assert face_doubts(person[0], fit, load_model()) == []


def test_a_model_without_a_jaw_is_looked_at_around_the_five_points(person):
    data = builtin_data()
    weights = data.landmark_weights.copy()
    weights[:17] = 0
    model = MorphableModel(replace(data, landmark_weights=weights, contour=None))
    for points, doubts in ((person[1], 0), (turned(person[1]), 1)):
        fit = fit_image(person[0], points, model, "static", iterations=0, progress=False)
        assert len(face_doubts(person[0], fit, model)) == doubts
    unseen = MorphableModel(replace(data, landmark_weights=weights * 0, contour=None, landmark_index=None))
    assert face_confidence(person[0], fit, unseen) is None


def test_a_mesh_that_cannot_show_a_face_is_named(tmp_path, model_file, capsys):
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    assert main(["fit", str(tmp_path / "a.obj"), "-o", str(tmp_path / "out"), "--model", str(model_file)]) == 1
    assert "a.obj: the mesh cannot show a face: expected at least 20 triangles, found 1" in capsys.readouterr().err
