"""What a run says while it works, and the commands that begin and resume it."""

import json
import re
import shutil

import pytest
import torch

from facemodels import InputError
from facemodels.cli.main import main
from facemodels.core.drawing import captioned
from facemodels.core.progress import duration
from facemodels.methods.registry import method_class
from facemodels.training import progress
from facemodels.training.checkpoint import checkpoints
from facemodels.training.loop import train
from facemodels.training.progress import Progress
from tests.training.toy import Toy, config

SMOKE = ["--preset", "smoke", "--set", "steps=6", "--set", "stage1=6", "--set", "device=cpu"]


def test_a_log_file_has_lines_of_preparation_and_of_steps_with_losses_rate_and_time_left(tmp_path, capsys):
    train(Toy, config(tmp_path))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"toy: 30 steps of 8 samples on cpu, in {tmp_path}"
    assert lines[1:3] == ["toy: preparing weights ...", "toy: preparing data ..."]
    assert re.fullmatch(r"toy: step 1 of 30: loss \S+, error \S+; it took \S+ s", lines[3])
    assert any(re.fullmatch(r"toy: step 30 of 30: loss .*; \S+ pictures/s, \S+ s in all", line) for line in lines)
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


@pytest.mark.parametrize(
    "seconds, words", [(0.4, "0.4 s"), (40, "40 s"), (700, "12 min"), (3 * 3600 + 300, "3 h 05 min")]
)
def test_durations_are_in_units_that_people_use(seconds, words):
    assert duration(seconds) == words


def test_a_caption_stands_beside_each_row_of_a_panel():
    picture = torch.zeros(120, 60, 3, dtype=torch.uint8).numpy()
    page = captioned(picture, ("first row", "second row"))
    margin = page.shape[1] - 60
    assert page.shape[0] == 120 and (page[:, margin:] == 0).all()
    for rows in (slice(0, 60), slice(60, 120)):
        assert (page[rows, :margin] < 100).any()
    headed = captioned(picture, ("first row", "second row"), ("left", "right"))
    head = len(headed) - 120
    assert (headed[head:] == page).all()
    assert all((headed[:head, margin + x : margin + x + 30] < 100).any() for x in (0, 30))


def test_a_run_resumes_with_its_own_settings_and_says_when_it_is_finished(tmp_path, capsys):
    out = f"output={tmp_path / 'run'}"
    assert main(["train", "dasl", *SMOKE, "--set", "batch=2", "--set", out]) == 0
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    capsys.readouterr()
    assert main(["train", "dasl", "--set", out, "--resume", "auto"]) == 0  # without --preset
    said = capsys.readouterr()
    assert "all 6 steps are done; to train longer, add --set steps=12 --resume auto" in said.err
    assert "trained" not in said.out and (tmp_path / "run" / "metrics.jsonl").read_text() == before
    assert main(["train", "dasl", "--set", out, "--resume", "auto", "--set", "steps=7"]) == 0
    last = checkpoints(tmp_path / "run" / "checkpoints")[-1]
    assert last.name == "step-000000007" and json.loads((last / "config.json").read_text())["batch"] == 2
    assert f"facemodels reconstruct photo.jpg -o out --method {last}" in capsys.readouterr().out
    for words, reason in (
        (["--resume", "auto", "--set", "batch=4"], "was trained with batch=2, not 4"),
        ([], "holds checkpoints of an earlier run"),
    ):
        assert main(["train", "dasl", "--set", out, *words]) == 1
        said = capsys.readouterr().err
        assert reason in said and "preset is" not in said  # no run begins with one


def test_a_new_run_begins_where_there_is_nothing_to_resume_and_this_is_said(tmp_path, capsys, monkeypatch):
    assert main(["train", "dasl", *SMOKE, "--set", f"output={tmp_path / 'new'}", "--resume", "auto"]) == 0
    assert "holds no checkpoint to resume from, so a new run begins, with the preset smoke" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "new" / "checkpoints")
    assert main(["train", "dasl", "--set", f"output={tmp_path / 'new'}", "--resume", "auto"]) == 0
    assert "so a new run begins, with its own settings (config.json)" in capsys.readouterr().err
    assert checkpoints(tmp_path / "new" / "checkpoints")[-1].name == "step-000000006"
    shutil.rmtree(tmp_path / "new" / "checkpoints")
    (tmp_path / "new" / "config.json").write_text("damaged")
    monkeypatch.setitem(method_class("dasl").PRESETS, "cpu", method_class("dasl").PRESETS["smoke"])  # is as quick
    words = ["--set", f"output={tmp_path / 'new'}", "--set", "device=cpu", "--resume", "auto"]
    assert main(["train", "dasl", *words]) == 0
    assert "so a new run begins, with the preset cpu" in capsys.readouterr().err


def test_the_time_left_follows_the_latest_steps_and_not_the_first_which_prepares(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    log = Progress("toy", 1000, 8)
    with log.steps_from(0):
        for seconds in (300.0, 6.0):  # the first step compiles
            now[0] += seconds
            log.advance({"loss": 1.0})
        assert capsys.readouterr().err.splitlines() == [
            "toy: step 1 of 1000: loss 1; it took 5 min",
            "toy: step 2 of 1000: loss 1; 1.33 pictures/s, 1 h 40 min left",
        ]
        for _ in range(500):
            now[0] += 1.0
            log.advance()
    assert capsys.readouterr().err.splitlines()[-1].endswith("8 pictures/s, 8 min left")


def test_settings_that_cannot_change_are_all_named_when_a_run_is_resumed(tmp_path):
    train(Toy, config(tmp_path))
    with pytest.raises(InputError, match=r"was trained with batch=8, not 4; lr=0.01, not 0.1\. .*the run's own"):
        train(Toy, config(tmp_path, batch=4, lr=0.1, keep=7), resume="auto")
    for resume in ("auto", str(checkpoints(tmp_path / "checkpoints")[-1])):  # not by the shapes of its weights
        with pytest.raises(InputError, match=r"was trained with width=8, not 16\. "):
            train(Toy, config(tmp_path, width=16), resume=resume)


def test_what_is_no_checkpoint_is_answered_with_the_one_that_was_meant(tmp_path, capsys):
    train(Toy, config(tmp_path / "run"))
    assert main(["train", "dasl", "--resume", str(tmp_path / "run")]) == 1
    assert "step-000000030" in capsys.readouterr().err
    assert main(["train", "dasl", "--resume", str(tmp_path / "nothing")]) == 1
    assert "nothing: no such checkpoint" in capsys.readouterr().err


def test_a_checkpoint_that_was_copied_elsewhere_goes_on_in_the_folder_of_its_run(tmp_path):
    out = tmp_path / "run"
    assert main(["train", "dasl", *SMOKE, "--set", "batch=2", "--set", f"output={out}"]) == 0
    copy = tmp_path / "mine" / "copies" / "step-000000006"
    shutil.copytree(out / "checkpoints" / copy.name, copy)
    assert main(["train", "dasl", "--resume", str(copy), "--set", "steps=7", "--set", f"output={out}-2"]) == 0
    shutil.rmtree(out)
    assert main(["train", "dasl", "--resume", str(copy), "--set", "steps=7"]) == 0
    assert (out / "checkpoints" / "step-000000007").is_dir() and [*(tmp_path / "mine").iterdir()] == [copy.parent]


def test_a_run_that_ends_early_says_why_and_which_checkpoint_is_the_best(tmp_path, capsys):
    class Stuck(Toy):
        measured_on = "on nothing"

        def data_notes(self):
            return ["no data is needed"]

        def validate(self, device):
            return {"error": 1.0}

    train(Stuck, config(tmp_path, steps=1000, patience=3))
    said = capsys.readouterr().err
    assert said.index("no data is needed") < said.index("step 1 of")
    assert (
        "ended at step 40: error did not improve in 3 validations (patience=3); to train longer, add --set patience=0"
        in said
    )
    assert f"best validation error: 1 (on nothing), of {tmp_path / 'checkpoints' / 'step-000000010'}" in said
    train(Stuck, config(tmp_path, steps=1000, patience=3), resume="auto")
    assert "is finished: it ended at step 40" in capsys.readouterr().err


def test_a_first_stage_longer_than_the_run_is_refused_or_said(tmp_path, capsys):
    run = ["train", "dasl", "--preset", "smoke", "--set", "device=cpu", "--set", f"output={tmp_path / 'run'}"]
    assert main([*run, "--set", "steps=3", "--set", "stage1=9"]) == 1
    assert "stage1=9: the first stage must not be longer than the run, which has 3 steps" in capsys.readouterr().err
    assert main([*run, "--set", "steps=2"]) == 0  # the preset has 4
    assert "the first stage takes 4 steps (stage1) and the run only 2" in capsys.readouterr().err


def test_a_file_of_settings_that_is_not_there_is_refused_with_how_to_write_one(capsys):
    assert main(["train", "pgn", "--config", "nofile.toml"]) == 1
    said = capsys.readouterr().err
    assert "--config nofile.toml: there is no such file" in said and "train pgn --settings > pgn.toml" in said
