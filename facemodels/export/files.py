"""What all the writers share: units and axes, texture files, and files that are whole or absent."""

import io
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..drawing import to_bytes
from ..errors import InputError

UNITS = {"mm": 1.0, "cm": 0.1, "m": 0.001}
AXES = ("y-up", "z-up")


def unit_scale(unit: str) -> np.float32:
    """What a length in millimetres is multiplied by."""
    if unit not in UNITS:
        raise InputError(f"unit must be mm, cm or m, got {unit!r}")
    return np.float32(UNITS[unit])


def turned(vectors: np.ndarray, axes: str) -> np.ndarray:
    """Vectors [...,3], y up, in the axes of a file. "z-up": x stays, the face looks along -y."""
    if axes not in AXES:
        raise InputError(f"axes must be y-up or z-up, got {axes!r}")
    return vectors if axes == "y-up" else np.stack([vectors[..., 0], -vectors[..., 2], vectors[..., 1]], -1)


def srgb_bytes(linear: np.ndarray) -> np.ndarray:
    return to_bytes(torch.from_numpy(linear))


def encode_image(linear: np.ndarray, kind: str, **options) -> bytes:
    """A linear image [H,W,3] as an sRGB file in memory; kind: "PNG" or "JPEG"."""
    out = io.BytesIO()
    Image.fromarray(srgb_bytes(linear)).save(out, kind, **options)
    return out.getvalue()


def write_whole(files: dict[Path, bytes]):
    """Writes files, each under its name only when all of them are complete."""
    for path in files:
        if not path.parent.is_dir():
            raise InputError(f"{path}: the folder {path.parent} does not exist")
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in files}
    try:
        for path, content in files.items():
            parts[path].write_bytes(content)
        for path, part in parts.items():
            os.replace(part, path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


@contextmanager
def whole(path: Path):
    """A file that is written under another name until it is complete."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def check_writable(folder: Path):
    """Makes a folder, where it is not there, and tries whether files can be made in it.

    Raises:
        InputError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: nothing can be written there ({error.strerror or error}); give another folder with -o") from None
