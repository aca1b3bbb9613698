"""Photographs with 2D landmarks, of whatever kind a path holds, and teacher labels: landmarks from another network.

A file of teacher labels is an .npz that belongs to one set of photographs; ``facemodels teacher`` writes it:

    landmarks [N,68,3]   pixels of the crops, y down; z toward the viewer in the same scale, from any origin; NaN for
                         pictures to skip
    given [N,L,2]        the photographs' own landmarks, by which the file is matched to them
    weight [N]           0..1, how far the teachers, or the views of one, agree; nothing here uses it yet, and files of
                         earlier versions have none
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.data import FaceBatch
from facemodels.data.aflw import aflw
from facemodels.data.folder import folder
from facemodels.io.files import atomic_write, input_error, read_npz, take_arrays

CROP = 120


def photographs(path: str | Path, cache: str | Path | None = None) -> FaceBatch:
    """Read AFLW's crops or a folder of pictures with landmark files.

    Args:
        path: AFLW's zip or its folder, or the folder of pictures.
        cache: see `facemodels.data.cache.collect_samples`.

    Returns:
        Images uint8 [N,3,120,120] with 68 or 21 landmarks.

    Raises:
        InputError: as `aflw` and `folder`, or pictures have another number of landmarks.
    """
    path = Path(path)
    read = aflw if path.suffix == ".zip" or (path / "aflw_crops.zip").is_file() else folder
    faces = read(path, CROP, cache)
    count = _landmarks(faces).shape[1]
    if count not in (68, 21):
        raise InputError(f"{path}: pictures with {count} landmarks each; give files with iBUG's 68 or AFLW's 21")
    return faces


def write_teacher_labels(path: str | Path, landmarks: Tensor, faces: FaceBatch, weight: Tensor | None = None) -> None:
    """Write the teacher labels [N,68,3] of photographs, and their weight [N] (None: all 1)."""
    weight = torch.ones(len(landmarks)) if weight is None else weight
    arrays = {"landmarks": landmarks.numpy().astype(np.float32), "weight": weight.numpy().astype(np.float32)}
    with atomic_write(Path(path)) as part, open(part, "wb") as file:
        np.savez_compressed(file, given=_landmarks(faces), **arrays)  # type: ignore[arg-type] # no name is allow_pickle


def read_teacher_labels(path: str | Path, faces: FaceBatch) -> Tensor:
    """Read the teacher labels of photographs.

    Args:
        path: the file.
        faces: the photographs, as `photographs` returns them.

    Returns:
        [N,68,3]; all NaN for a picture with any NaN.

    Raises:
        InputError: the file is missing or damaged, or was made of other photographs.
    """
    stored, given = _stored_labels(Path(path))
    own = _landmarks(faces)
    if given.shape != own.shape or not np.array_equal(given, own, equal_nan=True):
        raise input_error(
            Path(path),
            f"predictions for these {len(faces)} photographs",
            f"a file made of {len(given)} others; regenerate it",
        )
    landmarks = torch.from_numpy(np.ascontiguousarray(stored, np.float32))
    return torch.where(landmarks.isfinite().flatten(1).all(1)[:, None, None], landmarks, torch.nan)


def check_teacher_labels(path: str | Path) -> None:
    """Check that a file holds teacher labels, of whatever photographs: a check to make before these are read.

    Raises:
        InputError: the file is missing or damaged.
    """
    _stored_labels(Path(path))


def _stored_labels(path: Path) -> list[np.ndarray]:
    """Read `landmarks` and `given` of a file of teacher labels."""
    expected = "landmarks that a network predicted, as facemodels teacher writes them"
    arrays = read_npz(path, expected)
    return take_arrays(path, arrays, {"landmarks": (None, 68, 3), "given": (None, None, None)}, expected)


def _landmarks(faces: FaceBatch) -> np.ndarray:
    assert faces.landmarks is not None  # both sources have them
    return faces.landmarks.numpy()
