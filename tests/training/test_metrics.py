"""The log of a run: metrics.jsonl, TensorBoard, and a full disk."""

import json
import shutil

import pytest

from facemodels import InputError
from facemodels.training.loop import train
from tests.training.toy import Toy, config, same, weights


@pytest.mark.parametrize("name", ["metrics.jsonl", "panels"])
def test_a_disk_that_is_full_for_metrics_or_pictures_is_named_with_where_to_go_on(tmp_path, name):
    def full(step):
        if step == 14:
            shutil.rmtree(tmp_path / "panels", ignore_errors=True)
            (tmp_path / "metrics.jsonl").unlink()
            (tmp_path / name).symlink_to("/dev/full")  # for a folder of pictures: not one

    with pytest.raises(
        InputError,
        match=rf"step \d+: .*{name}.* could not be written \(.*\); --resume auto resumes from step-000000010",
    ):
        train(Toy, config(tmp_path, log_every=15, panel_every=15, checkpoint_every=10), after_step=full)
    (tmp_path / name).unlink()
    train(Toy, config(tmp_path), resume="auto")
    train(Toy, config(tmp_path / "whole"))
    assert same(weights(tmp_path), weights(tmp_path / "whole"))


def test_tensorboard_shows_what_the_metrics_say_and_no_step_twice(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def stop(step):
        if step == 18:
            raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError):
        train(Toy, config(tmp_path), after_step=stop)
    train(Toy, config(tmp_path), resume="auto")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(board.Tags()["scalars"]) == {k for line in lines for k in line} - {"step"}
    for name in ("loss", "validation_error"):
        assert [(e.step, e.value) for e in board.Scalars(name)] == [
            (line["step"], pytest.approx(line[name])) for line in lines if name in line
        ]
