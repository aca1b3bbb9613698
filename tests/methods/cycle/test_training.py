"""Cycle as a method: predictions, training runs from scratch, resuming, and invalid settings."""

import json

import pytest
import torch

from facemodels import InputError, load_model
from facemodels.cli.main import main
from facemodels.methods.cycle import Cycle
from facemodels.training.checkpoint import checkpoints
from facemodels.training.loop import train
from tests.methods.cycle.common import small


def test_predicted_landmarks_are_those_of_the_predicted_model(method):
    image = method.source(1, 0, range(1)).image
    p = method.reconstruct(image)
    landmarks = method.model.landmarks(method.model.shape(p.identity, p.expression))
    torch.testing.assert_close(p.pixels(landmarks), p.landmarks, rtol=0, atol=0.05)
    assert torch.equal(method.landmarks(image), p.landmarks) and p.landmarks.shape == (2, 68, 3)
    assert torch.equal(p.light, method.predict(image).light)


@pytest.mark.parametrize(
    "changes",
    [{"cache": 8}, {"compose_pose": "warp", "compose_expression": "render", "pair": "swap", "separate": "true"}],
)
def test_smoke_training_from_scratch(tmp_path, changes):
    out = tmp_path / "run"
    changes = {"output": out, "device": "cpu"} | changes
    settings = [word for k, v in changes.items() for word in ("--set", f"{k}={v}")]
    assert main(["train", "cycle", "--preset", "smoke", *settings]) == 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 9
    leaks = {"validation_expression_leak_mm_per_degree", "validation_rotation_leak_degrees_per_mm"}
    assert leaks <= lines[-1].keys()
    assert "pose_picture" not in lines[0], "stage 1"
    assert {"pose_picture", "expression_picture"} <= lines[-2].keys(), "stage 2"
    assert list((out / "panels").glob("*.png")) and checkpoints(out / "checkpoints")


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    settings = dict(steps=4, batch=4, coarse=1, stage1=1, detached=1, held_out=8, variation_mm=1.2)
    settings |= dict(checkpoint_every=1, validate_every=4)
    uninterrupted = train(Cycle, small(tmp_path / "uninterrupted", **settings))

    class Killed(Exception):
        pass

    def kill(step):
        if step == 2:
            raise Killed

    with pytest.raises(Killed):
        train(Cycle, small(tmp_path / "killed", **settings), after_step=kill)
    resumed = train(Cycle, small(tmp_path / "killed", **settings), resume="auto")
    for key, value in uninterrupted.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize(
    "setting, sentence",
    [
        ("trunk=vgg", "resnet50 or light"),
        ("cycles=pose,light", "pose and expression, got 'light'"),
        ("compose_pose=paint", "compose_pose must be render or texture or warp"),
        ("pair=apart", "distance or swap"),
        ("batch=5", "batch must be even"),
        ("variation_mm=-1", "variation_mm must be 0 to 100, got -1"),
        ("coarse=9", "coarse, the steps without rendering, must be at most stage1, got 9 and 3"),
        ("batch=2", "at least 4"),
        ("held_out=2", "held_out must be 8 to 100000000, got 2"),
        ("frames=/nowhere", "/nowhere"),
    ],
)
def test_invalid_settings_are_named(tmp_path, capsys, setting, sentence):
    assert main(["train", "cycle", "--preset", "smoke", "--set", f"output={tmp_path / 'run'}", "--set", setting]) == 1
    assert sentence in capsys.readouterr().err


def test_a_model_without_a_face_region_is_refused(tmp_path, monkeypatch):
    model = load_model("builtin")
    model.regions = {}
    monkeypatch.setattr("facemodels.methods.face_method.load_model", lambda name: model)
    with pytest.raises(InputError, match="a region named face"):
        Cycle(small(tmp_path))
