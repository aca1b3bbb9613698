"""Resuming: a run that was stopped or killed ends in the same bits as one that was not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from facemodels import InputError
from facemodels.methods.e2far import E2FAR, PRESETS, E2FARConfig
from facemodels.training.checkpoint import checkpoints
from facemodels.training.config import configured
from facemodels.training.loop import train
from tests.training.toy import Toy, config, metrics, same, weights


@pytest.mark.parametrize(
    "changes",
    [{}, {"ema": 0.9}, {"adversarial": True}, {"precision": "bfloat16"}, {"optimizer": "sgd"}, {"prefetch": 0}],
)
def test_a_run_that_stops_and_goes_on_ends_in_the_same_bits(tmp_path, changes):
    train(Toy, config(tmp_path / "whole", **changes))
    for part in (7, 20):
        folder = tmp_path / f"parts{part}"

        def stop(step, part=part):
            if step == part:
                raise RuntimeError("the power is gone")

        with pytest.raises(RuntimeError):
            train(Toy, config(folder, **changes), after_step=stop)
        train(Toy, config(folder, **changes), resume="auto")
        assert same(weights(folder), weights(tmp_path / "whole"))
        assert metrics(folder) == metrics(tmp_path / "whole")


DRIVER = """
import contextlib, os, random, signal, sys, time
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from facemodels.training.loop import train
from tests.training.test_resume import killed
torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # what the children would import one by one
with contextlib.suppress(ImportError):
    import torch.utils.tensorboard
random.seed(4)

def live(folder, dies):
    method, config, longest, pause = killed(sys.argv[2], folder)
    hear, say = os.pipe()
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        def after(step):
            os.write(say, b".")
            time.sleep(pause * dies)
        train(method, config, resume="auto", after_step=after)
        os._exit(0)
    os.close(say)
    if dies:
        if random.random() < 0.5:  # half of them get at least as far as their first step
            os.read(hear, 1)
        time.sleep(random.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(hear)
    return os.waitstatus_to_exitcode(status)

for _ in range(int(sys.argv[5])):
    print(live(sys.argv[3], True))
print(live(sys.argv[3], False), live(sys.argv[4], False))
"""


def killed(kind, folder):
    """Return the method, its settings, how many seconds after its start or first step a run may live, and the pause
    after each step."""
    if kind == "toy":
        return (
            Toy,
            config(folder, steps=400, checkpoint_every=5, validate_every=40, log_every=20, panel_every=1000),
            0.25,
            0.008,
        )
    from facemodels import load_model

    load_model("builtin")  # once for all lives
    settings = PRESETS["smoke"] | dict(
        output=str(folder),
        device="cpu",
        cache=24,
        steps=20,
        checkpoint_every=1,
        validate_every=8,
        held_out=4,
        panel_every=1000,
    )
    return E2FAR, configured(E2FARConfig, settings), 0.5, 0.05


@pytest.mark.slow
@pytest.mark.parametrize("kind, lives", [("toy", 20), ("e2far", 6)])
def test_killed_at_random_instants_it_ends_in_the_same_bits(tmp_path, kind, lives):
    """SIGKILL, which no handler sees: within a step, within a write, anywhere. Children are forked, to import torch
    once."""
    command = [
        sys.executable,
        "-c",
        DRIVER,
        str(Path(__file__).parents[2]),
        kind,
        str(tmp_path / "killed"),
        str(tmp_path / "whole"),
        str(lives),
    ]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert out.stdout.split() == ["-9"] * lives + ["0", "0"], out.stdout + out.stderr
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


def test_going_back_needs_another_folder(tmp_path):
    train(Toy, config(tmp_path, keep=5))
    first = checkpoints(tmp_path / "checkpoints")[0]
    with pytest.raises(InputError, match="a later checkpoint or one of another run; add --set output=DIR"):
        train(Toy, config(tmp_path), resume=str(first))
    train(Toy, config(tmp_path / "branch"), resume=str(first))
    assert same(weights(tmp_path / "branch"), weights(tmp_path))


def test_a_run_goes_on_only_with_the_settings_that_it_began_with(tmp_path):
    train(Toy, config(tmp_path))
    with pytest.raises(InputError, match="was trained with optimizer='adamw', not 'sgd'"):
        train(Toy, config(tmp_path, optimizer="sgd", steps=40), resume="auto")


def test_a_setting_of_hundreds_of_digits_in_a_checkpoint_is_shortened(tmp_path):
    train(Toy, config(tmp_path))
    last = checkpoints(tmp_path / "checkpoints")[-1]
    settings = json.loads((last / "config.json").read_text())
    (last / "config.json").write_text(json.dumps(settings | {"decay": 10**400}))
    (last / "checksums.json").unlink()  # as earlier versions wrote none
    with pytest.raises(InputError, match=r"was trained with decay=10{60,80}\.\.\., not 0") as caught:
        train(Toy, config(tmp_path, steps=40), resume=str(last))
    assert len(str(caught.value)) < 600


def test_fewer_steps_than_a_run_has_done_are_refused_and_leave_its_settings(tmp_path):
    train(Toy, config(tmp_path))
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(InputError, match="step-000000030: is at step 30, beyond steps=12; give more steps"):
        train(Toy, config(tmp_path, steps=12), resume="auto")
    assert (tmp_path / "config.json").read_text() == before
