"""The device that a user names."""

import torch

from facemodels.core.errors import InputError


def parse_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: "cpu", "cuda", "cuda:1" (counted from 0), or "auto": CUDA if there is a CUDA device, else the CPU.

    Raises:
        InputError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = None
    try:
        device = torch.device(name)
    except RuntimeError:
        pass
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"the device must be cpu, cuda or auto, got {name!r}")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError(f"device {name}: torch finds no CUDA device here; use cpu")
        if (device.index or 0) >= torch.cuda.device_count():
            raise InputError(f"device {name}: there are {torch.cuda.device_count()} CUDA devices here, counted from 0")
    return device
