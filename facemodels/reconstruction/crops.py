"""reconstruction.crops: TODO."""

import math
from typing import NamedTuple

import numpy as np
import torch

from facemodels.core.crops import Box, landmark_box
from facemodels.core.errors import InputError
from facemodels.core.landmarks import FIVE_OF
from facemodels.core.parameters import FaceParameters
from facemodels.data.augment import rotate_light
from facemodels.reconstruction.face import Face

ASKEW = math.radians(20)  # heads that lean further are turned upright


class View(NamedTuple):
    """A crop for the network. picture: which; crop and turn: see `Face`; box and score: of the detector."""

    picture: int
    crop: Box
    turn: float
    box: Box
    score: float


def to_picture(prediction: FaceParameters, size: int, view: View) -> Face:
    """A face predicted in a crop (a batch of 1, in pixels of the crop of `size`), in pixels of the whole picture."""
    x0, y0, x1, y1 = map(float, view.crop)
    factor, c, s = (x1 - x0) / size, math.cos(view.turn), math.sin(view.turn)
    back = torch.tensor([[c, s], [-s, c]])  # of the crop's axes, right and down, in the picture
    middle = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2])
    place = lambda points: middle + factor * (points - size / 2) @ back.T  # noqa: E731
    points = prediction.landmarks[0]
    landmarks = torch.cat([place(points[:, :2]), factor * points[:, 2:]], 1)
    roll = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    light = prediction.light
    if light is not None and view.turn:
        light = rotate_light(light, torch.tensor([c]), torch.tensor([s]), torch.ones(1))
    parameters = prediction._replace(
        rotation=(roll @ prediction.rotation[0])[None],
        scale=torch.tensor([float(prediction.scale) * factor]),
        translation=place(prediction.translation),
        landmarks=landmarks[None],
        light=light,
    )
    return Face(view.box, view.score, view.crop, parameters, turn=view.turn)


def leaning(points: np.ndarray) -> float:
    """How far a head leans anticlockwise, radians, of five points (eyes, nose, corners of the mouth); 0 up to `ASKEW`."""
    up = points[:2].mean(0) - points[3:].mean(0)
    turn = math.atan2(-up[0], -up[1]) if np.isfinite(up).all() and np.abs(up).max() > 0 else 0.0
    return turn if abs(turn) > ASKEW else 0.0


# Eyes, nose and mouth are less than a face: their crop is this much larger, and lies this much lower (in its own sides).
_OF_FIVE = 2.1, 0.09


def around_landmarks(picture: int, points: np.ndarray) -> "View":
    """The crop around given landmarks [L,2], 68, 21 or 5 of them.

    Raises:
        InputError: another number of landmarks, or fewer than two that are known.
    """
    if len(points) not in FIVE_OF:
        raise InputError(f"landmarks of a face are {', '.join(map(str, FIVE_OF))} points, got {len(points)}")
    turn = leaning(np.array([points[list(some)].mean(0) for some in FIVE_OF[len(points)]]))
    crop = turned_box(points, turn, *(_OF_FIVE if len(points) == 5 else (1.0, 0.0)))
    return View(picture, crop, turn, crop, 1.0)


def turned_box(points: np.ndarray, turn: float, larger: float = 1.0, lower: float = 0.0) -> Box:
    """`landmark_box` of points [L,2], by the directions of a crop that is turned; its square before it is turned about its middle. larger, lower: as times and share of its side."""
    c, s = math.cos(turn), math.sin(turn)
    upright = np.array([[c, -s], [s, c]])  # the crop's directions, right and down, in the picture
    x0, y0, x1, y1 = landmark_box(points @ upright.T)
    x, y = (np.array([(x0 + x1) / 2, (y0 + y1) / 2 + lower * (x1 - x0)]) @ upright).tolist()
    half = larger * (x1 - x0) / 2
    return x - half, y - half, x + half, y + half


def closer(face: Face, view: View) -> View:
    """The crop around a face's landmarks; the one it was seen in, where these lie quite elsewhere (it was no face, or the network did not see it)."""
    points = face.landmarks[:, :2].double().numpy()
    if not np.isfinite(points).all() or not np.ptp(points, axis=0).max() > 0:
        return view
    up = face.rotation[:2, 1].tolist()
    turn = math.atan2(-up[0], up[1]) if math.hypot(*up) > 0.5 else 0.0
    turn = turn if abs(turn) > ASKEW else 0.0
    new, old = turned_box(points, turn), view.crop
    side = old[2] - old[0]
    far = max(abs(new[0] + new[2] - old[0] - old[2]), abs(new[1] + new[3] - old[1] - old[3])) >= side
    return view if far or not 0.4 < (new[2] - new[0]) / side < 2.5 else view._replace(crop=new, turn=turn)
