"""What readers and writers of files share.

Files may hold anything. Each way in which one can be wrong ends in one `InputError` that names the file, what was
expected and what was found. A size that a file declares is compared with the length of the file before memory is
allocated for it, and no object array (a pickle inside) is ever loaded.
"""

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from facemodels.core.errors import InputError, one_line

DEFLATE_LIMIT = 1032  # the largest ratio by which deflate compresses
_LONGEST = 300  # characters of a message that quote the file

Shape = tuple[int | str | None, ...]


def existing_file(path: str | Path, expected: str) -> Path:
    """Return the path of a file that exists and is not empty.

    Args:
        path: the file.
        expected: what it should be, for the message.

    Raises:
        InputError: there is no such file, or it is a folder or empty.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: expected {expected}, found a folder")
    if not path.exists():
        raise InputError(f"{path}: expected {expected}, found no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: expected {expected}, found an empty file")
    return path


def input_error(path: str | Path, expected: str, found: str) -> InputError:
    """Return the error for a file that is not what was expected.

    `found` may quote the file: it is cut to one printable line.
    """
    line = "".join(c if c.isprintable() else " " for c in found)
    return InputError(
        f"{path}: expected {expected}, found {line if len(line) <= _LONGEST else line[:_LONGEST] + ' ...'}"
    )


def take_arrays(
    path: str | Path, arrays: Mapping[str, Any], shapes: Mapping[str, Shape | None], expected: str
) -> list[np.ndarray]:
    """Return the named arrays of a file, after checking that they hold numbers and have the right shapes.

    Args:
        path: the file, for the message.
        arrays: what the file holds, by name.
        shapes: name -> shape. Its entries are numbers, None for any size, or letters: a letter stands for the same size
            in all arrays. "V" and "3V", numbers of vertices and of their coordinates, may not be 0. A shape of None is
            not checked.
        expected: what the file should be, for the message.

    Raises:
        InputError: an array is missing, holds no numbers, or has another shape.
    """
    missing = [k for k in shapes if k not in arrays]
    if missing:
        present = ", ".join(sorted(map(str, arrays))[:12]) or "nothing"
        raise input_error(path, f"{expected} with {', '.join(shapes)}", f"no {', '.join(missing)} among {present}")
    sizes: dict[int | str | None, int] = {}
    for key, shape in shapes.items():
        value = arrays[key]
        if not isinstance(value, np.ndarray):
            found = value if isinstance(value, str) else f"a {type(value).__name__}"
            raise input_error(path, f"{key} to be an array", found)
        if value.dtype.kind not in "fiu":
            raise input_error(path, f"{key} to hold numbers", f"{value.dtype}")
        if shape is None:
            continue
        # The first array with a letter decides what the letter stands for.
        known = [sizes.get(want, want) for want in shape]
        fits = value.ndim == len(shape) and all(
            got == want or want is None or isinstance(want, str) for want, got in zip(known, value.shape)
        )
        sizes |= {want: got for want, got in zip(shape, value.shape) if isinstance(want, str) and fits}
        if not fits or 0 in (sizes.get("V"), sizes.get("3V")):
            named = ",".join(
                "any" if want is None else str(want) if want == name else f"{name}={want}"
                for name, want in zip(shape, known)
            )
            raise input_error(path, f"{key} to be [{named}]", f"{list(value.shape)}")
    return [arrays[key] for key in shapes]


def read_npz(path: str | Path, expected: str) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz file.

    Args:
        path: the file.
        expected: what it should be, for the message.

    Raises:
        InputError: the file is missing, damaged, or holds objects.
    """
    path = existing_file(path, expected)
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as member:
                    shape, _, dtype = read_npy_header(member)
                    declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
                if declared > entry.file_size or entry.file_size > DEFLATE_LIMIT * path.stat().st_size:
                    raise ValueError(f"{entry.filename} declares {declared} bytes of {entry.file_size}")
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except Exception as error:  # whatever zipfile and numpy raise on a damaged file
        raise input_error(path, expected, f"a file that does not read as .npz ({one_line(error)})") from error


def read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of an .npy file: its shape, whether it is in Fortran order, its dtype.

    Raises:
        Exception: whatever numpy raises on a damaged header, or KeyError for an unknown version.
    """
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    return read(stream)


def write_atomically(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together; each gets its name only when all are complete.

    Args:
        files: path -> content.

    Raises:
        InputError: a folder does not exist.
    """
    for path in files:
        if not path.parent.is_dir():
            raise InputError(f"{path}: the folder {path.parent} does not exist")
    parts = {path: _part(path) for path in files}
    try:
        for path, content in files.items():
            parts[path].write_bytes(content)
        for path, part in parts.items():
            os.replace(part, path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to; what was written is renamed to `path` if no error occurred, and removed otherwise."""
    part = _part(path)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    """The name of a file until it is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def check_writable(folder: Path) -> None:
    """Make a folder if there is none, and check that files can be made in it.

    Raises:
        InputError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{folder}: nothing can be written there ({error.strerror or error}); give another folder with -o"
        ) from None
