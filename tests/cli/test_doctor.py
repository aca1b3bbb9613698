"""facemodels doctor: what it finds, what it says of the rest, and what scripts can rely on."""

import json
import pickle
import struct
from dataclasses import replace

import numpy as np
import pytest

from facemodels.cli import doctor, sources
from facemodels.cli.main import main
from facemodels.models.builtin import builtin_data
from facemodels.models.formats import FAMILIES, ict
from facemodels.models.formats.native import write_native
from tests.face_patch import patch_data


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """An empty working folder, cache and FACEMODELS_DATA; nothing else is searched."""
    for name in ("work", "cache", "data"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FACEMODELS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "a" / "b" / "c" / "doctor.py"))
    return tmp_path


def surrey(path):
    """A model of four vertices in the eos format."""
    mean = np.array([[0, 0, 0], [90, 0, 0], [90, 90, 0], [0, 90, 0]], "<f4")

    def matrix(a):
        return struct.pack("<ii", *a.shape) + a.astype("<f4").tobytes("F")

    faces = np.array([[0, 1, 2], [0, 2, 3]], "<i4")
    shape = (
        matrix(mean.reshape(-1, 1))
        + matrix(np.eye(12)[:, :2])
        + matrix(np.full((2, 1), 16.0))
        + struct.pack("<Q", 2)
        + faces.tobytes()
    )
    path.write_bytes(struct.pack("<I", 1) + shape + matrix(np.zeros((0, 1))) * 3 + struct.pack("<QQ", 0, 0))


def run(capsys, *arguments):
    code = main(["doctor", *map(str, arguments)])
    return code, capsys.readouterr().out


def test_it_says_what_is_installed_and_that_rendering_works(alone, capsys):
    code, said = run(capsys)
    assert code == 0
    assert "facerender" in said and "torch" in said and "rendering works: yes" in said
    for package, _, use in doctor.OPTIONAL:
        assert f"{package} " in said and use in said


def test_a_missing_package_is_told_with_the_command_that_installs_it(alone, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "OPTIONAL", (doctor.OptionalPackage("nosuch[extra]", "no-such-package", "nothing"),))
    assert "nosuch[extra] is missing: nothing (pip install nosuch[extra])" in run(capsys)[1]


def test_every_family_that_is_missing_is_told_with_file_page_and_folder(alone, capsys):
    _, said = run(capsys)
    for family in FAMILIES:
        if family == "facemodels":
            continue
        source = sources.MODELS[family]
        block = said[said.index(f"  {family}\n") :].split("\n    file: ")[1]
        assert (
            block.startswith(source.file) and source.page in block and source.inside in block and "http" in source.page
        )
        for beside in source.beside:
            assert beside in said
    assert set(sources.MODELS) == set(FAMILIES) - {"facemodels"}


def test_the_file_that_is_named_for_a_family_is_one_that_the_search_finds(alone):
    from pathlib import PurePath

    for family, source in sources.MODELS.items():
        names = [word.strip(",") for word in source.file.split() if "." in word]
        assert names and all(
            any(PurePath(name).match(pattern) for pattern in FAMILIES[family].files) for name in names
        ), family


@pytest.mark.parametrize("place", ["data", "data/archive", "work/models", "cache/facemodels"])
def test_a_model_is_found_and_read_in_each_place_that_is_searched(alone, capsys, place):
    (alone / place).mkdir(parents=True, exist_ok=True)
    surrey(alone / place / "sfm_small.bin")
    code, said = run(capsys)
    assert (
        code == 0 and "sfm_small.bin\n    Surrey Face Model (sfm_small): 4 vertices; 2 identity, 0 expression" in said
    )
    assert "  Surrey\n" not in said and "  Basel 2017\n" in said


def test_the_places_that_are_searched_are_named_and_only_those(alone, capsys):
    _, said = run(capsys)
    for place in (alone / "data", "models", alone / "cache" / "facemodels"):
        assert f"  {place}" in said
    assert "shared" not in said and "models  (does not exist)" in said


def test_several_folders_may_be_given(alone, capsys, monkeypatch):
    (alone / "more").mkdir()
    surrey(alone / "more" / "sfm_small.bin")
    monkeypatch.setenv("FACEMODELS_DATA", f"{alone / 'data'}:{alone / 'more'}")
    assert "sfm_small.bin" in run(capsys)[1]


def test_a_damaged_model_is_told_in_a_line_and_does_not_stop_the_rest(alone, capsys):
    (alone / "data" / "01_MorphableModel.mat").write_text("not a model")
    (alone / "data" / "generic_model.pkl").write_bytes(pickle.dumps({"v_template": np.zeros(3)}))
    surrey(alone / "data" / "sfm_small.bin")
    code, said = run(capsys)
    assert code == 0
    assert said.count("cannot be read: ") == 2 and "01_MorphableModel.mat: expected" in said and "4 vertices" in said


def test_ict_faces_folder_counts_as_the_model(alone):
    (alone / "data" / "FaceXModel").mkdir()
    (alone / "data" / "FaceXModel" / "generic_neutral_mesh.obj").write_text("v 0 0 0\n")
    found = doctor.examine([alone / "data"])
    assert found["models"][0]["path"] == str(alone / "data" / "FaceXModel") and "error" in found["models"][0]
    assert "ICT-FaceKit light" not in {m["family"] for m in found["missing"]} and ict.VERTICES == 26719


def test_data_sets_are_found_by_name(alone, capsys):
    (alone / "data" / "AFLW2000").mkdir()
    _, said = run(capsys)
    assert f"AFLW2000-3D: {alone / 'data' / 'AFLW2000'}" in said and "300W-LP: not found; page: http" in said


def test_json_holds_all_that_is_printed(alone, capsys):
    surrey(alone / "data" / "sfm_small.bin")
    code, said = run(capsys, "--json", alone / "doctor.json")
    found = json.loads((alone / "doctor.json").read_text())
    assert code == 0 and found["works"] is True and found["library"]["torch"] in said
    assert found["models"][0] | {"path": ""} == {
        "path": "",
        "family": "Surrey",
        "name": "Surrey Face Model (sfm_small)",
        "vertices": 4,
        "identity": 2,
        "expression": 0,
        "albedo": 0,
        "landmarks": 0,
        "licence": found["models"][0]["licence"],
    }
    assert all(m["file"] in said and m["page"] in said for m in found["missing"])
    assert f"{doctor.report(found)}\n\n{alone / 'doctor.json'}  the findings\n" == said


def test_json_to_a_place_that_is_not_there_is_one_sentence(alone, capsys):
    assert main(["doctor", "--json", str(alone / "no" / "doctor.json")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "doctor.json: the folder" in error


def test_exit_code_is_1_when_nothing_can_be_drawn(alone, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_works", lambda: False)
    code, said = run(capsys)
    assert code == 1 and "rendering works: NO" in said


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "examples:\n  facemodels doctor" in capsys.readouterr().out


def test_a_model_is_described_with_its_regions(alone, capsys):
    code, said = run(capsys, "builtin", "--json", alone / "model.json")
    assert code == 0 and "11737 vertices" in said and "all of them ARKit's" in said and "license: MIT" in said
    model, data = json.loads((alone / "model.json").read_text()), builtin_data()
    assert model["regions"] == {name: len(vertices) for name, vertices in data.regions.items()}
    assert all(f"{name:<9}  {count} vertices" in said for name, count in model["regions"].items())
    assert model["landmarks"] == list(range(68)) and len(model["arkit"]) == 52


def test_what_a_model_lacks_is_said(alone, capsys):
    data = patch_data()
    data.landmark_weights[:17], data.contour = 0, None
    write_native(data, alone / "51.safetensors")
    code, said = run(capsys, alone / "51.safetensors")
    assert code == 0 and "landmarks: 51 of 68; without 0, 1, 2" in said and "0 of ARKit's 52 among them" in said
    assert "not known" in said
    assert main(["doctor", str(alone / "none.safetensors")]) == 1
    assert "none.safetensors: there is no such file; expected a model" in capsys.readouterr().err


def test_curves_of_arkit_that_a_model_has_in_two_halves_are_counted(alone, capsys):
    data = builtin_data()
    names = [name for name in data.expression_names if name not in ("browInnerUp", "tongueOut")]
    halves = ("browInnerUpLeft", "browInnerUpRight")
    modes = data.expression[: len(names) + 2]
    write_native(
        replace(data, expression=modes, expression_names=(*names, *halves)),
        alone / "halves.safetensors",
    )
    code, said = run(capsys, alone / "halves.safetensors")
    assert code == 0 and "51 of ARKit's 52 among them" in said


def test_a_model_without_landmarks_is_told_what_it_cannot_do(alone, capsys):
    data = replace(patch_data(), landmark_index=None, landmark_weights=None, contour=None)
    write_native(data, alone / "bare.safetensors")
    code, said = run(capsys, alone / "bare.safetensors")
    assert code == 0 and "landmarks: 0 of 68; without any, it cannot be fitted to photos" in said
    assert "put it beside the model" in said and "landmark_index" in said
