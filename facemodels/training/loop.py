"""The training loop that every method goes through, and the checkpoints that lose nothing.

A method is an `nn.Module` (`Method`) that says what its data are, what its losses are and how it is validated; `train` does the rest:
optimizers, schedule, mixed precision, averaging of weights, many devices, metrics, pictures, checkpoints, resuming.

Everything random in a step is seeded by (seed, step), and batches are found by their number, so a run that was killed at any instant and
resumed does exactly what it would have done: on the CPU, with the same number of threads, its weights are the same bits.

One process a device under torchrun; the batch size is that of all devices together, and rank r takes its share of it, so that two processes
compute what one would: gradients and reported losses are means over the processes, and batch norm sees the whole batch (`networks.norm`). It is
the same to rounding where the losses are means over samples and no random numbers are drawn in `Method.forward`: dropout draws each process's
from (seed, step, rank), so that its masks are other ones with another number of processes.
"""

import dataclasses
import json
import math
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from facemodels.core.device import parse_device
from facemodels.core.errors import InputError
from facemodels.core.seeding import seed_everything
from facemodels.networks.norm import SharedBatchNorm, share_batch_norms
from facemodels.training.checkpoint import _forget_after, _load_state, checkpoints, load_weights, save_checkpoint
from facemodels.training.config import Config, _read
from facemodels.training.method import Method
from facemodels.training.prefetch import _Ahead

# ----------------------------------------------------------------------------------------------------------------- configurations


# -------------------------------------------------------------------------------------------------------------------- checkpoints


# ----------------------------------------------------------------------------------------------------------------------- the loop


def train(
    method_class: type[Method], config: Config, resume: str = "never", after_step: Callable[[int], None] | None = None
) -> Method:
    """Trains a method; returns it with the last weights (the averaged ones, where there are any).

    resume: "auto" goes on from the last checkpoint in the run's folder, or begins; "never" refuses a folder that has checkpoints; a path goes
    on from that checkpoint. after_step is called with the number of steps done.

    Raises:
        InputError: a folder, checkpoint or setting that cannot be used; a loss that is not finite, with the step, its parts and the last good
            checkpoint.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = _device(config)
    if config.batch % world:
        raise InputError(f"batch must be a multiple of the {world} processes, got {config.batch}")
    started = world > 1 and not dist.is_initialized()
    if started:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        return _Run(method_class, config, device, rank, world).go(resume, after_step)
    finally:
        if started:
            dist.destroy_process_group()


def _device(config) -> torch.device:
    device = parse_device(config.device)
    if device.type == "cuda":
        if device.index is None and "LOCAL_RANK" in os.environ:
            device = parse_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(device.index or 0)  # which takes no "cuda" without a number
    return device


# Settings that a resumed run may have otherwise than the one before it.
_MAY_CHANGE = (
    "output",
    "steps",
    "device",
    "compile",
    "prefetch",
    "log_every",
    "panel_every",
    "validate_every",
    "checkpoint_every",
    "keep",
    "patience",
)


class _Run:
    def __init__(self, method_class, config, device, rank, world):
        self.config, self.device, self.rank, self.world = config, device, rank, world
        self.folder = Path(config.output)
        seed_everything(config.seed, 0)
        self.method = method_class(config).to(device)
        if config.channels_last:
            self.method = self.method.to(memory_format=torch.channels_last)
        self.losses = _Losses(self.method)
        if world > 1:
            share_batch_norms(self.method, device)
            warnings.filterwarnings(
                "ignore", "find_unused_parameters=True was specified"
            )  # players, stages and losses of weight 0 leave parameters without gradients
            self.losses = nn.parallel.DistributedDataParallel(
                self.losses, find_unused_parameters=True, broadcast_buffers=False
            )
        self.optimizers = {name: _optimizer(parameters, config) for name, parameters in self.method.parameter_groups().items()}
        self.average = {k: v.detach().clone() for k, v in self.method.state_dict().items()} if config.ema else None
        self.step, self.best, self.best_step, self.waited = 0, math.inf, None, 0

    @property
    def chief(self):
        return self.rank == 0

    def go(self, resume, after_step):
        self._begin(resume)
        if self.step < self.config.steps:
            self.method.prepare_data()
        stop = False
        bar = tqdm(
            total=self.config.steps,
            initial=self.step,
            desc=self.method.name,
            disable=None if self.chief else True,
            dynamic_ncols=True,
        )
        with (
            _prepared(self.method, self.config, self.device),
            _Ahead(self._batch, self.config.prefetch) as ahead,
            _polite_stop() as stopping,
            bar,
            closing(self.board) if self.board else nullcontext(),
        ):
            while self.step < self.config.steps:
                began = time.perf_counter()
                batch = ahead.take(self.step, self.config.steps)
                waited = time.perf_counter() - began
                parts = self._one(batch)
                self.step += 1
                bar.update()
                done = self.step == self.config.steps
                if self.step % self.config.log_every == 0 or done:
                    values = {k: float(v) for k, v in parts.items()}
                    bar.set_postfix_str(f"loss {values.get('loss', next(iter(values.values()))):.4g}")
                    self._log(
                        {
                            "step": self.step,
                            "lr": self._rate(self.step - 1),
                            "seconds": time.perf_counter() - began,
                            "seconds_data": waited,
                        }
                        | values
                    )
                if self.step % self.config.panel_every == 0 or done:
                    self._panel(batch)
                ended = False
                if self.step % self.config.validate_every == 0 or done:
                    ended = self._validate()
                stop = self._agreed(stopping())
                if (
                    self.step % self.config.checkpoint_every == 0
                    or done
                    or ended
                    or stop
                    or self._agreed(self.best_step == self.step)
                ):
                    self._save()
                if after_step:
                    after_step(self.step)
                if ended or stop:
                    break
        if stop and self.step < self.config.steps:
            raise KeyboardInterrupt
        if self.average is not None:
            self.method.load_state_dict(self.average)
        return self.method

    def _agreed(self, flag) -> bool:
        """Whether any process says so: all must stop, save and wait for each other at the same step."""
        if self.world == 1:
            return bool(flag)
        said = torch.tensor([bool(flag)], dtype=torch.int32, device=self.device)
        dist.all_reduce(said, dist.ReduceOp.MAX)
        return bool(said.item())

    # ------------------------------------------------------------------------------------------------------------------- a step

    def _batch(self, step):
        share = self.config.batch // self.world
        return self.method.batch(step, range(self.rank * share, (self.rank + 1) * share), self.device)

    def _one(self, batch):
        """One step of every player in turn. Returns the parts of their losses."""
        seed_everything(self.config.seed, self.step, self.rank)
        self.method.train()
        logged, shared = {}, {}
        everyone = [p for parameters in self.method.parameter_groups().values() for p in parameters]
        for name, optimizer in self.optimizers.items():
            if not self.method.is_active(name, self.step):
                continue
            for group in optimizer.param_groups:
                group["lr"] = self._rate(self.step)
            optimizer.zero_grad(set_to_none=True)
            if len(self.optimizers) > 1:  # only this player's parameters move, and only they are waited for
                mine = {id(p) for p in self.method.parameter_groups()[name]}
                for p in everyone:
                    p.requires_grad_(id(p) in mine)
            with _compiler_errors() if self.config.compile else nullcontext():
                loss, parts = self.losses(name, batch, self.step, shared)
            parts = self._mean_parts(parts)
            loss.backward()
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            norm = nn.utils.clip_grad_norm_(
                parameters, self.config.clip or math.inf
            )  # an infinite bound leaves gradients as they are
            if not torch.isfinite(parts["loss"] + norm):  # one look at both: it waits for the device
                self._refuse(name, parts | {"gradient": norm})
            optimizer.step()
            prefix = "" if len(self.optimizers) == 1 else name + "_"
            logged |= {prefix + k: v for k, v in parts.items()}
        if len(self.optimizers) > 1:
            for p in everyone:
                p.requires_grad_(True)
        if self.average is not None:
            self._update_average()
        return logged

    def _mean_parts(self, parts):
        """The losses' values for the whole batch. One that is not finite in one process is so in all: they stop together."""
        if self.world == 1:
            return parts
        values = torch.stack([v.float().reshape(()) for v in parts.values()])
        dist.all_reduce(values)
        return dict(zip(parts, values / self.world))

    @torch.no_grad()
    def _update_average(self):
        keep = min(self.config.ema, (1 + self.step) / (10 + self.step))  # short runs too
        pairs = [(self.average[key], value) for key, value in self.method.state_dict().items()]
        averaged, counted = (
            [*zip(*(p for p in pairs if p[1].is_floating_point() == floating))] for floating in (True, False)
        )
        if averaged:
            torch._foreach_lerp_(*map(list, averaged), 1 - keep)  # a few kernels for hundreds of tensors
        if counted:
            torch._foreach_copy_(*map(list, counted))

    def _rate(self, step):
        c = self.config
        if step < c.warmup:
            return c.lr * (step + 1) / c.warmup
        if c.schedule == "constant":
            return c.lr
        if c.schedule == "step":
            return c.lr * c.decay ** sum(step >= m for m in c.milestones)
        return c.lr * 0.5 * (1 + math.cos(math.pi * (step - c.warmup) / max(1, c.steps - c.warmup)))

    def _refuse(self, name, parts):
        last = checkpoints(self.folder / "checkpoints")
        values = ", ".join(f"{k} {v.item():.4g}" for k, v in parts.items())
        raise InputError(
            f"step {self.step}: the loss of the {name} or its gradient is not finite ({values}); "
            + (f"the last good checkpoint is {last[-1]}" if last else "there is no checkpoint yet")
            + "; a lower lr or clip=1 may help"
        )

    # ------------------------------------------------------------------------------------------------- metrics, pictures, checkpoints

    @contextmanager
    def _averaged(self):
        """The method with its averaged weights, for evaluation; not compiled: for a few batches that takes longer than it saves."""
        self.method.eval()
        own = None
        if self.average is not None:
            own = {k: v.detach().clone() for k, v in self.method.state_dict().items()}
            self.method.load_state_dict(self.average)
        try:
            with torch.compiler.set_stance("force_eager") if self.config.compile else nullcontext():
                yield
        finally:
            if own is not None:
                self.method.load_state_dict(own)

    @torch.no_grad()
    def _validate(self):
        """Returns whether to stop early."""
        if self.chief:
            with self._averaged():
                results = {k: float(v) for k, v in self.method.validate(self.device).items()}
            if results:
                self._log({"step": self.step} | {f"validation_{k}": v for k, v in results.items()})
                tqdm.write(f"step {self.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in results.items()))
                value = results.get(self.method.monitor, math.inf)
                self.waited = 0 if value < self.best else self.waited + 1
                if value < self.best:
                    self.best, self.best_step = value, self.step
        return self._agreed(self.config.patience and self.waited >= self.config.patience)

    @torch.no_grad()
    def _panel(self, batch):
        if not self.chief:
            return
        with self._averaged():
            picture = self.method.visualize(batch)
        if picture is not None:
            import imageio.v3 as iio

            from facemodels.core.drawing import to_bytes

            file = self.folder / "panels" / f"step-{self.step:09d}.png"
            with self._writing(file):
                file.parent.mkdir(exist_ok=True)
                iio.imwrite(file, to_bytes(picture))

    def _log(self, line: dict):
        if not self.chief:
            return
        with self._writing(self.folder / "metrics.jsonl") as path, open(path, "a") as file:
            file.write(json.dumps(line) + "\n")
        if self.board:
            with self._writing(self.folder / "tensorboard"):
                for key, value in line.items():
                    if key != "step":
                        self.board.add_scalar(key, value, line["step"])

    @contextmanager
    def _writing(self, path):
        try:
            yield path
        except OSError as error:
            last = checkpoints(self.folder / "checkpoints")
            kept = f"; --resume auto goes on from {last[-1].name}" if last else ""
            raise InputError(
                f"step {self.step}: {path} could not be written ({error.strerror or error}){kept}"
            ) from error

    def _save(self):
        if self.chief:
            results = {
                "best": self.best,
                "best_step": self.best_step if self.best_step is not None else -1,
                "waited": self.waited,
            }
            save_checkpoint(
                self.folder / "checkpoints",
                self.step,
                self.method,
                self.optimizers,
                self.average,
                results,
                self.config.keep,
                self.best_step,
            )
        if self.world > 1:
            dist.barrier()

    def _begin(self, resume):
        found = checkpoints(self.folder / "checkpoints")
        if resume == "never" and found:
            raise InputError(
                f"{self.folder}: holds checkpoints of an earlier run (the last is {found[-1].name}); --resume auto goes on from it, --set output=DIR begins another"
            )
        start = None
        if resume == "auto":
            start = found[-1] if found else None
        elif resume != "never":
            start = Path(resume)
        if start is not None:
            load_weights(self.method, start, averaged=False)
            before, now = _read(start / "config.json"), json.loads(json.dumps(dataclasses.asdict(self.config)))
            for key, value in now.items():
                if (
                    key not in _MAY_CHANGE and key in before and before[key] != value
                ):  # a setting that there was not yet is as it was
                    raise InputError(
                        f"{start}: was trained with {key}={before[key]!r}, not {value!r}; go on with --set {key}={before[key]}, or begin another run"
                    )
            state = _load_state(start)
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
            if self.average is not None:
                try:
                    saved = load_file(start / "average.safetensors", device=str(self.device))
                    for key in self.average:
                        self.average[key].copy_(saved[key])
                except (SafetensorError, OSError, KeyError) as error:
                    raise InputError(f"{start / 'average.safetensors'}: damaged or missing ({error})") from error
            self.step = state["step"]
            if (
                resume != "auto"
                and found
                and (start.parent.resolve() != found[-1].parent.resolve() or int(found[-1].name[5:]) > self.step)
            ):
                raise InputError(
                    f"{self.folder}: holds {found[-1].name} of another course; --set output=DIR goes on from {start} in another folder"
                )
            self.best, self.waited = state["results"]["best"], state["results"]["waited"]
            self.best_step = state["results"]["best_step"] if state["results"]["best_step"] >= 0 else None
            torch.set_rng_state(state["rng"]["cpu"])
        if start is None:
            self.method.initialize()
            for value in (
                self.method.state_dict().values() if self.world > 1 else ()
            ):  # machines may compute what it computed otherwise
                first = value.contiguous()
                dist.broadcast(first, 0)
                value.copy_(first)
            if self.average is not None:
                self.average = {k: v.detach().clone() for k, v in self.method.state_dict().items()}
        self.board = None
        if self.chief:
            self.folder.mkdir(parents=True, exist_ok=True)
            for partial in (self.folder / "checkpoints").glob(".partial-*"):
                shutil.rmtree(partial, ignore_errors=True)
            (self.folder / "config.json").write_text(
                json.dumps({"method": self.method.name} | dataclasses.asdict(self.config), indent=1) + "\n"
            )
            _forget_after(self.folder / "metrics.jsonl", self.step)
            try:
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(self.folder / "tensorboard", purge_step=self.step + 1)
            except ImportError:
                pass  # TensorBoard is not installed: the metrics are in metrics.jsonl


class _Losses(nn.Module):
    """(the loss, the values of all parts) of a player. DistributedDataParallel waits for gradients of whatever has a graph: only what is minimised keeps its own."""

    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, group, batch, step, shared):
        parts = self.method(group, batch, step, shared)
        return parts["loss"], {k: v.detach() for k, v in parts.items()}


def _networks(module: nn.Module):
    """The networks of a method: its children, and what lists of networks hold."""
    for child in module.children():
        if type(child).forward is nn.Module.forward:  # a list or a dict of networks
            yield from _networks(child)
        else:
            yield child


@contextmanager
def _prepared(method, config, device):
    """The networks compiled and in bfloat16 as the settings say. The method around them, with its batches, its renderer and its losses, stays as it is, in float32."""
    networks = list(_networks(method))
    for network in networks:
        if config.compile:
            for inner in network.modules():
                if isinstance(
                    inner, SharedBatchNorm
                ):  # its gradient waits for other processes, which the compiler cannot follow
                    inner.forward = torch.compiler.disable(inner.forward)
            network.forward = torch.compile(
                network.forward
            )  # not network.compile(), which passes over torch's own classes, such as nn.Sequential
        if config.precision == "bfloat16":
            network.forward = _in_bfloat16(network, network.forward, device.type)
    try:
        yield
    finally:
        for network in networks:
            network.__dict__.pop("forward", None)


def _in_bfloat16(network, forward, kind):
    def narrow(*inputs, **named):
        with torch.autocast(kind, torch.bfloat16, enabled=network.training):
            return forward(*inputs, **named)

    return narrow


@contextmanager
def _compiler_errors():
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        first = " ".join(str(error).strip().split("\n\n")[0].split())
        raise InputError(f"compile=true: torch.compile failed ({first}); compile=false trains without it") from error


def _optimizer(parameters, config) -> torch.optim.Optimizer:
    kinds = {
        "adamw": lambda: torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True),
        "adam": lambda: torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True),
        "sgd": lambda: torch.optim.SGD(
            parameters, lr=config.lr, weight_decay=config.weight_decay, momentum=0.9, nesterov=True
        ),
    }
    return kinds[config.optimizer]()


@contextmanager
def _polite_stop():
    """Ctrl-C and SIGTERM end the run after the step, with a checkpoint; a second one ends it at once."""
    asked = []

    def ask(number, frame):
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread
        yield lambda: False
        return
    try:
        yield lambda: bool(asked)
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
