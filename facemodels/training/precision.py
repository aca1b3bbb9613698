"""Compilation and bfloat16, for the networks of a method alone.

The method around them, with its batches, its renderer and its losses, runs as it is written, in float32.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from facemodels.core.errors import InputError
from facemodels.networks.norm import SharedBatchNorm
from facemodels.training.config import Config


def networks_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the networks of a method: its submodules, and those in lists and dicts of networks."""
    for child in module.children():
        if type(child).forward is nn.Module.forward:  # a list or a dict
            yield from networks_of(child)
        else:
            yield child


@contextmanager
def optimized_networks(method: nn.Module, config: Config, device: torch.device) -> Iterator[None]:
    """Compile the networks and let them train in bfloat16, as the settings say, while the context lasts."""
    networks = list(networks_of(method))
    for network in networks:
        if config.compile:
            for inner in network.modules():
                if isinstance(inner, SharedBatchNorm):
                    # Its gradient waits for other processes, which the compiler cannot follow.
                    _set_forward(inner, torch.compiler.disable(inner.forward))
            # Not network.compile(), which ignores torch's own classes such as nn.Sequential.
            _set_forward(network, torch.compile(network.forward))
        if config.precision == "bfloat16":
            _set_forward(network, _in_bfloat16(network, network.forward, device.type))
    try:
        yield
    finally:
        for network in networks:
            network.__dict__.pop("forward", None)


def _set_forward(network: nn.Module, forward: Callable[..., Any]) -> None:
    """Replace the forward of one object; of its class it stays what it is."""
    network.__dict__["forward"] = forward


def _in_bfloat16(network: nn.Module, forward: Callable[..., Any], device_type: str) -> Callable[..., Any]:
    def autocast_forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device_type, torch.bfloat16, enabled=network.training):
            return forward(*args, **kwargs)

    return autocast_forward


@contextmanager
def compiler_errors() -> Iterator[None]:
    """Turn an error of torch.compile into an InputError of one sentence."""
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        first = " ".join(str(error).strip().split("\n\n")[0].split())
        raise InputError(f"compile=true: torch.compile failed ({first}); compile=false trains without it") from error
