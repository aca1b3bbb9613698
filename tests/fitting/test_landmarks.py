"""A model's landmarks and the fit to labels alone (facemodels.fitting.landmarks)."""

import numpy as np
import torch

import facerender as fr
from facemodels import MorphableModel
from facemodels.fitting.landmarks import ModelLandmarks
from facemodels.fitting.least_squares import coefficient_layout
from facemodels.fitting.photo import fit_image
from tests.face_patch import patch, patch_data
from tests.synthetic_faces import camera, errors, rendered


def test_landmarks_have_their_derivative_on_the_moving_contour_too():
    model = MorphableModel(patch_data())
    model.contour = torch.stack(
        [model.landmark_index[:17, 0] + 0, model.landmark_index[:17, 0] + 1, model.landmark_index[:17, 0] - 1], 1
    )
    layout = coefficient_layout(model)
    marks = ModelLandmarks(model, layout, "moving")
    turn = fr.camera.euler_rotation(torch.tensor([[0.0, 0.9, 0.0]], dtype=torch.float64))[0]
    x = torch.full_like(layout.precision, 0.2)
    found, where = marks.at(x, turn)
    identity, expression, _ = layout.split(x[None].float())
    torch.testing.assert_close(found.float(), model.landmarks(model.shape(identity, expression), turn[None].float())[0])
    assert not torch.equal(found, marks.at(x, torch.eye(3, dtype=torch.float64))[0])
    torch.testing.assert_close(
        marks.jacobian(x, where), torch.autograd.functional.jacobian(lambda x: marks.at(x, turn)[0], x)
    )


def test_wrong_labels_do_not_spoil_the_right_ones():
    model = patch()
    picture, c, person, vertices, landmarks = rendered(model, seed=3)
    landmarks[[20, 40, 60]] += torch.tensor([40.0, -30.0])
    landmarks[[3, 50]] = torch.nan
    fit = fit_image(picture, landmarks, model, "static", iterations=30)
    assert errors(model, fit, c, vertices)[0] < 1


def test_the_deviation_of_the_labels_is_estimated_so_that_noise_is_not_taken_for_shape():
    model = patch()
    _, c, person, vertices, landmarks = rendered(model, seed=5)
    noisy = landmarks + 3 * torch.randn(68, 2, generator=torch.Generator().manual_seed(0))
    fit = fit_image(np.zeros((224, 224, 3), np.uint8) + 90, noisy, model, "static", iterations=0)
    assert (fit.identity.abs() < 3).all() and errors(model, fit, c, vertices)[0] < 2


def test_a_jaw_opens_to_landmarks():
    model = patch(jaw=True)
    person = model.shape(torch.zeros(1, 8), None, torch.tensor([[[0.35, 0.0, 0.0]]]))
    c = camera(yaw=0.5, pitch=0.0).to(torch.float32)
    fit = fit_image(
        np.full((224, 224, 3), 128, np.uint8), c.pixels(model.landmarks(person))[0], model, "static", iterations=0
    )
    assert fit.landmark_error < 0.5 and fit.joints.shape == (1, 1, 3) and fit.joints[0, 0, 0] > 0.2
