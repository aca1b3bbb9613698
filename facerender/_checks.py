"""Argument checks: each raises a ValueError or TypeError that names the argument, what came and what was expected."""

import os

import torch

from ._load import has_cuda_kernels

GEOMETRY = (torch.float32, torch.float64)
ATTRIBUTE = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
HALF = (torch.float16, torch.bfloat16)
CHECKED = os.environ.get("FACERENDER_CHECKS", "0") == "1"  # on CUDA, look at face indices too; that waits for the device


def describe(value) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"{type(value).__name__} {value!r}"


def shape_text(shape) -> str:
    return "[" + ",".join("..." if word is ... else str(word) for word in shape) + "]"


def check_tensor(name, value, shape, dtypes, sizes=None):
    """`shape` is a tuple: a word names a dimension, a number is a fixed size, and ... in front stands for any number of dimensions.
    `sizes` collects what the words were bound to; one bound before must agree, and "N|1" may also be 1."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor {shape_text(shape)}, got {describe(value)}")
    if value.dtype not in dtypes:
        wanted = " or ".join(str(d).removeprefix("torch.") for d in dtypes)
        raise TypeError(f"{name} must be {wanted} {shape_text(shape)}, got {describe(value)}")
    sizes = {} if sizes is None else sizes
    got, words = value.shape, shape
    if shape[0] is ...:
        words = shape[1:]
        got = got[len(got) - len(words) :]
    ok = len(got) == len(words)
    if ok:
        for word, size in zip(words, got):
            if isinstance(word, int):
                ok = ok and size == word
                continue
            if word == "N|1":
                if size == 1:
                    continue
                word = "N"
            if word in sizes:
                ok = ok and size == sizes[word]
            else:
                sizes[word] = size
    if not ok:
        bound = ", ".join(f"{k}={v}" for k, v in sizes.items() if k in shape or k + "|1" in shape)
        raise ValueError(f"{name} must be {shape_text(shape)}{f' with {bound}' if bound else ''}, got {describe(value)}")
    return sizes


def check_faces(faces, num_vertices=None):
    check_tensor("faces", faces, ("F", 3), (torch.int32,))
    if CHECKED and num_vertices is not None and faces.is_cuda and faces.numel() and not torch.compiler.is_compiling():
        low, high = int(faces.min()), int(faces.max())
        if low < 0 or high >= num_vertices:
            raise ValueError(f"faces must hold indices in 0..{num_vertices - 1}, got {low}..{high}")


def check_device(**tensors):
    first = first_name = None
    for name, t in tensors.items():
        if t is None:
            continue
        if first is None:
            first, first_name = t.device, name
        elif t.device != first:
            raise ValueError(f"{name} must be on the device of {first_name}, {first}, got {t.device}")
    if first.type == "cpu" or first.type == "meta":
        return
    if first.type != "cuda":
        raise ValueError(f"{first_name} must be on a cpu or cuda device, got {first}")
    if not torch.compiler.is_compiling() and not has_cuda_kernels():
        raise RuntimeError(
            f"{first_name} is on {first}, but this facerender was built without CUDA. Rebuild it where nvcc is found: "
            "FACERENDER_CUDA=1 pip install --no-build-isolation --force-reinstall --no-deps -e ."
        )


def check_same_dtype(**tensors):
    named = [(name, t) for name, t in tensors.items() if t is not None]
    first_name, first = named[0]
    for name, t in named[1:]:
        if t.dtype != first.dtype:
            raise TypeError(f"{name} must be {str(first.dtype).removeprefix('torch.')}, like {first_name}, got {describe(t)}")


def check_attributes_fit_geometry(name, attributes, geometry_name, geometry):
    if (geometry.dtype == torch.float64) != (attributes.dtype == torch.float64):
        raise TypeError(
            f"{name} must be {'float64' if geometry.dtype == torch.float64 else 'float32, float16 or bfloat16'} beside {geometry_name}, "
            f"which is {describe(geometry)}, got {describe(attributes)}"
        )


def check_size(size):
    if not (isinstance(size, (tuple, list, torch.Size)) and len(size) == 2 and all(isinstance(s, (int, torch.SymInt)) for s in size)):
        raise TypeError(f"size must be (height, width), two integers, got {describe(size)}")
    if any(s < 0 or s > 16384 for s in size):
        raise ValueError(f"size must have a height and width in 0..16384, got {tuple(size)}")
    return size[0], size[1]


def check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(repr(c) for c in choices)}, got {value!r}")
    return choices.index(value)


def full_precision(*tensors):
    """Inside autocast, 16-bit tensors as float32: autocast must not reach geometry."""
    out = []
    for t in tensors:
        if isinstance(t, torch.Tensor) and t.dtype in HALF and torch.is_autocast_enabled(t.device.type):
            t = t.float()
        out.append(t)
    return out if len(out) > 1 else out[0]


def deterministic() -> bool:
    return torch.are_deterministic_algorithms_enabled()
