"""Backward passes that can be run, but not differentiated again: neither by autograd nor by torch.func.

torch's once_differentiable does the first only; under torch.func a second derivative would silently lack its terms.
"""

import torch


def once(op, *arguments):
    """op(*arguments), whose own derivative raises. (A compiled graph has no second derivative; torch says so itself.)"""
    if torch.compiler.is_compiling():
        return op(*arguments)
    return _Once.apply(op, *arguments)


class _Once(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(op, *arguments):
        return op(*arguments)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError("facerender's ops can be differentiated once, and a second derivative was asked for")
