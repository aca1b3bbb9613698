"""Landmarks of the jaw that move to the outline of a turned face (facemodels.core.contour)."""

import math

import pytest
import torch

import facerender as fr
from facemodels.core.contour import contour_lines


@pytest.fixture(scope="module")
def builtin():
    from facemodels import load_model

    return load_model("builtin")


def rotation(yaw, pitch=0.0):
    return fr.camera.euler_rotation(torch.tensor([[math.radians(pitch), math.radians(yaw), 0.0]]))


def test_seen_from_the_front_the_contour_is_close_to_the_static_one(builtin):
    vertices = builtin.shape()
    static, moving = builtin.landmarks(vertices), builtin.landmarks(vertices, rotation(0))
    assert torch.equal(static[:, 17:], moving[:, 17:])
    assert (static - moving)[0, :17, :2].norm(dim=-1).max() < 6


@pytest.mark.parametrize("yaw", [-60, -40, 40, 60])
def test_turned_away_the_contour_of_the_far_side_lies_on_the_outline(builtin, yaw):
    """Turned to its left (yaw > 0), the head shows its right side: the far cheek is the left one, landmarks 9 to 16."""
    vertices, r = builtin.shape(), rotation(yaw)
    moving = (builtin.landmarks(vertices, r) @ r.transpose(1, 2))[0]
    static = (builtin.landmarks(vertices) @ r.transpose(1, 2))[0]
    cheek = torch.tensor(
        sorted(
            set(builtin.regions["face"].tolist())
            - set(builtin.regions["nose"].tolist())
            - set(builtin.regions["lips"].tolist())
        )
    )
    cheek = cheek[builtin.mean[cheek, 0].abs() > 22]  # neither nose nor mouth
    face = (vertices @ r.transpose(1, 2))[0][cheek]
    far, near = (slice(11, 16), slice(1, 6)) if yaw > 0 else (slice(1, 6), slice(11, 16))
    side = 1.0 if yaw > 0 else -1.0
    for k in range(68)[far]:
        level = face[(face[:, 1] - moving[k, 1]).abs() < 3]
        outline = (level[:, 0] * side).max()
        assert outline - moving[k, 0] * side < 9, (
            f"landmark {k} lies {outline - moving[k, 0] * side:.1f} mm inside the outline"
        )
    assert (moving[far, 0] * side - static[far, 0] * side).mean() > 3  # they have moved outwards
    assert torch.equal(moving[near], static[near])


def test_contour_lines_are_mirror_images_on_a_symmetric_head(builtin):
    lines = builtin.contour.long()
    mirrored = builtin.symmetry.long()[lines].flip(0)
    assert (builtin.mean[lines] - builtin.mean[mirrored]).norm(dim=-1).max() < 6
    again = contour_lines(
        builtin.mean.numpy(), builtin.faces.numpy(), builtin.landmark_index.numpy(), builtin.landmark_weights.numpy()
    )
    assert again.shape == (17, 16)
