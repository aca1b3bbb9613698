"""The mean head of the built-in model, drawn by formulas: geometry, topology, texture chart, landmarks.

Millimetres; the origin lies between the pupils, at the depth of the ear canals. A head is lofted through horizontal curves whose heights,
breadths and depths are those of an adult of mean build (`anthropometry`), half of it: the other half is its mirror image. The loft is
meshed by a regular grid; where the grid must make way for an eye, the mouth, a nostril or an ear, a block of cells is taken out, and rings
of vertices lead from the block's border to the lid margin, into the mouth, the nostril and the shell of the ear. So every vertex but those
at the corners of blocks has four neighbours.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator, RectBivariateSpline
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from facemodels.core.landmarks import contour_lines

EYE = np.array([31.6, 0.0, 74.2])  # centre of the subject's left eyeball; half the interpupillary distance of 63 mm
EYE_RADIUS = 12.2

# The loft. Each row: thirteen points (x, y, z) from the middle of the face round the left side to the middle of the back.
_ROWS = {
    "crown": "0 106 36, 2.6 106 36, 5.4 106 35.6, 8.1 106 34.9, 12 106 33.4, 16.4 106 30.8, 21 106 26.4, 25.2 106 20.6, 28.6 106 12, 30.6 106 1, 31 106 -13, 21.5 105.5 -40, 0 105 -50",
    "upper cranium": "0 93 60.45, 4.416 93 60.26, 8.832 93 59.69, 13.25 93 58.55, 19.32 93 55.51, 26.31 93 50.57, 33.49 93 42.97, 39.93 93 33.28, 45.45 93 20.36, 49.31 92.5 2.025, 50.42 92 -20.3, 36.34 91 -55.45, 0 90 -71.6",
    "hairline": "0 71 83.6, 5.8 71 83.4, 11.6 71 82.6, 17.4 71 81, 25 71 77.6, 34 71 71.2, 43.4 71 61.2, 52 70.5 47.8, 59.6 69.5 30, 65 68.5 7, 67.4 67 -24, 49 66 -70, 0 64 -89",
    "forehead": "0 47 93.6, 6 47 93.6, 12 47 93, 18 47 91.6, 26 47 88.4, 36 47 82.6, 46.6 47 72.8, 56.2 47 57.6, 64 46 38, 69.8 45 12, 73 42 -23, 53 40 -74, 0 38 -93.5",
    "brow": "0 23 97.2, 6 23 97.3, 12 24 96.8, 18 25 95.8, 26 26 93.6, 36 26.5 89.2, 47.2 25 79, 57 22.5 63.5, 65 21.5 43, 70.5 21 16, 73.5 20 -23, 53 19 -74, 0 18 -94",
    "nasion": "0 8 93.8, 5.5 8 92.2, 11 8.5 87.2, 16.5 9.5 83.6, 26 11 86, 36 11 84.2, 47.2 9.5 77, 57 8 65.6, 65.5 7 45, 70 7 17, 72.5 7 -25, 52.5 6 -73, 0 5 -92",
    "eyes": "0 -1 96.3, 5.5 -1 93.8, 10.5 -1 88.6, 16 -1 83.4, 26 -1 86, 36 -1 85, 46.6 -1 75.4, 57 -1 65.6, 66 -1.5 44.5, 69.8 -2 16, 71.5 -3 -27, 52 -5 -72, 0 -7 -89.5",
    "infraorbital": "0 -16 104.6, 5.5 -16 102, 11 -16 95.6, 17 -16 89.6, 26 -16 86.5, 36 -16 84.4, 47.2 -16 77.4, 57.6 -16 65.4, 66.6 -16 44, 69.5 -15 15, 69.5 -15 -29, 50.5 -17 -71, 0 -19 -86",
    "pronasale": "0 -34 117, 6.2 -34 114.4, 12.2 -34 106, 17.2 -34 95.8, 26 -34 91.2, 36 -33.5 86, 47.2 -32 77.2, 57.3 -30 64, 65.2 -27 43, 68 -25 14, 67 -24 -30, 48.5 -29 -69, 0 -32 -80",
    "wing of the nose": "0 -40 111.4, 6.4 -40 109.8, 12.6 -40.2 105.4, 17 -40.4 98, 26 -39.5 91, 36 -39 85.4, 46.8 -37 76.4, 57 -34.5 63, 64.8 -31 42.4, 67.3 -28 13.5, 65.8 -28 -30, 47.5 -32.5 -68.5, 0 -36.5 -78",
    "subnasale": "0 -44.5 101.2, 6 -44.5 101.2, 11.5 -44.4 100.6, 16.5 -44.2 96, 26 -44 90.4, 35.8 -44 84.8, 46.4 -42 75.6, 56.6 -39 62, 64.2 -35 41.8, 66.6 -31 13, 64.8 -31 -30, 46 -36 -67.5, 0 -41 -76",
    "labrale superius": "0 -57 102.8, 6 -57 102.5, 12 -57 101, 17.5 -57 98, 26 -57 91, 34.8 -56 82.6, 44.6 -53 72, 54 -49 58, 61.4 -44 38.5, 64.6 -38 11.5, 62.5 -38 -29.5, 44 -43 -66.5, 0 -49 -74.5",
    "stomion": "0 -65 102.4, 6 -65 101.8, 12 -65 99.6, 17.5 -65 95.4, 26 -65 87.8, 34.2 -64 80, 43.6 -61 69.6, 52.4 -57 55.6, 59.6 -51 36.6, 63 -44 10.5, 60.7 -44 -29, 43 -50 -65.5, 0 -56 -73",
    "labrale inferius": "0 -74 99.6, 6 -74 99.2, 12 -74 97, 17.5 -74 93.8, 25.6 -74 86.2, 33.6 -73 77.6, 42.4 -69 67, 50.8 -64 53, 58 -57.5 34.4, 61.6 -50 9.5, 59.4 -50 -28.5, 42 -57 -64.5, 0 -63 -72",
    "supramentale": "0 -84 95, 6 -84 94.6, 12 -84 92.4, 17.5 -84 89, 25 -83 81.8, 32.6 -81 73.2, 41 -77 62.6, 49 -71.5 49, 56.2 -64 31.6, 60.4 -56 8.5, 58.4 -56 -28, 41 -64 -63.5, 0 -70 -71",
    "pogonion": "0 -98 95.6, 6 -98 95, 12 -97.6 92.2, 17.5 -96.6 87.4, 24.4 -94.6 79, 31.6 -91.6 69.8, 39.4 -86.6 58.6, 47 -80 45, 54 -71.5 28.4, 58.8 -62 7, 57.4 -62 -27.8, 40 -72 -62.5, 0 -78 -70.5",
    "menton": "0 -108.5 86, 6 -108.3 85.4, 12 -107.5 82.8, 17.5 -106 78, 24 -103.4 70.6, 31.2 -99.6 61.6, 38.6 -94.6 51, 46 -87.6 38.4, 52.6 -79 23, 56.6 -69 5, 55.6 -70 -27, 39 -81 -62, 0 -87 -70",
    "submental": "0 -110.5 67, 6 -110.4 66.6, 12 -110 64.8, 17.5 -109.2 61.2, 24 -107.6 55, 30.6 -105 47.4, 37.4 -101.4 38, 44 -96 26.4, 50 -88.4 12.6, 53.6 -80 -4, 53.6 -81 -28, 38 -91 -61, 0 -97 -69",
    "cervical": "0 -116 46, 6 -116 45.6, 12 -115.8 44, 17.5 -115.6 41, 24 -115.2 36.4, 30.2 -114.4 30.6, 36.4 -113.4 23, 42.6 -111 13.4, 48 -107 1.6, 51.6 -101 -13, 52 -100 -32, 37 -106 -61, 0 -110 -68.5",
    "neck": "0 -142 33, 5.8 -142 32.6, 11.6 -142 31, 17 -142 28.2, 23.2 -142 23.8, 29.2 -142 18.4, 35.4 -142 10.8, 41.4 -142 1.6, 46.8 -141 -10, 50.4 -139 -23, 51.4 -138 -42, 37 -138 -66, 0 -140 -74",
    "neck base": "0 -172 22, 6.2 -172 21.6, 12.4 -172 20, 18.6 -172 17, 25.6 -172 12, 32.6 -172 5.6, 40 -172 -3, 47.6 -172 -14, 55 -172 -27, 60.6 -172 -42, 61.6 -172 -60, 44 -172 -82, 0 -172 -89",
}  # fmt: skip
ROWS = {name: np.array([[float(w) for w in p.split()] for p in text.split(",")]) for name, text in _ROWS.items()}


_SPACING = 2.0  # mm, of the grid on which the loft is smoothed


class Loft:
    """A smooth surface through the rows. Its coordinates (s, t) are lengths in mm: s along the row of the eyes from the middle of the face,
    positive to the subject's left; t along the middle of the face from the row of the eyes, positive downwards."""

    def __init__(self):
        rows, names = np.stack(list(ROWS.values())), list(ROWS)
        self.s = _lengths(rows[names.index("eyes")])
        self.half_girth = self.s[-1]
        t = _lengths(rows[:, 0])
        self.row_t = dict(zip(names, t - t[names.index("eyes")]))
        self.t = np.array(list(self.row_t.values()))
        ring = np.concatenate([rows[:, :0:-1] * [-1, 1, 1], rows], 1)
        knots = np.concatenate([-self.s[:0:-1], self.s])
        ring[:, 0] = ring[:, -1]
        s = np.linspace(-self.half_girth, self.half_girth, 2 * round(self.half_girth / _SPACING) + 1)
        t = np.linspace(self.t[0], self.t[-1], round((self.t[-1] - self.t[0]) / _SPACING) + 1)
        columns = CubicSpline(knots, ring, axis=1, bc_type="periodic")(s)  # [R,S,3]
        points = np.stack([self._along(columns[:, k], t) for k in range(len(s))], 1)  # [T,S,3]
        points = self._even_out(points, s, t)
        self._splines = [RectBivariateSpline(t, s, points[..., k], kx=3, ky=3, s=0) for k in range(3)]

    def _along(self, points, t):
        """A curve from row to row, a spline over its own length: rows that lie close together beside the nose then leave no crease in the cheek."""
        length = _lengths(points)
        return CubicSpline(length, points)(PchipInterpolator(self.t, length)(t))

    @staticmethod
    def _even_out(points, s, t):
        """Blurs the sides, the back and the neck, where rows are far apart beside their heights' differences, and little in the face."""
        wide = (9.0 / _SPACING, 12.0 / _SPACING, 0)

        def blur(p):
            return np.stack([gaussian_filter(p[..., k], wide[:2], mode=("nearest", "wrap")) for k in range(3)], -1)

        ring = points[:, :-1]
        once = blur(ring)
        smooth = 2 * once - blur(once)  # keeps curved surfaces from shrinking
        inside = _step(np.abs(s[:-1]), 52, 84)[None] * np.ones((len(t), 1))
        border = np.minimum(_step(t, t[0], t[0] + 20), _step(-t, -t[-1], -t[-1] + 20))[
            :, None
        ]  # the blur has no rows to go by there
        w = (np.maximum(inside, _step(-t, 30, 60)[:, None]) * border)[..., None]
        ring = ring + w * (smooth - ring)
        return np.concatenate([ring, ring[:, :1]], 1)

    def __call__(self, s, t) -> np.ndarray:
        """Points [...,3] at s, t [...]."""
        s, t = np.broadcast_arrays(np.asarray(s, float), np.asarray(t, float))
        s = np.mod(s + self.half_girth, 2 * self.half_girth) - self.half_girth
        return np.stack([f.ev(t, s) for f in self._splines], -1)


def _lengths(points):
    return np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])


def _step(x, low, high):
    """0 below low, 1 above high, smooth between."""
    x = np.clip((x - low) / (high - low), 0, 1)
    return x * x * (3 - 2 * x)


# --------------------------------------------------------------------------------------------------------------------------- mesh


@dataclass
class Template:
    """The mean head as a mesh. Vertices come in parts; each part's vertices are consecutive."""

    vertices: np.ndarray  # [V,3] mm
    faces: np.ndarray  # int32 [F,3]
    uv: np.ndarray  # [T,2]
    uv_faces: np.ndarray  # int32 [F,3]
    symmetry: np.ndarray  # int32 [V]
    parts: dict[
        str, np.ndarray
    ]  # name -> vertices: "crown", "left eye", "right eye", "upper teeth", "lower teeth", "tongue", and the ends of rings
    rings: dict[
        str, np.ndarray
    ]  # name -> [rings, P] vertices of the left eye, mouth, left nostril, left ear, from the outside in
    chart: np.ndarray  # [V,2]: (s, t) on the skin, 0 elsewhere
    landmarks: np.ndarray  # int32 [68]
    contour: np.ndarray  # int32 [17,K]


class _Builder:
    """Collects vertices, quadrilaterals and texture coordinates."""

    def __init__(self):
        self.points, self.chart, self.uv, self.quads, self.uv_quads = [], [], [], [], []
        self.count = self.uv_count = 0

    def add(self, points, chart=None):
        points = np.asarray(points, float).reshape(-1, 3)
        self.points.append(points)
        self.chart.append(np.zeros((len(points), 2)) if chart is None else np.asarray(chart, float).reshape(-1, 2))
        first, self.count = self.count, self.count + len(points)
        return np.arange(first, self.count)

    def add_uv(self, uv):
        uv = np.asarray(uv, float).reshape(-1, 2)
        self.uv.append(uv)
        first, self.uv_count = self.uv_count, self.uv_count + len(uv)
        return np.arange(first, self.uv_count)

    def quad(self, corners, uv_corners):
        self.quads.append(np.asarray(corners).reshape(-1, 4))
        self.uv_quads.append(np.asarray(uv_corners).reshape(-1, 4))

    def sheet(self, ids, uv_ids, around=False, flip=False):
        """Quadrilaterals between the rows of ids [R,C]; `around` joins the last column to the first (uv_ids then has a column more, or joins too)."""

        def corners(a):
            right = np.roll(a, -1, 1) if around and a.shape[1] == ids.shape[1] else a[:, 1:]
            left = a if right.shape[1] == a.shape[1] else a[:, :-1]
            q = np.stack([left[:-1], left[1:], right[1:], right[:-1]], -1).reshape(-1, 4)
            return q[:, ::-1] if flip else q

        self.quad(corners(ids), corners(uv_ids))

    def cap(self, ring, uv_ring, point, uv, chart=None, flip=False):
        """A fan that closes a ring (counter-clockwise seen from outside) with one vertex."""
        centre, uv_centre = self.add(point, chart)[0], self.add_uv(uv)[0]
        n = len(ring)
        a, b = ring, np.roll(ring, -1)
        ua, ub = (uv_ring, np.roll(uv_ring, -1)) if len(uv_ring) == n else (uv_ring[:-1], uv_ring[1:])
        q = np.stack([np.full(n, centre), a, b, b], -1)
        u = np.stack([np.full(n, uv_centre), ua, ub, ub], -1)
        if flip:
            q, u = q[:, [0, 2, 1, 1]], u[:, [0, 2, 1, 1]]
        self.quad(q, u)
        return centre


def _columns():
    """Positions of the grid's columns on the left half, from 0 to the middle of the back (mm): close in the face, wide behind."""
    return _grade(
        LOFT.half_girth,
        [
            (0, 2.5),
            (22, 2.6),
            (40, 3.3),
            (72, 3.7),
            (105, 6.6),
            (132, 6.6),
            (158, 6.6),
            (200, 13.0),
            (LOFT.half_girth, 14.5),
        ],
    )


def _rows_of_grid():
    t = LOFT.row_t
    up = _grade(-t["crown"], [(0, 3.2), (30, 3.2), (60, 6.5), (-t["crown"], 10.0)])
    down = _grade(t["neck base"], [(0, 3.2), (115, 3.2), (150, 6.5), (t["neck base"], 11)])
    return np.concatenate([-up[:0:-1], down])


def _grade(length, spacing):
    """0..length in steps that follow the spacing [(position, step)]."""
    x = np.linspace(0, length, 2000)
    density = 1 / np.interp(x, *zip(*spacing))
    count = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(x))])
    n = round(count[-1])
    return np.interp(np.linspace(0, count[-1], n + 1), count, x)


LOFT = Loft()


class _Grid:
    """The grid over the skin: ids [R,C], column c at s[c]; the middle of the face is column C/2, the middle of the back column 0."""

    def __init__(self, builder):
        half = _columns()
        self.s = np.concatenate([-half[:0:-1], half[:-1]])
        self.t = _rows_of_grid()
        self.R, self.C = len(self.t), len(self.s)
        chart = np.stack(np.broadcast_arrays(self.s[None], self.t[:, None]), -1)
        self.chart = chart
        self.ids = builder.add(skin_surface(chart[..., 0], chart[..., 1]), chart).reshape(self.R, self.C)
        u = np.linspace(0, 1, self.C + 1)
        v = np.linspace(1, 0, self.R)
        self.uv = np.stack(
            np.broadcast_arrays(u[None], v[:, None]), -1
        )  # within the chart; the column at the back comes twice
        self.keep = np.ones((self.R - 1, self.C), bool)

    def column(self, s):
        return int(np.abs(self.s - s).argmin())

    def row(self, t):
        return int(np.abs(self.t - t).argmin())

    def cut(self, s0, s1, t0, t1):
        """Takes out the cells between the lines nearest to s0..s1, t0..t1 -> (row, column) of the block's border, counter-clockwise seen from
        outside, from the corner at (s0, t0) downwards."""
        c0, c1, r0, r1 = self.column(s0), self.column(s1), self.row(t0), self.row(t1)
        self.keep[r0:r1, c0:c1] = False
        down = [(r, c0) for r in range(r0, r1)]
        along = [(r1, c) for c in range(c0, c1)]
        up = [(r, c1) for r in range(r1, r0, -1)]
        back = [(r0, c) for c in range(c1, c0, -1)]
        return np.array(down + along + up + back)

    def mirror(self, border):
        """The same border on the other side, in the same order (so clockwise)."""
        mirrored = np.stack([border[:, 0], (self.C - border[:, 1]) % self.C], 1)
        r0, r1 = mirrored[:, 0].min(), mirrored[:, 0].max()
        c0, c1 = mirrored[:, 1].min(), mirrored[:, 1].max()
        self.keep[r0:r1, c0:c1] = False
        return mirrored


def skin_surface(s, t):
    """The loft with the forms that its rows are too coarse for: wings of the nose, philtrum, chin, cheeks."""
    p = LOFT(s, t)
    x, y, z = p[..., 0], p[..., 1], p[..., 2]
    front = _step(z, 10, 40)
    out = np.zeros_like(p)
    for name, (cx, cy, rx, ry), (dx, dy, dz) in _FORMS:
        for side in (1, -1) if cx else (1,):
            w = np.exp(-0.5 * (((side * x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)) * front
            out += w[..., None] * np.array([side * dx, dy, dz])
    return p + out


# name, (x, y, half width, half height) of the bump in mm, (dx, dy, dz) it moves by at most
_FORMS = [
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


# ------------------------------------------------------------------------------------------------------------------------- eyes

CANTHI = np.array([[15.9, -1.6, 80.6], [46.6, 0.6, 74.2]])  # inner, outer
LID_THICKNESS = 1.5
_EYE_RINGS = np.array([0.16, 0.32, 0.47, 0.60, 0.71, 0.81, 0.90, 1.0])  # from the block's border to the margin


def lid_margin(a, upper):
    """Points on the margins of the left lids at a in 0..1 from the inner canthus to the outer: [...,3]."""
    a = np.asarray(a, float)
    base = CANTHI[0] + a[..., None] * (CANTHI[1] - CANTHI[0])
    skewed = a ** np.where(
        upper, 0.86, 1.12
    )  # the upper lid is highest towards the nose, the lower one lowest towards the ear
    arch = np.maximum(np.sin(np.pi * skewed), 0) ** np.where(upper, 0.80, 0.92)
    y = base[..., 1] + arch * np.where(upper, 4.9, -5.2)
    x = base[..., 0]
    radius = EYE_RADIUS + LID_THICKNESS * 0.75
    inside = radius**2 - (x - EYE[0]) ** 2 - (y - EYE[1]) ** 2
    on_ball = EYE[2] + np.sqrt(np.maximum(inside, 0.0))
    z = _soft_max(on_ball, base[..., 2], 1.2)
    return np.stack([x, y, z], -1)


def _soft_max(a, b, k):
    return np.maximum(a, b) + k * 0.25 * np.maximum(1 - np.abs(a - b) / k, 0) ** 2


def _two_sides(border):
    """For each place on a block's border: (fraction, upper): how far along the upper or lower side it lies from the corner at small s, which
    is the middle of the block's side there, to the corner at large s."""
    r, c = border.T
    rows, cols = r.max() - r.min(), c.max() - c.min()
    n, start, below = len(border), rows // 2, rows - rows // 2
    k = (np.arange(n) - start) % n
    lower_count = 2 * below + cols
    upper = k > lower_count
    return np.where(upper, (n - k) / (n - lower_count), k / lower_count), upper


def _eye(grid):
    border = grid.cut(10.5, 62, -14.0, 12.5)
    fraction, upper = _two_sides(border)
    a = (1 - np.cos(np.pi * fraction)) / 2 * 0.55 + fraction * 0.45
    margin = lid_margin(a, upper)
    outer = grid.chart[border[:, 0], border[:, 1]]
    # The margin in the chart: where the loft passes through the same x and y.
    inner = _chart_of(margin, outer.mean(0))
    rings, charts = [], []
    for w in _EYE_RINGS:
        q = outer + w * (inner - outer)
        p = skin_surface(q[:, 0], q[:, 1])
        rings.append(_lid(p, margin, w, upper, a))
        charts.append(q)
    # Behind the margin: its rear edge on the ball, then out of sight.
    for depth, close in ((1.3, 0.55), (4.0, 1.0), (8.0, 1.0)):
        d = margin - EYE
        direction = d / np.linalg.norm(d, axis=-1, keepdims=True)
        r = np.linalg.norm(d, axis=-1, keepdims=True)
        ball = EYE + direction * (EYE_RADIUS + 0.12)
        near_corner = _step(r, EYE_RADIUS + 1.6, EYE_RADIUS + 3.2)
        rear = margin + close * (ball - margin) * (1 - 0.3 * near_corner * (depth < 2))
        rear[:, 2] -= (depth - 1.3) * 0.9
        rear[:, 1] += np.where(upper, 1, -1) * (depth - 1.3) * 0.55 * np.sin(np.pi * a)
        rings.append(_outside_ball(rear, EYE_RADIUS + 0.12))
        charts.append(inner + (np.array([32.0, 0.0]) - inner) * (0.05 + 0.08 * depth / 8))
    return border, np.stack(rings), np.stack(charts)


def _outside_ball(p, radius):
    d = p - EYE
    r = np.linalg.norm(d, axis=-1, keepdims=True)
    return EYE + d / r * np.maximum(r, radius)


def _lid(p, margin, w, upper, a):
    """A ring of the lids: the skin far from the margin, the lid's own roundness over the eyeball close to it."""
    lid = EYE + (p - EYE) / np.linalg.norm(p - EYE, axis=-1, keepdims=True) * (EYE_RADIUS + LID_THICKNESS + 0.5)
    covers = np.hypot((p[:, 0] - EYE[0]) / 13.5, (p[:, 1] - EYE[1]) / 12.0)
    over_ball = (1 - _step(covers, 0.75, 1.15)) * _step(w, 0.25, 0.75)
    out = p + over_ball[:, None] * (lid - p)
    out = out + (_step(w, 0.62, 1.0) ** 1.6)[..., None] * (margin - out) if w < 1 else margin.copy()
    # The fold of the upper lid: a groove, and the skin that hangs over it.
    arch = np.sin(np.pi * np.clip(a, 0, 1)) ** 0.7
    groove = (
        upper * arch * (1.5 * np.exp(-0.5 * ((w - 0.71) / 0.06) ** 2) - 1.3 * np.exp(-0.5 * ((w - 0.52) / 0.09) ** 2))
    )
    bag = ~upper * arch * 0.5 * np.exp(-0.5 * ((w - 0.62) / 0.12) ** 2)
    out[:, 2] += bag - groove
    out[:, 1] += upper * arch * -1.3 * np.exp(-0.5 * ((w - 0.55) / 0.09) ** 2)
    return out


def _chart_of(points, start, steps=12):
    """(s, t) where the skin passes through the x and y of the points: Newton's method with differences."""
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


# ------------------------------------------------------------------------------------------------------------------------ mouth

# Half of each curve, from the middle to the corner: (x, y, z).
_LIPS = {
    "upper border": "0 -57.2 104.0, 5.2 -55.7 104.0, 10 -57.4 102.2, 16 -60.2 97.9, 21.8 -63.2 91.8, 26.2 -65.0 88.0",
    "upper lip": "0 -61.2 106.0, 5 -60.4 105.5, 10 -61.3 103.4, 16 -62.8 98.6, 21.8 -64.5 91.8, 25.8 -65.2 87.4",
    "upper contact": "0 -65.3 102.4, 5 -64.8 102.1, 10 -65.1 100.4, 16 -65.5 95.8, 21.8 -65.6 89.6, 25.2 -65.3 86.4",
    "lower contact": "0 -65.45 102.2, 5 -64.95 101.9, 10 -65.25 100.2, 16 -65.65 95.6, 21.8 -65.75 89.5, 25.2 -65.4 86.4",
    "lower lip": "0 -70.2 104.8, 5 -70.2 104.5, 10 -69.9 102.6, 16 -68.8 97.6, 21.8 -67.0 91.0, 25.8 -65.4 87.4",
    "lower border": "0 -75.2 101.2, 5 -75.2 101.0, 10 -74.4 99.3, 16 -72.2 95.4, 21.8 -68.8 90.4, 26.2 -65.6 88.0",
}  # fmt: skip
_LIP_CURVES = {}
for _name, _text in _LIPS.items():
    _p = np.array([[float(w) for w in p.split()] for p in _text.split(",")])
    _p = np.concatenate([_p[:0:-1] * [-1, 1, 1], _p])
    _LIP_CURVES[_name] = CubicSpline(_p[:, 0] / _p[-1, 0], _p, axis=0)

_MOUTH_RINGS = np.array([0.22, 0.43, 0.62, 0.80, 1.0])  # from the block's border to the border of the lips


def _mouth(grid):
    border = grid.cut(-37, 37, 61.5, 99)
    fraction, upper = _two_sides(border)
    along = 0.55 * (2 * fraction - 1) - 0.45 * np.cos(np.pi * fraction)  # -1 at the right corner, 1 at the left

    def curve(name):
        return np.where(upper[:, None], _LIP_CURVES["upper " + name](along), _LIP_CURVES["lower " + name](along))

    edge = curve("border")
    outer = grid.chart[border[:, 0], border[:, 1]]
    inner = _chart_of(edge, (0.0, 80.0))
    offset = edge - skin_surface(inner[:, 0], inner[:, 1])
    rings, charts = [], []
    for w in _MOUTH_RINGS:
        q = outer + w * (inner - outer)
        rings.append(skin_surface(q[:, 0], q[:, 1]) + w**2.2 * offset)
        charts.append(q)
    lip, contact = curve("lip"), curve("contact")
    full = lip.copy()
    full[:, 2] += 0.15
    for p in (edge + 0.5 * (lip - edge) + [0, 0, 0.95], full, lip + 0.62 * (contact - lip) + [0, 0, 0.9], contact):
        rings.append(p)
    # Inside: behind the lips, the vestibule, the cheeks, the throat.
    middle = np.array([0, -66.0, 0])
    up = np.where(upper, 1.0, -1.0)
    bow = np.sqrt(np.maximum(1 - along**2, 0))
    for dz, dy, widen in (
        (-3.5, -0.35, 1.0),
        (-7.0, 6.0, 1.02),
        (-13.0, 13.0, 1.08),
        (-34.0, 16.0, 1.08),
        (-52.0, 9.0, 0.6),
    ):
        p = contact.copy()
        p[:, 0] *= widen
        p[:, 1] = middle[1] + (p[:, 1] - middle[1]) + up * dy * (0.25 + 0.75 * bow)
        flat = 97.0 + dz * 0.9 - 14 * along**2  # a rounder arch than that of the lips
        p[:, 2] = np.minimum(p[:, 2] + dz, flat) if dz < -5 else p[:, 2] + dz
        rings.append(p)
    for k in range(len(rings) - len(charts)):
        charts.append(inner + (k + 1) / 16 * ((0, 80.0) - inner))
    return border, np.stack(rings), np.stack(charts)


# ----------------------------------------------------------------------------------------------------------------------- nostril


def _nostril(grid):
    border = grid.cut(2.6, 13.2, 46, 56.2)
    outer = grid.chart[border[:, 0], border[:, 1]]
    centre = outer.mean(0)
    turn = np.arctan2(outer[:, 1] - centre[1], outer[:, 0] - centre[0])
    rim = centre + np.stack([3.4 * np.cos(turn) + 1.0 * np.sin(turn), 3.3 * np.sin(turn)], -1)
    p = skin_surface(rim[:, 0], rim[:, 1])
    middle = p.mean(0)
    rings = [p + [0, -0.2, 0]]
    for shrink, up, back in ((0.88, 1.6, 0.6), (0.80, 4.5, 2.0), (0.55, 8.5, 4.5)):
        rings.append(middle + shrink * (p - middle) + [0, up, -back])
    charts = [rim, centre + 0.45 * (outer - centre), centre + 0.35 * (outer - centre), centre + 0.2 * (outer - centre)]
    return border, np.stack(rings), np.stack(charts)


# --------------------------------------------------------------------------------------------------------------------------- ear

# Distance of the ear's outline from the middle of the concha, mm, by angle from the top backwards, degrees.
_EAR_OUTLINE = [
    (0, 29.5),
    (25, 33),
    (50, 31),
    (90, 22.5),
    (125, 20.5),
    (155, 23.5),
    (182, 27.5),
    (205, 24),
    (230, 16),
    (265, 12),
    (290, 14.5),
    (305, 18),
    (320, 22),
    (340, 26),
]
# From the back of the ear over its rim into the concha: share of the outline, height above the ear's plane behind, at the front, at the lobe.
_EAR_RINGS = [
    (0.70, -7.0, 0.0, -2.5),
    (0.92, -4.2, 0.3, -2.2),
    (1.00, -1.6, 0.8, -1.2),
    (1.01, 1.4, 1.2, 0.6),
    (0.94, 2.4, 1.6, 1.4),
    (0.86, 0.8, 2.2, 1.5),
    (0.78, -1.1, 3.0, 1.4),
    (0.66, 1.4, 3.8, 1.2),
    (0.55, 0.2, 3.2, 0.6),
    (0.46, -4.5, 0.8, -1.0),
    (0.28, -6.5, -2.5, -4.0),
    (0.12, -7.5, -6.0, -6.5),
]


def _ear(grid):
    border = grid.cut(134, 156, -8.5, 38)
    outer = grid.chart[border[:, 0], border[:, 1]]
    base = skin_surface(outer[:, 0], outer[:, 1])
    origin = np.array([base[:, 0].mean() + 2.0, -12.0, -4.5])
    flare, tilt = np.radians(30), np.radians(14)
    up = np.array([0, np.cos(tilt), -np.sin(tilt)])
    back = np.array([np.sin(flare), -np.sin(tilt) * np.cos(flare), -np.cos(flare) * np.cos(tilt)])
    back /= np.linalg.norm(back)
    out = np.cross(up, back)
    out *= np.sign(out[0])
    d = base - origin
    angle = np.arctan2(d @ back, d @ up)
    # Even steps round the border, so that the corners of the block leave no mark on the ear.
    k = np.unwrap(angle)
    even = np.linspace(k[0], k[0] + np.sign(k[-1] - k[0]) * 2 * np.pi, len(k), endpoint=False)
    smooth = gaussian_filter(k - even, 2.0, mode="wrap") + even
    degrees, radius = np.array(_EAR_OUTLINE, float).T
    outline = CubicSpline(np.append(degrees, 360), np.append(radius, radius[0]), bc_type="periodic")(
        np.degrees(smooth) % 360
    )
    theta = np.degrees(smooth) % 360
    front = np.exp(-0.5 * (_turn(theta - 262) / 24) ** 2)
    lobe = np.exp(-0.5 * (_turn(theta - 192) / 26) ** 2) * (1 - front)
    rest = 1 - front - lobe
    own = np.hypot(d @ back, d @ up)
    flat = np.array([-0.06, -np.sin(tilt), -np.cos(tilt)])  # in front of the concha the ear lies against the head
    direction = (
        np.maximum(np.sin(smooth), 0)[:, None] * back
        + np.minimum(np.sin(smooth), 0)[:, None] * flat
        + np.cos(smooth)[:, None] * up
    )
    own_direction = np.sin(angle)[:, None] * back + np.cos(angle)[:, None] * up
    rings = []
    for j, (share, behind, before, below) in enumerate(_EAR_RINGS):
        reach = np.maximum(share * outline, own * (1 + 0.01 * j)) if j < 4 else share * outline
        r = (1 - front) * reach + front * own * (1 - 0.92 * (j + 1) / len(_EAR_RINGS))
        height = rest * behind + front * before + lobe * below + (1 - front) * (d @ out) * max(0.0, 1 - (j + 1) / 3)
        along = direction + (own_direction - direction) * max(0.0, 1 - (j + 1) / 2) * 0.5
        p = origin + r[:, None] * along + height[:, None] * out
        lift = front * (d @ out) * (1 - (j + 1) / len(_EAR_RINGS))  # leaves the head's surface gently at the front
        rings.append(p + lift[:, None] * out)
    charts = [outer.mean(0) + (1 - (j + 1) / (len(rings) + 1)) * (outer - outer.mean(0)) for j in range(len(rings))]
    return border, np.stack(rings), np.stack(charts)


def _turn(degrees):
    return (degrees + 180) % 360 - 180


# ------------------------------------------------------------------------------------------------------------ eyeballs, teeth, tongue

IRIS = 5.9  # radius, mm
_BALL_ANGLES = np.radians([4.5, 9.5, 16, 22.5, 27.5, 30.5, 38, 50, 64, 80, 98])


def _eyeball(around=28):
    turn = np.linspace(0, 2 * np.pi, around, endpoint=False)
    a = _BALL_ANGLES[:, None]
    r = EYE_RADIUS + 0.55 * np.exp(-((a / np.radians(24)) ** 4))  # the cornea
    p = np.stack([r * np.sin(a) * np.cos(turn), r * np.sin(a) * np.sin(turn), r * np.cos(a) * np.ones_like(turn)], -1)
    return EYE + p[::-1], EYE + [0, 0, EYE_RADIUS + 0.55]  # from behind to the front


def _teeth(upper):
    phi = np.linspace(-1, 1, 41)
    x = 26.5 * np.sin(phi * 1.35) / np.sin(1.35)
    z = 94.0 - 42 * phi**2 - (0 if upper else 2.2)
    x = x * (1 if upper else 0.94)
    edge, root = (-67.2, -55.0) if upper else (-65.8, -77.5)
    bulge = 0.35 * np.abs(np.sin(phi * 7 * np.pi))  # seven teeth a side
    n = np.stack([x / 27, 0 * x, np.ones_like(x)], -1)
    n /= np.linalg.norm(n, axis=-1, keepdims=True)
    rows = []
    for f, depth in ((0.0, -0.8), (0.28, 0.2), (0.62, 0.6), (0.94, 0.3), (1.0, -0.6), (0.97, -2.6), (0.5, -5.0)):
        y = root + f * (edge - root)
        rows.append(
            np.stack([x, np.full_like(x, y), z], -1) + n * (depth + bulge * (0.2 < f < 1))[:, None]
            if f
            else np.stack([x, np.full_like(x, y), z], -1) + n * depth
        )
    return np.stack(rows)


def _tongue():
    u, v = np.linspace(0, 2 * np.pi, 16, endpoint=False), np.linspace(np.pi * 0.94, np.pi * 0.06, 9)
    a, b = np.meshgrid(u, v)
    p = np.stack([19 * np.sin(b) * np.cos(a), 5.5 * np.sin(b) * np.sin(a), 25 * np.cos(b)], -1)
    p[..., 1] -= 0.006 * (p[..., 2] + 10) ** 2
    return p + [0, -73.0, 63.0]


# ---------------------------------------------------------------------------------------------------------------------- assembly


def build() -> Template:
    """The whole mean head."""
    b = _Builder()
    grid = _Grid(b)
    insets = {"eye": _eye(grid), "nostril": _nostril(grid), "ear": _ear(grid)}
    mouth = _mouth(grid)
    mirrored = {name: grid.mirror(border) for name, (border, _, _) in insets.items()}

    def place(uv):  # the chart of the skin within the atlas
        return np.asarray(uv) * [1.0, 0.74] + [0, 0.26]

    uv_ids = b.add_uv(place(grid.uv)).reshape(grid.R, grid.C + 1)
    ids = np.concatenate([grid.ids, grid.ids[:, :1]], 1)
    for r, c in np.argwhere(grid.keep):
        b.quad(
            [ids[r, c], ids[r + 1, c], ids[r + 1, c + 1], ids[r, c + 1]],
            [uv_ids[r, c], uv_ids[r + 1, c], uv_ids[r + 1, c + 1], uv_ids[r, c + 1]],
        )
    parts, rings = {}, {}
    crown = np.array([0, 112.8, -7.0])
    parts["crown"] = _crown(b, grid, crown)

    disks = {
        "left ear": (0.09, 0.13, 0.085),
        "right ear": (0.27, 0.13, 0.085),
        "left eye": (0.61, 0.13, 0.07),
        "right eye": (0.76, 0.13, 0.07),
    }
    sets = [(f"left {n}", v[0], v[1], v[2], False) for n, v in insets.items()]
    sets += [(f"right {n}", mirrored[n], v[1] * [-1, 1, 1], v[2] * [-1, 1], True) for n, v in insets.items()]
    sets.append(("mouth", *mouth, False))
    for name, border, points, charts, flip in sets:
        outer = grid.ids[border[:, 0], border[:, 1] % grid.C]
        n = len(outer)
        own = b.add(points, charts).reshape(len(points), n)
        all_ids = np.concatenate([outer[None], own])
        border_uv = grid.uv[border[:, 0], border[:, 1]]
        centre = border_uv.mean(0)
        shrink = 1 - 0.94 * np.arange(len(points) + 1) / len(points)
        ring_uv = place(centre + shrink[:, None, None] * (border_uv - centre))
        if name.endswith("ear"):
            x, y, r = disks[name]
            turn = np.linspace(0, 2 * np.pi, n, endpoint=False) + np.pi * 0.75
            disk = np.stack([np.cos(turn), np.sin(turn)], -1) * ([-1, 1] if flip else [1, 1])
            ring_uv = np.array([x, y]) + (1 - 0.97 * np.arange(len(points) + 1) / len(points))[
                :, None, None
            ] * disk * r * [0.74, 1]
        ring_uv_ids = b.add_uv(ring_uv).reshape(all_ids.shape)
        b.sheet(all_ids, ring_uv_ids, around=True, flip=not flip)
        rings[name] = all_ids
        if not name.endswith("eye"):
            end = points[-1].mean(0) + ([0, 0, -4.0] if name == "mouth" else [0, 0, 0])
            parts[name + " end"] = np.array(
                [b.cap(all_ids[-1], ring_uv_ids[-1], end, ring_uv[-1].mean(0), charts[-1].mean(0), flip=flip)]
            )

    ball, front = _eyeball()
    for side, sign in (("left", 1), ("right", -1)):
        m = np.array([sign, 1, 1])
        own = b.add(ball * m).reshape(ball.shape[:2])
        x, y, r = disks[f"{side} eye"]
        turn = np.linspace(0, 2 * np.pi, ball.shape[1], endpoint=False)
        share = _BALL_ANGLES[::-1] / _BALL_ANGLES[-1]
        uv = np.array([x, y]) + share[:, None, None] * np.stack([np.cos(turn) * sign, np.sin(turn)], -1) * r * [0.74, 1]
        own_uv = b.add_uv(uv).reshape(own.shape)
        b.sheet(own, own_uv, around=True, flip=sign > 0)
        pole = b.cap(own[-1], own_uv[-1], front * m, [x, y], flip=sign < 0)
        parts[f"{side} eye"] = np.append(own.ravel(), pole)
    for name, upper, v in (("upper teeth", True, 0.19), ("lower teeth", False, 0.07)):
        p = _teeth(upper)
        own = b.add(p).reshape(p.shape[:2])
        uv = np.stack(
            np.broadcast_arrays(np.linspace(0.85, 0.99, p.shape[1])[None], np.linspace(v, v + 0.05, len(p))[:, None]),
            -1,
        )
        b.sheet(own, b.add_uv(uv).reshape(own.shape), flip=not upper)
        parts[name] = own.ravel()
    p = _tongue()
    own = b.add(p).reshape(p.shape[:2])
    uv = np.stack(
        np.broadcast_arrays(np.linspace(0.85, 0.99, p.shape[1] + 1)[None], np.linspace(0.0, 0.05, len(p))[:, None]), -1
    )
    uv_own = b.add_uv(uv).reshape(len(p), -1)
    b.sheet(np.concatenate([own, own[:, :1]], 1), uv_own, flip=True)
    ends = [
        b.cap(own[-1], uv_own[-1], p[-1].mean(0) + [0, 0, 1.0], [0.92, 0.055]),
        b.cap(own[0], uv_own[0], p[0].mean(0) - [0, 0, 1.0], [0.92, 0.0], flip=True),
    ]
    parts["tongue"] = np.append(own.ravel(), ends)
    return _finish(b, grid, parts, rings)


def _crown(b, grid, crown):
    """Rings from the first row of the grid to the crown of the head."""
    first = grid.ids[0]
    edge = b.points[0][first]
    inner = [crown + f * (edge - crown) + [0, 5.0 * f * (1 - f), 0] for f in (0.68, 0.36)]
    own = b.add(np.stack(inner), np.stack([grid.chart[0] + [0, -9], grid.chart[0] + [0, -18]])).reshape(2, -1)
    rows = np.concatenate([own[::-1], first[None]])
    # The crown's own disk, in the strip below the skin.
    turn = 2 * np.pi * grid.uv[0, :, 0]
    disk = np.stack([np.cos(turn), np.sin(turn)], -1)
    place_disk = np.array([0.92, 0.145]) + np.array([0.36, 0.68, 1.0])[:, None, None] * disk * 0.04 * [0.74, 1]
    ids = b.add_uv(place_disk).reshape(3, -1)
    b.sheet(np.concatenate([rows, rows[:, :1]], 1), ids)
    pole = b.cap(rows[0], ids[0], crown, [0.92, 0.145], [0, grid.t[0] - 27])
    return np.append(own.ravel(), pole)


def _finish(b, grid, parts, rings):
    v = np.concatenate(b.points)
    chart = np.concatenate(b.chart)
    q, u = np.concatenate(b.quads), np.concatenate(b.uv_quads)
    uv = np.concatenate(b.uv)
    used = np.zeros(len(v), bool)
    used[q] = True
    index = np.cumsum(used) - 1
    v, chart, q = v[used], chart[used], index[q]
    parts = {k: index[p[used[p]]] for k, p in parts.items()}
    rings = {k: index[p] for k, p in rings.items()}
    symmetry = cKDTree(v).query(v * [-1, 1, 1])[1]
    if not (symmetry[symmetry] == np.arange(len(v))).all():
        raise RuntimeError("the template is not symmetric")
    v = (v + v[symmetry] * [-1, 1, 1]) / 2
    # Diagonals run the same way on both sides.
    left = v[q].mean(1)[:, 0] > 0
    q, u = np.where(left[:, None], q, np.roll(q, 1, 1)), np.where(left[:, None], u, np.roll(u, 1, 1))
    tri, tri_uv = (
        np.stack([a[:, [0, 1, 2]], a[:, [0, 2, 3]]], 1).reshape(-1, 3) for a in (q, u)
    )  # neighbours stay together: renderers load their vertices once
    proper = (tri[:, 0] != tri[:, 1]) & (tri[:, 1] != tri[:, 2]) & (tri[:, 2] != tri[:, 0])
    landmarks = _landmarks(v, symmetry, rings, len(grid.ids.ravel()))
    contour = contour_lines(
        v,
        tri[proper][(tri[proper] < used[: len(grid.ids.ravel())].sum()).all(1)],
        np.stack([landmarks] * 3, 1),
        np.tile([1.0, 0, 0], (68, 1)),
    )
    return Template(
        v,
        tri[proper].astype(np.int32),
        uv,
        tri_uv[proper].astype(np.int32),
        symmetry.astype(np.int32),
        parts,
        rings,
        chart,
        landmarks,
        contour,
    )


# Where the landmarks of the subject's left half (and of the middle) lie on the mean head, by iBUG index; those on lids and lips follow. Where exactly the jaw's are is a convention
# when they are points of the head: these lie where those of 300W-LP and AFLW2000-3D do on the mean face of their data (3DDFA's 68 points), this model's people fitted to it.
_LANDMARKS = {
    8: (0, -108.5, 86), 9: (20.5, -104, 76.5), 10: (33, -97.5, 61.5), 11: (44, -91, 43), 12: (54, -76.5, 29), 13: (59, -60.5, 19.5), 14: (62.5, -45.5, 17),
    15: (67.5, -28, 13.5), 16: (70, -10, 15.5), 22: (11.5, 19.5, 97), 23: (20.5, 24, 95), 24: (30.5, 26, 91), 25: (40.5, 24.5, 84), 26: (49, 18.5, 75),
    27: (0, 4, 94), 28: (0, -8.5, 100), 29: (0, -20.5, 108), 30: (0, -33.5, 118), 33: (0, -44.5, 101), 34: (6, -43.6, 101.5), 35: (12.8, -42.2, 99.5),
}  # fmt: skip
_MIRRORED = {0: 16, 1: 15, 2: 14, 3: 13, 4: 12, 5: 11, 6: 10, 7: 9, 17: 26, 18: 25, 19: 24, 20: 23, 21: 22, 31: 35, 32: 34, 36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46, 48: 54, 49: 53, 50: 52, 59: 55, 58: 56, 60: 64, 61: 63, 67: 65}  # fmt: skip


def _landmarks(v, symmetry, rings, grid_count):
    out = np.full(68, -1)
    skin = cKDTree(v[:grid_count])
    for k, target in _LANDMARKS.items():
        out[k] = skin.query(target)[1]
        if target[0] == 0:
            out[k] = min(range(grid_count), key=lambda i: abs(v[i, 0]) * 1e3 + np.linalg.norm(v[i] - target))
    margin = rings["left eye"][len(_EYE_RINGS)]
    x = v[margin, 0]
    lower, upper = margin[v[margin, 1] < _between(v[margin])], margin[v[margin, 1] >= _between(v[margin])]
    out[42], out[45] = margin[x.argmin()], margin[x.argmax()]
    for k, (side, share) in {43: (upper, 0.33), 44: (upper, 0.67), 47: (lower, 0.33), 46: (lower, 0.67)}.items():
        out[k] = side[np.abs(v[side, 0] - (x.min() + share * (x.max() - x.min()))).argmin()]
    border, contact = rings["mouth"][len(_MOUTH_RINGS)], rings["mouth"][-6]
    n = len(border)
    for ring, points in (
        (border, {51: (0, 1), 52: (5.4, 1), 53: (15.5, 1), 54: (30, 1), 55: (16, -1), 56: (7.5, -1), 57: (0, -1)}),
        (contact, {62: (0, 1), 63: (9, 1), 64: (30, 1), 65: (9, -1), 66: (0, -1)}),
    ):
        p = v[ring]
        order = np.arange(n)
        is_upper = (order > order[p[:, 0].argmax()]) | (order < order[p[:, 0].argmin()])
        for k, (at, side) in points.items():
            cost = np.abs(p[:, 0] - at) + 1e3 * ((is_upper != (side > 0)) & (np.abs(p[:, 0]) < 25))
            out[k] = ring[cost.argmin()]
    for right, left in _MIRRORED.items():
        out[right] = symmetry[out[left]]
    return out.astype(np.int32)


def _between(p):
    """Height of the line from one corner of the eye to the other at each point's x."""
    a, b = p[p[:, 0].argmin()], p[p[:, 0].argmax()]
    return a[1] + (p[:, 0] - a[0]) / (b[0] - a[0]) * (b[1] - a[1])


def regions(t: Template) -> dict[str, np.ndarray]:
    """Named sets of vertices. "face" is the skin of the face without ears, neck and whatever lies inside the mouth and the nostrils."""
    v = t.vertices
    eye, mouth, ear, nostril = (t.rings[n] for n in ("left eye", "mouth", "left ear", "left nostril"))
    lips_from, contact = len(_MOUTH_RINGS), len(mouth) - 6
    inside = [mouth[contact + 1 :], t.parts["mouth end"]]
    for side in ("left", "right"):
        inside += [
            t.rings[f"{side} eye"][len(_EYE_RINGS) + 1 :],
            t.rings[f"{side} nostril"][2:],
            t.parts[f"{side} nostril end"],
            t.parts[f"{side} eye"],
        ]
    inside += [t.parts[n] for n in ("upper teeth", "lower teeth", "tongue")]
    hidden = np.zeros(len(v), bool)
    hidden[np.concatenate([p.ravel() for p in inside])] = True
    ears = np.zeros(len(v), bool)
    for side in ("left", "right"):
        ears[t.rings[f"{side} ear"][1:]] = True
        ears[t.parts[f"{side} ear end"]] = True
    # The lower border of the face rises from the chin to the angle of the jaw.
    jaw = np.interp(np.abs(v[:, 0]), [0, 24, 45, 55, 80], [-112, -107, -92, -76, -60])
    face = ~hidden & ~ears & (v[:, 2] > 12) & (v[:, 1] > jaw) & (v[:, 1] < 66)
    flat = np.zeros(len(v), bool)
    flat[t.parts["left eye"]] = flat[t.parts["right eye"]] = True
    out = {
        "face": face,
        "ears": ears,
        "eyeballs": flat,
        "neck": ~hidden & ~ears & ((v[:, 1] < jaw) & (v[:, 1] < -60)),
        "nose": face
        & (np.abs(v[:, 0]) < np.interp(v[:, 1], [-45, -36, -10, 5], [17, 20, 14, 10]))
        & (v[:, 1] > -46)
        & (v[:, 1] < 6),
    }
    out = {k: np.flatnonzero(m) for k, m in out.items()}
    out |= {
        "lips": np.unique(mouth[lips_from : contact + 1]),
        "mouth": np.unique(np.concatenate([mouth[contact + 1 :].ravel(), t.parts["mouth end"]])),
    }
    out |= {"teeth": np.concatenate([t.parts["upper teeth"], t.parts["lower teeth"]]), "tongue": t.parts["tongue"]}
    out |= {f"{side}_eye": t.parts[f"{side} eye"] for side in ("left", "right")}
    return {k: np.asarray(i, np.int32) for k, i in out.items()}
