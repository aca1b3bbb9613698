"""A builder that collects vertices, quadrilaterals and texture coordinates."""

import numpy as np
from numpy.typing import ArrayLike


class MeshBuilder:
    """Vertices, chart coordinates, texture coordinates, and quadrilaterals of both, in the order in which they are
    added.

    A triangle is a quadrilateral whose last two corners are the same.
    """

    def __init__(self) -> None:
        self.points: list[np.ndarray] = []
        self.chart: list[np.ndarray] = []
        self.uv: list[np.ndarray] = []
        self.quads: list[np.ndarray] = []
        self.uv_quads: list[np.ndarray] = []
        self.count = self.uv_count = 0

    def add_vertices(self, points: ArrayLike, chart: ArrayLike | None = None) -> np.ndarray:
        """Add points [...,3], mm, with chart coordinates [...,2] (None for zeros). Returns their indices, flat."""
        points = np.asarray(points, float).reshape(-1, 3)
        self.points.append(points)
        self.chart.append(np.zeros((len(points), 2)) if chart is None else np.asarray(chart, float).reshape(-1, 2))
        first, self.count = self.count, self.count + len(points)
        return np.arange(first, self.count)

    def add_uv(self, uv: ArrayLike) -> np.ndarray:
        """Add texture coordinates [...,2]. Returns their indices, flat."""
        uv = np.asarray(uv, float).reshape(-1, 2)
        self.uv.append(uv)
        first, self.uv_count = self.uv_count, self.uv_count + len(uv)
        return np.arange(first, self.uv_count)

    def add_quads(self, corners: ArrayLike, uv_corners: ArrayLike) -> None:
        """Add quadrilaterals: indices of vertices and of texture coordinates, [...,4] each, counterclockwise."""
        self.quads.append(np.asarray(corners).reshape(-1, 4))
        self.uv_quads.append(np.asarray(uv_corners).reshape(-1, 4))

    def add_sheet(self, ids: np.ndarray, uv_ids: np.ndarray, around: bool = False, flip: bool = False) -> None:
        """Add the quadrilaterals between the rows of a sheet of vertices.

        Args:
            ids: vertices [R,C].
            uv_ids: texture coordinates [R,C], or [R,C+1] where the texture has a seam.
            around: joins the last column to the first.
            flip: turns the faces the other way.
        """

        def corners(a: np.ndarray) -> np.ndarray:
            right = np.roll(a, -1, 1) if around and a.shape[1] == ids.shape[1] else a[:, 1:]
            left = a if right.shape[1] == a.shape[1] else a[:, :-1]
            q = np.stack([left[:-1], left[1:], right[1:], right[:-1]], -1).reshape(-1, 4)
            return q[:, ::-1] if flip else q

        self.add_quads(corners(ids), corners(uv_ids))

    def add_cap(
        self,
        ring: np.ndarray,
        uv_ring: np.ndarray,
        point: ArrayLike,
        uv: ArrayLike,
        chart: ArrayLike | None = None,
        flip: bool = False,
    ) -> int:
        """Close a ring with a fan of triangles about one new vertex.

        Args:
            ring: vertices [P], counterclockwise seen from outside.
            uv_ring: their texture coordinates, [P], or [P+1] where the texture has a seam.
            point: the new vertex [3], mm.
            uv: its texture coordinates [2].
            chart: its chart coordinates [2], None for zeros.
            flip: turns the faces the other way.

        Returns:
            The index of the new vertex.
        """
        center, uv_center = self.add_vertices(point, chart)[0], self.add_uv(uv)[0]
        n = len(ring)
        a, b = ring, np.roll(ring, -1)
        ua, ub = (uv_ring, np.roll(uv_ring, -1)) if len(uv_ring) == n else (uv_ring[:-1], uv_ring[1:])
        q = np.stack([np.full(n, center), a, b, b], -1)
        u = np.stack([np.full(n, uv_center), ua, ub, ub], -1)
        if flip:
            q, u = q[:, [0, 2, 1, 1]], u[:, [0, 2, 1, 1]]
        self.add_quads(q, u)
        return center
