"""Pickles read without running anything that is in them.

A pickle is a program that may call any function by name. Here the names it may use are a short list, and each stands for a class of this file
that only keeps its arguments; the arrays are made from these afterwards, after their sizes and types have been checked against the bytes that
are there. What is understood: numbers, strings, lists, dicts, numpy arrays and scalars (of old and new numpy, of Python 2 and 3), scipy's
sparse matrices, chumpy's arrays (FLAME's files hold them; chumpy itself no longer installs) and, where a reader asks for them, object arrays
and torch tensors. Any other name ends the reading.
"""

import io
import math
import pickle
import pickletools
import re
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse
import torch

from facemodels.core.errors import one_line
from facemodels.io.files import existing_file, input_error

_DEPTH = 32
_INSTRUCTIONS = {instruction.code: instruction for instruction in pickletools.opcodes}
_DTYPE = re.compile(r"[<>|=]?([biufSU])\d{1,4}")


class Refused(Exception):
    """The pickle asks for something that is not on the list."""


class _Kept:
    """What a pickle asked for: kept, not done."""

    __slots__ = ("arguments", "state")

    def __new__(cls, *arguments):
        self = object.__new__(cls)
        self.arguments, self.state = arguments, None
        return self

    def __setstate__(self, state):
        self.state = state


class _Array(_Kept):
    pass


class _Buffer(_Kept):
    pass


class _Scalar(_Kept):
    pass


class _Dtype(_Kept):
    pass


class _Sparse(_Kept):
    pass


class _Chumpy(_Kept):
    pass


class _Set(_Kept):
    pass


class _Storage(_Kept):
    pass


class _Tensor(_Kept):
    pass


class _Name(_Kept):
    """A class that is only named, as an argument."""


class _Reconstructor(_Kept):
    """copyreg's way to make an instance without calling the class."""

    def __new__(cls, wanted, base, state):
        if not (isinstance(wanted, type) and issubclass(wanted, _Kept)):
            raise Refused("copyreg._reconstructor")
        return wanted.__new__(wanted)


class _Encoded(_Kept):
    """Bytes in pickles of the old protocols: text and "latin1"."""

    def __new__(cls, text, encoding):
        if encoding != "latin1":
            raise Refused(f"_codecs.encode({encoding!r})")
        return text.encode("latin1")


class _NoBytes(_Kept):
    """bytes(), as the data of an empty array."""

    def __new__(cls):
        return b""


_NAMES = {
    ("numpy", "ndarray"): _Name,
    ("numpy", "dtype"): _Dtype,
    ("chumpy.ch", "Ch"): _Chumpy,
    ("copyreg", "_reconstructor"): _Reconstructor,
    ("copy_reg", "_reconstructor"): _Reconstructor,
    ("builtins", "object"): _Name,
    ("__builtin__", "object"): _Name,
    ("builtins", "bytes"): _NoBytes,
    ("__builtin__", "bytes"): _NoBytes,
    ("builtins", "set"): _Set,
    ("__builtin__", "set"): _Set,
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): _Encoded,
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[_core + ".multiarray", "_reconstruct"] = _Array
    _NAMES[_core + ".multiarray", "scalar"] = _Scalar
    _NAMES[_core + ".numeric", "_frombuffer"] = _Buffer
for _kind in ("csc", "csr", "coo"):
    for _module in ("scipy.sparse", f"scipy.sparse.{_kind}", f"scipy.sparse._{_kind}"):
        for _class in ("matrix", "array"):
            _NAMES[_module, f"{_kind}_{_class}"] = type(f"_{_kind}", (_Sparse,), {"__slots__": (), "kind": _kind})
_TORCH = {("torch._utils", "_rebuild_tensor_v2"): _Tensor, ("torch.storage", "_load_from_bytes"): _Storage}


class _Reader(pickle.Unpickler):
    def __init__(self, stream, objects):
        super().__init__(stream, encoding="latin1")
        self.names = _NAMES | _TORCH if objects else _NAMES

    def find_class(self, module, name):
        if (module, name) not in self.names:
            raise Refused(f"{module}.{name}")
        return self.names[module, name]


def read_pickle(path, expected: str):
    """The content of a pickle file, of plain Python objects, numpy arrays and scipy sparse matrices.

    Raises:
        InputError: the file is missing, no pickle, damaged, or asks for anything else.
    """
    path = existing_file(path, expected)
    return _load(path, path.read_bytes(), expected, objects=False)


def read_object_npy(path, expected: str):
    """The content of an .npy file that may hold one Python object (a dict of arrays or torch tensors, as numpy.save writes it)."""
    path = existing_file(path, expected)
    raw = path.read_bytes()
    stream = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran, dtype = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version](stream)
        if dtype == object:
            found = None
        else:
            found = _from_bytes(raw[stream.tell() :], dtype, shape, fortran)
    except Exception as error:
        raise input_error(path, expected, f"a file that does not read as .npy ({one_line(error)})") from error
    return found if found is not None else _load(path, raw[stream.tell() :], expected, objects=True)


def _load(path: Path, raw: bytes, expected: str, objects: bool):
    try:
        _scan(raw)
        return _plain(_Reader(io.BytesIO(raw), objects).load(), {}, 0, objects)
    except Refused as error:
        raise input_error(
            path, f"{expected}, a pickle of arrays", f"one that asks for {error}, which is not run"
        ) from error
    except Exception as error:
        raise input_error(path, expected, f"a file that does not read as a pickle ({one_line(error)})") from error


def _scan(raw):
    """Walks through the instructions once: cut off or false ones raise here, and so does a memo slot so far out that making it takes gigabytes."""
    stream, count = io.BytesIO(raw), 0
    while True:
        code = stream.read(1).decode("latin1")
        if code not in _INSTRUCTIONS:
            raise ValueError(f"cut off after {count} instructions" if not code else f"no instruction {code!r}")
        name, argument = _INSTRUCTIONS[code].name, _INSTRUCTIONS[code].arg
        # Text of Python 2 holds escaped bytes, which pickletools takes for ASCII.
        value = None if argument is None else stream.readline() if name == "STRING" else argument.reader(stream)
        if "PUT" in name and int(value) > count:
            raise ValueError(f"memo slot {value} after {count} instructions")
        if name == "STOP":
            return
        count += 1


def _plain(value, done, depth, objects):
    if depth > _DEPTH:
        raise ValueError(f"nested deeper than {_DEPTH}")
    if not isinstance(value, (_Kept, dict, list, tuple)):
        if isinstance(value, type):
            raise Refused(f"the class {value.__name__}")
        return value
    if id(value) not in done:  # also what keeps a list of lists of the same lists from being walked over and over
        done[id(value)] = _converted(value, lambda part: _plain(part, done, depth + 1, objects), objects), value
    return done[id(value)][0]


def _converted(value, plain, objects):
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(v) for v in value)
    if isinstance(value, _Array):
        _, shape, dtype, fortran, data = value.state
        if _is_object(dtype):
            if not objects:
                raise Refused("an array of objects")
            return plain(data[0]) if shape == () else plain(list(data))
        return _from_bytes(data, _dtype(dtype), shape, fortran)
    if isinstance(value, _Buffer):
        data, dtype, shape, order = value.arguments
        return _from_bytes(data, _dtype(dtype), shape, order == "F")
    if isinstance(value, _Scalar):
        dtype, data = value.arguments
        return _from_bytes(data, _dtype(dtype), (), False)[()]
    if isinstance(value, _Sparse):
        return _sparse(value.kind, {k: plain(v) for k, v in value.state.items()})
    if isinstance(value, _Chumpy):
        return np.asarray(plain(value.state["x"]))
    if isinstance(value, _Set):
        return plain(list(value.arguments[0])) if value.arguments else []
    if isinstance(value, _Tensor):
        return _tensor(value)
    raise Refused(type(value).__name__.strip("_"))


def _is_object(dtype):
    return (
        isinstance(dtype, _Dtype) and bool(dtype.arguments) and str(dtype.arguments[0]).lstrip("<>|=").startswith("O")
    )


def _dtype(kept):
    if not isinstance(kept, _Dtype) or not kept.arguments or not _DTYPE.fullmatch(str(kept.arguments[0])):
        raise Refused(f"an array of {getattr(kept, 'arguments', None)}")
    dtype = np.dtype(kept.arguments[0])
    if kept.state is not None:
        _, order, base, names, fields, *_ = kept.state
        if base is not None or names is not None or fields is not None:
            raise Refused("an array of records")
        if order in (">", "<"):
            dtype = dtype.newbyteorder(order)
    return dtype


def _from_bytes(data, dtype, shape, fortran):
    data = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(data, (bytes, bytearray)):
        raise ValueError(f"an array made of a {type(data).__name__}")
    if (
        not isinstance(shape, tuple)
        or not all(isinstance(n, int) and n >= 0 for n in shape)
        or math.prod(shape) * dtype.itemsize != len(data)
    ):
        raise ValueError(f"an array of {shape} {dtype} in {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _sparse(kind, state):
    rows, columns = (int(n) for n in state.get("_shape", state.get("shape")))
    if kind == "coo":
        place = state["coords"] if "coords" in state else (state["row"], state["col"])
        return scipy.sparse.coo_matrix((state["data"], tuple(place)), (rows, columns))
    matrix = {"csc": scipy.sparse.csc_matrix, "csr": scipy.sparse.csr_matrix}[kind](
        (state["data"], state["indices"], state["indptr"]), (rows, columns)
    )
    matrix.check_format(full_check=True)  # its indices are used unchecked in compiled code otherwise
    return matrix


def _tensor(kept):
    storage, offset, size, stride = kept.arguments[:4]
    with warnings.catch_warnings():  # the file is made of a kind of storage that torch calls old
        warnings.simplefilter("ignore")
        # Torch's own reader of untrusted files; a storage is all that it may find.
        values = torch.load(io.BytesIO(storage.arguments[0]), weights_only=True)
        if not isinstance(values, torch.storage.TypedStorage):
            raise Refused(type(values).__name__)
        numbers = values.tolist()
    dense = tuple(math.prod(size[k + 1 :]) for k in range(len(size)))
    if tuple(stride) != dense or offset < 0 or any(n < 0 for n in size) or offset + math.prod(size) > len(numbers):
        raise ValueError(f"a tensor of {tuple(size)} in {len(numbers)} numbers")
    return np.array(numbers[offset : offset + math.prod(size)]).reshape(size)
