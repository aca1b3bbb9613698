"""Checkpoints: a folder a step, `step-000001000`, written completely or not at all.

weights.safetensors   parameters and buffers of the method
average.safetensors   their moving average, if the run has one
config.json           the settings, and the name of the method
state.pt              optimizers, random number generators, step and best result: what resuming needs
checksums.json        SHA-256 of each of these files
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from facemodels.core.errors import InputError, one_line
from facemodels.training.config import config_json, read_json
from facemodels.training.method import Method

CHECKSUMS = "checksums.json"
FILES = ("weights.safetensors", "config.json", "state.pt", "average.safetensors")  # the last one not in every run
NO_CHECKPOINT = "not a checkpoint (it must hold weights.safetensors and config.json)"
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class DamagedError(InputError):
    """A checkpoint that is damaged or incomplete."""


def save_checkpoint(
    folder: Path,
    step: int,
    method: Method,
    optimizers: Mapping[str, torch.optim.Optimizer],
    average: Mapping[str, Tensor] | None,
    results: Mapping[str, Any],
    keep: int,
    best: int | None,
) -> Path:
    """Write one checkpoint, completely or not at all, then remove old ones.

    Args:
        folder: Where the run's checkpoints are.
        step: Number of steps done.
        method: The method.
        optimizers: By optimizer group.
        average: The averaged state dict, if the run has one.
        results: What the run knows of validation results, for resuming.
        keep: How many of the last checkpoints are kept.
        best: The step of the best checkpoint, which is kept too.

    Returns:
        The folder of the checkpoint.

    Raises:
        InputError: It could not be written, on a full disk for example. Earlier checkpoints are intact.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:09d}"
    partial = folder / f".partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        metadata = {"method": method.name}
        weights = {k: v.detach().contiguous().cpu() for k, v in method.state_dict().items()}
        save_file(weights, partial / "weights.safetensors", metadata=metadata)
        if average is not None:
            averaged = {k: v.contiguous().cpu() for k, v in average.items()}
            save_file(averaged, partial / "average.safetensors", metadata=metadata)
        rng = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            rng["cuda"] = torch.cuda.get_rng_state()
        states = {k: o.state_dict() for k, o in optimizers.items()}
        torch.save({"step": step, "optimizers": states, "rng": rng, "results": dict(results)}, partial / "state.pt")
        (partial / "config.json").write_text(config_json(method.name, method.config))
        sums = {file.name: _checksum(file) for file in sorted(partial.iterdir())}
        (partial / CHECKSUMS).write_text(json.dumps(sums, indent=1) + "\n")
        for file in partial.iterdir():
            shutil.copymode(partial / "config.json", file)  # safetensors makes its files private
            with open(file, "rb") as f:
                os.fsync(f.fileno())
        if final.exists():  # of a run that was resumed from before it
            shutil.rmtree(final)
        _sync_folder(partial)
        os.replace(partial, final)
        _sync_folder(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(
            f"{final}: the checkpoint could not be written ({error}); the ones before it are intact"
        ) from error
    kept = {c.name for c in checkpoints(folder)[-keep:]} | ({f"step-{best:09d}"} if best is not None else set())
    for old in checkpoints(folder):
        if old.name not in kept:
            shutil.rmtree(old)
    return final


def _sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable: they survive a power cut."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(handle)
        os.close(handle)


def checkpoints(folder: str | Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first; none if there is no such folder."""
    if not Path(folder).is_dir():
        return []
    return sorted((p for p in Path(folder).glob("step-*") if p.is_dir() and steps_of(p) >= 0), key=steps_of)


def checkpoints_of_run(folder: Path) -> list[Path]:
    """Return the checkpoints of the folder of a run, or of the folder in it that holds them, oldest first."""
    return checkpoints(folder / "checkpoints") or checkpoints(folder)


def _checksum(file: Path) -> str:
    with open(file, "rb") as content:
        if hasattr(hashlib, "file_digest"):  # Python 3.11
            return hashlib.file_digest(content, "sha256").hexdigest()
        return hashlib.sha256(content.read()).hexdigest()


def check(checkpoint: Path, names: Collection[str] | None = None) -> None:
    """Check the files of a checkpoint against its checksums; one of an older version has none, and passes.

    Args:
        checkpoint: The folder of the checkpoint.
        names: The files to check; None for all.

    Raises:
        DamagedError: A file is missing, or differs from what was written.
    """
    path = checkpoint / CHECKSUMS
    if not path.is_file():
        return
    try:
        sums = read_json(path)
    except InputError as error:
        raise DamagedError(str(error)) from None
    if not isinstance(sums, dict) or not {*FILES[:-1]} <= sums.keys():
        raise DamagedError(f"{path}: damaged (it must hold the checksums of {', '.join(FILES[:-1])})")
    for name in FILES if names is None else names:
        try:
            if name in sums and _checksum(checkpoint / name) != sums[name]:
                raise DamagedError(f"{checkpoint / name}: damaged (it is not what was written)")
        except OSError as error:
            raise DamagedError(f"{checkpoint / name}: missing or unreadable ({error.strerror})") from error


def set_damaged_aside(folder: Path, loads: Callable[[Path], Any]) -> list[str]:
    """Rename the damaged checkpoints after the last one that is not damaged.

    Args:
        folder: Where the run's checkpoints are.
        loads: Loads a checkpoint; raises `DamagedError` if it is damaged.

    Returns:
        A sentence for each that was renamed.

    Raises:
        InputError: All of them are damaged; they stay where they are.
    """
    damaged: list[tuple[Path, DamagedError]] = []
    for checkpoint in reversed(checkpoints(folder)):
        try:
            check(checkpoint)
            loads(checkpoint)
        except DamagedError as error:
            damaged.append((checkpoint, error))
        else:
            return [f"{why}; moved to {_move_aside(c).name}, resuming from {checkpoint.name}" for c, why in damaged]
    if damaged:
        raise InputError(
            f"{folder}: every checkpoint is damaged, the last one so: {damaged[0][1]}; begin another run with "
            "--set output=DIR"
        )
    return []


def _move_aside(checkpoint: Path) -> Path:
    """Rename a damaged checkpoint so that it is none any more; return its new name."""
    aside, number = checkpoint.with_name(f"damaged-{checkpoint.name}"), 1
    while aside.exists():
        number += 1
        aside = checkpoint.with_name(f"damaged-{checkpoint.name}-{number}")
    try:
        os.replace(checkpoint, aside)
    except OSError as error:
        raise InputError(
            f"{checkpoint}: damaged, and could not be renamed to {aside.name} ({error.strerror})"
        ) from error
    return aside


def steps_of(checkpoint: Path) -> int:
    """The number of steps after which a checkpoint was written, from its name; -1 if the name says none."""
    number = checkpoint.name.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def method_name(checkpoint: Path) -> str:
    """The name of the method of a checkpoint.

    Raises:
        DamagedError: config.json is missing or damaged.
    """
    file = checkpoint / "config.json"
    if not file.is_file():
        raise DamagedError(f"{checkpoint}: {NO_CHECKPOINT}")
    try:
        content = read_json(file)
    except InputError as error:
        raise DamagedError(str(error)) from None
    if not isinstance(content, dict) or not isinstance(content.get("method"), str):
        raise DamagedError(f"{file}: expected the settings of a method, with its name as method")
    return str(content["method"])


def check_method(checkpoint: Path, method: Method) -> None:
    """Check that a checkpoint is one of a method.

    Raises:
        InputError: It is one of another method, or none.
    """
    name = method_name(checkpoint)
    if name != method.name:
        raise InputError(f"{checkpoint}: a checkpoint of the method {name}, not of {method.name}")


def load_weights(method: Method, checkpoint: str | Path, averaged: bool = True) -> None:
    """Load the weights of a checkpoint into a method. No code in the files is run.

    Args:
        method: The method, of the checkpoint's settings.
        checkpoint: The folder of a checkpoint.
        averaged: Take the averaged weights, if there are any; parts that only training needs may then be missing.

    Raises:
        InputError: The checkpoint is missing, damaged, or belongs to another method or other settings.
    """
    checkpoint = Path(checkpoint)
    file = checkpoint / "average.safetensors"
    if not averaged or not file.is_file():
        file = checkpoint / "weights.safetensors"
    if not file.is_file():
        raise DamagedError(f"{checkpoint}: {NO_CHECKPOINT}")
    check_method(checkpoint, method)
    check(checkpoint, [file.name])
    try:
        weights = load_file(file)
    except (SafetensorError, OSError) as error:
        raise DamagedError(f"{file}: damaged ({one_line(error)})") from error
    own = method.state_dict()
    if averaged:  # for inference
        weights |= {k: v for k, v in own.items() if k.startswith(method.optional) and k not in weights}
    for key in [*own, *sorted(weights.keys() - own.keys())]:
        if key not in weights or key not in own or own[key].shape != weights[key].shape:
            expected, found = (str(list(d[key].shape)) if key in d else "missing" for d in (own, weights))
            raise InputError(
                f"{file}: {key} is {found} in the file and {expected} in the method; the checkpoint has other settings "
                "(see its config.json)"
            )
        numbers = _FLOATS if own[key].is_floating_point() else (own[key].dtype,)
        if weights[key].dtype not in numbers or not weights[key].isfinite().all():
            raise DamagedError(f"{file}: damaged (the numbers of {key} are not finite, or of another kind)")
    method.load_state_dict(weights)


def load_state(checkpoint: Path) -> dict[str, Any]:
    """Load what resuming needs: the content of state.pt. No code in it is run.

    Raises:
        InputError: The file is missing or damaged.
    """
    try:
        if not (checkpoint / CHECKSUMS).is_file():  # of an earlier version: the parts of the file have their own sums
            with zipfile.ZipFile(checkpoint / "state.pt") as parts:
                if (wrong := parts.testzip()) is not None:
                    raise ValueError(f"{wrong} is not what was written")
        state = torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True)
        missing = {"step", "optimizers", "rng", "results"} - state.keys()
    except Exception as error:  # whatever a damaged file makes torch raise
        raise DamagedError(f"{checkpoint / 'state.pt'}: damaged ({type(error).__name__})") from error
    if missing:
        raise DamagedError(f"{checkpoint / 'state.pt'}: damaged ({', '.join(sorted(missing))} missing)")
    return state


def load_average(checkpoint: Path, average: Mapping[str, Tensor]) -> None:
    """Load averaged weights into the tensors of an averaged state dict.

    Raises:
        InputError: The file is missing, damaged, or lacks some of them.
    """
    try:
        saved = load_file(checkpoint / "average.safetensors")
        for key in average:
            average[key].copy_(saved[key])
    except (SafetensorError, OSError, KeyError) as error:
        raise DamagedError(f"{checkpoint / 'average.safetensors'}: damaged or missing ({one_line(error)})") from error
