"""Pictures and animations: which files are some, and their pixels."""

import importlib
import io
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps, ImageSequence

from facemodels.core.errors import InputError, one_line
from facemodels.io.files import atomic_write, no_such_file
from facemodels.io.tiff import is_tiff, read_numbers
from facerender._checks import brief_repr

PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".heic", ".heif", ".heics", ".heifs", ".hif", ".avif", ".avifs", ".jxl", ".mpo"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".icb", ".vda", ".vst", ".psd", ".qoi", ".dds", ".pcx"),
    *(".sgi", ".rgb", ".rgba", ".bw", ".ras", ".im", ".xbm", ".xpm", ".ico", ".icns", ".fit", ".fits"),
)

MAX_PIXELS = 52_000_000  # of a picture in memory; larger ones are read at a half, a third ... of their size
_FEW = 16_000_000  # pixels that any file may claim
_PIXELS_PER_BYTE = 250  # above this a file is far smaller than what it claims to hold; a flat JPEG has 60
_MAX_WHOLE = 260_000_000  # pixels of the formats that are decoded as a whole before they can be made smaller
_MAX_JPEG = 2_000_000_000
# Pillow's names of formats that are no pictures of their own: they start other programs or hold only a description.
_REFUSED = ("EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "FPX", "MIC")
_ANIMATED = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG", ".avif": "AVIF", ".avifs": "AVIF"}
_RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANES, _KIND = 258, 259, 262, 284, 339  # tags of TIFF
_WHITE_IS_0 = 0  # of _PHOTOMETRIC
_UNSIGNED, _SIGNED, _FLOATS = 1, 2, 3  # of _KIND
_UNCOMPRESSED, _IN_PLANES = 1, 2  # of _COMPRESSION and _PLANES
_ROWS = 256  # that are copied at a time
_MOST_BELOW = 0.1  # of the largest number: how far below 0 there may be numbers
_LIMIT, _SILENT = threading.Lock(), threading.Lock()


class UnknownFormatError(InputError):
    """A file that is no picture: its format is none that is known."""


@brief_repr
class Picture(NamedTuple):
    """A picture, perhaps smaller than its file says.

    Attributes:
        image: uint8 [h,w,3], sRGB.
        reduction: How many pixels of the file, across, are one of the image: 1 up to `MAX_PIXELS`.
    """

    image: np.ndarray
    reduction: int = 1


@brief_repr
class Animation(NamedTuple):
    """A picture file that moves.

    Attributes:
        frames: uint8 [h,w,3] and seconds, of each frame.
        length: How many frames there are.
        seconds: About how long all of them take.
    """

    frames: Iterator[tuple[np.ndarray, float]]
    length: int
    seconds: float


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
        uint8 [h,w,3], sRGB; transparent pixels on white.

    Raises:
        InputError: not a picture, a damaged one, or one that is too large or claims to be far larger than its file.
    """
    picture = load_picture(file, name, _MAX_WHOLE)
    if picture.reduction > 1:
        raise InputError(
            f"{name or file}: expected at most {_MAX_WHOLE // 1_000_000} megapixels, found a larger picture; make it "
            "smaller"
        )
    return picture.image


def load_picture(file: str | Path | BinaryIO, name: str | None = None, largest: int | None = None) -> Picture:
    """Read a picture as `read_picture` does, a very large one at a fraction of its size.

    Args:
        file: the file, or a stream.
        name: what to call it in messages; None: the file's name.
        largest: pixels above which it is read at a half, a third ... of its size; None takes `MAX_PIXELS`.

    Raises:
        InputError: no such file, not a picture, a damaged one, or one that claims to be far larger than its file.
    """
    name, largest = str(name or file), largest or MAX_PIXELS
    if Path(name).suffix.lower() in _RAW:
        raise InputError(f"{name}: a camera's raw file, which is not read; export it as JPEG or TIFF")
    try:
        if isinstance(file, (str, Path)):
            if not Path(file).exists():
                raise no_such_file(file)
            with open(file, "rb") as stream:
                return _load(stream, name, largest)
        return _load(file, name, largest)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{name}: there is not enough memory for this picture") from None
    except Exception as error:  # whatever a decoder raises on a damaged file
        raise InputError(f"{name}: not a readable picture ({_reason(error, name)})") from None


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write a picture as PNG, or as JPEG where the suffix says so; it gets its name when it is complete.

    Args:
        path: the file.
        image: uint8 [h,w,3], sRGB.

    Raises:
        WriteError: it cannot be written.
    """
    with atomic_write(path) as part:
        Image.fromarray(image).save(part, "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG")


def is_animation(path: Path) -> bool:
    """Whether a file is a picture with several frames over time; pages of a TIFF are none."""
    expected = _ANIMATED.get(path.suffix.lower())
    if expected is None:
        return False
    try:
        with open(path, "rb") as stream:
            head = stream.read(1 << 16)
            if expected == "PNG" and b"acTL" not in head:
                return False
            if expected == "WEBP" and b"ANIM" not in head:
                return False
            with _open(stream, str(path), _size_of_file(stream)) as image:
                return image.format == expected and bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged picture says so where it is read
        return False


def animation_frames(path: Path) -> Animation:
    """Open an animation.

    Raises:
        InputError: it cannot be read. The frames raise it, too, where it is damaged.
    """
    try:
        stream = open(path, "rb")
        image = _open(stream, str(path), _size_of_file(stream))
        count = int(getattr(image, "n_frames", 1))
        first = _seconds(image)
    except InputError:
        raise
    except Exception as error:  # whatever a decoder raises on a damaged file
        raise InputError(f"{path}: not a readable animation ({one_line(error)})") from None

    def frames() -> Iterator[tuple[np.ndarray, float]]:
        number = 0
        try:
            with stream, image:
                for frame in ImageSequence.Iterator(image):
                    pixels = to_rgb(frame, None)
                    number += 1
                    yield pixels, _seconds(frame)
        except Exception as error:
            raise InputError(f"{path}: damaged after frame {number} ({one_line(error)})") from None

    return Animation(frames(), count, first * count)


def _seconds(image: Image.Image) -> float:
    """How long a frame is shown; browsers take 0.01 s and less for 0.1 s."""
    duration = float(image.info.get("duration") or 0)
    return duration / 1000 if 10 < duration < 1e7 else 0.1


def _size_of_file(stream: BinaryIO) -> int:
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return size


def _load(stream: BinaryIO, name: str, largest: int) -> Picture:
    length = _size_of_file(stream)
    if is_tiff(stream.read(4)) and not _pillow_reads(stream, name, length):
        return _load_numbers(stream, name, length, largest)
    with _open(stream, name, length) as opened:
        width, height = opened.size
        reduction = _reduction(width * height, largest)
        if opened.format in ("JPEG", "MPO") and reduction > 1:
            reduction = next(k for k in (2, 4, 8) if k >= min(reduction, 8))
            opened.draft(None, (-(-width // reduction), -(-height // reduction)))
        profile = opened.info.get("icc_profile")
        tags: Any = getattr(opened, "tag_v2", {})
        # Pillow turns bytes where 0 is white, but no other numbers.
        negative = tags.get(_PHOTOMETRIC) == _WHITE_IS_0 and (opened.mode.startswith("I") or opened.mode == "F")
        image: Image.Image = opened
        with _quiet() if opened.format == "TIFF" else nullcontext(), _pillow_limit(width * height):
            image.load()
        small = (-(-width // reduction), -(-height // reduction))
        if reduction > 1 and image.size != small:
            image = (
                image.reduce(reduction)
                if image.mode not in ("P", "1")
                else image.resize(small, Image.Resampling.NEAREST)
            )
        ImageOps.exif_transpose(image, in_place=True)  # in place: large pictures are not held twice
        pixels = to_rgb(image, profile)
        return Picture(255 - pixels if negative else pixels, reduction)


def _reduction(pixels: int, largest: int) -> int:
    """How many pixels, across, become one, so that there are not more than the largest number."""
    reduction = 1
    while pixels > largest * reduction**2:
        reduction += 1
    return reduction


@contextmanager
def _pillow_limit(pixels: int | None) -> Iterator[None]:
    """Raise Pillow's own limit, which is one for the whole process, to a number of pixels; None takes it away.

    200-megapixel cameras are above it.
    """
    if pixels is not None and pixels <= MAX_PIXELS:  # far below it
        yield
        return
    with _LIMIT:
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = usual


def _pillow_reads(stream: BinaryIO, name: str, length: int) -> bool:
    """Whether Pillow reads a TIFF file right.

    It knows no color of floats, takes 32 bits for signed and 8 signed bits for unsigned, the planes of a file without
    compression for bytes, and turns the bytes of compressed big-endian floats twice.
    """
    try:
        with _open(stream, name, length) as opened:
            tags: Any = getattr(opened, "tag_v2", {})
            bits, kinds = tags.get(_BITS, (1,)), tags.get(_KIND, (_UNSIGNED,))
            compressed = tags.get(_COMPRESSION, _UNCOMPRESSED) != _UNCOMPRESSED
            return not (
                _SIGNED in kinds
                or (32 in bits and _UNSIGNED in kinds)
                or (max(bits) > 8 and tags.get(_PLANES) == _IN_PLANES and not compressed)
                or (_FLOATS in kinds and tags.prefix == b"MM" and compressed)
            )
    except UnknownFormatError:
        return False


def _load_numbers(stream: BinaryIO, name: str, length: int, largest: int) -> Picture:
    """Read a TIFF file with tifffile."""
    found = read_numbers(stream, name, length, lambda size: _check_size(size, False, name, length))
    values, orientation = found.values, found.orientation
    colors = values.shape[2] - (values.shape[2] in (2, 4))
    pixels = _scaled(values[..., :colors])
    pixels = 255 - pixels if found.negative else pixels
    if found.profile and colors == 3:
        pixels = np.array(_from_profile(Image.fromarray(pixels), found.profile))
    if colors < values.shape[2]:
        opacity = _scaled(values[..., colors:])[..., :1].astype(np.uint16)
        shown = np.minimum(pixels, opacity) * np.uint16(255) if found.premultiplied else pixels * opacity
        pixels = ((shown + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)
    reduction = _reduction(pixels.shape[0] * pixels.shape[1], largest)
    image = Image.fromarray(pixels).reduce(reduction) if reduction > 1 else Image.fromarray(pixels)
    if orientation > 1:
        image.getexif()[0x0112] = orientation
        image = ImageOps.exif_transpose(image)
    return Picture(np.array(image), reduction)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep libtiff's own lines about damaged files off the terminal."""
    with _SILENT:
        try:
            saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        except OSError:  # there is no standard error
            yield
            return
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(nowhere)


def _open(stream: BinaryIO, name: str, length: int) -> Image.Image:
    """Open a picture, whose pixels are not decoded yet, and check the size that it claims."""
    stream.seek(0)
    head = stream.read(64)
    _check_webp(head, name, length)  # Pillow makes room for its canvas when it is opened
    formats = [f for f in _formats(head, name) if f not in _REFUSED]
    stream.seek(0)
    with _pillow_limit(None):
        try:
            image = Image.open(stream, formats=formats)
        except Image.UnidentifiedImageError:
            raise UnknownFormatError(f"{name}: not a readable picture ({_unknown(head)})") from None
    reducible = image.format in ("JPEG", "MPO") and not image.info.get("progressive")
    _check_size(image.size, reducible, name, length)
    return image


def _formats(head: bytes, name: str) -> list[str]:
    """Pillow's formats, with those of packages that extend it where the file needs them."""
    if _is_heif(head):
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            raise InputError(f'{name}: HEIC pictures need pillow-heif: pip install "facerender[heic]"') from None
        register_heif_opener()
    if head[:2] == b"\xff\x0a" or head[4:12] == b"JXL \r\n\x87\n":
        try:
            importlib.import_module("pillow_jxl")
        except ImportError:
            raise InputError(f"{name}: JPEG XL pictures need: pip install pillow-jxl-plugin") from None
    Image.init()
    return list(Image.ID)


def _unknown(head: bytes) -> str:
    if not head:
        return "an empty file"
    return "a damaged HEIC file" if _is_heif(head) else "its format is none that is known"


def _is_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def _check_size(size: tuple[int, int], reducible: bool, name: str, length: int) -> None:
    pixels, mega = size[0] * size[1], 1_000_000
    if pixels > max(_FEW, _PIXELS_PER_BYTE * length):
        raise InputError(
            f"{name}: expected a picture, found a file of {length} bytes that claims to be {size[0]} x {size[1]} pixels"
        )
    if pixels > (_MAX_JPEG if reducible else _MAX_WHOLE):
        limit = (_MAX_JPEG if reducible else _MAX_WHOLE) // mega
        raise InputError(
            f"{name}: expected at most {limit} megapixels, found {pixels // mega}; make the picture smaller"
        )


def _check_webp(head: bytes, name: str, length: int) -> None:
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return
    kind = head[12:16]
    if kind == b"VP8X":
        size = 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    elif kind == b"VP8L":
        bits = struct.unpack("<I", head[21:25])[0]
        size = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        size = (struct.unpack("<H", head[26:28])[0] & 0x3FFF, struct.unpack("<H", head[28:30])[0] & 0x3FFF)
    _check_size(size, False, name, length)


def _reason(error: Exception, name: str) -> str:
    text = one_line(error)
    if "truncated" in text or "broken data stream" in text or "not enough" in text:
        return f"it is cut off: {text}"
    return text.replace(repr(name), "the file")


def to_rgb(image: Image.Image, profile: bytes | None) -> np.ndarray:
    """The pixels of an upright picture as uint8 [h,w,3], sRGB; transparent ones on white.

    Args:
        image: the picture.
        profile: its color profile (ICC); a damaged one is ignored.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled(np.asarray(image))
    if image.mode == "LAB":
        image = _converted(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if profile and image.mode in ("RGB", "CMYK"):
        image = _from_profile(image, profile)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image if image.mode == "RGB" else image.convert("RGB")
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _ROWS):  # as a whole, Pillow would hold the pixels twice more
        part = image.crop((0, top, image.width, min(top + _ROWS, image.height)))
        pixels[top : top + _ROWS] = np.asarray(part)
    return pixels


def _from_profile(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(given):
            return image
        return _converted(image, given)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a damaged profile, or one of another kind of colors
        return image


def _converted(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.profileToProfile(
        image, profile, srgb, ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB"
    ) or image  # fmt: skip


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values [h,w] or [h,w,C] of 16 bits, 32 bits or floats as bytes [h,w,3].

    They are scaled from 0..1, 0..255, 0..65535 or 0..the largest; whole numbers of 8 and 16 bits from all that are not
    negative. Numbers a little below 0, as resizing leaves them, are black.

    Raises:
        ValueError: they go farther below 0, so that 0 is not black.
    """
    floats = values.dtype.kind == "f"
    bands = [slice(top, top + _ROWS) for top in range(0, len(values), _ROWS)]  # as a whole, there would be many copies
    top = max((_limit(values[band], np.max) for band in bands), default=0.0)
    bottom = min((_limit(values[band], np.min) for band in bands), default=0.0)
    if bottom < -_MOST_BELOW * top:
        raise ValueError(
            f"its numbers go from {bottom:.6g} to {top:.6g}, so that 0 is not black; save it with numbers from 0 on"
        )
    if floats:
        limits = [1.0, 255.0, 65535.0]
    else:
        limits = [float(np.iinfo(values.dtype).max) if values.dtype.itemsize < 4 else 65535.0]
    largest = next((limit for limit in limits if top <= limit), top)
    pixels = np.empty((*values.shape[:2], 3), np.uint8)
    for band in bands:
        part = values[band].reshape(*values[band].shape[:2], -1)
        if floats:
            part = part.astype(np.float32 if part.dtype.itemsize < 8 else np.float64)
            finite = np.nan_to_num(part, nan=0.0, posinf=0.0, neginf=0.0)
            pixels[band] = np.rint(finite.clip(0, largest) * finite.dtype.type(255 / largest)).astype(np.uint8)
        else:
            pixels[band] = (part.clip(0, None).astype(np.int64) * 255 // int(largest)).astype(np.uint8)
    return pixels


def _limit(values: np.ndarray, which: Callable[..., Any]) -> float:
    """The largest or smallest of 0 and the values that are finite."""
    return float(which(values, initial=0, where=np.isfinite(values)))
