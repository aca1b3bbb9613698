"""The 68 landmarks (iBUG order) on the mean head."""

import numpy as np
from scipy.spatial import cKDTree

from facemodels.models.builtin.eyes import LID_MARGIN_RING
from facemodels.models.builtin.mouth import LIP_BORDER_RING, LIP_CONTACT_RING

# Places on the mean head, mm, of the landmarks of the subject's left half and of the middle; those on lids and lips are
# found by `place_landmarks`. Where those of the jaw lie is a convention when they are fixed points of the head: these
# lie where those of 300W-LP and AFLW2000-3D do on the mean face of their data (3DDFA's 68 points), this model fitted
# to it.
_TARGETS = {
    8: (0, -108.5, 86), 9: (20.5, -104, 76.5), 10: (33, -97.5, 61.5), 11: (44, -91, 43), 12: (54, -76.5, 29),
    13: (59, -60.5, 19.5), 14: (62.5, -45.5, 17), 15: (67.5, -28, 13.5), 16: (70, -10, 15.5),
    22: (11.5, 19.5, 97), 23: (20.5, 24, 95), 24: (30.5, 26, 91), 25: (40.5, 24.5, 84), 26: (49, 18.5, 75),
    27: (0, 4, 94), 28: (0, -8.5, 100), 29: (0, -20.5, 108), 30: (0, -33.5, 118),
    33: (0, -44.5, 101), 34: (6, -43.6, 101.5), 35: (12.8, -42.2, 99.5),
}  # fmt: skip
_LEFT_OF_RIGHT = {
    0: 16, 1: 15, 2: 14, 3: 13, 4: 12, 5: 11, 6: 10, 7: 9, 17: 26, 18: 25, 19: 24, 20: 23, 21: 22, 31: 35, 32: 34,
    36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46, 48: 54, 49: 53, 50: 52, 59: 55, 58: 56, 60: 64, 61: 63, 67: 65,
}  # fmt: skip


def place_landmarks(
    vertices: np.ndarray, symmetry: np.ndarray, rings: dict[str, np.ndarray], grid_count: int
) -> np.ndarray:
    """Find the vertices of the 68 landmarks.

    Args:
        vertices: [V,3], mm.
        symmetry: [V], the mirror image of each vertex.
        rings: vertices of the insets' rings, by name.
        grid_count: how many of the first vertices are searched for the landmarks on the skin.

    Returns:
        int32 [68].
    """
    v = vertices
    out = np.full(68, -1)
    skin = cKDTree(v[:grid_count])
    for k, target in _TARGETS.items():
        out[k] = skin.query(target)[1]
        if target[0] == 0:  # exactly in the middle
            out[k] = min(range(grid_count), key=lambda i: abs(v[i, 0]) * 1e3 + np.linalg.norm(v[i] - target))
    margin = rings["left eye"][LID_MARGIN_RING]
    x = v[margin, 0]
    lower, upper = margin[v[margin, 1] < _canthal_line(v[margin])], margin[v[margin, 1] >= _canthal_line(v[margin])]
    out[42], out[45] = margin[x.argmin()], margin[x.argmax()]
    for k, (side, share) in {43: (upper, 0.33), 44: (upper, 0.67), 47: (lower, 0.33), 46: (lower, 0.67)}.items():
        out[k] = side[np.abs(v[side, 0] - (x.min() + share * (x.max() - x.min()))).argmin()]
    border, contact = rings["mouth"][LIP_BORDER_RING], rings["mouth"][LIP_CONTACT_RING]
    n = len(border)
    # landmark: (x in mm, 1 for the upper lip, -1 for the lower one)
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
    for right, left in _LEFT_OF_RIGHT.items():
        out[right] = symmetry[out[left]]
    return out.astype(np.int32)


def _canthal_line(p: np.ndarray) -> np.ndarray:
    """Return the height [P] of the line between the corners of the eye at the x of each point [P,3] of the margin."""
    a, b = p[p[:, 0].argmin()], p[p[:, 0].argmax()]
    return a[1] + (p[:, 0] - a[0]) / (b[0] - a[0]) * (b[1] - a[1])
