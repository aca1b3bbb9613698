"""Evaluation protocols, one file each, the measures that they share (`landmarks`) and what they give back (`report`). No protocol knows a method: what is scored is a
function of pictures.

A protocol's module has `configure(parser)`, which adds its own arguments, and `run(method, data, options) -> Report`; `table(results)` where its results are more
readable than a list.
"""

import torch

from facemodels.core.errors import InputError


def applied(method, name: str):
    """The method's function of that name, "landmarks" or "reconstruct", for pictures from anywhere: they are taken to its device, and no gradients are kept.

    Raises:
        InputError: the method has no such function.
    """
    function = getattr(method, name, None)
    if function is None:
        raise InputError(
            f"this protocol scores faces where they are in the picture, and {method.name} gives no pose to place them with"
        )
    device = next(method.parameters()).device

    @torch.no_grad()
    def apply(crops):
        return function(crops.to(device))

    return apply
