"""Numeric arrays of MATLAB files, version 5 (what `save` writes with -v6 and -v7, and scipy.io.savemat).

`read_mat` reads a file, `parse_mat` the bytes of one (of a zip's entry, say); the functions below them read single data
elements, for readers of other structures.

scipy.io.loadmat is not used: its compiled reader trusts the sizes and types that a damaged file declares, and can crash
the process. Only real numeric arrays are read. Anything else (structs, cells, text) is only named.
"""

import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from facemodels.core.errors import one_line
from facemodels.io.files import DEFLATE_LIMIT, existing_file, input_error

Bytes = bytes | memoryview

# Types of data elements.
COMPRESSED, MATRIX, _INT32 = 15, 14, 5
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# Classes of arrays.
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_OTHERS = {1: "a cell array", 2: "a struct", 3: "an object", 4: "text", 5: "a sparse matrix"}
_COMPLEX = 0x08
_HEADER = 128  # bytes before the first data element


def read_mat(path: str | Path, expected: str, keys: Collection[str] | None = None) -> dict[str, np.ndarray | str]:
    """Read variables of a MATLAB file.

    Args:
        path: the file.
        expected: what the file should be, for the message.
        keys: names of the variables to read; None reads all. Names that the file lacks are left out.

    Returns:
        Name -> array, or text that says what a variable is if it is no real numeric array.

    Raises:
        InputError: the file is missing, cut off, damaged, or no MATLAB file of version 5.
    """
    path = existing_file(path, expected)
    return parse_mat(path.read_bytes(), path, expected, keys)


def parse_mat(
    raw: bytes, path: str | Path, expected: str, keys: Collection[str] | None = None
) -> dict[str, np.ndarray | str]:
    """Like `read_mat`, of the bytes of a file. `path` names them in messages."""
    if raw[:10] == b"MATLAB 7.3" or raw[512:516] == b"\x89HDF":
        raise input_error(path, expected, "a MATLAB 7.3 file; save it again in MATLAB with -v7")
    order = byte_order(raw)
    if order is None:
        raise input_error(path, expected, "a file that is not MATLAB's")
    try:
        variables = (read_variable(data, order, keys) for data in matrix_elements(raw, order, keys))
        return {name: value for name, value in variables if value is not None}
    except (ValueError, zlib.error, struct.error) as error:
        raise input_error(path, expected, f"a MATLAB file that is cut off or damaged ({one_line(error)})") from error


def byte_order(raw: bytes) -> str | None:
    """The byte order of a file of version 5, "<" or ">" as `struct` writes it; None for other files."""
    return {b"IM": "<", b"MI": ">"}.get(raw[126:128])


def matrix_elements(raw: bytes, order: str, keys: Collection[str] | None) -> Iterator[Bytes]:
    """The contents of a file's matrix elements, decompressed; compressed ones only where keys hold their names."""
    at = _HEADER
    while at < len(raw):
        kind, _, at, data = read_element(raw, at, order, len(raw))
        if kind == MATRIX:
            yield data
        elif kind == COMPRESSED and (matrix := inflate(data, order, keys)) is not None:
            yield matrix


def read_element(raw: Bytes, at: int, order: str, end: int) -> tuple[int, int, int, memoryview]:
    """Read one data element.

    Args:
        raw: the bytes.
        at: where the element starts.
        order: "<" or ">".
        end: where the bytes end that it may take.

    Returns:
        Its type, its size in bytes, where the next element starts, and its content (a view).

    Raises:
        ValueError: it reaches beyond the end.
        struct.error: it is cut off within its first eight bytes.
    """
    kind, size = struct.unpack_from(order + "II", raw, at)
    if kind >> 16:  # a small element: type and size share four bytes, and the content is the other four
        kind, size, at = kind & 0xFFFF, kind >> 16, at + 4
        if size > 4:
            raise ValueError(f"a small element of {size} bytes")
        following = at + 4
    else:
        at += 8
        # Compressed elements are not padded.
        following = at + (size if kind == COMPRESSED else size + -size % 8)
    if at + size > end:
        raise ValueError(f"{size} bytes declared at byte {at} of {end}")
    return kind, size, following, memoryview(raw)[at : at + size]


def inflate(data: Bytes, order: str, keys: Collection[str] | None) -> memoryview | None:
    """The matrix element inside a compressed element, or None if its name is not among the keys."""
    stream = zlib.decompressobj()
    head = stream.decompress(data, 4096)
    kind, size = struct.unpack_from(order + "II", head)
    if kind != MATRIX or size > DEFLATE_LIMIT * len(data):
        raise ValueError(f"an element of type {kind} and {size} bytes in {len(data)} compressed ones")
    if keys is not None and read_header(memoryview(head)[8:], order)[2] not in keys:
        return None
    element = head + stream.decompress(stream.unconsumed_tail, max(8 + size - len(head), 1))
    if len(element) < 8 + size:
        raise ValueError(f"{len(element)} bytes where {8 + size} are declared")
    return memoryview(element)[8 : 8 + size]


def read_header(data: Bytes, order: str) -> tuple[int, tuple[int, ...], str, int]:
    """Class and flags, dimensions and name of a matrix element, and where its content starts."""
    _, size, at, flags = read_element(data, 0, order, len(data))
    if size < 4:
        raise ValueError("an array without flags")
    word = struct.unpack_from(order + "I", flags)[0]
    kind, _, at, dimensions = read_element(data, at, order, len(data))
    if kind != _INT32:
        raise ValueError(f"dimensions of type {kind}")
    shape = tuple(int(n) for n in np.frombuffer(dimensions, order + "i4"))
    _, _, at, name = read_element(data, at, order, len(data))
    return word, shape, bytes(name).decode("latin1"), at


def read_variable(data: Bytes, order: str, keys: Collection[str] | None) -> tuple[str, np.ndarray | str | None]:
    """Name and value of a matrix element.

    The value is an array, or text that says what else it is, or None if its name is not among the keys.
    """
    word, shape, name, at = read_header(data, order)
    if keys is not None and name not in keys:
        return name, None
    if word & 0xFF not in _CLASSES:
        return name, _OTHERS.get(word & 0xFF, "of an unknown class")
    if word >> 8 & _COMPLEX:
        return name, "an array of complex numbers"
    kind, _, _, numbers = read_element(data, at, order, len(data))
    if kind not in _NUMBERS:
        raise ValueError(f"{name} holds elements of type {kind}")
    values = np.frombuffer(numbers, order + _NUMBERS[kind])
    if any(n < 0 for n in shape) or len(shape) < 2:
        raise ValueError(f"{name} is {shape}")
    return name, values.reshape(shape, order="F").astype(_CLASSES[word & 0xFF], copy=False)
