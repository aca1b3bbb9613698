"""Argument checks. Each raises a ValueError or TypeError that names the argument, what was expected and what came."""

import functools
import os
import warnings
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any, ParamSpec, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from ._load import REBUILD, has_cuda_kernels

GEOMETRY = (torch.float32, torch.float64)
ATTRIBUTE = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
HALF = (torch.float16, torch.bfloat16)
# Checks face indices on CUDA too, which waits for the device.
CHECK_CUDA_INDICES = os.environ.get("FACERENDER_CHECKS", "0") == "1"
_COLORS = ("background", "albedo", "texture")  # arguments that hold colors
_MOST_SHOWN = 6  # items of a container in a message
_LONGEST = 80  # characters of a value in a message

P = ParamSpec("P")
T = TypeVar("T")


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype without the leading "torch."."""
    return str(dtype).removeprefix("torch.")


def describe(value: object) -> str:
    """Describe an argument in an error message: dtype and shape of a tensor or array, type and value of anything else.

    Values are cut where they are long: a message is a sentence, whatever it is about.
    """
    if isinstance(value, torch.Tensor):
        return f"{dtype_name(value.dtype)} {list(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a numpy array {value.dtype} {list(value.shape)}; torch.from_numpy makes it a tensor"
    if isinstance(value, (list, tuple, dict, set, frozenset)) and not hasattr(value, "_fields"):
        shown = _brief(value)
        return shown if shown.startswith(type(value).__name__) else f"{type(value).__name__} {_cut(shown)}"
    return f"{type(value).__name__} {_cut(repr(value))}"


def brief(value: object) -> str:
    """A value in an error message whose words say what kind of value is meant: its repr, cut where it is long."""
    return _cut(_brief(value))


def _cut(text: str) -> str:
    """A text in one line of at most `_LONGEST` characters."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def brief_repr(cls: type[T]) -> type[T]:
    """Give a dataclass or named tuple a `repr` of one line: dtypes and shapes of its tensors and arrays, not their
    numbers; the sizes of long lists; and nothing of members that are None."""
    names = getattr(cls, "_fields", None) or tuple(cls.__dataclass_fields__)  # type: ignore[attr-defined] # of those

    def __repr__(self: object) -> str:
        values = {name: getattr(self, name) for name in names}
        shown = ", ".join(f"{name}={_brief(value)}" for name, value in values.items() if value is not None)
        return f"{cls.__name__}({shown})"

    cls.__repr__ = __repr__  # type: ignore[method-assign] # a method all the same
    return cls


def _brief(value: object) -> str:
    """A value inside a `repr` of one line."""
    if isinstance(value, torch.Tensor):
        return describe(value)
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    if isinstance(value, (list, tuple, dict, set, frozenset)) and not hasattr(value, "_fields"):
        if len(value) > _MOST_SHOWN:
            return f"{type(value).__name__} of {len(value)}"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key!r}: {_brief(item)}" for key, item in value.items()) + "}"
        items = ", ".join(map(_brief, value))
        return f"[{items}]" if isinstance(value, list) else f"({items})"
    return repr(value)


def shape_text(shape: Sequence[str | int | EllipsisType]) -> str:
    """Write an expected shape as the docstrings do: [N,V,3]."""
    return "[" + ",".join("..." if word is ... else str(word) for word in shape) + "]"


def check_tensor(
    name: str,
    value: object,
    shape: tuple[str | int | EllipsisType, ...],
    dtypes: Sequence[torch.dtype],
    sizes: dict[str, int] | None = None,
) -> dict[str, int]:
    """Check that an argument is a tensor of a shape and of one of some dtypes.

    Args:
        name: the argument's name in error messages.
        value: the argument.
        shape: expected shape. A word names a dimension, "N|1" is N or 1, a number is a fixed size, and ... in front
            stands for any number of dimensions.
        dtypes: allowed dtypes.
        sizes: sizes that words are bound to already; the tensor must agree with them, and new words are added.

    Returns:
        `sizes`, or a new dictionary.

    Raises:
        TypeError: the argument is no tensor, or of another dtype.
        ValueError: the shape does not fit.
    """
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor {shape_text(shape)}, got {describe(value)}")
    if value.dtype not in dtypes:
        wanted = " or ".join(dtype_name(d) for d in dtypes)
        raise TypeError(
            f"{name} must be {wanted} {shape_text(shape)}, got {describe(value)}{_cast(name, value, dtypes)}"
        )
    sizes = {} if sizes is None else sizes
    got: Sequence[int] = value.shape
    words = shape
    if shape[0] is ...:
        words = shape[1:]
        got = got[len(got) - len(words) :]
    ok = len(got) == len(words)
    if ok:
        for word, size in zip(words, got, strict=True):
            if isinstance(word, int):
                ok = ok and size == word
                continue
            if word == "N|1":
                if size == 1:
                    continue
                word = "N"
            assert isinstance(word, str)  # ... stands in front alone
            if word in sizes:
                ok = ok and size == sizes[word]
            else:
                sizes[word] = size
    if not ok:
        bound = ", ".join(f"{k}={v}" for k, v in sizes.items() if k in shape or k + "|1" in shape)
        where = f" with {bound}" if bound else ""
        raise ValueError(f"{name} must be {shape_text(shape)}{where}, got {describe(value)}")
    return sizes


def _cast(name: str, value: Tensor, dtypes: Sequence[torch.dtype]) -> str:
    """What brings a tensor to one of some dtypes; "" where a cast would lose its numbers."""
    if torch.int32 in dtypes:
        loses = value.is_floating_point() or value.is_complex() or value.dtype == torch.bool
        return "" if loses else f"; give {name}.int()"
    if name in _COLORS and value.dtype == torch.uint8:
        return f"; give color.to_linear({name}.float() / 255), as colors are linear light"
    return "" if value.is_complex() else f"; give {name}.float()"


def check_faces(faces: object, num_vertices: int | None = None) -> None:
    """Check a face list [F,3]; with FACERENDER_CHECKS=1 in the environment, also its indices on CUDA.

    The ops check indices on the CPU themselves.
    """
    check_tensor("faces", faces, ("F", 3), (torch.int32,))
    assert isinstance(faces, Tensor)
    if not CHECK_CUDA_INDICES or num_vertices is None or torch.compiler.is_compiling():
        return
    if faces.is_cuda and faces.numel():
        low, high = int(faces.min()), int(faces.max())
        if low < 0 or high >= num_vertices:
            raise ValueError(f"faces must hold indices in 0..{num_vertices - 1}, got {low}..{high}")


def check_device(**tensors: Tensor | None) -> None:
    """Check that all tensors are on one device, the CPU or a GPU that this build has kernels for; None is skipped."""
    first = None
    first_name = ""
    for name, t in tensors.items():
        if t is None:
            continue
        if first is None:
            first, first_name = t.device, name
        elif t.device != first:
            raise ValueError(f"{name} must be on the device of {first_name}, {first}, got {t.device}")
    if first is None or first.type == "cpu" or first.type == "meta":
        return
    if first.type != "cuda":
        raise ValueError(f"{first_name} must be on a cpu or cuda device, got {first}")
    if not torch.compiler.is_compiling() and not has_cuda_kernels():
        raise RuntimeError(
            f"{first_name} is on {first}, but this facerender was built without CUDA. Rebuild it where nvcc is found: "
            f"FACERENDER_CUDA=1 {REBUILD}"
        )


def check_same_dtype(**tensors: Tensor | None) -> None:
    """Check that all tensors have the dtype of the first; None is skipped."""
    named = [(name, t) for name, t in tensors.items() if t is not None]
    first_name, first = named[0]
    for name, t in named[1:]:
        if t.dtype != first.dtype:
            raise TypeError(
                f"{name} must be {dtype_name(first.dtype)}, like {first_name}, got {describe(t)}; "
                f"give {name}.to({first_name}.dtype)"
            )


def check_attributes_fit_geometry(name: str, attributes: Tensor, geometry_name: str, geometry: Tensor) -> None:
    """Check that attributes are float64 beside float64 geometry, and of 16 or 32 bits beside float32."""
    if (geometry.dtype == torch.float64) != (attributes.dtype == torch.float64):
        wanted = "float64" if geometry.dtype == torch.float64 else "float32, float16 or bfloat16"
        raise TypeError(
            f"{name} must be {wanted} beside {geometry_name}, which is {describe(geometry)}, got "
            f"{describe(attributes)}; give {name}.to({geometry_name}.dtype)"
        )


def check_size(size: object) -> tuple[int, int]:
    """Check an image size (H, W) in pixels, and return it."""
    if not (
        isinstance(size, (tuple, list, torch.Size))
        and len(size) == 2
        and all(isinstance(s, (int, torch.SymInt)) for s in size)
    ):
        raise TypeError(f"size must be (height, width), two integers, got {describe(size)}")
    if any(s < 0 or s > 16384 for s in size):
        raise ValueError(f"size must have a height and width in 0..16384, got {tuple(size)}")
    return size[0], size[1]


def check_choice(name: str, value: str, choices: Sequence[str]) -> int:
    """Check that an argument is one of some words, and return its index, which is how C++ knows it."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(repr(c) for c in choices)}, got {brief(value)}")
    return choices.index(value)


@overload
def full_precision(value: Tensor) -> Tensor: ...


@overload
def full_precision(value: None) -> None: ...


def full_precision(value: Tensor | None) -> Tensor | None:
    """Return a 16-bit tensor inside autocast as float32, anything else as it is: autocast must not reach geometry."""
    if isinstance(value, torch.Tensor) and value.dtype in HALF and torch.is_autocast_enabled(value.device.type):
        return value.float()
    return value


def deprecated_keyword(old: str, new: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function accept the former name of a keyword argument, with a DeprecationWarning.

    A compiled graph accepts it too, without the warning.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def accept(*args: P.args, **kwargs: P.kwargs) -> T:
            if old in kwargs:
                named: dict[str, Any] = kwargs
                if new in named:
                    raise TypeError(f"{function.__name__}() got both {new} and {old}, its former name")
                if not torch.compiler.is_compiling():
                    message = f"{function.__name__}(): the argument {old} is now called {new}"
                    warnings.warn(message, DeprecationWarning, stacklevel=2)
                named[new] = named.pop(old)
            return function(*args, **kwargs)

        return accept

    return decorate
