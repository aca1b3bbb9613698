"""The four reconstruction methods: one file tells one method's whole story."""

import json
from importlib import import_module
from pathlib import Path

import torch

from .. import weights
from ..errors import InputError
from ..training import checkpoints, configured, load_weights

METHODS = {"e2far": "E2FAR", "dasl": "DASL", "pgn": "PGN", "cycle": "Cycle"}  # name -> class, in the module of that name


def method(name: str):
    """The class of a method by its name."""
    if name not in METHODS:
        raise InputError(f"there is no method {name!r}; there are {', '.join(METHODS)}")
    return getattr(import_module(f".{name}", __package__), METHODS[name])


def device_named(wanted: str) -> torch.device:
    """The device of a name; "auto" is CUDA where it is there.

    Raises:
        InputError: there is no such device here.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"the device must be cpu, cuda or auto, got {wanted!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {wanted}: torch finds no CUDA device here; use cpu")
    return device


def load_method(checkpoint=None, device="cpu"):
    """A trained method in eval mode: by the name of weights that ship ("dasl", see `facemodels.weights`), or from a checkpoint's folder, with its averaged weights where there are
    any. None: the best that ship.

    Raises:
        InputError: the folder is no checkpoint, or damaged, or of a method that is not there; one sentence that says which.
    """
    shipped = weights.names()
    checkpoint = weights.default() if checkpoint is None else checkpoint
    folder = weights.FOLDER / checkpoint if str(checkpoint) in shipped else Path(checkpoint)
    if not (folder / "weights.safetensors").is_file() or not (folder / "config.json").is_file():
        inside = checkpoints(folder / "checkpoints") or checkpoints(folder)
        hint = f"; the last one in it is {inside[-1]}" if inside else "" if folder.exists() else f", and no name of weights that ship ({', '.join(shipped) or 'there are none'})"
        raise InputError(f"{folder}: not a checkpoint (it must hold weights.safetensors and config.json){hint}")
    try:
        name = json.loads((folder / "config.json").read_text())["method"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'config.json'}: expected the settings of a method, with its name as method ({type(error).__name__})") from None
    kind = method(name)
    loaded = kind(configured(kind.Config, file=folder / "config.json"))
    load_weights(loaded, folder)
    return loaded.to(device).eval()
