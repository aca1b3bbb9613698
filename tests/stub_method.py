"""A method that needs no network, pictures that it can read, and the commands run with it."""

import csv
from fractions import Fraction

import numpy as np
import pytest
import torch

from facemodels.cli import reconstruct as reconstruct_command
from facemodels.cli import transfer as transfer_command
from facemodels.cli.main import main
from facemodels.core.device import parse_device
from facemodels.core.parameters import FaceParameters
from facemodels.core.rotation import head_rotation
from facemodels.methods.face_method import FaceMethod
from facemodels.reconstruction import follow, reconstructor, search
from facemodels.reconstruction.detect import Detection
from facemodels.reconstruction.reconstructor import Reconstructor
from facemodels.training.config import Config
from tests.videos import make_video

HEIGHT, WIDTH = 240, 320  # of a picture

# imageio's, where ffmpeg ends by itself before imageio ends it
unclosed = pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning",
    "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning",
)


def ramps(height=HEIGHT, width=WIDTH):
    """A picture whose colors tell the place: red grows along x, green along y."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([255 * x / width, 255 * y / height, np.full_like(x, 128)], -1).round().astype(np.uint8)


class StubMethod(FaceMethod):
    """Predicts a head at one place of the picture, whatever the crop.

    The colors of a crop of `ramps` tell where it was cut out.
    """

    name, size = "stub", 64

    def __init__(self, place=(160.0, 120.0), scale=0.5, yaw=-23.0):
        super().__init__(type("C", (Config,), {"model": "builtin"})())
        self.place, self.px_per_mm, self.weight = place, scale, torch.nn.Parameter(torch.zeros(1))
        self.rotation = head_rotation(torch.tensor([-6.0, yaw, 11.0]))
        self.passes = 0

    def reconstruct(self, image):
        self.passes += 1
        n, size = len(image), self.size
        across, down = image[:, 0].mean(1), image[:, 1].mean(2)  # [N,S]: x / width and y / height along the crop
        half = size // 4
        step = [(v[:, -half - 1] - v[:, half]) / (size - 2 * half - 1) for v in (across, down)]
        middle = [(v[:, -half - 1] + v[:, half]) / 2 for v in (across, down)]
        factor = size / (step[0] * WIDTH * size)  # crop pixels per picture pixel
        x = (self.place[0] - middle[0] * WIDTH) * factor + size / 2
        y = (self.place[1] - middle[1] * HEIGHT) * factor + size / 2
        expression = torch.zeros(n, self.model.num_expression)
        expression[:, 0] = 0.5
        identity, rotation, scale = (
            torch.zeros(n, self.model.num_identity),
            self.rotation.expand(n, 3, 3),
            self.px_per_mm * factor,
        )
        translation = torch.stack([x, y], -1)
        points = scale[:, None, None] * self.model.landmarks(self.model.shape(identity, expression)) @ rotation.mT
        landmarks = torch.stack([points[..., 0] + x[:, None], y[:, None] - points[..., 1], points[..., 2]], -1)
        return FaceParameters(identity, expression, rotation, scale, translation, landmarks)


def upright(stub, n):
    """Predictions of an upright head in the middle of its crop."""
    identity, expression = torch.zeros(n, stub.model.num_identity), torch.zeros(n, stub.model.num_expression)
    rotation, scale = torch.eye(3).expand(n, 3, 3), torch.full((n,), 0.3)
    points = 0.3 * stub.model.landmarks(stub.model.shape(identity, expression))
    landmarks = torch.stack([points[..., 0] + 32, 32 - points[..., 1], points[..., 2]], -1)
    return FaceParameters(identity, expression, rotation, scale, torch.full((n, 2), 32.0), landmarks)


def read_arrays(path):
    with np.load(path) as file:
        return dict(file)


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def found_at(*boxes):
    """A search for faces that finds these boxes in every picture."""
    return lambda image, threshold=0.5, longest=960: [Detection(b, 0.9, np.zeros((5, 2))) for b in boxes]


def pretend(monkeypatch, detector, confidence=0.9):
    """Put another function in the place of the detector; all that it finds looks like a face, by this confidence."""
    monkeypatch.setattr(search, "find_faces", detector)
    monkeypatch.setattr(reconstructor, "disagreement", lambda *_: 0.0)
    for module in (reconstructor, follow):
        monkeypatch.setattr(module, "confidences", lambda crops, views: [confidence] * len(crops))


def write_video(path, count=12):
    make_video(path, [ramps()] * count, base=Fraction(1, 10))


def run_reconstruct(stub, monkeypatch, *arguments):
    """The exit code of `facemodels reconstruct` with the stub for its method."""
    monkeypatch.setattr(reconstruct_command, "check_detector", lambda: None)
    monkeypatch.setattr(
        reconstruct_command,
        "Reconstructor",
        lambda method, device, *more: Reconstructor(stub, parse_device(device), *more),
    )
    return main(["reconstruct", *map(str, arguments)])


def run_transfer(stub, monkeypatch, *arguments):
    """The exit code of `facemodels transfer` with the stub for its method."""
    monkeypatch.setattr(transfer_command, "Reconstructor", lambda *_: Reconstructor(stub))
    return main(["transfer", *map(str, arguments)])
