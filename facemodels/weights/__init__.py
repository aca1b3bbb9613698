"""Trained weights that ship, a folder each: `facemodels.load_method("pgn")` loads them by the folder's name.

`names` lists them; each folder has a README.md with data, license, command and scores.
"""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    """Return the names of the shipped weights, in alphabetical order."""
    return sorted(folder.name for folder in FOLDER.iterdir() if (folder / "weights.safetensors").is_file())
