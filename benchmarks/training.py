"""The speed of training of each method, and the shares of a step's time.

python -m benchmarks.training [--methods NAME ...] [--presets NAME ...] [--device D] [--steps N] [--at FRACTION]
[--json FILE]

Two runs of `facemodels.training.loop.train` for each method and preset, with its own settings, on synthetic faces.
Images a second: the loop as it is, batches made ahead in threads. Shares: without prefetching, and with a
synchronization of the device at each boundary, so that the parts add up to the step:

    data        making the batch (in presets with a cache: taking it from the cache)
    rendering   facerender's ops, wherever they are called: in a batch or in a loss; their gradients count as backward
    network     forward of the networks, the modules directly below the method
    loss        the rest of the method's `forward`
    backward    gradients, their check and their clipping
    optimizer   its step
    other       averaging of weights, random seeds, the loop

On a GPU a few more steps of the first run are profiled: the idle share of a step without synchronization, in which no
kernel, copy or fill runs; the share of facerender's kernels in the time of all kernels; how many kernels, copies and
fills a step launches, and how often the host waits for the device. Where the idle share is large the step waits for
its launches, and CUDA graphs would pay.

Both runs are timed at the end of the training, where every loss is active (--at 0: at its beginning), after a few
warm-up steps. Validation, panels and checkpoints are left out. A cache holds only a few batches; the cost of filling
it is given as the time of new samples: making them should take less time than the networks' step on the CPU, and less
than 5 % of it on a GPU.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.profiler import ProfilerActivity, profile

import facerender as fr
from facemodels.core.errors import InputError
from facemodels.data.synthetic import Synthetic
from facemodels.methods.registry import METHODS, method_class
from facemodels.networks import Trunk
from facemodels.training.config import configured
from facemodels.training.loop import train

from . import common
from .kernels import short

WARM_UP = 3  # steps that are not counted
PROFILED = 5  # steps under the profiler
PARTS = ("data", "rendering", "network", "loss", "backward", "optimizer", "other")
BIG = ("gpu", "paper")  # presets that are left out on the CPU
NEVER = 10**9


def main(arguments=None) -> dict:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description=__doc__.splitlines()[0],
        epilog="example: python -m benchmarks.training --methods e2far --presets cpu",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=list(METHODS),
        metavar="NAME",
        help=f"of {', '.join(METHODS)} (default: all)",
    )
    parser.add_argument(
        "--presets", nargs="+", metavar="NAME", help=f"default: all on CUDA; all but {' and '.join(BIG)} on the CPU"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() and fr.has_cuda_kernels() else "cpu")
    parser.add_argument(
        "--steps", type=int, default=20, help=f"counted steps of each run, after {WARM_UP} others (default: 20)"
    )
    parser.add_argument(
        "--at", type=float, default=1.0, help="which part of the run is timed, 0 its beginning, 1 its end (default: 1)"
    )
    parser.add_argument("--json", help="also write the numbers here")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    chosen, left_out = [], []
    for name in options.methods:
        for preset in method_class(name).PRESETS:
            if preset in (options.presets or [preset]):
                big = device.type == "cpu" and preset in BIG and not options.presets
                (left_out if big else chosen).append((name, preset))
    result = {
        "environment": common.environment(device),
        "steps": options.steps,
        "runs": [],
        "left_out": [" ".join(x) for x in left_out],
    }
    for name, preset in common.progress(chosen, "methods and presets"):
        try:
            result["runs"].append(measure(name, preset, options, device))
        except InputError as error:
            result["runs"].append({"method": name, "preset": preset, "not_run": str(error)})
    report(result, device)
    common.write_json(options.json, result)
    return result


def measure(name, preset, options, device) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        kind = method_class(name)
        config = configured(kind.config_class, kind.PRESETS[preset] | {"output": folder, "device": str(device)})
        run = {"method": name, "preset": preset, "precision": config.precision, "batch": config.batch}
        first = round(options.at * max(0, config.steps - WARM_UP - options.steps))
        quick = dict(
            log_every=NEVER,
            panel_every=NEVER,
            validate_every=NEVER,
            checkpoint_every=NEVER,
            steps=max(config.steps, first + WARM_UP + options.steps + PROFILED + 1),
        )
        if getattr(config, "cache", 0):
            quick["cache"] = min(config.cache, 4 * config.batch)
        config = dataclasses.replace(config, **quick)

        trace = Path(folder) / "trace.json" if device.type == "cuda" else None
        seconds, trained = walk(from_step(kind, first), config, options.steps, device, trace=trace)
        run["images_per_s"] = config.batch / statistics.mean(seconds)
        run["step_ms"] = 1e3 * statistics.mean(seconds)
        if trace:
            run["on_device"] = on_device(json.loads(trace.read_text())["traceEvents"], PROFILED, run["step_ms"])
        run["parameters"] = sum(p.numel() for p in trained.parameters())

        clock = Clock(device)
        with clock.renderer(), clock.optimizer():
            seconds, trained = walk(
                clocked(from_step(kind, first), clock),
                dataclasses.replace(config, prefetch=0),
                options.steps,
                device,
                clock,
            )
        clock.spent["other"] = sum(seconds) - sum(clock.spent.values())
        run |= {f"{part}_ms": 1e3 * clock.spent[part] / options.steps for part in PARTS}
        sources = [v for v in vars(trained).values() if isinstance(v, Synthetic)]
        if sources:
            run |= fresh(sources[0], clock, config, device)
        return run


class Enough(Exception):
    """Ends a training after the last step that is timed."""


def walk(kind, config, count, device, clock=None, trace=None):
    """Train until `count` steps after the warm-up are timed.

    The device is synchronized only before the first and after the last of them: on a GPU the mean of the times is
    right, and not each.

    Args:
        kind: class of the method.
        config: its settings.
        count: steps to time.
        device: that it trains on.
        clock: gets reset after the warm-up.
        trace: a file for a profile of `PROFILED` more steps.

    Returns:
        Seconds of each step, and the trained method.
    """
    made, times, profiler = [], [], profile(activities=[ProfilerActivity.CUDA], acc_events=True) if trace else None

    class Kept(kind):
        def __init__(self, config):
            super().__init__(config)
            made.append(self)

    def after(step):
        last = WARM_UP + count
        if step in (WARM_UP, last, last + PROFILED):
            common.sync(device)
        if step == WARM_UP and clock:
            clock.reset()
        times.append(time.perf_counter())
        if step == last and profiler:
            profiler.start()
        elif step in (last, last + PROFILED):
            if profiler:
                profiler.stop()  # now: batches that no counted step takes are still being made
            raise Enough

    try:
        train(Kept, config, after_step=after)
    except Enough:
        pass
    if profiler:
        profiler.export_chrome_trace(str(trace))
    counted = times[WARM_UP - 1 : WARM_UP + count]
    return [b - a for a, b in zip(counted, counted[1:])], made[0]


def from_step(kind, first):
    """Return the method with all steps shifted: step 0 is what is step `first` otherwise."""

    class Later(kind):
        def batch(self, step, indices, device):
            return super().batch(first + step, indices, device)

        def forward(self, group, batch, step, shared):
            return super().forward(group, batch, first + step, shared)

    return Later


def clocked(kind, clock):
    """Return the method with parts that report to the clock when they begin and end."""

    class Clocked(kind):
        def __init__(self, config):
            super().__init__(config)
            for network in {*networks(self), *(m for m in self.modules() if isinstance(m, Trunk))}:
                network.register_forward_pre_hook(lambda *_: clock.begin("network"))
                network.register_forward_hook(lambda *_: clock.end())

        def batch(self, step, indices, device):
            with clock("data"):
                return super().batch(step, indices, device)

        def forward(self, group, batch, step, shared):
            if not self.training:
                return super().forward(group, batch, step, shared)
            with clock("loss"):
                parts = super().forward(group, batch, step, shared)
            clock.begin("backward")  # until the optimizer's step
            return parts

    return Clocked


def networks(module):
    """Yield the modules below a method that are called: its children, and those of lists of networks."""
    for child in module.children():
        if type(child).forward is torch.nn.Module.forward:
            yield from networks(child)
        else:
            yield child


class Clock:
    """Counts the seconds spent in each part; time in a nested part counts for the inner one."""

    def __init__(self, device):
        self.device = device
        self.reset()

    def reset(self):
        self.spent, self.open, self.since = dict.fromkeys(PARTS, 0.0), [], time.perf_counter()

    def begin(self, part):
        self._turn()
        self.open.append(part)

    def end(self):
        self._turn()
        self.open.pop()

    def _turn(self):
        common.sync(self.device)
        now = time.perf_counter()
        if self.open:
            self.spent[self.open[-1]] += now - self.since
        self.since = now

    @contextmanager
    def __call__(self, part):
        self.begin(part)
        try:
            yield
        finally:
            self.end()

    @contextmanager
    def renderer(self):
        """Time facerender's ops, under whatever name a module of facemodels has them."""
        ops = [
            v
            for k, v in vars(fr).items()
            if k in fr.__all__ and isinstance(v, FunctionType) and k not in ("build_info", "has_cuda_kernels")
        ]
        changed = []
        for module in [fr, *(m for k, m in list(sys.modules.items()) if k.startswith("facemodels."))]:
            for name, value in list(vars(module).items()):
                if any(value is op for op in ops):
                    changed.append((module, name, value))
                    setattr(module, name, self._timed(value))
        try:
            yield
        finally:
            for module, name, value in changed:
                setattr(module, name, value)

    def _timed(self, op):
        def timed(*inputs, **named):
            with self("rendering"):
                return op(*inputs, **named)

        return timed

    @contextmanager
    def optimizer(self):
        def before(*_):
            self.end()  # of backward
            self.begin("optimizer")

        hooks = register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(lambda *_: self.end())
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def on_device(events, steps, step_ms) -> dict:
    """Summarize what the device does in a step.

    Args:
        events: of a trace.
        steps: how many steps the trace has.
        step_ms: the time of a step without profiler.

    Returns:
        Per step: busy_ms, in which anything runs; idle_share of step_ms; kernels_ms, facerender_ms and
        facerender_kernels_ms of each of its kernels; launches, and waits of the host.
    """
    work = [e for e in events if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    kernels = [e for e in work if e["cat"] == "kernel"]
    own = {}
    for e in kernels:
        if "facerender" in e["name"]:  # the kernels' namespace
            own[short(e["name"])] = own.get(short(e["name"]), 0.0) + e["dur"] / 1e3 / steps
    busy = covered([(e["ts"], e["ts"] + e["dur"]) for e in work]) / 1e3 / steps
    return {
        "busy_ms": busy,
        "idle_share": max(0.0, 1 - busy / step_ms),
        "kernels_ms": sum(e["dur"] for e in kernels) / 1e3 / steps,
        "facerender_ms": sum(own.values()),
        "facerender_kernels_ms": dict(sorted(own.items(), key=lambda item: -item[1])),
        "launches": len(work) / steps,
        "waits": sum(
            e.get("cat") == "cuda_runtime" and e["name"] in ("cudaStreamSynchronize", "cudaEventSynchronize")
            for e in events
        )
        / steps,
    }


def covered(intervals) -> float:
    """Return the length of the union of intervals (begin, end)."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def fresh(source, clock, config, device) -> dict:
    """Time a batch of new synthetic faces: milliseconds, and those of them in the renderer."""
    with clock.renderer():
        for k in range(6):
            if k == 2:
                clock.reset()
            with clock("data"):
                source(config.seed, k, range(config.batch))
    return {
        "fresh_samples_ms": 1e3 * (clock.spent["data"] + clock.spent["rendering"]) / 4,
        "fresh_samples_rendering_ms": 1e3 * clock.spent["rendering"] / 4,
    }


def report(result, device):
    e = result["environment"]
    where = f"{e['device']}, {e['threads']} threads" if device.type == "cpu" else e["device"]
    print(f"\n## Training, {where}, torch {e['torch']}, commit {e['commit']}, {e['date']}\n")
    rows, device_rows, notes = [], [], []
    for run in result["runs"]:
        row = {"method": run["method"], "preset": run["preset"]}
        if "not_run" in run:
            notes.append(f"{run['method']} {run['preset']}: not run: {run['not_run']}")
            continue
        step = sum(run[f"{p}_ms"] for p in PARTS)
        row |= {
            "parameters": f"{run['parameters'] / 1e6:.1f} M",
            "batch": run["batch"],
            "images/s": f"{run['images_per_s']:.0f}",
            "ms a step": f"{run['step_ms']:.1f}",
            "one after the other": f"{step:.1f}",
        }
        rows.append(row | {p: f"{100 * run[f'{p}_ms'] / step:.1f} %" for p in PARTS})
        if "on_device" in run:
            d = run["on_device"]
            device_rows.append({
                **{k: row[k] for k in ("method", "preset", "ms a step")},
                "busy, ms": f"{d['busy_ms']:.1f}", "idle": f"{100 * d['idle_share']:.1f} %",
                "facerender": f"{100 * d['facerender_ms'] / max(d['kernels_ms'], 1e-9):.1f} %",
                "launches": f"{d['launches']:.0f}", "waits": f"{d['waits']:.1f}",
                "facerender's kernels, ms": ", ".join(f"{k} {v:.2f}" for k, v in d["facerender_kernels_ms"].items()),
            })  # fmt: skip
        if "fresh_samples_ms" in run:
            nets = sum(run[f"{p}_ms"] for p in ("network", "loss", "backward", "optimizer"))
            bound = 1.0 if device.type == "cpu" else 0.05
            share = run["fresh_samples_ms"] / nets
            verdict = "less" if share < bound else "NOT less"
            goal = "the networks' step" if bound == 1 else "5 % of the networks' step"
            notes.append(
                f"{run['method']} {run['preset']}: {run['batch']} new samples take {run['fresh_samples_ms']:.1f} ms "
                f"({run['fresh_samples_rendering_ms']:.1f} ms in the renderer), {100 * share:.0f} % of the networks' "
                f"step of {nets:.1f} ms: {verdict} than {goal}"
            )
    print(
        common.table(
            rows, ["method", "preset", "parameters", "batch", "images/s", "ms a step", "one after the other", *PARTS]
        )
    )
    if device_rows:
        print("\nOn the device, in a step of the loop as it is:\n\n" + common.table(device_rows, list(device_rows[0])))
    print("\n" + "\n".join(notes))
    if result["left_out"]:
        print(f"\nLeft out on the CPU: {', '.join(result['left_out'])}; --presets names them.")


if __name__ == "__main__":
    main()
