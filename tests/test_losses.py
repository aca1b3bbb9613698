"""Losses: each against its formula in loops, in float64; gradients; invariances; empty batches and masks."""

import math

import numpy as np
import pytest
import torch

from facemodels import losses as L
from facemodels.core.landmarks import five_points
from facerender import camera

F64 = torch.float64
N, P, S, E = 3, 7, 4, 2  # batch, points, shape and expression modes


def random(*shape, seed=0, device="cpu", dtype=F64):
    return torch.from_numpy(np.random.default_rng([seed, *shape]).normal(size=shape)).to(device, dtype)


def uniform(*shape, seed=0, device="cpu", dtype=F64):
    return torch.from_numpy(np.random.default_rng([seed, *shape]).uniform(size=shape)).to(device, dtype)


def small_model(device="cpu", dtype=F64):
    """A model of P points in mm with 12 + S + E parameters of the sizes that they have in 3DDFA."""
    points = L.PointBasis(60 * random(P, 3, seed=1), 2 * random(S, P, 3, seed=2), 3 * random(E, P, 3, seed=3))
    affine = torch.tensor([[0.4, 0, 0, 60], [0, 0.4, 0, 65], [0, 0, 0.4, -70]], dtype=F64).flatten()
    spread = torch.tensor([0.2, 0.3, 0.3, 20] * 3, dtype=F64)
    whitening = L.Whitening(
        torch.cat([affine, torch.zeros(S + E, dtype=F64)]), torch.cat([spread, torch.ones(S + E, dtype=F64)])
    )

    def move(fields):
        return type(fields)(*(t.to(device, dtype) for t in fields))

    return move(points), move(whitening)


def rotations(device="cpu", dtype=F64):
    return camera.euler_rotation(random(N, 3, seed=4, device=device, dtype=dtype)), camera.euler_rotation(
        random(N, 3, seed=5, device=device, dtype=dtype)
    )


def embed(crop):
    values = crop.flatten(1)[:, ::7]
    return values * torch.arange(1, 1 + values.shape[1], dtype=crop.dtype, device=crop.device)


# name -> (loss, its tensors: those that gradients go to first, how many these are)
def cases(device="cpu", dtype=F64):
    on = dict(device=device, dtype=dtype)
    points, whitening = small_model(device, dtype)
    q, q_star = random(N, 12 + S + E, seed=6, **on), random(N, 12 + S + E, seed=7, **on)
    landmarks, labels, weights = (
        5 * random(N, P, 2, seed=8, **on),
        5 * random(N, P, 2, seed=9, **on),
        uniform(N, P, **on),
    )
    image, other, mask = (
        uniform(N, 9, 8, 3, seed=10, **on),
        uniform(N, 9, 8, 3, seed=11, **on),
        (uniform(N, 9, 8, seed=12, **on) > 0.3).to(dtype),
    )
    first, second = rotations(**on)
    a, b, basis = random(N, S, seed=13, **on), random(N, S, seed=14, **on), random(S, 3 * P, seed=15, **on)
    scores, real = 2 * random(N, 5, seed=16, **on), 2 * random(N, 4, seed=17, **on)
    five = torch.tensor(L.ARCFACE_POINTS, **on) / 14 + random(N, 5, 2, seed=18, **on) / 10
    table = {
        "landmark": (L.landmark_loss, (landmarks, labels, weights), 2),
        "landmark, 68": (L.landmark_loss, (random(N, 68, 2, seed=19, **on), random(N, 68, 2, seed=20, **on)), 2),
        "landmark, not squared": (
            lambda p, t, w: L.landmark_loss(p, t, w, squared=False),
            (landmarks, labels, weights),
            2,
        ),
        "wing": (L.wing_loss, (3 * landmarks, labels, weights), 2),
        "photometric": (L.photometric_loss, (image, other, mask), 2),
        "census": (lambda a, b, m: L.census_loss(a, b, m, radius=2), (image, other, mask), 2),
        "face crop": (lambda i, p: L.face_crop(i, p, size=8).square().sum(), (image, five), 1),
        "perceptual": (lambda a, b: L.perceptual_loss(a, b, embed), (image, other), 1),
        "gamma": (L.gamma_loss, (random(N, 9, 3, seed=21, **on),), 1),
        "reflectance": (L.reflectance_loss, (uniform(N, P, 3, seed=22, **on), uniform(P, seed=23, **on)), 1),
        "coefficients": (L.coefficient_loss, (a, b, 3 * a), 3),
        "vertex": (L.vertex_loss, (a, b, basis), 3),
        "gram": (L.gram_loss, (a, b, L.gram_matrix(basis)), 2),
        "pdc": (L.pdc_loss, (q, q_star), 2),
        "vdc": (lambda x, y: L.vdc_loss(x, y, whitening, points), (q, q_star), 2),
        "wpdc": (lambda x, y: L.wpdc_loss(x, y, whitening, points), (q, q_star), 1),
        "projected": (lambda x: L.projected_points(x, points).square().sum() / 1e4, (whitening.raw(q),), 1),
        "rotation angle": (lambda x, y: L.rotation_angle(x, y).sum(), (first, second), 2),
    }
    for form in L.FORMS:
        table[f"critic, {form}"] = (lambda r, s, form=form: L.critic_loss(r, s, form), (real, scores), 2)
        table[f"adversarial, {form}"] = (lambda s, form=form: L.adversarial_loss(s, form), (scores,), 1)
    return table


NAMES = list(cases())


def value_and_gradients(loss, tensors, count, autocast=False):
    leaves = [t.detach().clone().requires_grad_() for t in tensors[:count]]
    with torch.autocast(tensors[0].device.type, torch.bfloat16, enabled=autocast):
        value = loss(*leaves, *tensors[count:])
    return value.detach(), torch.autograd.grad(value, leaves) if count else ()


# ------------------------------------------------------------------ all of them


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n != "wpdc"]
)  # whose weights carry no gradient: a test of its own holds them
def test_gradients_are_those_of_finite_differences(name):
    loss, tensors, count = cases()[name]
    leaves = [t.clone().requires_grad_() for t in tensors[:count]]
    assert torch.autograd.gradcheck(lambda *x: loss(*x, *tensors[count:]), leaves, eps=1e-6, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_float32_agrees_with_float64_on_the_device(name, device):
    loss, tensors, count = cases(device, torch.float32)[name]
    want, goal = value_and_gradients(*cases()[name])
    got, gradients = value_and_gradients(loss, tensors, count)
    assert got.dtype == torch.float32 and got.shape == ()
    torch.testing.assert_close(got.double().cpu(), want, rtol=2e-5, atol=1e-6)
    for g, w in zip(gradients, goal):
        torch.testing.assert_close(g.double().cpu(), w, rtol=1e-3, atol=1e-5 * (1 + w.abs().max().item()))


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing_and_half_precision_is_summed_in_float32(name, device):
    loss, tensors, count = cases(device, torch.float32)[name]
    want, goal = value_and_gradients(loss, tensors, count)
    got, gradients = value_and_gradients(loss, tensors, count, autocast=True)
    assert torch.equal(got, want) and all(torch.equal(g, w) for g, w in zip(gradients, goal))
    if name in (
        "face crop",
        "perceptual",
        "projected",
        "vdc",
        "wpdc",
    ):  # the test's own arithmetic around these would be rounded
        return
    short = [t.bfloat16() for t in tensors]
    got = loss(*short)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, loss(*[t.float() for t in short]), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_compiles_to_one_graph_without_reading_a_value(name):
    """aot_eager traces forward and backward with tensors without data: reading a value of theirs fails."""
    torch._dynamo.reset()
    loss, tensors, count = cases(dtype=torch.float32)[name]
    want, goal = value_and_gradients(loss, tensors, count)
    got, gradients = value_and_gradients(torch.compile(loss, fullgraph=True, backend="aot_eager"), tensors, count)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    for g, w in zip(gradients, goal):
        torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("face crop", "projected")])
def test_equal_prediction_and_target_give_a_finite_value_and_gradient(name):
    loss, tensors, count = cases(dtype=torch.float32)[name]
    if len(tensors) > 1 and tensors[0].shape == tensors[1].shape:
        tensors = (tensors[0], tensors[0].clone(), *tensors[2:])
    value, gradients = value_and_gradients(loss, tensors, count)
    assert value.isfinite() and all(g.isfinite().all() for g in gradients)
    floor = {"photometric": 1e-3, "census": 0.01**0.4 / 2}.get(name, 0)
    if not name.startswith(("critic", "adversarial", "gamma", "reflectance", "coefficients")):
        assert abs(value.item() - floor) < 2e-6
        assert name == "rotation angle" or all(
            g.abs().max() < 1e-3 for g in gradients
        )  # an angle's slope is 1 as near to zero as it can be told from it


@pytest.mark.parametrize(
    "name",
    [n for n in NAMES if n not in ("landmark, 68", "gram", "reflectance", "face crop", "projected", "rotation angle")],
)
def test_an_empty_batch_costs_nothing(name):
    loss, tensors, count = cases(dtype=torch.float32)[name]
    empty = [t if len(t) != N or name == "vertex" and k == 2 else t[:0] for k, t in enumerate(tensors)]
    assert loss(*empty).item() == 0


@pytest.mark.parametrize("name", ["landmark", "wing", "photometric", "census", "pdc", "vdc", "wpdc", "vertex", "gram"])
def test_shapes_that_would_broadcast_are_refused_with_both_named(name):
    loss, tensors, _ = cases()[name]
    with pytest.raises(ValueError, match=r"shapes must be equal, got .*\[3, .*\[1, "):
        loss(tensors[0], tensors[1][:1], *tensors[2:])


# -------------------------------------------------------------------- landmarks


def test_landmark_loss_is_the_weighted_square_over_points_and_batch():
    _, (p, t, w), _ = cases()["landmark"]
    want = sum(w[n, k] * sum((p[n, k, c] - t[n, k, c]) ** 2 for c in range(2)) for n in range(N) for k in range(P)) / (
        N * P
    )
    assert math.isclose(L.landmark_loss(p, t, w).item(), want.item(), rel_tol=1e-12)
    want = sum(w[n, k] * math.hypot(*(p[n, k] - t[n, k]).tolist()) for n in range(N) for k in range(P)) / (N * P)
    assert math.isclose(L.landmark_loss(p, t, w, squared=False).item(), want.item(), rel_tol=1e-9)


def test_the_default_landmark_weights_are_deep3ds():
    weights = L.deep3d_landmark_weights()
    assert [k for k in range(68) if weights[k] == 20] == [
        28,
        29,
        30,
        60,
        61,
        62,
        63,
        64,
        65,
        66,
        67,
    ] and weights.sum() == 57 + 11 * 20
    p, t = random(N, 68, 2), random(N, 68, 2, seed=1)
    assert L.landmark_loss(p, t) == L.landmark_loss(p, t, weights)
    with pytest.raises(ValueError, match="68 landmarks, got 21"):
        L.landmark_loss(p[:, :21], t[:, :21])


def test_points_without_weight_may_be_nan_and_get_no_gradient():
    _, (p, t, w), _ = cases()["landmark"]
    t, w, p = t.clone(), w.clone(), p.clone().requires_grad_()
    t[0, 2], w[0, 2] = math.nan, 0
    for loss in (L.landmark_loss, L.wing_loss):
        value = loss(p, t, w)
        gradient = torch.autograd.grad(value, p)[0]
        assert value.isfinite() and gradient.isfinite().all() and not gradient[0, 2].any() and gradient[0, 3].all()


def test_mean_one_makes_the_loss_a_weighted_mean_over_the_points_that_have_weight():
    _, (p, t, _), _ = cases()["landmark"]
    w = torch.tensor([[1.0, 0, 2, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 3], [0] * 7], dtype=F64)
    square = (p - t).square().sum(-1)
    rows = [(square[0, 0] + 2 * square[0, 2] + square[0, 5]) / 4, square[1, 6], 0]
    torch.testing.assert_close(L.landmark_loss(p, t, L.mean_one(w)), sum(rows) / 3, rtol=1e-12, atol=0)
    torch.testing.assert_close(L.mean_one(5 * w), L.mean_one(w))


def test_losses_of_points_do_not_depend_on_their_order_nor_on_repeating_the_batch():
    _, (p, t, w), _ = cases()["landmark"]
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    for loss in (L.landmark_loss, L.wing_loss):
        torch.testing.assert_close(loss(p[:, order], t[:, order], w[:, order]), loss(p, t, w))
        torch.testing.assert_close(loss(p.repeat(2, 1, 1), t.repeat(2, 1, 1), w.repeat(2, 1)), loss(p, t, w))


def test_wing_is_logarithmic_up_to_omega_and_linear_beyond():
    zero = torch.zeros(1, 1, 1, dtype=F64)
    for x in (0.0, 0.3, -4.0, 9.999, 10.0, 25.0):
        size = abs(x)
        want = 10 * math.log(1 + size / 2) if size < 10 else size - (10 - 10 * math.log(1 + 10 / 2))
        assert math.isclose(L.wing_loss(zero + x, zero).item(), want, rel_tol=1e-12)


# ----------------------------------------------------------------------- images


def test_photometric_loss_is_the_mean_color_distance_over_the_mask():
    _, (a, b, m), _ = cases()["photometric"]
    m = m * uniform(*m.shape, seed=30)
    total = 0.0
    for n, i, j in np.ndindex(*m.shape):
        total += m[n, i, j].item() * math.sqrt(
            1e-6 + sum((a[n, i, j, c] - b[n, i, j, c]).item() ** 2 for c in range(3))
        )
    assert math.isclose(L.photometric_loss(a, b, m).item(), total / m.sum().item(), rel_tol=1e-12)
    assert L.photometric_loss(a, b, m > 0.5) == L.photometric_loss(a, b, (m > 0.5).double())


def test_photometric_loss_sees_nothing_outside_the_mask_and_an_empty_mask_is_zero():
    _, (a, b, m), _ = cases()["photometric"]
    changed = torch.where(m[..., None] > 0, a, 1 - a)
    assert L.photometric_loss(changed, b, m) == L.photometric_loss(a, b, m)
    a = a.clone().requires_grad_()
    value = L.photometric_loss(a, b, torch.zeros_like(m))
    assert value == 0 and not torch.autograd.grad(value, a)[0].any()
    soft = m.clone().requires_grad_()
    assert not L.photometric_loss(a.detach(), b, soft).requires_grad, "the mask must not be trained"


def census_in_loops(a, b, mask, radius):
    def gray(image):
        return 255 * (0.2989 * image[..., 0] + 0.5870 * image[..., 1] + 0.1140 * image[..., 2])

    a, b, mask = gray(a.numpy()), gray(b.numpy()), mask.numpy()
    total = count = 0.0
    for n, i, j in np.ndindex(*a.shape):
        if not (radius <= i < a.shape[1] - radius and radius <= j < a.shape[2] - radius):
            continue
        h = 0.0
        for di in range(-radius, radius + 1):
            for dj in range(-radius, radius + 1):
                t = []
                for g in (a, b):
                    d = g[n, i + di, j + dj] - g[n, i, j]
                    t.append(d / math.sqrt(0.81 + d * d))
                s = (t[0] - t[1]) ** 2
                h += s / (0.1 + s)
        total += mask[n, i, j] * (abs(h) + 0.01) ** 0.4
        count += mask[n, i, j]
    return total / (2 * count + 1e-6)


@pytest.mark.parametrize("radius", [1, 3])
def test_census_loss_is_the_robust_soft_hamming_distance_of_patches(radius):
    _, (a, b, m), _ = cases()["census"]
    assert math.isclose(L.census_loss(a, b, m, radius).item(), census_in_loops(a, b, m, radius), rel_tol=1e-10)


def test_census_loss_is_symmetric_blind_to_brightness_and_zero_for_an_empty_mask():
    _, (a, b, m), _ = cases()["census"]
    want = L.census_loss(a, b, m)
    torch.testing.assert_close(L.census_loss(b, a, m), want)
    torch.testing.assert_close(L.census_loss(a + 0.2, b - 0.1, m), want, rtol=1e-9, atol=0)
    assert L.census_loss(a, b, 0 * m) == 0
    gray_a, gray_b = a[..., :1], b[..., :1]
    color = L.census_loss(gray_a.expand(-1, -1, -1, 3), gray_b.expand(-1, -1, -1, 3), m)
    torch.testing.assert_close(L.census_loss(0.9999 * gray_a, 0.9999 * gray_b, m), color, rtol=1e-9, atol=0)
    with pytest.raises(ValueError, match=r"at least 7 pixels high and wide, as the patch is, got \[3, 6, 8, 3\]"):
        L.census_loss(a[:, :6], b[:, :6], m[:, :6])


def similarity_by_least_squares(source, goal):
    """[[a, -b, x], [b, a, y]] that takes source [5,2] to goal [5,2], by solving the overdetermined system."""
    rows, right = [], []
    for (x, y), (u, v) in zip(source, goal):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        right += [u, v]
    a, b, x, y = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    return np.array([[a, -b, x], [b, a, y]])


def test_the_face_crop_samples_where_the_least_squares_similarity_says():
    """Bilinear interpolation is exact for an image linear in x and y: a crop's values tell where they came from."""
    H, W = 90, 110
    y, x = torch.meshgrid(torch.arange(H, dtype=F64) + 0.5, torch.arange(W, dtype=F64) + 0.5, indexing="ij")
    image = torch.stack([x / W, y / H, (x + y) / (W + H)], -1)[None]
    turn = np.array([[0.52, -0.13], [0.13, 0.52]])
    goal = np.array(L.ARCFACE_POINTS)
    points = (goal - 56) @ turn.T + [54, 46] + np.random.default_rng(0).normal(size=(5, 2))
    crop = L.face_crop(image, torch.from_numpy(points)[None])
    assert crop.shape == (1, 3, 112, 112)
    forth = similarity_by_least_squares(points, goal)
    back = np.linalg.inv(np.vstack([forth, [0, 0, 1]]))
    for row, column in ((50, 56), (30, 40), (80, 70), (56, 20)):
        at = back @ [column + 0.5, row + 0.5, 1]
        want = 2 * np.array([at[0] / W, at[1] / H, (at[0] + at[1]) / (W + H)]) - 1
        np.testing.assert_allclose(crop[0, :, row, column].numpy(), want, atol=1e-9)
    half = L.face_crop(image, torch.from_numpy(points)[None], size=56)
    torch.testing.assert_close(half, torch.nn.functional.avg_pool2d(crop, 2), rtol=0, atol=1e-9)


def test_a_face_that_lies_where_arcface_wants_it_is_not_changed():
    image = uniform(1, 112, 112, 3)
    points = torch.tensor(L.ARCFACE_POINTS, dtype=F64)[None]
    torch.testing.assert_close(L.face_crop(image, points), 2 * image.movedim(-1, 1) - 1, rtol=0, atol=1e-9)


def test_five_equal_points_give_a_crop_of_one_color_without_nan():
    image = uniform(1, 20, 20, 3).requires_grad_()
    crop = L.face_crop(image, torch.full((1, 5, 2), 7.5, dtype=F64))
    torch.testing.assert_close(crop, (2 * image[0, 7, 7] - 1)[None, :, None, None].expand_as(crop))
    assert torch.autograd.grad(crop.sum(), image)[0].isfinite().all()
    with pytest.raises(ValueError, match=r"\[N,5,2\], got \[1, 68, 2\]"):
        L.face_crop(image, torch.zeros(1, 68, 2, dtype=F64))


def test_five_points_are_eyes_nose_and_mouth_corners():
    landmarks = random(2, 68, 2)
    want = [
        (landmarks[:, 36] + landmarks[:, 39]) / 2,
        (landmarks[:, 42] + landmarks[:, 45]) / 2,
        landmarks[:, 30],
        landmarks[:, 48],
        landmarks[:, 54],
    ]
    torch.testing.assert_close(five_points(landmarks), torch.stack(want, 1))


def test_perceptual_loss_is_one_minus_the_cosine_and_trains_only_the_rendered_image():
    a, b = uniform(N, 3, 4, 4).requires_grad_(), uniform(N, 3, 4, 4, seed=1).requires_grad_()
    x, y = embed(a).detach().numpy(), embed(b).detach().numpy()
    want = np.mean([1 - x[n] @ y[n] / math.sqrt(x[n] @ x[n]) / math.sqrt(y[n] @ y[n]) for n in range(N)])
    value = L.perceptual_loss(a, b, embed)
    assert math.isclose(value.item(), want, rel_tol=1e-12)
    value.backward()
    assert a.grad.any() and b.grad is None
    torch.testing.assert_close(L.perceptual_loss(a, b, lambda i: 9 * embed(i)), value)
    nothing = torch.zeros_like(a).requires_grad_()
    assert torch.autograd.grad(L.perceptual_loss(nothing, b, embed), nothing)[0].isfinite().all()


# -------------------------------------------------- light, albedo, coefficients


def test_gamma_loss_is_the_variance_over_the_colors():
    _, (gamma,), _ = cases()["gamma"]
    want = sum((gamma[n, k, c] - gamma[n, k].mean()) ** 2 for n in range(N) for k in range(9) for c in range(3)) / (
        N * 27
    )
    assert math.isclose(L.gamma_loss(gamma).item(), want.item(), rel_tol=1e-12)
    torch.testing.assert_close(L.gamma_loss(gamma + random(N, 9, 1)), L.gamma_loss(gamma))
    assert L.gamma_loss(gamma[..., :1].expand(-1, -1, 3)).item() < 1e-30


def test_reflectance_loss_is_the_variance_of_the_albedo_over_the_skin():
    _, (albedo, m), _ = cases()["reflectance"]
    total = 0.0
    for n in range(N):
        mean = [sum(m[v] * albedo[n, v, c] for v in range(P)) / m.sum() for c in range(3)]
        total += sum(((albedo[n, v, c] - mean[c]) * m[v]) ** 2 for v in range(P) for c in range(3))
    assert math.isclose(L.reflectance_loss(albedo, m).item(), (total / (N * m.sum())).item(), rel_tol=1e-12)
    torch.testing.assert_close(L.reflectance_loss(albedo + random(N, 1, 3), m), L.reflectance_loss(albedo, m))
    torch.testing.assert_close(L.reflectance_loss(2 * albedo, m), 4 * L.reflectance_loss(albedo, m))
    assert L.reflectance_loss(albedo, torch.zeros(P, dtype=bool)) == 0
    with pytest.raises(ValueError, match=r"skin must be \[7\]"):
        L.reflectance_loss(albedo, torch.ones(N, P))


def test_coefficient_loss_weights_identity_expression_and_albedo_as_deep3d_does():
    a, b, t = random(N, 5), random(N, 3, seed=1), random(N, 4, seed=2)
    want = sum(1.0 * (a[n] @ a[n]) + 0.8 * (b[n] @ b[n]) + 0.017 * (t[n] @ t[n]) for n in range(N)) / N
    assert math.isclose(L.coefficient_loss(a, b, t).item(), want.item(), rel_tol=1e-12)
    torch.testing.assert_close(L.coefficient_loss(a), (a * a).sum() / N)
    torch.testing.assert_close(L.coefficient_loss(a, albedo=t), (a * a).sum() / N + 0.017 * (t * t).sum() / N)


# --------------------------------------------------------------------- vertices


def test_vertex_loss_is_the_mean_square_over_coordinates_and_the_gram_form_equals_it():
    _, (a, b, basis), _ = cases()["vertex"]
    total = 0.0
    for n in range(N):
        for j in range(3 * P):
            total += sum((a[n, k] - b[n, k]).item() * basis[k, j].item() for k in range(S)) ** 2
    value = L.vertex_loss(a, b, basis)
    assert math.isclose(value.item(), total / (N * 3 * P), rel_tol=1e-12)
    a = a.clone().requires_grad_()
    direct, short = L.vertex_loss(a, b, basis), L.gram_loss(a, b, L.gram_matrix(basis))
    torch.testing.assert_close(short, direct, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(short, a)[0], torch.autograd.grad(direct, a)[0], rtol=1e-10, atol=1e-14
    )


def test_the_gram_form_equals_the_direct_one_in_float32_at_a_models_size():
    basis = random(60, 30000, dtype=torch.float32) * torch.logspace(1, -2, 60)[:, None]
    a, b = random(N, 60, dtype=torch.float32), random(N, 60, seed=1, dtype=torch.float32)
    torch.testing.assert_close(L.gram_loss(a, b, L.gram_matrix(basis)), L.vertex_loss(a, b, basis), rtol=1e-5, atol=0)


# ----------------------------------------------------------- 3DDFA's parameters


def unwhitened(q, whitening):
    return q.numpy() * whitening.std.numpy() + whitening.mean.numpy()


def projected_in_loops(p, points):
    matrix, t = p[:12].reshape(3, 4)[:, :3], p[:12].reshape(3, 4)[:, 3]
    out = np.empty((P, 3))
    for i in range(P):
        v = points.mean[i].numpy().copy()
        for k in range(S):
            v += p[12 + k] * points.shape[k, i].numpy()
        for k in range(E):
            v += p[12 + S + k] * points.expression[k, i].numpy()
        out[i] = matrix @ v + t
    return out


def test_twelve_parameters_are_the_rows_of_an_affine_map_then_shape_then_expression():
    points, whitening = small_model()
    q = random(N, 12 + S + E, seed=6)
    got = L.projected_points(whitening.raw(q), points)
    np.testing.assert_allclose(
        got.numpy(), [projected_in_loops(p, points) for p in unwhitened(q, whitening)], rtol=1e-12
    )
    torch.testing.assert_close(whitening.whitened(whitening.raw(q)), q)
    with pytest.raises(ValueError, match=r"\[N,18\] for 4 shape and 2 expression modes, got \[3, 62\]"):
        L.projected_points(random(3, 62), points)


def test_a_point_basis_at_some_points_is_the_basis_of_those():
    points, whitening = small_model()
    index, raw = torch.tensor([5, 0, 2]), whitening.raw(random(N, 12 + S + E))
    torch.testing.assert_close(L.projected_points(raw, points.at(index)), L.projected_points(raw, points)[:, index])


def test_pdc_is_the_mean_square_of_whitened_parameters():
    q, t = random(N, 62), random(N, 62, seed=1)
    want = sum((q[n, k] - t[n, k]) ** 2 for n in range(N) for k in range(62)) / (62 * N)
    assert math.isclose(L.pdc_loss(q, t).item(), want.item(), rel_tol=1e-12)


def test_vdc_is_the_mean_square_of_projected_coordinates_with_the_targets_depth():
    points, whitening = small_model()
    q, t = random(N, 12 + S + E, seed=6), random(N, 12 + S + E, seed=7)
    total = 0.0
    for p, g in zip(unwhitened(q, whitening), unwhitened(t, whitening)):
        p[11] = g[11]
        total += ((projected_in_loops(p, points) - projected_in_loops(g, points)) ** 2).sum()
    q = q.requires_grad_()
    value = L.vdc_loss(q, t, whitening, points)
    assert math.isclose(value.item(), total / (N * P * 3), rel_tol=1e-12)
    assert not torch.autograd.grad(value, q)[0][:, 11].any()


def wpdc_in_loops(q, t, whitening, points, scale):
    weights = np.empty((N, 12 + S + E))
    for n, (p, g) in enumerate(zip(unwhitened(q, whitening), unwhitened(t, whitening))):
        at = g.copy()
        at[:12] = np.eye(3, 4).flatten()
        shape = projected_in_loops(at, points)  # the target's points before the affine map
        for k in range(11):
            row, column = divmod(k, 4)
            reach = math.sqrt(P) if column == 3 else math.sqrt(sum(shape[i, column] ** 2 for i in range(P)))
            weights[n, k] = abs(p[k] - g[k]) * reach + 1e-6
        for k in range(S + E):
            mode = points.shape[k] if k < S else points.expression[k - S]
            weights[n, 12 + k] = scale * abs(p[12 + k] - g[12 + k]) * math.sqrt((mode.numpy() ** 2).sum()) + 1e-6
        weights[n, 11] = 0
        weights[n] /= weights[n].max()
    return weights


def test_wpdc_weighs_each_parameter_by_what_its_error_moves():
    points, whitening = small_model()
    q, t = random(N, 12 + S + E, seed=6), random(N, 12 + S + E, seed=7)
    weights = wpdc_in_loops(q, t, whitening, points, 0.57339936)
    np.testing.assert_allclose(L.wpdc_weights(q, t, whitening, points).numpy(), weights, rtol=1e-12)
    want = sum(weights[n, k] * (q[n, k] - t[n, k]).item() ** 2 for n in range(N) for k in range(12 + S + E)) / (
        N * (12 + S + E)
    )
    assert math.isclose(L.wpdc_loss(q, t, whitening, points).item(), want, rel_tol=1e-12)


def test_the_gradient_of_wpdc_is_that_of_a_square_with_its_weights_held():
    points, whitening = small_model()
    q, t = random(N, 12 + S + E, seed=6).requires_grad_(), random(N, 12 + S + E, seed=7)
    weights = torch.from_numpy(wpdc_in_loops(q.detach(), t, whitening, points, 0.57339936))
    got = torch.autograd.grad(L.wpdc_loss(q, t, whitening, points), q)[0]
    torch.testing.assert_close(got, 2 * weights * (q.detach() - t) / weights.numel(), rtol=1e-10, atol=1e-14)
    assert not got[:, 11].any()


def test_wpdc_in_millimetres_is_the_published_one_in_micrometres():
    """In 3DDFA's unit the matrix is a thousand times smaller, the basis larger, and the constant 0.00057339936."""
    points, whitening = small_model()
    q, t = random(N, 12 + S + E, seed=6), random(N, 12 + S + E, seed=7)
    unit = torch.ones(12 + S + E, dtype=F64)
    unit[[0, 1, 2, 4, 5, 6, 8, 9, 10]] = 1e-3
    micrometres = L.PointBasis(*(1000 * part for part in points)), L.Whitening(*(unit * part for part in whitening))
    torch.testing.assert_close(
        L.wpdc_loss(q, t, micrometres[1], micrometres[0], 0.00057339936),
        L.wpdc_loss(q, t, whitening, points),
        rtol=1e-12,
        atol=0,
    )
    torch.testing.assert_close(
        L.vdc_loss(q, t, micrometres[1], micrometres[0]), L.vdc_loss(q, t, whitening, points), rtol=1e-12, atol=0
    )


def test_the_depth_of_the_prediction_and_the_order_of_the_points_change_neither_vdc_nor_wpdc():
    points, whitening = small_model()
    q, t = random(N, 12 + S + E, seed=6), random(N, 12 + S + E, seed=7)
    deeper, mixed = q.clone(), points.at(torch.tensor([6, 2, 0, 5, 1, 4, 3]))
    deeper[:, 11] += 5
    for loss in (L.vdc_loss, L.wpdc_loss):
        want = loss(q, t, whitening, points)
        torch.testing.assert_close(loss(deeper, t, whitening, points), want)
        torch.testing.assert_close(loss(q, t, whitening, mixed), want)


# -------------------------------------------------------------------- rotations


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-3, 0.7, 2.0, math.pi - 1e-3, math.pi])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (F64, 1e-12)])
def test_the_rotation_angle_is_the_angle_that_lies_between(angle, dtype, tolerance):
    start = camera.euler_rotation(random(1, 3, seed=4))[0]
    axis = torch.tensor([0.48, -0.6, 0.64], dtype=F64)
    k = torch.tensor([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]], dtype=F64)
    turn = torch.eye(3, dtype=F64) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k
    first, second = start.to(dtype), (turn @ start).to(dtype)
    assert abs(L.rotation_angle(first, second).item() - angle) < tolerance
    assert abs(L.rotation_angle(second, first).item() - angle) < tolerance


def test_the_rotation_angle_is_unchanged_by_a_rotation_of_both_and_has_no_nan_gradient():
    first, second = rotations()
    common = camera.euler_rotation(random(1, 3, seed=9))
    torch.testing.assert_close(L.rotation_angle(common @ first, common @ second), L.rotation_angle(first, second))
    torch.testing.assert_close(L.rotation_angle(first @ common, second @ common), L.rotation_angle(first, second))
    half_turn = first @ torch.diag(torch.tensor([1.0, -1, -1], dtype=F64))
    for other in (first, half_turn):
        x = first.clone().requires_grad_()
        assert torch.autograd.grad(L.rotation_angle(x, other).sum(), x)[0].isfinite().all()


# ------------------------------------------------------------------ adversarial


def test_the_critics_losses_are_their_formulas():
    real, score = random(4, seed=1), random(5, seed=2)

    def sigmoid(s):
        return 1 / (1 + math.exp(-s))

    def mean(f, x):
        return sum(f(v) for v in x.tolist()) / len(x)

    cross_entropy = mean(lambda s: -math.log(sigmoid(s)), real) + mean(lambda s: -math.log(1 - sigmoid(s)), score)
    want = {
        "minimax": (cross_entropy, mean(lambda s: math.log(1 - sigmoid(s)), score)),
        "nonsaturating": (cross_entropy, mean(lambda s: -math.log(sigmoid(s)), score)),
        "least_squares": (
            mean(lambda s: (s - 1) ** 2, real) + mean(lambda s: s * s, score),
            mean(lambda s: (s - 1) ** 2, score),
        ),
        "hinge": (
            mean(lambda s: max(0, 1 - s), real) + mean(lambda s: max(0, 1 + s), score),
            mean(lambda s: -s, score),
        ),
    }
    assert set(want) == set(L.FORMS)
    for form, (critic, adversarial) in want.items():
        assert math.isclose(L.critic_loss(real, score, form).item(), critic, rel_tol=1e-12)
        assert math.isclose(L.adversarial_loss(score, form).item(), adversarial, rel_tol=1e-12)


@pytest.mark.parametrize("form", L.FORMS)
def test_extreme_scores_stay_finite_and_the_predictor_wants_higher_ones(form):
    scores = torch.tensor([-1000.0, -1.0, 0.0, 1.0, 1000.0], requires_grad=True)
    critic, adversarial = L.critic_loss(scores, scores, form), L.adversarial_loss(scores, form)
    gradients = torch.autograd.grad(critic, scores, retain_graph=True)[0], torch.autograd.grad(adversarial, scores)[0]
    assert critic.isfinite() and adversarial.isfinite() and all(g.isfinite().all() for g in gradients)
    assert (gradients[1][1:3] < 0).all(), "a score at which the critic doubts must be pushed up"


def test_an_unknown_form_is_named():
    with pytest.raises(ValueError, match="minimax, nonsaturating, least_squares, hinge, got 'wgan'"):
        L.critic_loss(torch.zeros(1), torch.zeros(1), "wgan")
    with pytest.raises(ValueError, match="got 'wgan'"):
        L.adversarial_loss(torch.zeros(1), "wgan")
