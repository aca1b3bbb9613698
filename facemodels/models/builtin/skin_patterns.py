"""Random fields over the mean head: smooth ones, mottling, freckles and moles."""

import math

import numpy as np

from facemodels.models.builtin.skin_maps import SkinMaps
from facemodels.models.builtin.smooth import smoothstep

PATTERNS = 3  # of mottled melanin, mottled blood, freckles and moles each
SYMMETRIC, ANTISYMMETRIC = 6, 2  # smooth fields over the face, with equal and with opposite values on both halves


class SkinPatterns:
    """Fields that a person's random numbers weight; the same on every call, from fixed seeds.

    Attributes:
        smooth: [SYMMETRIC + ANTISYMMETRIC,V], over the face.
        melanin_mottle: [PATTERNS,V]; blood_mottle and freckles likewise.
        moles: [PATTERNS,V], positive on one side and negative on the other; all_moles: [V], of both sides.
    """

    def __init__(self, m: SkinMaps) -> None:
        rng = np.random.default_rng(1)
        hairless = m.face * (1 - m.scalp * smoothstep(m.above_hairline, -8, 0))
        self.smooth = _smooth_fields(m, SYMMETRIC, ANTISYMMETRIC)
        self.melanin_mottle = np.stack([_mottle(m, 7.0, rng) for _ in range(PATTERNS)])
        self.blood_mottle = np.stack([_mottle(m, 9.0, rng) for _ in range(PATTERNS)])
        self.freckles = np.stack([_spots(m, m.freckled * m.face, 110, 1.9, rng) for _ in range(PATTERNS)])
        moles = np.stack([_spots(m, hairless, 6, 1.5, rng) for _ in range(PATTERNS)])
        mirrored = moles[:, m.symmetry]
        # A coefficient darkens the moles of one side or those of the other; the average has a trace of all.
        self.moles, self.all_moles = moles - mirrored, (moles + mirrored).sum(0)


def _smooth_fields(maps: SkinMaps, symmetric: int, antisymmetric: int, length: float = 30.0) -> np.ndarray:
    """Compute the leading directions of a smooth random field of unit variance over the face.

    This is the Karhunen-Loeve expansion of a Gaussian kernel, extended from a sample of vertices to the others by
    Nystrom's method.

    Args:
        maps: the mean head.
        symmetric: how many directions with equal values on both halves.
        antisymmetric: how many with opposite values.
        length: of the kernel, mm.

    Returns:
        [symmetric + antisymmetric,V].
    """
    near = np.flatnonzero(maps.is_head & (maps.p[:, 2] > -20))
    left = np.flatnonzero((maps.face > 0.5) & (maps.v[:, 0] > 1))
    at = maps.p[left[:: max(1, len(left) // 120)]]

    def kernel(a: np.ndarray) -> np.ndarray:
        return np.exp(-(((a * a).sum(1)[:, None] + (at * at).sum(1) - 2 * a @ at.T) / (2 * length**2)))

    def both(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return kernel(a), kernel(a * np.array([-1, 1, 1], np.float32))

    sample, wide = both(at), both(maps.p[near])
    out = np.zeros((symmetric + antisymmetric, maps.count), np.float32)
    for rows, sign in ((slice(0, symmetric), 1), (slice(symmetric, symmetric + antisymmetric), -1)):
        count = rows.stop - rows.start
        value, vector = np.linalg.eigh((sample[0] + sign * sample[1]).astype(float))
        basis = (vector[:, : -count - 1 : -1] / np.sqrt(value[: -count - 1 : -1])).astype(np.float32)
        basis *= np.sign(basis[np.abs(basis).argmax(0), np.arange(count)])  # eigenvectors come with either sign
        field = (wide[0] + sign * wide[1]) @ basis
        out[rows, near] = (field * np.where(maps.v[near, :1] < 0, sign, 1)).T
    return out


def _mottle(maps: SkinMaps, length: float, rng: np.random.Generator, waves: int = 48) -> np.ndarray:
    """Draw a random field [V] of unit variance with features of the given length, mm.

    Random Fourier features (Rahimi and Recht 2007).
    """
    k, phase = rng.standard_normal((3, waves)) / length, rng.uniform(0, 2 * np.pi, waves)
    return np.cos(maps.v @ np.float32(k) + np.float32(phase)).sum(1) * math.sqrt(2 / waves) * maps.is_head


def _spots(maps: SkinMaps, where: np.ndarray, count: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` round spots [V] of height 0.4..1 and a radius in mm, at vertices drawn by the weights `where`."""
    where = where.astype(float)
    center = rng.choice(maps.count, count, replace=False, p=where / where.sum())
    near = np.flatnonzero(where > 0.02 * where.max())
    d = maps.v[near][:, None] - maps.v[center]
    out = np.zeros(maps.count, np.float32)
    out[near] = (np.exp(-(d * d).sum(-1) / (2 * radius**2)) * rng.uniform(0.4, 1, count)).max(1)
    return out
