"""TIFF files that Pillow does not read or reads wrong, by tifffile: floats, signed numbers, 32 bits, planes of 16."""

import logging
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from facemodels.core.errors import InputError
from facerender._checks import brief_repr

_TYPES = ("f2", "f4", "f8", "u1", "u2", "u4", "i1", "i2", "i4")
_LARGEST = 1 << 30  # bytes of an array
_NEGATIVE, _GRAY, _RGB = 0, 1, 2  # white is 0; black is 0
_NONE, _DEFLATE = 1, (8, 32946)
_PREMULTIPLIED = 1  # of ExtraSamples
_QUIET = threading.Lock()


@brief_repr
class Numbers(NamedTuple):
    """The numbers of a TIFF file's first page.

    Attributes:
        values: Floats or integers [h,w,C] as they are stored, of 1 or 3 channels, or 2 or 4 with opacity.
        orientation: As EXIF numbers it.
        negative: Whether 0 is white.
        premultiplied: Whether colors are already multiplied by the opacity.
        profile: The color profile (ICC), if there is one.
    """

    values: np.ndarray
    orientation: int
    negative: bool
    premultiplied: bool
    profile: bytes | None


def is_tiff(head: bytes) -> bool:
    """Whether a file that begins like this is a TIFF file."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_numbers(stream: BinaryIO, name: str, length: int, check: Callable[[tuple[int, int]], None]) -> Numbers:
    """Read the numbers of a TIFF file's first page.

    Args:
        stream: The file.
        name: What to call it in messages.
        length: Its bytes.
        check: Called with the width and height that it claims, before memory is used.

    Raises:
        InputError: tifffile is not installed, or the file is of a kind that is not read.
        Exception: Whatever tifffile raises at a damaged file.
    """
    try:
        import tifffile
    except ImportError:
        raise InputError(
            f"{name}: TIFF files of floats, signed numbers, 32 bits or planes of 16 need tifffile: "
            'pip install "facerender[models]"'
        ) from None
    stream.seek(0)
    with _quiet(), tifffile.TiffFile(stream) as file:
        page: Any = file.pages[0]
        check((page.imagewidth, page.imagelength))
        channels = page.samplesperpixel
        dtype = np.dtype(page.dtype) if page.dtype is not None else None
        usual = channels in {_NEGATIVE: (1, 2), _GRAY: (1, 2), _RGB: (3, 4)}.get(page.photometric, ())
        if dtype is None or dtype.str[1:] not in _TYPES or not usual or page.imagedepth != 1:
            raise InputError(
                f"{name}: expected a gray or RGB picture, found a TIFF file of kind {_name(page.photometric)} with "
                f"{channels} channels of type {dtype}; save it as PNG or JPEG"
            )
        if page.compression not in (_NONE, *_DEFLATE) or page.predictor not in (1, 2):
            raise InputError(
                f"{name}: a TIFF file of {dtype} compressed by {_name(page.compression)}, which is not read; save it "
                "without compression"
            )
        size = page.imagewidth * page.imagelength * channels * dtype.itemsize
        if size > _LARGEST:
            raise InputError(f"{name}: expected at most 1 GB of numbers, found {size / 1e9:.1f} GB; make it smaller")
        _check_segments(file.filehandle, page, size, length)
        values = page.asarray()
        if channels > 1 and page.planarconfig == 2:
            values = np.moveaxis(values, 0, -1)
        values = values.reshape(page.imagelength, page.imagewidth, channels)
        turned, profile = page.tags.valueof(274), page.tags.valueof(34675)
        return Numbers(
            values,
            int(turned) if turned in range(1, 9) else 1,
            page.photometric == _NEGATIVE,
            tuple(page.extrasamples[:1]) == (_PREMULTIPLIED,),
            profile if isinstance(profile, bytes) else None,
        )


def _name(code: Any) -> str:
    """The name of a code of TIFF, or its number where tifffile knows none."""
    return str(getattr(code, "name", code))[:40]


def _check_segments(file: Any, page: Any, size: int, length: int) -> None:
    """Check that strips or tiles hold what the page claims, and not far more."""
    segment = int(np.prod(page.chunks, dtype=object)) * np.dtype(page.dtype).itemsize
    if segment > 4 * size + (1 << 20) or len(page.databytecounts) > 4 * size:
        raise ValueError("its tiles are larger than the picture")
    if page.compression == _NONE:
        if sum(page.databytecounts) < size or size > length:
            raise ValueError("it is cut off: truncated")
        return
    for offset, count in zip(page.dataoffsets, page.databytecounts):
        if count > length:
            raise ValueError("it is cut off: truncated")
        file.seek(offset)
        if len(zlib.decompressobj().decompress(file.read(count), segment + 1)) > segment:
            raise ValueError("a strip holds more than its pixels")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tifffile's remarks on odd tags off the terminal."""
    logger = logging.getLogger("tifffile")
    with _QUIET:
        before = logger.disabled
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = before
