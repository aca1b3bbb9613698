"""Textures over a UV atlas: looking them up, and baking them from an image. Plain torch on the ops.

UV has (0, 0) at the lower left corner of the texture and (1, 1) at the upper right, as OBJ has it (glTF's v is flipped
on reading); texture row 0 is the top.
"""

import math

import torch
from torch import Tensor

from ._checks import ATTRIBUTE, GEOMETRY, brief, check_same_dtype, check_tensor, describe
from .camera import to_pixels
from .interpolate import interpolate
from .rasterize import Fragments, rasterize
from .topology import Faces, faces_of


def sample_texture(texture: Tensor, uv: Tensor, mode: str = "bilinear", wrap: str = "clamp") -> Tensor:
    """Look a texture up. Differentiable to both arguments (bilinear).

    Args:
        texture: [N,Ht,Wt,C], or [1,Ht,Wt,C] shared by the batch.
        uv: [N,...,2], of the texture's dtype.
        mode: "bilinear" or "nearest".
        wrap: what lies outside 0..1: "clamp" continues the border, "repeat" the texture.

    Returns:
        [N,...,C].

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a shape or a choice does not fit.
    """
    check_tensor("texture", texture, ("N", "H", "W", "C"), ATTRIBUTE)
    check_tensor("uv", uv, (..., 2), ATTRIBUTE)
    check_same_dtype(texture=texture, uv=uv)
    if uv.dim() < 2:
        raise ValueError(f"uv must be [N,...,2], got {describe(uv)}")
    if mode not in ("bilinear", "nearest"):
        raise ValueError(f"mode must be 'bilinear' or 'nearest', got {brief(mode)}")
    if wrap not in ("clamp", "repeat"):
        raise ValueError(f"wrap must be 'clamp' or 'repeat', got {brief(wrap)}")
    if texture.shape[0] not in (1, uv.shape[0]):
        raise ValueError(f"texture must have a batch of 1 or {uv.shape[0]} like uv, got {list(texture.shape)}")
    n, shape = uv.shape[0], uv.shape[1:-1]
    points = math.prod(shape)
    planes = texture.movedim(-1, 1).expand(n, -1, -1, -1)
    u, v = uv.unbind(-1)
    if wrap == "repeat":  # a border of one texel from the other side
        height, width = texture.shape[1:3]
        planes = torch.nn.functional.pad(planes, (1, 1, 1, 1), mode="circular")
        u, v = (
            (a - a.detach().floor()) * (side / (side + 2)) + 1 / (side + 2) for a, side in ((u, width), (v, height))
        )
    grid = torch.stack([u * 2 - 1, 1 - v * 2], -1).reshape(n, 1, points, 2)
    out = torch.nn.functional.grid_sample(planes, grid, mode=mode, padding_mode="border", align_corners=False)
    return out[:, :, 0].movedim(1, -1).reshape(n, *shape, texture.shape[-1])


def rasterize_uv(uv: Tensor, uv_faces: Faces, size: tuple[int, int]) -> Fragments:
    """Rasterize an atlas: which face each texel belongs to.

    Args:
        uv: float32 or float64 [Vt,2], in 0..1.
        uv_faces: int32 [F,3] or a `Topology`, indices into `uv`.
        size: (Ht, Wt) of the texture.

    Returns:
        `Fragments` [1,Ht,Wt]; face id -1, bary 0 and depth 1 outside the atlas.
    """
    check_tensor("uv", uv, ("Vt", 2), GEOMETRY)
    clip = torch.cat([uv * 2 - 1, torch.zeros_like(uv[:, :1]), torch.ones_like(uv[:, :1])], -1)
    return rasterize(clip[None], uv_faces, size)


def bake_texture(
    image: Tensor,
    clip: Tensor,
    faces: Faces,
    uv: Tensor,
    uv_faces: Tensor,
    size: tuple[int, int],
    normals: Tensor | None = None,
    tolerance: float = 0.01,
) -> tuple[Tensor, Tensor]:
    """Take the texture of a mesh from an image of it. Differentiable to the image.

    Args:
        image: float32 or float64 [N,H,W,C].
        clip: [N,V,4], clip-space positions of the mesh in the image, of the image's dtype.
        faces: int32 [F,3] or a `Topology`.
        uv: [Vt,2], the atlas.
        uv_faces: int32 [F,3], indices into `uv`, with the faces in the same order.
        size: (Ht, Wt) of the texture.
        normals: [N,V,3] in camera space (z towards the viewer), to weight surfaces at a slant less; None weights all
            visible texels by 1.
        tolerance: how much deeper than the visible surface, in z/w, a texel may be and still count as visible.

    Returns:
        The texture [N,Ht,Wt,C] and its weight [N,Ht,Wt]. The weight is the cosine between normal and viewer (1 without
        normals), and 0 where the texel is hidden, outside the image or outside the atlas. The texture is 0 outside the
        atlas, and whatever the image shows there where the texel is hidden.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a shape does not fit, or the two face lists differ in length.
    """
    sizes = check_tensor("image", image, ("N", "H", "W", "C"), GEOMETRY)
    check_tensor("clip", clip, ("N", "V", 4), GEOMETRY, sizes)
    check_same_dtype(clip=clip, image=image)
    check_tensor("uv", uv, ("Vt", 2), GEOMETRY)
    check_tensor("uv_faces", uv_faces, ("F", 3), (torch.int32,))
    check_tensor("faces", faces_of(faces), ("F", 3), (torch.int32,))
    if normals is not None:
        check_tensor("normals", normals, ("N", "V", 3), GEOMETRY, sizes)
    count = faces_of(faces).shape[0]
    if count != uv_faces.shape[0]:
        raise ValueError(f"uv_faces must have one row for each of the {count} faces, got {uv_faces.shape[0]}")
    n, height, width = image.shape[:3]
    atlas = rasterize_uv(uv.to(clip.dtype), uv_faces, size)
    assert atlas.bary is not None
    shared = Fragments(atlas.face_id.expand(n, -1, -1), atlas.bary.expand(n, -1, -1, -1), atlas.depth.expand(n, -1, -1))
    at = interpolate(clip, faces, shared)  # the clip position of every texel
    inside = shared.face_id >= 0
    w = torch.where(inside, at[..., 3], torch.ones_like(at[..., 3]))
    pixel = to_pixels(torch.cat([at[..., :3], w[..., None]], -1), (height, width))
    grid = torch.stack([pixel[..., 0] * (2 / width) - 1, pixel[..., 1] * (2 / height) - 1], -1)
    sample = torch.nn.functional.grid_sample
    texture = sample(image.movedim(-1, 1), grid, padding_mode="border", align_corners=False).movedim(1, -1)
    depth = rasterize(clip, faces, (height, width), barycentrics=False).depth
    front = sample(depth[:, None], grid, mode="nearest", padding_mode="border", align_corners=False)[:, 0]
    visible = inside & (grid.abs().amax(-1) <= 1) & (w > 0) & (at[..., 2] / w <= front + tolerance)
    weight = visible.to(clip.dtype)
    if normals is not None:
        facing = torch.nn.functional.normalize(interpolate(normals, faces, shared), dim=-1)[..., 2]
        weight = weight * facing.clamp(min=0)
    return torch.where(inside[..., None], texture, torch.zeros_like(texture)), weight
