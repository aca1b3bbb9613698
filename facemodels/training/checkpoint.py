"""training.checkpoint: TODO."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from facemodels.core.errors import InputError
from facemodels.training.config import _read
from facemodels.training.method import Method


def save_checkpoint(
    folder: Path,
    step: int,
    method: Method,
    optimizers: dict,
    average: dict | None,
    results: dict,
    keep: int,
    best: int | None,
) -> Path:
    """Writes one checkpoint, whole or not at all, then removes those that are neither among the last `keep` nor the best."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:09d}"
    partial = folder / f".partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        save_file(
            {k: v.detach().contiguous().cpu() for k, v in method.state_dict().items()},
            partial / "weights.safetensors",
            metadata={"method": method.name},
        )
        if average is not None:
            save_file(
                {k: v.contiguous().cpu() for k, v in average.items()},
                partial / "average.safetensors",
                metadata={"method": method.name},
            )
        rng = {"cpu": torch.get_rng_state()} | (
            {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
        )
        torch.save(
            {
                "step": step,
                "optimizers": {k: o.state_dict() for k, o in optimizers.items()},
                "rng": rng,
                "results": results,
            },
            partial / "state.pt",
        )
        (partial / "config.json").write_text(
            json.dumps({"method": method.name} | dataclasses.asdict(method.config), indent=1) + "\n"
        )
        for file in partial.iterdir():
            shutil.copymode(partial / "config.json", file)  # safetensors makes its files private
            with open(file, "rb") as f:
                os.fsync(f.fileno())
        if final.exists():  # of a run that was resumed from before it
            shutil.rmtree(final)
        _sync(partial)
        os.replace(partial, final)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(
            f"{final}: the checkpoint could not be written ({error}); the ones before it are whole"
        ) from error
    kept = {c.name for c in checkpoints(folder)[-keep:]} | ({f"step-{best:09d}"} if best is not None else set())
    for old in checkpoints(folder):
        if old.name not in kept:
            shutil.rmtree(old)
    return final


def _sync(folder: Path):
    """Makes what a folder holds survive a power cut."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(handle)
        os.close(handle)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(p for p in Path(folder).glob("step-*") if p.is_dir()) if Path(folder).is_dir() else []


def load_weights(method: Method, checkpoint: Path, averaged: bool = True):
    """Loads the weights of a checkpoint (the averaged ones where there are any and `averaged`). No code in the file is run.

    Raises:
        InputError: the checkpoint is missing, damaged, or that of another method or size.
    """
    checkpoint = Path(checkpoint)
    file = checkpoint / "average.safetensors"
    if not averaged or not file.is_file():
        file = checkpoint / "weights.safetensors"
    about = _read(checkpoint / "config.json") if (checkpoint / "config.json").is_file() else None
    if about is None or not file.is_file():
        raise InputError(f"{checkpoint}: not a checkpoint (it must hold weights.safetensors and config.json)")
    name = json.loads((checkpoint / "config.json").read_text()).get("method")
    if name != method.name:
        raise InputError(f"{checkpoint}: a checkpoint of the method {name}, not of {method.name}")
    try:
        weights = load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: damaged ({error})") from error
    own = method.state_dict()
    if averaged:  # not to go on training from
        weights |= {k: v for k, v in own.items() if k.startswith(method.optional) and k not in weights}
    for key in [*own, *sorted(weights.keys() - own.keys())]:
        if key not in weights or key not in own or own[key].shape != weights[key].shape:
            mine, its = (str(list(d[key].shape)) if key in d else "nothing" for d in (own, weights))
            raise InputError(
                f"{file}: {key} is {its} there and {mine} here: a checkpoint of another configuration (see config.json beside it)"
            )
    method.load_state_dict(weights)


def _load_state(checkpoint: Path) -> dict:
    try:
        return torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes torch raise
        raise InputError(f"{checkpoint / 'state.pt'}: damaged ({type(error).__name__})") from error


def _forget_after(path: Path, step: int):
    """Drops the lines of steps that will be done again, and a line that was cut off."""
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
