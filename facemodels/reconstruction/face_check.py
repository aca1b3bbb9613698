"""A second opinion on faces: a small network that looks at the crop around a face's landmarks.

The detector looks for something like a face; then a method predicts landmarks there, whatever it sees. This network
sees the result, upright and in its place, and says whether it is a face. So it also refuses faces that were predicted
upside down, or from a part of a face. `benchmarks.face_check` trains it.
"""

import functools
import math
import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from facemodels import weights
from facemodels.core.crops import cut_rotated
from facemodels.core.errors import InputError
from facemodels.core.landmarks import FIVE_OF
from facemodels.networks.weights import load_weights
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.views import View, recrop

WEIGHTS = weights.FOLDER / "face-check" / "face_check.safetensors"
SIZE = 64  # pixels of a crop
MEAN, SPREAD = 0.5, 0.25  # of the pixels
CHANNELS = (3, 16, 32, 32, 64, 64, 96)
STRIDES = (2, 2, 1, 2, 1, 2)  # of the convolutions


class FaceCheck(nn.Module):
    """The network: six convolutions and a linear layer. Batch normalization is folded into them after training."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in zip(CHANNELS, CHANNELS[1:], STRIDES):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(CHANNELS[-1] * (SIZE // math.prod(STRIDES)) ** 2, 1)

    def forward(self, crops: Tensor) -> Tensor:
        """Score crops.

        Args:
            crops: [N,3,64,64] in 0..1.

        Returns:
            [N], log-odds of a face.
        """
        return self.head(self.trunk((crops - MEAN) / SPREAD).flatten(1))[:, 0]


@functools.lru_cache(1)
def load_face_check() -> FaceCheck | None:
    """The network with the weights that ship, or with those of the file in FACEMODELS_FACE_CHECK.

    Returns:
        The network; None where the weights that ship, which are for research only, were removed.

    Raises:
        InputError: the file that was named is missing, or holds other weights.
    """
    named = os.environ.get("FACEMODELS_FACE_CHECK")
    if named is None and not WEIGHTS.is_file():
        return None
    network = FaceCheck()
    try:
        load_weights(network, named or WEIGHTS)
    except InputError as error:
        raise InputError(f"FACEMODELS_FACE_CHECK: {error}" if named else str(error)) from None
    return network.eval().requires_grad_(False)


def face_crops(images: Sequence[np.ndarray], faces: Sequence[Face], views: Sequence[View]) -> Tensor:
    """The crops that the network looks at: around the landmarks of faces, upright.

    Args:
        images: the pictures that views name, uint8 [h,w,3].
        faces: faces.
        views: what each was predicted from.

    Returns:
        [N,3,64,64] in 0..1.
    """
    return cut_crops(images, [recrop(face, view) for face, view in zip(faces, views)])


def cut_crops(images: Sequence[np.ndarray], views: Sequence[View]) -> Tensor:
    """Crops of pictures [N,3,64,64] in 0..1, one for each view, as the network takes them."""
    crops = np.stack([cut_rotated(images[v.picture], v.crop, SIZE, v.turn) for v in views])
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def confidences(crops: Tensor, views: Sequence[View]) -> list[float]:
    """How likely each of the crops shows a face in its place, 0..1; the detector's scores where there is no network.

    Args:
        crops: [N,3,64,64] in 0..1.
        views: what each face was predicted from.
    """
    network = load_face_check()
    return [view.score for view in views] if network is None else torch.sigmoid(network(crops)).tolist()


def disagreement(face: Face, view: View) -> float:
    """How far the detector's five points lie from the face's landmarks, relative to its size; 0 without a detector.

    Where several candidates show one face, this tells which of them has found it whole.
    """
    if view.points is None or not np.ptp(view.points) > 0:
        return 0.0
    points = face.landmarks[:, :2].numpy()
    five = np.array([points[list(group)].mean(0) for group in FIVE_OF[len(points)]])
    return float(np.linalg.norm(five - view.points, axis=1).mean() / np.ptp(points, axis=0).max())
