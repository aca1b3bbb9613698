"""What the autograd functions of the ops share: a cheap call, and a backward pass that refuses a second derivative."""

import inspect
from collections.abc import Callable
from typing import Any

import torch


class Op(torch.autograd.Function):
    """An autograd function of the `setup_context` form, which torch.func and torch.compile understand."""

    generate_vmap_rule = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Store the signature of `forward`: torch asks for it at every call, and computing it is slow."""
        super().__init_subclass__(**kwargs)
        signature = inspect.signature(cls.forward)
        cls.forward.__signature__ = signature  # type: ignore[attr-defined]  # functions take attributes

    @classmethod
    def call(cls, *arguments: Any) -> Any:
        """Return `apply(*arguments)`, without the cost of autograd where nothing needs a gradient."""
        if (
            torch.compiler.is_compiling()
            or (torch.is_grad_enabled() and any(isinstance(a, torch.Tensor) and a.requires_grad for a in arguments))
            or torch._C._are_functorch_transforms_active()
            or torch.autograd.forward_ad._current_level >= 0  # apply then says that there is no forward mode
        ):
            return cls.apply(*arguments)
        return cls.forward(*arguments)


def no_double_backward(op: Callable[..., Any], *arguments: Any) -> Any:
    """Return `op(*arguments)`, whose own derivative raises, under autograd and under torch.func.

    torch's `once_differentiable` is silent under torch.func. A compiled graph has no second derivative; torch says so
    itself.
    """
    if torch.compiler.is_compiling():
        return op(*arguments)
    return _NoDoubleBackward.call(op, *arguments)


class _NoDoubleBackward(Op):
    @staticmethod
    def forward(op: Callable[..., Any], *arguments: Any) -> Any:
        return op(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError("facerender's ops can be differentiated once, and a second derivative was asked for")
