"""Cameras: vertices in model space to clip space. Plain torch.

World and camera space have y up and z towards the viewer; a camera looks along -z. Every function takes vertices [N,V,3] and returns clip
positions [N,V,4] for `rasterize`. Angles are radians.
"""

import math

import torch
from torch import Tensor

from ._checks import GEOMETRY, check_choice, check_tensor


def euler_rotation(angles: Tensor) -> Tensor:
    """[N,3] (pitch about x, yaw about y, roll about z) to R = Rz Ry Rx, [N,3,3], for column vectors."""
    check_tensor("angles", angles, ("N", 3), GEOMETRY)
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def euler_angles(rotation: Tensor) -> Tensor:
    """The angles [N,3] of rotations [N,3,3], as `euler_rotation` takes them; yaw within a quarter turn of zero. At a yaw of 90 degrees pitch and roll turn about one axis, and
    the roll is then 0."""
    check_tensor("rotation", rotation, ("N", 3, 3), GEOMETRY)
    r = rotation
    flat = r[:, 2, 1].square() + r[:, 2, 2].square() < 1e-12
    yaw = torch.asin((-r[:, 2, 0]).clamp(-1, 1))
    pitch = torch.where(flat, torch.atan2(-r[:, 1, 2], r[:, 1, 1]), torch.atan2(r[:, 2, 1], r[:, 2, 2]))
    roll = torch.where(flat, torch.zeros_like(yaw), torch.atan2(r[:, 1, 0], r[:, 0, 0]))
    return torch.stack([pitch, yaw, roll], -1)


def rotation_from_axes(first: Tensor, second: Tensor) -> Tensor:
    """The rotation [...,3,3] whose first row is along `first` [...,3], whose second is `second` [...,3] less what is along it, and whose third is their cross product: what
    networks give without a jump (Zhou et al. 2019)."""
    first = torch.nn.functional.normalize(first, dim=-1)
    second = torch.nn.functional.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second, dim=-1)], -2)


def transform(vertices: Tensor, rotation: Tensor | None = None, translation: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
    """scale * R v + t. vertices [N,V,3], rotation [N,3,3], translation [N,3], scale [N]."""
    if rotation is not None:
        vertices = vertices @ rotation.transpose(-1, -2)
    if scale is not None:
        vertices = vertices * scale[:, None, None]
    if translation is not None:
        vertices = vertices + translation[:, None, :]
    return vertices


def orthographic(vertices: Tensor, half_height: float | Tensor, aspect: float = 1.0, depth: float | Tensor | None = None) -> Tensor:
    """Parallel projection, w = 1: y = +-half_height at the upper and lower border, x = +-half_height * aspect (= W/H) at the sides, z in
    -depth..depth visible, nearer where z is larger. `half_height` and `depth` are numbers or [N]; depth defaults to 4 * half_height."""
    check_tensor("vertices", vertices, ("N", "V", 3), GEOMETRY)
    depth = 4 * half_height if depth is None else depth
    h, d = (torch.as_tensor(a, dtype=vertices.dtype, device=vertices.device).reshape(-1, 1) for a in (half_height, depth))
    x, y, z = vertices.unbind(-1)
    return torch.stack([x / (h * aspect), y / h, -z / d, torch.ones_like(x)], -1)


def weak_perspective(vertices: Tensor, scale: Tensor, rotation: Tensor, translation: Tensor, size: tuple[int, int], depth: float = 2.0) -> Tensor:
    """Scaled orthography in pixels, the camera of 3DDFA and its family: (x, y) = scale * (R v)_xy + t_xy, measured from the lower left
    corner of the image with y up; z only orders surfaces.

    vertices [N,V,3]; scale [N], pixels per unit; rotation [N,3,3]; translation [N,2] or [N,3], pixels; size (H, W); scale * z within
    +-depth image heights is visible.
    """
    check_tensor("vertices", vertices, ("N", "V", 3), GEOMETRY)
    height, width = size
    p = transform(vertices, rotation, None, scale)
    x = (p[..., 0] + translation[:, None, 0]) * (2 / width) - 1
    y = (p[..., 1] + translation[:, None, 1]) * (2 / height) - 1
    z = p[..., 2] + (translation[:, None, 2] if translation.shape[-1] > 2 else 0)
    return torch.stack([x, y, -z / (depth * height), torch.ones_like(x)], -1)


def pinhole(vertices: Tensor, focal: float, center: tuple[float, float], size: tuple[int, int], near: float, far: float) -> Tensor:
    """Perspective projection of camera-space vertices: the camera is at the origin and looks along -z.

    focal, center (x, y) and size (H, W) in pixels, y of the centre from the top; near < far are distances in the vertices' unit. w is the
    distance along the view axis.
    """
    check_tensor("vertices", vertices, ("N", "V", 3), GEOMETRY)
    if not 0 < near < far:
        raise ValueError(f"near and far must be 0 < near < far, got {near} and {far}")
    height, width = size
    x, y, z = vertices.unbind(-1)
    w = -z
    clip_x = x * (2 * focal / width) + w * (2 * center[0] / width - 1)
    clip_y = y * (2 * focal / height) + w * (1 - 2 * center[1] / height)
    clip_z = (w * (far + near) - 2 * far * near) / (far - near)
    return torch.stack([clip_x, clip_y, clip_z, w], -1)


def deep3d(vertices: Tensor, rotation: Tensor, translation: Tensor, size: int = 224) -> Tensor:
    """The camera of Deep3DFaceReconstruction (Deng et al. 2019): focal 1015 at 224 pixels, centre in the middle, distance 10, near 5,
    far 15. vertices [N,V,3] in its unit of decimetres; rotation [N,3,3] as `euler_rotation` gives it; translation [N,3]."""
    p = transform(vertices, rotation, translation)
    p = p - torch.tensor([0.0, 0.0, 10.0], dtype=p.dtype, device=p.device)
    return pinhole(p, 1015.0 * size / 224, (size / 2, size / 2), (size, size), 5.0, 15.0)


def look_at(eye: Tensor, target: Tensor, up: tuple[float, float, float] = (0.0, 1.0, 0.0)) -> tuple[Tensor, Tensor]:
    """Rotation [N,3,3] and translation [N,3] that take world space to the space of a camera at `eye` [N,3] looking at `target` [N,3]."""
    backward = torch.nn.functional.normalize(eye - target, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor(up, dtype=eye.dtype, device=eye.device).expand_as(eye), backward), dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(backward, right), backward], -2)
    return rotation, -(rotation @ eye[..., None])[..., 0]


def to_pixels(clip: Tensor, size: tuple[int, int]) -> Tensor:
    """Clip positions [...,4] to pixels [...,2] as (x, y), y from the top; pixel (i, j) has its centre at (j + 0.5, i + 0.5)."""
    height, width = size
    ndc = clip[..., :2] / clip[..., 3:]
    return torch.stack([(ndc[..., 0] + 1) * (width / 2), (1 - ndc[..., 1]) * (height / 2)], -1)


def framing(vertices: Tensor, size: tuple[int, int], projection: str = "pinhole", fill: float = 0.85, rotation: Tensor | None = None) -> Tensor:
    """A camera that frames the mesh by itself, from the front (+z) after `rotation` [N,3,3] about its middle.

    "pinhole" has a field of view of 20 degrees, that of a portrait; "orthographic" has none. `fill` is the share of the smaller image side
    that the bounding sphere's diameter takes, that of the largest mesh of a batch. Waits for the device.
    """
    check_tensor("vertices", vertices, ("N", "V", 3), GEOMETRY)
    check_choice("projection", projection, ("pinhole", "orthographic"))
    height, width = size
    if min(height, width) < 1 or min(vertices.shape[:2]) < 1:
        raise ValueError(f"vertices and size must not be empty, got {list(vertices.shape)} and {tuple(size)}")
    middle = (vertices.amax(1) + vertices.amin(1)) / 2
    p = vertices - middle[:, None]
    radius = p.norm(dim=-1).amax().clamp(min=1e-12).item()
    if rotation is not None:
        p = p @ rotation.transpose(-1, -2)
    side = min(height, width)
    if projection == "orthographic":
        return orthographic(p, radius / fill * height / side, width / height, 2 * radius)
    half_angle = math.radians(10) * fill
    distance = radius / math.sin(half_angle)
    p = p - torch.tensor([0.0, 0.0, distance], dtype=p.dtype, device=p.device)
    return pinhole(p, side / 2 / math.tan(math.radians(10)), (width / 2, height / 2), (height, width), distance - 1.01 * radius, distance + 1.01 * radius)
