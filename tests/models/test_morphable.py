"""MorphableModel: what coefficients mean, the fast paths, the moving contour, skinning, and errors for wrong input."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import facerender as fr
from facemodels import InputError, ModelData, MorphableModel, Skeleton
from facemodels.core.contour import contour_lines
from facemodels.core.rotation import axis_angle_rotation
from facemodels.models.model_data import truncated
from facemodels.models.morphable import blend, skin

V, I, E, A = 40, 7, 5, 3


def tiny(**changes):
    rng = np.random.default_rng(0)
    data = dict(
        name="tiny",
        mean=rng.normal(size=(V, 3)) * 50,
        identity=rng.normal(size=(I, V, 3)),
        expression=rng.normal(size=(E, V, 3)),
        faces=rng.permuted(np.tile(np.arange(V), (60, 1)), axis=1)[:, :3],
        albedo_mean=rng.uniform(0.3, 0.6, size=(V, 3)),
        albedo=rng.normal(size=(A, V, 3)) * 0.05,
        landmark_index=rng.integers(0, V, size=(68, 3)),
        landmark_weights=np.tile([0.5, 0.3, 0.2], (68, 1)),
    )
    return ModelData(**{**data, **changes})


@pytest.fixture
def model(device):
    return MorphableModel(tiny()).to(device)


def coefficients(device, n=4):
    return torch.randn(n, I, device=device), torch.randn(n, E, device=device), torch.randn(n, A, device=device)


def test_public_names_are_there():
    import facemodels

    for name in facemodels.__all__:
        assert getattr(facemodels, name) is not None
    assert set(facemodels.__all__) <= set(dir(facemodels))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = facemodels.nothing


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
    ],
)
def test_arrays_that_do_not_fit_are_one_sentence(change, words):
    with pytest.raises(InputError, match="tiny: .*" + words):
        tiny(**change)


def test_srgb_albedo_is_decoded_after_blending():
    model = MorphableModel(tiny(albedo_encoding="srgb"))
    a = torch.randn(2, A)
    encoded = blend(model.albedo_mean, model.albedo_basis, a).clamp(0, 1)
    want = torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    torch.testing.assert_close(model.albedo(a), want)


def test_rotation_vectors_are_rotations_also_at_zero():
    vectors = torch.randn(20, 3, dtype=torch.float64) * torch.logspace(-9, 0.4, 20, dtype=torch.float64)[:, None]
    r = axis_angle_rotation(vectors)
    torch.testing.assert_close(r, torch.linalg.matrix_exp(_cross(vectors)), rtol=0, atol=1e-12)
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(axis_angle_rotation, zero)


def _cross(v):
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(-1, 3, 3)


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


# -------------------------------------------------------- on the built-in model


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
