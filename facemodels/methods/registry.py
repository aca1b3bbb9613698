"""The four reconstruction methods: one file tells one method's whole story."""

import json
from importlib import import_module
from pathlib import Path

from facemodels.core.errors import InputError
from facemodels.training.checkpoint import checkpoints, load_weights
from facemodels.training.config import configured

FOLDER = Path(__file__).resolve().parents[1] / "weights"  # of the weights that ship, a folder each
BEST = ("dasl-aflw", "pgn", "dasl", "e2far", "cycle")
METHODS = {
    "e2far": "E2FAR",
    "dasl": "DASL",
    "pgn": "PGN",
    "cycle": "Cycle",
}  # name -> class, in the module of that name


def method(name: str):
    """The class of a method by its name."""
    if name not in METHODS:
        raise InputError(f"there is no method {name!r}; there are {', '.join(METHODS)}")
    return getattr(import_module(f".{name}", __package__), METHODS[name])


def names() -> list[str]:
    """Of the weights that are here."""
    return sorted(folder.name for folder in FOLDER.iterdir() if (folder / "weights.safetensors").is_file())


def default() -> str:
    """The best that are here, which are taken where nothing is asked for.

    Raises:
        InputError: there are none.
    """
    found = names()
    best = next((name for name in BEST if name in found), None)
    if best is None:
        raise InputError(
            f"no weights are shipped with this build ({FOLDER} is empty); train a method (facemodels train dasl) and give its checkpoint"
        )
    return best


def load_method(checkpoint=None, device="cpu"):
    """A trained method in eval mode: by the name of weights that ship ("dasl", see `facemodels.weights`), or from a checkpoint's folder, with its averaged weights where there are
    any. None: the best that ship.

    Raises:
        InputError: the folder is no checkpoint, or damaged, or of a method that is not there; one sentence that says which.
    """
    shipped = names()
    checkpoint = default() if checkpoint is None else checkpoint
    folder = FOLDER / checkpoint if str(checkpoint) in shipped else Path(checkpoint)
    if not (folder / "weights.safetensors").is_file() or not (folder / "config.json").is_file():
        inside = checkpoints(folder / "checkpoints") or checkpoints(folder)
        hint = (
            f"; the last one in it is {inside[-1]}"
            if inside
            else ""
            if folder.exists()
            else f", and no name of weights that ship ({', '.join(shipped) or 'there are none'})"
        )
        raise InputError(f"{folder}: not a checkpoint (it must hold weights.safetensors and config.json){hint}")
    try:
        name = json.loads((folder / "config.json").read_text())["method"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / 'config.json'}: expected the settings of a method, with its name as method ({type(error).__name__})"
        ) from None
    kind = method(name)
    loaded = kind(configured(kind.Config, file=folder / "config.json"))
    load_weights(loaded, folder)
    return loaded.to(device).eval()
