"""FLAME's own: joints, regions, landmarks and texture coordinates from the files beside it."""

import numpy as np
import pytest
import torch

import facemodels
from facemodels import InputError
from facemodels.models.formats import read
from tests.models.files import (
    V,
    flame,
    flame_arrays,
)


def test_flame_jaw_turns_and_its_pose_blend_shapes_move_as_its_formula_says(tmp_path, face):
    model = facemodels.load_model(flame(tmp_path, face)[0])
    assert model.joints == ("neck", "jaw", "left eye", "right eye") and model.parents == (-1, 0, 1, 1, 1)
    arrays = flame_arrays(face)
    angle = 0.3
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    pose = np.zeros((4, 3, 3))
    pose[1] = turn - np.eye(3)
    rest = arrays["v_template"] + arrays["posedirs"] @ pose.ravel()
    jaw = (arrays["J_regressor"] @ arrays["v_template"])[2]
    weight = arrays["weights"][:, 2:3]
    posed = ((1 - weight) * rest + weight * ((rest - jaw) @ turn.T + jaw)) * 1e3
    joints = torch.zeros(1, 4, 3)
    joints[0, 1, 0] = angle
    np.testing.assert_allclose(model.shape(joints=joints)[0].numpy(), posed, atol=2e-4)


def test_flame_regions_come_from_its_masks(tmp_path, face):
    data = read(flame(tmp_path, face)[0])
    assert data.regions["face"].tolist() == list(range(30)) and len(data.regions["neck"]) == 10


def test_flame_without_side_files_has_no_landmarks_but_reads(tmp_path, face):
    path, _ = flame(tmp_path, face)
    for name in ("flame_static_embedding.pkl", "flame_dynamic_embedding.npy", "FLAME_masks.pkl"):
        (tmp_path / name).unlink()
    data = read(path)
    assert data.landmark_index is None and not data.regions and data.uv is None


def test_flame_landmarks_of_deca_are_read_from_torch_tensors(tmp_path, face):
    path, _ = flame(tmp_path, face)
    random = np.random.default_rng(0)
    triangle, weights = random.integers(0, len(face.faces), (1, 68)), random.dirichlet(np.ones(3), (1, 68))
    content = {
        "full_lmk_faces_idx": torch.from_numpy(triangle),
        "full_lmk_bary_coords": torch.from_numpy(weights).float(),
        "static_lmk_faces_idx": triangle[0],
    }
    np.save(tmp_path / "landmark_embedding.npy", np.array(content, object), allow_pickle=True)
    data = read(path)
    np.testing.assert_array_equal(data.landmark_index, face.faces[triangle[0]])
    np.testing.assert_allclose(data.landmark_weights, weights[0], atol=1e-6)


def test_flame_texture_coordinates_come_from_the_template_of_the_same_triangles(tmp_path, face):
    path, _ = flame(tmp_path, face)
    lines = [f"v {x} {y} {z}" for x, y, z in face.mean] + [f"vt {k / V} {1 - k / V}" for k in range(V)]
    (tmp_path / "head_template.obj").write_text(
        "\n".join(lines + [f"f {a + 1}/{a + 1} {b + 1}/{b + 1} {c + 1}/{c + 1}" for a, b, c in face.faces])
    )
    data = read(path)
    np.testing.assert_array_equal(data.uv_faces, data.faces)
    np.testing.assert_allclose(data.uv[:, 0], np.arange(V) / V, atol=1e-6)
    (tmp_path / "head_template.obj").write_text("\n".join(lines + ["f 1/1 2/2 3/3"]))
    with pytest.raises(InputError, match="head_template.obj: expected the model's own"):
        read(path)
