"""The grid of quadrilaterals over the skin, and the blocks that make way for eyes, mouth, nostrils and ears."""

from typing import NamedTuple

import numpy as np

from facemodels.models.builtin.loft import LOFT, skin_surface
from facemodels.models.builtin.mesh import MeshBuilder


class Inset(NamedTuple):
    """What takes the place of a block of the grid: rings of vertices from the block's border inwards."""

    border: np.ndarray  # [P,2] (row, column) of the block's border
    rings: np.ndarray  # [R,P,3] mm, without the border itself
    chart: np.ndarray  # [R,P,2] (s, t) of the rings


class SkinGrid:
    """The grid over the skin. The middle of the face is column C/2, the middle of the back column 0.

    Attributes:
        s: [C], of the columns; t: [R], of the rows; both in mm, the coordinates of `loft`.
        chart: [R,C,2], (s, t) of each vertex.
        ids: [R,C], the vertices.
        uv: [R,C+1,2], within the chart of the skin; the column at the back comes twice.
        keep: bool [R-1,C], the cells that no inset has replaced.
    """

    def __init__(self, builder: MeshBuilder) -> None:
        half = _half_columns()
        self.s = np.concatenate([-half[:0:-1], half[:-1]])
        self.t = _row_positions()
        self.num_rows, self.num_columns = len(self.t), len(self.s)
        chart = np.stack(np.broadcast_arrays(self.s[None], self.t[:, None]), -1)
        self.chart = chart
        points = skin_surface(chart[..., 0], chart[..., 1])
        self.ids = builder.add_vertices(points, chart).reshape(self.num_rows, self.num_columns)
        u = np.linspace(0, 1, self.num_columns + 1)
        v = np.linspace(1, 0, self.num_rows)
        self.uv = np.stack(np.broadcast_arrays(u[None], v[:, None]), -1)
        self.keep = np.ones((self.num_rows - 1, self.num_columns), bool)

    def cut(self, s0: float, s1: float, t0: float, t1: float) -> np.ndarray:
        """Take out the cells between the grid lines nearest to s0..s1 and t0..t1 (mm).

        Returns:
            (row, column) of the block's border [P,2], counterclockwise seen from outside, from the corner at (s0, t0)
            downwards.
        """
        c0, c1, r0, r1 = self._column(s0), self._column(s1), self._row(t0), self._row(t1)
        self.keep[r0:r1, c0:c1] = False
        down = [(r, c0) for r in range(r0, r1)]
        along = [(r1, c) for c in range(c0, c1)]
        up = [(r, c1) for r in range(r1, r0, -1)]
        back = [(r0, c) for c in range(c1, c0, -1)]
        return np.array(down + along + up + back)

    def cut_mirrored(self, border: np.ndarray) -> np.ndarray:
        """Take out the mirror image of a block. Returns its border in the same order, so clockwise."""
        mirrored = np.stack([border[:, 0], (self.num_columns - border[:, 1]) % self.num_columns], 1)
        r0, r1 = mirrored[:, 0].min(), mirrored[:, 0].max()
        c0, c1 = mirrored[:, 1].min(), mirrored[:, 1].max()
        self.keep[r0:r1, c0:c1] = False
        return mirrored

    def _column(self, s: float) -> int:
        return int(np.abs(self.s - s).argmin())

    def _row(self, t: float) -> int:
        return int(np.abs(self.t - t).argmin())


def split_border(border: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide a block's border [P,2] into its upper and its lower half.

    Returns:
        fraction [P]: how far along its half each place lies, from the middle of the block's side at small s to that at
        large s. upper, bool [P].
    """
    r, c = border.T
    rows, cols = r.max() - r.min(), c.max() - c.min()
    n, start, below = len(border), rows // 2, rows - rows // 2
    k = (np.arange(n) - start) % n
    lower_count = 2 * below + cols
    upper = k > lower_count
    return np.where(upper, (n - k) / (n - lower_count), k / lower_count), upper


def _half_columns() -> np.ndarray:
    """Return s of the columns on the left half, from 0 to the middle of the back: close in the face, wide behind."""
    girth = LOFT.half_girth
    steps = [(0, 2.5), (22, 2.6), (40, 3.3), (72, 3.7), (105, 6.6), (132, 6.6), (158, 6.6), (200, 13.0), (girth, 14.5)]
    return _graded(girth, steps)


def _row_positions() -> np.ndarray:
    t = LOFT.section_t
    up = _graded(-t["crown"], [(0, 3.2), (30, 3.2), (60, 6.5), (-t["crown"], 10.0)])
    down = _graded(t["neck base"], [(0, 3.2), (115, 3.2), (150, 6.5), (t["neck base"], 11)])
    return np.concatenate([-up[:0:-1], down])


def _graded(length: float, spacing: list[tuple[float, float]]) -> np.ndarray:
    """Return positions from 0 to length whose steps follow the spacing [(position, step)]."""
    x = np.linspace(0, length, 2000)
    positions, steps = zip(*spacing)
    density = 1 / np.interp(x, positions, steps)
    count = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(x))])
    n = round(count[-1])
    return np.interp(np.linspace(0, count[-1], n + 1), count, x)
