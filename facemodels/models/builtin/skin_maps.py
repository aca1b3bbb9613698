"""Where things are on the mean head: lids, lips, cheeks, nostrils, brows and hair, and the pigments of the face."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline, PchipInterpolator

from facemodels.models.builtin.eyes import CANTHI, EYE, LID_MARGIN_RING
from facemodels.models.builtin.mouth import LIP_BORDER_RING, LIP_CONTACT_RING, TEETH_A_SIDE, TEETH_ARCH
from facemodels.models.builtin.smooth import smoothstep
from facemodels.models.builtin.template import Template

# Border of the scalp's hair: angle round the head from the middle of the face, degrees, and height, mm. The hairline
# stands 65 mm above the nasion (Farkas 1994, nasion to trichion), draws back at the temples, comes down in front of the
# ear as the sideburn, and ends low on the nape.
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


class SkinMaps:
    """Where things are on the mean head: arrays [V], 0..1 unless said otherwise.

    Both halves are alike: all maps are functions of |x|.
    """

    def __init__(self, t: Template) -> None:
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
        # The generator uses these hundreds of times, in single precision.
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray) and value.dtype == float:
                setattr(self, name, value.astype(np.float32))

    def blob(self, center: ArrayLike, radii: ArrayLike) -> np.ndarray:
        """Return a Gaussian bump [V] about a center [3] of the left half, and its mirror image; radii [3], mm."""
        d = (self.p - np.asarray(center, np.float32)) / np.asarray(radii, np.float32)
        return np.exp(-0.5 * (d * d).sum(-1))

    def _eyes(self, t: Template) -> None:
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

    def _mouth(self, t: Template) -> None:
        """Lips (1 on the vermilion, falling off at its border), oral cavity, tongue, gums and teeth."""
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
            # Little light reaches the teeth at the back.
            shine.append((1 - 0.3 * between) * (0.45 + 0.55 * smoothstep(q[:, 2], 62, 88)))
        self.enamel, self.shine = np.concatenate(enamel), np.concatenate(shine)

    def _nostrils_and_ears(self, t: Template) -> None:
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

    def _complexion(self) -> None:
        """Blood and melanin (logarithms of factors), oxygen and yellow (differences), relative to a person's average.

        The face is reddest at the nose, the cheeks and the ears and least red on the forehead, which is yellower; lids
        and the skin below the eyes are thin, and venous blood shows through.
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
            0.42 * self.nose + 0.40 * self.cheek + 0.38 * self.ear + 0.25 * self.helix + 0.18 * self.chin
            - 0.25 * self.forehead + 0.20 * thin + 0.45 * wing + 0.9 * self.rim + 0.4 * self.caruncle
            - 0.08 * self.around_mouth + 0.05 * neck - 0.22 * smoothstep(-p[:, 2], 0, 60)
        )  # fmt: skip
        below_chin = smoothstep(-p[:, 1], 98, 116) * smoothstep(p[:, 2], 0, 50)
        self.melanin = (
            0.06 * self.forehead + 0.10 * self.upper_lid + 0.10 * self.under_eye + 0.07 * self.around_mouth
            - 0.10 * below_chin + 0.05 * blob((0, -8, 100), (8, 16, 16)) - 0.05 * self.cheek + 0.04 * neck
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

    def _brows(self) -> None:
        """Along each brow, 0 at its head to 1 at its tail, and across it, mm, up positive: for the vertices near it."""
        points = np.stack([self.landmark[k] for k in range(22, 27)])
        share = np.linspace(0, 1, 5)
        # A smooth arch, whatever vertices are nearest to the landmarks.
        points[:, 1] = np.polyval(np.polyfit(share, points[:, 1], 2), share)
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

    def _hair(self) -> None:
        """The scalp and how far inside its hairline each vertex lies (mm); beard, moustache and goatee."""
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
