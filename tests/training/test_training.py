"""The training loop, on a toy method: what is saved, what survives a kill, what many processes compute, and what is said when it goes wrong."""

import dataclasses
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from facemodels import InputError
from facemodels.core.seeding import seed_of
from facemodels.methods import dasl
from facemodels.methods.e2far import E2FAR, PRESETS, E2FARConfig
from facemodels.networks.norm import share_batch_norms
from facemodels.training import loop as training
from facemodels.training.checkpoint import checkpoints, load_weights
from facemodels.training.config import Config, configured
from facemodels.training.loop import train
from facemodels.training.method import Method


@dataclass
class ToyConfig(Config):
    width: int = 8
    dropout: float = 0.2
    noise: float = 0.0
    poison: int = -1  # the step whose loss is not finite
    adversarial: bool = False
    normalised: bool = False  # batch norm in every network
    late: int = -1  # the step from which another head, reported all along, is trained


class Toy(Method):
    """Regression of a fixed linear map, with dropout, so that random numbers matter."""

    name, config_class, monitor = "toy", ToyConfig, "error"

    def __init__(self, config):
        super().__init__(config)
        norm = [nn.BatchNorm1d(config.width)] if config.normalised else []
        self.body = nn.Sequential(
            nn.Linear(4, config.width, bias=not norm),
            *norm,
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.width, 2),
        )
        self.critic = (
            nn.Sequential(
                nn.Linear(2, 3, bias=not norm), *[nn.BatchNorm1d(3) for _ in norm], nn.Tanh(), nn.Linear(3, 1)
            )
            if config.adversarial
            else None
        )
        self.head = nn.Linear(4, 1) if config.late >= 0 else None

    def parameter_groups(self):
        if self.critic is None:
            return super().parameter_groups()
        return {"critic": list(self.critic.parameters()), "network": list(self.body.parameters())}

    def batch(self, step, indices, device):
        x = torch.stack(
            [
                torch.randn(4, generator=torch.Generator().manual_seed(seed_of(self.config.seed, step, i)))
                for i in indices
            ]
        )
        return x.to(device)

    def target(self, x):
        return torch.stack([x.sum(1), x[:, 0] - x[:, 1]], 1)

    def forward(self, group, x, step, shared):
        if group == "critic":
            return {
                "loss": (self.critic(self.body(x).detach()) ** 2).mean()
                + ((self.critic(self.target(x)) - 1) ** 2).mean()
            }
        error = (self.body(x) - self.target(x)).square().mean()
        loss = error if step != self.config.poison else error / 0
        if self.critic is not None:
            loss = loss + 0.01 * ((self.critic(self.body(x)) - 1) ** 2).mean()
        parts = {"loss": loss, "error": error}
        if self.head is not None:
            parts["late"] = (self.head(x) - 1).square().mean()
            parts["loss"] = loss + parts["late"] * 0.3 if step >= self.config.late else loss
        return parts

    def validate(self, device):
        x = self.batch(10**6, range(64), device)
        return {"error": float((self.body(x) - self.target(x)).square().mean())}

    def visualize(self, batch):
        return torch.rand(8, 8, 3)


def config(folder, **changes):
    base = dict(
        output=str(folder),
        device="cpu",
        batch=8,
        steps=30,
        lr=1e-2,
        log_every=5,
        validate_every=10,
        checkpoint_every=10,
        panel_every=30,
        warmup=3,
    )
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
        a, b = ((f / "metrics.jsonl").read_text().splitlines() for f in (folder, tmp_path / "whole"))
        drop = lambda line: {k: v for k, v in json.loads(line).items() if "seconds" not in k}  # noqa: E731
        assert [drop(x) for x in a] == [drop(x) for x in b]


DRIVER = """
import contextlib, os, random, signal, sys, time
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from facemodels.training import train
from tests.test_training import killed
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
    """Method, configuration, the seconds that a life may last after its beginning or its first step, and the seconds that are slept after each step."""
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


@pytest.mark.parametrize("kind, lives", [("toy", 20), ("e2far", 6)])
def test_killed_at_random_instants_it_ends_in_the_same_bits(tmp_path, kind, lives):
    """SIGKILL, which no handler sees: within a step, within a write, anywhere. (Children are forked, so that torch is imported once.)"""
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


class PlainE2FAR(E2FAR):
    """Without dropout, whose random numbers are other ones in each process."""

    def __init__(self, config):
        super().__init__(config)
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0


def case(kind: str, folder) -> tuple:
    """The method and the configuration that a test trains in one process and in two. (The real network by SGD: Adam's first steps make whole ones of gradients that are nothing but rounding.)"""
    if kind == "e2far":
        return PlainE2FAR, configured(
            E2FARConfig,
            PRESETS["smoke"]
            | dict(
                output=str(folder),
                device="cpu",
                steps=4,
                batch=8,
                cache=16,
                log_every=1,
                warmup=0,
                ema=0.0,
                optimizer="sgd",
            ),
        )
    if kind == "dasl":  # the critic plays from stage 2 on
        settings = dict(
            output=str(folder),
            device="cpu",
            steps=4,
            stage1=2,
            batch=8,
            cache=16,
            held_out=2,
            log_every=1,
            warmup=0,
            ema=0.0,
            optimizer="sgd",
            lr=1e-4,
        )
        return dasl.DASL, configured(dasl.DASLConfig, dasl.PRESETS["smoke"] | settings)
    words = kind.split()
    changes = dict(
        dropout=0.0,
        ema=0.9,
        log_every=1,
        adversarial="adversarial" in words,
        normalised="normalised" in words,
        late=12 if "late" in words else -1,
    )
    return Toy, config(folder, **changes)


KINDS = ["single", "adversarial", "normalised", "normalised adversarial", "late", "e2far", "dasl"]
SHARES = [range(0, 3), range(3, 8)]  # of a batch of 8, for batch norm alone
NORMS = [(torch.float64, True), (torch.float64, False), (torch.bfloat16, True)]
TWO = """
import os, sys
sys.path.insert(0, sys.argv[1])
import torch
import torch.distributed as dist
torch.set_num_threads(1)
from facemodels import InputError
from facemodels.training import train
from tests import test_training as t

folder, rank = sys.argv[2], int(os.environ["RANK"])
alone = os.environ["WORLD_SIZE"] == "1"
for k, kind in enumerate(t.KINDS):
    os.environ["MASTER_PORT"] = sys.argv[3 + k]
    train(*t.case(kind, os.path.join(folder, *(["one"] if alone else []), kind)))
if alone:
    sys.exit()
os.environ["MASTER_PORT"] = sys.argv[-1]
dist.init_process_group("gloo")
torch.save([t.normalised(t.SHARES[rank], *kind) for kind in t.NORMS], os.path.join(folder, f"norms{rank}.pt"))

class Half(t.Toy):
    def forward(self, group, x, step, shared):
        parts = super().forward(group, x, step, shared)
        return parts | {"loss": parts["loss"] / 0 if step == 13 and rank == 1 else parts["loss"]}

try:
    train(Half, t.config(os.path.join(folder, "half"), normalised=True))
except InputError as error:
    open(os.path.join(folder, f"refusal{rank}.txt"), "w").write(str(error))
"""


def free_ports(count) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The folder with what TWO writes (one pair of processes for all: importing torch takes the most of the time)."""
    folder = tmp_path_factory.mktemp("two")
    env = dict(os.environ, MASTER_ADDR="127.0.0.1", WORLD_SIZE="2", OMP_NUM_THREADS="1")
    command = [
        sys.executable,
        "-c",
        TWO,
        str(Path(__file__).parents[2]),
        str(folder),
        *map(str, free_ports(len(KINDS) + 1)),
    ]
    ranks = [dict(env, RANK="0"), dict(env, RANK="1"), dict(env, RANK="0", WORLD_SIZE="1")]  # two, and one alone
    both = [subprocess.Popen(command, env=e, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for e in ranks]
    try:
        for p in both:
            written = p.communicate(timeout=200)[1].decode()
            assert p.returncode == 0, written
    finally:
        for p in both:
            p.kill()
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_compute_what_one_does(two_processes, kind):
    """Weights, running statistics and reported losses: those of the whole batch, not of each process's share. The one runs as the two do, a thread for each: linear algebra
    that is split otherwise finds other eigenvectors for a morphable model, and a few pixels of renderings then fall on the other side."""
    one, two = weights(two_processes / "one" / kind), weights(two_processes / kind)
    for key in one:
        rounding = 1e-6 + 1e-5 * float(one[key].abs().max())
        torch.testing.assert_close(two[key], one[key], rtol=1e-4, atol=rounding, msg=lambda m, key=key: f"{key}: {m}")
    for a, b in zip(
        *((f / kind / "metrics.jsonl").read_text().splitlines() for f in (two_processes / "one", two_processes)),
        strict=True,
    ):
        a, b = ({k: v for k, v in json.loads(line).items() if "seconds" not in k} for line in (a, b))
        assert b == pytest.approx(a, rel=1e-4, abs=1e-6)


def normalised(rows, dtype, affine):
    """What a convolution, a batch norm and a loss of these rows give: outputs, running statistics, and gradients of the input and of all parameters."""
    generator = torch.Generator().manual_seed(1)
    x = (100 + torch.randn(8, 3, 5, 4, dtype=torch.float64, generator=generator))[list(rows)].to(dtype).requires_grad_()
    target = torch.randn(8, 3, 5, 4, dtype=torch.float64, generator=generator)[list(rows)].to(dtype)
    network = nn.Sequential(nn.BatchNorm2d(3, affine=affine, momentum=None))
    if affine:
        nn.init.uniform_(network[0].weight.data, 1, 2, generator=generator)
    if dtype == torch.float64:
        network = network.double()
    share_batch_norms(network, torch.device("cpu"))
    for _ in range(2):  # the second time, cumulative averages are no longer the last values
        y = network(x * (1 + network[0].num_batches_tracked))
    ((y - target) ** 3).sum().backward()
    return {
        "y": y.detach(),
        "x": x.grad,
        **{k: v.clone() for k, v in network.state_dict().items()},
        **{f"gradient of {k}": p.grad for k, p in network.named_parameters()},
    }


def test_shared_batch_norm_is_that_of_the_whole_batch_whatever_the_shares(two_processes):
    shares = [torch.load(two_processes / f"norms{r}.pt") for r in range(2)]
    for k, kind in enumerate(NORMS):
        whole, parts = normalised(range(8), *kind), [s[k] for s in shares]
        for name, value in whole.items():
            if name in "xy":
                got = torch.cat([p[name] for p in parts])
            elif name.startswith("gradient"):
                got = parts[0][name] + parts[1][name]
            else:
                got = parts[1][name]
                assert torch.equal(parts[0][name], got), name
            tolerance = (
                dict(rtol=0.02, atol=0.02 * float(value.abs().max()))
                if kind[0] == torch.bfloat16
                else dict(rtol=1e-9, atol=1e-9)
            )
            torch.testing.assert_close(got, value, **tolerance, msg=lambda m, name=name: f"{kind} {name}: {m}")


def test_a_loss_that_is_not_finite_in_one_process_ends_all_with_the_same_sentence(two_processes):
    for rank in range(2):
        assert (
            "step 13: the loss of the network or its gradient is not finite (loss inf"
            in (two_processes / f"refusal{rank}.txt").read_text()
        )


def test_seeds_differ_between_neighbours():
    seeds = {seed_of(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000


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


def test_a_thread_that_ends_while_it_makes_a_batch_does_not_end_the_run_in_silence(tmp_path):
    class Leaving(Toy):
        def batch(self, step, indices, device):
            if step == 4:
                sys.exit(0)
            return super().batch(step, indices, device)

    for prefetch in (0, 2):
        with pytest.raises(RuntimeError, match="step 4: its batch could not be made .SystemExit: 0"):
            train(Leaving, config(tmp_path / str(prefetch), prefetch=prefetch))


@pytest.mark.parametrize("name", ["metrics.jsonl", "panels"])
def test_a_disk_that_is_full_for_metrics_or_pictures_is_named_with_where_to_go_on(tmp_path, name):
    def full(step):
        if step == 14:
            shutil.rmtree(tmp_path / "panels", ignore_errors=True)
            (tmp_path / "metrics.jsonl").unlink()
            (tmp_path / name).symlink_to("/dev/full")  # for a folder of pictures: not one

    with pytest.raises(
        InputError,
        match=rf"step \d+: .*{name}.* could not be written \(.*\); --resume auto goes on from step-000000010",
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


def without_compiler() -> str:
    """Why torch.compile cannot work here; empty where it can."""
    return (
        ""
        if shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
        else "torch.compile needs a C++ compiler"
    )


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.skipif(bool(without_compiler()), reason=without_compiler() or "-")
def test_compiled_networks_train_and_are_saved_as_the_others_are(tmp_path):
    for compiled in (False, True):
        train(
            Toy,
            config(tmp_path / str(compiled), compile=compiled, dropout=0.0, normalised=True, adversarial=True, ema=0.9),
        )
    plain, compiled = weights(tmp_path / "False"), weights(tmp_path / "True")
    assert plain.keys() == compiled.keys()
    for key in plain:
        torch.testing.assert_close(compiled[key], plain[key], rtol=1e-3, atol=1e-5)
    train(
        Toy,
        config(
            tmp_path / "True", dropout=0.0, normalised=True, adversarial=True, ema=0.9, steps=31, checkpoint_every=1
        ),
        resume="auto",
    )  # not compiled


def test_the_networks_of_a_method_are_compiled_and_not_its_batches(tmp_path, monkeypatch):
    """E2FAR, traced and differentiated by the compiler but without its minute of C++: the same losses as without."""
    from torch._dynamo.backends.debugging import aot_eager

    convolutions = []

    def backend(graph, inputs):
        convolutions.append(sum("conv2d" in str(node.target) for node in graph.graph.nodes))
        return aot_eager(graph, inputs)

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend, fullgraph=True))
    lines = {}
    for compiled in (False, True):
        method, settings = case("e2far", tmp_path / str(compiled))
        train(method, dataclasses.replace(settings, compile=compiled))
        lines[compiled] = [
            json.loads(line) for line in (tmp_path / str(compiled) / "metrics.jsonl").read_text().splitlines()
        ]
    assert convolutions == [16]  # all of the network's, once
    for a, b in zip(lines[False], lines[True], strict=True):
        assert {k: v for k, v in b.items() if "seconds" not in k} == pytest.approx(
            {k: v for k, v in a.items() if "seconds" not in k}, rel=1e-3
        )


def test_a_compiler_that_fails_is_said_in_one_sentence(tmp_path, monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("no working C++ compiler found")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    with pytest.raises(
        InputError,
        match=r"^compile=true: torch.compile failed \(.*no working C\+\+ compiler found\); compile=false trains without it$",
    ):
        train(Toy, config(tmp_path, compile=True))


@pytest.mark.parametrize("adversarial", [False, True])
def test_the_parts_of_a_step_that_the_benchmark_reports_are_all_of_it_and_no_time_is_counted_twice(
    tmp_path, adversarial
):
    from benchmarks.training import Clock, clocked, from_step, walk

    seen = []

    class Watched(Toy):
        def batch(self, step, indices, device):
            seen.append(step)
            return super().batch(step, indices, device)

    clock = Clock(torch.device("cpu"))
    with clock.renderer(), clock.optimizer():
        seconds, _ = walk(
            clocked(from_step(Watched, 5), clock),
            config(tmp_path, adversarial=adversarial, prefetch=0, steps=50),
            4,
            torch.device("cpu"),
            clock,
        )
    assert seen == list(range(5, 12)) and len(seconds) == 4
    spent = clock.spent
    assert sum(spent.values()) <= sum(seconds) and spent["rendering"] == 0
    assert min(spent[part] for part in ("data", "network", "loss", "backward", "optimizer")) > 0 and clock.open == []


def test_the_renderer_within_a_batch_is_not_counted_as_data(monkeypatch):
    import facerender
    from benchmarks import training as benchmark

    ticks = iter(range(100))
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(ticks))
    clock = benchmark.Clock(torch.device("cpu"))
    plain, topology = facerender.vertex_normals, facerender.Topology(torch.tensor([[0, 1, 2]], dtype=torch.int32), 3)
    with clock.renderer():
        clock.reset()
        with clock("data"):
            facerender.vertex_normals(torch.rand(1, 3, 3), topology)
    assert facerender.vertex_normals is plain
    assert clock.spent["rendering"] == 1 and clock.spent["data"] == 2


@pytest.mark.parametrize("name, changes, waits", [
    ("e2far", {}, 1),
    ("e2far", {"cache": 8}, 1),
    ("dasl", {"stage1": 0}, 2),
    ("dasl", {"stage1": 0, "cache": 8, "trunk": "mobilenet_05", "channel": "soft", "extra": True}, 2),
    ("pgn", {"stage1": 0}, 4),
    ("pgn", {"stage1": 0, "cache": 8, "pose": "regressed", "landmarks": "direct"}, 1),
    ("cycle", {"stage1": 0, "detached": 0}, 1),
    ("cycle", {"stage1": 0, "detached": 0, "cache": 8, "compose_pose": "render", "compose_expression": "texture", "pair": "swap"}, 1),
])  # fmt: skip
def test_on_a_cuda_device_a_step_mixes_no_devices_and_waits_for_its_outcome_alone(tmp_path, name, changes, waits):
    """Once for each player, and once for each singular value decomposition, which looks whether it converged; making a batch does not wait at all."""
    from facemodels.methods.registry import method_class
    from tests.pretended import CUDA, pretended_cuda

    kind = method_class(name)
    with pretended_cuda() as waited:
        run = training._Run(
            kind,
            configured(kind.config_class, kind.PRESETS["smoke"] | {"output": str(tmp_path), "ema": 0.9} | changes),
            CUDA,
            0,
            1,
        )
        run._begin("never")
        run.method.prepare_data()
        run._one(run._batch(0))  # what is made on the device once and kept
        run.step = 1
        waited.clear()
        batch = run._batch(1)
        assert not waited
        parts = run._one(batch)
        assert len(waited) == waits, "\n".join(map(str, waited))
        assert all(p.device == CUDA for p in [*parts.values(), *run.method.parameters()])
        run._validate()
        run._panel(batch)
        run._save()
    if run.board:
        run.board.close()
    load_weights(kind(run.config), checkpoints(tmp_path / "checkpoints")[-1])
