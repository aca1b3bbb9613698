"""Crops that a method is given (facemodels.reconstruction.views)."""

import numpy as np
import pytest

import facemodels
from facemodels.core.crops import landmark_box
from facemodels.reconstruction.views import (
    MAX_ROLL,
    View,
    recrop,
    roll_angle,
    view_of_landmarks,
)
from tests.stub_method import ramps


@pytest.mark.parametrize("count", [68, 21, 5])
def test_the_crop_of_given_landmarks_is_that_of_the_face_even_when_it_is_tilted(stub, count):
    """The mean face, rotated by 50 degrees: the same place and size, whichever landmarks are known."""
    from facemodels.core.landmarks import EIGHTEEN, EIGHTEEN_OF_AFLW

    points = stub.model.landmarks(stub.model.mean[None])[0, :, :2].double().numpy() * [1, -1]
    turn = np.radians(50)
    points = points @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) + 300
    whole = view_of_landmarks(0, points)
    if count == 21:
        some = np.full((21, 2), np.nan)
        some[list(EIGHTEEN_OF_AFLW)] = [points[list(group)].mean(0) for group in EIGHTEEN]
        some[20] = points[8]
        some = np.where(np.isnan(some), points[[0, 16]].mean(0), some)
    else:
        some = (
            points
            if count == 68
            else np.array([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])
        )
    view = view_of_landmarks(0, some)
    side = whole.crop[2] - whole.crop[0]
    assert view.turn == pytest.approx(turn, abs=0.03) and whole.turn == pytest.approx(turn, abs=0.03)
    assert np.abs(np.array(view.crop) - whole.crop).max() < {68: 1e-9, 21: 0.25, 5: 0.12}[count] * side


def test_the_crop_stays_where_landmarks_lie_elsewhere(stub):
    (face,) = facemodels.reconstruct(ramps(), stub, boxes=[(110, 60, 210, 190)])
    far = View(0, (0.0, 0.0, 20.0, 20.0), 0.0, face.box, 1.0)
    near = far._replace(crop=(100.0, 60.0, 220.0, 180.0))
    assert recrop(face, far) == far and np.allclose(
        recrop(face, near).crop, landmark_box(face.landmarks[:, :2].numpy())
    )


@pytest.mark.parametrize("degrees", [-15, 15, 25, -25])
def test_small_tilts_are_left_to_the_network(degrees):
    turn = np.radians(degrees)
    upright = np.array([[-1.0, -1], [1, -1], [0, 0], [-1, 1], [1, 1]])
    leant = upright @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    assert roll_angle(leant) == pytest.approx(turn if abs(turn) > MAX_ROLL else 0)
