"""MorphableModel: what coefficients mean, the fast paths, skinning, and errors for wrong input."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from facemodels import InputError, MorphableModel, Skeleton
from facemodels.core.rotation import axis_angle_rotation
from facemodels.models.builtin import builtin_data
from facemodels.models.model_data import truncated
from facemodels.models.morphable import blend, skin
from tests.face_patch import patch_data
from tests.tiny_model import A, E, I, V, tiny


@pytest.fixture
def model(device):
    return MorphableModel(tiny()).to(device)


def coefficients(device, n=4):
    return torch.randn(n, I, device=device), torch.randn(n, E, device=device), torch.randn(n, A, device=device)


def test_a_face_is_the_mean_and_the_sum_of_its_modes(model, device):
    data, (i, e, a) = tiny(), coefficients(device)
    face = model(i, e, a)
    want = (
        data.mean
        + np.einsum("nk,kvc->nvc", i.cpu(), data.identity)
        + np.einsum("nk,kvc->nvc", e.cpu(), data.expression)
    )
    torch.testing.assert_close(face.vertices.cpu(), torch.from_numpy(want).float(), rtol=1e-5, atol=1e-4)
    colors = np.clip(data.albedo_mean + np.einsum("nk,kvc->nvc", a.cpu(), data.albedo), 0, 1)
    torch.testing.assert_close(face.albedo.cpu(), torch.from_numpy(colors).float(), rtol=1e-5, atol=1e-5)
    points = (want[:, data.landmark_index] * data.landmark_weights[..., None]).sum(-2)
    torch.testing.assert_close(face.landmarks.cpu(), torch.from_numpy(points).float(), rtol=1e-5, atol=1e-3)


def test_without_coefficients_it_is_the_mean_face(model):
    face = model()
    assert torch.equal(face.vertices[0], model.mean) and face.albedo.shape == (1, V, 3)


def test_one_identity_shared_by_many_frames_equals_repeating_it(model, device):
    i, e, _ = coefficients(device, 6)
    torch.testing.assert_close(model.shape(i[:1], e), model.shape(i[:1].expand(6, -1), e), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(model.shape(i, e[:1]), model.shape(i, e[:1].expand(6, -1)), rtol=1e-5, atol=1e-4)


def test_fewer_coefficients_use_the_first_modes(model, device):
    i, e, a = coefficients(device)
    padded = torch.cat([i[:, :3], torch.zeros(4, I - 3, device=device)], 1)
    torch.testing.assert_close(model.shape(i[:, :3], e[:, :2]), model.shape(padded, e[:, :2]), rtol=1e-5, atol=1e-4)
    short = MorphableModel(truncated(tiny(), 3, 2, 1)).to(device)
    torch.testing.assert_close(short.shape(i[:, :3], e[:, :2]), model.shape(i[:, :3], e[:, :2]), rtol=1e-5, atol=1e-4)
    assert short.num_albedo == 1 and short.expression_names == model.expression_names[:2]


def test_arrays_of_numpy_and_other_precisions_are_taken(model, device):
    i, e, a = coefficients(device)
    want = model(i, e, a)
    for change in (lambda c: c.cpu().numpy(), lambda c: c.double(), lambda c: c.double().cpu().numpy()):
        found = model(*map(change, (i, e, a)))
        torch.testing.assert_close(found.vertices, want.vertices)
        torch.testing.assert_close(found.albedo, want.albedo)
    double = i.double().requires_grad_()
    model.shape(double, e[:, :2]).square().sum().backward()
    assert double.grad.dtype == torch.float64 and double.grad.any()
    for wrong in ([[0.0]], np.array([["a"]])):
        with pytest.raises(ValueError, match="identity must be a tensor or an array of numbers"):
            model.shape(wrong)


def test_gradients_equal_differences(device):
    model = MorphableModel(tiny()).to(device).double()
    inputs = tuple(c.double().requires_grad_() for c in coefficients(device, 2))
    assert torch.autograd.gradcheck(lambda i, e, a: model(i, e, 0.1 * a), inputs)


def test_bfloat16_is_the_same_face_coarsely(model, device):
    i, e, _ = coefficients(device)
    coarse = MorphableModel(tiny()).to(device).bfloat16()
    torch.testing.assert_close(coarse.shape(i.bfloat16(), e.bfloat16()).float(), model.shape(i, e), rtol=0.05, atol=1.0)


def test_wrong_coefficients_name_both_sizes(model, device):
    with pytest.raises(ValueError, match=rf"identity must be \[N,{I}\].*got \[2, {I + 1}\]"):
        model.shape(torch.zeros(2, I + 1, device=device))
    with pytest.raises(ValueError, match="identity 3, expression 2"):
        model.shape(torch.zeros(3, I, device=device), torch.zeros(2, E, device=device))
    with pytest.raises(ValueError, match="tiny has none"):
        model.shape(joints=torch.zeros(1, 2, 3, device=device))


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(mean=np.full((V, 3), np.nan)), "mean holds a number that is not finite"),
        (dict(identity=np.zeros((I, V + 1, 3))), r"identity must be \[any,40,3\], got \[7,41,3\]"),
        (dict(faces=np.array([[0, 1, V]])), "faces must hold indices in 0..39, got 0..40"),
        (dict(albedo=None), "albedo_mean and albedo come together"),
        (dict(expression_names=("one",)), "5 expressions have 1 names"),
        (dict(symmetry=np.full(V, -1)), "symmetry must hold indices"),
        (dict(regions={"face": np.array([V])}), "region 'face'"),
        (dict(regions={"face": np.zeros(V + 1, bool)}), r"region 'face' is a mask \[41\], expected \[40\]"),
        (dict(regions={"face": np.zeros((V, 1), bool)}), r"region 'face' is a mask \[40,1\]"),
        (dict(regions={"face": np.array([0.5])}), "region 'face' must hold whole numbers, got 0.5"),
        (dict(faces=np.zeros((3, 3), bool)), "faces must hold indices, got booleans"),
        (dict(faces=np.array([[0, 1, 2.5]])), "faces must hold whole numbers, got 2.5"),
        (dict(identity=np.zeros((V, 3, I))), r"got \[40,3,7\]; np.moveaxis\(identity, 2, 0\)"),
        (dict(expression=np.zeros((3 * V, E))), r"got \[120,5\]; expression.T.reshape\(-1, 40, 3\)"),
        (dict(albedo=np.zeros((A, 3 * V))), r"got \[3,120\]; albedo.reshape\(-1, 40, 3\)"),
        (dict(albedo_mean=np.full((V, 3), 140.0)), r"albedo_mean must be in 0..1, got 0..140; divide .* by 255"),
        (dict(landmark_index=np.full(68, V), landmark_weights=None), "landmark_index must hold indices in 0..39"),
        (
            dict(landmark_index=np.zeros(51), landmark_weights=None),
            r"landmark_index must be \[68\], got \[51\]; put -1 for",
        ),
        (dict(landmark_weights=None), r"landmark_index \[68,3\] needs landmark_weights"),
        (dict(landmark_weights=np.ones((68, 3))), "landmark_weights must have rows of sum 1.*row 0 has 3"),
    ],
)
def test_arrays_that_do_not_fit_are_one_sentence(change, words):
    with pytest.raises(InputError, match="tiny: .*" + words):
        tiny(**change)


@pytest.mark.parametrize(
    "factor, unit",
    [
        (1e-3, "meters.*by 1000"),
        (1e-2, "decimeters.*by 100"),
        (0.1, "centimeters.*by 10"),
        (1 / 25.4, "inches"),
        (1e3, "micrometers"),
    ],
)
def test_a_face_in_another_unit_is_named_with_what_brings_it_to_millimeters(factor, unit):
    with pytest.raises(InputError, match=f"tiny: mean must be in millimeters, .*if it is in {unit}"):
        tiny(mean=tiny().mean * factor)


def test_a_mask_of_a_region_becomes_its_vertices():
    mask = np.arange(V) % 3 == 1
    regions = tiny(regions={"face": mask, "nose": [5, 4]}).regions
    assert regions["face"].tolist() == np.flatnonzero(mask).tolist() and regions["nose"].tolist() == [5, 4]
    assert regions["face"].dtype == regions["nose"].dtype == np.int32


def test_a_model_that_names_no_face_has_one_around_the_tip_of_the_nose():
    head = builtin_data()
    bare = MorphableModel(replace(head, regions={}))
    tip = head.landmark_weights[30] @ head.mean[head.landmark_index[30]]
    near = np.flatnonzero(np.linalg.norm(head.mean - tip, axis=1) <= 95)
    np.testing.assert_array_equal(bare.regions["face"], near)
    assert 0.75 < np.isin(head.regions["face"], near).mean() and len(near) < 0.8 * len(head.mean)
    assert replace(head, regions={}).regions == {}  # data is not added to: its vertices may be put in another order
    assert MorphableModel(tiny(landmark_index=None, landmark_weights=None)).regions == {}


def test_landmarks_may_be_one_vertex_each():
    vertices = np.arange(68) % V
    vertices[3] = -1
    data = tiny(landmark_index=vertices, landmark_weights=None)
    assert data.has_landmark.sum() == 67 and not data.has_landmark[3]
    points = MorphableModel(data).landmarks(torch.from_numpy(data.mean)[None])[0]
    wanted = np.where(vertices[:, None] >= 0, data.mean[vertices], 0)
    np.testing.assert_allclose(points, wanted, rtol=1e-6)


@pytest.mark.parametrize("textured", [False, True])
def test_a_mesh_that_is_inside_out_is_turned(textured):
    right = patch_data()
    inward = right.faces[:, [0, 2, 1]]
    uv = {"uv": right.mean[:, :2] / 200 + 0.5, "uv_faces": inward} if textured else {}
    turned = replace(right, faces=inward, **uv)
    assert np.array_equal(turned.faces, right.faces)
    assert not textured or np.array_equal(turned.uv_faces, right.faces)


def test_srgb_albedo_is_decoded_after_blending():
    model = MorphableModel(tiny(albedo_encoding="srgb"))
    a = torch.randn(2, A)
    encoded = blend(model.albedo_mean, model.albedo_basis, a).clamp(0, 1)
    want = torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    torch.testing.assert_close(model.albedo(a), want)


def skeleton():
    rng = np.random.default_rng(2)
    weights = rng.uniform(size=(V, 3))
    regressor = rng.uniform(size=(3, V))
    return Skeleton(
        ("root", "neck", "jaw"),
        (-1, 0, 1),
        weights / weights.sum(1, keepdims=True),
        regressor / regressor.sum(1, keepdims=True),
        rng.normal(size=(18, V, 3)) * 0.1,
    )


def test_skinning_turns_each_vertex_about_its_joints():
    """Against matrices built joint by joint, as smplx and FLAME define them."""
    s = skeleton()
    model = MorphableModel(tiny(skeleton=s)).double()
    i, e, joints = torch.randn(2, I).double(), torch.randn(2, E).double(), 0.4 * torch.randn(2, 2, 3).double()
    got = model.shape(i, e, joints)
    rest = model.shape(i, e)
    r = axis_angle_rotation(joints)
    posed = rest + torch.einsum(
        "nk,kvc->nvc", (r - torch.eye(3)).flatten(1), torch.from_numpy(s.pose_basis.astype(np.float32)).double()
    )
    at = torch.from_numpy(s.regressor.astype(np.float32)).double() @ rest
    for n in range(2):
        chain = [torch.eye(4).double()]
        chain[0][:3, 3] = at[n, 0]
        for j in (1, 2):
            local = torch.eye(4).double()
            local[:3, :3], local[:3, 3] = r[n, j - 1], at[n, j] - at[n, j - 1]
            chain.append(chain[-1] @ local)
        for v in range(0, V, 7):
            point = torch.zeros(3).double()
            for j in range(3):
                back = torch.eye(4).double()
                back[:3, 3] = -at[n, j]
                point += (
                    float(np.float32(s.weights[v, j]))
                    * (chain[j] @ back @ torch.cat([posed[n, v], torch.ones(1).double()]))[:3]
                )
            torch.testing.assert_close(got[n, v], point, rtol=1e-6, atol=1e-5)


def test_joints_at_rest_change_nothing_and_wrong_ones_are_refused():
    model = MorphableModel(tiny(skeleton=skeleton()))
    torch.testing.assert_close(model.shape(joints=torch.zeros(1, 2, 3)), model.mean[None], rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="joints must be .*neck, jaw, got"):
        model.shape(joints=torch.zeros(1, 3, 3))
    with pytest.raises(InputError, match="skeleton"):
        tiny(skeleton=replace(skeleton(), parents=(-1, 2, 1)))
    v = torch.randn(1, 5, 3)
    turn = axis_angle_rotation(torch.tensor([[[0, 0, 0], [0.3, -0.2, 0.1]]]))
    got = skin(v, torch.zeros(1, 2, 3), turn, (-1, 0), torch.tensor([[0.0, 1.0]]).expand(5, 2))
    torch.testing.assert_close(got, v @ turn[:, 1].transpose(1, 2))
