"""Two teachers in one: offsets of the mesh are found, better points win, and disagreement lowers the weight."""

import math

import numpy as np
import pytest
import torch

from facemodels import InputError, load_model
from facemodels.core.rotation import head_rotation
from facemodels.teachers.combine import FEWEST, SHARES, TOO_FAR, _interpolated, combine, poses_of
from facemodels.teachers.face_mesh import IBUG, POINTS, MeshPoints

FACES = 400


@pytest.fixture(scope="module")
def seen():
    """(true landmarks [N,68,3] in pixels, yaw in degrees) of the mean head in many poses."""
    model = load_model("builtin")
    generator = torch.Generator().manual_seed(0)
    angles = (torch.rand(FACES, 3, generator=generator) - 0.5) * torch.tensor([40.0, 170.0, 60.0])
    rotation = head_rotation(angles)
    scale = 0.4 + 0.3 * torch.rand(FACES, generator=generator)
    points = scale[:, None, None] * (model.landmarks(model.mean[None]) @ rotation.mT)
    return points * torch.tensor([1, -1, 1]) + torch.tensor([60.0, 60, 0]), angles, scale


def noisy(points, scale, mm, seed):
    noise = torch.randn(points.shape, generator=torch.Generator().manual_seed(seed))
    return points + mm * scale[:, None, None] * noise


def mesh_of(points, scale, score=1.0, mm=1.0):
    """A mesh whose points stand 5 mm above iBUG's in an upright face, and elsewhere the more a head is turned."""
    truth, angles, scale = points, scale[0], scale[1]
    roll, yaw = angles[:, 2] * math.pi / 180, angles[:, 1] / 30
    shift = torch.stack([2 * yaw, -5 + 0 * yaw], 1)
    c, s = roll.cos(), roll.sin()
    shift = torch.stack([c * shift[:, 0] - s * shift[:, 1], s * shift[:, 0] + c * shift[:, 1]], 1) * scale[:, None]
    found = np.zeros((FACES, POINTS, 3), np.float32)
    found[:, IBUG, :2] = (noisy(truth[:, 17:, :2], scale, mm, 1) + shift[:, None]).numpy()
    return MeshPoints(found, np.full(FACES, score, np.float32))


def test_poses_are_those_of_the_head(seen):
    truth, angles, scale = seen
    poses = poses_of(truth, load_model("builtin"))
    torch.testing.assert_close(poses.angles, angles, rtol=0, atol=1e-2)
    torch.testing.assert_close(poses.scale, scale, rtol=1e-4, atol=0)
    shift = torch.randn(FACES, 4, 2)
    torch.testing.assert_close(poses.to_picture(poses.to_face(shift)), shift, rtol=0, atol=1e-5)


def test_both_teachers_are_better_than_one_where_the_mesh_is_good(seen):
    truth, angles, scale = seen
    network = noisy(truth, scale, 2.0, 2)
    found = combine(network, mesh_of(truth, (angles, scale)), poses_of(truth, load_model("builtin")), 0 * scale)
    frontal = angles[:, 1].abs() < 30
    error, alone = (
        ((p - truth)[:, 17:, :2].norm(dim=-1).mean(1) / scale)[frontal].mean() for p in (found.landmarks, network)
    )
    assert error < 0.6 * alone and 0.65 < found.share[frontal].mean() < 0.75
    assert torch.equal(found.landmarks[:, :17], network[:, :17]) and torch.equal(
        found.landmarks[..., 2], network[..., 2]
    )
    assert (found.share[angles[:, 1].abs() > 80.5] == 0).all()


@pytest.mark.parametrize("what", ["score", "distance"])
def test_a_mesh_that_sees_no_face_or_another_one_does_not_count(seen, what):
    truth, angles, scale = seen
    mesh = mesh_of(truth, (angles, scale))
    if what == "score":
        mesh.score[:50] = 0.5
    else:
        mesh.points[:50] += 4 * TOO_FAR * scale[:50, None, None].numpy()
    spread = 4 * scale  # pixels: 4 mm
    found = combine(truth, mesh, poses_of(truth, load_model("builtin")), spread)
    assert torch.equal(found.landmarks[:50], truth[:50]) and (found.share[50:][angles[50:, 1].abs() < 60] > 0.2).all()
    assert found.weight[:50].tolist() == pytest.approx([0.5] * 50, abs=1e-3)
    assert found.weight[50:][angles[50:, 1].abs() < 60].min() > 0.8


def test_too_few_photographs_to_find_offsets_are_refused(seen):
    truth, angles, scale = seen
    mesh = mesh_of(truth, (angles, scale))
    some = slice(0, FEWEST - 1)
    few = MeshPoints(mesh.points[some], mesh.score[some])
    poses = poses_of(truth[some], load_model("builtin"))
    with pytest.raises(InputError, match=f"of {FEWEST - 1} photographs, .* takes at least {FEWEST}; give more"):
        combine(truth[some], few, poses, scale[some])


def test_the_mesh_has_a_point_for_each_landmark_but_the_contour():
    assert len(IBUG) == len(set(IBUG)) == 68 - 17 and max(IBUG) < POINTS


def test_values_between_those_of_a_table():
    x = torch.tensor([0.0, 10, 20, 50, 80, 100])
    assert _interpolated(x, SHARES).tolist() == pytest.approx([0.75, 0.725, 0.7, 0.375, 0, 0])
