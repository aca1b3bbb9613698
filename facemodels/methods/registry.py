"""The methods by name, and loading of trained ones: weights that ship, and checkpoints.

A method is registered in one place, `METHODS` below, by the full name of its class. It may lie outside this package:

    METHODS["mine"] = "mypackage.mymodule.Mine"
"""

from importlib import import_module
from pathlib import Path

import torch

from facemodels.core.device import parse_device
from facemodels.core.errors import InputError
from facemodels.methods.face_method import FaceMethod
from facemodels.methods.neutral import read_neutral
from facemodels.methods.shipped import method_folder
from facemodels.training.checkpoint import load_weights
from facemodels.training.config import configured

# Name -> full name of the class, whose module is imported on first use.
METHODS = {
    "e2far": "facemodels.methods.e2far.E2FAR",
    "dasl": "facemodels.methods.dasl.DASL",
    "pgn": "facemodels.methods.pgn.PGN",
    "cycle": "facemodels.methods.cycle.Cycle",
}
# Name -> what it is, in the help of the commands; a method that is not here is listed without it.
SUMMARIES = {
    "e2far": "UH-E2FAR (Dou et al. 2017): identity and expression from renderings",
    "dasl": "2DASL (Tu et al. 2019): also from photos with 2D landmarks alone",
    "pgn": "pose guidance network (Liu et al. 2020): also from frames of a person",
    "cycle": "cycle-consistency of dynamic faces (Yang et al. 2023): pairs of frames",
}


def method_class(name: str) -> type[FaceMethod]:
    """Return the class of a method.

    Raises:
        InputError: There is no method of this name.
    """
    if name not in METHODS:
        raise InputError(f"there is no method {name!r}; there are {', '.join(METHODS)}")
    module, _, cls = METHODS[name].rpartition(".")
    return getattr(import_module(module), cls)


def load_method(checkpoint: str | Path | None = None, device: torch.device | str = "cpu") -> FaceMethod:
    """Load a trained method, in evaluation mode.

    Args:
        checkpoint: The name of shipped weights (`weight_names`), or the folder of a checkpoint, of which the averaged
            weights are taken if it has any. None: the best shipped weights.
        device: Where the method is wanted.

    Raises:
        InputError: The folder is no checkpoint, is damaged, or belongs to an unknown method; or the device is not
            there.
    """
    folder, name = method_folder(checkpoint)
    cls = method_class(name)
    method = cls(configured(cls.config_class, file=folder / "config.json"))
    load_weights(method, folder)
    method.neutral = read_neutral(folder, method.model)
    return method.to(parse_device(device) if isinstance(device, str) else device).eval()
