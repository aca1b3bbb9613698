"""Checkpoints: a folder a step, `step-000001000`, written completely or not at all.

weights.safetensors   parameters and buffers of the method
average.safetensors   their moving average, if the run has one
config.json           the settings, and the name of the method
state.pt              optimizers, random number generators, step and best result: what resuming needs
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.training.config import config_json, read_settings
from facemodels.training.method import Method


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
    return sorted(p for p in Path(folder).glob("step-*") if p.is_dir()) if Path(folder).is_dir() else []


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
    if not (checkpoint / "config.json").is_file() or not file.is_file():
        raise InputError(f"{checkpoint}: not a checkpoint (it must hold weights.safetensors and config.json)")
    read_settings(checkpoint / "config.json")  # is it JSON?
    name = json.loads((checkpoint / "config.json").read_text()).get("method")
    if name != method.name:
        raise InputError(f"{checkpoint}: a checkpoint of the method {name}, not of {method.name}")
    try:
        weights = load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: damaged ({error})") from error
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
    method.load_state_dict(weights)


def load_state(checkpoint: Path) -> dict[str, Any]:
    """Load what resuming needs: the content of state.pt. No code in it is run.

    Raises:
        InputError: The file is missing or damaged.
    """
    try:
        return torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes torch raise
        raise InputError(f"{checkpoint / 'state.pt'}: damaged ({type(error).__name__})") from error


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
        raise InputError(f"{checkpoint / 'average.safetensors'}: damaged or missing ({error})") from error
