"""Every op again in plain torch, slow and obvious: the specification, and the oracle of the tests.

Coverage is exact here too: Python integers on vertices snapped to 1/256 pixel, every pixel of the image against every triangle's three
edges. Depth, on which visibility depends, takes the same float operations in the same order as the ops; everything after visibility is
float64 if the input is, and differentiable as often as torch can.
"""

import math

import torch
from torch import Tensor

from .lighting import sh_basis
from .rasterize import Fragments
from .topology import Topology, faces_of

SUBPIXELS = 256
GUARD = 16384.0


def rasterize(clip: Tensor, faces, size: tuple[int, int], cull: str = "none", layers: int = 1) -> Fragments:
    """As `facerender.rasterize`."""
    faces = faces_of(faces)
    ids = torch.stack([_visible(c, faces, size, cull, layers) for c in clip]) if len(clip) else torch.full((0, *size, layers), -1, dtype=torch.int32)
    found = [_resolve(clip, faces, ids[..., k]) for k in range(layers)]
    bary, depth = torch.stack([b for b, _ in found], 3), torch.stack([d for _, d in found], 3)
    return Fragments(ids, bary, depth) if layers > 1 else Fragments(ids[..., 0], bary[..., 0, :], depth[..., 0])


def _snapped(p, height, width):
    """(homogeneous integer position in 1/256 pixel, z and w at its scale, ordinary?) of a clip position, or None if it is not finite."""
    if not torch.isfinite(p).all():
        return None
    x, y, z, w = p
    inv = 1.0 / w
    px, py, pz = (x * inv + 1.0) * (width * 0.5), (1.0 - y * inv) * (height * 0.5), z * inv
    if w > 0 and abs(px) <= GUARD and abs(py) <= GUARD and torch.isfinite(pz):
        return (int(torch.round(px * SUBPIXELS)), int(torch.round(py * SUBPIXELS)), 1), (pz, torch.ones_like(pz)), True
    x, y, z, w = (float(a) for a in p)
    h = ((x + w) * (width * 128.0), (w - y) * (height * 128.0), w)
    exponent = max(math.frexp(max(abs(a) for a in h))[1], -900)
    scale = math.ldexp(1.0, 28 - exponent)
    return tuple(round(a * scale) for a in h), (z * scale, w * scale), False


def _visible(clip, faces, size, cull, layers):
    """int32 [H,W,layers] for one mesh: every triangle against every pixel centre."""
    height, width = size
    vertices = [_snapped(p, height, width) for p in clip.detach()]
    # the `layers` nearest (depth, face) of each pixel
    nearest = [[[] for _ in range(width)] for _ in range(height)]
    for face, corners in enumerate(faces.tolist()):
        if any(not 0 <= c < len(vertices) or vertices[c] is None for c in corners):
            continue
        (v0, s0, near0), (v1, s1, near1), (v2, s2, near2) = (vertices[c] for c in corners)
        edges = []  # a x + b y + c of each edge, zero on it
        for p, q in ((v1, v2), (v2, v0), (v0, v1)):
            edges.append((p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]))
        area = sum(e * v for e, v in zip(edges[0], v0))
        if area == 0 or (cull == "back" and area > 0) or (cull == "front" and area < 0):
            continue  # y points down, so counter-clockwise on the screen is negative
        if area < 0:
            edges = [tuple(-e for e in edge) for edge in edges]
        ordinary = near0 and near1 and near2
        rows, cols = range(height), range(width)
        if ordinary:
            rows = range(max(0, min(v[1] for v in (v0, v1, v2)) // SUBPIXELS - 1), min(height, max(v[1] for v in (v0, v1, v2)) // SUBPIXELS + 2))
            cols = range(max(0, min(v[0] for v in (v0, v1, v2)) // SUBPIXELS - 1), min(width, max(v[0] for v in (v0, v1, v2)) // SUBPIXELS + 2))
        for row in rows:
            for col in cols:
                x, y = col * SUBPIXELS + SUBPIXELS // 2, row * SUBPIXELS + SUBPIXELS // 2
                e = [a * x + b * y + c for a, b, c in edges]
                # A centre on an edge counts as a point slightly to the right and, far less, below.
                if all(v > 0 or (v == 0 and (a > 0 or (a == 0 and b > 0))) for v, (a, b, _) in zip(e, edges)):
                    depth = _affine_depth(e, abs(area), s0[0], s1[0], s2[0]) if ordinary else _homogeneous_depth(e, (s0, s1, s2))
                    if depth is not None and -1 <= depth <= 1:
                        nearest[row][col] = sorted([*nearest[row][col], (depth + 0.0, face)])[:layers]
    ids = [[[f for _, f in pixel] + [-1] * (layers - len(pixel)) for pixel in row] for row in nearest]
    return torch.tensor(ids, dtype=torch.int32).reshape(height, width, layers)


def _affine_depth(e, area, z0, z1, z2) -> float:
    e1, e2, area = (torch.tensor(v, dtype=z0.dtype) for v in (e[1], e[2], area))
    return float((z0 + (e1 * (z1 - z0) + e2 * (z2 - z0)) * (1.0 / area)).float())


def _homogeneous_depth(e, scaled):
    z = w = 0.0
    for weight, (sz, sw) in zip(e, scaled):
        high, low = weight >> 64, weight & ((1 << 64) - 1)
        weight = float(high) * 18446744073709551616.0 + float(low)
        z, w = z + weight * float(sz), w + weight * float(sw)
    return float(torch.tensor(z / w, dtype=torch.float32)) if w > 0 else None


def _resolve(clip, faces, face_id):
    """Perspective-correct barycentrics [N,H,W,3] and depth [N,H,W] of the faces that are seen, from the unsnapped vertices."""
    n, height, width = face_id.shape
    hit = face_id >= 0
    if not len(faces):
        return clip.new_zeros((n, height, width, 3)), clip.new_ones((n, height, width))
    corners = faces[face_id.clamp(min=0).long()].long()
    p = clip[torch.arange(n)[:, None, None, None], corners]  # [N,H,W,3,4]
    x = torch.arange(width, dtype=clip.dtype)[:, None] + 0.5
    y = torch.arange(height, dtype=clip.dtype)[:, None, None] + 0.5
    u = p[..., 0] * (width / 2) + p[..., 3] * (width / 2 - x)
    v = p[..., 3] * (height / 2 - y) - p[..., 1] * (height / 2)
    after, before = [1, 2, 0], [2, 0, 1]
    m = u[..., after] * v[..., before] - v[..., after] * u[..., before]
    total = m.sum(-1, keepdim=True)
    bary = (m / torch.where(total == 0, torch.ones_like(total), total)).clamp(0, 1)
    bary = bary / bary.sum(-1, keepdim=True)
    bary = torch.where(total == 0, torch.tensor([0.25, 0.25, 0.5], dtype=clip.dtype), bary)
    z, w = (bary * p[..., 2]).sum(-1), (bary * p[..., 3]).sum(-1)
    depth = torch.where(hit, z / torch.where(hit, w, torch.ones_like(w)), torch.ones_like(z))
    return torch.where(hit[..., None], bary, torch.zeros_like(bary)), depth


def interpolate(attributes: Tensor, faces, fragments: Fragments, background=0.0) -> Tensor:
    """As `facerender.interpolate`."""
    faces = faces_of(faces)
    face_id, bary = fragments.face_id, fragments.bary
    n = face_id.shape[0]
    outside = torch.as_tensor(background, dtype=attributes.dtype).expand((*face_id.shape, attributes.shape[2]))
    if not len(faces):
        return outside.clone()
    corners = faces[face_id.clamp(min=0).long()].long()
    image = torch.arange(n).reshape(n, *[1] * face_id.dim())
    values = attributes.expand(n, -1, -1)[image, corners]  # [N,...,3,C]
    return torch.where((face_id >= 0)[..., None], (bary[..., None] * values).sum(-2), outside)


def vertex_normals(vertices: Tensor, topology) -> Tensor:
    """As `facerender.vertex_normals`."""
    faces = faces_of(topology).long()
    a, b, c = (vertices[:, faces[:, i]] for i in range(3))
    (ux, uy, uz), (vx, vy, vz) = (b - a).unbind(-1), (c - a).unbind(-1)
    cross = torch.stack([uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx], -1)  # exactly 0 for a face that names a vertex twice
    total = torch.zeros_like(vertices)
    for i in range(3):
        total = total.index_add(1, faces[:, i], cross)
    length = total.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, total / torch.where(length > 0, length, torch.ones_like(length)), torch.zeros_like(total))


def sh_shade(albedo: Tensor, normals: Tensor, coefficients: Tensor, preset: str = "deep3d") -> Tensor:
    """As `facerender.sh_shade`."""
    n = normals.shape[0]
    basis = sh_basis(normals, preset)
    return albedo * torch.einsum("n...k,nkc->n...c", basis, coefficients.expand(n, -1, -1))


def render_face(clip, normals, albedo, coefficients, topology, size, background=None, preset="deep3d", cull="none"):
    """As `facerender.render_face`."""
    fragments = rasterize(clip, topology, size, cull)
    colour = interpolate(albedo, topology, fragments)
    if normals is not None:
        colour = sh_shade(colour, interpolate(normals, topology, fragments), coefficients, preset)
    behind = torch.zeros(3, dtype=colour.dtype) if background is None else background
    return torch.where((fragments.face_id >= 0)[..., None], colour, behind), fragments.face_id


def edge_gradients(image: Tensor, fragments: Fragments, clip: Tensor, topology: Topology) -> Tensor:
    """As `facerender.edge_gradients`: the image, plus terms that are zero and whose derivatives are those of the outlines."""
    n, height, width, _ = image.shape
    colours, steps = image.detach(), torch.zeros_like(image)
    for b in range(n):
        w = clip[b, :, 3]
        x, y = (clip[b, :, 0] / w + 1) * (width / 2), (1 - clip[b, :, 1] / w) * (height / 2)
        for axis, position in enumerate((x, y)):
            across = (y, x)[axis].detach()
            for row in range(height - axis):
                for col in range(width - (1 - axis)):
                    first, second = (row, col), (row + axis, col + 1 - axis)
                    found = _outline(topology, fragments.face_id[b], first, second, position.detach(), across, clip[b].detach())
                    if found is None:
                        continue
                    v0, v1, t, at = found
                    outline = position[v0] * (1 - t) + position[v1] * t
                    holder = first if at < 0.5 else second
                    jump = colours[(b, *first)] - colours[(b, *second)]
                    steps = steps.index_put((torch.tensor(b), torch.tensor(holder[0]), torch.tensor(holder[1])), jump * (outline - outline.detach()), accumulate=True)
    return image + steps


def _outline(topology, ids, first, second, position, across, clip):
    """(v0, v1, t along that edge, distance from `first` in pixels) of the nearer outline between two neighbouring pixels, or None."""
    a, b = int(ids[first]), int(ids[second])
    if a == b:
        return None
    vertical = first[0] != second[0]
    candidates = []
    for start, goal, pixel, sign in ((a, b, first, 1), (b, a, second, -1)):
        if start < 0:
            continue
        centre = torch.tensor([pixel[0] + 0.5, pixel[1] + 0.5] if vertical else [pixel[1] + 0.5, pixel[0] + 0.5], dtype=clip.dtype)
        end = _walk(topology, start, goal, sign * (position - centre[0]), across - centre[1], clip)
        if end == "reached":
            return None
        if end is not None:
            v0, v1, t, at = end
            depth = clip[v0, 2] / clip[v0, 3] * (1 - t) + clip[v1, 2] / clip[v1, 3] * t
            candidates.append((depth, v0, v1, t, at if sign > 0 else 1 - at))
    return min(candidates, key=lambda c: c[0])[1:] if candidates else None


def _walk(topology, face, goal, along, across, clip):
    came_from = -1
    for _ in range(256):
        corners = topology.faces[face].tolist()
        if any(clip[c, 3] <= 0 for c in corners):
            return None
        exits = []
        for i in range(3):
            j, k = corners[(i + 1) % 3], corners[(i + 2) % 3]
            if bool(across[j] > 0) != bool(across[k] > 0) and not (came_from >= 0 and int(topology.neighbours[face, i]) == came_from):
                t = across[j] / (across[j] - across[k])
                exits.append((along[j] + (along[k] - along[j]) * t, i, t))
        if not exits:
            return None
        at, i, t = max(exits, key=lambda e: e[0])
        if at > 1 + 1e-3:
            return None
        j, k = corners[(i + 1) % 3], corners[(i + 2) % 3]
        following = int(topology.neighbours[face, i])
        if following == goal and goal >= 0:
            return "reached"
        ends = following < 0
        if not ends:
            other = next(c for c in topology.faces[following].tolist() if c not in (j, k))
            if clip[other, 3] <= 0:
                return None
            # Ahead of the edge is where the walk points; a triangle seen edge-on is neither ahead nor behind, and is walked through.
            edge = (along[k] - along[j], across[k] - across[j])
            side = edge[0] * (across[other] - across[j]) - edge[1] * (along[other] - along[j])
            ends = bool(side > 0) if edge[1] > 0 else bool(side < 0)
        if ends:
            return j, k, t, min(max(at, at.new_zeros(())), at.new_ones(()))
        came_from, face = face, following
    return None
