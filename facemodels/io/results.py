"""A folder that results are written to: what is in it from earlier runs, and what must not be lost."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote_to_bytes

from facemodels.core.errors import InputError
from facemodels.io.files import checking_writes

INDEX = ".facemodels-results"  # in the folder: the size and name of each file that was written there, a line each


def earlier_results(folder: Path) -> dict[str, int]:
    """The files that earlier runs have written to a folder: name -> size in bytes."""
    try:
        lines = (folder / INDEX).read_bytes().splitlines()
    except OSError:
        return {}
    entries = (line.partition(b" ") for line in lines)
    return {os.fsdecode(unquote_to_bytes(name)): int(size) for size, _, name in entries if size.isdigit() and name}


def is_result(path: Path, known: dict[str, int]) -> bool:
    """Whether a file is as an earlier run has written it."""
    return path.name in known and path.stat().st_size == known[path.name]


@contextmanager
def result_folder(
    folder: Path, inputs: Iterable[Path], note: Callable[[str], None] = lambda text: print(text, file=sys.stderr)
) -> Iterator[None]:
    """Remember the files that are written to a folder, and lose none that is something else.

    As long as the context lasts, no file is written over an input, and a file in the folder that no run has written, or
    that was changed since, is kept under its name with ~ behind it.

    Args:
        folder: Where results are written.
        inputs: Files that are read.
        note: Is told of each file that was kept.
    """
    known = earlier_results(folder)
    inside, read = folder.resolve(), {path.resolve() for path in inputs}

    def check(part: Path, path: Path) -> None:
        if path.resolve() in read:
            raise InputError(
                f"{path}: a result would replace this input; give another folder with -o, or the input another name"
            )
        if path.parent.resolve() != inside:
            return
        if path.exists() and not is_result(path, known):
            kept = _free_name(path)
            path.rename(kept)
            note(f"{path}: was there before, and is kept as {kept.name}")
        size = part.stat().st_size
        if known.get(path.name) != size:
            with open(folder / INDEX, "ab") as file:
                file.write(b"%d %s\n" % (size, _one_line(os.fsencode(path.name))))
            known[path.name] = size

    with checking_writes(check):
        yield


def _one_line(name: bytes) -> bytes:
    """A name without line breaks, as `unquote_to_bytes` reads it."""
    return name.replace(b"%", b"%25").replace(b"\n", b"%0A").replace(b"\r", b"%0D")


def _free_name(path: Path) -> Path:
    kept, number = path.with_name(f"{path.name}~"), 2
    while kept.exists():
        kept, number = path.with_name(f"{path.name}~{number}"), number + 1
    return kept
