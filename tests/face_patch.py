"""A tiny morphable model for tests.

The front of an egg with a nose: 961 vertices, 68 landmarks, a handful of smooth modes.
"""

from copy import deepcopy
from dataclasses import replace
from functools import lru_cache

import numpy as np

from facemodels import ModelData, MorphableModel, Skeleton

SIDE = 31


def landmark_places() -> np.ndarray:
    """[68,2] x, y in mm, roughly where iBUG's points lie."""
    angle = np.linspace(-1.45, 1.45, 17)
    jaw = np.stack([62 * np.sin(angle), 5 - 68 * np.cos(angle)], 1)

    def arc(x0, x1, y, rise, count):
        x = np.linspace(x0, x1, count)
        return np.stack([x, y + rise * (1 - ((x - (x0 + x1) / 2) / ((x1 - x0) / 2)) ** 2)], 1)

    brows = [arc(-50, -14, 36, 5, 5), arc(14, 50, 36, 5, 5)]
    nose = [np.stack([np.zeros(4), np.linspace(24, -4, 4)], 1), arc(-13, 13, -10, -3, 5)]
    eyes = [np.concatenate([arc(c - 14, c + 14, 22, 4, 4), arc(c + 7, c - 7, 19, 0, 2)]) for c in (-31, 31)]
    outer = np.concatenate([arc(-25, 25, -33, 6, 7), arc(17, -17, -40, -4, 5)])
    inner = np.concatenate([arc(-19, 19, -34, 2, 5), arc(10, -10, -37, 0, 3)])
    return np.concatenate([jaw, *brows, *nose, *eyes, outer, inner])


def patch_data(blendshapes: bool = True, jaw: bool = False) -> ModelData:
    """The model's data, the caller's own: it may change them.

    jaw: a second joint, below the ears, that turns the lower face; its skinning is a toy's.
    """
    return deepcopy(_patch_data(blendshapes, jaw))


@lru_cache
def _patch_data(blendshapes: bool, jaw: bool) -> ModelData:
    u, v = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE))
    x, y = 66 * u.ravel(), 72 * v.ravel()
    depth = 70 * np.sqrt(np.clip(1.35 - (x / 72) ** 2 - (y / 90) ** 2, 0.02, None))
    depth += (
        bump(x, y, 0, 0, 9, 18) * 22
        - bump(x, y, -31, 20, 14, 9) * 8
        - bump(x, y, 31, 20, 14, 9) * 8
        + bump(x, y, 0, -36, 18, 9) * 5
    )
    mean = np.stack([x, y, depth], 1)
    i = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    a, b, c, d = i[:-1, :-1].ravel(), i[:-1, 1:].ravel(), i[1:, :-1].ravel(), i[1:, 1:].ravel()
    faces = np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])

    random = np.random.default_rng(3)
    identity = [mean * [0.05, 0, 0], mean * [0, 0.05, 0], mean * [0, 0, 0.08]]
    for _ in range(5):
        cx, cy, size = random.uniform(-35, 35), random.uniform(-45, 45), random.uniform(18, 30)
        identity.append(bump(x, y, cx, cy, size, size)[:, None] * random.normal(size=3) * 2.5)
    expression = [
        bump(x, y, 0, -48, 28, 20)[:, None] * [0, -12, -2],  # the chin down
        (bump(x, y, -24, -36, 12, 12) * -1 + bump(x, y, 24, -36, 12, 12))[:, None] * [6, 0, 0]
        + bump(x, y, 0, -36, 26, 10)[:, None] * [0, 3, 0],
        (bump(x, y, -31, 38, 16, 10) + bump(x, y, 31, 38, 16, 10))[:, None] * [0, 7, 1],
    ]
    skin = np.tile([0.50, 0.32, 0.24], (len(mean), 1))
    lips, brows = bump(x, y, 0, -36, 20, 6), bump(x, y, -31, 38, 16, 3) + bump(x, y, 31, 38, 16, 3)
    eyes = bump(x, y, -31, 21, 11, 4) + bump(x, y, 31, 21, 11, 4)
    skin = skin * (1 - 0.4 * lips[:, None] * [0.2, 1, 0.8]) * (1 - 0.6 * brows[:, None]) * (1 - 0.5 * eyes[:, None])
    albedo = [skin * 0.15, skin * [0.1, -0.03, -0.06]] + [
        skin * bump(x, y, random.uniform(-45, 45), random.uniform(-50, 50), 14, 14)[:, None] * 0.15 for _ in range(4)
    ]

    places = np.array([((mean[:, :2] - p) ** 2).sum(1).argmin() for p in landmark_places()])
    skeleton = None
    if jaw:
        low = np.clip((-y - 20) / 20, 0, 1)
        regressor = np.zeros((2, len(mean)))
        regressor[0] = 1 / len(mean)
        regressor[1, [i[10, 0], i[10, -1]]] = 0.5
        skeleton = Skeleton(("root", "jaw"), (-1, 0), np.stack([1 - low, low], 1), regressor)
    return ModelData(
        "patch",
        mean,
        np.stack(identity),
        np.stack(expression),
        faces,
        ("chinDown", "mouthWide", "browsUp"),
        blendshapes,
        skin,
        np.stack(albedo),
        landmark_index=np.repeat(places[:, None], 3, 1),
        landmark_weights=np.tile([1.0, 0, 0], (68, 1)),
        contour=np.repeat(places[:17, None], 2, 1),
        skeleton=skeleton,
    )


def bump(x, y, cx, cy, width, height):
    return np.exp(-0.5 * (((x - cx) / width) ** 2 + ((y - cy) / height) ** 2))


def patch(**options) -> MorphableModel:
    return MorphableModel(patch_data(**options))


def permuted(data, seed=0):
    order = np.random.default_rng(seed).permutation(len(data.mean))
    place = np.argsort(order)
    per_vertex = {
        k: getattr(data, k)[..., order, :] for k in ("mean", "identity", "expression", "albedo_mean", "albedo")
    }
    return replace(
        data,
        **per_vertex,
        faces=place[data.faces],
        landmark_index=place[data.landmark_index],
        contour=place[data.contour],
        name="permuted",
    )
