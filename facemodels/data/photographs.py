"""Photographs with 2D landmarks, of whatever kind a path holds, and what another network saw in them.

A file of landmarks that were seen, an .npz that belongs to one set of photographs:

    landmarks [N,68,3]   pixels of the crops, y down; z towards the viewer in the same scale, from anywhere; NaN for a picture that is not to be learnt from
    given [N,L,2]        the photographs' own landmarks, by which it is known again that the file is theirs

``python -m facemodels.methods.teacher`` writes it.
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
    """AFLW's crops (their zip, or its folder) or a folder of pictures with landmark files: uint8 images [N,3,120,120] with 68 or 21 landmarks.

    Raises:
        InputError: what `aflw` and `folder` raise, or there are other landmarks.
    """
    path = Path(path)
    read = aflw if path.suffix == ".zip" or (path / "aflw_crops.zip").is_file() else folder
    faces = read(path, CROP, cache)
    if faces.landmarks.shape[1] not in (68, 21):
        raise InputError(f"{path}: pictures with {faces.landmarks.shape[1]} landmarks; 68 or 21 are needed")
    return faces


def write_teacher_labels(path: str | Path, landmarks: Tensor, faces: FaceBatch) -> None:
    """The file of landmarks [N,68,3] seen in `faces`."""
    with atomic_write(Path(path)) as part, open(part, "wb") as file:
        np.savez_compressed(file, landmarks=landmarks.numpy().astype(np.float32), given=faces.landmarks.numpy())


def read_teacher_labels(path: str | Path, faces: FaceBatch) -> Tensor:
    """Landmarks [N,68,3] that were seen in `faces`; NaN are all of a picture of which one is.

    Raises:
        InputError: the file is missing or damaged, or was made of other photographs.
    """
    expected = "landmarks that a network saw, as facemodels.methods.teacher writes them"
    arrays = read_npz(Path(path), expected)
    landmarks, given = take_arrays(
        Path(path), arrays, {"landmarks": (None, 68, 3), "given": (None, None, None)}, expected
    )
    if given.shape != tuple(faces.landmarks.shape) or not np.array_equal(
        given, faces.landmarks.numpy(), equal_nan=True
    ):
        raise input_error(
            Path(path),
            f"what was seen in these {len(faces)} photographs",
            f"a file made of {len(given)} others; make it anew",
        )
    landmarks = torch.from_numpy(np.ascontiguousarray(landmarks, np.float32))
    return torch.where(landmarks.isfinite().flatten(1).all(1)[:, None, None], landmarks, torch.nan)
