"""Lips, oral cavity, teeth and tongue of the mean head."""

import numpy as np
from scipy.interpolate import CubicSpline

from facemodels.models.builtin.grid import Inset, SkinGrid, split_border
from facemodels.models.builtin.loft import loft_coordinates, skin_surface

# Half of each lip curve, from the middle to the corner of the mouth: (x, y, z), mm.
_LIP_TEXT = {
    "upper border": "0 -57.2 104.0, 5.2 -55.7 104.0, 10 -57.4 102.2, 16 -60.2 97.9, 21.8 -63.2 91.8, 26.2 -65.0 88.0",
    "upper lip": "0 -61.2 106.0, 5 -60.4 105.5, 10 -61.3 103.4, 16 -62.8 98.6, 21.8 -64.5 91.8, 25.8 -65.2 87.4",
    "upper contact": "0 -65.3 102.4, 5 -64.8 102.1, 10 -65.1 100.4, 16 -65.5 95.8, 21.8 -65.6 89.6, 25.2 -65.3 86.4",
    "lower contact": (
        "0 -65.45 102.2, 5 -64.95 101.9, 10 -65.25 100.2, 16 -65.65 95.6, 21.8 -65.75 89.5, 25.2 -65.4 86.4"
    ),
    "lower lip": "0 -70.2 104.8, 5 -70.2 104.5, 10 -69.9 102.6, 16 -68.8 97.6, 21.8 -67.0 91.0, 25.8 -65.4 87.4",
    "lower border": "0 -75.2 101.2, 5 -75.2 101.0, 10 -74.4 99.3, 16 -72.2 95.4, 21.8 -68.8 90.4, 26.2 -65.6 88.0",
}  # fmt: skip


def _lip_curve(text: str) -> CubicSpline:
    """Return a lip curve from the right corner of the mouth (-1) to the left (1)."""
    p = np.array([[float(w) for w in point.split()] for point in text.split(",")])
    p = np.concatenate([p[:0:-1] * [-1, 1, 1], p])
    return CubicSpline(p[:, 0] / p[-1, 0], p, axis=0)


_LIP_CURVES = {name: _lip_curve(text) for name, text in _LIP_TEXT.items()}

# Of the way from the block's border to the border of the lips, at each ring of skin.
MOUTH_RINGS = np.array([0.22, 0.43, 0.62, 0.80, 1.0])
# Indices among the template's rings of the mouth, whose first is the block's border.
LIP_BORDER_RING = len(MOUTH_RINGS)  # where the red of the lips begins
LIP_CONTACT_RING = LIP_BORDER_RING + 4  # where the lips touch


def mouth(grid: SkinGrid) -> Inset:
    """Cut the mouth out of the grid: rings of skin up to the border of the lips, the lips, then the oral cavity."""
    border = grid.cut(-37, 37, 61.5, 99)
    fraction, upper = split_border(border)
    along = 0.55 * (2 * fraction - 1) - 0.45 * np.cos(np.pi * fraction)  # -1 at the right corner, 1 at the left

    def curve(name: str) -> np.ndarray:
        return np.where(upper[:, None], _LIP_CURVES["upper " + name](along), _LIP_CURVES["lower " + name](along))

    edge = curve("border")
    outer = grid.chart[border[:, 0], border[:, 1]]
    inner = loft_coordinates(edge, (0.0, 80.0))
    offset = edge - skin_surface(inner[:, 0], inner[:, 1])
    rings, charts = [], []
    for w in MOUTH_RINGS:
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
    return Inset(border, np.stack(rings), np.stack(charts))


TEETH_ARCH = 1.35  # radians, half the angle over which a row of teeth is bent
TEETH_A_SIDE = 7


def teeth(upper: bool) -> np.ndarray:
    """Return a row of teeth with its gums, [7,41,3] mm: rows from the gums over the cutting edge to the back."""
    phi = np.linspace(-1, 1, 41)
    x = 26.5 * np.sin(phi * TEETH_ARCH) / np.sin(TEETH_ARCH)
    z = 94.0 - 42 * phi**2 - (0 if upper else 2.2)
    x = x * (1 if upper else 0.94)
    edge, root = (-67.2, -55.0) if upper else (-65.8, -77.5)
    bulge = 0.35 * np.abs(np.sin(phi * TEETH_A_SIDE * np.pi))
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


def tongue() -> np.ndarray:
    """Return the tongue without its two ends, [9,16,3] mm: rings from the back to the tip."""
    u, v = np.linspace(0, 2 * np.pi, 16, endpoint=False), np.linspace(np.pi * 0.94, np.pi * 0.06, 9)
    a, b = np.meshgrid(u, v)
    p = np.stack([19 * np.sin(b) * np.cos(a), 5.5 * np.sin(b) * np.sin(a), 25 * np.cos(b)], -1)
    p[..., 1] -= 0.006 * (p[..., 2] + 10) ** 2
    return p + [0, -73.0, 63.0]
