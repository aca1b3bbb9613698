"""Heads made by formula, for benchmarks and the demo.

python -m benchmarks.meshes OUT.ply [--triangles N]

A head is a displaced ellipsoid over a cube-sphere grid whose front is finer; all numbers are made up. It has a face's
triangle sizes, occlusions and silhouettes at any resolution; it is not a morphable model.
"""

import argparse
from pathlib import Path

import numpy as np


def head(resolution: int = 88) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make a head over a cube-sphere grid of `resolution` cells a side.

    Returns:
        vertices float32 [V,3], y up and the face towards +z, about 2 units tall; faces int32 [F,3]; colors uint8 [V,3].
    """
    directions, faces = _sphere(resolution)
    x, y, z = directions.T
    p = directions * np.array([0.74, 1.0, 0.9])
    front = _smooth(z, -0.15, 0.55)
    # skull and jaw: narrow below, flat at the sides, chin forward, neck
    p[:, 0] *= 1 - 0.20 * _smooth(-y, 0.05, 0.95) * _smooth(z, -0.6, 0.5)
    p[:, 0] *= 1 - 0.06 * _smooth(y, 0.35, 0.9)
    p[:, 2] *= 1 - 0.10 * front * _smooth(-y, 0.2, 0.9)
    p[:, 2] -= 0.10 * front * _smooth(np.abs(x), 0.25, 0.75)
    u, v = p[:, 0], p[:, 1]  # features are placed by their position seen from the front

    def bump(cx, cy, rx, ry, power=2.0):
        return front * np.exp(-(np.abs((u - cx) / rx) ** power) - np.abs((v - cy) / ry) ** power)

    def both(cx, *rest, **more):
        return bump(cx, *rest, **more) + bump(-cx, *rest, **more)

    depth = np.zeros(len(p))
    depth += 0.15 * bump(0, -0.80, 0.24, 0.15) + 0.03 * both(0.08, -0.82, 0.09, 0.09)  # chin
    depth -= 0.045 * bump(0, -0.635, 0.22, 0.05)  # fold under the lip
    depth += 0.075 * both(0.40, -0.12, 0.20, 0.17)  # cheekbones
    depth += 0.06 * bump(0, 0.33, 0.50, 0.09) + 0.035 * both(0.27, 0.27, 0.20, 0.06)  # brow ridge
    depth -= 0.135 * both(0.275, 0.125, 0.165, 0.10)  # eye sockets
    depth += 0.105 * both(0.275, 0.115, 0.105, 0.075, power=3.0)  # eyeballs under lids
    depth -= 0.014 * both(0.275, 0.055, 0.13, 0.018)
    bridge = _smooth(-v, -0.30, 0.22)  # nose: rises from between the eyes to the tip
    depth += 0.235 * front * bridge * np.exp(-((u / (0.062 + 0.075 * bridge)) ** 2)) * (1 - _smooth(-v, 0.25, 0.345))
    depth += 0.055 * bump(0, -0.235, 0.085, 0.08) + 0.09 * both(0.105, -0.265, 0.055, 0.055)  # tip and wings
    depth -= 0.075 * both(0.055, -0.325, 0.030, 0.022)  # nostrils
    depth -= 0.022 * bump(0, -0.395, 0.026, 0.05)  # philtrum
    depth += 0.055 * bump(0, -0.50, 0.27, 0.15)  # the mouth's mound
    lip_edge = 0.5 * (1 + np.cos(np.clip(u / 0.235, -1, 1) * np.pi))
    depth += 0.062 * lip_edge * (bump(0, -0.465, 0.30, 0.036) + 1.15 * bump(0, -0.545, 0.25, 0.042))
    depth -= 0.058 * bump(0, -0.503, 0.215, 0.013)  # between the lips
    depth -= 0.02 * both(0.235, -0.505, 0.03, 0.03)
    p[:, 2] += depth
    side = _smooth(np.abs(x), 0.80, 0.97)  # ears
    ear = side * np.exp(-(((y - 0.02) / 0.20) ** 2) - ((z + 0.08) / 0.13) ** 2)
    p[:, 0] += np.sign(x) * ear * 0.16
    p[:, 2] -= ear * 0.10
    p[:, 0] -= np.sign(x) * 0.10 * side * np.exp(-(((y - 0.02) / 0.10) ** 2) - ((z + 0.06) / 0.06) ** 2)
    neck = _smooth(-y, 0.66, 0.93) * _smooth(-z, -0.30, 0.10)
    p[:, 1] -= 0.55 * neck * _smooth(-y, 0.70, 0.98)
    p[:, 0] *= 1 + 0.45 * neck * _smooth(-y, 0.80, 1.0)
    p[:, 2] -= 0.10 * neck

    skin, lips, brow, hair = (np.array(c, float) for c in ([224, 172, 145], [190, 104, 98], [92, 62, 48], [70, 48, 40]))
    color = np.repeat(skin[None], len(p), 0)

    def paint(amount, target):
        nonlocal color
        amount = np.clip(amount, 0, 1)[:, None]
        color = color * (1 - amount) + target * amount

    paint(0.35 * (both(0.36, -0.20, 0.17, 0.15) + bump(0, -0.24, 0.13, 0.10)), np.array([220, 128, 112.0]))
    paint(1.5 * np.sqrt(lip_edge) * (bump(0, -0.467, 0.30, 0.030) + bump(0, -0.543, 0.26, 0.036)), lips)
    paint(0.9 * bump(0, -0.503, 0.205, 0.010), np.array([96, 40, 42.0]))
    arch = 0.262 + 0.05 * np.cos(np.clip((np.abs(u) - 0.27) / 0.20, -1, 1) * np.pi / 2)
    paint(
        0.95
        * front
        * np.exp(-(((v - arch) / 0.026) ** 2))
        * _smooth(np.abs(u), 0.09, 0.14)
        * (1 - _smooth(np.abs(u), 0.40, 0.47)),
        brow,
    )
    opening = 0.052 * np.sqrt(np.clip(1 - ((np.abs(u) - 0.275) / 0.115) ** 2, 0, 1))
    eye = front * np.clip((opening - np.abs(v - 0.112)) / 0.008, 0, 1) * (np.abs(np.abs(u) - 0.275) < 0.115)
    paint(eye, np.array([240, 236, 232.0]))
    radius = np.hypot(np.abs(u) - 0.275, v - 0.118)
    paint(eye * (1 - _smooth(radius, 0.040, 0.046)), np.array([84, 110, 120.0]))
    paint(eye * (1 - _smooth(radius, 0.017, 0.021)), np.array([18, 16, 16.0]))
    paint(
        0.8 * front * np.clip(1 - np.abs(opening - (v - 0.112)) / 0.012, 0, 1) * (np.abs(np.abs(u) - 0.275) < 0.118),
        brow,
    )
    paint(0.9 * both(0.055, -0.325, 0.022, 0.016), np.array([110, 60, 52.0]))
    line = 0.52 + 0.05 * np.cos(x * 5) - 0.75 * _smooth(np.abs(x), 0.52, 0.80)
    hairy = np.maximum(
        _smooth(y - line, 0.0, 0.06) * (z > -0.4), _smooth(-z, 0.05, 0.22) * _smooth(y, -0.55, -0.35)
    ) * (1 - np.clip(ear * 3, 0, 1))
    paint(hairy, hair)
    p += directions * (0.045 * hairy)[:, None]
    return p.astype(np.float32), faces, np.clip(color, 0, 255).round().astype(np.uint8)


def face_mesh(num_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices and faces of a head with about `num_faces` triangles."""
    vertices, faces, _ = head(max(2, round((num_faces / 12) ** 0.5)))
    return vertices, faces


def _smooth(a, low, high):
    t = np.clip((a - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _sphere(n: int):
    """Return a cube's six n x n grids on the unit sphere, the front (+z) enlarged for more triangles on the face."""
    line = np.tan(np.linspace(-1, 1, n + 1) * np.pi / 4)
    a, b = np.meshgrid(line, line)
    one = np.ones_like(a)
    sides = [(a, b, one), (-a, b, -one), (one, b, -a), (-one, b, a), (a, one, -b), (a, -one, b)]
    points = np.concatenate([np.stack(s, -1).reshape(-1, 3) for s in sides])
    cell = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    i, j, k, l = cell[:-1, :-1].ravel(), cell[:-1, 1:].ravel(), cell[1:, 1:].ravel(), cell[1:, :-1].ravel()
    quads = np.concatenate([np.stack([i, j, k, l], 1) + s * (n + 1) ** 2 for s in range(6)])
    keys, first, where = np.unique(
        np.round(points * 1e6).astype(np.int64), axis=0, return_index=True, return_inverse=True
    )
    order = np.argsort(first)  # keep the grids' own order, which is local
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    quads = rank[where.ravel()][quads]
    points = points[first[order]]
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], 1).reshape(-1, 3).astype(np.int32)
    directions = points / np.linalg.norm(points, axis=1, keepdims=True)
    # pull directions towards +z, so that the face has more than its sixth
    pulled = directions + np.array([0, 0, 0.42])
    return pulled / np.linalg.norm(pulled, axis=1, keepdims=True), faces


def write_ply(path: Path, vertices, faces, colors):
    """Write a binary PLY with vertex colors."""
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    v = np.empty(len(vertices), [("p", "<f4", 3), ("c", "u1", 3)])
    v["p"], v["c"] = vertices, colors
    f = np.empty(len(faces), [("n", "u1"), ("i", "<i4", 3)])
    f["n"], f["i"] = 3, faces
    Path(path).write_bytes(header.encode() + v.tobytes() + f.tobytes())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Writes a head as a PLY file.",
        epilog="example: python -m benchmarks.meshes head.ply --triangles 90000",
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--triangles", type=int, default=90_000)
    options = parser.parse_args()
    v, f, c = head(max(2, round((options.triangles / 12) ** 0.5)))
    write_ply(options.output, v, f, c)
    print(f"{options.output}  {len(v):,} vertices, {len(f):,} triangles")
