"""Coefficients of one model as those of another (facemodels.fitting.transfer)."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from facemodels import InputError, MorphableModel, load_model
from facemodels.fitting.transfer import Transfer
from tests.data_sets import DATA, needs_data
from tests.face_patch import patch, patch_data, permuted

IDENTITY = torch.tensor([[1.0, -0.5, 0.8, 0.3, -1.2, 0.6, 0.0, -0.4]])
EXPRESSION = torch.tensor([[0.8, 0.0, 0.2], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.1, 0.3, 0.9]])


def rotated_basis(data, seed=0):
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(data.identity),) * 2))[0]
    return replace(data, identity=np.einsum("ab,bvi->avi", q, data.identity), name="rotated"), q


def subdivided(data):
    """Every triangle as four."""
    edges, where = np.unique(
        np.sort(data.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1), axis=0, return_inverse=True
    )
    mid = where.reshape(-1, 3) + len(data.mean)
    a, b, c = data.faces.T
    ab, bc, ca = mid.T
    faces = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    arrays = {k: getattr(data, k) for k in ("mean", "identity", "expression", "albedo_mean", "albedo")}
    return replace(
        data,
        **{k: np.concatenate([v, v[..., edges, :].mean(-2)], -2) for k, v in arrays.items()},
        faces=faces,
        name="subdivided",
    )


@pytest.mark.parametrize("change", [permuted, subdivided])
def test_coefficients_come_back_from_the_same_model_in_another_mesh(change):
    transfer = Transfer(patch(), MorphableModel(change(patch_data())))
    torch.testing.assert_close(transfer.identity(IDENTITY), IDENTITY, atol=0.02, rtol=0)
    expression, joints = transfer.expression(EXPRESSION, IDENTITY)
    torch.testing.assert_close(expression, EXPRESSION, atol=0.02, rtol=0)
    assert joints is None


def test_identity_is_carried_to_another_basis_of_the_same_space():
    data, q = rotated_basis(patch_data())
    found = Transfer(patch(), MorphableModel(data)).identity(IDENTITY)
    torch.testing.assert_close(found, IDENTITY @ torch.from_numpy(q.T).float(), atol=0.05, rtol=0)


def test_a_source_that_sits_elsewhere_and_is_larger_makes_no_difference_to_expressions():
    data = patch_data()
    moved = replace(data, mean=data.mean * np.float32(1.05) + np.float32([0, 30, -12]), name="moved")
    expression, _ = Transfer(MorphableModel(moved), patch()).expression(EXPRESSION)
    torch.testing.assert_close(expression, EXPRESSION, atol=0.1, rtol=0)


def test_more_than_the_target_can_do_stays_within_its_bounds():
    expression, _ = Transfer(patch(), patch()).expression(torch.tensor([[2.0, -1.0, 0.5]]))
    torch.testing.assert_close(expression, torch.tensor([[1.0, 0.0, 0.5]]), atol=0.15, rtol=0)
    assert (expression >= 0).all() and (expression <= 1).all()


def test_a_model_to_itself_is_the_identity_to_the_last_bit():
    transfer = Transfer(patch(), patch())
    assert torch.equal(transfer.identity(IDENTITY), IDENTITY)
    assert torch.equal(transfer.expression(EXPRESSION, IDENTITY)[0], EXPRESSION)
    assert torch.equal(transfer.expression(EXPRESSION[:, :2])[0][:, :2], EXPRESSION[:, :2])
    for too_many in (lambda x: transfer.identity(x), lambda x: transfer.expression(x)):
        with pytest.raises(ValueError, match="999"):
            too_many(torch.zeros(1, 999))  # none is dropped
    other = replace(patch_data(), blendshapes=not patch_data().blendshapes)
    assert transfer.same and not Transfer(patch(), MorphableModel(other)).same


def test_a_jaw_becomes_a_jaw_and_blend_shapes():
    jawed, angles = patch(jaw=True), torch.tensor([[[0.2, 0.0, 0.0]], [[0.1, 0.05, 0.0]]])
    expression, joints = Transfer(jawed, jawed).expression(None, IDENTITY, angles)
    assert torch.equal(joints, angles) and not expression.any() and len(expression) == 2
    data = patch_data(jaw=True)
    other = MorphableModel(replace(data, mean=data.mean + np.float32([0, 0, 1])))
    _, joints = Transfer(jawed, other).expression(None, IDENTITY, angles)
    torch.testing.assert_close(joints, angles, atol=0.02, rtol=0)
    expression, joints = Transfer(jawed, patch()).expression(None, None, angles)
    assert joints is None and expression[0, 0] > 0.3 and expression[0, 0] > expression[1, 0]


def test_models_with_too_little_in_common_are_refused():
    data = replace(patch_data(), name="scrap", regions={"face": np.arange(400, 460)})
    with pytest.raises(InputError, match="scrap"):
        Transfer(patch(), MorphableModel(data))


@pytest.mark.slow
@needs_data("ict_facekit.npz")
def test_arkit_shapes_of_ict_facekit_become_the_builtin_shapes_of_that_name():
    source, target = load_model(str(DATA / "ict_facekit.npz")), load_model("builtin")
    shapes = ["jawOpen", "eyeBlinkLeft", "browDownRight", "mouthSmileLeft", "mouthLeft", "jawRight"]
    spelled = [
        re.sub("_?(L|R)$", lambda m: {"L": "Left", "R": "Right"}[m[1]], name) for name in source.expression_names
    ]  # eyeBlink_L in the original
    found, _ = Transfer(source, target).expression(
        torch.eye(source.num_expression)[[spelled.index(name) for name in shapes]]
    )
    assert [target.expression_names[k] for k in found.argmax(1)] == shapes
