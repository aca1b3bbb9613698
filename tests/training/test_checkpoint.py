"""Checkpoints: which are kept, what is refused, and that a full disk damages none."""

import errno
import os
from pathlib import Path

import pytest

from facemodels import InputError
from facemodels.training import checkpoint as module
from facemodels.training.checkpoint import checkpoints, load_weights
from facemodels.training.loop import train
from tests.training.toy import Toy, config, same, weights


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path):
    class Worse(Toy):
        def validate(self, device):
            return {"error": abs(self.config.lr) + len(list((Path(self.config.output) / "checkpoints").glob("step-*")))}

    train(Worse, config(tmp_path, steps=60, keep=2))
    assert [c.name for c in checkpoints(tmp_path / "checkpoints")] == [
        "step-000000010",
        "step-000000050",
        "step-000000060",
    ]


def test_the_best_is_saved_between_checkpoints_too(tmp_path):
    class Once(Toy):
        results = [3.0, 1.0, 2.0, 2.0, 2.0, 2.0]

        def validate(self, device):
            return {"error": self.results.pop(0)}

    train(Once, config(tmp_path, validate_every=5, checkpoint_every=10, keep=1))
    assert [c.name for c in checkpoints(tmp_path / "checkpoints")] == ["step-000000010", "step-000000030"]


def test_a_full_disk_leaves_the_checkpoints_before_whole(tmp_path, monkeypatch):
    real, calls = module.save_file, []

    def full(tensors, path, metadata=None):
        calls.append(path)
        if len(calls) > 1:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path, metadata=metadata)

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(InputError, match="could not be written.*No space left"):
        train(Toy, config(tmp_path))
    assert [c.name for c in checkpoints(tmp_path / "checkpoints")] == ["step-000000010"]
    assert not list((tmp_path / "checkpoints").glob(".partial*"))
    monkeypatch.undo()
    train(Toy, config(tmp_path), resume="auto")
    train(Toy, config(tmp_path / "whole"))
    assert same(weights(tmp_path), weights(tmp_path / "whole"))


def test_checkpoints_that_do_not_fit_are_refused_in_one_sentence(tmp_path):
    train(Toy, config(tmp_path))
    last = checkpoints(tmp_path / "checkpoints")[-1]

    class Other(Toy):
        name = "other"

    with pytest.raises(InputError, match="a checkpoint of the method toy, not of other"):
        load_weights(Other(config(tmp_path)), last)
    with pytest.raises(InputError, match=r"body.0.*is \[8.* in the file and \[16.* in the method"):
        load_weights(Toy(config(tmp_path, width=16)), last)
    with pytest.raises(InputError, match="not a checkpoint"):
        load_weights(Toy(config(tmp_path)), tmp_path)
    (last / "weights.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(InputError, match="weights.safetensors: damaged"):
        load_weights(Toy(config(tmp_path)), last)
    with pytest.raises(InputError, match="holds checkpoints of an earlier run"):
        train(Toy, config(tmp_path))


def test_state_with_code_in_it_is_not_run(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    train(Toy, config(tmp_path / "run"))
    last = checkpoints(tmp_path / "run" / "checkpoints")[-1]
    (last / "state.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="state.pt: damaged"):
        train(Toy, config(tmp_path / "run", steps=40), resume="auto")
    assert not (tmp_path / "ran").exists()
