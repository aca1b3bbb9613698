"""Pictures of faces for people to look at: portraits, sheets, marked points. Nothing here is differentiable; training
renders through `facerender` itself.
"""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import facerender as fr
from facerender.color import to_srgb

# Linear colors.
BACKGROUND = (0.90, 0.905, 0.91)
CLAY = (0.55, 0.52, 0.50)  # of a face without albedo

_DISTANCE = 1100.0  # mm from the camera to the center of a portrait
_NEAR, _FAR = 400, 2500  # mm
_HALF_VECTOR = (-0.45, 0.55, 1.8)  # of the glosses: between the directions of the light and of the viewer


def to_bytes(linear: Tensor) -> np.ndarray:
    """Linear colors [...,3] as sRGB bytes."""
    return (to_srgb(linear) * 255).round().byte().cpu().numpy()


def portrait(
    vertices: Tensor,
    topology: fr.Topology,
    albedo: Tensor | None = None,
    size: int = 256,
    yaw: float | Tensor = 0.0,
    pitch: float = 0.0,
    height: float = 236.0,
    middle: tuple[float, float, float] = (0.0, -12.0, 10.0),
    light: Tensor | None = None,
    samples: int = 2,
) -> Tensor:
    """Draw studio portraits of heads.

    Args:
        vertices: [N,V,3] mm, y up, +z out of the face.
        topology: the faces of the heads.
        albedo: [N,V,3] or [1,V,3], linear; None: clay.
        size: side of a picture in pixels.
        yaw: degrees, one number or [N]; positive to the right of the picture, as in `facerender.camera.euler_rotation`.
        pitch: degrees, positive down.
        height: mm that a picture shows, from 1.1 m away.
        middle: x, y, z in mm of the center of a picture.
        light: [N,9,3] or [1,9,3], spherical harmonics of the preset "deep3d"; None: studio light.
        samples: samples of a pixel along each side.

    Returns:
        Linear colors [N,size,size,3], on the background.
    """
    n, side, device = len(vertices), size * samples, vertices.device
    angles = torch.zeros(n, 3, device=device)
    angles[:, 0], angles[:, 1] = math.radians(pitch), torch.as_tensor(yaw, device=device) * (math.pi / 180)
    rotation = fr.camera.euler_rotation(angles)
    camera_space = (vertices - torch.tensor(middle, device=device)) @ rotation.transpose(1, 2)
    away = camera_space - torch.tensor([0, 0, _DISTANCE], device=device)
    clip = fr.camera.pinhole(away, side * _DISTANCE / height, (side / 2, side / 2), (side, side), _NEAR, _FAR)
    fragments = fr.rasterize(clip, topology, (side, side))
    normals = fr.vertex_normals(camera_space, topology)
    color = torch.tensor(CLAY, device=device).expand(1, vertices.shape[1], 3) if albedo is None else albedo
    pixels = fr.interpolate(torch.cat([normals, color.expand(n, -1, -1)], -1), topology, fragments)
    normal = torch.nn.functional.normalize(pixels[..., :3], dim=-1)
    light = 1.35 * fr.lighting.studio(n, device=device) if light is None else light.expand(n, -1, -1)
    image = fr.sh_shade(pixels[..., 3:], normal, light)
    half = torch.nn.functional.normalize(torch.tensor(_HALF_VECTOR, device=device), dim=0)
    gloss = (normal @ half).clamp(0, 1)[..., None]
    image = image + 0.035 * gloss**18 + 0.05 * gloss**90  # oil of the skin, wet eyes
    image = torch.where((fragments.face_id >= 0)[..., None], image, torch.tensor(BACKGROUND, device=device))
    return image.reshape(n, size, samples, size, samples, 3).mean((2, 4))


def frame(vertices: Tensor, face: Tensor | None = None, yaw: float = 40.0) -> tuple[float, tuple[float, float, float]]:
    """What `portrait` must show of a head: all of it, or, where the face is known, down to a little below the chin.

    Args:
        vertices: [V,3] mm.
        face: The vertices of the face; None: not known.
        yaw: Degrees by which the head is turned at most.

    Returns:
        The height and the middle that `portrait` takes.
    """
    low, high = vertices.amin(0), vertices.amax(0)
    if face is not None and len(face):
        low = torch.stack([low[0], vertices[face.to(vertices.device), 1].amin() - 20, low[2]])
    width, tall, depth = (high - low).tolist()
    turned = math.hypot(width * math.cos(math.radians(yaw)), depth * math.sin(math.radians(yaw)))
    x, y, z = ((high + low) / 2).tolist()
    return 1.15 * max(width, tall, turned), (x, y, z)  # people differ, and what is nearer looks larger


def tile(images: Tensor, columns: int, gap: int = 0) -> Tensor:
    """Put pictures [N,H,W,3] side by side, `columns` in a row, on the background, `gap` pixels apart."""
    n, h, w, _ = images.shape
    rows = -(-n // columns)
    background = torch.tensor(BACKGROUND, device=images.device)
    sheet = background.expand(rows * (h + gap) - gap, columns * (w + gap) - gap, 3).clone()
    for k, image in enumerate(images):
        y, x = k // columns * (h + gap), k % columns * (w + gap)
        sheet[y : y + h, x : x + w] = image
    return sheet


def captioned(picture: np.ndarray, rows: Sequence[str], columns: Sequence[str] = ()) -> np.ndarray:
    """Write beside each row of a picture what it shows, and so above each column.

    Args:
        picture: uint8 [H,W,3], rows of one height and columns of one width.
        rows: The caption of each row.
        columns: The caption of each column; empty: no captions above.

    Returns:
        uint8 [H+head,W+margin,3]; `head` is 0 without captions above.
    """
    height = picture.shape[0] // len(rows)
    size = max(9, min(14, height // 8))
    font = ImageFont.load_default(size)
    margin = 11 * size
    width = picture.shape[1] // len(columns) if columns else picture.shape[1]
    beside = [textwrap.fill(row, int(margin / font.getlength("n")) - 1) for row in rows]
    above = [textwrap.fill(column, max(1, int(width / font.getlength("n")))) for column in columns]
    head = (size + 5) * max((text.count("\n") + 1 for text in above), default=0)
    page = Image.new("RGB", (margin + picture.shape[1], head + picture.shape[0]), (255, 255, 255))
    page.paste(Image.fromarray(picture), (margin, head))
    draw = ImageDraw.Draw(page)
    ink = (25, 30, 38)
    for k, text in enumerate(beside):
        draw.multiline_text((size // 2, head + height * (k + 0.5)), text, fill=ink, font=font, anchor="lm")
    for k, text in enumerate(above):
        place = (margin + width * (k + 0.5), head / 2)
        draw.multiline_text(place, text, fill=ink, font=font, anchor="mm", align="center")
    return np.asarray(page)


def draw_points(
    images: Tensor, points: Tensor, color: tuple[float, float, float] = (0.1, 0.9, 0.1), radius: float = 1.2
) -> Tensor:
    """Draw discs at points of pictures.

    Args:
        images: [N,H,W,3].
        points: [N,P,2] pixels; NaN are left out.
        color: of the discs.
        radius: of the discs in pixels.

    Returns:
        [N,H,W,3], a copy.
    """
    n, height, width, _ = images.shape
    rows, columns = (torch.arange(side, device=images.device) + 0.5 for side in (height, width))
    ys, xs = torch.meshgrid(rows, columns, indexing="ij")
    square = (xs - points[..., 0, None, None]).square() + (ys - points[..., 1, None, None]).square()
    distance = square.sqrt().nan_to_num(1e6).amin(1)
    cover = (radius + 0.5 - distance).clamp(0, 1)[..., None]
    return torch.lerp(images, torch.tensor(color, device=images.device, dtype=images.dtype).expand_as(images), cover)
