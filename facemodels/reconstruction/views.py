"""Which crop of a picture the network sees, and how what it predicts there becomes a `Face` of the whole picture.

Heads that are rolled far are turned upright before the network sees them, since networks are seldom trained on such
pictures, and the prediction is turned back.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from facemodels.core.crops import Box, landmark_box
from facemodels.core.errors import InputError
from facemodels.core.landmarks import FIVE_OF
from facemodels.core.parameters import FaceParameters
from facemodels.data.augment import rotate_light
from facemodels.reconstruction.face import Face
from facerender._checks import brief_repr

MAX_ROLL = math.radians(20)  # heads that are rolled further are turned upright
# Five points span eyes, nose and mouth, which are less than the face: their crop is this much larger than
# `landmark_box`, and lies this much lower, relative to its side.
FIVE_POINTS_SCALE, FIVE_POINTS_SHIFT_DOWN = 2.1, 0.09


@brief_repr
class View(NamedTuple):
    """A crop for the network.

    Attributes:
        picture: The number of the picture.
        crop: The square, before it is turned: (x0, y0, x1, y1), pixels.
        turn: Counterclockwise rotation of the square about its center, radians.
        box: The detector's box, or the box that was given, pixels.
        score: The detector's score, 0..1.
        points: The detector's five points [5,2], pixels; None where there was no detector.
    """

    picture: int
    crop: Box
    turn: float
    box: Box
    score: float
    points: np.ndarray | None = None


def to_picture(prediction: FaceParameters, size: int, view: View) -> Face:
    """Bring a face that was predicted in a crop into the whole picture.

    Args:
        prediction: A batch of 1, in pixels of the crop.
        size: The side of the crop that the network saw, pixels.
        view: Where the crop lies in the picture.
    """
    x0, y0, x1, y1 = map(float, view.crop)
    factor, c, s = (x1 - x0) / size, math.cos(view.turn), math.sin(view.turn)
    axes = torch.tensor([[c, s], [-s, c]])  # columns: the crop's right and down in the picture
    center = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2])

    def place(points: Tensor) -> Tensor:
        return center + factor * (points - size / 2) @ axes.T

    points = prediction.landmarks[0]
    roll = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    light = prediction.light
    if light is not None and view.turn:
        light = rotate_light(light, torch.tensor([c]), torch.tensor([s]), torch.ones(1))
    own = prediction.map(torch.clone)  # of a batch whose other faces shall not be kept with it
    parameters = own._replace(
        rotation=(roll @ prediction.rotation[0])[None],
        scale=torch.tensor([float(prediction.scale) * factor]),
        translation=place(prediction.translation),
        landmarks=torch.cat([place(points[:, :2]), factor * points[:, 2:]], 1)[None],
        light=light,
    )
    return Face(view.box, view.score, view.crop, parameters, turn=view.turn)


def roll_angle(points: np.ndarray, usual: float = 0.0) -> float:
    """The counterclockwise roll of a head from five points.

    Args:
        points: [5,2] pixels: eyes, nose, corners of the mouth.
        usual: the roll that is taken for heads up to `MAX_ROLL` from it, radians.

    Returns:
        Radians.
    """
    up = points[:2].mean(0) - points[3:].mean(0)
    turn = math.atan2(-up[0], -up[1]) if np.isfinite(up).all() and np.abs(up).max() > 0 else usual
    return turn if abs(math.remainder(turn - usual, 2 * math.pi)) > MAX_ROLL else usual


def upright_turn(rotation: Tensor) -> float:
    """The turn of a crop in which a head stands upright, radians; 0 for rolls up to `MAX_ROLL`.

    Args:
        rotation: [3,3], of the head.
    """
    up = rotation[:2, 1].tolist()
    turn = math.atan2(-up[0], up[1]) if math.hypot(*up) > 0.5 else 0.0
    return turn if abs(turn) > MAX_ROLL else 0.0


def view_of_landmarks(picture: int, points: np.ndarray) -> View:
    """The crop around landmarks that are given.

    Args:
        picture: The number of the picture.
        points: [L,2] pixels, L = 68, 21 or 5.

    Raises:
        InputError: Another number of landmarks, or fewer than two that are known.
    """
    if len(points) not in FIVE_OF:
        raise InputError(f"landmarks of a face are {', '.join(map(str, FIVE_OF))} points, got {len(points)}")
    turn = roll_angle(np.array([points[list(group)].mean(0) for group in FIVE_OF[len(points)]]))
    crop = turned_box(points, turn, *((FIVE_POINTS_SCALE, FIVE_POINTS_SHIFT_DOWN) if len(points) == 5 else (1.0, 0.0)))
    return View(picture, crop, turn, crop, 1.0)


def turned_box(points: np.ndarray, turn: float, scale: float = 1.0, shift_down: float = 0.0) -> Box:
    """`landmark_box` along the axes of a turned crop.

    Args:
        points: [L,2] pixels.
        turn: Counterclockwise rotation of the crop, radians.
        scale: Factor on the square's side.
        shift_down: How far the square is moved down (in the crop), relative to the side of `landmark_box`.

    Returns:
        The square before it is turned about its center, pixels.
    """
    c, s = math.cos(turn), math.sin(turn)
    axes = np.array([[c, -s], [s, c]])  # rows: the crop's right and down in the picture
    x0, y0, x1, y1 = landmark_box(points @ axes.T)
    x, y = (np.array([(x0 + x1) / 2, (y0 + y1) / 2 + shift_down * (x1 - x0)]) @ axes).tolist()
    half = scale * (x1 - x0) / 2
    return x - half, y - half, x + half, y + half


def recrop(face: Face, view: View) -> View:
    """The crop around a face's landmarks.

    The old crop is kept where the new one lies far from it or has quite another size: there was no face, or the network
    missed it.
    """
    points = face.landmarks[:, :2].double().numpy()
    if not np.isfinite(points).all() or not np.ptp(points, axis=0).max() > 0:
        return view
    turn = upright_turn(face.rotation)
    new, old = turned_box(points, turn), view.crop
    side = old[2] - old[0]
    far = max(abs(new[0] + new[2] - old[0] - old[2]), abs(new[1] + new[3] - old[1] - old[3])) >= side
    return view if far or not 0.4 < (new[2] - new[0]) / side < 2.5 else view._replace(crop=new, turn=turn)


def scaled_box(box: Box, factor: float) -> Box:
    """A box in a picture that is `factor` times as large."""
    x0, y0, x1, y1 = box
    return x0 * factor, y0 * factor, x1 * factor, y1 * factor


def scaled_face(face: Face, factor: float) -> Face:
    """A face in a picture that is `factor` times as large."""
    if factor == 1:
        return face
    p = face.parameters
    parameters = p._replace(scale=p.scale * factor, translation=p.translation * factor, landmarks=p.landmarks * factor)
    box, crop = scaled_box(face.box, factor), scaled_box(face.crop, factor)
    return replace(face, box=box, crop=crop, parameters=parameters)
