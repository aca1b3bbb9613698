"""What `facemodels reconstruct` writes: pictures, and files of single faces, perhaps of another morphable model."""

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from facemodels.io.images import write_picture
from facemodels.models.morphable import MorphableModel
from facemodels.reconstruction.face import Face, Origin
from facemodels.reconstruction.files import FILES, Output
from facemodels.reconstruction.overlays import PICTURES
from facemodels.reconstruction.texture import photo_texture
from facemodels.reconstruction.views import scaled_face


class CoefficientTransfer:
    """Faces as the method gives them, or transferred to another morphable model.

    Args:
        source: The method's model.
        target: The file of the other model, or its name; None keeps the method's.

    Attributes:
        model: The model of the faces that come out.
    """

    def __init__(self, source: MorphableModel, target: str | None) -> None:
        self.model, self._transfer = source, None
        if target is not None:
            from facemodels.fitting.transfer import Transfer
            from facemodels.models.load import load_model

            self.model = load_model(target)
            self._origin = Origin(self.model, target)
            if self.model.rows.shape != source.rows.shape or not torch.equal(self.model.rows, source.rows):
                self._transfer = Transfer(source, self.model)

    def __call__(self, faces: list[Face]) -> list[Face]:
        """Transfer the faces of one person."""
        if self._transfer is None:
            return faces
        identity = faces[0].identity[None]
        expression, _ = self._transfer.expression(torch.stack([f.expression for f in faces]), identity, None)
        return [
            replace(
                f.with_parameters(identity=self._transfer.identity(identity)[0], expression=e, albedo=None),
                origin=self._origin,
                before=f,
            )
            for f, e in zip(faces, expression)
        ]


class OutputWriter:
    """Writes what was asked for, and counts the files.

    Args:
        folder: Where the files go.
        words: The words of --write.
        transfer: What the faces pass through first.

    Attributes:
        pictures: The words that are pictures.
        files: The words that are files of single faces.
        count: How many files were written.
    """

    def __init__(self, folder: Path, words: list[str], transfer: CoefficientTransfer) -> None:
        self.folder, self.transfer, self.count = folder, transfer, 0
        self.pictures = [w for w in words if w in PICTURES]
        self.files = [w for w in words if w in FILES]

    @property
    def model(self) -> MorphableModel:
        """The model of the faces that are written."""
        return self.transfer.model

    def draw(self, word: str, image: np.ndarray, faces: list[Face]) -> np.ndarray:
        """Draw a picture, uint8 [h,w,3], of transferred faces in their photograph or frame."""
        return PICTURES[word](image, faces, self.model)

    def write_photo(self, name: str, image: np.ndarray, faces: list[Face], reduction: int = 1) -> list[Path]:
        """Write a photograph's pictures and files.

        Args:
            name: What the names of its files begin with.
            image: uint8 [h,w,3], sRGB.
            faces: Its faces, as the method gives them.
            reduction: Pixels of the photograph, across, that are one of the image; files count those of the photograph.

        Returns:
            The files.
        """
        faces = [self.transfer([face])[0] for face in faces]
        paths = []
        for word in self.pictures:
            path = self.folder / f"{name}_{word}.png"
            write_picture(path, self.draw(word, image, faces))
            paths.append(path)
        for k, face in enumerate(faces):
            texture = functools.cache(lambda face=face: photo_texture(image, face, self.model))
            for word in self.files:
                paths += self.write_face(word, f"{name}_{k}", [scaled_face(face, reduction)], [0], texture)
        self.count += len(paths)
        return paths

    def write_face(
        self,
        word: str,
        name: str,
        faces: Sequence[Face],
        frames: Sequence[int],
        texture: Callable[[], Tensor],
        times: Sequence[float] | None = None,
    ) -> list[Path]:
        """Write one kind of file of one person; see `facemodels.reconstruction.files`."""
        return FILES[word](Output(self.folder / name, faces, frames, texture, self.model, times))


def print_problem(message: object, about: Path | str | None = None) -> None:
    """Print an error without disturbing progress bars; the other inputs are still done.

    Args:
        message: A sentence, or the error.
        about: The input that it is about, which is put before it where it does not name it.
    """
    text = str(message)
    text = text if about is None or str(about) in text else f"{about}: {text}"
    tqdm.write(f"facemodels reconstruct: {text}", file=sys.stderr)


def path_list(paths: list[Path]) -> str:
    """The names of the first six files, and how many more there are."""
    more = f" and {len(paths) - 6} more" if len(paths) > 6 else ""
    return ", ".join(p.name for p in paths[:6]) + more
