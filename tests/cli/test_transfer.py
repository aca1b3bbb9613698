"""facemodels transfer: coefficients to another model, and an expression to another photo."""

import zipfile

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from facemodels.cli import transfer
from facemodels.cli.main import main
from facemodels.models.formats.native import write_native
from tests.face_patch import patch_data, permuted
from tests.stub_method import (
    HEIGHT,
    WIDTH,
    found_at,
    pretend,
    ramps,
    read_rows,
    run_transfer,
    unclosed,
    write_video,
)

IDENTITY = torch.tensor([[1.0, -0.5, 0.8, 0.3, -1.2, 0.6, 0.0, -0.4]])
EXPRESSION = torch.tensor([[0.8, 0.0, 0.2], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.1, 0.3, 0.9]])


@pytest.fixture
def files(tmp_path):
    write_native(patch_data(), tmp_path / "a.safetensors")
    write_native(permuted(patch_data()), tmp_path / "b.safetensors")
    np.savez(tmp_path / "in.npz", identity=IDENTITY.numpy(), expression=EXPRESSION.numpy())
    return tmp_path


def test_command_writes_coefficients_and_a_table_of_curves(files, capsys):
    assert (
        main(
            [
                "transfer",
                str(files / "in.npz"),
                "--from",
                str(files / "a.safetensors"),
                "--to",
                str(files / "b.safetensors"),
                "-o",
                str(files / "out.npz"),
            ]
        )
        == 0
    )
    out = np.load(files / "out.npz")
    np.testing.assert_allclose(out["identity"], IDENTITY, atol=0.02)
    np.testing.assert_allclose(out["expression"], EXPRESSION, atol=0.02)
    lines = (files / "out.csv").read_text().splitlines()
    assert lines[0] == "frame,chinDown,mouthWide,browsUp" and len(lines) == 5
    np.testing.assert_allclose(
        np.loadtxt(files / "out.csv", delimiter=",", skiprows=1)[:, 1:], out["expression"], atol=1e-5
    )
    assert "4 frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content, words",
    [
        ({"expression": np.zeros((2, 9))}, "[2, 9]"),
        ({"identity": np.zeros((3, 8))}, "one person"),
        ({"expression": np.full((2, 3), np.nan)}, "not finite"),
        ({"joints": np.zeros((2, 1, 3))}, "joints"),
        ({"other": np.zeros(3)}, "found none"),
        (b"no archive", "not a readable"),
        (None, "no such file"),
    ],
)
def test_command_names_what_is_wrong_with_a_file(files, content, words, capsys):
    path = files / "bad.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, **content)
    assert (
        main(
            [
                "transfer",
                str(path),
                "--from",
                str(files / "a.safetensors"),
                "--to",
                str(files / "b.safetensors"),
                "-o",
                str(files / "out.npz"),
            ]
        )
        == 1
    )
    said = capsys.readouterr().err
    assert words in said and "bad.npz" in said and said.count("\n") == 1


def test_an_expression_is_carried_to_another_photograph(stub, tmp_path, monkeypatch):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    for name in ("a.png", "b.png"):
        Image.fromarray(ramps()).save(tmp_path / name)
    assert run_transfer(stub, monkeypatch, tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "out") == 0
    (row,) = read_rows(tmp_path / "out" / "b_transfer_arkit.csv")
    assert float(row[stub.model.expression_names[0]]) == 0.5
    same = iio.imread(tmp_path / "out" / "b_transfer.png").astype(int)
    assert (
        same.shape == (HEIGHT, WIDTH, 3) and np.abs(same - ramps()).mean() < 1.5
    )  # its own expression: the photograph as it was
    assert (tmp_path / "out" / "b_transfer.glb").is_file()


@unclosed
def test_expressions_of_a_video_are_carried_frame_by_frame(stub, tmp_path, monkeypatch):
    write_video(tmp_path / "talk.mp4", 7)
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    Image.fromarray(ramps()).save(tmp_path / "b.png")
    assert run_transfer(stub, monkeypatch, tmp_path / "talk.mp4", tmp_path / "b.png", "-o", tmp_path / "out") == 0
    assert len(read_rows(tmp_path / "out" / "b_transfer_arkit.csv")) == 7
    assert iio.imread(tmp_path / "out" / "b_transfer.mp4", plugin="FFMPEG").shape == (7, HEIGHT, WIDTH, 3)


def test_a_photograph_without_a_face_carries_nothing(stub, tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, found_at())
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    assert run_transfer(stub, monkeypatch, tmp_path / "a.png", tmp_path / "a.png", "-o", tmp_path / "out") == 1
    assert "a.png: no face was found" in capsys.readouterr().err
    assert main(["transfer", str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]) == 1
    assert "of photographs give two, SOURCE and TARGET" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"), [("no.mp4", "no.mp4: there is no such file"), ("http://a.b/c.mp4", "http://a.b/c.mp4: URLs are")]
)
def test_a_file_that_is_not_there_is_named_before_the_work(tmp_path, monkeypatch, capsys, name, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(transfer, "Reconstructor", None)
    Image.fromarray(ramps()).save("a.png")
    for source, target in ((name, "a.png"), ("a.png", name)):
        assert main(["transfer", source, target, "-o", "out"]) == 1
        assert f"facemodels transfer: {words}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.png", "b.png", "--from", "builtin"], "--from: for coefficients"),
        (["a.png", "b.png", "--from", "builtin", "--to", "x"], "--from and --to: for coefficients"),
        (["a.npz", "--from", "builtin", "--to", "x", "--method", "pgn"], "--method: for photographs"),
        (["a.json", "--from", "builtin", "--to", "x"], "a.json: coefficients are read from .npz; give a.npz"),
        (["a.npz", "b.png"], "a.npz: coefficients go alone, with --from and --to, the models"),
    ],
)
def test_an_option_of_the_other_kind_of_transfer_is_refused(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["transfer", *words, "-o", "out"]) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_member_of_a_npz_that_is_no_array_is_refused(files, capsys):
    with zipfile.ZipFile(files / "text.npz", "w") as archive:
        archive.writestr("expression.npy", "no array")
    models = ["--from", str(files / "a.safetensors"), "--to", str(files / "b.safetensors")]
    assert main(["transfer", str(files / "text.npz"), *models, "-o", str(files / "out.npz")]) == 1
    assert "text.npz: not a readable .npz file" in capsys.readouterr().err


def test_coefficients_are_never_written_over_those_that_are_read(files, capsys):
    before = (files / "in.npz").read_bytes()
    words = [str(files / "in.npz"), "--from", str(files / "a.safetensors"), "--to", str(files / "b.safetensors")]
    assert main(["transfer", *words, "-o", str(files / "in.npz")]) == 1
    assert "never overwritten" in capsys.readouterr().err and (files / "in.npz").read_bytes() == before


def test_coefficients_stay_as_they_are_from_a_model_to_itself(files, capsys):
    model = str(files / "a.safetensors")
    np.savez(files / "one.npz", identity=IDENTITY.numpy()[:, :5], expression=EXPRESSION.numpy()[:1])
    words = [str(files / "one.npz"), "--from", model, "--to", model, "-o", str(files / "out.npz")]
    assert main(["transfer", *words]) == 0
    out = np.load(files / "out.npz")
    assert (out["expression"] == EXPRESSION.numpy()[:1]).all()
    assert out["identity"].shape == (1, 8) and (out["identity"][:, :5] == IDENTITY.numpy()[:, :5]).all()
    said = capsys.readouterr().out
    assert "1 frame " in said and "the models are the same" in said and "as the coefficients have them" in said


@pytest.mark.parametrize("words", [["head.glb"], ["head.OBJ", "b.png"], ["a.png", "head.ply"]])
def test_a_mesh_is_refused_with_the_command_that_takes_it(words, capsys):
    assert main(["transfer", *words, "-o", "out"]) == 1
    said = capsys.readouterr().err
    assert "a mesh, but" in said and "facemodels fit head" in said and said.count("\n") == 1


def test_a_mesh_that_fit_does_not_read_either_is_to_be_saved_as_another(capsys):
    assert main(["transfer", "head.stl", "-o", "out"]) == 1
    assert "save it as head.obj, then facemodels fit head.obj -o FIT" in capsys.readouterr().err
