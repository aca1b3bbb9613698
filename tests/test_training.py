"""The training loop, on a toy method: what is saved, what survives a kill, what many processes compute, and what is said when it goes wrong."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from facemodels import InputError, training
from facemodels.training import Config, Method, checkpoints, configured, load_weights, seed_of, train


@dataclass
class ToyConfig(Config):
    width: int = 8
    dropout: float = 0.2
    noise: float = 0.0
    poison: int = -1  # the step whose loss is not finite
    adversarial: bool = False


class Toy(Method):
    """Regression of a fixed linear map, with dropout, so that random numbers matter."""

    name, Config, monitor = "toy", ToyConfig, "error"

    def __init__(self, config):
        super().__init__(config)
        self.body = nn.Sequential(nn.Linear(4, config.width), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.width, 2))
        self.critic = nn.Linear(2, 1) if config.adversarial else None

    def players(self):
        if self.critic is None:
            return super().players()
        return {"critic": list(self.critic.parameters()), "network": list(self.body.parameters())}

    def batch(self, step, indices, device):
        x = torch.stack([torch.randn(4, generator=torch.Generator().manual_seed(seed_of(self.config.seed, step, i))) for i in indices])
        return x.to(device)

    def target(self, x):
        return torch.stack([x.sum(1), x[:, 0] - x[:, 1]], 1)

    def forward(self, player, x, step):
        if player == "critic":
            return {"loss": (self.critic(self.body(x).detach()) ** 2).mean() + ((self.critic(self.target(x)) - 1) ** 2).mean()}
        error = (self.body(x) - self.target(x)).square().mean()
        loss = error if step != self.config.poison else error / 0
        if self.critic is not None:
            loss = loss + 0.01 * ((self.critic(self.body(x)) - 1) ** 2).mean()
        return {"loss": loss, "error": error}

    def validate(self, device):
        x = self.batch(10**6, range(64), device)
        return {"error": float((self.body(x) - self.target(x)).square().mean())}

    def panel(self, batch):
        return torch.rand(8, 8, 3)


def config(folder, **changes):
    base = dict(output=str(folder), device="cpu", batch=8, steps=30, lr=1e-2, log_every=5, validate_every=10, checkpoint_every=10, panel_every=30, warmup=3)
    return ToyConfig(**{**base, **changes})


def weights(folder) -> dict:
    from safetensors.torch import load_file

    return load_file(checkpoints(Path(folder) / "checkpoints")[-1] / "weights.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_it_learns_and_leaves_metrics_pictures_and_configuration(tmp_path):
    train(Toy, config(tmp_path, steps=400, dropout=0.0, width=32))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    errors = [line["validation_error"] for line in lines if "validation_error" in line]
    assert errors[-1] < 0.1 * errors[0]
    assert {"step", "lr", "loss", "seconds", "seconds_data"} <= lines[0].keys()
    assert list((tmp_path / "panels").glob("*.png"))
    assert json.loads((tmp_path / "config.json").read_text())["width"] == 32


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}, {"adversarial": True}, {"precision": "bfloat16"}, {"optimizer": "sgd"}, {"prefetch": 0}])
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
        a, b = ((f / "metrics.jsonl").read_text().splitlines() for f in (folder, tmp_path / "whole"))
        drop = lambda line: {k: v for k, v in json.loads(line).items() if "seconds" not in k}  # noqa: E731
        assert [drop(x) for x in a] == [drop(x) for x in b]


DRIVER = """
import os, random, signal, sys, time
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from facemodels.training import train, checkpoints
from tests.test_training import Toy, config
folder, lives = sys.argv[2], int(sys.argv[3])
random.seed(4)
settings = dict(steps=400, checkpoint_every=5, validate_every=40, log_every=20, panel_every=1000)
def live():
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        train(Toy, config(folder, **settings), resume="auto", after_step=lambda step: time.sleep(0.008))
        os._exit(0)
    return child
killed = 0
while True:
    child = live()
    if killed < lives:
        time.sleep(random.uniform(0.02, 0.25))
        os.kill(child, signal.SIGKILL)
        killed += 1
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        print("killed", killed, "exit", os.WEXITSTATUS(status)); break
"""


def test_killed_at_twenty_random_instants_it_ends_in_the_same_bits(tmp_path):
    """SIGKILL, which no handler sees: within a step, within a write, anywhere. (Children are forked, so that torch is imported once.)"""
    root = str(Path(__file__).parents[1])
    out = subprocess.run([sys.executable, "-c", DRIVER, root, str(tmp_path / "killed"), "20"], capture_output=True, text=True, timeout=300)
    assert out.stdout.split()[:2] == ["killed", "20"] and out.stdout.split()[-1] == "0", out.stdout + out.stderr
    out = subprocess.run([sys.executable, "-c", DRIVER, root, str(tmp_path / "whole"), "0"], capture_output=True, text=True, timeout=300)
    assert out.stdout.split()[-1] == "0", out.stdout + out.stderr
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path):
    class Worse(Toy):
        def validate(self, device):
            return {"error": abs(self.config.lr) + len(list((Path(self.config.output) / "checkpoints").glob("step-*")))}

    train(Worse, config(tmp_path, steps=60, keep=2))
    assert [c.name for c in checkpoints(tmp_path / "checkpoints")] == ["step-000000010", "step-000000050", "step-000000060"]


def test_it_ends_early_when_nothing_gets_better(tmp_path):
    class Stuck(Toy):
        def validate(self, device):
            return {"error": 1.0}

    train(Stuck, config(tmp_path, steps=1000, patience=3))
    assert checkpoints(tmp_path / "checkpoints")[-1].name == "step-000000040"


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_last_good_checkpoint(tmp_path):
    with pytest.raises(InputError, match=r"step 17: the loss of the network or its gradient is not finite \(loss inf, error .*step-000000010"):
        train(Toy, config(tmp_path, poison=17))
    load_weights(Toy(config(tmp_path)), checkpoints(tmp_path / "checkpoints")[-1])


def test_a_full_disk_leaves_the_checkpoints_before_whole(tmp_path, monkeypatch):
    real, calls = training.save_file, []

    def full(tensors, path, metadata=None):
        calls.append(path)
        if len(calls) > 1:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path, metadata=metadata)

    monkeypatch.setattr(training, "save_file", full)
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
    with pytest.raises(InputError, match=r"body.0.*is \[8.*there and \[16.*here"):
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


def test_settings_come_from_preset_file_and_command_in_that_order(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text('{"lr": 0.5, "width": 3, "milestones": [4, 5]}')
    c = configured(ToyConfig, {"lr": 0.1, "batch": 2}, file, ("width=7", "compile=true"))
    assert (c.lr, c.batch, c.width, c.milestones, c.compile) == (0.5, 2, 7, (4, 5), True)


@pytest.mark.parametrize(
    "settings, words",
    [
        (("lrr=1",), "there is no setting 'lrr'; close to it are lr"),
        (("lr",), "a setting is key=value"),
        (("steps=many",), "steps must be of the kind of 1000, got 'many'"),
        (("compile=perhaps",), "compile must be"),
        (("schedule=linear",), "schedule must be one of cosine, step, constant, got 'linear'"),
        (("batch=0",), "batch must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, words):
    with pytest.raises(InputError, match=words):
        configured(ToyConfig, settings=settings)


TWO = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from facemodels.training import train
from tests.test_training import Toy, config
train(Toy, config(sys.argv[2], dropout=0.0, adversarial=sys.argv[3] == "adversarial", ema=0.9))
"""


@pytest.mark.parametrize("kind", ["single", "adversarial"])
def test_two_processes_compute_what_one_does(tmp_path, kind):
    root = str(Path(__file__).parents[1])
    train(Toy, config(tmp_path / "one", dropout=0.0, adversarial=kind == "adversarial", ema=0.9))
    env = dict(os.environ, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(20000 + os.getpid() % 20000), WORLD_SIZE="2", OMP_NUM_THREADS="1")
    both = [subprocess.Popen([sys.executable, "-c", TWO, root, str(tmp_path / "two"), kind], env=dict(env, RANK=str(r)), stderr=subprocess.PIPE) for r in range(2)]
    for p in both:
        _, err = p.communicate(timeout=120)
        assert p.returncode == 0, err.decode()
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-4, atol=1e-6)


def test_seeds_differ_between_neighbours():
    seeds = {seed_of(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000


def test_a_gradient_that_is_not_finite_never_reaches_a_checkpoint(tmp_path):
    class Poisoned(Toy):
        def forward(self, player, x, step):
            parts = super().forward(player, x, step)
            return parts | {"loss": parts["loss"] + ((self.body(x) * 0).sum().abs().sqrt() if step == 14 else 0)}  # finite, with an infinite slope

    with pytest.raises(InputError, match="step 14: .*gradient nan.*step-000000010"):
        train(Poisoned, config(tmp_path))
    assert all(torch.isfinite(w).all() for w in weights(tmp_path).values())


def test_a_polite_stop_saves_first_and_the_run_goes_on_from_there(tmp_path):
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


def test_the_best_is_saved_between_checkpoints_too(tmp_path):
    class Once(Toy):
        results = [3.0, 1.0, 2.0, 2.0, 2.0, 2.0]

        def validate(self, device):
            return {"error": self.results.pop(0)}

    train(Once, config(tmp_path, validate_every=5, checkpoint_every=10, keep=1))
    assert [c.name for c in checkpoints(tmp_path / "checkpoints")] == ["step-000000010", "step-000000030"]


def test_going_back_needs_another_folder(tmp_path):
    train(Toy, config(tmp_path, keep=5))
    first = checkpoints(tmp_path / "checkpoints")[0]
    with pytest.raises(InputError, match="of another course; --set output=DIR"):
        train(Toy, config(tmp_path), resume=str(first))
    train(Toy, config(tmp_path / "branch"), resume=str(first))
    assert same(weights(tmp_path / "branch"), weights(tmp_path))


def test_a_run_goes_on_only_with_the_settings_that_it_began_with(tmp_path):
    train(Toy, config(tmp_path))
    with pytest.raises(InputError, match="was trained with optimizer='adamw', not 'sgd'"):
        train(Toy, config(tmp_path, optimizer="sgd", steps=40), resume="auto")


def test_a_batch_that_cannot_be_made_names_its_step(tmp_path):
    class Broken(Toy):
        def batch(self, step, indices, device):
            if step == 4:
                raise ValueError("bad sample")
            return super().batch(step, indices, device)

    with pytest.raises(RuntimeError, match="step 4: its batch could not be made .ValueError: bad sample"):
        train(Broken, config(tmp_path))
