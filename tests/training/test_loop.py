"""The training loop on a small method: what it learns, logs and refuses, and when it stops."""

import json
import os
import sys

import pytest
import torch

from facemodels import InputError
from facemodels.core.seeding import seed_of
from facemodels.training.checkpoint import checkpoints, load_weights
from facemodels.training.loop import train
from tests.training.toy import Toy, config, same, weights


def test_it_learns_and_leaves_metrics_pictures_and_configuration(tmp_path):
    train(Toy, config(tmp_path, steps=400, dropout=0.0, width=32))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    errors = [line["validation_error"] for line in lines if "validation_error" in line]
    assert errors[-1] < 0.1 * errors[0]
    assert {"step", "lr", "loss", "seconds", "seconds_data"} <= lines[0].keys()
    assert list((tmp_path / "panels").glob("*.png"))
    assert json.loads((tmp_path / "config.json").read_text())["width"] == 32


def test_it_ends_early_when_nothing_gets_better(tmp_path):
    class Stuck(Toy):
        def validate(self, device):
            return {"error": 1.0}

    train(Stuck, config(tmp_path, steps=1000, patience=3))
    assert checkpoints(tmp_path / "checkpoints")[-1].name == "step-000000040"


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_last_good_checkpoint(tmp_path):
    with pytest.raises(
        InputError,
        match=r"step 17: the loss of the network or its gradient is not finite \(loss inf, error .*step-000000010",
    ):
        train(Toy, config(tmp_path, poison=17))
    load_weights(Toy(config(tmp_path)), checkpoints(tmp_path / "checkpoints")[-1])


def test_a_gradient_that_is_not_finite_never_reaches_a_checkpoint(tmp_path):
    class Poisoned(Toy):
        def forward(self, group, x, step, shared):
            parts = super().forward(group, x, step, shared)
            return parts | {
                "loss": parts["loss"] + ((self.body(x) * 0).sum().abs().sqrt() if step == 14 else 0)
            }  # finite, with an infinite slope

    with pytest.raises(InputError, match="step 14: .*gradient nan.*step-000000010"):
        train(Poisoned, config(tmp_path))
    assert all(torch.isfinite(w).all() for w in weights(tmp_path).values())


def test_a_graceful_stop_saves_first_and_the_run_goes_on_from_there(tmp_path):
    import signal

    def stop(step):
        if step == 13:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(Toy, config(tmp_path), after_step=stop)
    assert checkpoints(tmp_path / "checkpoints")[-1].name == "step-000000014"
    train(Toy, config(tmp_path), resume="auto")
    train(Toy, config(tmp_path / "whole"))
    assert same(weights(tmp_path), weights(tmp_path / "whole"))


def test_a_batch_that_cannot_be_made_names_its_step(tmp_path):
    class Broken(Toy):
        def batch(self, step, indices, device):
            if step == 4:
                raise ValueError("bad sample")
            return super().batch(step, indices, device)

    with pytest.raises(RuntimeError, match="step 4: its batch could not be made .ValueError: bad sample"):
        train(Broken, config(tmp_path))


def test_a_thread_that_ends_while_it_makes_a_batch_does_not_end_the_run_in_silence(tmp_path):
    class Leaving(Toy):
        def batch(self, step, indices, device):
            if step == 4:
                sys.exit(0)
            return super().batch(step, indices, device)

    for prefetch in (0, 2):
        with pytest.raises(RuntimeError, match="step 4: its batch could not be made .SystemExit: 0"):
            train(Leaving, config(tmp_path / str(prefetch), prefetch=prefetch))


def test_seeds_differ_between_neighbours():
    seeds = {seed_of(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000


def test_a_refused_run_leaves_no_settings_behind_and_a_taken_folder_is_refused_before_anything_is_said(
    tmp_path, capsys
):
    class WithoutData(Toy):
        def prepare_data(self):
            raise InputError("nofolder: no such folder")

    with pytest.raises(InputError, match="nofolder"):
        train(WithoutData, config(tmp_path / "run"))
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    train(Toy, config(tmp_path / "run", steps=2))
    capsys.readouterr()
    with pytest.raises(InputError, match="holds checkpoints of an earlier run"):
        train(Toy, config(tmp_path / "run", steps=2))
    assert capsys.readouterr() == ("", "")
