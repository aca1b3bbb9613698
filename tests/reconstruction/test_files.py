"""Files of a reconstructed face (facemodels.reconstruction.files)."""

import json

import pytest
from PIL import Image

from facemodels.reconstruction import overlays
from facemodels.reconstruction.files import OUTPUTS
from tests.stub_method import found_at, pretend, ramps, read_arrays, read_rows, run_reconstruct


def test_every_file_of_a_photograph_is_written(stub, tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    Image.fromarray(ramps()).save(tmp_path / "one.png")
    assert (
        run_reconstruct(stub, monkeypatch, tmp_path / "one.png", "-o", tmp_path / "out", "--write", ",".join(OUTPUTS))
        == 0
    )
    got = {p.name for p in (tmp_path / "out").iterdir()}
    pictures = {f"one_{w}.png" for w in overlays.PICTURES}
    files = {
        "one_0" + s
        for s in (
            ".obj",
            ".mtl",
            "_skin.png",
            ".ply",
            ".glb",
            ".html",
            "_texture.png",
            ".npz",
            ".json",
            "_arkit.csv",
            "_landmarks.txt",
            "_pose.csv",
        )
    }
    assert pictures | files <= got and {name for name in got if name[0] == "."} == {".facemodels-results"}
    arrays = read_arrays(tmp_path / "out" / "one_0.npz")
    assert (
        arrays["expression"].shape == (1, 52)
        and arrays["identity"].shape == (1, 100)
        and arrays["landmarks"].shape == (1, 68, 3)
    )
    readable = json.loads((tmp_path / "out" / "one_0.json").read_text())
    assert readable["scale"][0] == pytest.approx(0.5, rel=0.02) and len(readable["expression_names"]) == 52
    (row,) = read_rows(tmp_path / "out" / "one_0_pose.csv")
    assert [float(row[k]) for k in ("pitch_up_deg", "yaw_left_deg", "roll_clockwise_deg")] == [-6, -23, 11]
    (row,) = read_rows(tmp_path / "out" / "one_0_arkit.csv")
    assert float(row[stub.model.expression_names[0]]) == 0.5
    said = capsys.readouterr().out
    assert "1 face (score 0.90 pitch -6 yaw -23 roll 11)" in said
    assert f"\n{len(got) - 1} files in " in said  # without the hidden one
