"""The training loop.

A `Method` defines its data, its losses and its validation. `train` does the rest: optimizers, schedule, mixed
precision, averaged weights, several devices, metrics, pictures, checkpoints, resuming.

Everything random in a step is seeded by (seed, step), and batches are addressed by their number. So a run that is
killed at any moment and resumed ends as it would have ended: on the CPU, with the same number of threads, in the same
bits.

Under torchrun there is one process a device. The batch size is that of all processes together, and rank r takes its
share of it, so that two processes compute what one would: gradients and reported losses are means over the processes,
and batch norm sees the whole batch (`networks.norm`). This holds up to rounding, for losses that are means over the
samples. Random numbers that `Method.forward` draws, for dropout, are seeded by (seed, step, rank), and so differ with
the number of processes.
"""

import dataclasses
import json
import math
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facemodels.core.drawing import captioned, to_bytes
from facemodels.core.errors import InputError
from facemodels.core.seeding import seed_everything
from facemodels.networks.norm import share_batch_norms
from facemodels.training.checkpoint import (
    check,
    check_method,
    checkpoints,
    load_average,
    load_state,
    load_weights,
    save_checkpoint,
    set_damaged_aside,
    steps_of,
)
from facemodels.training.config import MAY_CHANGE, Config, config_json, read_settings, shortened
from facemodels.training.distributed import Processes, training_device
from facemodels.training.lock import folder_lock
from facemodels.training.method import Method
from facemodels.training.metrics import MetricsLog, naming_the_step
from facemodels.training.optimizer import WeightAverage, learning_rate, make_optimizer
from facemodels.training.precision import compiler_errors, optimized_networks
from facemodels.training.prefetch import Prefetcher
from facemodels.training.progress import Progress

_FIRST_STEPS = 10  # steps of a run that are all logged
_NAMED = 4  # settings that a message names


def train(
    method_class: type[Method], config: Config, resume: str = "never", after_step: Callable[[int], None] | None = None
) -> Method:
    """Train a method.

    Args:
        method_class: The method.
        config: Its settings.
        resume: "never" refuses a folder that holds checkpoints; "auto" resumes from the last checkpoint in the run's
            folder that is not damaged, or begins if there is none; a path resumes from that checkpoint.
        after_step: Called after each step with the number of steps done.

    Returns:
        The method with its last weights, the averaged ones if the run has them.

    Raises:
        InputError: A folder, checkpoint or setting cannot be used, another run is training in the folder, or a loss is
            not finite; the message then has the step, the parts of the loss, and the last good checkpoint.
        KeyboardInterrupt: The run was asked to stop (Ctrl-C, SIGTERM, SIGHUP), and saved a checkpoint.
    """
    processes = Processes.from_environment(training_device(config.device))
    if config.batch % processes.count:
        raise InputError(f"batch must be a multiple of the {processes.count} processes, got {config.batch}")
    with processes.connected():
        return Run(method_class, config, processes).run(resume, after_step)


class Run:
    """The state of a training run in one process."""

    def __init__(self, method_class: type[Method], config: Config, processes: Processes) -> None:
        """Build the method and its optimizers; read no checkpoint yet."""
        self.config, self.processes, self.device = config, processes, processes.device
        self.folder = Path(config.output)
        seed_everything(config.seed, 0)
        self.method = method_class(config).to(self.device)
        if config.channels_last:
            # Missing in torch's stubs.
            self.method = self.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # see above
        self.losses: nn.Module = _Losses(self.method)
        if processes.count > 1:
            share_batch_norms(self.method, self.device)
            # Groups, stages and losses of weight 0 leave parameters without gradients.
            warnings.filterwarnings("ignore", "find_unused_parameters=True was specified")
            self.losses = nn.parallel.DistributedDataParallel(
                self.losses, find_unused_parameters=True, broadcast_buffers=False
            )
        self.groups = self.method.parameter_groups()
        self.optimizers = {name: make_optimizer(parameters, config) for name, parameters in self.groups.items()}
        self.average = WeightAverage(self.method, config.ema) if config.ema else None
        self.log: MetricsLog | None = None
        self.progress = Progress(method_class.name, config.steps, config.batch, quiet=not processes.is_main)
        self.step = 0  # steps done
        self.best = math.inf  # the best validation result
        self.best_step: int | None = None
        self.without_improvement = 0  # validations since the best

    def run(self, resume: str, after_step: Callable[[int], None] | None) -> Method:
        """Train to the last step: see `train`."""
        with folder_lock(self.folder) if self.processes.is_main else nullcontext():
            return self._run(resume, after_step)

    def _run(self, resume: str, after_step: Callable[[int], None] | None) -> Method:
        c = self.config
        self._refuse_taken_folder(resume)  # before anything is announced
        processes = f", {self.processes.count} processes" if self.processes.count > 1 else ""
        self.progress.say(f"{c.steps} steps of {c.batch} samples on {self.device}{processes}, in {self.folder}")
        with self.progress.preparing("preparing weights"):
            self.begin(resume)
        stop, ended = False, self._finished()
        if ended:
            self.progress.say(f"the run in {self.folder} is finished: {ended}")
        else:
            if self.step:
                self.progress.say(f"resuming after step {self.step}")
            with self.progress.preparing("preparing data"):
                self.method.prepare_data()
            for sentence in self.method.data_notes():
                self.progress.say(sentence)
            if c.compile:
                self.progress.say("compiling the networks in the first steps, which can take minutes")
        self.open_log()  # after all that may be refused
        first = self.step + 1
        with (
            optimized_networks(self.method, c, self.device),
            Prefetcher(self.make_batch, c.prefetch) as prefetcher,
            graceful_stop(self.processes.is_main) as stop_requested,
            self.progress.steps_from(self.step),
            closing(self.log) if self.log else nullcontext(),
        ):
            while self.step < c.steps and not ended:
                began = time.perf_counter()
                batch = prefetcher.take(self.step, c.steps)
                waited = time.perf_counter() - began
                parts = self.training_step(batch)
                self.step += 1
                done = self.step == c.steps
                values = None
                logged = self.step % c.log_every == 0 or done or self.step <= _FIRST_STEPS
                if logged or self.step == first:
                    values = {k: float(v) for k, v in parts.items()}
                    if logged and self.log:
                        lr = learning_rate(c, self.step - 1)
                        times = {"seconds": time.perf_counter() - began, "seconds_data": waited}
                        self.log.write(self.step, {"lr": lr} | times | values)
                self.progress.advance(values)
                if self.step % c.panel_every == 0 or done or self.step == 1:
                    self.save_panel(batch)
                stuck = (self.step % c.validate_every == 0 or done) and self.validate()
                stop = self.processes.any(stop_requested())
                if (
                    self.step % c.checkpoint_every == 0
                    or done
                    or stuck
                    or stop
                    or self.processes.any(self.best_step == self.step)
                ):
                    self.save()
                if after_step:
                    after_step(self.step)
                if stuck or stop:
                    break
        if stop and self.step < c.steps:
            self.progress.say(f"stopped after step {self.step}, with a checkpoint; --resume auto resumes the run")
            raise KeyboardInterrupt
        if self.step >= first:
            self._say_results()
        if self.average is not None:
            self.method.load_state_dict(self.average.state)
        return self.method

    def make_batch(self, step: int) -> Any:
        """Make this process's share of the batch of a step."""
        return self.method.batch(step, self.processes.share(self.config.batch), self.device)

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """Update every active optimizer group in turn.

        Returns:
            The parts of their losses; with several groups, the names begin with that of the group.
        """
        c = self.config
        seed_everything(c.seed, self.step, self.processes.rank)
        self.method.train()
        logged: dict[str, Tensor] = {}
        shared: dict[str, Tensor] = {}  # what groups pass on to the groups after them
        several = len(self.optimizers) > 1
        for name, optimizer in self.optimizers.items():
            if not self.method.is_active(name, self.step):
                continue
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(c, self.step)
            optimizer.zero_grad(set_to_none=True)
            if several:  # only this group's parameters get gradients, and only they are waited for
                self._require_gradients(name)
            with compiler_errors() if c.compile else nullcontext():
                loss, parts = self.losses(name, batch, self.step, shared)
            parts = self.processes.mean(parts)
            loss.backward()
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            norm = nn.utils.clip_grad_norm_(parameters, c.clip or math.inf)  # an infinite bound changes nothing
            if not torch.isfinite(parts["loss"] + norm):  # one check of both, because it waits for the device
                self._refuse(name, parts | {"gradient": norm})
            optimizer.step()
            logged |= {f"{name}_{k}" if several else k: v for k, v in parts.items()}
        if several:
            self._require_gradients(None)
        if self.average is not None:
            self.average.update(self.step)
        return logged

    def _require_gradients(self, only: str | None) -> None:
        """Let the parameters of one group require gradients, or (None) those of all groups."""
        wanted = {id(p) for name, parameters in self.groups.items() for p in parameters if only in (None, name)}
        for parameters in self.groups.values():
            for p in parameters:
                p.requires_grad_(id(p) in wanted)

    def _refuse(self, group: str, parts: dict[str, Tensor]) -> None:
        last = checkpoints(self.folder / "checkpoints")
        values = ", ".join(f"{k} {v.item():.4g}" for k, v in parts.items())
        where = f"the last good checkpoint is {last[-1]}" if last else "there is no checkpoint yet"
        raise InputError(
            f"step {self.step}: the loss of the {group} or its gradient is not finite ({values}); {where}; "
            f"what may help: a lower lr (it is {self.config.lr:g}), clip=1, warmup=500"
            + (", precision=float32" if self.config.precision != "float32" else "")
            + ", in a run with another output"
            + (f", which start={last[-1]} begins with these weights" if last else "")
        )

    def _finished(self) -> str:
        """Why there is nothing left to do, and how to train longer; "" if there is."""
        c = self.config
        if self.step >= c.steps:
            return f"all {self.step} steps are done; to train longer, add --set steps={2 * self.step} --resume auto"
        if 0 < c.patience <= self.without_improvement:
            return f"it ended at step {self.step}, because {self._without_improvement()}"
        return ""

    def _without_improvement(self) -> str:
        return (
            f"{self.method.monitor} did not improve in {self.without_improvement} validations (patience="
            f"{self.config.patience}); to train longer, add --set patience=0 --resume auto"
        )

    def _say_results(self) -> None:
        if self.step < self.config.steps:
            self.progress.say(f"ended at step {self.step}: {self._without_improvement()}")
        if self.best_step is not None:
            best = self.folder / "checkpoints" / f"step-{self.best_step:09d}"
            where = f" ({self.method.measured_on})" if self.method.measured_on else ""
            self.progress.say(f"best validation {self.method.monitor}: {self.best:.4g}{where}, of {best}")

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Put the method into evaluation mode, with averaged weights if there are any.

        It is not compiled: for a few batches, compiling would take longer than it saves.
        """
        self.method.eval()
        with (
            self.average.applied() if self.average is not None else nullcontext(),
            torch.compiler.set_stance("force_eager") if self.config.compile else nullcontext(),
        ):
            yield

    @torch.no_grad()
    def validate(self) -> bool:
        """Validate and log the results.

        Returns:
            Whether to stop early.
        """
        if self.processes.is_main:
            with self._evaluating(), self.progress.during("validating"):
                results = {k: float(v) for k, v in self.method.validate(self.device).items()}
            if results:
                if self.log:
                    self.log.write(self.step, {f"validation_{k}": v for k, v in results.items()})
                found = ", ".join(f"{k} {v:.4g}" for k, v in results.items())
                self.progress.say(f"step {self.step}, validation: {found}")
                value = results.get(self.method.monitor, math.inf)
                self.without_improvement = 0 if value < self.best else self.without_improvement + 1
                if value < self.best:
                    self.best, self.best_step = value, self.step
        patience = self.config.patience
        return self.processes.any(patience > 0 and self.without_improvement >= patience)

    @torch.no_grad()
    def save_panel(self, batch: Any) -> None:
        """Write a picture of predictions for a batch."""
        if not self.processes.is_main:
            return
        with self._evaluating():
            panel = self.method.visualize(batch)
        if panel is None:
            return
        import imageio.v3 as iio

        with naming_the_step(self.step, self.folder, self.folder / "panels" / f"step-{self.step:09d}.png") as file:
            file.parent.mkdir(exist_ok=True)
            iio.imwrite(file, captioned(to_bytes(panel.picture), panel.rows, panel.columns))

    def save(self) -> None:
        """Write a checkpoint; all processes wait for it."""
        if self.processes.is_main:
            results = {
                "best": self.best,
                "best_step": self.best_step if self.best_step is not None else -1,
                "waited": self.without_improvement,
            }
            save_checkpoint(
                self.folder / "checkpoints",
                self.step,
                self.method,
                self.optimizers,
                self.average.state if self.average is not None else None,
                results,
                self.config.keep,
                self.best_step,
            )
        self.processes.wait()

    def begin(self, resume: str) -> None:
        """Resume from a checkpoint or initialize the method: see `train`."""
        checkpoint = self._checkpoint_to_resume(resume)
        if checkpoint is not None:
            self._resume(checkpoint, named=resume != "auto")
        else:
            self.method.initialize()
            self.processes.broadcast(self.method)  # initial weights may differ between machines
            if self.average is not None:
                self.average.reset()

    def open_log(self) -> None:
        """Write the settings into the run's folder, and open its log."""
        if self.processes.is_main:
            for partial in (self.folder / "checkpoints").glob(".partial-*"):
                shutil.rmtree(partial, ignore_errors=True)
            file = self.folder / "config.json"
            with naming_the_step(self.step, self.folder, file):
                file.with_suffix(".new").write_text(config_json(self.method.name, self.config))
                os.replace(file.with_suffix(".new"), file)
            self.log = MetricsLog(self.folder, self.step)

    def _refuse_taken_folder(self, resume: str) -> None:
        present = checkpoints(self.folder / "checkpoints")
        if resume == "never" and present:
            raise InputError(
                f"{self.folder}: holds checkpoints of an earlier run (the last is {present[-1].name}); "
                "--resume auto resumes that run, --set output=DIR starts another"
            )

    def _checkpoint_to_resume(self, resume: str) -> Path | None:
        if resume == "never":
            return None
        if resume != "auto":
            return Path(resume)
        if self.processes.is_main:
            for sentence in set_damaged_aside(self.folder / "checkpoints", self._load):
                self.progress.say(sentence)
        self.processes.wait()  # until the first process has moved what is damaged
        return next(reversed(checkpoints(self.folder / "checkpoints")), None)

    def _load(self, checkpoint: Path) -> dict[str, Any]:
        """Load the weights of a checkpoint, if its settings are this run's; return what else resuming needs."""
        check_method(checkpoint, self.method)
        self._check_settings(checkpoint)  # before the weights, whose shapes say less
        load_weights(self.method, checkpoint, averaged=False)
        if self.average is not None:
            load_average(checkpoint, self.average.state)
        return load_state(checkpoint)

    def _resume(self, checkpoint: Path, named: bool) -> None:
        """Take the state of a checkpoint. named: the user named it; it may not be the last one of the folder."""
        if named:
            check(checkpoint)
        state = self._load(checkpoint)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.step = state["step"]
        if self.step > self.config.steps:
            raise InputError(
                f"{checkpoint}: is at step {self.step}, beyond steps={self.config.steps}; give more steps, or leave "
                "steps out to resume with the run's own"
            )
        present = checkpoints(self.folder / "checkpoints")
        if named and present:
            last = present[-1]
            elsewhere = checkpoint.parent.resolve() != last.parent.resolve()
            if elsewhere or steps_of(last) > self.step:
                raise InputError(
                    f"{self.folder}: holds {last.name}, a later checkpoint or one of another run; add --set output=DIR "
                    f"to resume from {checkpoint} in another folder"
                )
        results = state["results"]
        self.best, self.without_improvement = results["best"], results["waited"]
        self.best_step = results["best_step"] if results["best_step"] >= 0 else None
        torch.set_rng_state(state["rng"]["cpu"])

    def _check_settings(self, checkpoint: Path) -> None:
        """Refuse settings that differ from the checkpoint's. One that it lacks is newer than it and has its default."""
        before, now = read_settings(checkpoint / "config.json"), json.loads(json.dumps(dataclasses.asdict(self.config)))
        differ = [k for k, v in now.items() if k not in MAY_CHANGE and k in before and before[k] != v]
        if differ:
            named = "; ".join(f"{k}={shortened(before[k])}, not {shortened(now[k])}" for k in differ[:_NAMED])
            more = f"; and {len(differ) - _NAMED} more settings differ" if len(differ) > _NAMED else ""
            raise InputError(
                f"{checkpoint}: was trained with {named}{more}. These settings cannot change within a run: "
                "leave them out of --preset, --config and --set to resume with the run's own, or start another run "
                "with --set output=DIR"
            )


class _Losses(nn.Module):
    """The losses of a method in the form that DistributedDataParallel needs: the loss, and the values of all parts.

    It waits for gradients of every output that has a graph, so only the loss keeps its own.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, group: str, batch: Any, step: int, shared: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        parts = self.method(group, batch, step, shared)
        return parts["loss"], {k: v.detach() for k, v in parts.items()}


@contextmanager
def graceful_stop(speaks: bool = True) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether the run was asked to stop, by Ctrl-C, SIGTERM or SIGHUP.

    The run then ends after the step, with a checkpoint. A second request ends it at once.

    Args:
        speaks: Say so when asked.
    """
    requests: list[int] = []
    # A terminal that is closed sends SIGHUP; nohup ignores it, and so does the run then.
    stopping = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])

    def request(number: int, frame: object) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(number)
        if speaks:
            with suppress(OSError):  # not print, which a signal may have interrupted
                os.write(2, b"\nstopping after this step, with a checkpoint; once more stops at once, without\n")

    try:
        before = {s: signal.signal(s, request) for s in stopping if signal.getsignal(s) is not signal.SIG_IGN}
    except ValueError:  # not in the main thread
        yield lambda: False
        return
    try:
        yield lambda: bool(requests)
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
