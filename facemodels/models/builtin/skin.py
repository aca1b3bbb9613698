"""Colors of the built-in model: linear sRGB albedo of skin, lips, hair, eyes and teeth, and its modes of variation.

A person is a set of independent standard normal numbers, one for each named property, which say how much of which
pigment (`pigments`) there is where on the head (`skin_maps`, `skin_patterns`). That generator is not linear; the model
is its linearization: a mode is the central difference of the generator in one of those numbers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from facemodels.models.builtin.eyes import EYE, EYE_RADIUS, IRIS
from facemodels.models.builtin.pigments import (
    BLOOD,
    EPIDERMIS,
    MELANOSOME,
    OXYGEN,
    hair_reflectance,
    skin_reflectance,
)
from facemodels.models.builtin.skin_maps import SkinMaps
from facemodels.models.builtin.skin_patterns import ANTISYMMETRIC, PATTERNS, SYMMETRIC, SkinPatterns
from facemodels.models.builtin.smooth import smoothstep
from facemodels.models.builtin.template import Template

Person = dict[str, float]  # name of a property -> standard deviations from the average, 0 where absent
Deviation = Callable[[str], float]  # the same as a function
_ALL = slice(None)

# The names of the properties, by what they change.
_TONE = ("skin tone",)  # changes all
_PIGMENTS = (
    "blood", "yellow", "tan", "eyelid pigment", "pigment round the mouth", "cheeks", "nose", "ears",
    "shadows under the eyes", "lip colour", "lip pigment", "gums and tongue", "teeth",
    *(f"{name} {k + 1}" for name in ("melanin", "blood") for k in range(SYMMETRIC + ANTISYMMETRIC)),
    *(f"{name} {k + 1}" for name in ("melanin mottle", "blood mottle", "freckles", "moles") for k in range(PATTERNS)),
)  # fmt: skip
_HAIR = (
    "hair lightness", "red hair", "grey hair", "dense hair", "high hairline", "receding temples", "thin on top",
    "bald crown", "stubble", "moustache", "goatee", "dense brows", "thick brows", "long brows", "high brows",
    "arched brows", "joined brows", "lashes",
)  # fmt: skip
_EYES = ("light eyes", "green eyes", "rim of the iris", "eye whites", "red eyes")


def _weighted_sum(z: Person, name: str, fields: np.ndarray, scale: float) -> np.ndarray | float:
    """Return scale * sum_k z["name k"] fields[k], over the numbers that z has."""
    return sum((scale * z[f"{name} {k}"] * f for k, f in enumerate(fields, 1) if f"{name} {k}" in z), 0.0)


def _without_hair(m: SkinMaps, patterns: SkinPatterns, z: Person) -> np.ndarray:
    """Compute the colors [V,3] without hair: skin, lips, the inside of mouth, nostrils and ears, teeth."""

    def dev(name: str) -> float:
        return z.get(name, 0.0)

    tone, shadow = dev("skin tone"), dev("shadows under the eyes")
    # Even steps of tone are even steps of light through the epidermis. Light skin shows more of its yellow pigments:
    # without them its b* would fall far below measured values, 18 +- 2 at L* 64 +- 5 (Yun et al. 2010). Two and a half
    # deviations to either side reach from the class "very light" of the individual typology angle to "dark" (above 55
    # degrees, below -30; Chardon et al. 1991).
    through = max(0.51 + 0.175 * tone, 0.02)
    shade = (
        m.melanin
        + 0.06 * dev("tan") * m.tanned
        + 0.045 * dev("eyelid pigment") * m.lids
        + 0.06 * dev("pigment round the mouth") * m.around_mouth
    )
    shade = shade + (0.07 * dev("lip pigment") - 0.15) * m.lip + 0.25 * m.upper_lip
    shade = (
        shade
        + _weighted_sum(z, "melanin", patterns.smooth, 0.065)
        + _weighted_sum(z, "melanin mottle", patterns.melanin_mottle, 0.014)
    )
    shade = (
        shade
        + _weighted_sum(z, "freckles", patterns.freckles, 0.06)
        + _weighted_sum(z, "moles", patterns.moles, 0.09)
        + 0.14 * patterns.all_moles
    )
    melanin = -math.log(through) / (EPIDERMIS * float(MELANOSOME[1])) * np.exp(shade)
    flush = (
        m.blood
        + 0.16 * dev("blood")
        + 0.20 * dev("cheeks") * m.cheek
        + 0.22 * dev("nose") * m.nose
        + 0.2 * dev("ears") * m.ear
    )
    flush = flush + (1.2 + 0.2 * dev("lip colour")) * m.lip + 0.18 * shadow * m.under_eye
    flush = (
        flush
        + _weighted_sum(z, "blood", patterns.smooth, 0.09)
        + _weighted_sum(z, "blood mottle", patterns.blood_mottle, 0.05)
    )
    oxygen = OXYGEN + m.oxygen - 0.10 * shadow * m.under_eye - 0.06 * dev("lip pigment") * m.lip
    yellow = np.maximum(0.9 + 0.46 * tone + 0.3 * dev("yellow") + m.yellow, 0)
    skin = skin_reflectance(melanin, BLOOD * np.exp(flush), oxygen, yellow)
    # Mucous membrane: no melanin, much blood.
    moist = skin_reflectance(0.01, 0.03 * math.exp(0.15 * dev("gums and tongue")), OXYGEN, 0.3)
    _cover(skin, m.mucosa, moist)
    _cover(skin, m.wet, 0.9 * moist)
    skin *= m.light[:, None]
    _cover(
        skin,
        m.enamel,
        m.shine[:, None]
        * (np.array([0.52, 0.47, 0.39], np.float32) + dev("teeth") * np.array([0.025, 0.035, 0.05], np.float32)),
        m.teeth,
    )
    return skin


def _with_hair_and_eyes(m: SkinMaps, bare: np.ndarray, z: Person) -> np.ndarray:
    """Add hair and eyes to the colors [V,3] of `_without_hair`."""

    def dev(name: str) -> float:
        return z.get(name, 0.0)

    out = bare.copy()
    # Dark skin goes with dark hair; red hair has much of the one pigment and little of the other.
    eumelanin = 1.4 * math.exp(-0.42 * dev("skin tone") - 0.55 * dev("hair lightness") - 0.45 * dev("red hair"))
    hair = hair_reflectance(eumelanin, 0.15 * math.exp(0.7 * dev("red hair")))
    hair = hair + (0.035 + 0.025 * dev("grey hair")) * (np.array([0.44, 0.37, 0.25]) - hair)
    _cover(out, _scalp_cover(m, dev), hair)
    # Stubble is cut hair at and below the surface; light that is scattered above it in the skin is bluish.
    _cover(out, _beard_cover(m, dev), 0.6 * hair + np.array([0.030, 0.036, 0.044], np.float32))
    _cover(out, _brow_cover(m, dev), 0.8 * hair, m.brow)
    _cover(out, (0.85 + 0.07 * dev("lashes")) * m.lash, 0.5 * hair, m.lashes)
    out[m.eyeballs] = _eyeball(m.p[m.eyeballs] - np.float32(EYE), dev)
    return out


def _cover(colors: np.ndarray, share: np.ndarray, color: ArrayLike, ids: np.ndarray | slice = _ALL) -> None:
    """Put a color over a share of each of the vertices `ids`, in place."""
    colors[ids] += share[:, None] * (np.asarray(color, np.float32) - colors[ids])


def _scalp_cover(m: SkinMaps, dev: Deviation) -> np.ndarray:
    """Return the share of the scalp that closely cropped hair hides, [V]."""
    inside = m.above_hairline - 1.4 * dev("high hairline") - m.temple * (2 + 1.8 * dev("receding temples"))
    density = 0.94 + 0.018 * dev("dense hair") - 0.25 * m.sideburn
    thin = (0.16 + 0.075 * dev("thin on top")) * m.top + (0.10 + 0.06 * dev("bald crown")) * m.crown
    return np.clip(m.scalp * smoothstep(inside, -9, 11) * density * (1 - thin), 0, 1)


def _beard_cover(m: SkinMaps, dev: Deviation) -> np.ndarray:
    """Return the share of the skin that stubble hides, [V]."""
    cover = (
        (0.14 + 0.075 * dev("stubble")) * m.beard
        + (0.02 + 0.03 * dev("moustache")) * m.moustache
        + (0.02 + 0.03 * dev("goatee")) * m.goatee
    )
    return np.clip(cover, 0, 1)


def _brow_cover(m: SkinMaps, dev: Deviation) -> np.ndarray:
    """Return the share of the skin that the brows' hair hides, at the vertices `m.brow`."""
    along = m.brow_along
    across = (
        m.brow_across
        - 0.7 * dev("high brows")
        - 0.6 * dev("arched brows") * np.sin(np.pi * np.clip(along, 0, 1) ** 1.3)
    )
    half = np.interp(along, [-0.1, 0.0, 0.25, 0.6, 0.85, 1.0, 1.16], [2.8, 3.7, 4.2, 3.6, 2.9, 2.2, 1.5]) * (
        1 + 0.13 * dev("thick brows")
    )
    profile = np.exp(-math.log(2) * (across / half) ** 2)
    tail = 1.04 + 0.03 * dev("long brows")
    ends = (
        (0.35 + 0.65 * smoothstep(along, -0.04, 0.22))
        * smoothstep(along, -0.10, 0.06)
        * (1 - smoothstep(along, tail - 0.18, tail + 0.12))
    )
    between = (0.03 + 0.03 * dev("joined brows")) * np.exp(-0.5 * (m.p[m.brow, 0] / 7) ** 2 - 0.5 * (across / 4) ** 2)
    return np.clip((0.82 + 0.065 * dev("dense brows")) * profile * ends + between, 0, 1)


def _eyeball(d: np.ndarray, dev: Deviation) -> np.ndarray:
    """Compute the colors of an eyeball's vertices at d [N,3] from its center: white, iris with its rim, pupil."""
    r = np.linalg.norm(d, axis=1)
    rho = np.where(d[:, 2] > 0, np.hypot(d[:, 0], d[:, 1]), r + EYE_RADIUS) / IRIS
    sideways = np.abs(d[:, 0]) / r
    # White: the conjunctiva's vessels thicken towards the corners; lids and lashes keep light from the upper and lower
    # edge.
    white = np.array([0.52, 0.475, 0.445]) + dev("eye whites") * np.array([0.022, 0.035, 0.045])
    red = smoothstep(sideways, 0.45, 0.95)[:, None] * (0.55 + 0.15 * dev("red eyes"))
    color = (
        white
        * (1 - red * np.array([0.22, 0.48, 0.46]))
        * (1 - 0.25 * smoothstep(np.abs(d[:, 1]) / r, 0.25, 0.75))[:, None]
    )
    # Iris: melanin over a stroma that scatters blue, or green where it holds yellow pigment; more melanin about the
    # pupil; a rim where white and stroma meet.
    turn = np.arctan2(d[:, 1], d[:, 0])
    streaks = 1 + 0.10 * np.cos(9 * turn) + 0.06 * np.cos(14 * turn + 1)
    about_pupil = 1 - smoothstep(rho, 0.40, 0.75)
    melanin = math.exp(0.45 - 0.3 * dev("skin tone") - 0.6 * dev("light eyes")) * streaks * (1 + 0.25 * about_pupil)
    yellow = 0.5 * math.exp(-0.5 * dev("light eyes"))
    stroma = np.array([0.14, 0.20, 0.32]) * np.exp(
        dev("green eyes") * np.array([-0.10, 0.10, -0.30]) - yellow * np.array([0.15, 0.12, 0.9])
    )
    iris = 0.010 + stroma * np.exp(-melanin[:, None] * np.array([0.45, 1.1, 2.0]))
    rim = (0.55 + 0.12 * dev("rim of the iris")) * np.exp(-0.5 * ((rho - 0.98) / 0.10) ** 2)
    iris = iris * (1 - rim)[:, None]
    color += (1 - smoothstep(rho, 0.97, 1.09))[:, None] * (iris - color)
    color += (1 - smoothstep(rho, 0.30, 0.47))[:, None] * (0.003 - color)
    return color


_CHORD = 2.6  # standard deviations of skin tone, at the ends of the chord
# Steps of the central differences, 1 where absent: little melanin shows most far from the average.
_STEP = {"light eyes": 2.0, "hair lightness": 2.0, "red hair": 2.0}


@dataclass
class Skin:
    """The linear model of the albedo.

    Attributes:
        mean: float32 [V,3], linear sRGB, 0..1.
        modes: float32 [A,V,3], what one standard deviation of each of A independent coefficients adds.
        names: of the coefficients.
    """

    mean: np.ndarray
    modes: np.ndarray
    names: tuple[str, ...]


def skin(template: Template) -> Skin:
    """Linearize the generator: its average and its central differences, in order of variance.

    Along the skin tone, by far the widest direction, the generator is too curved for its tangent: there the model
    follows the chord between a light and a dark person, and has its mean in the middle of it, which keeps both ends
    within measured colors.
    """
    m = SkinMaps(template)
    patterns = SkinPatterns(m)
    average = _without_hair(m, patterns, {})
    # The share of the color below that hair and eyes leave visible.
    visible = _with_hair_and_eyes(m, np.ones_like(average), {}) - _with_hair_and_eyes(m, np.zeros_like(average), {})
    names = _TONE + _PIGMENTS + _HAIR + _EYES
    modes = np.empty((len(names), m.count, 3), np.float32)
    light, dark = (
        _with_hair_and_eyes(m, _without_hair(m, patterns, z), z)
        for z in ({"skin tone": _CHORD}, {"skin tone": -_CHORD})
    )
    modes[0] = (light - dark) / (2 * _CHORD)
    for k, name in enumerate(names[1:], 1):
        step = _STEP.get(name, 1.0)
        if name in _PIGMENTS:
            difference = visible * (
                _without_hair(m, patterns, {name: step}) - _without_hair(m, patterns, {name: -step})
            )
        else:
            difference = _with_hair_and_eyes(m, average, {name: step}) - _with_hair_and_eyes(m, average, {name: -step})
        modes[k] = difference / (2 * step)
    # In order of the variance that is visible while the mouth is shut.
    order = np.argsort(-np.einsum("avc,avc,v->a", modes, modes, 1 - m.mucosa), kind="stable")
    return Skin((light + dark) / 2, modes[order], tuple(names[k] for k in order))
