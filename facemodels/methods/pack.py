"""Trained weights that ship, a folder each: weights.safetensors, config.json and README.md, their card (data, licence, command, commit, scores).

`facemodels.load_method("dasl")` loads them by the folder's name. `pack` makes such a folder of a checkpoint:

    python -m facemodels.methods.pack runs/dasl/checkpoints/step-000008000 facemodels/weights/dasl
"""

import json
import shutil
import sys
from pathlib import Path

from safetensors.torch import save_file

from facemodels.core.errors import InputError
from facemodels.methods.registry import load_method

SMALL = 4096  # arrays of fewer numbers stay in full precision: they weigh nothing, and running variances are among them


def pack(checkpoint: str | Path, folder: str | Path) -> Path:
    """A checkpoint's weights (the averaged ones, where there are any) in half precision, without optimizer and random numbers; returns the new folder.

    Parameters of 4096 numbers and more are halved, everything else stays as it is. A critic is left out: only training asks it.

    Raises:
        InputError: not a checkpoint.
    """
    method, folder = load_method(checkpoint), Path(folder)
    parameters = dict(method.named_parameters())
    weights = {
        k: v.detach().half() if k in parameters and v.numel() >= SMALL else v.detach()
        for k, v in method.state_dict().items()
        if not k.startswith(method.optional)
    }
    settings = json.loads((Path(checkpoint) / "config.json").read_text()) | {
        "output": f"runs/{method.name}",
        "device": "auto",
        "kept": "",
    }
    if (
        Path(settings.get("wild", "")) / "aflw_crops.zip"
    ).is_file():  # the folder of AFLW's crops: what was learnt from is remembered
        settings["wild"] = "aflw_crops.zip"
    settings |= {
        key: Path(settings[key]).name
        for key in ("wild", "teacher", "labelled", "frames", "weights", "start")
        if settings.get(key)
    }  # names, not places of this machine
    settings = {key: value for key, value in settings.items() if key != "kept" or hasattr(method.config, "kept")}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: v.contiguous() for k, v in weights.items()},
        folder / "weights.safetensors",
        metadata={"method": method.name},
    )
    shutil.copymode(Path(checkpoint) / "config.json", folder / "weights.safetensors")
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
    return folder


def main(arguments: list[str]) -> int:
    """Run `python -m facemodels.methods.pack CHECKPOINT FOLDER`."""
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
