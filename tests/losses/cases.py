"""Helpers of the tests of losses: a small model, random values, and a case of each loss."""

import numpy as np
import torch

from facemodels import losses as L
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
