"""The weights in a MatConvNet file (VGG-Face is published as one): cells and structs of a MATLAB file of version 5, read without scipy's compiled reader, for the
reason that `facemodels.io.matfile` gives."""

import struct
import zlib

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


def read_matconvnet(path) -> dict[str, Tensor]:
    """name.weight [out,in,H,W] and name.bias [out] of every layer that has both, from the layers at the top of the file or in its `net`.

    MatConvNet's filters are [H,W,in,out]; it correlates, as torch does.

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


def _weights(layers):
    found = {}
    for cell in layers:
        layer = cell[0]
        pair = (
            layer["weights"] if isinstance(layer.get("weights"), list) else [layer.get("filters"), layer.get("biases")]
        )  # the second in files of before 2015
        if len(pair) != 2 or not all(isinstance(values, np.ndarray) for values in pair):
            continue
        filters, biases = pair
        filters = filters.reshape(filters.shape + (1,) * (4 - filters.ndim))  # MATLAB drops dimensions of 1 at the end
        found[f"{layer['name']}.weight"] = torch.from_numpy(np.array(filters.transpose(3, 2, 0, 1), order="C"))
        found[f"{layer['name']}.bias"] = torch.from_numpy(np.array(biases.reshape(-1)))
    return found


def _layers(raw, order):
    wanted = ("layers", "net")
    for data in matrix_elements(raw, order, wanted):
        name = read_header(data, order)[2]
        if name in wanted:
            value = _value(data, order)
            return value if name == "layers" else value[0]["layers"]
    raise ValueError("no variable named layers or net")


def _value(data, order, depth=0):
    """A matrix element: a cell array as a list, a struct array as a list of dicts (both column-major), text, or what `matfile` makes of it."""
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
    fields = [None]
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
