"""Reprojection: a frame as it would look if its face had the shape and the pose of another frame."""

import torch
import torch.nn.functional as F
from torch import Tensor

import facerender as fr

OCCLUSION_TOLERANCE = 2  # pixels that a visible point may lie behind the surface that is drawn there
BACKGROUND_DEPTH = -1e6  # behind every surface


def reproject(image: Tensor, source: Tensor, target: Tensor, topology: fr.Topology) -> tuple[Tensor, Tensor]:
    """Reproject pictures of faces at `source` to the faces at `target`, by the surface alone.

    Differentiable at the picture and both surfaces (at `target` through the barycentric coordinates); visibility is
    not.

    Args:
        image: [N,S,S,3], the pictures of the faces at `source`.
        source: [N,V,3] vertices, pixels with y up and z toward the viewer.
        target: [N,V,3] vertices, like `source`.
        topology: the triangles of the face.

    Returns:
        The pictures [N,S,S,3], and where the surface is visible in both [N,S,S], 0 or 1.
    """
    size = image.shape[1]
    source_clip, target_clip = _clip(source, size), _clip(target, size)
    fragments = fr.rasterize(target_clip, topology, (size, size))
    point = fr.interpolate(source, topology, fragments)
    grid = torch.stack([2 * point[..., 0] / size - 1, 1 - 2 * point[..., 1] / size], -1)
    reprojected = F.grid_sample(image.permute(0, 3, 1, 2), grid, align_corners=False).permute(0, 2, 3, 1)
    with torch.no_grad():
        source_fragments = fr.rasterize(source_clip, topology, (size, size))
        depth = torch.where(
            source_fragments.face_id >= 0,
            fr.interpolate(source[..., 2:], topology, source_fragments)[..., 0],
            BACKGROUND_DEPTH,
        )
        front = F.grid_sample(depth[:, None], grid, mode="nearest", padding_mode="border", align_corners=False)[:, 0]
        in_front = (front > BACKGROUND_DEPTH) & (point[..., 2] > front - OCCLUSION_TOLERANCE)
        visible = (fragments.face_id >= 0) & in_front & (grid.abs() < 1).all(-1)
    return reprojected, visible.to(image.dtype)


def _clip(vertices: Tensor, size: int) -> Tensor:
    """Clip positions [N,V,4] of vertices [N,V,3] in pixels with y up; depths about their mean."""
    depth = (vertices[..., 2:].mean(1, keepdim=True) - vertices[..., 2:]) / (2 * size)
    return torch.cat([2 * vertices[..., :2] / size - 1, depth, torch.ones_like(vertices[..., :1])], -1)
