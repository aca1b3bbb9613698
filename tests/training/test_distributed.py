"""Several processes compute what one does."""

import contextlib
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from facemodels.networks.norm import share_batch_norms
from tests.training.toy import metrics, weights

pytestmark = pytest.mark.slow  # two processes import torch and train

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
from facemodels.training.loop import train
from tests.training import cases, test_distributed as t, toy

folder, rank = sys.argv[2], int(os.environ["RANK"])
alone = os.environ["WORLD_SIZE"] == "1"
for k, kind in enumerate(t.KINDS):
    os.environ["MASTER_PORT"] = sys.argv[3 + k]
    train(*cases.case(kind, os.path.join(folder, *(["one"] if alone else []), kind)))
if alone:
    sys.exit()
os.environ["MASTER_PORT"] = sys.argv[-1]
dist.init_process_group("gloo")
torch.save([t.normalised(t.SHARES[rank], *kind) for kind in t.NORMS], os.path.join(folder, f"norms{rank}.pt"))

class Half(toy.Toy):
    def forward(self, group, x, step, shared):
        parts = super().forward(group, x, step, shared)
        return parts | {"loss": parts["loss"] / 0 if step == 13 and rank == 1 else parts["loss"]}

try:
    train(Half, toy.config(os.path.join(folder, "half"), normalised=True))
except InputError as error:
    open(os.path.join(folder, f"refusal{rank}.txt"), "w").write(str(error))
"""


def free_ports(count) -> list[int]:
    """Ports below those that the system gives to connections, so that no connection takes one before it is used."""
    found: list[int] = []
    candidates = iter(random.sample(range(10_000, 30_000), 1000))  # each once
    while len(found) < count:
        port = next(candidates)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            found.append(port)
    return found


@pytest.fixture(scope="module")
def two_processes(shared_folder):
    """The folder with what TWO writes (one pair of processes for all: importing torch takes the most of the time)."""
    return shared_folder("two_processes", train_in_two_processes)


def train_in_two_processes(folder):
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


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_compute_what_one_does(two_processes, kind):
    """Weights, running statistics and reported losses are those of the whole batch, not of each process's share.

    Each process has one thread: with another number, linear algebra finds other eigenvectors for a morphable model, and
    a few pixels of renderings change.
    """
    one, two = weights(two_processes / "one" / kind), weights(two_processes / kind)
    for key in one:
        rounding = 1e-6 + 1e-5 * float(one[key].abs().max())
        torch.testing.assert_close(two[key], one[key], rtol=1e-4, atol=rounding, msg=lambda m, key=key: f"{key}: {m}")
    for a, b in zip(metrics(two_processes / "one" / kind), metrics(two_processes / kind), strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-6)


def normalised(rows, dtype, affine):
    """Outputs, running statistics and gradients of a batch norm and a loss, of these rows of a batch."""
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
            torch.testing.assert_close(got, value, **tolerance, msg=lambda m, name=f"{kind} {name}": f"{name}: {m}")


def test_a_loss_that_is_not_finite_in_one_process_ends_all_with_the_same_sentence(two_processes):
    for rank in range(2):
        assert (
            "step 13: the loss of the network or its gradient is not finite (loss inf"
            in (two_processes / f"refusal{rank}.txt").read_text()
        )
