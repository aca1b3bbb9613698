"""Eyelids and eyeballs of the mean head, both drawn for the subject's left eye."""

import numpy as np
from numpy.typing import ArrayLike

from facemodels.models.builtin.grid import Inset, SkinGrid, split_border
from facemodels.models.builtin.loft import loft_coordinates, skin_surface
from facemodels.models.builtin.smooth import smooth_max, smoothstep

EYE = np.array([31.6, 0.0, 74.2])  # center of the left eyeball, mm; half the interpupillary distance of 63 mm
EYE_RADIUS = 12.2  # mm
IRIS = 5.9  # radius, mm
CANTHI = np.array([[15.9, -1.6, 80.6], [46.6, 0.6, 74.2]])  # inner and outer corner of the left eye, mm
LID_THICKNESS = 1.5  # mm
# Of the way from the block's border to the lid margin, at each ring of skin.
EYE_RINGS = np.array([0.16, 0.32, 0.47, 0.60, 0.71, 0.81, 0.90, 1.0])
LID_MARGIN_RING = len(
    EYE_RINGS
)  # index of the lid margin among the template's rings of an eye, whose first is the border

EYEBALL_ANGLES = np.radians(
    [4.5, 9.5, 16, 22.5, 27.5, 30.5, 38, 50, 64, 80, 98]
)  # of the eyeball's rings, from its axis


def lid_margin(a: ArrayLike, upper: ArrayLike) -> np.ndarray:
    """Return points [...,3], mm, on the margins of the left lids.

    Args:
        a: [...], from 0 at the inner canthus to 1 at the outer.
        upper: bool [...], the upper lid's margin instead of the lower one's.
    """
    a = np.asarray(a, float)
    base = CANTHI[0] + a[..., None] * (CANTHI[1] - CANTHI[0])
    # The upper lid is highest towards the nose, the lower one lowest towards the ear.
    skewed = a ** np.where(upper, 0.86, 1.12)
    arch = np.maximum(np.sin(np.pi * skewed), 0) ** np.where(upper, 0.80, 0.92)
    y = base[..., 1] + arch * np.where(upper, 4.9, -5.2)
    x = base[..., 0]
    radius = EYE_RADIUS + LID_THICKNESS * 0.75
    inside = radius**2 - (x - EYE[0]) ** 2 - (y - EYE[1]) ** 2
    on_ball = EYE[2] + np.sqrt(np.maximum(inside, 0.0))
    z = smooth_max(on_ball, base[..., 2], 1.2)
    return np.stack([x, y, z], -1)


def eyelids(grid: SkinGrid) -> Inset:
    """Cut the left eye out of the grid and draw its lids: rings of skin up to the margin, then three behind it."""
    border = grid.cut(10.5, 62, -14.0, 12.5)
    fraction, upper = split_border(border)
    a = (1 - np.cos(np.pi * fraction)) / 2 * 0.55 + fraction * 0.45
    margin = lid_margin(a, upper)
    outer = grid.chart[border[:, 0], border[:, 1]]
    # The margin in the chart: where the loft passes through the same x and y.
    inner = loft_coordinates(margin, outer.mean(0))
    rings, charts = [], []
    for w in EYE_RINGS:
        q = outer + w * (inner - outer)
        p = skin_surface(q[:, 0], q[:, 1])
        rings.append(_lid_ring(p, margin, w, upper, a))
        charts.append(q)
    # Behind the margin: its rear edge on the ball, then out of sight.
    for depth, close in ((1.3, 0.55), (4.0, 1.0), (8.0, 1.0)):
        d = margin - EYE
        direction = d / np.linalg.norm(d, axis=-1, keepdims=True)
        r = np.linalg.norm(d, axis=-1, keepdims=True)
        ball = EYE + direction * (EYE_RADIUS + 0.12)
        near_corner = smoothstep(r, EYE_RADIUS + 1.6, EYE_RADIUS + 3.2)
        rear = margin + close * (ball - margin) * (1 - 0.3 * near_corner * (depth < 2))
        rear[:, 2] -= (depth - 1.3) * 0.9
        rear[:, 1] += np.where(upper, 1, -1) * (depth - 1.3) * 0.55 * np.sin(np.pi * a)
        rings.append(_pushed_outside_ball(rear, EYE_RADIUS + 0.12))
        charts.append(inner + (np.array([32.0, 0.0]) - inner) * (0.05 + 0.08 * depth / 8))
    return Inset(border, np.stack(rings), np.stack(charts))


def _pushed_outside_ball(p: np.ndarray, radius: float) -> np.ndarray:
    """Move points [P,3] that are inside a ball about the eye's center to its surface."""
    d = p - EYE
    r = np.linalg.norm(d, axis=-1, keepdims=True)
    return EYE + d / r * np.maximum(r, radius)


def _lid_ring(p: np.ndarray, margin: np.ndarray, w: float, upper: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Return a ring of the lids [P,3]: skin far from the margin, the lid's own curve over the eyeball close to it.

    Args:
        p: the skin surface at the ring, [P,3].
        margin: the lid margin, [P,3].
        w: of the way from the block's border to the margin.
        upper: bool [P], on the upper lid.
        a: [P], along the margin from the inner canthus to the outer.
    """
    lid = EYE + (p - EYE) / np.linalg.norm(p - EYE, axis=-1, keepdims=True) * (EYE_RADIUS + LID_THICKNESS + 0.5)
    covers = np.hypot((p[:, 0] - EYE[0]) / 13.5, (p[:, 1] - EYE[1]) / 12.0)
    over_ball = (1 - smoothstep(covers, 0.75, 1.15)) * smoothstep(w, 0.25, 0.75)
    out = p + over_ball[:, None] * (lid - p)
    out = out + (smoothstep(w, 0.62, 1.0) ** 1.6)[..., None] * (margin - out) if w < 1 else margin.copy()
    # The fold of the upper lid: a groove, and the skin that hangs over it.
    arch = np.sin(np.pi * np.clip(a, 0, 1)) ** 0.7
    groove = (
        upper * arch * (1.5 * np.exp(-0.5 * ((w - 0.71) / 0.06) ** 2) - 1.3 * np.exp(-0.5 * ((w - 0.52) / 0.09) ** 2))
    )
    bag = ~upper * arch * 0.5 * np.exp(-0.5 * ((w - 0.62) / 0.12) ** 2)
    out[:, 2] += bag - groove
    out[:, 1] += upper * arch * -1.3 * np.exp(-0.5 * ((w - 0.55) / 0.09) ** 2)
    return out


def eyeball(around: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """Return the left eyeball: rings [R,around,3] from behind to the front, mm, and the pole of the cornea [3]."""
    turn = np.linspace(0, 2 * np.pi, around, endpoint=False)
    a = EYEBALL_ANGLES[:, None]
    r = EYE_RADIUS + 0.55 * np.exp(-((a / np.radians(24)) ** 4))  # the cornea
    p = np.stack([r * np.sin(a) * np.cos(turn), r * np.sin(a) * np.sin(turn), r * np.cos(a) * np.ones_like(turn)], -1)
    return EYE + p[::-1], EYE + [0, 0, EYE_RADIUS + 0.55]
