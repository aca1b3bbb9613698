"""What the ops' autograd functions share: a cheap call, and a backward pass that cannot be differentiated again."""

import inspect

import torch


class Op(torch.autograd.Function):
    """An autograd function of the setup_context form, which torch.func and torch.compile understand."""

    generate_vmap_rule = True

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.forward.__signature__ = inspect.signature(cls.forward)  # torch asks for it at every call, which is slow to work out

    @classmethod
    def call(cls, *arguments):
        """apply(*arguments), without autograd's cost where nothing is to be differentiated."""
        if (
            torch.compiler.is_compiling()
            or (torch.is_grad_enabled() and any(isinstance(a, torch.Tensor) and a.requires_grad for a in arguments))
            or torch._C._are_functorch_transforms_active()
            or torch.autograd.forward_ad._current_level >= 0  # apply says that there is no forward mode
        ):
            return cls.apply(*arguments)
        return cls.forward(*arguments)


def once(op, *arguments):
    """op(*arguments), whose own derivative raises, under autograd and under torch.func (where torch's once_differentiable is silent).

    A compiled graph has no second derivative; torch says so itself.
    """
    if torch.compiler.is_compiling():
        return op(*arguments)
    return _Once.call(op, *arguments)


class _Once(Op):
    @staticmethod
    def forward(op, *arguments):
        return op(*arguments)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError("facerender's ops can be differentiated once, and a second derivative was asked for")
