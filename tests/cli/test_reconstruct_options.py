"""facemodels reconstruct: its options, and where the results go."""

import os

import pytest
from PIL import Image

from tests.stub_method import found_at, pretend, ramps, run_reconstruct


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--write", "overlay,hologram"], "--write hologram: there are overlay"),
        (["--write", ","], "--write: nothing to write"),
        (["--device", "banana"], "must be cpu, cuda or auto, got 'banana'"),
        (["--boxes", "nowhere.json"], "nowhere.json: there is no such file; expected JSON"),
        (["--landmarks", "nowhere.pts"], "nowhere.pts: there is no such landmark file"),
    ],
)
def test_wrong_options_are_one_sentence(stub, tmp_path, monkeypatch, capsys, arguments, message):
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    assert run_reconstruct(stub, monkeypatch, tmp_path / "a.png", "-o", tmp_path / "out", *arguments) == 1
    assert message in capsys.readouterr().err


def test_usual_is_a_word_for_several(stub, tmp_path, monkeypatch):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    assert run_reconstruct(stub, monkeypatch, tmp_path / "a.png", "-o", tmp_path, "--write", "usual,arkit") == 0
    kinds = {p.name.partition("_")[2] for p in tmp_path.glob("a_*")}
    assert {"overlay.png", "landmarks.png", "pose.png", "0.glb", "0.npz", "0.json", "0_arkit.csv"} <= kinds


def test_the_numbers_of_faces_and_their_size_reach_the_search(stub, tmp_path, monkeypatch):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    arguments = (tmp_path / "a.png", "-o", tmp_path / "out", "--write", "pose")
    assert run_reconstruct(stub, monkeypatch, *arguments, "--most", "1", "--smallest", "20") == 0
    assert run_reconstruct(stub, monkeypatch, *arguments, "--smallest", "239") == 1  # it is smaller
    for wrong in (("--most", "0"), ("--smallest", "0"), ("--person", "-1")):
        with pytest.raises(SystemExit) as end:
            run_reconstruct(stub, monkeypatch, *arguments, *wrong)
        assert end.value.code == 2


def test_a_folder_that_cannot_be_written_is_one_sentence(stub, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    assert run_reconstruct(stub, monkeypatch, tmp_path / "a.png", "-o", tmp_path / "file" / "out") == 1
    assert "nothing can be written there" in capsys.readouterr().err


def test_a_name_that_cannot_be_written_ends_its_own_input(stub, tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    long = "x" * 245
    for name in (f"{long}.png", "a.png"):
        Image.fromarray(ramps()).save(tmp_path / name)
    out = tmp_path / "out"
    assert run_reconstruct(stub, monkeypatch, tmp_path, "-o", out, "--write", "overlay") == 1
    assert "cannot be written" in capsys.readouterr().err and (out / "a_overlay.png").is_file()


def test_a_photograph_with_the_name_of_a_result_stays(stub, tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    folder = tmp_path / "pics"
    folder.mkdir()
    for name in ("a.jpg", "a_overlay.png"):
        Image.fromarray(ramps()).save(folder / name)
    before = (folder / "a_overlay.png").read_bytes()
    for _ in range(2):  # in the second run there are results in the folder
        assert run_reconstruct(stub, monkeypatch, folder, "-o", folder, "--write", "overlay") == 0
        names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        assert names == ["a.jpg", "a.jpg_overlay.png", "a_overlay.png", "a_overlay_overlay.png"]
        assert (folder / "a_overlay.png").read_bytes() == before
    assert "2 pictures or videos that earlier runs wrote there" in capsys.readouterr().err
    # One by one, too.
    assert run_reconstruct(stub, monkeypatch, folder / "a.jpg", "-o", folder, "--write", "overlay") == 0
    assert (folder / "a_overlay.png~").read_bytes() == before


def test_no_two_words_write_one_file(stub, tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    contents = []
    for words in ("texture,obj", "obj,texture", "all"):
        out = tmp_path / words
        assert run_reconstruct(stub, monkeypatch, tmp_path / "a.png", "-o", out, "--write", words) == 0
        contents.append({p.name: p.read_bytes() for p in out.iterdir() if not p.name.startswith(".")})
        assert int(capsys.readouterr().out.splitlines()[-1].split()[0]) == len(contents[-1])
    assert contents[0] == contents[1] and contents[0].items() <= contents[2].items()


def test_the_work_is_done_when_the_reader_of_the_output_ends(stub, tmp_path, monkeypatch):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    for k in range(12):  # more than one group
        Image.fromarray(ramps()).save(tmp_path / f"{k}.png")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        assert run_reconstruct(stub, monkeypatch, tmp_path, "-o", tmp_path / "out", "--write", "pose") == 0
    assert len(list((tmp_path / "out").glob("*_0_pose.csv"))) == 12
