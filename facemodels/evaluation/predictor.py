"""How protocols call a method: on its device, without gradients."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.core.options import number
from facemodels.training.method import Method


def predictor(method: Method, name: str) -> Callable[[Tensor], Any]:
    """Return a method's function for crops from any device, without gradients.

    Args:
        method: The method.
        name: The name of the function: "landmarks" or "reconstruct".

    Returns:
        The function; it takes crops [N,3,S,S] to the method's device first.

    Raises:
        InputError: `method` has no such function (one that is no `FaceMethod`).
    """
    function = getattr(method, name, None)
    if function is None:
        raise InputError(
            f"this protocol scores faces where they are in the picture, and {method.name} gives no pose to place them "
            "with"
        )
    device = next(method.parameters()).device

    @torch.no_grad()
    def predict(crops: Tensor) -> Any:
        return function(crops.to(device))

    return predict


def add_limit(parser: ArgumentParser, what: str) -> None:
    """Add the argument --limit: the number of pictures to score, the first of the data set."""
    parser.add_argument("--limit", type=number(int, 1), metavar="N", help=f"score only the first N {what}")


def limited(names: list[str], limit: int | None) -> list[str]:
    """The first `limit` names; None takes all.

    Raises:
        InputError: limit is below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    return names[:limit]
