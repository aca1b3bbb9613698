"""What all readers end with: `ModelData` whose errors name the file; and 1-based indices."""

from pathlib import Path
from typing import Any

import numpy as np

from facemodels.core.errors import InputError
from facemodels.io.files import input_error
from facemodels.models.model_data import ModelData


def build(path: str | Path, **fields: Any) -> ModelData:
    """Make `ModelData` of these fields, with the file as its source.

    Raises:
        InputError: the fields do not fit together, or the face is not of a size that faces have; it names the file.
    """
    try:
        return ModelData(source=str(path), **fields)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def from_one_based(path: str | Path, indices: np.ndarray, count: int, what: str) -> np.ndarray:
    """1-based indices as 0-based int32, after checking that they are in 1..count."""
    indices = np.asarray(indices, np.int64) - 1
    if indices.size and (indices.min() < 0 or indices.max() >= count):
        raise input_error(path, f"{what} in 1..{count}", f"{indices.min() + 1}..{indices.max() + 1}")
    return indices.astype(np.int32)


def check_vertices(path: str | Path, indices: np.ndarray, count: int, what: str = "triangles of vertices") -> None:
    """Check that 0-based indices are in 0..count-1.

    Raises:
        InputError: one is not.
    """
    if indices.size and (indices.min() < 0 or indices.max() >= count):
        raise input_error(path, f"{what} in 0..{count - 1}", f"{indices.min()}..{indices.max()}")
