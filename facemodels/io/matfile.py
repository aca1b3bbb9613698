"""Numeric arrays of MATLAB files, version 5 (what `save` writes with -v6 and -v7, and scipy.io.savemat).

Read here and not by scipy.io.loadmat, whose compiled reader takes a damaged file's word for sizes and types and brings the process down. Only real
numeric arrays are made; of anything else (structs, cells, text) only what it is is told.
"""

import struct
import zlib

import numpy as np

from facemodels.io.files import DEFLATE_LIMIT, existing, reason, wrong

_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}  # types of data elements
COMPRESSED, MATRIX = 15, 14
_CLASSES = {
    6: "f8",
    7: "f4",
    8: "i1",
    9: "u1",
    10: "i2",
    11: "u2",
    12: "i4",
    13: "u4",
    14: "i8",
    15: "u8",
}  # classes of arrays
_OTHERS = {1: "a cell array", 2: "a struct", 3: "an object", 4: "text", 5: "a sparse matrix"}
_COMPLEX = 0x08


def read_mat(path, expected: str, keys=None) -> dict:
    """The named variables (all for None) that are in the file: numpy arrays, or text that says what else a variable is.

    Raises:
        InputError: the file is missing, cut off, damaged, or no MATLAB file of version 5.
    """
    path = existing(path, expected)
    raw = path.read_bytes()
    if raw[:10] == b"MATLAB 7.3" or raw[512:516] == b"\x89HDF":
        raise wrong(path, expected, "a MATLAB 7.3 file; save it again in MATLAB with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(raw[126:128])
    if order is None:
        raise wrong(path, expected, "a file that is not MATLAB's")
    variables = {}
    try:
        at = 128
        while at < len(raw):
            kind, size, at, data = read_element(raw, at, order, len(raw))
            if kind == COMPRESSED:
                data = inflated(data, order, keys)
            if kind in (COMPRESSED, MATRIX) and data is not None:
                name, value = read_variable(data, order, keys)
                if keys is None or name in keys:
                    variables[name] = value
    except (ValueError, zlib.error, struct.error) as error:
        raise wrong(path, expected, f"a MATLAB file that is cut off or damaged ({reason(error)})") from error
    return variables


def read_element(raw, at, order, end):
    """The data element at a place: its type, size, where the next one starts, and its bytes (a view)."""
    kind, size = struct.unpack_from(order + "II", raw, at)
    if kind >> 16:  # a small element: type and size share four bytes, and the data are the other four
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


def inflated(data, order, keys):
    """A compressed variable's matrix element, or None where its name is not wanted."""
    stream = zlib.decompressobj()
    head = stream.decompress(data, 4096)
    kind, size = struct.unpack_from(order + "II", head)
    if kind != MATRIX or size > DEFLATE_LIMIT * len(data):
        raise ValueError(f"an element of type {kind} and {size} bytes in {len(data)} compressed ones")
    if keys is not None and read_header(memoryview(head)[8:], order)[2] not in keys:
        return None
    whole = head + stream.decompress(stream.unconsumed_tail, max(8 + size - len(head), 1))
    if len(whole) < 8 + size:
        raise ValueError(f"{len(whole)} bytes where {8 + size} are declared")
    return memoryview(whole)[8 : 8 + size]


def read_header(data, order):
    """Class and flags, dimensions, name, and where the numbers start."""
    kind, size, at, flags = read_element(data, 0, order, len(data))
    if size < 4:
        raise ValueError("an array without flags")
    word = struct.unpack_from(order + "I", flags)[0]
    kind, size, at, dimensions = read_element(data, at, order, len(data))
    if kind != 5:
        raise ValueError(f"dimensions of type {kind}")
    shape = tuple(int(n) for n in np.frombuffer(dimensions, order + "i4"))
    kind, size, at, name = read_element(data, at, order, len(data))
    return word, shape, bytes(name).decode("latin1"), at


def read_variable(data, order, keys):
    word, shape, name, at = read_header(data, order)
    if keys is not None and name not in keys:
        return name, None
    if word & 0xFF not in _CLASSES:
        return name, _OTHERS.get(word & 0xFF, "of an unknown class")
    if word >> 8 & _COMPLEX:
        return name, "an array of complex numbers"
    kind, size, _, numbers = read_element(data, at, order, len(data))
    if kind not in _NUMBERS:
        raise ValueError(f"{name} holds elements of type {kind}")
    values = np.frombuffer(numbers, order + _NUMBERS[kind])
    if any(n < 0 for n in shape) or len(shape) < 2:
        raise ValueError(f"{name} is {shape}")
    return name, values.reshape(shape, order="F").astype(_CLASSES[word & 0xFF], copy=False)
