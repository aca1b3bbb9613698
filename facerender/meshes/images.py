"""Textures of mesh files, read by pillow."""

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..color import to_linear_array
from .parsed import MeshError, need

LARGEST = 4096  # texels on a side; larger textures are halved: pictures of a mesh have 4,096 pixels on a side at most
FREE = 4096 * 4096  # texels that any file may claim
TEXELS_PER_BYTE = 50  # what a file of a larger texture may claim; photographs have 1 to 30


def read_texture(source: bytes | Path, name: str) -> Tensor:
    """Read a texture.

    Args:
        source: the content of a picture file, or its path.
        name: what errors call it.

    Returns:
        Linear float32 [Ht,Wt,3].

    Raises:
        MeshError: it is damaged, or claims to be huge; pillow is not installed.
    """
    image_module = need("PIL.Image", "reading textures")
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is checked below
            image = image_module.open(io.BytesIO(content))
        width, height = image.size
        if width * height > max(FREE, TEXELS_PER_BYTE * len(content)):
            raise MeshError(
                f"{name}: a texture of {width} x {height} in {len(content):,} bytes is not read; make it smaller"
            )
        image.draft("RGB", (LARGEST, LARGEST))  # JPEG files are decoded at a smaller size
        pixels = _bytes(image, image_module)
    except MeshError:
        raise
    except Exception as error:  # whatever a decoder raises at a damaged file
        reason = " ".join(str(error).split())[:120] or "no details"
        raise MeshError(
            f"{name}: not a readable texture ({type(error).__name__}: {reason}); replace it or take it out of the mesh"
        ) from error
    table = to_linear_array(np.arange(256, dtype=np.float32) / 255)
    return torch.from_numpy(table[pixels])


def _bytes(image: Any, image_module: Any) -> np.ndarray:
    """The image as uint8 [H,W,3]: 16 bits and floats are scaled, large images halved until they fit."""
    if image.mode.startswith("I") or image.mode == "F":
        gray = np.asarray(image, np.float32)
        top = 1 if image.mode == "F" and gray.max(initial=0) <= 1 else 255 if gray.max(initial=0) <= 255 else 65535
        image = image_module.fromarray((np.clip(np.nan_to_num(gray) / top, 0, 1) * 255).round().astype(np.uint8))
    factor = 1
    while max(image.size) > LARGEST * factor:
        factor *= 2
    if image.mode != "RGB":
        image = image.convert("RGB")
    if factor > 1:
        image = image.reduce(factor)
    return np.asarray(image)


def find_file(folder: Path, name: bytes) -> Path | None:
    """Find a file that a mesh names.

    Args:
        folder: of the file that names it.
        name: in any encoding, with slashes or backslashes, relative or of another machine.

    Returns:
        The file: the path as it stands, the same from the folder, or a file of that name in the folder, whatever the
        case of its letters; None if there is none.
    """
    for text in dict.fromkeys((os.fsdecode(name), decoded(name), name.decode("latin-1"))):
        for given in dict.fromkeys((text, text.replace("\\", "/"))):
            if not given or "\0" in given:
                continue
            last = given.rsplit("/", 1)[-1]
            for path in (folder / given, folder / last):  # an absolute path stays itself
                try:
                    if path.is_file():
                        return path
                except (OSError, ValueError):  # too long, or no name of a file
                    continue
            for parts in (given.split("/"), [last]):
                found = _any_case(folder, parts)
                if found is not None and found.is_file():
                    return found
    return None


def _any_case(folder: Path, parts: list[str]) -> Path | None:
    """The path of these parts from a folder on, whatever the case of their letters."""
    path = folder
    for part in parts:
        if part in ("", ".", ".."):
            path = path / part
            continue
        try:
            found = [entry for entry in path.iterdir() if entry.name.lower() == part.lower()]
        except OSError:
            return None
        if not found:
            return None
        path = found[0]
    return path


def decoded(name: bytes) -> str:
    """A name as text: UTF-8, or else Latin-1."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def shown(name: bytes) -> str:
    """A name for a sentence: what cannot be printed becomes a question mark, and long ones are cut."""
    text = "".join(letter if letter.isprintable() else "?" for letter in decoded(name))
    return text if len(text) <= 80 else text[:77] + "..."
