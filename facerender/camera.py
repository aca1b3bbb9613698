"""Cameras: vertices in model space to clip space. Plain torch.

World and camera space have y up and z towards the viewer; a camera looks along -z. Projections take vertices [N,V,3]
and return clip positions [N,V,4] for `rasterize`. Angles are radians. Lengths are in the unit of the vertices, whatever
it is, unless a camera says otherwise: only `deep3d` has a unit of its own, the decimeter.

`in_view` and `why_out_of_view` tell an empty picture before it is drawn.
"""

import math

import torch
from torch import Tensor

from ._checks import GEOMETRY, brief, check_choice, check_size, check_tensor, describe


def euler_rotation(angles: Tensor) -> Tensor:
    """Return the rotations R = Rz Ry Rx of Euler angles, for column vectors.

    A positive pitch turns a face down, a positive yaw turns it to its left (to the right of the picture), a positive
    roll turns it counterclockwise. These are not the angles of data sets of head poses, which
    `facemodels.core.rotation.head_angles` reads.

    Args:
        angles: [N,3], pitch about x, yaw about y, roll about z, in radians.

    Returns:
        Rotations [N,3,3].
    """
    check_tensor("angles", angles, ("N", 3), GEOMETRY)
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def euler_angles(rotation: Tensor) -> Tensor:
    """Return the Euler angles of rotations, with the order and the signs of `euler_rotation`.

    They are not the pitch, yaw and roll of head pose data sets: `facemodels.core.rotation.head_angles` gives those.
    At a yaw of 90 degrees pitch and roll turn about one axis, and the roll is then 0.

    Args:
        rotation: [N,3,3].

    Returns:
        Pitch, yaw and roll [N,3] in radians; yaw is within a quarter turn of zero.
    """
    check_tensor("rotation", rotation, ("N", 3, 3), GEOMETRY)
    r = rotation
    flat = r[:, 2, 1].square() + r[:, 2, 2].square() < 1e-12
    yaw = torch.asin((-r[:, 2, 0]).clamp(-1, 1))
    pitch = torch.where(flat, torch.atan2(-r[:, 1, 2], r[:, 1, 1]), torch.atan2(r[:, 2, 1], r[:, 2, 2]))
    roll = torch.where(flat, torch.zeros_like(yaw), torch.atan2(r[:, 1, 0], r[:, 0, 0]))
    return torch.stack([pitch, yaw, roll], -1)


def rotation_from_axes(first: Tensor, second: Tensor) -> Tensor:
    """Return the rotation of two axes by Gram-Schmidt: the continuous 6D representation of Zhou et al. 2019.

    Args:
        first: [...,3], direction of the first row, of any length.
        second: [...,3]; its component orthogonal to `first` is the direction of the second row.

    Returns:
        Rotations [...,3,3], whose third row is the cross product of the first two.
    """
    first = torch.nn.functional.normalize(first, dim=-1)
    second = torch.nn.functional.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second, dim=-1)], -2)


def transform(
    vertices: Tensor,
    rotation: Tensor | None = None,
    translation: Tensor | None = None,
    scale: float | Tensor | None = None,
) -> Tensor:
    """Return scale * R v + t.

    Args:
        vertices: [N,V,3].
        rotation: R, [N,3,3]; None is the identity.
        translation: t, [N,3], in the unit of the scaled vertices; None is 0.
        scale: a number or [N]; None is 1.

    Returns:
        [N,V,3].

    Raises:
        TypeError, ValueError: an argument is no tensor, or of another shape.
    """
    sizes = check_tensor("vertices", vertices, ("N|1", "V", 3), GEOMETRY)
    if rotation is not None:
        check_tensor("rotation", rotation, ("N|1", 3, 3), GEOMETRY, sizes)
        vertices = vertices @ rotation.transpose(-1, -2)
    if scale is not None:
        vertices = vertices * _numbers("scale", scale, vertices, sizes)[..., None]
    if translation is not None:
        check_tensor("translation", translation, ("N|1", 3), GEOMETRY, sizes)
        vertices = vertices + translation[:, None, :]
    return vertices


def _numbers(name: str, value: object, vertices: Tensor, sizes: dict[str, int]) -> Tensor:
    """A number, or one for each of the batch, [N|1], as [N|1,1] beside the vertices."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return torch.full((1, 1), float(value), dtype=vertices.dtype, device=vertices.device)
    if isinstance(value, Tensor) and value.dim() == 0:
        return value.to(vertices).reshape(1, 1)
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a number or a tensor [N], got {describe(value)}")
    check_tensor(name, value, ("N|1",), GEOMETRY, sizes)
    return value[:, None]


def orthographic(
    vertices: Tensor, half_height: float | Tensor, aspect: float = 1.0, depth: float | Tensor | None = None
) -> Tensor:
    """Project orthographically: y = +-half_height maps to the top and bottom, x = +-half_height * aspect to the sides.

    Args:
        vertices: camera space [N,V,3], in any unit; nearer where z is larger.
        half_height: half the height of the visible region, in the vertices' unit; a number or [N].
        aspect: width / height of the image.
        depth: z in -depth..depth is visible, in the vertices' unit; a number or [N]. None is 4 * half_height.

    Returns:
        Clip positions [N,V,4], with w = 1.
    """
    sizes = check_tensor("vertices", vertices, ("N", "V", 3), GEOMETRY)
    h = _numbers("half_height", half_height, vertices, sizes)
    d = 4 * h if depth is None else _numbers("depth", depth, vertices, sizes)
    x, y, z = vertices.unbind(-1)
    return torch.stack([x / (h * aspect), y / h, -z / d, torch.ones_like(x)], -1)


def weak_perspective(
    vertices: Tensor,
    scale: float | Tensor,
    rotation: Tensor,
    translation: Tensor,
    size: tuple[int, int],
    depth: float = 2.0,
) -> Tensor:
    """Project by scaled orthography in pixels, the camera of 3DDFA and its family: scale * (R v)_xy + t_xy.

    Positions are measured from the lower left corner of the image with y up; z only orders surfaces.

    Args:
        vertices: model space [N,V,3], in any unit.
        scale: pixels per unit of the vertices; a number or [N].
        rotation: R, [N,3,3].
        translation: t, [N,2] or [N,3], in pixels; a third number is added to z.
        size: (H, W) in pixels.
        depth: scale * z within +-depth image heights is visible.

    Returns:
        Clip positions [N,V,4], with w = 1.
    """
    sizes = check_tensor("vertices", vertices, ("N", "V", 3), GEOMETRY)
    columns = 3 if isinstance(translation, Tensor) and translation.shape[-1:] == (3,) else 2
    check_tensor("translation", translation, ("N|1", columns), GEOMETRY, sizes)
    height, width = check_size(size)
    p = transform(vertices, rotation, None, scale)
    x = (p[..., 0] + translation[:, None, 0]) * (2 / width) - 1
    y = (p[..., 1] + translation[:, None, 1]) * (2 / height) - 1
    z = p[..., 2] + (translation[:, None, 2] if translation.shape[-1] > 2 else 0)
    return torch.stack([x, y, -z / (depth * height), torch.ones_like(x)], -1)


def focal_length(fov: float | Tensor, side: float) -> Tensor:
    """Return the focal length that gives a field of view.

    Args:
        fov: angle between the two ends of the side, in radians, above 0 and below pi; a number or [N].
        side: the side of the image that the angle belongs to, width or height, in pixels.

    Returns:
        Focal length in pixels, of the shape of `fov`; `pinhole` takes it as it is.
    """
    return side / 2 / (torch.as_tensor(fov) / 2).tan()


def pinhole(
    vertices: Tensor,
    focal: float | Tensor,
    center: tuple[float, float] | Tensor,
    size: tuple[int, int],
    near: float,
    far: float,
) -> Tensor:
    """Project in perspective: the camera is at the origin of camera space and looks along -z.

    Differentiable to `vertices`, and to `focal` and `center` where they are tensors.

    Args:
        vertices: camera space [N,V,3], in any unit.
        focal: focal length in pixels: a number, or [N], one for each image. `focal_length` computes it from a field of
            view.
        center: principal point (x, y) in pixels, y from the top: two numbers, or [N,2], one for each image. The middle
            of the image is (W / 2, H / 2).
        size: (H, W) in pixels.
        near: distance of the near plane along the view axis, in the vertices' unit.
        far: distance of the far plane, likewise.

    Returns:
        Clip positions [N,V,4]; w is the distance along the view axis, in the vertices' unit.

    Raises:
        ValueError: not 0 < near < far, or `focal` or `center` has another shape.
    """
    sizes = check_tensor("vertices", vertices, ("N", "V", 3), GEOMETRY)
    if not 0 < near < far:
        raise ValueError(f"near and far must be 0 < near < far, got {near} and {far}")
    f = torch.as_tensor(focal, dtype=vertices.dtype, device=vertices.device)
    c = torch.as_tensor(center, dtype=vertices.dtype, device=vertices.device)
    if f.dim():
        check_tensor("focal", f, ("N|1",), GEOMETRY, sizes)
    if c.dim() != 1:
        check_tensor("center", c, ("N|1", 2), GEOMETRY, sizes)
    elif len(c) != 2:
        raise ValueError(f"center must be (x, y) or [N,2], got {brief(center)}")
    height, width = size
    f, center_x, center_y = f.reshape(-1, 1), c[..., 0].reshape(-1, 1), c[..., 1].reshape(-1, 1)
    x, y, z = vertices.unbind(-1)
    w = -z
    clip_x = x * (2 * f / width) + w * (2 * center_x / width - 1)
    clip_y = y * (2 * f / height) + w * (1 - 2 * center_y / height)
    clip_z = (w * (far + near) - 2 * far * near) / (far - near)
    return torch.stack([clip_x, clip_y, clip_z, w], -1)


def deep3d(
    vertices: Tensor,
    rotation: Tensor,
    translation: Tensor,
    size: int = 224,
    units_per_decimeter: float = 1.0,
) -> Tensor:
    """Project by the camera of Deep3DFaceReconstruction (Deng et al. 2019).

    A pinhole at a distance of 10 decimeters from the origin, near 5, far 15, with a focal length of 1015 pixels at an
    image of 224 and the principal point in the middle. About 22 centimeters are in view at the origin.

    Args:
        vertices: model space [N,V,3], in decimeters, or in the unit specified by `units_per_decimeter`.
        rotation: [N,3,3], as `euler_rotation` gives it.
        translation: [N,3], in the vertices' unit.
        size: height and width of the image in pixels.
        units_per_decimeter: how many of the vertices' units make a decimeter: 1 for decimeters (the default), 100 for
            millimeters, 10 for centimeters, 0.1 for meters.

    Returns:
        Clip positions [N,V,4]; w is the distance along the view axis in decimeters.

    Raises:
        ValueError: `units_per_decimeter` is not positive.
    """
    if not units_per_decimeter > 0:
        raise ValueError(f"units_per_decimeter must be positive, got {units_per_decimeter}")
    p = transform(vertices, rotation, translation)
    if units_per_decimeter != 1:
        p = p / units_per_decimeter
    p = p - torch.tensor([0.0, 0.0, 10.0], dtype=p.dtype, device=p.device)
    return pinhole(p, 1015.0 * size / 224, (size / 2, size / 2), (size, size), 5.0, 15.0)


def look_at(eye: Tensor, target: Tensor, up: tuple[float, float, float] = (0.0, 1.0, 0.0)) -> tuple[Tensor, Tensor]:
    """Return the transform from world space to the space of a camera that looks at a point.

    Args:
        eye: position of the camera [N,3], in any unit.
        target: the point it looks at [N,3], in the same unit.
        up: the direction that is up in the image.

    Returns:
        Rotation [N,3,3] and translation [N,3], for `transform`; the translation is in the same unit.
    """
    sizes = check_tensor("eye", eye, ("N", 3), GEOMETRY)
    check_tensor("target", target, ("N|1", 3), GEOMETRY, sizes)
    backward = torch.nn.functional.normalize(eye - target, dim=-1)
    upwards = torch.tensor(up, dtype=eye.dtype, device=eye.device).expand_as(eye)
    right = torch.nn.functional.normalize(torch.linalg.cross(upwards, backward), dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(backward, right), backward], -2)
    return rotation, -(rotation @ eye[..., None])[..., 0]


def to_pixels(clip: Tensor, size: tuple[int, int]) -> Tensor:
    """Return clip positions in pixels; pixel (i, j) has its center at (j + 0.5, i + 0.5).

    Args:
        clip: [...,4].
        size: (H, W) in pixels.

    Returns:
        (x, y) in pixels, [...,2]; y from the top.
    """
    check_tensor("clip", clip, (..., 4), GEOMETRY)
    height, width = size
    ndc = clip[..., :2] / clip[..., 3:]
    return torch.stack([(ndc[..., 0] + 1) * (width / 2), (1 - ndc[..., 1]) * (height / 2)], -1)


def in_view(clip: Tensor) -> Tensor:
    """Say which meshes can be in the picture: a cheap check before drawing or fitting. No wait for the device.

    A mesh is out of view if all of its vertices lie beyond one side of the view volume: behind the camera, left of the
    picture, beyond the far plane, and so on. What is in view by this rule may still cover no pixel center, because it
    passes by a corner of the picture or is too small; ``(face_id >= 0).any()`` of the drawn picture is exact.
    `why_out_of_view` says what is wrong.

    Args:
        clip: clip positions [N,V,4], of any camera. Vertices that are not finite do not count.

    Returns:
        bool [N], without gradient.
    """
    return ~_beyond(clip).all(1).any(-1)


def _beyond(clip: Tensor) -> Tensor:
    """Whether vertices lie beyond each side of the view volume, [N,V,7] in the order of `_SIDES`.

    A vertex that is not finite lies beyond all of them.
    """
    check_tensor("clip", clip, ("N", "V", 4), GEOMETRY)
    x, y, z, w = clip.detach().unbind(-1)
    beyond = torch.stack([w <= 0, x < -w, x > w, y > w, y < -w, z < -w, z > w], -1)
    return beyond | ~torch.isfinite(clip.detach()).all(-1, keepdim=True)


_SIDES = (
    "it is behind the camera",
    "it is left of the picture",
    "it is right of the picture",
    "it is above the picture",
    "it is below the picture",
    "it is nearer than the near plane",
    "it is farther than the far plane",
)


def why_out_of_view(clip: Tensor, size: tuple[int, int]) -> list[str | None]:
    """Say why nothing of a mesh is in the picture. Waits for the device.

    Args:
        clip: clip positions [N,V,4].
        size: (H, W) of the picture in pixels.

    Returns:
        N entries: a clause such as "it is behind the camera", or "it is smaller than a pixel", or None for a mesh that
        is in view.
    """
    beyond = _beyond(clip).cpu()
    reasons: list[str | None] = []
    for positions, sides in zip(clip.detach().cpu(), beyond, strict=True):
        common = sides.all(0)
        finite = torch.isfinite(positions).all(-1)
        if not finite.any():
            reasons.append("it has no vertices" if not len(positions) else "none of its vertices is finite")
        elif common.any():
            reasons.append(_SIDES[int(common.int().argmax())])
        elif (positions[finite, 3] > 0).all():
            pixels = to_pixels(positions[finite], size)
            extent = (pixels.amax(0) - pixels.amin(0)).tolist()
            wide = f"{extent[0]:.2g} x {extent[1]:.2g} pixels"
            reasons.append(f"it is smaller than a pixel ({wide})" if max(extent) < 1 else None)
        else:
            reasons.append(None)
    return reasons


def framing(
    vertices: Tensor,
    size: tuple[int, int],
    projection: str = "pinhole",
    fill: float = 0.85,
    rotation: Tensor | None = None,
    fov: float = math.radians(20),
    distance: float | None = None,
) -> Tensor:
    """Project by a camera that frames the mesh automatically, from the front (+z). Synchronizes with the device.

    Args:
        vertices: model space [N,V,3], in any unit.
        size: (H, W) in pixels.
        projection: "pinhole" or "orthographic".
        fill: the share of the smaller image side that the bounding sphere's diameter takes, that of the largest mesh of
            the batch.
        rotation: [N,3,3], of the mesh about the middle of its bounding box; None is the identity.
        fov: the pinhole's field of view over the smaller image side, in radians; by default 20 degrees, that of a
            portrait. A wider one brings the camera nearer, so that the bounding sphere keeps its size.
        distance: distance of the pinhole from the middle of the mesh, in the vertices' unit; it overrides `fill`. None
            is where `fill` holds.

    Returns:
        Clip positions [N,V,4].

    Raises:
        ValueError: there are no vertices or no pixels, the projection is unknown, or `fov` or `distance` is out of
            range.
    """
    check_tensor("vertices", vertices, ("N", "V", 3), GEOMETRY)
    check_choice("projection", projection, ("pinhole", "orthographic"))
    height, width = size
    if min(height, width) < 1 or min(vertices.shape[:2]) < 1:
        raise ValueError(f"vertices and size must not be empty, got {list(vertices.shape)} and {tuple(size)}")
    if not 0 < fov < math.pi:
        raise ValueError(f"fov must be above 0 and below pi radians, got {fov}")
    if distance is not None and not 0 < distance < math.inf:
        raise ValueError(f"distance must be positive, got {distance}")
    middle = (vertices.amax(1) + vertices.amin(1)) / 2
    p = vertices - middle[:, None]
    radius = p.norm(dim=-1).amax().clamp(min=1e-12).item()
    if rotation is not None:
        p = p @ rotation.transpose(-1, -2)
    side = min(height, width)
    if projection == "orthographic":
        return orthographic(p, radius / fill * height / side, width / height, 2 * radius)
    if distance is None:
        away = radius / math.sin(math.atan(fill * math.tan(fov / 2)))  # the sphere's outline is at this angle
    else:
        away = distance
    p = p - torch.tensor([0.0, 0.0, away], dtype=p.dtype, device=p.device)
    near = max(away - 1.01 * radius, 1e-3 * radius)  # the camera may be inside the mesh
    focal, center = side / 2 / math.tan(fov / 2), (width / 2, height / 2)
    return pinhole(p, focal, center, (height, width), near, away + 1.01 * radius)
