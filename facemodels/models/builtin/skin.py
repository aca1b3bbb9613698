"""Colours of the built-in model: linear sRGB albedo of skin, lips, hair, eyes and teeth, and the directions in which people differ.

Colours are made by pigments. Skin is two layers: melanin in the epidermis filters light on its way in and out; blood, in a scattering dermis
beneath, absorbs part of what comes back (Anderson and Parrish 1981, The optics of human skin). Where on the head there is how much of what is
a matter of anatomy (`_Maps`), and how much of it a person has is a set of independent standard normal numbers (`_albedo`). That generator is
bent; the model is its linearisation: a mode is the central difference of the generator in one of those numbers (`skin`).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator

from facemodels.models.builtin.eyes import CANTHI, EYE, EYE_RADIUS, IRIS, LID_MARGIN_RING
from facemodels.models.builtin.mouth import LIP_BORDER_RING, LIP_CONTACT_RING, TEETH_A_SIDE, TEETH_ARCH
from facemodels.models.builtin.smooth import smoothstep
from facemodels.models.builtin.template import Template

# ---------------------------------------------------------------------------------------------------------------------- pigments

# In three bands, the means over 590-640, 520-570 and 450-490 nm, which stand for the primaries of sRGB. Coefficients in 1/cm.
# Whole blood, 150 g/l of haemoglobin, with and without oxygen: Prahl (1998), tabulated molar extinction of haemoglobin in water.
_OXYGENATED = np.float32([18.8, 212.0, 204.4])
_DEOXYGENATED = np.float32([61.1, 240.6, 186.5])
# Inside a melanosome, 6.6e11 nm^-3.33; skin without pigments, 0.244 + 85.3 exp(-(nm - 154) / 66.2): Jacques (1998), Skin optics.
_MELANOSOME = np.float32([342.8, 513.4, 840.0])
_BARE = np.float32([0.33, 0.48, 0.98])
# Reduced scattering of skin, 46 (nm / 500)^-1.421: Jacques (2013), Optical properties of biological tissues: a review.
_SCATTERING = np.float32([34.3, 40.8, 50.3])
# Bilirubin and carotene absorb blue light, and of green the edge (Jacques 2013).
_YELLOW = np.float32([0.0, 0.12, 1.0])

_EPIDERMIS = (
    0.015  # cm, the way through the epidermis and back; 60 um thick (Jacques 1998), passed twice, mostly aslant
)
_ESCAPE = 7.0  # a half space gives back exp(-A / sqrt(3 (1 + scattering / absorption))) of the light, A of 7 to 8 for tissue (Jacques 1999)
_SURFACE = (
    0.025  # scattered at the surface, white: n = 1.55 of the horny layer reflects 4.6 %, the rough part of it diffusely
)

# Eumelanin and pheomelanin in hair, per unit of concentration, red, green, blue: d'Eon et al. (2011), An energy-conserving hair reflectance model.
_EUMELANIN = np.float32([0.419, 0.697, 1.37])
_PHEOMELANIN = np.float32([0.187, 0.4, 1.05])
_HAIR_DEPTH = (
    5.9  # colour of a mass of hair: exp(-5.9 sqrt(absorption)), Chiang et al. (2016) at an azimuthal roughness of 0.3
)
_SHEEN = 0.012  # of the hair's surface

_BLOOD = 0.006  # share of the dermis that is blood, in the face; 0.002 on average over the body (Jacques 1998)
_OXYGEN = 0.7  # saturation: between arterioles and venules


def skin_reflectance(melanin, blood, oxygen=_OXYGEN, yellow=0.0) -> np.ndarray:
    """Diffuse reflectance of skin in the three bands: [...] each -> [...,3], linear sRGB.

    melanin: share of the epidermis that is melanosomes, 0.01 (very light) to 0.4 (very dark); blood: share of the dermis that is blood;
    oxygen: saturation of that blood, 0..1; yellow: absorption by bilirubin and carotene in the blue band, 1/cm.
    """
    melanin, blood, oxygen, yellow = (np.asarray(v)[..., None] for v in (melanin, blood, oxygen, yellow))
    absorption = _BARE + blood * (_DEOXYGENATED + oxygen * (_OXYGENATED - _DEOXYGENATED)) + yellow * _YELLOW
    dermis = _ESCAPE / np.sqrt(3 * (1 + _SCATTERING / absorption))
    return _SURFACE + (1 - _SURFACE) * np.exp(-dermis - _EPIDERMIS * melanin * _MELANOSOME)


def hair_reflectance(eumelanin, pheomelanin) -> np.ndarray:
    """Colour [...,3], linear sRGB, of a mass of hair: eumelanin 0.1 (blond), 0.7 (brown), 3 (black); pheomelanin 0 to 1 (red)."""
    absorption = np.asarray(eumelanin)[..., None] * _EUMELANIN + np.asarray(pheomelanin)[..., None] * _PHEOMELANIN
    return _SHEEN + (1 - _SHEEN) * np.exp(-_HAIR_DEPTH * np.sqrt(absorption))


# -------------------------------------------------------------------------------------------------------------------------- maps

# Border of the scalp's hair by angle round the head from the middle of the face, degrees: height, mm. The hairline stands 65 mm above the nasion
# (Farkas 1994, nasion to trichion), draws back at the temples, comes down in front of the ear as the sideburn, ends low on the nape.
_HAIRLINE = [
    (0, 71),
    (10, 72),
    (22, 73),
    (32, 71),
    (42, 66),
    (52, 58),
    (60, 44),
    (66, 24),
    (71, 4),
    (76, -8),
    (90, -12),
    (104, -16),
    (120, -38),
    (140, -58),
    (180, -68),
]
# Upper and lower border of the beard, likewise.
_BEARD_TOP = [(0, -45), (8, -47), (15, -53), (22, -60), (32, -60), (42, -54), (54, -42), (64, -27), (74, -10), (90, -4)]
_BEARD_END = [(0, -124), (30, -122), (50, -112), (65, -94), (80, -74), (90, -56)]


class _Maps:
    """Where things are on the mean head: arrays [V], 0..1 unless said otherwise. Both halves alike (they are functions of |x|)."""

    def __init__(self, t: Template):
        v = self.v = t.vertices.astype(np.float32)
        self.p = p = np.stack([np.abs(v[:, 0]), v[:, 1], v[:, 2]], 1)
        x, y, z = p.T
        self.count, self.symmetry = len(v), t.symmetry
        self.eyeballs = np.concatenate([t.parts["left eye"], t.parts["right eye"]])
        self.is_head = np.ones(len(v), bool)
        self.is_head[
            np.concatenate([self.eyeballs] + [t.parts[n] for n in ("upper teeth", "lower teeth", "tongue")])
        ] = False
        self.landmark = {k: v[i] for k, i in enumerate(t.landmarks)}
        self.turn = np.degrees(np.arctan2(x, z + 5.0))  # round the head from the middle of the face
        self._eyes(t)
        self._mouth(t)
        self._nostrils_and_ears(t)
        self._complexion()
        self._brows()
        self._hair()
        # The generator uses these hundreds of times.
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray) and value.dtype == float:
                setattr(self, name, value.astype(np.float32))

    def blob(self, centre, radii):
        """A Gaussian bump about a centre of the left half, and its mirror image."""
        d = (self.p - np.float32(centre)) / np.float32(radii)
        return np.exp(-0.5 * (d * d).sum(-1))

    def _eyes(self, t):
        """Lids, rims, lashes, inner corners."""
        rim, wet, lash = (np.zeros(self.count) for _ in range(3))
        for side in ("left", "right"):
            rings, k = t.rings[f"{side} eye"], LID_MARGIN_RING
            q = self.p[rings[k]]
            along = np.clip((q[:, 0] - CANTHI[0, 0]) / (CANTHI[1, 0] - CANTHI[0, 0]), 0, 1)
            upper = q[:, 1] > CANTHI[0, 1] + along * (CANTHI[1, 1] - CANTHI[0, 1])
            lashes = smoothstep(along, 0.05, 0.35)  # none at the inner corner, longest and densest outwards
            rim[rings[k]], rim[rings[k - 1]] = 1.0, 0.5
            wet[rings[k + 1 :]] = 1.0
            for row, share in ((k - 1, 0.35), (k, 1.0), (k + 1, 0.75)):
                lash[rings[row]] = share * lashes * np.where(upper, 1.0, 0.35)
        self.rim, self.lashes = rim, np.flatnonzero(lash)
        self.lash = lash[self.lashes]
        self.caruncle = self.blob(CANTHI[0] + [1.2, 0, 0], (2.6, 2.0, 6.0))
        self.wet = np.clip(0.55 * wet + 0.15 * self.caruncle * self.is_head, 0, 1)
        self.upper_lid = self.blob(EYE + [-1, 8.0, 10], (12.5, 4.2, 14.0))
        blob = self.blob
        inner = blob((21.0, -10.5, 84), (6.0, 4.0, 12)) + 0.7 * blob((16.5, -4, 84), (3.5, 6, 12))
        self.under_eye = np.clip(
            inner + 0.8 * blob((29.5, -12.5, 84), (8.0, 4.4, 12)) + 0.45 * blob((38, -10.5, 82), (6.5, 4.5, 12)), 0, 1
        )

    def _mouth(self, t):
        """Lips (1 on the vermilion, falling off at its border), and what is inside."""
        rings, k, contact = t.rings["mouth"], LIP_BORDER_RING, LIP_CONTACT_RING
        corner, middle = self.p[rings[k], 0].max(), self.landmark[54][1]
        self.lip, self.upper_lip, self.mucosa, self.throat = (np.zeros(self.count) for _ in range(4))
        upper = self.p[rings[k], 1] > middle  # columns; the line where the lips touch is too level to tell
        for row in range(k - 1, contact + 2):
            ids = rings[row]
            border = (0.12, 0.55, 0.92)[row - k + 1] if row < k + 2 else 1.0
            self.lip[ids] = border * (1 - 0.3 * smoothstep(self.p[ids, 0], 0.82 * corner, 1.02 * corner))
            self.upper_lip[ids] = self.lip[ids] * upper
        for row in range(contact, len(rings)):
            self.mucosa[rings[row]] = min(1.0, (row - contact) / 2)
            self.throat[rings[row]] = min(1.0, max(0, row - contact - 1) / 2)
        self.mucosa[t.parts["mouth end"]] = self.throat[t.parts["mouth end"]] = 1.0
        self.around_mouth = self.blob((0, middle, 95), (30, 15, 30)) * (1 - self.lip)
        self.mucosa[t.parts["tongue"]] = 1.0
        self.teeth = np.concatenate([t.parts["upper teeth"], t.parts["lower teeth"]])
        self.mucosa[self.teeth] = 1.0
        enamel, shine = [], []
        for name, sign in (("upper teeth", 1), ("lower teeth", -1)):
            q = self.p[t.parts[name]]
            height = sign * q[:, 1]
            enamel.append(1 - smoothstep(height - height.min(), 8.5, 11.5))  # crowns of 10 mm, gums beyond
            share = np.arcsin(np.clip(q[:, 0] / q[:, 0].max(), 0, 1) * math.sin(TEETH_ARCH)) / TEETH_ARCH
            between = (1 - np.abs(np.sin(TEETH_A_SIDE * np.pi * share))) ** 2
            shine.append(
                (1 - 0.3 * between) * (0.45 + 0.55 * smoothstep(q[:, 2], 62, 88))
            )  # little light reaches those at the back
        self.enamel, self.shine = np.concatenate(enamel), np.concatenate(shine)

    def _nostrils_and_ears(self, t):
        """Cavities, where no light comes back; the ears."""
        cavity, self.ear, self.helix = (np.zeros(self.count) for _ in range(3))
        for side in ("left", "right"):
            nostril, ear = t.rings[f"{side} nostril"], t.rings[f"{side} ear"]
            for row, dark in zip(nostril[1:], (0.3, 0.8, 0.95, 1.0)):
                cavity[row] = dark
            self.ear[ear[2:]] = 1.0
            self.ear[ear[1]] = 0.5
            n = len(ear)
            for row in range(n - 3, n):
                cavity[ear[row]] = (0.12, 0.45, 0.9)[row - n + 3]
            self.helix[ear[3:7]] = 1.0
            cavity[t.parts[f"{side} nostril end"]] = cavity[t.parts[f"{side} ear end"]] = 1.0
        cavity[t.rings["mouth"][LIP_CONTACT_RING]] = 0.25  # where the lips touch
        self.light = 1 - 0.93 * np.clip(cavity + self.throat, 0, 1)

    def _complexion(self):
        """How much blood, melanin, oxygen and yellow there is beside a person's average: logarithms of factors, and differences.

        The face is reddest at the nose, the cheeks and the ears and least red on the forehead; the forehead is the yellower; lids and the
        skin below the eyes are thin, and venous blood shows through.
        """
        blob, tip = self.blob, self.landmark[30]
        p = self.p
        self.nose = np.clip(blob(tip + [0, -1, -4], (10, 8, 14)) + 0.8 * blob((14.5, -38, 98), (5, 5.5, 8)), 0, 1)
        self.cheek = np.clip(blob((38, -28, 88), (12, 11, 26)) + 0.75 * blob((48, -34, 70), (12, 15, 26)), 0, 1)
        self.forehead = smoothstep(p[:, 1], 24, 48) * smoothstep(p[:, 2], 20, 60)
        self.chin = blob(self.landmark[8] + [0, 12, 8], (12, 9, 16))
        neck = smoothstep(-p[:, 1], 100, 125)
        thin = self.lids = np.clip(self.upper_lid + self.under_eye, 0, 1)
        wing = blob((19.5, -38.5, 94), (3.2, 5.5, 8))
        self.blood = (
            0.42 * self.nose + 0.40 * self.cheek + 0.38 * self.ear + 0.25 * self.helix + 0.18 * self.chin - 0.25 * self.forehead
            + 0.20 * thin + 0.45 * wing + 0.9 * self.rim + 0.4 * self.caruncle - 0.08 * self.around_mouth + 0.05 * neck - 0.22 * smoothstep(-p[:, 2], 0, 60)
        )  # fmt: skip
        below_chin = smoothstep(-p[:, 1], 98, 116) * smoothstep(p[:, 2], 0, 50)
        self.melanin = (
            0.06 * self.forehead + 0.10 * self.upper_lid + 0.10 * self.under_eye + 0.07 * self.around_mouth - 0.10 * below_chin
            + 0.05 * blob((0, -8, 100), (8, 16, 16)) - 0.05 * self.cheek + 0.04 * neck
        )  # fmt: skip
        self.yellow = 0.2 * self.forehead - 0.1 * self.cheek - 0.1 * self.nose - 0.2 * thin
        self.oxygen = -0.30 * self.under_eye - 0.12 * self.upper_lid
        front = smoothstep(p[:, 2], -10, 30)
        self.freckled = np.clip(blob((26, -20, 95), (22, 13, 30)) + blob((0, -14, 106), (12, 12, 20)), 0, 1)
        self.face = front * smoothstep(-p[:, 1], -62, -50) * (1 - self.mucosa) * self.is_head
        self.tanned = np.clip(
            0.9 * self.forehead + self.nose + blob((40, -20, 80), (16, 14, 40)) + 0.6 * blob((0, 5, 95), (12, 20, 30)),
            0,
            1,
        )

    def _brows(self):
        """Distance along each brow, 0 at its head to 1 at its tail, and across it, mm, positive upwards: for the vertices near a brow."""
        points = np.stack([self.landmark[k] for k in range(22, 27)])
        share = np.linspace(0, 1, 5)
        points[:, 1] = np.polyval(
            np.polyfit(share, points[:, 1], 2), share
        )  # a smooth arch, whatever vertices are nearest
        curve = CubicSpline(share, points)
        along = np.linspace(-0.10, 1.16, 127)
        inside = np.clip(along, 0, 1)
        c = curve(inside) + (along - inside)[:, None] * curve(inside, 1)  # straight on beyond the ends
        c[:, 1] -= 0.8  # annotators mark the brow somewhat above its middle
        low, high = c.min(0) - 12, c.max(0) + 12
        self.brow = np.flatnonzero(((self.p > low) & (self.p < high)).all(1) & self.is_head)
        d = self.p[self.brow][:, None] - c
        nearest = (d * d).sum(-1).argmin(1)
        d = d[np.arange(len(d)), nearest]
        self.brow_along = along[nearest]
        self.brow_across = np.where(d[:, 1] > 0, 1, -1) * np.linalg.norm(d, axis=1)

    def _hair(self):
        """Distances, mm, positive inside: from the border of the scalp's hair and from that of the beard."""
        y, turn = self.p[:, 1], self.turn
        arc = np.radians(1) * 78  # mm a degree
        line = PchipInterpolator(*np.array(_HAIRLINE, float).T)
        wavy = 1.0 * np.cos(0.33 * turn) + 0.7 * np.cos(0.71 * turn + 1)  # no hairline is drawn with a ruler
        self.above_hairline = (y - line(turn)) / np.hypot(1, line(turn, 1) / arc) + wavy
        self.scalp = self.is_head * (1 - self.ear)
        self.temple = np.exp(-0.5 * ((turn - 42) / 13) ** 2)
        self.top = smoothstep(self.above_hairline, 0, 40) * smoothstep(y, 30, 80)
        self.crown = self.blob((0, 104, -38), (42, 40, 44))
        self.sideburn = np.exp(-0.5 * ((turn - 80) / 9) ** 2) * smoothstep(-y, -30, 0)
        # Ears cover the sides of these angles.
        top, end = (PchipInterpolator(*np.array(b, float).T, extrapolate=False) for b in (_BEARD_TOP, _BEARD_END))
        at = np.minimum(turn, 90)
        below = (top(at) - y) / np.hypot(1, top(at, 1) / arc)
        above = (y - end(at)) / np.hypot(1, end(at, 1) / arc)
        inside = (
            smoothstep(below, -3, 5)
            * smoothstep(above, -12, 12)
            * smoothstep(-turn, -98, -80)
            * self.is_head
            * (1 - self.ear)
            * (1 - self.mucosa)
        )
        inside *= 1 - np.clip(1.8 * self.lip, 0, 1)
        blob, lower = self.blob, self.landmark[57]
        self.moustache = inside * blob((11, -50.5, 98), (14, 5.5, 30)) * (1 - 0.35 * blob((0, -50, 100), (2.5, 6, 30)))
        self.goatee = inside * np.clip(
            blob((0, lower[1] - 22, 92), (15, 11, 30)) + 0.5 * blob(lower + [0, -4, 0], (4, 6, 20)), 0, 1
        )
        bare = blob(lower + [14, -3, -3], (7, 6, 20))  # beside the tuft below the lip
        jaw = inside * (1 - 0.6 * bare) * (0.5 + 0.3 * smoothstep(-y, 55, 85)) * (1 - 0.5 * smoothstep(-y, 105, 122))
        self.beard = np.clip(jaw + 0.75 * self.moustache + 0.6 * self.goatee, 0, 1)


def _fields(maps, alike, opposed, length=30.0):
    """The leading directions [alike + opposed,V] of a smooth random field over the face, of unit variance, the same on both halves or opposed on
    them: the Karhunen-Loeve expansion of a Gaussian kernel, continued from a sample of vertices to the others (Nystrom's method)."""
    near = np.flatnonzero(maps.is_head & (maps.p[:, 2] > -20))
    left = np.flatnonzero((maps.face > 0.5) & (maps.v[:, 0] > 1))
    at = maps.p[left[:: max(1, len(left) // 120)]]

    def kernel(a):
        return np.exp(-(((a * a).sum(1)[:, None] + (at * at).sum(1) - 2 * a @ at.T) / (2 * length**2)))

    def both(a):
        return kernel(a), kernel(a * np.float32([-1, 1, 1]))

    sample, wide = both(at), both(maps.p[near])
    out = np.zeros((alike + opposed, maps.count), np.float32)
    for rows, sign in ((slice(0, alike), 1), (slice(alike, alike + opposed), -1)):
        count = rows.stop - rows.start
        value, vector = np.linalg.eigh((sample[0] + sign * sample[1]).astype(float))
        basis = (vector[:, : -count - 1 : -1] / np.sqrt(value[: -count - 1 : -1])).astype(np.float32)
        basis *= np.sign(basis[np.abs(basis).argmax(0), np.arange(count)])  # eigenvectors come with either sign
        field = (wide[0] + sign * wide[1]) @ basis
        out[rows, near] = (field * np.where(maps.v[near, :1] < 0, sign, 1)).T
    return out


def _mottle(maps, length, rng, waves=48):
    """[V]: a random field of unit variance with features of the given length, mm (random Fourier features, Rahimi and Recht 2007)."""
    k, phase = rng.standard_normal((3, waves)) / length, rng.uniform(0, 2 * np.pi, waves)
    return np.cos(maps.v @ np.float32(k) + np.float32(phase)).sum(1) * math.sqrt(2 / waves) * maps.is_head


def _spots(maps, where, count, radius, rng):
    """[V]: `count` round spots of height 0.4..1 at vertices drawn by the weights `where`."""
    where = where.astype(float)
    centre = rng.choice(maps.count, count, replace=False, p=where / where.sum())
    near = np.flatnonzero(where > 0.02 * where.max())
    d = maps.v[near][:, None] - maps.v[centre]
    out = np.zeros(maps.count, np.float32)
    out[near] = (np.exp(-(d * d).sum(-1) / (2 * radius**2)) * rng.uniform(0.4, 1, count)).max(1)
    return out


# --------------------------------------------------------------------------------------------------------------------- generator

_PATTERNS = 3  # of mottled melanin, mottled blood, freckles, moles each
_ALIKE, _OPPOSED = 6, 2  # smooth fields over the face: the same on both halves, opposed on them


class _Patterns:
    """Fields [.,V] that random numbers weigh: smooth ones over the face, mottling, freckles, moles. The seeds are fixed."""

    def __init__(self, m: _Maps):
        rng = np.random.default_rng(1)
        hairless = m.face * (1 - m.scalp * smoothstep(m.above_hairline, -8, 0))
        self.smooth = _fields(m, _ALIKE, _OPPOSED)
        self.melanin_mottle = np.stack([_mottle(m, 7.0, rng) for _ in range(_PATTERNS)])
        self.blood_mottle = np.stack([_mottle(m, 9.0, rng) for _ in range(_PATTERNS)])
        self.freckles = np.stack([_spots(m, m.freckled * m.face, 110, 1.9, rng) for _ in range(_PATTERNS)])
        moles = np.stack([_spots(m, hairless, 6, 1.5, rng) for _ in range(_PATTERNS)])
        mirrored = moles[:, m.symmetry]
        # A coefficient darkens the moles of one side or those of the other; the average has a trace of all.
        self.moles, self.all_moles = moles - mirrored, (moles + mirrored).sum(0)


def _weighed(z, name, fields, scale):
    """scale * sum_k z["name k"] fields[k], over those that z has."""
    return sum((scale * z[f"{name} {k}"] * f for k, f in enumerate(fields, 1) if f"{name} {k}" in z), 0.0)


# A person is z: name -> standard deviations from the average, 0 where absent. The names, by what they change:
_TONE = ("skin tone",)  # changes all
_PIGMENTS = (
    "blood", "yellow", "tan", "eyelid pigment", "pigment round the mouth", "cheeks", "nose", "ears", "shadows under the eyes", "lip colour",
    "lip pigment", "gums and tongue", "teeth",
    *(f"{name} {k + 1}" for name in ("melanin", "blood") for k in range(_ALIKE + _OPPOSED)),
    *(f"{name} {k + 1}" for name in ("melanin mottle", "blood mottle", "freckles", "moles") for k in range(_PATTERNS)),
)  # fmt: skip
_HAIR = (
    "hair lightness", "red hair", "grey hair", "dense hair", "high hairline", "receding temples", "thin on top", "bald crown", "stubble", "moustache", "goatee",
    "dense brows", "thick brows", "long brows", "high brows", "arched brows", "joined brows", "lashes",
)  # fmt: skip
_EYES = ("light eyes", "green eyes", "rim of the iris", "eye whites", "red eyes")


def _bare(m: _Maps, patterns: _Patterns, z: dict[str, float]) -> np.ndarray:
    """Colours [V,3] without hair: skin, lips, the inside of mouth, nostrils and ears, teeth."""

    def dev(name):
        return z.get(name, 0.0)

    tone, shadow = dev("skin tone"), dev("shadows under the eyes")
    # Even steps of tone are even steps of light through the epidermis. Light skin shows more of its yellow pigments: without them its b* would
    # fall far below what is measured, 18 +- 2 at L* 64 +- 5 (Yun et al. 2010). Two and a half deviations to either side reach from the class
    # "very light" of the individual typology angle to "dark" (above 55 degrees, below -30; Chardon et al. 1991).
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
        + _weighed(z, "melanin", patterns.smooth, 0.065)
        + _weighed(z, "melanin mottle", patterns.melanin_mottle, 0.014)
    )
    shade = (
        shade
        + _weighed(z, "freckles", patterns.freckles, 0.06)
        + _weighed(z, "moles", patterns.moles, 0.09)
        + 0.14 * patterns.all_moles
    )
    melanin = -math.log(through) / (_EPIDERMIS * float(_MELANOSOME[1])) * np.exp(shade)
    flush = (
        m.blood
        + 0.16 * dev("blood")
        + 0.20 * dev("cheeks") * m.cheek
        + 0.22 * dev("nose") * m.nose
        + 0.2 * dev("ears") * m.ear
    )
    flush = flush + (1.2 + 0.2 * dev("lip colour")) * m.lip + 0.18 * shadow * m.under_eye
    flush = (
        flush + _weighed(z, "blood", patterns.smooth, 0.09) + _weighed(z, "blood mottle", patterns.blood_mottle, 0.05)
    )
    oxygen = _OXYGEN + m.oxygen - 0.10 * shadow * m.under_eye - 0.06 * dev("lip pigment") * m.lip
    yellow = np.maximum(0.9 + 0.46 * tone + 0.3 * dev("yellow") + m.yellow, 0)
    skin = skin_reflectance(melanin, _BLOOD * np.exp(flush), oxygen, yellow)
    # Mucous membrane: no melanin, much blood.
    moist = skin_reflectance(0.01, 0.03 * math.exp(0.15 * dev("gums and tongue")), _OXYGEN, 0.3)
    _cover(skin, m.mucosa, moist)
    _cover(skin, m.wet, 0.9 * moist)
    skin *= m.light[:, None]
    _cover(
        skin,
        m.enamel,
        m.shine[:, None] * (np.float32([0.52, 0.47, 0.39]) + dev("teeth") * np.float32([0.025, 0.035, 0.05])),
        m.teeth,
    )
    return skin


def _albedo(m: _Maps, bare: np.ndarray, z: dict[str, float]) -> np.ndarray:
    """Colours [V,3] with hair and eyes."""

    def dev(name):
        return z.get(name, 0.0)

    out = bare.copy()
    # Dark skin goes with dark hair; red hair has much of the one pigment and little of the other.
    eumelanin = 1.4 * math.exp(-0.42 * dev("skin tone") - 0.55 * dev("hair lightness") - 0.45 * dev("red hair"))
    hair = hair_reflectance(eumelanin, 0.15 * math.exp(0.7 * dev("red hair")))
    hair = hair + (0.035 + 0.025 * dev("grey hair")) * (np.array([0.44, 0.37, 0.25]) - hair)
    _cover(out, _scalp_cover(m, dev), hair)
    # Stubble is cut hair at and below the surface; what scatters above the hair in the skin is bluish.
    _cover(out, _beard_cover(m, dev), 0.6 * hair + np.float32([0.030, 0.036, 0.044]))
    _cover(out, _brow_cover(m, dev), 0.8 * hair, m.brow)
    _cover(out, (0.85 + 0.07 * dev("lashes")) * m.lash, 0.5 * hair, m.lashes)
    out[m.eyeballs] = _eyeball(m.p[m.eyeballs] - np.float32(EYE), dev)
    return out


def _cover(colours, share, colour, ids=slice(None)):
    """Puts a colour over those of the vertices `ids`, in place."""
    colours[ids] += share[:, None] * (np.float32(colour) - colours[ids])


def _scalp_cover(m, dev):
    """Share of the scalp that closely cropped hair hides."""
    inside = m.above_hairline - 1.4 * dev("high hairline") - m.temple * (2 + 1.8 * dev("receding temples"))
    density = 0.94 + 0.018 * dev("dense hair") - 0.25 * m.sideburn
    thin = (0.16 + 0.075 * dev("thin on top")) * m.top + (0.10 + 0.06 * dev("bald crown")) * m.crown
    return np.clip(m.scalp * smoothstep(inside, -9, 11) * density * (1 - thin), 0, 1)


def _beard_cover(m, dev):
    """Share of the skin that stubble hides."""
    cover = (
        (0.14 + 0.075 * dev("stubble")) * m.beard
        + (0.02 + 0.03 * dev("moustache")) * m.moustache
        + (0.02 + 0.03 * dev("goatee")) * m.goatee
    )
    return np.clip(cover, 0, 1)


def _brow_cover(m, dev):
    """Share of the skin that the brows' hair hides, at the vertices `m.brow`."""
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


def _eyeball(d, dev):
    """Colours of an eyeball's vertices at d [N,3] from its centre: white, iris with its darker rim, pupil."""
    r = np.linalg.norm(d, axis=1)
    rho = np.where(d[:, 2] > 0, np.hypot(d[:, 0], d[:, 1]), r + EYE_RADIUS) / IRIS
    sideways = np.abs(d[:, 0]) / r
    # White: the conjunctiva's vessels thicken towards the corners; lids and lashes keep light from the upper and lower edge.
    white = np.array([0.52, 0.475, 0.445]) + dev("eye whites") * np.array([0.022, 0.035, 0.045])
    red = smoothstep(sideways, 0.45, 0.95)[:, None] * (0.55 + 0.15 * dev("red eyes"))
    colour = (
        white
        * (1 - red * np.array([0.22, 0.48, 0.46]))
        * (1 - 0.25 * smoothstep(np.abs(d[:, 1]) / r, 0.25, 0.75))[:, None]
    )
    # Iris: melanin over a stroma that scatters blue, or green where it holds yellow pigment; more melanin about the pupil; a rim where white
    # and stroma meet.
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
    colour += (1 - smoothstep(rho, 0.97, 1.09))[:, None] * (iris - colour)
    colour += (1 - smoothstep(rho, 0.30, 0.47))[:, None] * (0.003 - colour)
    return colour


# ------------------------------------------------------------------------------------------------------------------------- modes

_CHORD = 2.6  # standard deviations of skin tone
_STEP = {
    "light eyes": 2.0,
    "hair lightness": 2.0,
    "red hair": 2.0,
}  # of central differences, 1 where absent: little melanin shows most far out


@dataclass
class Skin:
    """mean [V,3], linear sRGB albedo, 0..1; modes [A,V,3], what one standard deviation of each of A independent coefficients adds; their names."""

    mean: np.ndarray
    modes: np.ndarray
    names: tuple[str, ...]


def skin(template: Template) -> Skin:
    """The colours of the model: the generator's average and its central differences, in order of variance.

    Along the skin tone, by far the widest direction, the generator is too bent for its tangent: there the model follows the chord between a
    light and a dark person, and has its mean in the middle of it, which keeps both ends within measured colours.
    """
    m = _Maps(template)
    patterns = _Patterns(m)
    average = _bare(m, patterns, {})
    shows = _albedo(m, np.ones_like(average), {}) - _albedo(
        m, np.zeros_like(average), {}
    )  # share of the bare colour that hair and eyes leave to be seen
    names = _TONE + _PIGMENTS + _HAIR + _EYES
    modes = np.empty((len(names), m.count, 3), np.float32)
    light, dark = (_albedo(m, _bare(m, patterns, z), z) for z in ({"skin tone": _CHORD}, {"skin tone": -_CHORD}))
    modes[0] = (light - dark) / (2 * _CHORD)
    for k, name in enumerate(names[1:], 1):
        step = _STEP.get(name, 1.0)
        if name in _PIGMENTS:
            difference = shows * (_bare(m, patterns, {name: step}) - _bare(m, patterns, {name: -step}))
        else:
            difference = _albedo(m, average, {name: step}) - _albedo(m, average, {name: -step})
        modes[k] = difference / (2 * step)
    order = np.argsort(
        -np.einsum("avc,avc,v->a", modes, modes, 1 - m.mucosa), kind="stable"
    )  # of what is seen while the mouth is shut
    return Skin((light + dark) / 2, modes[order], tuple(names[k] for k in order))
