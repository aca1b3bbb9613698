"""Damaged files of settings and checkpoints through `facemodels train`: kinds of `benchmarks.fuzz`."""

import contextlib
import functools
import io
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from facemodels.training.checkpoint import CHECKSUMS, checkpoints
from facemodels.training.config import Config
from facemodels.training.method import Method

WRONG = 3  # exit code of a run that ended with other weights, and said nothing
_STEPS = 4


@dataclass
class TinyConfig(Config):
    """Settings of `Tiny`."""

    width: int = 3
    parts: tuple[str, ...] = ("one", "two")


class Tiny(Method):
    """The smallest method that has what the large ones have: buffers, averages, optimizers."""

    name, config_class = "tiny", TinyConfig
    PRESETS = {
        "cpu": dict(
            schedule="constant",
            steps=_STEPS,
            batch=2,
            checkpoint_every=2,
            log_every=9,
            keep=2,
            ema=0.5,
            device="cpu",
            prefetch=0,
        )
    }

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.body = nn.Sequential(nn.Linear(2, config.width), nn.BatchNorm1d(config.width), nn.Linear(config.width, 1))

    def batch(self, step: int, indices: range, device: torch.device) -> Tensor:
        """The numbers of the samples and of the step."""
        return torch.tensor([[float(i), float(step)] for i in indices], device=device)

    def forward(self, group: str, batch: Tensor, step: int, shared: dict[str, Tensor]) -> dict[str, Tensor]:
        """The squared difference from the step's number."""
        return {"loss": (self.body(batch) - batch[:, 1:]).square().mean()}


def settings(folder: Path) -> Iterator[Path]:
    """Write files of settings: what the command prints, single kinds of values, and deep ones."""
    from facemodels.methods.registry import method_class
    from facemodels.training.config import config_json, configured
    from facemodels.training.describe import settings_toml

    cls = method_class("dasl").config_class
    config = configured(cls, method_class("dasl").PRESETS["paper"], settings=("schemes=l2d,cycle", "milestones=5,6"))
    content = {
        "all.toml": settings_toml(config),
        "all.json": config_json("dasl", config),
        "few.json": '{"lr": 1e-3, "batch": 8, "milestones": [1, 2], "compile": true, "schemes": ["l2d"]}',
        "few.toml": 'lr = 0.001\nbatch = 8\nmilestones = [1, 2]\ncompile = true\noutput = "a/b"\n',
        "odd.json": '{"lr": NaN, "seed": 1e999, "output": "\\u0000\\ud800", "steps": ' + "9" * 5000 + "}",
        "odd.toml": "[start]\nx = 1\n[]\nlr = nan\nseed = 1979-05-27T07:32:00Z\na.b.c = '''x\n'''\nsteps = 0x"
        + "f" * 5000
        + "\n",
        "deep.json": '{"start": ' + "[" * 3000 + "]" * 3000 + "}",
        "deep.toml": "start = " + "[" * 3000 + "]" * 3000 + "\n[" + ".".join("a" * 90) + "]\n",
    }
    for key, value in json.loads(content["all.json"]).items():
        content[f"{key}.json"] = json.dumps({key: value})
    for name, text in content.items():
        (folder / name).write_text(text)
        yield folder / name


def train_with_settings() -> Callable[[Path, Path], int]:
    """`facemodels train dasl --config FILE --settings`."""
    from facemodels.cli import train
    from facemodels.cli.main import main

    train.documented_settings = functools.cache(train.documented_settings)  # type: ignore[assignment] # reads source
    return lambda path, out: main(["train", "dasl", "--config", str(path), "--settings"])


def _run(folder: Path, *words: str) -> int:
    """`facemodels train` with `Tiny`; of what it says, problems alone are passed on."""
    from facemodels.cli import train
    from facemodels.cli.main import main

    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # imports what wants a terminal's encoding
    said, quiet = io.StringIO(), contextlib.redirect_stdout(io.StringIO())
    try:
        with mock.patch.object(train, "method_class", lambda name: Tiny), quiet, contextlib.redirect_stderr(said):
            return main(["train", "dasl", "--set", f"output={folder}", *words])
    finally:
        lines = [line for line in said.getvalue().splitlines() if not re.match(r"tiny: (preparing|step) ", line)]
        sys.stderr.write("".join(f"{line}\n" for line in lines))


def checkpoint_files(folder: Path) -> Iterator[Path]:
    """Write the files of a checkpoint, each with its name as its suffix."""
    _run(folder / "run")
    for file in checkpoints(folder / "run" / "checkpoints")[-1].iterdir():
        shutil.copy(file, folder / f"newest.{file.name.replace('.', '-')}")
        yield folder / f"newest.{file.name.replace('.', '-')}"


def resume_from_damaged() -> Callable[[Path, Path], int]:
    """`facemodels train --resume`, the newest of two checkpoints having the file.

    The run is resumed by `auto`, with checksums and without, and by the checkpoint's name. With checksums, it has to
    end in the weights of a run whose checkpoints are whole.
    """
    from facemodels.cli import train

    torch.set_num_threads(1)
    train.documented_settings = functools.cache(train.documented_settings)  # type: ignore[assignment] # reads source
    holder = tempfile.TemporaryDirectory(prefix="fuzz-run-")  # removed when the process ends
    kept = Path(holder.name)
    _run(kept / "run")
    longer = ["--set", f"steps={_STEPS + 1}", "--resume"]
    shutil.copytree(kept / "run", kept / "whole")
    _run(kept / "whole", *longer, "auto")
    expected = _weights(kept / "whole")

    def command(path: Path, out: Path) -> int:
        run, way = out / path.name, sum(path.read_bytes()) % 3
        shutil.copytree(kept / "run", run)
        newest = checkpoints(run / "checkpoints")[-1]
        name = path.suffix[1:].replace("-", ".")
        shutil.copy(path, newest / name)
        if way == 1:
            (newest / CHECKSUMS).unlink()
        code = _run(run, *longer, str(newest) if way == 2 else "auto")
        if code == 0 and way != 1 and not all(torch.equal(_weights(run)[k], v) for k, v in expected.items()):
            return WRONG
        return code

    command.holder = holder  # type: ignore[attr-defined] # keeps it
    return command


def _weights(run: Path) -> dict[str, Tensor]:
    return load_file(checkpoints(run / "checkpoints")[-1] / "weights.safetensors")
