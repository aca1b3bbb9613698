"""Weights from files, loaded by name. No code in a file is executed."""

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from facemodels.core.errors import InputError, one_line
from facemodels.io.files import existing_file, input_error
from facemodels.networks.matconvnet import read_matconvnet
from facemodels.networks.vgg import BLOCKS, MEAN, VGGFace

# Normalization that torchvision's weights expect, of RGB images in 0..1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EXPECTED = "weights as .safetensors, as .pth, .pt or .tar of torch.save, or as VGG-Face's .mat"


def load_weights(module: nn.Module, path: str | Path, entry: str | None = None, skip: tuple[str, ...] = ()) -> None:
    """Load a module's weights by name: all of them, or the module stays as it was.

    Weights that torchvision publishes load into the trunks of the same name (with skip=("fc",) for other outputs), and
    its VGG-16 into `VGGFace`.

    Args:
        module: what gets the weights.
        path: the file, see `read_weights`.
        entry: the key of the weights in a checkpoint that holds several, see `read_weights`.
        skip: prefixes of names that are not loaded, see `fill`.

    Raises:
        InputError: as of `read_weights` and `fill`.
    """
    fill(module, read_weights(path, entry), path, skip)


def fill(module: nn.Module, found: dict[str, Tensor], path: str | Path, skip: tuple[str, ...] = ()) -> None:
    """Copy the weights that `read_weights` found into a module: all of them, or it stays as it was.

    Where the file's first convolution has 3 input channels and the module's more (a landmark channel), the weights of
    the further channels become zero: the network then starts as the one in the file, and learns to use them. Counts of
    batches (num_batches_tracked) may be absent, as in old files.

    Args:
        module: what gets the weights.
        found: name -> weights.
        path: the file they are from, for error messages.
        skip: prefixes of names that are not taken from the file and keep their values in the module; ("fc",) for
            another number of outputs, or for the classifier in VGG-Face's file.

    Raises:
        InputError: weights are missing, unknown, of another shape or not finite; the message has the file and the
            names.
    """
    if isinstance(module, VGGFace) and "features.0.weight" in found:
        found = _from_torchvision(path, found)
    found = {name: value for name, value in found.items() if not name.startswith(skip)}
    wanted = {name: value for name, value in module.state_dict().items() if not name.startswith(skip)}
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    unknown = [name for name in found if name not in wanted]
    if missing or unknown:
        sides = ([f"without {_some(missing)}"] if missing else []) + (
            [f"with {_some(unknown)}, which it does not have"] if unknown else []
        )
        raise input_error(
            path,
            f"the {len(wanted)} weights of {type(module).__name__}",
            f"a file {' and '.join(sides)}; skip=(PREFIX, ...) in Python leaves out what does not matter",
        )
    first = next((name for name, p in module.named_parameters() if p.dim() == 4), None)
    if first in found:
        found[first] = _with_further_channels(found[first], wanted[first])
    shapes = [
        f"{name} {list(value.shape)} for {list(wanted[name].shape)}"
        for name, value in found.items()
        if value.shape != wanted[name].shape
    ]
    if shapes:
        raise input_error(
            path,
            f"the shapes of {type(module).__name__}",
            f"{_some(shapes)}; skip=(PREFIX, ...) in Python leaves out what does not matter",
        )
    broken = [name for name, value in found.items() if not torch.isfinite(value).all()]
    if broken:
        raise input_error(path, "finite weights", f"NaN or infinite numbers in {_some(broken)}")
    module.load_state_dict(found, strict=False)


def _with_further_channels(weight: Tensor, like: Tensor) -> Tensor:
    """Pad a first convolution of 3 input channels with zeros to those of `like`."""
    if weight.dim() != 4 or weight.shape[1] != 3 or like.shape[1] <= 3:
        return weight
    return torch.cat([weight, weight.new_zeros(len(weight), like.shape[1] - 3, *weight.shape[2:])], 1)


def _from_torchvision(path: str | Path, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert torchvision's VGG-16 to VGG-Face's layers, without the classifier.

    It expects images in 0..1 less a mean, divided by a standard deviation; VGG-Face's trunk expects 0..255 less another
    mean. The first layer's weights compensate (except at the border, where padding stands for another gray).
    """
    convolutions = sorted(
        {
            int(name.split(".")[1])
            for name in found
            if name.startswith("features.") and name.endswith(".weight") and found[name].dim() == 4
        }
    )
    layers = [f"conv{block}_{k}" for block, (_, count) in enumerate(BLOCKS, 1) for k in range(1, count + 1)]
    if len(convolutions) != len(layers):
        raise input_error(
            path, f"VGG-16, of {len(layers)} convolutions without batch norm", f"{len(convolutions)} of them"
        )
    converted = {
        f"{name}.{part}": found[f"features.{k}.{part}"]
        for name, k in zip(layers, convolutions)
        for part in ("weight", "bias")
        if f"features.{k}.{part}" in found
    }
    if converted["conv1_1.weight"].shape[1:] == (3, 3, 3) and "conv1_1.bias" in converted:
        mean, deviation, other = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD, MEAN))
        weight = converted["conv1_1.weight"] / deviation
        converted["conv1_1.bias"] = converted["conv1_1.bias"] + (weight * (other / 255 - mean)).sum((1, 2, 3))
        converted["conv1_1.weight"] = weight / 255
    return converted


def _some(names: list[str]) -> str:
    """Return the first four names, and how many more there are."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def read_weights(path: str | Path, entry: str | None = None) -> dict[str, Tensor]:
    """Read the named tensors of a file. No code in it is executed.

    Args:
        path: .safetensors; .pth, .pt or .tar (torch.save, read with weights_only), names with or without DataParallel's
            "module."; or .mat, MatConvNet's VGG-Face.
        entry: the key of the weights in a checkpoint that holds several (2DASL's: "res_state_dict"); a checkpoint with
            a single set needs none.

    Returns:
        Name -> tensor.

    Raises:
        InputError: no such file, or no weights in it.
    """
    path = existing_file(Path(path), EXPECTED)
    suffix = path.suffix.lower()
    if suffix == ".mat":
        return read_matconvnet(path)
    if suffix == ".safetensors":
        try:
            content = safetensors.torch.load_file(path)
        except Exception as error:
            raise input_error(
                path, EXPECTED, f"a file that does not read as safetensors ({one_line(error)})"
            ) from error
    elif suffix in (".pth", ".pt", ".tar"):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise input_error(
                path,
                EXPECTED,
                f"a file that torch.load does not read, or that holds more than tensors ({one_line(error)})",
            ) from error
    else:
        raise input_error(path, EXPECTED, f"a file named {path.suffix or 'without an ending'}")
    tensors = _tensors(_entry(path, content, entry))
    if not tensors:
        raise input_error(path, "named tensors", "none")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _tensors(content: Any) -> dict[str, Tensor]:
    """Return the named tensors of a dict, and none of anything else."""
    if not isinstance(content, dict):
        return {}
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _entry(path: str | Path, content: Any, entry: str | None) -> Any:
    """Return the state dict in a checkpoint: itself, or the only one among its values, or the one that is named."""
    sets = [key for key, value in content.items() if _tensors(value)] if isinstance(content, dict) else []
    if entry is not None:
        if entry not in sets:
            raise input_error(path, f"an entry {entry!r} of weights", f"entries {', '.join(map(str, sets)) or 'none'}")
        return content[entry]
    if _tensors(content) or not sets:
        return content
    if len(sets) > 1:
        raise InputError(
            f"{path}: expected one set of weights, found {', '.join(map(str, sets))}; name the one to load as entry"
        )
    return content[sets[0]]
