"""Head pose on AFLW2000-3D."""

import json

import numpy as np
import pytest
import torch
from scipy.io import savemat

from facemodels import InputError
from facemodels.core.parameters import FaceParameters
from facemodels.core.rotation import head_angles
from facemodels.data.tddfa import pose_rotation
from facemodels.evaluation import evaluate, pose
from facemodels.evaluation.report import draw_curve
from tests.evaluation.labeled_faces import YAWS, Stub, parse, points_of, write_aflw2000


def turned(rotation):
    nothing = torch.zeros(1)
    return FaceParameters(
        nothing,
        nothing,
        torch.as_tensor(rotation, dtype=torch.float32),
        torch.ones(()),
        torch.zeros(2),
        torch.zeros(68, 3),
    )


def angles_of(rotation):
    return np.radians(head_angles(torch.from_numpy(rotation)).numpy())


def test_angles_follow_the_data_sets_own_convention():
    angles = np.random.default_rng(0).uniform((-3, -1.5, -3), (3, 1.5, 3), (50, 3))
    np.testing.assert_allclose(angles_of(pose_rotation(angles)), angles, atol=1e-9)
    beyond = np.radians(
        [10.0, 95, -5]
    )  # a yaw that no matrix tells from the one of the other side: the same rotation in other words
    again = angles_of(pose_rotation(beyond))
    assert abs(again[1]) <= np.pi / 2
    np.testing.assert_allclose(pose_rotation(again), pose_rotation(beyond), atol=1e-12)


def test_differences_of_angles_go_the_shorter_way_round():
    np.testing.assert_allclose(
        pose.differences(np.array([179.0, -179, 10, 0]), np.array([-179.0, 179, -20, 180])), [-2, 2, 30, -180]
    )


def test_pose_errors_are_mean_absolute_and_mean_signed_errors_of_each_angle():
    labels = np.array([[0.0, 10, 0], [0, -20, 0]])
    predicted = np.array([[4.0, 13, -1], [-2, -21, 3]])
    results, errors = pose.scores(pose_rotation(np.radians(predicted)), labels)
    expected = {"mae_pitch_degrees": 3, "mae_yaw_degrees": 2, "mae_roll_degrees": 2, "mae_mean_degrees": 7 / 3}
    expected |= {
        "mean_signed_error_pitch_degrees": 1,
        "mean_signed_error_yaw_degrees": 1,
        "mean_signed_error_roll_degrees": 1,
    }
    for key, value in expected.items():
        assert results[key] == pytest.approx(value, abs=1e-9), key
    np.testing.assert_allclose(errors, [8 / 3, 2])


def test_faces_beyond_99_degrees_are_excluded_and_named(tmp_path):
    data = write_aflw2000(tmp_path / "AFLW2000")  # yaws of 0, 20, -45, 70, 85
    far = {
        "Pose_Para": np.radians([[0, 20, -100, 0, 0, 0, 0]]) + [[0, 0, 0, 100, 100, 0, 1e-3]],
        "Shape_Para": np.ones((199, 1)),
        "Exp_Para": np.ones((29, 1)),
    }
    savemat(data / "image00001.mat", far | {"pt3d_68": np.concatenate([points_of(1).T + 0.5, np.zeros((1, 68))])})
    method = Stub(lambda k: turned(pose_rotation(np.radians([0.0, YAWS[k] + 3, 0]))))
    found = pose.run(method, data, parse(pose))
    assert (
        found.results["images"] == 4
        and found.results["images_excluded_beyond_99_degrees"] == 1
        and "image00001" in found.notes[0]
    )
    assert (
        found.results["mae_yaw_degrees"] == pytest.approx(3, abs=1e-3)
        and found.results["mae_pitch_degrees"] < 1e-3
        and found.unit == "degrees"
    )
    assert found.row == [found.results[f"mae_{a}_degrees"] for a in ("yaw", "pitch", "roll", "mean")]
    assert json.loads(json.dumps(found.results, allow_nan=False)) == found.results
    assert pose.run(Stub(method.answer), data, parse(pose, "--limit", "1")).results["images"] == 1
    with pytest.raises(InputError, match="limit"):
        evaluate("pose", data, method, limit=0)
    with pytest.raises(InputError, match="limit='0': expected a whole number, 1 or more; found 0"):
        evaluate("pose", data, method, limit="0")
    for k in (0, 2, 3, 4):
        (data / f"image{k:05d}.mat").write_bytes(b"")
    with pytest.warns(UserWarning, match="4 of 5"):
        nobody = pose.run(Stub(method.answer), data, parse(pose))
    assert nobody.row == [None] * 4 and nobody.results["images_left_out"] == 4 and draw_curve(nobody, "stub").any()
