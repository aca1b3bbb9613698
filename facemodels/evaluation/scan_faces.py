"""Faces predicted in photographs, for the protocols with scans: where a face is looked for, and its surface in mm."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from facemodels.core.crops import Box, cut, from_crop, landmark_box
from facemodels.core.errors import InputError
from facemodels.core.parameters import FaceParameters
from facemodels.evaluation.scan_alignment import Surface
from facemodels.io.images import read_picture
from facemodels.io.landmarks import read_landmarks, sidecar
from facemodels.methods.face_method import FaceMethod
from facemodels.models.morphable import MorphableModel
from facemodels.reconstruction.detect import find_faces, first_crop

BATCH = 8  # photographs in memory


class Photo(NamedTuple):
    """A photograph of a face.

    Attributes:
        name: Its name, for messages.
        image: uint8 [h,w,3], sRGB.
        box: The first crop of the face.
    """

    name: str
    image: np.ndarray
    box: Box


def read_photo(path: Path) -> Photo:
    """Read a photograph, with a first crop around its landmarks or around the largest detected face.

    Args:
        path: The picture. Its 68 or 21 landmarks may lie in a file beside it (see `facemodels.io.landmarks`).

    Raises:
        InputError: It cannot be read, or no face is found.
    """
    image, file = read_picture(path), sidecar(path)
    if file is not None:
        return Photo(str(path), image, landmark_box(read_landmarks(file).points))
    faces = find_faces(image)
    if not faces:
        raise InputError(
            f"{path}: no face is found in the picture; put its landmarks beside it, in {path.with_suffix('.txt').name}"
        )
    return Photo(str(path), image, first_crop(faces[0].box))


def detector_box(left: float, top: float, right: float, bottom: float) -> Box:
    """The square crop for a detector's box by 3DDFA's rule.

    Its side is 1.58 times the mean of the box's sides, and its center lies 0.14 of that mean below the box's.

    Raises:
        ValueError: The box is empty.
    """
    side = (right - left + bottom - top) / 2
    if not (right > left and bottom > top):
        raise ValueError(
            f"a detector's box must have left < right and top < bottom, got {left:g}, {right:g}, {top:g}, {bottom:g}"
        )
    x, y, half = (left + right) / 2, (top + bottom) / 2 + 0.14 * side, 1.58 * side / 2
    return x - half, y - half, x + half, y + half


@torch.no_grad()
def reconstructions(method: FaceMethod, photos: Iterable[Photo]) -> Iterator[FaceParameters]:
    """Reconstruct the face of each photograph, on the CPU, with a batch of 1.

    Each face is cropped twice: by the photograph's box, and around the landmarks that are predicted there
    (`landmark_box`), as the methods' training crops are made.

    Raises:
        InputError: A prediction is not finite.
    """
    waiting: list[Photo] = []
    for photo in photos:
        waiting.append(photo)
        if len(waiting) == BATCH:
            yield from _reconstruct(method, waiting)
            waiting = []
    if waiting:
        yield from _reconstruct(method, waiting)


def _reconstruct(method: FaceMethod, photos: list[Photo]) -> Iterator[FaceParameters]:
    device, size = method.model.mean.device, method.size

    def crops(boxes: list[Box]) -> Tensor:
        try:
            cuts = np.stack([cut(photo.image, box, size) for photo, box in zip(photos, boxes)])
        except ValueError as error:  # of landmarks far away from each other
            raise InputError(f"{photos[0].name} or one of the {len(photos) - 1} after it: {error}") from None
        return torch.from_numpy(cuts).permute(0, 3, 1, 2).float().div(255).to(device)

    first = [photo.box for photo in photos]
    # The network's landmarks will do for the second crop, without refinement.
    unrefined = getattr(method, "unrefined", method)
    points = unrefined.landmarks(crops(first)).double().cpu()
    _check_finite(photos, points)
    second = [landmark_box(from_crop(p[:, :2].numpy(), box, size)) for p, box in zip(points, first)]
    found = method.reconstruct(crops(second)).map(lambda value: value.float().cpu())
    _check_finite(photos, found.identity, found.expression)
    for k in range(len(photos)):
        yield found.select(slice(k, k + 1))


def _check_finite(photos: list[Photo], *values: Tensor) -> None:
    for value in values:
        bad = ~value.flatten(1).isfinite().all(1)
        if bad.any():
            raise InputError(f"{photos[int(bad.nonzero()[0])].name}: the prediction is not finite")


@torch.no_grad()
def predicted_surface(method: FaceMethod, face: FaceParameters, expression: bool = False) -> Surface:
    """The surface of a predicted face in millimeters, without pose.

    Args:
        method: The method that predicted it.
        face: The face, with a batch of 1.
        expression: Whether it has its expression; else it is neutral.
    """
    model = method.model
    coefficients = [face.identity.to(model.mean), face.expression.to(model.mean) if expression else None]
    vertices = model.shape(*coefficients)
    return Surface(vertices[0], model.faces, model.landmarks(vertices)[0])


@torch.no_grad()
def mean_surface(model: MorphableModel) -> Surface:
    """The mean face of a model: the prediction of one who has not seen the picture."""
    mean = model.mean[None]
    return Surface(mean[0], model.faces, model.landmarks(mean)[0])
