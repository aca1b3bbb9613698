"""A CUDA device for tests where there is none: tensors on the CPU that say that they are on cuda:0.

A training step within `pretended_cuda` shows where it mixes devices and where it waits for the GPU. What is made on or
moved to "cuda" is a `Pretended`; an operation on tensors of both devices fails as CUDA's does. What would make the host
wait for the device (a number read, a copy that is not `non_blocking`, constants from Python) is noted with its line of
code. Kernels are the CPU's, so nothing is shown about CUDA's.
"""

import contextlib
import traceback
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda:0")
ROOT = Path(__file__).parents[1]
FROM_PYTHON = {torch.tensor, torch.as_tensor, Tensor.new_tensor}
READS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "_linalg_svd",
    "linalg_eig",
    "_linalg_eigh",  # decompositions read whether they converged
}


class Pretended(Tensor):
    @staticmethod
    def __new__(cls, real):
        made = Tensor._make_wrapper_subclass(
            cls,
            real.shape,
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device="meta",
        )
        made.beneath = real
        return made

    device = property(lambda self: CUDA)
    is_cuda, is_cpu, is_meta = True, False, False

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _Dispatch.current(func, types, args, kwargs)

    def __repr__(self, **_):
        return f"Pretended({self.beneath!r})"


def on_cuda(device) -> bool:
    # torch takes a `Pretended` for a tensor on the device "meta".
    return device is not None and torch.device(device).type in ("cuda", "meta")


class _Dispatch(TorchDispatchMode):
    """Every operation: with its real tensors, after a look at where they are."""

    current = None

    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self(func, types, args, kwargs)

    def __call__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        there = [t for t in tensors if isinstance(t, Pretended)]
        here = [t for t in tensors if not isinstance(t, Pretended) and t.dim()]
        device = kwargs.get("device")
        wrapped = bool(there) if device is None else on_cuda(device)
        if name in ("_to_copy", "copy_"):
            crosses = bool(there) and bool(here) if name == "copy_" else bool(there) != wrapped
            if crosses and not (args[2:] or [kwargs.get("non_blocking")])[0]:
                self.wait(name)
        elif name in ("index", "index_put", "index_put_", "_index_put_impl_"):  # copies indices from the CPU
            if there and not isinstance(args[0], Pretended):
                raise RuntimeError(f"{func}: indices on cuda:0 of a tensor on the CPU")
            if there and here:
                self.wait("indices of the CPU")
            if there and any(t.dtype in (torch.bool, torch.uint8) for t in args[1] if t is not None):
                self.wait("a mask as index")
        elif there and here:
            found = [(type(t).__name__, t.dtype, list(t.shape)) for t in tensors]
            raise RuntimeError(f"{func}: tensors on cuda:0 and on the CPU: {found}")
        elif there and name in READS:
            self.wait(name)
        if device is not None:
            kwargs = kwargs | {"device": "cpu"}
        with no_dispatch():
            found = func(*tree_map(_real, args), **tree_map(_real, kwargs))
        if not wrapped or name == "_local_scalar_dense":
            return found
        same = {id(t.beneath): t for t in there}
        return tree_map(
            lambda t: same.get(id(t)) if id(t) in same else Pretended(t) if isinstance(t, Tensor) else t, found
        )

    def wait(self, what):
        frames = [
            f for f in traceback.extract_stack() if Path(f.filename).is_relative_to(ROOT) and f.filename != __file__
        ]
        where = (
            f"{Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].lineno} {frames[-1].line}" if frames else "?"
        )
        self.waits.append((what, where))


def _real(value):
    return value.beneath if isinstance(value, Pretended) else value


class _Function(TorchFunctionMode):
    """What torch would look for the device for before an operation begins: constants, factories, moves."""

    def __init__(self, dispatch):
        super().__init__()
        self.dispatch = dispatch

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is Tensor.to:
            return self.moved(*args, **kwargs)
        if func in (Tensor.cpu, Tensor.numpy, Tensor.tolist) and isinstance(args[0], Pretended):
            self.dispatch.wait(func.__name__)
            found = args[0].detach().beneath
            return found if func is Tensor.cpu else func(found)
        if func is Tensor.new_tensor and isinstance(args[0], Pretended):
            kwargs.setdefault("device", CUDA)
            func, args = torch.tensor, args[1:]
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], Pretended):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(self.moved(torch.tensor(i), CUDA) if isinstance(i, list) else i for i in index)
            args = (args[0], index, *args[2:])
        if on_cuda(kwargs.get("device")):
            wanted = kwargs.pop("device")
            if any(isinstance(a, Pretended) for a in args):
                return func(*args, **kwargs)
            made = func(*args, **kwargs, device="cpu")
            return self.moved(made, wanted, non_blocking=func not in FROM_PYTHON)
        return func(*args, **kwargs)

    def moved(
        self, x, *args, device=None, dtype=None, non_blocking=False, copy=False, memory_format=torch.preserve_format
    ):
        if args and isinstance(args[0], Tensor):
            device, dtype, args = args[0].device, args[0].dtype, args[1:]
        elif args and isinstance(args[0], torch.dtype):
            dtype, args = args[0], args[1:]
        elif args:
            device, args = args[0], args[1:]
            if args and not isinstance(args[0], bool):
                dtype, args = args[0], args[1:]
        non_blocking = non_blocking or bool(args) and args[0]
        dtype = dtype or x.dtype
        if device is None or on_cuda(device) == isinstance(x, Pretended):
            return x.to(dtype=dtype, copy=copy, memory_format=memory_format)
        return torch.ops.aten._to_copy(
            x,
            dtype=dtype,
            device="meta" if on_cuda(device) else "cpu",
            non_blocking=non_blocking,
            memory_format=memory_format,
        )


@contextlib.contextmanager
def pretended_cuda():
    """Yields a list, to which (what waits, "file:line code") are added."""
    waits = []
    dispatch = _Dispatch.current = _Dispatch(waits)
    patches = [
        mock.patch("torch.cuda.is_available", lambda: True),
        mock.patch("torch.cuda.is_bf16_supported", lambda *_, **__: True),
        mock.patch("torch.cuda.get_rng_state", lambda *_: torch.empty(0, dtype=torch.uint8)),
        mock.patch("torch.cuda.is_current_stream_capturing", lambda: False),
        mock.patch("facerender._checks.has_cuda_kernels", lambda: True),
    ]
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        stack.enter_context(dispatch)
        stack.enter_context(_Function(dispatch))
        yield waits
