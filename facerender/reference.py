"""Every op again in plain torch, slow and obvious: the specification, and the oracle of the tests.

Coverage is exact here too: Python integers on vertices snapped to 1/256 pixel, every pixel of the image against every
triangle's three edges. Depth, on which visibility depends, takes the same float operations in the same order as the
ops; everything after visibility is float64 if the input is, and differentiable as often as torch can.
"""

import math
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from .lighting import sh_basis
from .rasterize import Fragments
from .topology import Faces, Topology, faces_of, topology_of

SUBPIXELS = 256
# Positions beyond GUARD pixels, and those whose w or z/w is beyond the other limits, are kept homogeneous instead of
# being divided by w. The limits are those of the ops, which are float32.
GUARD = 16384.0
SMALLEST_W, LARGEST_W, LARGEST_DEPTH = torch.tensor([1e-30, 1e30, 3e38]).tolist()

Pixel: TypeAlias = tuple[int, int]  # row, column
Edge: TypeAlias = tuple[int, int, int]  # a, b, c of a x + b y + c, which is zero on the edge


class _Snapped(NamedTuple):
    """A vertex on the grid of 1/256 pixel."""

    position: tuple[int, int, int]  # homogeneous, in 1/256 pixel
    depth: tuple[float | Tensor, float | Tensor]  # z and w at the position's scale
    divided: bool  # the position was divided by w: it is in front of the camera and within the limits
    direction: tuple[float, float, float]  # x, y and w of the clip position, times a power of two


class _Outline(NamedTuple):
    """Where the line between two neighboring pixel centers crosses an outline."""

    v0: int  # vertices of the outline's edge
    v1: int
    t: Tensor  # place along the edge, 0 at v0 and 1 at v1
    at: Tensor  # distance from the first center, in pixels


def rasterize(clip: Tensor, faces: Faces, size: tuple[int, int], cull: str = "none", layers: int = 1) -> Fragments:
    """As `facerender.rasterize`."""
    faces = faces_of(faces)
    if len(clip):
        ids = torch.stack([_visible(c, faces, size, cull, layers) for c in clip])
    else:
        ids = torch.full((0, *size, layers), -1, dtype=torch.int32)
    found = [_resolve(clip, faces, ids[..., k]) for k in range(layers)]
    bary, depth = torch.stack([b for b, _ in found], 3), torch.stack([d for _, d in found], 3)
    return Fragments(ids, bary, depth) if layers > 1 else Fragments(ids[..., 0], bary[..., 0, :], depth[..., 0])


def _snapped(position: Tensor, height: int, width: int) -> _Snapped | None:
    """Snap a clip position [4]; None if it is not finite."""
    if not torch.isfinite(position).all():
        return None
    x, y, z, w = position
    fx, fy, fz, fw = (float(a) for a in position)
    exponent = _exponent(fx, fy, fw)
    dx, dy, dw = (math.ldexp(a, -exponent) for a in (fx, fy, fw))
    inv = 1.0 / w
    px, py, pz = (x * inv + 1.0) * (width * 0.5), (1.0 - y * inv) * (height * 0.5), z * inv
    in_limits = abs(px) <= GUARD and abs(py) <= GUARD and abs(pz) <= LARGEST_DEPTH
    if SMALLEST_W <= fw <= LARGEST_W and in_limits:
        snapped = int(torch.round(px * SUBPIXELS)), int(torch.round(py * SUBPIXELS)), 1
        return _Snapped(snapped, (pz, torch.ones_like(pz)), True, (dx, dy, dw))
    h = ((dx + dw) * (width * 128.0), (dw - dy) * (height * 128.0), dw)
    shift = 28 - _exponent(*h)
    depth = _scaled(fz, shift - exponent), math.ldexp(dw, shift)
    hx, hy, hw = (round(math.ldexp(a, shift)) for a in h)
    return _Snapped((hx, hy, hw), depth, False, (dx, dy, dw))


def _exponent(*values: float) -> int:
    """The exponent of the smallest power of two above all magnitudes."""
    return math.frexp(max(abs(a) for a in values))[1]


def _scaled(value: float, exponent: int) -> float:
    """value * 2**exponent, infinite where it overflows, as in C."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)


def _opposite(a: tuple[float, float, float], b: tuple[float, float, float]) -> bool:
    """Whether b = -k a: two corners opposite each other across the eye, of a triangle that is seen edge-on."""
    parallel = all(a[i] * b[j] == a[j] * b[i] for i, j in ((0, 2), (1, 2), (0, 1)))
    return parallel and a[0] * b[0] + a[1] * b[1] + a[2] * b[2] < 0


def _visible(clip: Tensor, faces: Tensor, size: tuple[int, int], cull: str, layers: int) -> Tensor:
    """Face ids int32 [H,W,layers] of one mesh: every triangle against every pixel center."""
    height, width = size
    vertices = [_snapped(p, height, width) for p in clip.detach()]
    # the `layers` nearest (depth, face) of each pixel
    nearest: list[list[list[tuple[float, int]]]] = [[[] for _ in range(width)] for _ in range(height)]
    for face, corners in enumerate(faces.tolist()):
        snapped = [vertices[c] if 0 <= c < len(vertices) else None for c in corners]
        s0, s1, s2 = snapped
        if s0 is None or s1 is None or s2 is None:
            continue
        v0, v1, v2 = s0.position, s1.position, s2.position
        edges: list[Edge] = []
        for p, q in ((v1, v2), (v2, v0), (v0, v1)):
            edges.append((p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]))
        area = sum(e * v for e, v in zip(edges[0], v0, strict=True))
        if area == 0 or (cull == "back" and area > 0) or (cull == "front" and area < 0):
            continue  # y points down, so counterclockwise on the screen is negative
        if any(_opposite(p.direction, q.direction) for p, q in ((s0, s1), (s1, s2), (s2, s0))):
            continue
        if area < 0:
            edges = [(-a, -b, -c) for a, b, c in edges]
        divided = s0.divided and s1.divided and s2.divided
        rows, cols = range(height), range(width)
        if divided:
            xs, ys = [v[0] for v in (v0, v1, v2)], [v[1] for v in (v0, v1, v2)]
            rows = range(max(0, min(ys) // SUBPIXELS - 1), min(height, max(ys) // SUBPIXELS + 2))
            cols = range(max(0, min(xs) // SUBPIXELS - 1), min(width, max(xs) // SUBPIXELS + 2))
        for row in rows:
            for col in cols:
                x, y = col * SUBPIXELS + SUBPIXELS // 2, row * SUBPIXELS + SUBPIXELS // 2
                e = [a * x + b * y + c for a, b, c in edges]
                if not all(_owns(value, edge) for value, edge in zip(e, edges, strict=True)):
                    continue
                scaled = [s0.depth, s1.depth, s2.depth]
                depth = _affine_depth(e, abs(area), scaled) if divided else _homogeneous_depth(e, scaled)
                if depth is not None and -1 <= depth <= 1:
                    nearest[row][col] = sorted([*nearest[row][col], (depth + 0.0, face)])[:layers]
    ids = [[[f for _, f in pixel] + [-1] * (layers - len(pixel)) for pixel in row] for row in nearest]
    return torch.tensor(ids, dtype=torch.int32).reshape(height, width, layers)


def _owns(value: int, edge: Edge) -> bool:
    """Whether a center is inside an edge; one on the edge counts as a point slightly right and, far less, below."""
    a, b, _ = edge
    return value > 0 or (value == 0 and (a > 0 or (a == 0 and b > 0)))


def _affine_depth(e: list[int], area: int, scaled: list[tuple[float | Tensor, float | Tensor]]) -> float:
    z0, z1, z2 = (torch.as_tensor(z) for z, _ in scaled)
    e1, e2, total = (torch.tensor(v, dtype=z0.dtype) for v in (e[1], e[2], area))
    return float((z0 + (e1 * (z1 - z0) + e2 * (z2 - z0)) * (1.0 / total)).float())


def _homogeneous_depth(e: list[int], scaled: list[tuple[float | Tensor, float | Tensor]]) -> float | None:
    z = w = 0.0
    for exact, (sz, sw) in zip(e, scaled, strict=True):
        high, low = exact >> 64, exact & ((1 << 64) - 1)
        weight = float(high) * 18446744073709551616.0 + float(low)
        z, w = z + weight * float(sz), w + weight * float(sw)
    return float(torch.tensor(z / w, dtype=torch.float32)) if w > 0 else None


def _resolve(clip: Tensor, faces: Tensor, face_id: Tensor) -> tuple[Tensor, Tensor]:
    """Perspective-correct barycentrics [N,H,W,3] and depth [N,H,W] of the visible faces, from unsnapped vertices."""
    n, height, width = face_id.shape
    hit = face_id >= 0
    if not len(faces):
        return clip.new_zeros((n, height, width, 3)), clip.new_ones((n, height, width))
    corners = faces[face_id.clamp(min=0).long()].long()
    p = clip[torch.arange(n)[:, None, None, None], corners]  # [N,H,W,3,4]
    x = torch.arange(width, dtype=clip.dtype)[:, None] + 0.5
    y = torch.arange(height, dtype=clip.dtype)[:, None, None] + 0.5
    # Without area before snapping, or too large or small for the products, there are no barycentrics: such a triangle
    # gets a point inside, and no gradient.
    raw = _corner_weights(p.detach(), x, y, width, height)
    valid = torch.isfinite(raw.sum(-1, keepdim=True)) & (raw.clamp(0, 1).sum(-1, keepdim=True) > 0)
    triangle = torch.tensor([[0, 0, 0, 1], [1, 0, 0, 1], [0, 1, 0, 1]], dtype=clip.dtype)
    bary = _corner_weights(torch.where(valid[..., None], p, triangle), x, y, width, height).clamp(0, 1)
    bary = bary / bary.sum(-1, keepdim=True)
    bary = torch.where(valid, bary, torch.tensor([0.25, 0.25, 0.5], dtype=clip.dtype))
    p = torch.where(valid[..., None], p, p.detach())
    z, w = (bary * p[..., 2]).sum(-1), (bary * p[..., 3]).sum(-1)
    # The snapped corners put the center in range; the unsnapped ones may not, if the triangle is nearly edge-on.
    behind = ~(w > 0)
    depth = z / torch.where(behind, torch.ones_like(w), w)
    depth = torch.where(behind | ~(depth >= -1), -torch.ones_like(z), depth)
    depth = torch.where(hit, depth.clamp(max=1), torch.ones_like(z))
    return torch.where(hit[..., None], bary, torch.zeros_like(bary)), depth


def _corner_weights(p: Tensor, x: Tensor, y: Tensor, width: int, height: int) -> Tensor:
    """Perspective-correct barycentrics [N,H,W,3], not clamped, of corners [N,H,W,3,4] at pixel centers x, y."""
    u = p[..., 0] * (width / 2) + p[..., 3] * (width / 2 - x)
    v = p[..., 3] * (height / 2 - y) - p[..., 1] * (height / 2)
    after, before = [1, 2, 0], [2, 0, 1]
    m = u[..., after] * v[..., before] - v[..., after] * u[..., before]
    return m / m.sum(-1, keepdim=True)


def interpolate(attributes: Tensor, faces: Faces, fragments: Fragments, background: float | Tensor = 0.0) -> Tensor:
    """As `facerender.interpolate`."""
    faces = faces_of(faces)
    face_id, bary = fragments.face_id, fragments.bary
    assert bary is not None
    n = face_id.shape[0]
    outside = torch.as_tensor(background, dtype=attributes.dtype).expand((*face_id.shape, attributes.shape[2]))
    if not len(faces):
        return outside.clone()
    corners = faces[face_id.clamp(min=0).long()].long()
    image = torch.arange(n).reshape(n, *[1] * face_id.dim())
    values = attributes.expand(n, -1, -1)[image, corners]  # [N,...,3,C]
    return torch.where((face_id >= 0)[..., None], (bary[..., None] * values).sum(-2), outside)


def vertex_normals(vertices: Tensor, faces: Faces) -> Tensor:
    """As `facerender.vertex_normals`."""
    index = faces_of(faces).long()
    a, b, c = (vertices[:, index[:, i]] for i in range(3))
    (ux, uy, uz), (vx, vy, vz) = (b - a).unbind(-1), (c - a).unbind(-1)
    # Component by component, so that it is exactly 0 for a face that names a vertex twice.
    cross = torch.stack([uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx], -1)
    total = torch.zeros_like(vertices)
    for i in range(3):
        total = total.index_add(1, index[:, i], cross)
    length = total.norm(dim=-1, keepdim=True)
    unit = total / torch.where(length > 0, length, torch.ones_like(length))
    return torch.where(length > 0, unit, torch.zeros_like(total))


def sh_shade(albedo: Tensor, normals: Tensor, coefficients: Tensor, preset: str = "deep3d") -> Tensor:
    """As `facerender.sh_shade`."""
    n = normals.shape[0]
    basis = sh_basis(normals, preset)
    return albedo * torch.einsum("n...k,nkc->n...c", basis, coefficients.expand(n, -1, -1))


def render_face(
    clip: Tensor,
    normals: Tensor | None,
    albedo: Tensor,
    coefficients: Tensor | None,
    faces: Faces,
    size: tuple[int, int],
    background: Tensor | None = None,
    preset: str = "deep3d",
    cull: str = "none",
) -> tuple[Tensor, Tensor]:
    """As `facerender.render_face`."""
    fragments = rasterize(clip, faces, size, cull)
    color = interpolate(albedo, faces, fragments)
    if normals is not None and coefficients is not None:
        color = sh_shade(color, interpolate(normals, faces, fragments), coefficients, preset)
    behind = torch.zeros(3, dtype=color.dtype) if background is None else background
    return torch.where((fragments.face_id >= 0)[..., None], color, behind), fragments.face_id


def edge_gradients(image: Tensor, fragments: Fragments, clip: Tensor, faces: Faces) -> Tensor:
    """As `facerender.edge_gradients`: the image plus terms that are 0, whose derivatives are those of the outlines."""
    topology = topology_of(faces, clip.shape[1])
    n, height, width, _ = image.shape
    colors, steps = image.detach(), torch.zeros_like(image)
    for b in range(n):
        w = clip[b, :, 3]
        x, y = (clip[b, :, 0] / w + 1) * (width / 2), (1 - clip[b, :, 1] / w) * (height / 2)
        for axis, position in enumerate((x, y)):
            across = (y, x)[axis].detach()
            for row in range(height - axis):
                for col in range(width - (1 - axis)):
                    first, second = (row, col), (row + axis, col + 1 - axis)
                    found = _outline(
                        topology, fragments.face_id[b], first, second, position.detach(), across, clip[b].detach()
                    )
                    if found is None:
                        continue
                    outline = position[found.v0] * (1 - found.t) + position[found.v1] * found.t
                    owner = first if found.at < 0.5 else second
                    jump = colors[b][first] - colors[b][second]
                    pixel = tuple(torch.tensor(i) for i in (b, *owner))
                    steps = steps.index_put(pixel, jump * (outline - outline.detach()), accumulate=True)
    return image + steps


def _outline(
    topology: Topology, ids: Tensor, first: Pixel, second: Pixel, position: Tensor, across: Tensor, clip: Tensor
) -> _Outline | None:
    """The nearer outline between two neighboring pixels, or None.

    Args:
        topology: that of the mesh.
        ids: face ids [H,W].
        first: the left or upper pixel.
        second: the right or lower pixel.
        position: pixel coordinates [V] of the vertices along the line from the first center to the second.
        across: pixel coordinates [V] across it.
        clip: clip positions [V,4].
    """
    a, b = int(ids[first]), int(ids[second])
    if a == b:
        return None
    vertical = first[0] != second[0]
    candidates: list[tuple[Tensor, _Outline]] = []
    for start, goal, pixel, sign in ((a, b, first, 1), (b, a, second, -1)):
        if start < 0:
            continue
        along, aside = (pixel[0], pixel[1]) if vertical else (pixel[1], pixel[0])
        center = torch.tensor([along + 0.5, aside + 0.5], dtype=clip.dtype)
        reached, end = _walk(topology, start, goal, sign * (position - center[0]), across - center[1], clip)
        if reached:
            return None
        if end is not None:
            v0, v1, t, at = end
            depth = clip[v0, 2] / clip[v0, 3] * (1 - t) + clip[v1, 2] / clip[v1, 3] * t
            candidates.append((depth, _Outline(v0, v1, t, at if sign > 0 else 1 - at)))
    return min(candidates, key=lambda c: c[0])[1] if candidates else None


def _walk(
    topology: Topology, face: int, goal: int, along: Tensor, across: Tensor, clip: Tensor
) -> tuple[bool, _Outline | None]:
    """Walk over the mesh from a pixel center along the positive axis, triangle by triangle.

    Args:
        topology: that of the mesh.
        face: where the walk starts.
        goal: the visible face of the other center.
        along: pixel coordinates [V] of the vertices along the walk, from its start.
        across: pixel coordinates [V] across it, from its line.
        clip: clip positions [V,4].

    Returns:
        Whether the walk reached the goal, which means that the surface goes on; and the outline where the surface ends
        or folds over before the other center, if there is one.
    """
    came_from = -1
    for _ in range(256):
        corners = topology.faces[face].tolist()
        if any(clip[c, 3] <= 0 for c in corners):
            return False, None
        exits = []
        for i in range(3):
            j, k = corners[(i + 1) % 3], corners[(i + 2) % 3]
            entered = came_from >= 0 and int(topology.neighbours[face, i]) == came_from
            if bool(across[j] > 0) != bool(across[k] > 0) and not entered:
                t = across[j] / (across[j] - across[k])
                exits.append((along[j] + (along[k] - along[j]) * t, i, t))
        if not exits:
            return False, None
        at, i, t = max(exits, key=lambda e: e[0])
        if at > 1 + 1e-3:
            return False, None
        j, k = corners[(i + 1) % 3], corners[(i + 2) % 3]
        following = int(topology.neighbours[face, i])
        if following == goal and goal >= 0:
            return True, None
        ends = following < 0
        if not ends:
            other = next(c for c in topology.faces[following].tolist() if c not in (j, k))
            if clip[other, 3] <= 0:
                return False, None
            # The surface folds over here if the far corner of the next triangle lies behind the edge, as the walk
            # points. A triangle seen edge-on is neither ahead nor behind, and the walk goes through it.
            edge = (along[k] - along[j], across[k] - across[j])
            side = edge[0] * (across[other] - across[j]) - edge[1] * (along[other] - along[j])
            ends = bool(side > 0) if edge[1] > 0 else bool(side < 0)
        if ends:
            return False, _Outline(j, k, t, at.clamp(0, 1))
        came_from, face = face, following
    return False, None
