"""facemodels evaluate: what it prints and writes, whose weights it takes, and how it fails."""

import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from types import ModuleType

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from facemodels import InputError
from facemodels.cli.main import main
from facemodels.evaluation import aflw2000_data
from facemodels.evaluation.report import HEIGHT, WIDTH
from facemodels.methods import registry, shipped
from facemodels.training.checkpoint import save_checkpoint
from facemodels.training.config import Config
from facemodels.training.method import Method
from tests.evaluation.labeled_faces import write_aflw2000


@dataclass
class ToyConfig(Config):
    weights: str = ""


class Toy(Method):
    """Predicts the same points in every crop."""

    name, config_class = "toy", ToyConfig
    size, model = 48, None

    def __init__(self, config):
        super().__init__(config)
        self.points = torch.nn.Parameter(torch.zeros(68, 2))

    def initialize(self):
        raise InputError(f"{self.config.weights}: there is no such file")  # nobody who only evaluates needs it

    def landmarks(self, images):
        assert not self.training and not torch.is_grad_enabled() and images.shape[1:] == (3, 48, 48)
        return self.points.expand(len(images), -1, -1)


class Blind(Method):
    name, model = "blind", None

    def __init__(self, config):
        super().__init__(config)
        self.one = torch.nn.Parameter(torch.ones(1))


@pytest.fixture
def toys(monkeypatch):
    module = ModuleType("somebody_elses")
    module.Toy, module.Blind = Toy, Blind
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(registry, "METHODS", {n: f"somebody_elses.{n.title()}" for n in ("toy", "blind")})


def checkpoint(folder, method=Toy, average=False, **settings):
    made = method(method.config_class())
    made.config = method.config_class(**settings)
    if method is Toy:
        made.points.data += 24
    weights = {"points": torch.full((68, 2), 12.0)} if average else None
    return save_checkpoint(folder, 1, made, {}, weights, {}, 1, None)


def test_command_prints_both_means_and_writes_flat_json_pictures_and_every_error(toys, tmp_path, capsys):
    data = write_aflw2000(tmp_path / "AFLW2000")
    saved = checkpoint(tmp_path / "run" / "checkpoints", weights="gone.mat")
    out = tmp_path / "results.json"
    arguments = [
        "--method",
        "toy",
        "--checkpoint",
        str(saved),
        "--data",
        str(data),
        "--json",
        str(out),
        "--pictures",
        str(tmp_path / "sheet"),
    ]
    assert main(["evaluate", "aflw2000", *arguments, "--device", "cpu"]) == 0
    results, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert (
        results["method"] == "toy"
        and results["name"] == "toy (run, step 1)"
        and results["images"] == 5
        and results["given"] == "the picture alone"
        and "the picture alone" in printed
    )
    for key in ("nme68_2d_balanced_percent", "nme68_2d_plain_percent", "nme68_2d_reannotated_balanced_percent"):
        assert f"{results[key]:.3f}" in printed
    assert f"\n\n{out}  the results\n" in printed
    assert "balanced" in printed and "plain" in printed and "from the labeled landmarks" in printed
    picture = iio.imread(tmp_path / "sheet" / "faces.png")
    assert picture.shape[1] == 5 * picture.shape[0] / 3
    rows = list(csv.DictReader((tmp_path / "sheet" / "errors.csv").read_text().splitlines()))
    assert len(rows) == 5 and np.mean([float(r["nme68_2d_percent"]) for r in rows]) == pytest.approx(
        results["nme68_2d_plain_percent"], abs=1e-4
    )


def test_averaged_weights_are_scored(toys, tmp_path):
    plain, averaged = (registry.load_method(checkpoint(tmp_path / str(a), average=a)) for a in (False, True))
    assert plain.points[0, 0] == 24 and averaged.points[0, 0] == 12 and not averaged.training


def test_command_prints_the_published_table_with_its_own_row_and_notes_and_draws_the_curve(toys, tmp_path, capsys):
    write_aflw2000(tmp_path / "AFLW2000")
    saved = checkpoint(tmp_path / "run" / "checkpoints")
    assert (
        main(
            [
                "evaluate",
                "aflw2000",
                "--checkpoint",
                str(saved),
                "--data",
                str(tmp_path),
                "--curve",
                str(tmp_path / "curve.png"),
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith(("> ", "  3DDFA 2016", "  2DASL (arXiv)"))]
    assert (
        [r.split()[0] for r in rows] == ["2DASL", "3DDFA", ">"]
        and rows[2].split()[1:5] == ["toy", "(run,", "step", "1)"]
        and "3.53*" in rows[0]
        and "5.42" in rows[1]
    )
    assert "5 photographs" in printed and "Measured on 5 of the 2,000 photographs" in printed and "recalled" in printed
    assert iio.imread(tmp_path / "curve.png").shape == (HEIGHT, WIDTH, 3)
    assert aflw2000_data.subset_notes(2000, 0) == []


def test_shipped_weights_are_taken_by_name_and_the_best_of_them_without_one(toys, tmp_path, capsys, monkeypatch):
    data, asked = write_aflw2000(tmp_path / "AFLW2000"), []

    def load(checkpoint=None, device="cpu"):
        asked.append(checkpoint)
        return Toy(ToyConfig()).eval()

    monkeypatch.setattr("facemodels.cli.evaluate.load_method", load)
    out = tmp_path / "a.json"
    assert main(["evaluate", "aflw2000", "--data", str(data), "--json", str(out)]) == 0
    assert main(["evaluate", "aflw2000", "--method", "toy-small", "--data", str(data)]) == 0
    assert asked == [shipped.default_weights(), "toy-small"] and "ship" in json.loads(out.read_text())["checkpoint"]
    assert "\n> toy-small" in capsys.readouterr().out


def test_only_the_requested_protocol_is_imported():
    code = """
import sys
from facemodels.cli.main import main
try:
    main(["evaluate", "pose", "--help"])
except SystemExit:
    pass
print(sorted(m for m in sys.modules if m.startswith("facemodels.evaluation.")))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    last = printed.splitlines()[-1]
    assert "evaluation.pose" in last and "aflw21" not in last and "dense" not in last
    assert "--limit" in printed and "--curve" in printed and "99 degrees" in printed


def test_errors_of_the_command_are_one_sentence(toys, tmp_path, capsys):
    data, saved = write_aflw2000(tmp_path / "AFLW2000"), checkpoint(tmp_path / "run" / "checkpoints")
    blind, broken = checkpoint(tmp_path / "blind", Blind), checkpoint(tmp_path / "broken")
    (broken / "config.json").write_text("{")
    for arguments, words in (
        ({"--checkpoint": blind}, "gives no pose"),
        ({"--checkpoint": tmp_path / "run"}, "the last checkpoint in it is"),
        ({"--checkpoint": tmp_path / "missing"}, "there is no such folder of a checkpoint"),
        ({"--checkpoint": broken}, "config.json"),
        ({"--method": "dasl"}, "not of dasl"),
        ({"--data": tmp_path / "missing"}, "no such file or folder"),
        ({"--labels": tmp_path / "missing.npz"}, "missing.npz"),
        ({"--device": "abacus"}, "the device must be cpu, cuda or auto, got 'abacus'"),
        ({"--json": tmp_path / "missing" / "a.json"}, "missing/a.json"),
        ({"--curve": tmp_path / "missing" / "a.png"}, "missing/a.png"),
        ({"--curve": tmp_path / "a.txt"}, "a.txt"),
        ({"--json": data / "image00001.mat"}, "would be overwritten"),
        ({"--curve": data / "image00001.jpg"}, "a part of --data"),
        ({"--json": saved / "config.json"}, "a part of --checkpoint"),
        ({"--json": tmp_path}, "found a folder"),
        ({"--json": tmp_path / "a.png", "--curve": tmp_path / "a.png"}, "two files"),
    ):
        given = {"--checkpoint": saved, "--data": data} | arguments
        assert main(["evaluate", "aflw2000", *(str(word) for pair in given.items() for word in pair)]) == 1, words
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1


def test_options_that_need_or_exclude_each_other_end_with_2(toys, tmp_path, capsys):
    for words, message in (
        ([], "--data PATH is required; --example DIR"),
        (["--data", "a", "--example", "b"], "either --example or --data"),
        (["--data", "a", "--predictions", "b", "--method", "toy"], "either --predictions or --method"),
        (["--data", "a", "--predictions", "b", "--refine"], "either --predictions or --refine"),
        (["--data", "a", "--unit", "miles"], "invalid choice"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["evaluate", "now", *words])
        assert message in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*expected landmarks of a face")  # balls are none
def test_predictions_are_scored_without_a_method(tmp_path, capsys):
    from facemodels.evaluation import write_example
    from tests.evaluation.sphere_scans import RADIUS, UNIT
    from tests.evaluation.test_now import write_predictions

    data = write_example("now", tmp_path / "now")
    photos = [line.removesuffix(".jpg") for line in (data / "imagepathsvalidation.txt").read_text().split()]
    made = write_predictions(tmp_path / "balls", RADIUS * UNIT, photos)
    out = tmp_path / "now.json"
    arguments = ["evaluate", "now", "--data", str(data), "--predictions", str(made), "--json", str(out)]
    assert main(arguments) == 1 and not out.exists()
    assert "None of the predictions fits its scan" in capsys.readouterr().err
    assert main([*arguments, "--keep-going"]) == 0
    printed, results = capsys.readouterr().out, json.loads(out.read_text())
    assert results["predictions"] == str(made) and results["method"] == "balls" and "> balls" in printed
    assert (
        results["mean_mm"] > 2
        and "checkpoint" not in results
        and f"Landmarks of {len(photos)} of {len(photos)} predictions" in printed
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["aflw2000", "--limit", "0"], "argument --limit: expected a whole number, 1 or more; found 0"),
        (["pose", "--limit", "two"], "argument --limit: expected a whole number, 1 or more; found 'two'"),
        (["synthetic-scans", "--people", "0"], "argument --people: expected a whole number, 1 or more"),
        (["synthetic-scans", "--seed", "-1"], "argument --seed: expected a whole number, 0 or more"),
    ],
)
def test_a_number_out_of_its_range_ends_with_exit_code_2(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *words, "--data", "a"])
    assert ended.value.code == 2 and said in capsys.readouterr().err
