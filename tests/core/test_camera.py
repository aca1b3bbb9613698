"""Cameras against the renderer's, their derivatives against differences (facemodels.core.camera)."""

import math

import pytest
import torch

import facerender as fr
from facemodels.core.camera import POSE, camera_from_points
from facemodels.core.landmarks import landmark_means
from tests.face_patch import patch
from tests.synthetic_faces import camera


def points(count=30):
    return torch.randn(1, count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 50


def test_camera_without_focal_length_is_weak_perspective():
    c, p = camera(), points()
    height = c.size[0]
    shifted = c.translation + torch.tensor([[c.center[0], height - c.center[1]]])
    expected = fr.camera.weak_perspective(p, c.scale, c.rotation, shifted, c.size)
    torch.testing.assert_close(c.clip(p), expected)


def test_camera_with_focal_length_is_the_pinhole():
    c, p = camera(focal=700.0), points()
    distance = c.focal / c.scale
    place = torch.stack([c.translation[:, 0] / c.scale, c.translation[:, 1] / c.scale, -distance], -1)
    expected = fr.camera.pinhole(p @ c.rotation.mT + place, c.focal, c.center, c.size, 100, 2000)
    torch.testing.assert_close(c.pixels(p), fr.camera.to_pixels(expected, c.size))


@pytest.mark.parametrize("focal", [math.inf, 600.0])
def test_camera_jacobians_are_the_derivatives(focal):
    c, p = camera(focal=focal), points(5)
    to_point, to_pose = c.jacobian(p[0])
    expected = torch.autograd.functional.jacobian(lambda q: c.pixels(q)[0], p)  # [5,2,1,5,3]
    torch.testing.assert_close(to_point, torch.stack([expected[k, :, 0, k] for k in range(5)]))
    expected = torch.autograd.functional.jacobian(
        lambda step: c.moved(step).pixels(p)[0], torch.zeros(POSE, dtype=torch.float64)
    )
    torch.testing.assert_close(to_pose, expected)


def test_resampled_camera_shows_the_same_view():
    c, p = camera(focal=600.0), points()
    again = c.resampled(0.4, (30.0, -12.0), (100, 120))
    torch.testing.assert_close(again.pixels(p), (c.pixels(p) - torch.tensor([30.0, -12.0])) * 0.4)


@pytest.mark.parametrize("yaw", [-80, -40, 0, 40, 80])
@pytest.mark.parametrize("count", [5, 21, 68])
def test_camera_is_found_from_points_in_closed_form(yaw, count):
    truth = camera(yaw=math.radians(yaw))
    p = landmark_means(count).double() @ patch().landmarks(patch().shape()).double()[0]
    found = camera_from_points(p, truth.pixels(p[None])[0], torch.ones(count).double(), truth.size, truth.center)
    assert (found.pixels(p[None]) - truth.pixels(p[None])).norm(dim=-1).max() < 0.2
    assert torch.linalg.matrix_norm(found.rotation - truth.rotation) < 0.02
