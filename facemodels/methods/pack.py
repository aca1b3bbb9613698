"""Packs a checkpoint for shipping: half precision, without what only training needs.

Shipped weights are folders in `facemodels/weights`: weights.safetensors, config.json, and README.md, their model card
(data, license, command, commit, scores). `facemodels.load_method("dasl")` loads them by the folder's name.

    python -m facemodels.methods.pack runs/dasl/checkpoints/step-000008000 facemodels/weights/dasl
"""

import json
import shutil
import sys
from pathlib import Path

from safetensors.torch import save_file

from facemodels.core.errors import InputError
from facemodels.methods.registry import load_method

SMALL = 4096  # smaller arrays stay in full precision: they weigh nothing, and running variances are among them
PATHS = ("wild", "teacher", "labelled", "frames", "weights", "start")  # settings that may be paths


def pack(checkpoint: str | Path, folder: str | Path) -> Path:
    """Write the weights of a checkpoint in half precision, without optimizers and random number generators.

    Parameters of 4096 numbers and more are halved, everything else stays as it is. Parts that only training needs, such
    as a critic, are left out. Of paths in the settings, the names are kept.

    Args:
        checkpoint: The folder of a checkpoint; the averaged weights are taken if there are any.
        folder: The folder to write.

    Returns:
        The folder.

    Raises:
        InputError: Not a checkpoint.
    """
    method, folder = load_method(checkpoint), Path(folder)
    parameters = dict(method.named_parameters())
    weights = {
        k: v.detach().half() if k in parameters and v.numel() >= SMALL else v.detach()
        for k, v in method.state_dict().items()
        if not k.startswith(method.optional)
    }
    settings = json.loads((Path(checkpoint) / "config.json").read_text())
    settings |= {"output": f"runs/{method.name}", "device": "auto"}
    if hasattr(method.config, "kept"):
        settings["kept"] = ""
    if (Path(settings.get("wild", "")) / "aflw_crops.zip").is_file():  # the folder of AFLW's crops
        settings["wild"] = "aflw_crops.zip"
    settings |= {key: Path(settings[key]).name for key in PATHS if settings.get(key)}
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.contiguous() for k, v in weights.items()}
    save_file(weights, folder / "weights.safetensors", metadata={"method": method.name})
    shutil.copymode(Path(checkpoint) / "config.json", folder / "weights.safetensors")  # safetensors makes it private
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
    return folder


def main(arguments: list[str]) -> int:
    """Run `python -m facemodels.methods.pack CHECKPOINT FOLDER` and return its exit code."""
    if len(arguments) != 2:
        print("usage: python -m facemodels.methods.pack CHECKPOINT FOLDER", file=sys.stderr)
        return 2
    try:
        folder = pack(*arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = (folder / "weights.safetensors").stat().st_size
    print(f"{folder}: {size / 1e6:.2f} MB; facemodels.load_method({str(folder)!r}) loads it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
