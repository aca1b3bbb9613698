"""What a run says while it works, and the commands that begin and resume it."""

import json

import pytest
import torch

from facemodels.cli.main import main
from facemodels.core.drawing import captioned
from facemodels.training.checkpoint import checkpoints
from facemodels.training.loop import train
from facemodels.training.progress import Progress, duration
from tests.training.toy import Toy, config

SMOKE = ["--preset", "smoke", "--set", "steps=6", "--set", "stage1=6", "--set", "device=cpu"]


def test_a_log_file_has_lines_of_preparation_and_of_steps_with_losses_rate_and_time_left(tmp_path, capsys):
    train(Toy, config(tmp_path))
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["toy: preparing weights ...", "toy: preparing data ..."]
    assert lines[2].startswith("toy: step 1 of 30: loss ") and "pictures/s" in lines[2] and lines[2].endswith("left")
    assert any(line.startswith("toy: step 30 of 30: loss ") for line in lines)
    assert any(", validation: error " in line for line in lines)


def test_the_first_steps_are_all_logged_and_then_every_few(tmp_path):
    train(Toy, config(tmp_path, log_every=10))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [*range(1, 11), 20, 30]


def test_other_processes_than_the_first_say_nothing(capsys):
    quiet = Progress("toy", 2, 1, quiet=True)
    with quiet.preparing("data"), quiet.steps_from(0):
        quiet.advance({"loss": 1.0})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("seconds, words", [(40, "40 s"), (700, "12 min"), (3 * 3600 + 300, "3 h 05 min")])
def test_durations_are_in_units_that_people_use(seconds, words):
    assert duration(seconds) == words


def test_a_caption_stands_beside_each_row_of_a_panel():
    picture = torch.zeros(120, 60, 3, dtype=torch.uint8).numpy()
    page = captioned(picture, ("first row", "second row"))
    margin = page.shape[1] - 60
    assert page.shape[0] == 120 and (page[:, margin:] == 0).all()
    for rows in (slice(0, 60), slice(60, 120)):
        assert (page[rows, :margin] < 100).any()


def test_a_run_resumes_with_its_own_settings_and_says_when_it_is_finished(tmp_path, capsys):
    out = f"output={tmp_path / 'run'}"
    assert main(["train", "dasl", *SMOKE, "--set", "batch=2", "--set", out]) == 0
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    capsys.readouterr()
    assert main(["train", "dasl", "--set", out, "--resume", "auto"]) == 0  # without --preset
    said = capsys.readouterr()
    assert "all of its 6 steps are done; --set steps=12 --resume auto goes on" in said.err
    assert "trained" not in said.out and (tmp_path / "run" / "metrics.jsonl").read_text() == before
    assert main(["train", "dasl", "--set", out, "--resume", "auto", "--set", "steps=7"]) == 0
    last = checkpoints(tmp_path / "run" / "checkpoints")[-1]
    assert last.name == "step-000000007" and json.loads((last / "config.json").read_text())["batch"] == 2
    assert f"facemodels reconstruct photo.jpg -o out --method {last}" in capsys.readouterr().out
    assert main(["train", "dasl", "--set", out, "--resume", "auto", "--set", "batch=4"]) == 1
    assert "was trained with batch=2, not 4" in capsys.readouterr().err


def test_a_new_run_begins_where_there_is_nothing_to_resume_and_this_is_said(tmp_path, capsys):
    assert main(["train", "dasl", *SMOKE, "--set", f"output={tmp_path / 'new'}", "--resume", "auto"]) == 0
    assert "holds no checkpoint to resume from, so a new run begins" in capsys.readouterr().err
