"""Pickles read without running what is in them.

A pickle is a program that may call any function by name. Here it may use a short list of names, and each stands for a
class of this file that only records its arguments. The arrays are made from the records afterwards, once their sizes
and types have been checked against the bytes that are there. What can be read: numbers, strings, lists, dicts, numpy
arrays and scalars (of old and new numpy, of Python 2 and 3), scipy's sparse matrices, chumpy's arrays (in FLAME's
files; chumpy itself no longer installs) and, where a reader asks for them, object arrays and torch tensors. Any other
name ends the reading.
"""

import io
import math
import pickle
import pickletools
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import scipy.sparse
import torch

from facemodels.core.errors import one_line
from facemodels.io.files import existing_file, input_error, read_npy_header

_DEPTH = 32  # of nesting
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_DTYPE = re.compile(r"[<>|=]?([biufSU])\d{1,4}")


def read_pickle(path: str | Path, expected: str) -> Any:
    """Read a pickle of plain Python objects, numpy arrays and scipy sparse matrices.

    Args:
        path: the file.
        expected: what it should be, for the message.

    Raises:
        InputError: the file is missing, no pickle, damaged, or asks for anything else.
    """
    path = existing_file(path, expected)
    return _load(path, path.read_bytes(), expected, objects=False)


def read_object_npy(path: str | Path, expected: str) -> Any:
    """Read an .npy file that may hold one Python object (a dict of arrays or torch tensors, as numpy.save writes it).

    Args:
        path: the file.
        expected: what it should be, for the message.

    Returns:
        The array, or the object.

    Raises:
        InputError: the file is missing, damaged, or its pickle asks for anything else.
    """
    path = existing_file(path, expected)
    raw = path.read_bytes()
    stream = io.BytesIO(raw)
    try:
        shape, fortran, dtype = read_npy_header(stream)
        content = raw[stream.tell() :]
        if dtype != np.dtype(object):
            return _from_bytes(content, dtype, shape, fortran)
    except Exception as error:  # whatever numpy raises on a damaged header
        raise input_error(path, expected, f"a file that does not read as .npy ({one_line(error)})") from error
    return _load(path, content, expected, objects=True)


class Refused(Exception):
    """The pickle asks for something that is not on the list."""


# ------------------------------------------------- what the names of a pickle stand for


class _Record:
    """A call of a pickle, recorded and not executed."""

    __slots__ = ("arguments", "state")
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> Any:  # subclasses may return something else
        self = object.__new__(cls)
        self.arguments, self.state = arguments, None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Record):
    __slots__ = ()


class _Buffer(_Record):
    __slots__ = ()


class _Scalar(_Record):
    __slots__ = ()


class _Dtype(_Record):
    __slots__ = ()


class _Sparse(_Record):
    __slots__ = ()
    kind: str


class _Chumpy(_Record):
    __slots__ = ()


class _Set(_Record):
    __slots__ = ()


class _Storage(_Record):
    __slots__ = ()


class _Tensor(_Record):
    __slots__ = ()


class _Name(_Record):
    """A class that is only named, as an argument."""

    __slots__ = ()


class _Reconstructor(_Record):
    """copyreg's way of making an instance without calling the class."""

    __slots__ = ()

    def __new__(cls, wanted: Any, base: Any, state: Any) -> Any:
        if not (isinstance(wanted, type) and issubclass(wanted, _Record)):
            raise Refused("copyreg._reconstructor")
        return wanted.__new__(wanted)


class _Encoded(_Record):
    """Bytes in pickles of the old protocols: text and "latin1"."""

    __slots__ = ()

    def __new__(cls, text: str, encoding: str) -> Any:
        if encoding != "latin1":
            raise Refused(f"_codecs.encode({encoding!r})")
        return text.encode("latin1")


class _NoBytes(_Record):
    """bytes(), as the data of an empty array."""

    __slots__ = ()

    def __new__(cls) -> Any:
        return b""


_NAMES: dict[tuple[str, str], type] = {
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


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: IO[bytes], objects: bool) -> None:
        super().__init__(stream, encoding="latin1")
        self.names = _NAMES | _TORCH if objects else _NAMES

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in self.names:
            raise Refused(f"{module}.{name}")
        return self.names[module, name]


# ------------------------------------------------------------------------ reading


def _load(path: Path, raw: bytes, expected: str, objects: bool) -> Any:
    try:
        _scan(raw)
        return _converted(_Unpickler(io.BytesIO(raw), objects).load(), {}, 0, objects)
    except Refused as error:
        found = f"one that asks for {error}, which is not run"
        raise input_error(path, f"{expected}, a pickle of arrays", found) from error
    except Exception as error:  # whatever pickle raises on a damaged file
        raise input_error(path, expected, f"a file that does not read as a pickle ({one_line(error)})") from error


def _scan(raw: bytes) -> None:
    """Walk through the instructions once.

    A file that is cut off or has false instructions raises here, and so does a memo slot so far out that allocating it
    would take gigabytes.
    """
    stream, count = io.BytesIO(raw), 0
    while True:
        code = stream.read(1).decode("latin1")
        if code not in _OPCODES:
            raise ValueError(f"cut off after {count} instructions" if not code else f"no instruction {code!r}")
        name, argument = _OPCODES[code].name, _OPCODES[code].arg
        value: Any = None
        if argument is not None:
            # Strings of Python 2 hold escaped bytes, which pickletools takes for ASCII.
            value = stream.readline() if name == "STRING" else argument.reader(stream)
        if "PUT" in name and int(value) > count:
            raise ValueError(f"memo slot {value} after {count} instructions")
        if name == "STOP":
            return
        count += 1


def _converted(value: Any, done: dict[int, tuple[Any, Any]], depth: int, objects: bool) -> Any:
    """What a loaded value stands for.

    Args:
        value: what the unpickler made, with records in it.
        done: id of a value -> (what it stands for, the value, which keeps the id valid). Without it, a list of lists of
            the same lists would be walked exponentially often.
        depth: of the nesting.
        objects: whether object arrays are allowed.
    """
    if depth > _DEPTH:
        raise ValueError(f"nested deeper than {_DEPTH}")
    if not isinstance(value, (_Record, dict, list, tuple)):
        if isinstance(value, type):
            raise Refused(f"the class {value.__name__}")
        return value
    if id(value) not in done:
        done[id(value)] = _convert(value, lambda part: _converted(part, done, depth + 1, objects), objects), value
    return done[id(value)][0]


def _convert(value: Any, convert: Callable[[Any], Any], objects: bool) -> Any:
    """What a record or container stands for; `convert` does the same to a part of it."""
    if isinstance(value, dict):
        return {convert(k): convert(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(convert(v) for v in value)
    if isinstance(value, _Array):
        _, shape, dtype, fortran, data = value.state
        if _is_object(dtype):
            if not objects:
                raise Refused("an array of objects")
            return convert(data[0]) if shape == () else convert(list(data))
        return _from_bytes(data, _dtype(dtype), shape, fortran)
    if isinstance(value, _Buffer):
        data, dtype, shape, order = value.arguments
        return _from_bytes(data, _dtype(dtype), shape, order == "F")
    if isinstance(value, _Scalar):
        dtype, data = value.arguments
        return _from_bytes(data, _dtype(dtype), (), False)[()]
    if isinstance(value, _Sparse):
        return _sparse(value.kind, {k: convert(v) for k, v in value.state.items()})
    if isinstance(value, _Chumpy):
        return np.asarray(convert(value.state["x"]))
    if isinstance(value, _Set):
        return convert(list(value.arguments[0])) if value.arguments else []
    if isinstance(value, _Tensor):
        return _tensor(value)
    raise Refused(type(value).__name__.strip("_"))


def _is_object(dtype: Any) -> bool:
    """Whether a recorded dtype is that of objects."""
    return (
        isinstance(dtype, _Dtype) and bool(dtype.arguments) and str(dtype.arguments[0]).lstrip("<>|=").startswith("O")
    )


def _dtype(record: Any) -> np.dtype:
    """The dtype of a record: numbers or fixed-size strings, no records and no subarrays."""
    if not isinstance(record, _Dtype) or not record.arguments or not _DTYPE.fullmatch(str(record.arguments[0])):
        raise Refused(f"an array of {getattr(record, 'arguments', None)}")
    dtype: np.dtype = np.dtype(record.arguments[0])
    if record.state is not None:
        _, order, base, names, fields, *_ = record.state
        if base is not None or names is not None or fields is not None:
            raise Refused("an array of records")
        if order in (">", "<"):
            dtype = dtype.newbyteorder(order)
    return dtype


def _from_bytes(data: Any, dtype: np.dtype, shape: Any, fortran: bool) -> np.ndarray:
    """An array over bytes, whose number must be that of the shape."""
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


def _sparse(kind: str, state: dict[str, Any]) -> Any:
    """A scipy sparse matrix of the attributes that were pickled."""
    rows, columns = (int(n) for n in (state["_shape"] if "_shape" in state else state["shape"]))
    if kind == "coo":
        place = state["coords"] if "coords" in state else (state["row"], state["col"])
        return scipy.sparse.coo_matrix((state["data"], tuple(place)), (rows, columns))
    matrix = {"csc": scipy.sparse.csc_matrix, "csr": scipy.sparse.csr_matrix}[kind](
        (state["data"], state["indices"], state["indptr"]), (rows, columns)
    )
    matrix.check_format(full_check=True)  # compiled code uses its indices unchecked
    return matrix


def _tensor(record: _Tensor) -> np.ndarray:
    """A dense torch tensor, as an array."""
    storage, offset, size, stride = record.arguments[:4]
    with warnings.catch_warnings():  # the file holds a kind of storage that torch deprecates
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
