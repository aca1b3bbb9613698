"""Where trained methods lie: weights that ship, by their names, and checkpoints, by their folders."""

from pathlib import Path

from facemodels import weights
from facemodels.core.errors import InputError
from facemodels.training.checkpoint import NO_CHECKPOINT, checkpoints_of_run, method_name

WEIGHTS_FOLDER = weights.FOLDER
BEST_FIRST = ("dasl-aflw", "pgn", "dasl", "e2far", "cycle")  # shipped weights; the first one present is the default


def weight_names() -> list[str]:
    """Return the names of the shipped weights, in alphabetical order."""
    return weights.names()


def default_weights() -> str:
    """Return the name of the best shipped weights.

    Raises:
        InputError: This build ships none.
    """
    present = weight_names()
    best = next((name for name in BEST_FIRST if name in present), None)
    if best is None:
        raise InputError(
            f"this build ships no weights ({WEIGHTS_FOLDER} is empty); train a method (facemodels train dasl) and give "
            "its checkpoint"
        )
    return best


def method_folder(checkpoint: str | Path | None) -> tuple[Path, str]:
    """Find a trained method.

    Args:
        checkpoint: The name of shipped weights (`weight_names`), or the folder of a checkpoint. None: the best shipped
            weights.

    Returns:
        The folder, and the name of the method.

    Raises:
        InputError: The folder is no checkpoint, or there is no name.
    """
    if not isinstance(checkpoint, (str, Path, type(None))) or checkpoint == "":
        raise InputError(
            f"a method is the name of weights that ship ({', '.join(weight_names())}) or a checkpoint's folder, got "
            + (repr(checkpoint) if isinstance(checkpoint, (str, int, float)) else type(checkpoint).__name__)
        )
    shipped = weight_names()
    checkpoint = default_weights() if checkpoint is None else checkpoint
    folder = WEIGHTS_FOLDER / checkpoint if str(checkpoint) in shipped else Path(checkpoint)
    if not (folder / "weights.safetensors").is_file() or not (folder / "config.json").is_file():
        if not folder.exists():
            raise InputError(
                f"{folder}: there is no such folder of a checkpoint, and it is not the name of shipped weights "
                f"({', '.join(shipped) or 'there are none'})"
            )
        inside = checkpoints_of_run(folder)
        hint = f"; the last checkpoint in it is {inside[-1]}" if inside else ""
        raise InputError(f"{folder}: {NO_CHECKPOINT}{hint}")
    return folder, method_name(folder)
