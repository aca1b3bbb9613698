"""The log of a run: metrics.jsonl, a JSON object a line, and the same for TensorBoard if it is installed."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facemodels.core.errors import InputError
from facemodels.training.checkpoint import checkpoints


class MetricsLog:
    """Appends to the log of a run, from a step on: lines of later steps, of a run that was resumed, are dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open the log in the folder of a run after `step` steps."""
        self.folder, self.board = folder, None
        _drop_after(folder / "metrics.jsonl", step)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # TensorBoard is not installed
            return
        self.board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            InputError: It could not be written, on a full disk for example.
        """
        with naming_the_step(step, self.folder, self.folder / "metrics.jsonl") as path, open(path, "a") as file:
            file.write(json.dumps({"step": step} | dict(values)) + "\n")
        if self.board is not None:
            with naming_the_step(step, self.folder, self.folder / "tensorboard"):
                for key, value in values.items():
                    self.board.add_scalar(key, value, step)

    def close(self) -> None:
        """Close the files."""
        if self.board is not None:
            self.board.close()


@contextmanager
def naming_the_step(step: int, folder: Path, path: Path) -> Iterator[Path]:
    """Turn an OSError into an InputError that names the step, the file, and the checkpoint to resume from."""
    try:
        yield path
    except OSError as error:
        last = checkpoints(folder / "checkpoints")
        hint = f"; --resume auto resumes from {last[-1].name}" if last else ""
        raise InputError(f"step {step}: {path} could not be written ({error.strerror or error}){hint}") from error


def _drop_after(path: Path, step: int) -> None:
    """Drop the lines of steps that will be done again, and a line that was cut off."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue
    new = path.with_suffix(".new")
    new.write_text("".join(kept))
    os.replace(new, path)
