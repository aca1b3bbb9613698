"""Composition of J, the frame into which a variation is injected: its face has another pose or expression. `MODES`:

"render"   the morphable model is rendered over the frame
"texture"  the frame's own colors, where the surface is visible in it; else those of the mirrored side of the face,
           where they are visible; else the model's. Behind the face, the frame with its old face filled in
"warp"     as "texture", but behind the face the frame is warped along with the face

Colors that are taken from the frame are relit: multiplied by the ratio of the light on the surface at its new and its
old place.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import facerender as fr
from facemodels.methods.cycle.properties import Properties
from facemodels.models.morphable import MorphableModel

GRAY = 0.45  # linear albedo of models without colors
RELIGHTING = (0.4, 2.5)  # least and largest factor on a color
MIN_LIGHT = 0.05  # least old light in the ratio
DEPTH_TOLERANCE = 0.5  # pixels that a visible point may lie behind the surface that is drawn there
SLOPE_TOLERANCE = 0.75  # the same, per unit of the surface's slope (at most 3)
MIN_COMPRESSION = 0.3  # least breadth of a surface element in the frame, relative to that in the new picture


class PosedSurface(NamedTuple):
    """The surface of N posed faces.

    Attributes:
        pixels: [N,V,3] vertices in pixels, y down, z toward the viewer.
        clip: [N,V,4] clip positions.
        normals: [N,V,3], in camera space.
    """

    pixels: Tensor
    clip: Tensor
    normals: Tensor


def posed_surface(model: MorphableModel, properties: Properties, size: int) -> PosedSurface:
    """The surface of faces in pictures of a size in pixels."""
    p = properties
    vertices = model.shape(p.identity, p.expression)
    pixels = p.pixels(vertices, size)
    clip = fr.camera.weak_perspective(vertices, p.scale, p.rotation, p.translation, (size, size))
    normals = (fr.vertex_normals(vertices, model.topology) @ p.rotation.mT).contiguous()
    return PosedSurface(pixels, clip, normals)


def albedo(model: MorphableModel, properties: Properties) -> Tensor:
    """Linear albedo [N|1,V,3] of faces; a medium gray for a model without colors."""
    return model.albedo(properties.albedo) if model.num_albedo else torch.full_like(model.mean[None], GRAY)


def compose(
    mode: str, frame: Tensor, source: Properties, target: Properties, model: MorphableModel, inner_triangles: Tensor
) -> Tensor:
    """Compose frames whose faces have moved from `source` to `target`.

    Where `target` is `source`, "texture" and "warp" give the frame's own pixels where the face is, and "warp"
    everywhere. Gradients flow to pose and expression of `target` alone, and not through visibility.

    A pixel of the face takes its color from the frame where `_visible` says that its point of the surface is visible
    there; else from the point's mirror image, where that is visible; else from the model. Hidden pixels in lines
    narrower than three pixels, along outlines and not inside mouth and eyes, are filled in from those around them: a
    line in another color would tell a network what was injected.

    Args:
        mode: "render", "texture" or "warp", see the module.
        frame: [N,S,S,3], linear.
        source: properties of the faces in the frames.
        target: properties after the move, of which only pose and expression are used.
        model: the morphable model.
        inner_triangles: [F] bool, the triangles inside mouth and eyes.

    Returns:
        [N,S,S,3], linear.
    """
    size, topology = frame.shape[1], model.topology
    source, colors = source.detached(), albedo(model, source).detach()
    target = target._replace(identity=source.identity, albedo=source.albedo, light=source.light)
    new = posed_surface(model, target, size)
    if mode == "render":
        return fr.render_face(
            new.clip,
            new.normals,
            colors,
            target.light,
            topology,
            (size, size),
            background=frame,
        )[0]
    old = posed_surface(model, source, size)
    fragments = fr.rasterize(new.clip, topology, (size, size))
    attributes = [colors.expand(len(frame), -1, -1), new.normals, old.pixels, old.normals]
    if model.symmetry is not None:
        mirror = model.symmetry.long()
        attributes += [old.pixels[:, mirror], old.normals[:, mirror]]
    maps = fr.interpolate(torch.cat(attributes, -1), topology, fragments).split(3, -1)
    model_color, new_normals, old_pixels = maps[:3]
    drawn = fragments.face_id >= 0
    light = _shade(new_normals, target.light)
    color = model_color * light
    with torch.no_grad():
        old_fragments = fr.rasterize(old.clip, topology, (size, size))
        covered = (old_fragments.face_id >= 0).to(frame.dtype)
        depth = fr.interpolate(old.pixels[..., 2:], topology, old_fragments)[..., 0]
    for k in range(len(maps) - 2, 1, -2):  # the mirrored side's colors, then over them the point's own
        pixels, normals = maps[k], maps[k + 1]
        ratio = (light / _shade(normals, target.light).clamp(min=MIN_LIGHT)).clamp(*RELIGHTING)
        visible = _visible(pixels, normals, new_normals, covered, depth) & drawn
        color = torch.where(visible[..., None], _sample(frame, pixels[..., :2]) * ratio, color)
    with torch.no_grad():  # `visible` is now that of the points themselves
        hidden = (drawn & ~visible).to(frame.dtype)
        narrow = _dilate(1 - _dilate(1 - hidden)) == 0
        outline = drawn & ~visible & narrow & ~inner_triangles[fragments.face_id.clamp(min=0).long()]
        surroundings = fill_holes(color, visible.to(frame.dtype))
    color = torch.where(outline[..., None], surroundings, color)
    background = _without_face(frame, covered) if mode == "texture" else _warped(frame, old_pixels, drawn)
    return torch.where(drawn[..., None], color, background)


def _shade(normals: Tensor, light: Tensor) -> Tensor:
    """Light [N,S,S,3] on a white surface."""
    return fr.sh_shade(torch.ones_like(normals), normals, light)


@torch.no_grad()
def _without_face(frame: Tensor, covered: Tensor) -> Tensor:
    """Frames [N,S,S,3] whose face, where covered [N,S,S] is 1, is filled in from around it."""
    face = _dilate(covered)
    return torch.lerp(frame, fill_holes(frame, 1 - face), face[..., None])


def _warped(frame: Tensor, old_pixels: Tensor, drawn: Tensor) -> Tensor:
    """Frames that are warped along with the face: by the motion of its surface, and smoothly to none at the border.

    Args:
        frame: [N,S,S,3].
        old_pixels: [N,S,S,3], where the surface at a pixel was in the frame.
        drawn: [N,S,S] bool, where the face is in the new picture.
    """
    size = frame.shape[1]
    ys, xs = torch.meshgrid(*[torch.arange(size, dtype=frame.dtype, device=frame.device) + 0.5] * 2, indexing="ij")
    centers = torch.stack([xs, ys], -1)
    motion = (old_pixels[..., :2] - centers) * drawn[..., None]
    border = torch.ones_like(xs)
    border[1:-1, 1:-1] = 0
    return _sample(frame, centers + fill_holes(motion, torch.maximum(border, drawn.to(frame.dtype))))


def _sample(frame: Tensor, pixels: Tensor) -> Tensor:
    """Colors [N,S,S,C] of frames at pixels [N,S,S,2], y down; beyond the border those of the border."""
    return F.grid_sample(
        frame.permute(0, 3, 1, 2), 2 * pixels / frame.shape[1] - 1, padding_mode="border", align_corners=False
    ).permute(0, 2, 3, 1)


def _dilate(mask: Tensor) -> Tensor:
    """A mask [N,S,S] and the pixels around it."""
    return F.max_pool2d(mask[:, None], 3, 1, 1)[:, 0]


@torch.no_grad()
def _visible(pixels: Tensor, normals: Tensor, new_normals: Tensor, covered: Tensor, depth: Tensor) -> Tensor:
    """Which points of the surface are visible in a frame, and large enough to take their color from it.

    A point is visible if it lies in the picture, has the surface all around it, and is not farther behind the surface
    that is drawn there than half a pixel and what its slope makes of it. It is large enough if it is not compressed to
    less than 0.3 of its breadth in the new picture.

    Args:
        pixels: [N,S,S,3], the points in the frame, y down, z toward the viewer.
        normals: [N,S,S,3] of the points in the frame.
        new_normals: [N,S,S,3] of the points in the new picture.
        covered: [N,S,S], where the frame shows the face, 0 or 1.
        depth: [N,S,S], z of the surface that is drawn in the frame.

    Returns:
        [N,S,S] bool.
    """
    inside = ((pixels[..., :2] > 0) & (pixels[..., :2] < covered.shape[1])).all(-1)
    surrounded = _sample(covered[..., None], pixels[..., :2])[..., 0] > 0.99
    grid = 2 * pixels[..., :2] / covered.shape[1] - 1
    front = F.grid_sample(depth[:, None], grid, mode="nearest", padding_mode="border", align_corners=False)[:, 0]
    facing, new_facing = (F.normalize(n, dim=-1)[..., 2].abs() for n in (normals, new_normals))
    slope = (1 - facing.square()).clamp(min=0).sqrt() / facing.clamp(min=0.05)
    in_front = pixels[..., 2] > front - DEPTH_TOLERANCE - SLOPE_TOLERANCE * slope.clamp(max=3)
    return inside & surrounded & in_front & (facing > MIN_COMPRESSION * new_facing)


def fill_holes(values: Tensor, known: Tensor) -> Tensor:
    """Fill in smooth values where none are known: means of what is known over ever larger squares (pull-push).

    Args:
        values: [N,H,W,C].
        known: [N,H,W], where they are known, 0 or 1.
    """
    return _fill((values * known[..., None]).permute(0, 3, 1, 2), known[:, None]).permute(0, 2, 3, 1)


def _fill(sums: Tensor, known: Tensor) -> Tensor:
    """Fill values that are given as their products with weights: sums [N,C,H,W], weights known [N,1,H,W]."""
    mean = sums / known.clamp(min=1e-6)
    if max(known.shape[-2:]) == 1:
        return mean
    half = F.avg_pool2d(torch.cat([sums, known], 1), 2, ceil_mode=True)
    coarse = _fill(half[:, :-1], half[:, -1:])
    filled = F.interpolate(coarse, known.shape[-2:], mode="bilinear", align_corners=False)
    return torch.lerp(filled, mean, (known > 0).to(mean.dtype))
