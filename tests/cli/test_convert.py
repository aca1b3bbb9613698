"""facemodels convert: what it prints and writes, and what it leaves alone."""

import os

import numpy as np
import pytest

from facemodels.cli.main import main
from facemodels.models.formats import FAMILIES, read
from facemodels.models.formats.native import write_native
from tests.models.files import (
    dome,
    flame,
    ict_npz,
    lp,
    same,
    surrey,
)


@pytest.fixture(scope="module")
def face():
    return dome()


def test_convert_says_what_was_read_and_writes_a_model_that_reads_the_same(tmp_path, face, capsys):
    path, _ = flame(tmp_path, face)
    out = tmp_path / "flame.safetensors"
    assert main(["convert", str(path), str(out)]) == 0
    said = capsys.readouterr().out
    assert (
        "81 vertices" in said and "300 identity, 2 expression" in said and "license: FLAME" in said and str(out) in said
    )
    same(read(out), read(path))


def test_convert_keeps_the_first_modes_that_are_asked_for(tmp_path, face, capsys):
    path, _ = lp(tmp_path, face)
    out = tmp_path / "short.safetensors"
    assert main(["convert", str(path), str(out), "--identity", "2", "--expression", "1"]) == 0
    assert "kept: 2 identity and 1 expression" in capsys.readouterr().out
    short, whole = read(out), read(path)
    assert np.array_equal(short.identity, whole.identity[:2]) and np.array_equal(short.expression, whole.expression[:1])


def test_convert_never_writes_over_its_input(tmp_path, face, capsys):
    write_native(read(ict_npz(tmp_path, face)[0]), tmp_path / "a.safetensors")
    os.link(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    for out in ("a.safetensors", "b.safetensors"):
        assert main(["convert", str(tmp_path / "a.safetensors"), str(tmp_path / out)]) == 1
        assert "is an input" in capsys.readouterr().err
    assert (tmp_path / "a.safetensors").read_bytes() == before


@pytest.mark.parametrize("out", ["model.npz", "nowhere/model.safetensors"])
def test_convert_to_a_place_that_cannot_be_written_leaves_nothing(out, tmp_path, face, capsys):
    path, _ = surrey(tmp_path, face)
    assert main(["convert", str(path), str(tmp_path / out)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_convert_of_a_bad_file_leaves_an_old_output_alone(tmp_path, capsys):
    (tmp_path / "bad.pkl").write_text("no")
    (tmp_path / "old.safetensors").write_text("old")
    assert main(["convert", str(tmp_path / "bad.pkl"), str(tmp_path / "old.safetensors")]) == 1
    assert (tmp_path / "old.safetensors").read_text() == "old" and "bad.pkl" in capsys.readouterr().err


def test_convert_help_has_an_example_and_every_family(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    said = capsys.readouterr().out
    assert "example:\n  facemodels convert" in said and all(
        f"{name}: {family.given}" in " ".join(said.split()) for name, family in FAMILIES.items()
    )
