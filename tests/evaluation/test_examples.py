"""The example of every protocol: written in its layout, scored as it stands, described in its help."""

import json
import math
import sys
from types import ModuleType

import numpy as np
import pytest

from facemodels import InputError, load_method
from facemodels.cli.main import main
from facemodels.evaluation import PROTOCOLS, ProtocolEntry, evaluate, examples, load_protocol, synthetic_scans
from facemodels.evaluation import write_example as write
from facemodels.evaluation.report import Report

# Columns by which published tables are sorted; not always the last.
RANKED_BY = {
    "aflw2000": "mean",
    "aflw2000-dense": "dense 3D",
    "pose": "mean",
    "aflw21": "mean",
    "now": "median mm",
    "florence": "RMSE mm",
    "facewarehouse": "mean mm",
    "realy": "all mm",
    "e2far-shape": "RMSE mm",
    "synthetic-scans": "median mm",
}
# Of scores on the example, in the unit of the report: far above what a network makes of renderings, far below nonsense.
LARGEST = {"mm": 4.0, "percent": 15.0, "degrees": 12.0}


@pytest.fixture(scope="module")
def method():
    return load_method("dasl-aflw")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_example_is_scored_as_it_stands_and_its_report_says_what_it_is(protocol, method, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_scans, "POINTS", 2000)
    folder = write(protocol, tmp_path / "example")
    report = evaluate(protocol, folder, method)
    assert report.results.get("people", 2) == 2  # few, so that trying takes seconds
    assert all(math.isfinite(value) for value in report.row) and np.isfinite(report.errors).all()
    numbers = [v for v in report.results.values() if isinstance(v, float)]
    assert len(numbers) > 1 and np.isfinite(numbers).all()
    rank = report.row[list(report.columns).index(report.ranked_by)]
    assert report.ranked_by == RANKED_BY[protocol] and 0 < rank < LARGEST[report.unit]
    assert report.title.startswith("EXAMPLE DATA") and report.results["example"] is True
    assert "example" in report.notes[0].lower() and not report.published, "no rank among the published ones"
    assert "fit; the first" not in " ".join(report.notes) and report.method == "dasl"
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    assert sum(sizes) < 10e6 and not any(path.name.startswith(".") for path in folder.rglob("*"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_help_has_the_layout_and_the_order_of_landmarks(protocol, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", protocol, "--help"])
    text = capsys.readouterr().out
    # Points: two of the list that the protocol takes, with their numbers.
    seven, many, aflw = (
        ("5  base of the nose", "2  right eye, inner"),
        ("48-59  outer lips",),
        ("12     lobe", "20     chin"),
    )
    expected = {"now": seven, "synthetic-scans": seven, "aflw21": aflw}.get(protocol, many)
    assert all(words in text for words in expected) and "subject's" in text and "--example DIR" in text
    assert "DATA/" in text or "FaceXModel/" in text
    assert max(map(len, text.splitlines())) <= 105


def test_every_file_of_an_example_is_named_in_the_help(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["evaluate", "now", "--help"])
    text = capsys.readouterr().out
    for path in write("now", tmp_path / "now").rglob("*"):
        if path.is_file() and path.name != "README.txt":
            known = (*path.relative_to(tmp_path / "now").parts[:1], path.suffix)
            assert all(words in text for words in known), path


def test_the_command_writes_the_example_and_says_what_to_do_next(tmp_path, capsys):
    folder = tmp_path / "my example"
    assert main(["evaluate", "aflw21", "--example", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert f"Next: facemodels evaluate aflw21 --data '{folder}'" in printed and "aflw_crops.zip" in printed
    assert (
        main(["evaluate", "aflw21", "--data", str(folder), "--method", "pgn", "--json", str(tmp_path / "a.json")]) == 0
    )
    assert json.loads((tmp_path / "a.json").read_text())["images"] == 6 and "> pgn" in capsys.readouterr().out


def test_an_example_goes_into_an_empty_folder_alone(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    for place, words in ((tmp_path / "full", "found files in it"), (tmp_path / "full" / "thesis.txt", "found a file")):
        assert main(["evaluate", "now", "--example", str(place)]) == 1
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_the_same_example_comes_out_every_time(tmp_path):
    first, second = (write("now", tmp_path / name) for name in ("first", "second"))
    for path in first.rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path


def test_pictures_show_their_people_at_the_yaws():
    people = examples.people(2, (0.0, 40.0))
    frontal, side = people[0].pictures
    assert frontal.image.shape == (examples.SIZE, examples.SIZE, 3) and np.array_equal(frontal.identity, side.identity)
    assert not np.array_equal(frontal.identity, people[1].pictures[0].identity)
    nose, jaws = (points := side.landmarks[:, 0])[30], (points[0] + points[16]) / 2
    assert abs(nose - jaws) > 20 and abs(frontal.landmarks[30, 0] - frontal.landmarks[[0, 16], 0].mean()) < 20
    assert ((0 < side.landmarks[:, :2]) & (side.landmarks[:, :2] < examples.SIZE)).all() and frontal.visible[30]


# Protocols from outside, and the call in Python.


@pytest.fixture
def registered(monkeypatch):
    """A protocol in a module of somebody else."""
    module = ModuleType("somebody_elses")

    def configure(parser):
        parser.epilog = "The data: a folder"
        parser.add_argument("--times", type=int, default=2)
        parser.add_argument("--kind", choices=("mean", "sum"), default="mean")

    def run(method, data, options):
        value = float(options.times)
        return Report("theirs", "What", {"kind": options.kind}, [value], "mm", 5.0, ["a", "b"], [value, 1.0], "a")

    module.configure, module.run = configure, run
    monkeypatch.setitem(sys.modules, "somebody_elses", module)
    monkeypatch.setitem(PROTOCOLS, "theirs", ProtocolEntry("somebody_elses", "one of somebody else"))
    return module


def test_a_protocol_outside_the_package_is_registered_in_one_place(registered, tmp_path, capsys, method):
    assert load_protocol("theirs") is registered
    assert main(["evaluate", "theirs", "--data", str(tmp_path), "--method", "pgn", "--times", "3"]) == 0
    assert "> pgn" in capsys.readouterr().out
    assert main(["evaluate", "theirs", "--example", str(tmp_path / "new")]) == 1
    assert "has no example" in capsys.readouterr().err
    registered.write_example = lambda folder: (folder / "a.txt").write_text("a")
    assert main(["evaluate", "theirs", "--example", str(tmp_path / "new")]) == 0
    assert "Next: the same command with --data" in capsys.readouterr().out


def test_the_call_in_python_takes_the_options_of_the_command(registered, tmp_path, method):
    report = evaluate("theirs", tmp_path, method, times=4, kind="sum")
    assert report.row[0] == 4 and report.results == {"kind": "sum"}
    assert evaluate("theirs", str(tmp_path), "pgn", times="3").method == "pgn"
    assert evaluate("theirs", tmp_path, method).row[0] == 2 and "> dasl" in evaluate("theirs", tmp_path, method).table()
    for options, words in (
        ({"time": 3}, "has no option time; it has times, kind"),
        ({"kind": "max"}, "kind must be one of mean, sum, got 'max'"),
        ({"times": "x"}, "times='x'"),
    ):
        with pytest.raises(InputError, match=words):
            evaluate("theirs", tmp_path, method, **options)
    with pytest.raises(InputError, match="there is no protocol 'nose'; there are aflw2000, "):
        evaluate("nose", tmp_path)
