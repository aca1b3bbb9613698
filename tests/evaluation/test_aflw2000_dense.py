"""All vertices on AFLW2000-3D, with a made-up Basel model."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.io import savemat

from facemodels import InputError, load_model
from facemodels.core.crops import landmark_box
from facemodels.core.parameters import FaceParameters
from facemodels.data.tddfa import crop_camera
from facemodels.evaluation import aflw2000_dense
from tests.evaluation.labeled_faces import SIZE, YAWS, Stub, parse, points_of, write_aflw2000

# The made-up expressions are smaller than a face's, so that errors stay small.
pytestmark = pytest.mark.filterwarnings("ignore:.*expression moves no vertex by more than:UserWarning")


def basel(folder, side=9):
    """A made-up Model_Shape.mat and Model_Exp.mat."""
    folder.mkdir()
    random, V = np.random.default_rng(5), side * side
    x, y = np.meshgrid(np.linspace(-80, 80, side), np.linspace(90, -90, side))
    corner = np.arange(V).reshape(side, side)
    a, b, c, d = (corner[i, j].ravel() for i, j in (np.s_[:-1, :-1], np.s_[1:, :-1], np.s_[1:, 1:], np.s_[:-1, 1:]))
    shape = {
        "mu_shape": np.stack([x, y, 100 - (x * x + y * y) / 160], -1).reshape(-1, 1) * 1e3,
        "w": random.normal(size=(3 * V, 199)),
        "sigma": np.full((199, 1), 50.0),
    }
    shape |= {
        "tri": np.concatenate([np.stack([a, c, b]), np.stack([a, d, c])], 1) + 1,
        "keypoints": random.permutation(V)[:68][None] + 1,
    }
    savemat(folder / "Model_Shape.mat", shape)
    savemat(
        folder / "Model_Exp.mat",
        {"mu_exp": np.zeros((3 * V, 1)), "w_exp": random.normal(size=(3 * V, 29)), "sigma_exp": np.full((29, 1), 20.0)},
    )
    return folder / "Model_Shape.mat"


def dense_answers(size, shift=(0.0, 0.0)):
    """The labels of `write_aflw2000` with a Basel model, in the crop, moved by pixels of the crop."""

    def answer(k):
        box = landmark_box(points_of(k))
        rotation, scale, translation = crop_camera(
            np.array([0, math.radians(YAWS[k]), 0, 100, 100, 0, 1e-3]), SIZE, box, size
        )
        translation = np.array([translation[0] + shift[0], size - translation[1] - shift[1]])  # y down
        camera = (torch.as_tensor(v, dtype=torch.float32) for v in (rotation, scale, translation))
        return FaceParameters(torch.full((199,), 1 / 50.0), torch.full((29,), 1 / 20.0), *camera, torch.zeros(68, 3))

    return answer


def test_dense_errors_equal_a_known_shift_and_vanish_for_the_labels_themselves(tmp_path):
    data, path = write_aflw2000(tmp_path / "AFLW2000"), basel(tmp_path / "basel")
    model = load_model(path)
    perfect = aflw2000_dense.run(Stub(dense_answers(60), model, model=str(path)), data, parse(aflw2000_dense))
    assert perfect.results["vertices"] == 81 and perfect.results["images"] == 5
    for key in aflw2000_dense.MEASURES:
        assert perfect.results[f"{key}_plain_percent"] < 1e-3, key
    moved = aflw2000_dense.run(
        Stub(dense_answers(60, (3, -4)), model, model="elsewhere"), data, parse(aflw2000_dense, "--basel", str(path))
    )
    zoom = [60 / (b[2] - b[0]) for b in map(landmark_box, map(points_of, range(5)))]
    expected = [100 * 5 / (z * np.sqrt(np.ptp(points_of(k), axis=0).prod())) for k, z in enumerate(zoom)]
    np.testing.assert_allclose(moved.errors, expected, rtol=1e-4)
    assert moved.results["nme_dense_3d_min_z_plain_percent"] == pytest.approx(
        np.mean(expected), rel=1e-4
    )  # depth is not moved
    assert moved.row == [
        moved.results["nme_dense_2d_plain_percent"],
        moved.results["nme_dense_3d_mean_z_plain_percent"],
    ]
    assert json.loads(json.dumps(moved.results, allow_nan=False)) == moved.results


def test_dense_errors_need_the_basel_model_and_a_method_of_its_mesh(tmp_path):
    data, path = write_aflw2000(tmp_path / "AFLW2000"), basel(tmp_path / "basel")
    other = load_model(basel(tmp_path / "other", 10))
    for method, words, match in (
        (Stub(None, other, model="builtin"), (), "Model_Shape.mat with --basel .*builtin"),
        (Stub(None, other, model="builtin"), ("--basel", str(path)), "81 vertices, and it has .* 100 vertices"),
        (Stub(None, None), ("--basel", str(path)), "no mesh"),
        (Stub(None, None), ("--basel", str(tmp_path / "missing.mat")), "missing.mat"),
    ):
        with pytest.raises(InputError, match=match) as error:
            aflw2000_dense.run(method, data, parse(aflw2000_dense, *words))
        assert "\n" not in str(error.value)
