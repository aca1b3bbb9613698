"""Opening files that may be anything: each way in which one can be wrong ends in one `InputError` sentence that names the file, what was expected
and what was found.

Every reader goes through these, so that a size that a file declares is compared with the file's length before memory is taken for it, and no
object array (which would be a pickle inside) is ever loaded.
"""

import os
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from facemodels.core.errors import InputError, one_line

DEFLATE_LIMIT = 1032  # what deflate can shrink at most, to 1


def existing_file(path, expected: str) -> Path:
    """The path of a file that is there and not empty; expected names it in the message."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: expected {expected}, found a folder")
    if not path.exists():
        raise InputError(f"{path}: expected {expected}, found no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: expected {expected}, found an empty file")
    return path


def input_error(path, expected: str, found: str) -> InputError:
    """The error to raise. What was found may be the file's own words: it is cut to one printable line."""
    line = "".join(c if c.isprintable() else " " for c in found)
    return InputError(f"{path}: expected {expected}, found {line if len(line) <= 300 else line[:300] + ' ...'}")


def take_arrays(path, arrays: dict, shapes: dict, expected: str) -> list:
    """The arrays of the named keys, in order, their shapes checked.

    shapes: key -> shape, whose entries are numbers, None for any, or letters: the same letter is the same size in all arrays ("V" and "3V" are
    those of the vertices). A shape of None stands for any.
    """
    missing = [k for k in shapes if k not in arrays]
    if missing:
        present = ", ".join(sorted(map(str, arrays))[:12]) or "nothing"
        raise input_error(path, f"{expected} with {', '.join(shapes)}", f"no {', '.join(missing)} among {present}")
    sizes = {}
    for key, shape in shapes.items():
        value = arrays[key]
        if not isinstance(value, np.ndarray):
            raise input_error(
                path, f"{key} to be an array", value if isinstance(value, str) else f"a {type(value).__name__}"
            )
        if value.dtype.kind not in "fiu":
            raise input_error(path, f"{key} to hold numbers", f"{value.dtype}")
        if shape is None:
            continue
        # A size that is seen for the first time is what its letter stands for from then on; no model has 0 vertices.
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


def read_npz(path, expected: str) -> dict:
    """All arrays of an .npz file; none of objects."""
    path = existing_file(path, expected)
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as member:
                    version = np.lib.format.read_magic(member)
                    shape, _, dtype = {
                        (1, 0): np.lib.format.read_array_header_1_0,
                        (2, 0): np.lib.format.read_array_header_2_0,
                    }[version](member)
                    declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
                if declared > entry.file_size or entry.file_size > DEFLATE_LIMIT * path.stat().st_size:
                    raise ValueError(f"{entry.filename} declares {declared} bytes of {entry.file_size}")
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:
        raise input_error(path, expected, f"a file that does not read as .npz ({one_line(error)})") from error


def write_atomically(files: dict[Path, bytes]):
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
def atomic_write(path: Path):
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
        raise InputError(
            f"{folder}: nothing can be written there ({error.strerror or error}); give another folder with -o"
        ) from None
