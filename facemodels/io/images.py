"""io.images: TODO."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from facemodels.core.errors import InputError, one_line


def read_picture(file: str | Path | BinaryIO, name: str | None = None) -> np.ndarray:
    """uint8 [h,w,3] sRGB of a picture file, turned as its EXIF tag says; the first frame of an animation. name: for the message; default the file's.

    Raises:
        InputError: not a picture that can be read, or a damaged one.
    """
    try:
        with Image.open(file) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
                image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # whatever a decoder throws at a damaged file
        detail = one_line(error)
        raise InputError(f"{name or file}: not a readable picture ({detail})") from None


PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")


def picture_files(path: Path) -> list[Path]:
    """The pictures in a folder and those below it, by name; none whose name begins with a dot."""
    return sorted(
        f
        for f in path.rglob("*")
        if f.suffix.lower() in PICTURE_SUFFIXES and not f.name.startswith(".") and f.is_file()
    )


def as_rgb(image: np.ndarray) -> np.ndarray:
    """A picture as uint8 [h,w,3]: grey ones and those with transparency too.

    Raises:
        InputError: another shape or type.
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
