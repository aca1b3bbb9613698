"""The left nostril of the mean head."""

import numpy as np

from facemodels.models.builtin.grid import Inset, SkinGrid
from facemodels.models.builtin.loft import skin_surface


def nostril(grid: SkinGrid) -> Inset:
    """Cut the left nostril out of the grid: its rim, then three rings up into the nose."""
    border = grid.cut(2.6, 13.2, 46, 56.2)
    outer = grid.chart[border[:, 0], border[:, 1]]
    center = outer.mean(0)
    turn = np.arctan2(outer[:, 1] - center[1], outer[:, 0] - center[0])
    rim = center + np.stack([3.4 * np.cos(turn) + 1.0 * np.sin(turn), 3.3 * np.sin(turn)], -1)
    p = skin_surface(rim[:, 0], rim[:, 1])
    middle = p.mean(0)
    rings = [p + [0, -0.2, 0]]
    for shrink, up, back in ((0.88, 1.6, 0.6), (0.80, 4.5, 2.0), (0.55, 8.5, 4.5)):
        rings.append(middle + shrink * (p - middle) + [0, up, -back])
    charts = [rim, center + 0.45 * (outer - center), center + 0.35 * (outer - center), center + 0.2 * (outer - center)]
    return Inset(border, np.stack(rings), np.stack(charts))
