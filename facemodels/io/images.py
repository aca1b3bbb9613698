"""Pictures: which files are some, and their pixels."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from facemodels.core.errors import InputError, one_line

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")


def picture_files(path: Path) -> list[Path]:
    """The pictures in a folder and in the folders below it, by name; without those whose names begin with a dot."""
    return sorted(
        f
        for f in path.rglob("*")
        if f.suffix.lower() in PICTURE_SUFFIXES and not f.name.startswith(".") and f.is_file()
    )


def read_picture(file: str | Path | BinaryIO, name: str | None = None) -> np.ndarray:
    """Read a picture, rotated as its EXIF tag says; of an animation, the first frame.

    Args:
        file: the file, or a stream.
        name: what to call it in messages; None: the file's name.

    Returns:
        uint8 [h,w,3], sRGB.

    Raises:
        InputError: not a picture, or a damaged one.
    """
    try:
        with Image.open(file) as opened:
            image: Image.Image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16-bit gray, which Pillow's conversion would clip at 255
                image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # whatever a decoder raises on a damaged file
        raise InputError(f"{name or file}: not a readable picture ({one_line(error)})") from None


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Turn a picture in memory into uint8 [h,w,3]: gray is repeated, transparency dropped.

    Args:
        image: uint8 [h,w], [h,w,1], [h,w,3] or [h,w,4].

    Raises:
        InputError: another shape or dtype.
    """
    if (
        image.dtype != np.uint8
        or image.ndim not in (2, 3)
        or (image.ndim == 3 and image.shape[2] not in (1, 3, 4))
        or 0 in image.shape
    ):
        raise InputError(f"a picture is uint8 [h,w,3], got {image.dtype} {list(image.shape)}")
    if image.ndim == 2:
        image = image[..., None]
    return np.ascontiguousarray(image[..., :3].repeat(3, -1) if image.shape[2] == 1 else image[..., :3])
