"""The mean head of the built-in model, put together from its parts: geometry, topology, texture atlas, landmarks.

Millimeters; the origin lies between the pupils, at the depth of the ear canals. The right half is the mirror image of
the left. The skin (`loft`) is meshed by a regular grid (`grid`); where the grid must make way for an eye, the mouth, a
nostril or an ear, a block of cells is taken out, and rings of vertices lead from the block's border to the lid margin,
into the mouth, the nostril and the shell of the ear. So every vertex but those at the corners of blocks has four
neighbors.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from facemodels.core.contour import contour_lines
from facemodels.models.builtin.ears import ear
from facemodels.models.builtin.eyes import EYEBALL_ANGLES, eyeball, eyelids
from facemodels.models.builtin.grid import Inset, SkinGrid
from facemodels.models.builtin.landmarks import place_landmarks
from facemodels.models.builtin.mesh import MeshBuilder
from facemodels.models.builtin.mouth import mouth, teeth, tongue
from facemodels.models.builtin.nostrils import nostril


@dataclass
class Template:
    """The mean head as a mesh.

    Attributes:
        vertices: float64 [V,3], mm. Vertices come in parts; each part's vertices are consecutive.
        faces: int32 [F,3].
        uv: float64 [T,2], (0, 0) at the lower left.
        uv_faces: int32 [F,3], the texture coordinates of each face's corners.
        symmetry: int32 [V], the mirror image of each vertex.
        parts: name -> vertices: "crown", "left eye", "right eye", "upper teeth", "lower teeth", "tongue", and the
            vertices that close the innermost rings ("mouth end", "left nostril end", "left ear end", ...).
        rings: name -> vertices [R,P] of "mouth", "left eye", "left nostril", "left ear" and the right ones, from the
            block's border inwards.
        chart: float64 [V,2], (s, t) of `loft` on the skin, 0 elsewhere.
        landmarks: int32 [68], vertices.
        contour: int32 [17,K], candidates of the moving contour.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    uv_faces: np.ndarray
    symmetry: np.ndarray
    parts: dict[str, np.ndarray]
    rings: dict[str, np.ndarray]
    chart: np.ndarray
    landmarks: np.ndarray
    contour: np.ndarray


# Of the texture atlas: center and radius of the disks of ears and eyes, which lie in a strip below the skin.
_DISKS = {
    "left ear": (0.09, 0.13, 0.085),
    "right ear": (0.27, 0.13, 0.085),
    "left eye": (0.61, 0.13, 0.07),
    "right eye": (0.76, 0.13, 0.07),
}
_ASPECT = [0.74, 1]  # of the disks: the atlas is stretched over a head that is broader than high


def build() -> Template:
    """Draw the whole mean head; the same on every call."""
    b = MeshBuilder()
    grid = SkinGrid(b)
    insets = {"eye": eyelids(grid), "nostril": nostril(grid), "ear": ear(grid)}
    mouth_inset = mouth(grid)
    mirrored = {name: grid.cut_mirrored(inset.border) for name, inset in insets.items()}
    _add_skin(b, grid)
    parts: dict[str, np.ndarray] = {}
    rings: dict[str, np.ndarray] = {}
    parts["crown"] = _add_crown(b, grid, np.array([0, 112.8, -7.0]))
    for name, inset in insets.items():
        _add_inset(b, grid, f"left {name}", inset, False, parts, rings)
    for name, inset in insets.items():
        right = Inset(mirrored[name], inset.rings * [-1, 1, 1], inset.chart * [-1, 1])
        _add_inset(b, grid, f"right {name}", right, True, parts, rings)
    _add_inset(b, grid, "mouth", mouth_inset, False, parts, rings)
    for side, sign in (("left", 1), ("right", -1)):
        parts[f"{side} eye"] = _add_eyeball(b, f"{side} eye", sign)
    for name, upper, v in (("upper teeth", True, 0.19), ("lower teeth", False, 0.07)):
        parts[name] = _add_teeth(b, upper, v)
    parts["tongue"] = _add_tongue(b)
    return _finished(b, grid.ids.size, parts, rings)


def _in_skin_chart(uv: ArrayLike) -> np.ndarray:
    """Return the place in the atlas of coordinates [...,2] within the chart of the skin."""
    return np.asarray(uv) * [1.0, 0.74] + [0, 0.26]


def _add_skin(b: MeshBuilder, grid: SkinGrid) -> None:
    """Add the cells of the grid that no inset has replaced."""
    uv_ids = b.add_uv(_in_skin_chart(grid.uv)).reshape(grid.num_rows, grid.num_columns + 1)
    ids = np.concatenate([grid.ids, grid.ids[:, :1]], 1)
    for r, c in np.argwhere(grid.keep):
        b.add_quads(
            [ids[r, c], ids[r + 1, c], ids[r + 1, c + 1], ids[r, c + 1]],
            [uv_ids[r, c], uv_ids[r + 1, c], uv_ids[r + 1, c + 1], uv_ids[r, c + 1]],
        )


def _add_crown(b: MeshBuilder, grid: SkinGrid, crown: np.ndarray) -> np.ndarray:
    """Add rings from the first row of the grid to the crown of the head [3]. Returns their vertices."""
    first = grid.ids[0]
    edge = b.points[0][first]
    inner = [crown + f * (edge - crown) + [0, 5.0 * f * (1 - f), 0] for f in (0.68, 0.36)]
    own = b.add_vertices(np.stack(inner), np.stack([grid.chart[0] + [0, -9], grid.chart[0] + [0, -18]])).reshape(2, -1)
    rows = np.concatenate([own[::-1], first[None]])
    # The crown's own disk, in the strip below the skin.
    turn = 2 * np.pi * grid.uv[0, :, 0]
    disk = np.stack([np.cos(turn), np.sin(turn)], -1)
    disk_uv = np.array([0.92, 0.145]) + np.array([0.36, 0.68, 1.0])[:, None, None] * disk * 0.04 * _ASPECT
    ids = b.add_uv(disk_uv).reshape(3, -1)
    b.add_sheet(np.concatenate([rows, rows[:, :1]], 1), ids)
    pole = b.add_cap(rows[0], ids[0], crown, [0.92, 0.145], [0, grid.t[0] - 27])
    return np.append(own.ravel(), pole)


def _add_inset(
    b: MeshBuilder,
    grid: SkinGrid,
    name: str,
    inset: Inset,
    flip: bool,
    parts: dict[str, np.ndarray],
    rings: dict[str, np.ndarray],
) -> None:
    """Add the rings of an inset, and close the innermost one unless it is an eye's. Enters them in parts and rings.

    Args:
        b: what the mesh is collected in.
        grid: the skin.
        name: of the inset.
        inset: its rings.
        flip: True for a mirror image, whose border runs the other way.
        parts: gets "NAME end", the vertex that closes the innermost ring.
        rings: gets NAME, the rings, the block's border first.
    """
    border, points, charts = inset
    outer = grid.ids[border[:, 0], border[:, 1] % grid.num_columns]
    n = len(outer)
    own = b.add_vertices(points, charts).reshape(len(points), n)
    all_ids = np.concatenate([outer[None], own])
    border_uv = grid.uv[border[:, 0], border[:, 1]]
    center = border_uv.mean(0)
    shrink = 1 - 0.94 * np.arange(len(points) + 1) / len(points)
    ring_uv = _in_skin_chart(center + shrink[:, None, None] * (border_uv - center))
    if name.endswith("ear"):
        x, y, r = _DISKS[name]
        turn = np.linspace(0, 2 * np.pi, n, endpoint=False) + np.pi * 0.75
        disk = np.stack([np.cos(turn), np.sin(turn)], -1) * ([-1, 1] if flip else [1, 1])
        radii = (1 - 0.97 * np.arange(len(points) + 1) / len(points))[:, None, None]
        ring_uv = np.array([x, y]) + radii * disk * r * _ASPECT
    ring_uv_ids = b.add_uv(ring_uv).reshape(all_ids.shape)
    b.add_sheet(all_ids, ring_uv_ids, around=True, flip=not flip)
    rings[name] = all_ids
    if not name.endswith("eye"):
        end = points[-1].mean(0) + ([0, 0, -4.0] if name == "mouth" else [0, 0, 0])
        cap = b.add_cap(all_ids[-1], ring_uv_ids[-1], end, ring_uv[-1].mean(0), charts[-1].mean(0), flip=flip)
        parts[name + " end"] = np.array([cap])


def _add_eyeball(b: MeshBuilder, name: str, sign: int) -> np.ndarray:
    """Add an eyeball, the left one (sign 1) or its mirror image (-1). Returns its vertices."""
    ball, front = eyeball()
    m = np.array([sign, 1, 1])
    own = b.add_vertices(ball * m).reshape(ball.shape[:2])
    x, y, r = _DISKS[name]
    turn = np.linspace(0, 2 * np.pi, ball.shape[1], endpoint=False)
    share = EYEBALL_ANGLES[::-1] / EYEBALL_ANGLES[-1]
    disk = np.stack([np.cos(turn) * sign, np.sin(turn)], -1)
    own_uv = b.add_uv(np.array([x, y]) + share[:, None, None] * disk * r * _ASPECT).reshape(own.shape)
    b.add_sheet(own, own_uv, around=True, flip=sign > 0)
    pole = b.add_cap(own[-1], own_uv[-1], front * m, [x, y], flip=sign < 0)
    return np.append(own.ravel(), pole)


def _strip_uv(columns: int, rows: int, v: float) -> np.ndarray:
    """Return texture coordinates [rows,columns,2] of a strip at the lower right of the atlas, from height v on."""
    u = np.linspace(0.85, 0.99, columns)
    return np.stack(np.broadcast_arrays(u[None], np.linspace(v, v + 0.05, rows)[:, None]), -1)


def _add_teeth(b: MeshBuilder, upper: bool, v: float) -> np.ndarray:
    """Add a row of teeth, its texture at height v of the atlas. Returns its vertices."""
    p = teeth(upper)
    own = b.add_vertices(p).reshape(p.shape[:2])
    b.add_sheet(own, b.add_uv(_strip_uv(p.shape[1], len(p), v)).reshape(own.shape), flip=not upper)
    return own.ravel()


def _add_tongue(b: MeshBuilder) -> np.ndarray:
    """Add the tongue. Returns its vertices."""
    p = tongue()
    own = b.add_vertices(p).reshape(p.shape[:2])
    uv_own = b.add_uv(_strip_uv(p.shape[1] + 1, len(p), 0.0)).reshape(len(p), -1)
    b.add_sheet(np.concatenate([own, own[:, :1]], 1), uv_own, flip=True)
    ends = [
        b.add_cap(own[-1], uv_own[-1], p[-1].mean(0) + [0, 0, 1.0], [0.92, 0.055]),
        b.add_cap(own[0], uv_own[0], p[0].mean(0) - [0, 0, 1.0], [0.92, 0.0], flip=True),
    ]
    return np.append(own.ravel(), ends)


def _finished(b: MeshBuilder, grid_count: int, parts: dict[str, np.ndarray], rings: dict[str, np.ndarray]) -> Template:
    """Drop unused vertices, make the mesh exactly symmetric, split it into triangles, and find the landmarks.

    Args:
        b: the vertices and quadrilaterals.
        grid_count: how many of the first vertices are the grid's.
        parts: vertices by name.
        rings: vertices of the insets' rings by name.
    """
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
    # The two triangles of a quadrilateral stay together: renderers then load their vertices once.
    tri, tri_uv = (np.stack([a[:, [0, 1, 2]], a[:, [0, 2, 3]]], 1).reshape(-1, 3) for a in (q, u))
    proper = (tri[:, 0] != tri[:, 1]) & (tri[:, 1] != tri[:, 2]) & (tri[:, 2] != tri[:, 0])
    landmarks = place_landmarks(v, symmetry, rings, grid_count)
    on_grid = (tri[proper] < used[:grid_count].sum()).all(1)
    contour = contour_lines(v, tri[proper][on_grid], np.stack([landmarks] * 3, 1), np.tile([1.0, 0, 0], (68, 1)))
    return Template(
        vertices=v,
        faces=tri[proper].astype(np.int32),
        uv=uv,
        uv_faces=tri_uv[proper].astype(np.int32),
        symmetry=symmetry.astype(np.int32),
        parts=parts,
        rings=rings,
        chart=chart,
        landmarks=landmarks,
        contour=contour,
    )
