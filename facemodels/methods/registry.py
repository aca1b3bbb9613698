"""The methods by name, and loading of trained ones: weights that ship, and checkpoints."""

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from facemodels.core.errors import InputError
from facemodels.training.checkpoint import checkpoints, load_weights
from facemodels.training.config import configured

if TYPE_CHECKING:
    from facemodels.methods.face_method import FaceMethod

# Name -> class, which the module `facemodels.methods.NAME` defines.
METHODS = {"e2far": "E2FAR", "dasl": "DASL", "pgn": "PGN", "cycle": "Cycle"}
WEIGHTS_FOLDER = Path(__file__).resolve().parents[1] / "weights"
BEST_FIRST = ("dasl-aflw", "pgn", "dasl", "e2far", "cycle")  # shipped weights; the first one present is the default


def method_class(name: str) -> "type[FaceMethod]":
    """Return the class of a method.

    Raises:
        InputError: There is no method of this name.
    """
    if name not in METHODS:
        raise InputError(f"there is no method {name!r}; there are {', '.join(METHODS)}")
    return getattr(import_module(f"facemodels.methods.{name}"), METHODS[name])


def weight_names() -> list[str]:
    """Return the names of the shipped weights, in alphabetical order."""
    return sorted(folder.name for folder in WEIGHTS_FOLDER.iterdir() if (folder / "weights.safetensors").is_file())


def default_weights() -> str:
    """Return the name of the best shipped weights.

    Raises:
        InputError: This build ships none.
    """
    present = weight_names()
    best = next((name for name in BEST_FIRST if name in present), None)
    if best is None:
        raise InputError(
            f"this build ships no weights ({WEIGHTS_FOLDER} is empty); train a method (facemodels train dasl) and give "
            "its checkpoint"
        )
    return best


def load_method(checkpoint: str | Path | None = None, device: torch.device | str = "cpu") -> "FaceMethod":
    """Load a trained method, in evaluation mode.

    Args:
        checkpoint: The name of shipped weights (`weight_names`), or the folder of a checkpoint, of which the averaged
            weights are taken if it has any. None: the best shipped weights.
        device: Where the method is wanted.

    Raises:
        InputError: The folder is no checkpoint, is damaged, or belongs to an unknown method.
    """
    shipped = weight_names()
    checkpoint = default_weights() if checkpoint is None else checkpoint
    folder = WEIGHTS_FOLDER / checkpoint if str(checkpoint) in shipped else Path(checkpoint)
    if not (folder / "weights.safetensors").is_file() or not (folder / "config.json").is_file():
        inside = checkpoints(folder / "checkpoints") or checkpoints(folder)
        if inside:
            hint = f"; the last checkpoint in it is {inside[-1]}"
        elif folder.exists():
            hint = ""
        else:
            hint = f", and not the name of shipped weights ({', '.join(shipped) or 'there are none'})"
        raise InputError(f"{folder}: not a checkpoint (it must hold weights.safetensors and config.json){hint}")
    try:
        name = json.loads((folder / "config.json").read_text())["method"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / 'config.json'}: expected the settings of a method, with its name as method "
            f"({type(error).__name__})"
        ) from None
    cls = method_class(name)
    method = cls(configured(cls.config_class, file=folder / "config.json"))
    load_weights(method, folder)
    return method.to(device).eval()
