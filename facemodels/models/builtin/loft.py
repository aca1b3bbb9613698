"""The skin of the mean head as a smooth surface, lofted through horizontal cross sections.

The heights, breadths and depths of the cross sections are those of an adult of mean build (`anthropometry`). Bumps that
they are too coarse for, such as the wings of the nose, are added to the loft.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline, PchipInterpolator, RectBivariateSpline
from scipy.ndimage import gaussian_filter

from facemodels.models.builtin.smooth import smoothstep

# Each cross section: thirteen points (x, y, z), mm, from the middle of the face round the left side to the middle of
# the back. The right half is the mirror image.
_CROSS_SECTION_TEXT = {
    "crown": (
        "0 106 36, 2.6 106 36, 5.4 106 35.6, 8.1 106 34.9, 12 106 33.4, 16.4 106 30.8, 21 106 26.4, 25.2 106 20.6, "
        "28.6 106 12, 30.6 106 1, 31 106 -13, 21.5 105.5 -40, 0 105 -50"
    ),
    "upper cranium": (
        "0 93 60.45, 4.416 93 60.26, 8.832 93 59.69, 13.25 93 58.55, 19.32 93 55.51, 26.31 93 50.57, 33.49 93 42.97, "
        "39.93 93 33.28, 45.45 93 20.36, 49.31 92.5 2.025, 50.42 92 -20.3, 36.34 91 -55.45, 0 90 -71.6"
    ),
    "hairline": (
        "0 71 83.6, 5.8 71 83.4, 11.6 71 82.6, 17.4 71 81, 25 71 77.6, 34 71 71.2, 43.4 71 61.2, 52 70.5 47.8, "
        "59.6 69.5 30, 65 68.5 7, 67.4 67 -24, 49 66 -70, 0 64 -89"
    ),
    "forehead": (
        "0 47 93.6, 6 47 93.6, 12 47 93, 18 47 91.6, 26 47 88.4, 36 47 82.6, 46.6 47 72.8, 56.2 47 57.6, 64 46 38, "
        "69.8 45 12, 73 42 -23, 53 40 -74, 0 38 -93.5"
    ),
    "brow": (
        "0 23 97.2, 6 23 97.3, 12 24 96.8, 18 25 95.8, 26 26 93.6, 36 26.5 89.2, 47.2 25 79, 57 22.5 63.5, "
        "65 21.5 43, 70.5 21 16, 73.5 20 -23, 53 19 -74, 0 18 -94"
    ),
    "nasion": (
        "0 8 93.8, 5.5 8 92.2, 11 8.5 87.2, 16.5 9.5 83.6, 26 11 86, 36 11 84.2, 47.2 9.5 77, 57 8 65.6, 65.5 7 45, "
        "70 7 17, 72.5 7 -25, 52.5 6 -73, 0 5 -92"
    ),
    "eyes": (
        "0 -1 96.3, 5.5 -1 93.8, 10.5 -1 88.6, 16 -1 83.4, 26 -1 86, 36 -1 85, 46.6 -1 75.4, 57 -1 65.6, "
        "66 -1.5 44.5, 69.8 -2 16, 71.5 -3 -27, 52 -5 -72, 0 -7 -89.5"
    ),
    "infraorbital": (
        "0 -16 104.6, 5.5 -16 102, 11 -16 95.6, 17 -16 89.6, 26 -16 86.5, 36 -16 84.4, 47.2 -16 77.4, 57.6 -16 65.4, "
        "66.6 -16 44, 69.5 -15 15, 69.5 -15 -29, 50.5 -17 -71, 0 -19 -86"
    ),
    "pronasale": (
        "0 -34 117, 6.2 -34 114.4, 12.2 -34 106, 17.2 -34 95.8, 26 -34 91.2, 36 -33.5 86, 47.2 -32 77.2, "
        "57.3 -30 64, 65.2 -27 43, 68 -25 14, 67 -24 -30, 48.5 -29 -69, 0 -32 -80"
    ),
    "wing of the nose": (
        "0 -40 111.4, 6.4 -40 109.8, 12.6 -40.2 105.4, 17 -40.4 98, 26 -39.5 91, 36 -39 85.4, 46.8 -37 76.4, "
        "57 -34.5 63, 64.8 -31 42.4, 67.3 -28 13.5, 65.8 -28 -30, 47.5 -32.5 -68.5, 0 -36.5 -78"
    ),
    "subnasale": (
        "0 -44.5 101.2, 6 -44.5 101.2, 11.5 -44.4 100.6, 16.5 -44.2 96, 26 -44 90.4, 35.8 -44 84.8, 46.4 -42 75.6, "
        "56.6 -39 62, 64.2 -35 41.8, 66.6 -31 13, 64.8 -31 -30, 46 -36 -67.5, 0 -41 -76"
    ),
    "labrale superius": (
        "0 -57 102.8, 6 -57 102.5, 12 -57 101, 17.5 -57 98, 26 -57 91, 34.8 -56 82.6, 44.6 -53 72, 54 -49 58, "
        "61.4 -44 38.5, 64.6 -38 11.5, 62.5 -38 -29.5, 44 -43 -66.5, 0 -49 -74.5"
    ),
    "stomion": (
        "0 -65 102.4, 6 -65 101.8, 12 -65 99.6, 17.5 -65 95.4, 26 -65 87.8, 34.2 -64 80, 43.6 -61 69.6, "
        "52.4 -57 55.6, 59.6 -51 36.6, 63 -44 10.5, 60.7 -44 -29, 43 -50 -65.5, 0 -56 -73"
    ),
    "labrale inferius": (
        "0 -74 99.6, 6 -74 99.2, 12 -74 97, 17.5 -74 93.8, 25.6 -74 86.2, 33.6 -73 77.6, 42.4 -69 67, 50.8 -64 53, "
        "58 -57.5 34.4, 61.6 -50 9.5, 59.4 -50 -28.5, 42 -57 -64.5, 0 -63 -72"
    ),
    "supramentale": (
        "0 -84 95, 6 -84 94.6, 12 -84 92.4, 17.5 -84 89, 25 -83 81.8, 32.6 -81 73.2, 41 -77 62.6, 49 -71.5 49, "
        "56.2 -64 31.6, 60.4 -56 8.5, 58.4 -56 -28, 41 -64 -63.5, 0 -70 -71"
    ),
    "pogonion": (
        "0 -98 95.6, 6 -98 95, 12 -97.6 92.2, 17.5 -96.6 87.4, 24.4 -94.6 79, 31.6 -91.6 69.8, 39.4 -86.6 58.6, "
        "47 -80 45, 54 -71.5 28.4, 58.8 -62 7, 57.4 -62 -27.8, 40 -72 -62.5, 0 -78 -70.5"
    ),
    "menton": (
        "0 -108.5 86, 6 -108.3 85.4, 12 -107.5 82.8, 17.5 -106 78, 24 -103.4 70.6, 31.2 -99.6 61.6, 38.6 -94.6 51, "
        "46 -87.6 38.4, 52.6 -79 23, 56.6 -69 5, 55.6 -70 -27, 39 -81 -62, 0 -87 -70"
    ),
    "submental": (
        "0 -110.5 67, 6 -110.4 66.6, 12 -110 64.8, 17.5 -109.2 61.2, 24 -107.6 55, 30.6 -105 47.4, 37.4 -101.4 38, "
        "44 -96 26.4, 50 -88.4 12.6, 53.6 -80 -4, 53.6 -81 -28, 38 -91 -61, 0 -97 -69"
    ),
    "cervical": (
        "0 -116 46, 6 -116 45.6, 12 -115.8 44, 17.5 -115.6 41, 24 -115.2 36.4, 30.2 -114.4 30.6, 36.4 -113.4 23, "
        "42.6 -111 13.4, 48 -107 1.6, 51.6 -101 -13, 52 -100 -32, 37 -106 -61, 0 -110 -68.5"
    ),
    "neck": (
        "0 -142 33, 5.8 -142 32.6, 11.6 -142 31, 17 -142 28.2, 23.2 -142 23.8, 29.2 -142 18.4, 35.4 -142 10.8, "
        "41.4 -142 1.6, 46.8 -141 -10, 50.4 -139 -23, 51.4 -138 -42, 37 -138 -66, 0 -140 -74"
    ),
    "neck base": (
        "0 -172 22, 6.2 -172 21.6, 12.4 -172 20, 18.6 -172 17, 25.6 -172 12, 32.6 -172 5.6, 40 -172 -3, "
        "47.6 -172 -14, 55 -172 -27, 60.6 -172 -42, 61.6 -172 -60, 44 -172 -82, 0 -172 -89"
    ),
}  # fmt: skip
CROSS_SECTIONS = {
    name: np.array([[float(w) for w in p.split()] for p in text.split(",")])
    for name, text in _CROSS_SECTION_TEXT.items()
}

_SPACING = 2.0  # mm, of the grid on which the loft is smoothed


class Loft:
    """A smooth surface through the cross sections.

    Its coordinates (s, t) are lengths in mm: s along the cross section of the eyes from the middle of the face,
    positive to the subject's left; t along the middle of the face from the height of the eyes, positive downwards.

    Attributes:
        half_girth: s at the middle of the back of the head.
        section_t: t of each cross section, by name.
    """

    def __init__(self) -> None:
        sections, names = np.stack(list(CROSS_SECTIONS.values())), list(CROSS_SECTIONS)
        eyes = names.index("eyes")
        self.s = _arc_lengths(sections[eyes])
        self.half_girth = self.s[-1]
        t = _arc_lengths(sections[:, 0])
        self.section_t = dict(zip(names, t - t[eyes]))
        self.t = np.array(list(self.section_t.values()))
        ring = np.concatenate([sections[:, :0:-1] * [-1, 1, 1], sections], 1)
        knots = np.concatenate([-self.s[:0:-1], self.s])
        ring[:, 0] = ring[:, -1]
        s = np.linspace(-self.half_girth, self.half_girth, 2 * round(self.half_girth / _SPACING) + 1)
        t = np.linspace(self.t[0], self.t[-1], round((self.t[-1] - self.t[0]) / _SPACING) + 1)
        columns = CubicSpline(knots, ring, axis=1, bc_type="periodic")(s)  # [R,S,3]
        points = np.stack([self._along_column(columns[:, k], t) for k in range(len(s))], 1)  # [T,S,3]
        points = self._even_out(points, s, t)
        self._splines = [RectBivariateSpline(t, s, points[..., k], kx=3, ky=3, s=0) for k in range(3)]

    def _along_column(self, points: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Interpolate points [R,3], one of each cross section, at t [T].

        The spline runs over the column's own length: cross sections that lie close together beside the nose then leave
        no crease in the cheek.
        """
        length = _arc_lengths(points)
        return CubicSpline(length, points)(PchipInterpolator(self.t, length)(t))

    @staticmethod
    def _even_out(points: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Blur the sides, the back and the neck, where cross sections are far apart, and the face hardly at all."""
        sigma = (9.0 / _SPACING, 12.0 / _SPACING, 0)

        def blur(p: np.ndarray) -> np.ndarray:
            return np.stack([gaussian_filter(p[..., k], sigma[:2], mode=("nearest", "wrap")) for k in range(3)], -1)

        ring = points[:, :-1]
        once = blur(ring)
        smooth = 2 * once - blur(once)  # keeps curved surfaces from shrinking
        inside = smoothstep(np.abs(s[:-1]), 52, 84)[None] * np.ones((len(t), 1))
        # At the upper and lower border the blur has no neighbors to go by.
        border = np.minimum(smoothstep(t, t[0], t[0] + 20), smoothstep(-t, -t[-1], -t[-1] + 20))[:, None]
        w = (np.maximum(inside, smoothstep(-t, 30, 60)[:, None]) * border)[..., None]
        ring = ring + w * (smooth - ring)
        return np.concatenate([ring, ring[:, :1]], 1)

    def __call__(self, s: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Return the points [...,3], mm, at s and t [...]."""
        s, t = np.broadcast_arrays(np.asarray(s, float), np.asarray(t, float))
        s = np.mod(s + self.half_girth, 2 * self.half_girth) - self.half_girth
        return np.stack([f.ev(t, s) for f in self._splines], -1)


def _arc_lengths(points: np.ndarray) -> np.ndarray:
    """Return the length along a polyline [P,3] up to each of its points, [P]."""
    return np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])


LOFT = Loft()

# name, (x, y, half width, half height) of the bump in mm, (dx, dy, dz) that it moves the surface by at most
_BUMPS: list[tuple[str, tuple[float, float, float, float], tuple[float, float, float]]] = [
    ("wing of the nose", (14.0, -38.4, 2.7, 3.4), (1.9, -0.3, 1.6)),
    ("groove behind the wing", (19.2, -38.0, 1.7, 4.5), (-0.2, 0, -1.8)),
    ("groove above the wing", (13.4, -30.5, 2.6, 1.8), (-0.5, 0, -1.9)),
    ("groove between wing and tip", (8.7, -35.6, 1.5, 2.8), (0, 0, -1.3)),
    ("tip of the nose", (0, -33.5, 6.0, 4.5), (0, 0.6, 1.0)),
    ("inner orbit", (17.5, 6.0, 4.0, 6.0), (0, 0, -1.2)),
    ("philtrum", (0, -50.5, 2.2, 4.5), (0, 0, -0.9)),
    ("ridge of the philtrum", (5.0, -50.5, 2.0, 5.0), (0, 0, 0.6)),
    ("fold from nose to mouth", (26.0, -50.0, 3.6, 8.0), (0, 0, -0.9)),
    ("cheek", (40.0, -34.0, 13.0, 13.0), (0.6, 0, 1.6)),
    ("lower cheek", (44, -68, 12.0, 17.0), (1.4, 0, 3.2)),
    ("beside the mouth", (33, -72, 8.0, 12.0), (0.3, 0, 1.2)),
    ("angle of the jaw", (56, -64, 9.0, 15.0), (1.6, 0, 0.8)),
    ("upper orbit", (24, 15.5, 12.0, 6.0), (0, 0, 2.4)),
    ("chin", (0, -98.0, 11.0, 8.0), (0, 0, 1.0)),
    ("lateral brow", (40.0, 17.0, 9.0, 6.0), (0, 0, 1.6)),
    ("lateral canthus", (48.5, 0.0, 4.5, 5.0), (0, 0, -0.8)),
]


def skin_surface(s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the points [...,3], mm, of the skin at s and t [...]: the loft with its bumps."""
    p = LOFT(s, t)
    x, y, z = p[..., 0], p[..., 1], p[..., 2]
    front = smoothstep(z, 10, 40)
    out = np.zeros_like(p)
    for _, (cx, cy, rx, ry), (dx, dy, dz) in _BUMPS:
        for side in (1, -1) if cx else (1,):
            w = np.exp(-0.5 * (((side * x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)) * front
            out += w[..., None] * np.array([side * dx, dy, dz])
    return p + out


def loft_coordinates(points: np.ndarray, start: ArrayLike, steps: int = 12) -> np.ndarray:
    """Find where the loft passes through the x and y of given points, by Newton's method with finite differences.

    Args:
        points: [P,3], mm; z is not used.
        start: (s, t) from which the search begins.
        steps: of Newton's method.

    Returns:
        (s, t) of each point, [P,2].
    """
    q = np.tile(np.asarray(start, float), (len(points), 1))
    for _ in range(steps):
        p = LOFT(q[:, 0], q[:, 1])[:, :2]
        e = 0.05
        ds = (LOFT(q[:, 0] + e, q[:, 1])[:, :2] - p) / e
        dt = (LOFT(q[:, 0], q[:, 1] + e)[:, :2] - p) / e
        jacobian = np.stack([ds, dt], -1)
        step = np.linalg.solve(jacobian, (points[:, :2] - p)[..., None])[..., 0]
        q += np.clip(step, -6, 6)
    return q
