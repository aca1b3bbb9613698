"""core.device: TODO."""

import torch

from facemodels.core.errors import InputError


def parse_device(wanted: str) -> torch.device:
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
