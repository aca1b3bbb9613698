"""Text in mesh files: numbers, names, and the files that names mean."""

import os
import re
import warnings
from pathlib import Path

import numpy as np

_NOT_A_NUMBER = re.compile(rb"[-+]?(nan\([a-z]*\)|1\.#[A-Z]+[0-9]*)", re.IGNORECASE)  # as C libraries print it


def is_number(word: bytes) -> bool:
    """Whether a word is a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def parse_numbers(text: bytes, kind: type = np.float64) -> np.ndarray | None:
    """The numbers of a text, separated by white space; None if anything else stands between them."""
    if b"#" in text or b"(" in text:
        text = _NOT_A_NUMBER.sub(b"nan", text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return np.fromstring(text, kind, sep=" ")
        except (ValueError, DeprecationWarning):
            return None


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
