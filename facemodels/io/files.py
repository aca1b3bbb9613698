"""What readers and writers of files share.

Files may hold anything. Each way in which one can be wrong ends in one `InputError` that names the file, what was
expected and what was found. A size that a file declares is compared with the length of the file before memory is
allocated for it, and no object array (a pickle inside) is ever loaded.
"""

import functools
import itertools
import os
import platform
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from facemodels.core.errors import InputError, advice, one_line

DEFLATE_LIMIT = 1032  # the largest ratio by which deflate compresses
_LONGEST = 300  # characters of a message that quote the file
_TEXT_LIMIT = 64 << 20  # bytes

Shape = tuple[int | str | None, ...]


class WriteError(InputError, OSError):
    """A file that cannot be written: its name, the folder or the disk does not allow it."""


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
        raise no_such_file(path, expected=expected)
    if path.stat().st_size == 0:
        raise InputError(f"{path}: expected {expected}, found an empty file")
    return path


def no_such_file(path: str | Path, what: str = "file", expected: str = "") -> InputError:
    """Return the error for a path at which there is no file: nothing, a folder, or a URL, which is no path.

    Args:
        path: the path.
        what: what should be there, for the message: a file, a folder ...
        expected: what kind of file it should be; "": no more is said.
    """
    if url := _url(path):
        return InputError(f"{url}: URLs are not read; download the file, and give its path")
    if Path(path).is_dir():
        return InputError(f"{path}: expected {expected or f'a {what}'}, found a folder")
    return InputError(f"{path}: there is no such {what}" + (f"; expected {expected}" if expected else ""))


def _url(path: str | Path) -> str | None:
    """The URL that a path was meant as; of its slashes, `Path` keeps one."""
    match = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.+)", str(path))
    return f"{match[1]}://{match[2]}" if match else None


def read_text(path: Path) -> str:
    """Return the text of a file, which is UTF-8 or UTF-16.

    Raises:
        InputError: it is not text, or is larger than 64 MB.
    """
    if path.stat().st_size > _TEXT_LIMIT:
        raise InputError(f"{path}: too large for a file of text ({path.stat().st_size / 1e6:.0f} MB)")
    content = path.read_bytes()
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file") from None
    if "\0" in text:
        raise InputError(f"{path}: not a text file")
    return text


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
        raise input_error(path, f"{expected} with {', '.join(missing)}", f"only {present}")
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
        WriteError: a file cannot be written.
    """
    for path in files:
        if not path.parent.is_dir():
            raise InputError(f"{path}: the folder {path.parent} does not exist")
    parts = {path: part_path(path) for path in files}
    try:
        for path, content in files.items():
            with _write_errors(path):
                parts[path].write_bytes(content)
        for path, part in parts.items():
            finish(part, path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to; what was written is renamed to `path` if no error occurred, and removed otherwise.

    Raises:
        WriteError: it cannot be written.
    """
    part = part_path(path)
    try:
        with _write_errors(path):
            yield part
        finish(part, path)
    finally:
        part.unlink(missing_ok=True)


_numbers = itertools.count()
_checks: list[Callable[[Path, Path], None]] = []


def part_path(path: Path, suffix: str = "") -> Path:
    """The name of a file until it is complete, in the same folder.

    Those of runs that were killed are removed when this process first writes to their folder.

    Args:
        path: the file.
        suffix: what the name ends in, for libraries that look at it.

    Raises:
        InputError: no file can have such a name.
    """
    if "\0" in str(path):
        raise InputError(f"{str(path)!r}: the name holds a NUL")
    _sweep(path.parent)
    # As short as it can be: what has a long name can be written all the same.
    return path.with_name(f".{next(_numbers)}-{os.getpid()}@{_node()}.part{suffix}")


def finish(part: Path, path: Path) -> None:
    """Give a complete file its name.

    Raises:
        WriteError: it cannot have that name.
        InputError: one of the checks of `checking_writes` objects.
    """
    with _write_errors(path):
        for check in _checks:
            check(part, path)
        os.replace(part, path)


@contextmanager
def checking_writes(check: Callable[[Path, Path], None]) -> Iterator[None]:
    """Call `check(part, path)` before a complete file gets its name, as long as the context lasts."""
    _checks.append(check)
    try:
        yield
    finally:
        _checks.remove(check)


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(f"{path}: cannot be written ({one_line(error)}){advice(error)}") from error


def _node() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:40]


@functools.cache
def _sweep(folder: Path) -> None:
    """Remove what runs of this machine that are no more have left unfinished in a folder."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if match := re.fullmatch(r"\.\d+-(\d+)@([A-Za-z0-9-]*)\.part(\.\w+)?", name):
            if match[2] == _node() and not _is_running(int(match[1])):
                with suppress(OSError):
                    os.unlink(os.path.join(folder, name))


def _is_running(process: int) -> bool:
    if os.name != "posix":
        return True  # a signal of 0 would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _identity(path: str | Path) -> tuple[int, int] | str:
    """The same for all names of one file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def check_not_inputs(outputs: Iterable[Path | None], inputs: Iterable[str | Path | None]) -> None:
    """Check that no file to be written is one that is read.

    Args:
        outputs: files to be written; None is passed over.
        inputs: files that are read, whether they exist or not; None is passed over.

    Raises:
        InputError: one is both.
    """
    read = {_identity(path) for path in inputs if path is not None}
    for path in outputs:
        if path is not None and _identity(path) in read:
            raise InputError(f"{path}: the output is an input, which is never overwritten; give another name")


def check_outputs(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Check, before the work, that files can be written and are no part of what is read.

    Args:
        outputs: option -> file; None is passed over.
        inputs: what is read, as it is called -> file or folder; None is passed over.

    Raises:
        InputError: the folder of an output is missing, an output is a folder, an input or an existing file in one, or
            two outputs are one file.
    """
    written: dict[Path, str] = {}
    for option, file in outputs.items():
        if file is None:
            continue
        if not file.parent.is_dir():
            raise InputError(f"{file}: cannot be written, there is no folder {file.parent}")
        if file.is_dir():
            raise InputError(f"{file}: expected the name of a file to write, found a folder")
        for name, given in inputs.items():
            place = None if given is None else given.resolve()
            if place is not None and (file.resolve() == place or (file.exists() and place in file.resolve().parents)):
                raise InputError(
                    f"{file}: would be overwritten, and it is or may be a part of {name}; give another name"
                )
        if other := written.get(file.resolve()):
            raise InputError(f"{file}: {other} and {option} must be two files")
        written[file.resolve()] = option


def check_writable(folder: Path) -> None:
    """Make a folder if there is none, and check that files can be made in it.

    Raises:
        InputError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = part_path(folder / "probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{folder}: nothing can be written there ({one_line(error)}); give another folder with -o"
        ) from None
