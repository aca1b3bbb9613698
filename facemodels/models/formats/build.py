"""models.formats.build: TODO."""

import numpy as np

from facemodels.core.errors import InputError
from facemodels.io.files import input_error
from facemodels.models.model_data import ModelData

LARGEST = 1e5  # mm; what damaged numbers make of a face is mostly far beyond


def build(path, **fields) -> ModelData:
    """ModelData of these fields, of a size that a face can have; what is wrong is told with the file's name."""
    try:
        data = ModelData(source=str(path), **fields)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    size = np.ptp(data.mean.astype(np.float64), axis=0).max(initial=0)
    if not 0 < size < LARGEST:
        raise input_error(path, f"a face smaller than {LARGEST:.0f} mm", f"one of {size:g} mm")
    return data


def from_one(path, indices: np.ndarray, count: int, what: str) -> np.ndarray:
    """1-based indices to 0-based int32, checked."""
    indices = np.asarray(indices, np.int64) - 1
    if indices.size and (indices.min() < 0 or indices.max() >= count):
        raise input_error(path, f"{what} in 1..{count}", f"{indices.min() + 1}..{indices.max() + 1}")
    return indices.astype(np.int32)
