"""The left ear of the mean head: rings from the back of the shell over its rim into the concha."""

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from facemodels.models.builtin.grid import Inset, SkinGrid
from facemodels.models.builtin.loft import skin_surface

# Distance of the ear's outline from the middle of the concha, mm, by angle from the top backwards, degrees.
_OUTLINE = [
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
# Of each ring: share of the outline; height above the ear's plane, mm, behind, at the front and at the lobe.
_RINGS = [
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


def ear(grid: SkinGrid) -> Inset:
    """Cut the left ear out of the grid and draw its shell."""
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
    degrees, radius = np.array(_OUTLINE, float).T
    outline = CubicSpline(np.append(degrees, 360), np.append(radius, radius[0]), bc_type="periodic")(
        np.degrees(smooth) % 360
    )
    theta = np.degrees(smooth) % 360
    front = np.exp(-0.5 * (_wrapped_degrees(theta - 262) / 24) ** 2)
    lobe = np.exp(-0.5 * (_wrapped_degrees(theta - 192) / 26) ** 2) * (1 - front)
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
    for j, (share, behind, before, below) in enumerate(_RINGS):
        reach = np.maximum(share * outline, own * (1 + 0.01 * j)) if j < 4 else share * outline
        r = (1 - front) * reach + front * own * (1 - 0.92 * (j + 1) / len(_RINGS))
        height = rest * behind + front * before + lobe * below + (1 - front) * (d @ out) * max(0.0, 1 - (j + 1) / 3)
        along = direction + (own_direction - direction) * max(0.0, 1 - (j + 1) / 2) * 0.5
        p = origin + r[:, None] * along + height[:, None] * out
        lift = front * (d @ out) * (1 - (j + 1) / len(_RINGS))  # leaves the head's surface gently at the front
        rings.append(p + lift[:, None] * out)
    charts = [outer.mean(0) + (1 - (j + 1) / (len(rings) + 1)) * (outer - outer.mean(0)) for j in range(len(rings))]
    return Inset(border, np.stack(rings), np.stack(charts))


def _wrapped_degrees(degrees: np.ndarray) -> np.ndarray:
    """Return angles in -180..180."""
    return (degrees + 180) % 360 - 180
