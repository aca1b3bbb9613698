"""The weights in a MatConvNet file, as which VGG-Face is published.

Cells and structs of a MATLAB file of version 5 are read without scipy's compiled reader, for the reason that
`facemodels.io.matfile` gives.
"""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facemodels.core.errors import one_line
from facemodels.io.files import existing_file, input_error
from facemodels.io.matfile import byte_order, matrix_elements, read_element, read_header, read_variable

_CELL, _STRUCT, _TEXT = 1, 2, 4  # classes of arrays
_CHARACTERS = {1: "latin1", 2: "latin1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}  # types of data elements
_ENDING = {"<": "-le", ">": "-be"}
_DEPTH = 8


def read_matconvnet(path: str | Path) -> dict[str, Tensor]:
    """Read the filters and biases of every layer that has both.

    MatConvNet's filters are [H,W,in,out]; it correlates, as torch does.

    Args:
        path: a file with the variable `layers`, or with `net` that has it.

    Returns:
        NAME.weight [out,in,H,W] and NAME.bias [out] of each layer.

    Raises:
        InputError: the file is missing, damaged, or holds no such layers.
    """
    expected = "the layers of MatConvNet's VGG-Face"
    raw = existing_file(path, expected).read_bytes()
    order = byte_order(raw)
    if order is None or raw[:10] == b"MATLAB 7.3":
        raise input_error(path, expected, "a file that is not MATLAB's of version 5 (save -v7)")
    try:
        found = _weights(_layers(raw, order))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, zlib.error, struct.error) as error:
        raise input_error(
            path, expected, f"a file that is damaged or of another structure ({one_line(error)})"
        ) from error
    if not found:
        raise input_error(path, expected, "no layer with weights")
    return found


def _weights(layers: Any) -> dict[str, Tensor]:
    """Return the weights of a list of layers."""
    found = {}
    for cell in layers:
        layer = cell[0]
        # Files from before 2015 have filters and biases by themselves.
        old = [layer.get("filters"), layer.get("biases")]
        pair = layer["weights"] if isinstance(layer.get("weights"), list) else old
        if len(pair) != 2 or not all(isinstance(values, np.ndarray) for values in pair):
            continue
        filters, biases = pair
        filters = filters.reshape(filters.shape + (1,) * (4 - filters.ndim))  # MATLAB drops dimensions of 1 at the end
        found[f"{layer['name']}.weight"] = torch.from_numpy(np.array(filters.transpose(3, 2, 0, 1), order="C"))
        found[f"{layer['name']}.bias"] = torch.from_numpy(np.array(biases.reshape(-1)))
    return found


def _layers(raw: bytes, order: str) -> Any:
    """Return the value of the variable `layers`, or of the field `layers` of `net`."""
    wanted = ("layers", "net")
    for data in matrix_elements(raw, order, wanted):
        name = read_header(data, order)[2]
        if name in wanted:
            value = _value(data, order)
            return value if name == "layers" else value[0]["layers"]
    raise ValueError("no variable named layers or net")


def _value(data: Any, order: str, depth: int = 0) -> Any:
    """Return the value of a matrix element: text, an array, or lists in column-major order.

    A cell array becomes a list, a struct array a list of dicts.
    """
    if not data:
        return None
    if depth > _DEPTH:
        raise ValueError("too deep a nesting")
    word, shape, _, at = read_header(data, order)
    kind = word & 0xFF
    if kind == _TEXT:
        characters, _, _, text = read_element(data, at, order, len(data))
        encoding = _CHARACTERS[characters]
        return bytes(text).decode(encoding + _ENDING[order] if encoding == "utf-16" else encoding)
    if kind not in (_CELL, _STRUCT):
        return read_variable(data, order, None)[1]
    fields: list[str | None] = [None]
    if kind == _STRUCT:
        _, _, at, length = read_element(data, at, order, len(data))
        _, _, at, names = read_element(data, at, order, len(data))
        length = struct.unpack(order + "i", length)[0]
        if length < 1:
            raise ValueError(f"field names of {length} bytes")
        fields = [bytes(names[k : k + length]).split(b"\0")[0].decode("latin1") for k in range(0, len(names), length)]
    items = []
    while at < len(data):
        _, _, at, item = read_element(data, at, order, len(data))
        items.append(_value(item, order, depth + 1))
    if len(items) != int(np.prod(shape, dtype=object)) * len(fields):
        raise ValueError(f"{len(items)} values where {shape} times {len(fields)} are declared")
    return (
        items
        if kind == _CELL
        else [dict(zip(fields, items[k : k + len(fields)])) for k in range(0, len(items), len(fields))]
    )
