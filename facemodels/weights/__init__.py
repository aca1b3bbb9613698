"""Trained weights that ship, a folder each: weights.safetensors, config.json and README.md, their card (data, licence, command, commit, scores).

`facemodels.load_method("dasl")` loads them by the folder's name. `pack` makes such a folder of a checkpoint:

    python -m facemodels.weights runs/dasl/checkpoints/step-000008000 facemodels/weights/dasl
"""

import json
import shutil
from pathlib import Path

from safetensors.torch import save_file

from ..errors import InputError

FOLDER = Path(__file__).parent
BEST = ("dasl-aflw", "pgn", "dasl", "e2far", "cycle")
SMALL = 4096  # arrays of fewer numbers stay in full precision: they weigh nothing, and running variances are among them


def names() -> list[str]:
    """Of the weights that are here."""
    return sorted(folder.name for folder in FOLDER.iterdir() if (folder / "weights.safetensors").is_file())


def default() -> str:
    """The best that are here, which are taken where nothing is asked for.

    Raises:
        InputError: there are none.
    """
    found = names()
    best = next((name for name in BEST if name in found), None)
    if best is None:
        raise InputError(f"no weights are shipped with this build ({FOLDER} is empty); train a method (facemodels train dasl) and give its checkpoint")
    return best


def pack(checkpoint: str | Path, folder: str | Path) -> Path:
    """A checkpoint's weights (the averaged ones, where there are any) in half precision, without optimizer and random numbers; returns the new folder.

    Parameters of 4096 numbers and more are halved, everything else stays as it is. A critic is left out: only training asks it.

    Raises:
        InputError: not a checkpoint.
    """
    from ..methods import load_method

    method, folder = load_method(checkpoint), Path(folder)
    parameters = dict(method.named_parameters())
    weights = {k: v.detach().half() if k in parameters and v.numel() >= SMALL else v.detach() for k, v in method.state_dict().items() if not k.startswith(method.optional)}
    settings = json.loads((Path(checkpoint) / "config.json").read_text()) | {"output": f"runs/{method.name}", "device": "auto", "kept": ""}
    if (Path(settings.get("wild", "")) / "aflw_crops.zip").is_file():  # the folder of AFLW's crops: what was learnt from is remembered
        settings["wild"] = "aflw_crops.zip"
    settings |= {key: Path(settings[key]).name for key in ("wild", "teacher", "labelled", "frames", "weights", "start") if settings.get(key)}  # names, not places of this machine
    settings = {key: value for key, value in settings.items() if key != "kept" or hasattr(method.config, "kept")}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "weights.safetensors", metadata={"method": method.name})
    shutil.copymode(Path(checkpoint) / "config.json", folder / "weights.safetensors")
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
    return folder

