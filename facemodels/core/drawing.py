"""Pictures of faces for people to look at: sheets, overlays, panels. Not differentiable; training renders through `facerender` itself."""

import math

import numpy as np
import torch
from torch import Tensor

import facerender as fr
from facerender.color import to_srgb

BACKGROUND = (0.90, 0.905, 0.91)  # linear
CLAY = (0.55, 0.52, 0.50)


def to_bytes(linear: Tensor) -> np.ndarray:
    """Linear colours [...,3] as sRGB bytes."""
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
    """Studio pictures of heads: linear colours [N,size,size,3].

    vertices [N,V,3] mm, y up, z out of the face; albedo [N|1,V,3] linear, clay where None; yaw (a number or [N]) and pitch in degrees; the
    picture shows `height` mm around `middle` from 1.1 m; light: coefficients [N|1,9,3] of the preset "deep3d"; samples a pixel along each side.
    """
    n, side, device = len(vertices), size * samples, vertices.device
    angles = torch.zeros(n, 3, device=device)
    angles[:, 0], angles[:, 1] = math.radians(pitch), torch.as_tensor(yaw, device=device) * (math.pi / 180)
    rotation = fr.camera.euler_rotation(angles)
    camera_space = (vertices - torch.tensor(middle, device=device)) @ rotation.transpose(1, 2)
    distance = 1100.0
    clip = fr.camera.pinhole(
        camera_space - torch.tensor([0, 0, distance], device=device),
        side * distance / height,
        (side / 2, side / 2),
        (side, side),
        400,
        2500,
    )
    fragments = fr.rasterize(clip, topology, (side, side))
    normals = fr.vertex_normals(camera_space.contiguous(), topology)
    attributes = torch.cat(
        [
            normals,
            (torch.tensor(CLAY, device=device).expand(1, vertices.shape[1], 3) if albedo is None else albedo).expand(
                n, -1, -1
            ),
        ],
        -1,
    )
    pixels = fr.interpolate(attributes.contiguous(), topology, fragments)
    normal, colour = torch.nn.functional.normalize(pixels[..., :3], dim=-1), pixels[..., 3:].contiguous()
    light = 1.35 * fr.lighting.studio(n, device=device) if light is None else light.expand(n, -1, -1)
    image = fr.sh_shade(colour, normal.contiguous(), light.contiguous())
    half = torch.nn.functional.normalize(torch.tensor([-0.45, 0.55, 1.8], device=device), dim=0)
    gloss = (normal @ half).clamp(0, 1)[..., None]
    image = image + 0.035 * gloss**18 + 0.05 * gloss**90  # oil of the skin, wet eyes
    image = torch.where((fragments.face_id >= 0)[..., None], image, torch.tensor(BACKGROUND, device=device))
    return image.reshape(n, size, samples, size, samples, 3).mean((2, 4))


def tile(images: Tensor, columns: int, gap: int = 0) -> Tensor:
    """Pictures [N,H,W,3] side by side, `columns` in a row, on the background."""
    n, h, w, _ = images.shape
    rows = -(-n // columns)
    sheet = (
        torch.tensor(BACKGROUND, device=images.device)
        .expand(rows * (h + gap) - gap, columns * (w + gap) - gap, 3)
        .clone()
    )
    for k, image in enumerate(images):
        y, x = k // columns * (h + gap), k % columns * (w + gap)
        sheet[y : y + h, x : x + w] = image
    return sheet


def draw_points(
    images: Tensor, points: Tensor, colour: tuple[float, float, float] = (0.1, 0.9, 0.1), radius: float = 1.2
) -> Tensor:
    """Pictures [N,H,W,3] with discs at points [N,P,2], pixels; those that are NaN are left out."""
    n, height, width, _ = images.shape
    ys, xs = torch.meshgrid(
        *(torch.arange(side, device=images.device) + 0.5 for side in (height, width)), indexing="ij"
    )
    distance = (
        ((xs - points[..., 0, None, None]).square() + (ys - points[..., 1, None, None]).square())
        .sqrt()
        .nan_to_num(1e6)
        .amin(1)
    )
    cover = (radius + 0.5 - distance).clamp(0, 1)[..., None]
    return torch.lerp(images, torch.tensor(colour, device=images.device, dtype=images.dtype).expand_as(images), cover)
