"""Random changes to pictures of faces and to all their labels: rotation, scale, shift, mirroring, color, blur, patches.

Labels move with pixels. The random numbers of a sample come from a generator of its own, seeded by (seed, step,
sample), so a sample does not depend on the batch or the process in which it is changed.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from facemodels.core.landmarks import mirror_order
from facemodels.core.seeding import seed_of
from facemodels.data import FaceBatch
from facemodels.data.degradations import gaussian_blur


@dataclass
class AugmentConfig:
    """How strongly `augment` changes faces. Normal distributions are cut off at two standard deviations."""

    # place: standard deviations
    rotation: float = 15.0  # degrees, in the picture's plane
    scale: float = 0.08  # of the logarithm of the scale
    shift: float = 0.05  # of the picture's sides
    mirrored: float = 0.5  # probability; faces with coefficients are never mirrored, see `augment`
    # color: standard deviations of the logarithm of a gain
    brightness: float = 0.15
    contrast: float = 0.2
    tint: float = 0.06  # per channel
    saturation: float = 0.2
    grey: float = 0.05  # probability of no color
    # blur and patches
    blurred: float = 0.2  # probability
    blur: float = 0.012  # largest standard deviation, over the picture's longer side
    covered: float = 0.25  # probability of a patch in front of the face
    patch: float = 0.45  # largest diameter of the patch, over the picture's longer side
    ended: float = 0.0  # probability that the photo ends inside the picture, which is black beyond, at a side or two
    margin: float = 0.3  # most of the picture that is black then, over the side that is cut


@torch.no_grad()
def augment(faces: FaceBatch, seed: int, step: int, indices: range, config: AugmentConfig | None = None) -> FaceBatch:
    """Change the samples of a step at random; `warp_faces` says what happens to their labels.

    The coefficients of a mirrored face would be those of another person, which cannot be found without the model's
    symmetry: faces with identity, expression or albedo are never mirrored. Brightness, color, blur and patches belong
    to the camera and the surroundings, as in `Synthetic`: the light stays, and patches are taken out of the mask, not
    out of `visible`.

    Args:
        faces: the samples, image [N,3,H,W] in 0..1 on any device; not written to.
        seed: seed of the run.
        step: number of the batch.
        indices: numbers of the N samples within the step.
        config: how strongly they are changed; None for the defaults.

    Raises:
        ValueError: there are not as many indices as faces.
    """
    if len(indices) != len(faces):
        raise ValueError(f"indices must be as many as there are faces, got {len(indices)} for {len(faces)}")
    config = config or AugmentConfig()
    generators = [torch.Generator().manual_seed(seed_of(seed, step, i)) for i in indices]
    device = faces.image.device
    normal = torch.stack([torch.randn(10, generator=g) for g in generators]).clamp(-2, 2).to(device, non_blocking=True)
    # Also on the CPU: which samples are chosen is then known without waiting for the device.
    cpu_uniform = torch.stack([torch.rand(16, generator=g) for g in generators])
    uniform = cpu_uniform.to(device, non_blocking=True)

    height, width = faces.image.shape[-2:]
    flip = uniform[:, 0] < (0.0 if _has_coefficients(faces) else config.mirrored)
    angle, scale = config.rotation * math.pi / 180 * normal[:, 0], (config.scale * normal[:, 1]).exp()
    faces = _warp(faces, angle, scale, config.shift * normal[:, 2:4] * _constant([width, height], normal), flip)
    image, mask = faces.image, faces.mask  # new tensors, which may be written to

    chosen = (cpu_uniform[:, 1] < config.covered).nonzero()[:, 0].to(device, non_blocking=True)
    if len(chosen):
        patch, color = _patch(uniform[chosen, 2:12], config.patch, height, width)
        image[chosen] = torch.lerp(image[chosen], color, patch[:, None])
        if mask is not None:
            mask[chosen] *= 1 - patch
    chosen = (cpu_uniform[:, 12] < config.blurred).nonzero()[:, 0].to(device, non_blocking=True)
    if len(chosen):
        image[chosen] = gaussian_blur(image[chosen], 0.3 + config.blur * max(height, width) * uniform[chosen, 13])
    image = _change_color(image, config, normal[:, 4:], uniform[:, 14] < config.grey)
    if config.ended:
        ends = torch.stack([torch.rand(4, generator=g) for g in generators]).to(device, non_blocking=True)
        shown = _within_ends(ends, config, height, width)
        image = image * shown[:, None]
        mask = None if mask is None else mask * shown
    return replace(faces, image=image, mask=mask)


def _within_ends(uniform: Tensor, config: AugmentConfig, height: int, width: int) -> Tensor:
    """1 where a photo that ends inside the picture shows something, 0 beyond: [N,H,W], of [N,4] uniform numbers."""
    across, down = (
        (torch.arange(count, device=uniform.device) + 0.5) / count - 0.5 for count in (width, height)
    )  # -0.5 to 0.5
    ends = uniform[:, :1] < config.ended
    side = (uniform[:, 1:2] * 4).floor()  # right, left, bottom, top
    depth = config.margin * uniform[:, 2:3]
    second = uniform[:, 3:4] < 0.3  # of the other axis, by the same depth
    sign = 1 - 2 * (side % 2)
    horizontal = ends & ((side < 2) | second)
    vertical = ends & ((side >= 2) | second)
    shown_across = ~horizontal | (sign * across < 0.5 - depth)
    shown_down = ~vertical | (sign * down < 0.5 - depth)
    return (shown_down[:, :, None] & shown_across[:, None, :]).to(uniform.dtype)


def _change_color(image: Tensor, config: AugmentConfig, normal: Tensor, gray: Tensor) -> Tensor:
    """Change saturation, then tint and brightness, then contrast about the middle: one matrix and offset per picture.

    Args:
        image: [N,3,H,W].
        config: the standard deviations.
        normal: [N,6] standard normal numbers.
        gray: bool [N], pictures to leave without color.
    """
    gain = (config.brightness * normal[:, :1] + config.tint * normal[:, 1:4]).exp()
    contrast = (config.contrast * normal[:, 4]).exp()
    saturation = (config.saturation * normal[:, 5]).exp() * ~gray
    luma = _constant([0.299, 0.587, 0.114], image)
    matrix = saturation[:, None, None] * torch.eye(3, device=image.device) + (1 - saturation[:, None, None]) * luma
    matrix = matrix * (gain * contrast[:, None])[:, :, None]
    offset = (0.45 * (1 - contrast))[:, None, None].expand(-1, 3, 1)
    return torch.baddbmm(offset, matrix, image.flatten(2)).view_as(image).clamp_(0, 1)


def _patch(uniform: Tensor, largest: float, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Draw patches: rotated ellipses and rectangles with stripes, anywhere.

    Args:
        uniform: [M,10] uniform numbers.
        largest: diameter over the longer side.
        height: of the pictures.
        width: of the pictures.

    Returns:
        How much of each pixel the patch covers [M,H,W], and its color [M,3,H,W].
    """
    device, side = uniform.device, max(height, width)
    ys, xs = torch.meshgrid(
        torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5, indexing="ij"
    )
    u = uniform[:, :, None, None]
    x, y, angle = xs - width * u[:, 0], ys - height * u[:, 1], math.pi * u[:, 2]
    along, across = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
    a, b = (side * largest / 2 * (0.2 + 0.8 * u[:, k]) for k in (3, 4))
    along, across = along / a, across / b
    outside = torch.where(
        u[:, 5] < 0.5, torch.maximum(along.abs(), across.abs()), (along.square() + across.square()).sqrt()
    )
    stripes = 0.8 + 0.2 * (4 * along + (12 * u[:, 6] - 6) * across).sin()
    return ((1 - outside) * torch.minimum(a, b) + 0.5).clamp(0, 1), stripes[:, None] * uniform[:, 7:10, None, None]


def warp_faces(faces: FaceBatch, angle: Tensor, scale: Tensor, shift: Tensor, mirrored: Tensor) -> FaceBatch:
    """Move pictures of faces and their labels.

    A picture is mirrored about its vertical center line, then rotated and scaled about its center, then shifted. Pixels
    are sampled bilinearly, black outside the old picture. Landmarks go along, also out of the picture, with `visible`,
    and are renumbered where mirrored (`mirror_order`). So do mask, rotation, scale, translation and light: they
    describe the same (or the mirrored) head in the new picture. Coefficients stay; they would be wrong for a mirrored
    face.

    Args:
        faces: the faces; not written to.
        angle: [N] radians, counterclockwise.
        scale: [N].
        shift: [N,2] pixels, x to the right and y down.
        mirrored: bool [N].

    Raises:
        ValueError: a face with identity, expression or albedo is to be mirrored.
    """
    if mirrored.any() and _has_coefficients(faces):
        raise ValueError("faces with coefficients cannot be mirrored: they would be the coefficients of another face")
    return _warp(faces, angle, scale, shift, mirrored)


def _has_coefficients(faces: FaceBatch) -> bool:
    return any(c is not None for c in (faces.identity, faces.expression, faces.albedo))


def _constant(values: list[float], like: Tensor) -> Tensor:
    """A constant of another tensor's dtype, without waiting for its device as `new_tensor` does."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def _warp(faces: FaceBatch, angle: Tensor, scale: Tensor, shift: Tensor, mirrored: Tensor) -> FaceBatch:
    """Like `warp_faces`, without the check whether a face may be mirrored, which waits for the device."""
    height, width = faces.image.shape[-2:]
    half = center = _constant([width / 2, height / 2], angle)
    sign = 1 - 2 * mirrored.to(angle)
    c, s = angle.cos(), angle.sin()
    # In pixels with y down, a counterclockwise rotation is [c s; -s c]; mirroring comes first.
    turn = torch.stack([torch.stack([c * sign, s], -1), torch.stack([-s * sign, c], -1)], -2)
    offset = center + shift
    inverse = turn.mT / scale[:, None, None]
    # grid_sample counts from -1 to 1 across the picture: old = inverse (new - offset) + center, in units of half its
    # sides.
    theta = torch.cat(
        [inverse * half / half[:, None], (-(inverse @ shift[..., None]))[..., 0].div(half)[..., None]], -1
    )
    grid = F.affine_grid(theta, [len(angle), 1, height, width], align_corners=False)
    planes = faces.image if faces.mask is None else torch.cat([faces.image, faces.mask[:, None].to(faces.image)], 1)
    planes = F.grid_sample(planes, grid, align_corners=False)
    new = replace(faces, image=planes[:, :3])
    if faces.mask is not None:
        new.mask = planes[:, 3]
    if faces.landmarks is not None:
        points = scale[:, None, None] * (faces.landmarks[..., :2] - center) @ turn.mT + offset[:, None]
        points = torch.cat([points, scale[:, None, None] * faces.landmarks[..., 2:]], -1)  # depth, where it is labeled
        order = torch.tensor(mirror_order(points.shape[1])).to(points.device, non_blocking=True)
        new.landmarks = torch.where(mirrored[:, None, None], points[:, order], points)
        if faces.visible is not None:
            new.visible = torch.where(mirrored[:, None], faces.visible[:, order], faces.visible)
    up = _constant([1.0, -1.0], angle)  # cameras have y up
    if faces.translation is not None:
        centered = (faces.translation[:, :2] - center) * torch.stack([sign, torch.ones_like(sign)], -1)
        rolled = torch.stack([c * centered[:, 0] - s * centered[:, 1], s * centered[:, 0] + c * centered[:, 1]], -1)
        new.translation = scale[:, None] * rolled + center + up * shift
    if faces.scale is not None:
        new.scale = scale * faces.scale
    if faces.rotation is not None:
        zero, one = torch.zeros_like(c), torch.ones_like(c)
        roll = torch.stack([c, -s, zero, s, c, zero, zero, zero, one], -1).view(-1, 3, 3)
        mirror = torch.stack([sign, one, one], -1)
        new.rotation = roll @ (mirror[:, :, None] * faces.rotation * mirror[:, None])  # of the mirrored head
    if faces.light is not None:
        new.light = rotate_light(faces.light, c, s, sign)
    return new


def rotate_light(light: Tensor, c: Tensor, s: Tensor, sign: Tensor) -> Tensor:
    """Mirror light, then rotate it counterclockwise in the picture.

    Bands of the preset "deep3d" are 1, y, z, x, xy, yz, 3z^2-1, xz, x^2-y^2, up to factors that x and y share. About z,
    (x, y) and (xz, yz) turn once and (x^2-y^2, 2xy) twice. The factor of xy is twice that of x^2-y^2.

    Args:
        light: [N,9,3].
        c: [N], cosines of the angles.
        s: [N], sines of the angles.
        sign: [N], -1 where mirrored, else 1.
    """
    c, s, sign = c[:, None], s[:, None], sign[:, None]
    one, y, z, x, xy, yz, zz, xz, xx = light.unbind(1)
    x, xy, xz = x * sign, xy * sign, xz * sign
    c2, s2 = c * c - s * s, 2 * c * s
    return torch.stack(
        [
            one,
            s * x + c * y,
            z,
            c * x - s * y,
            s2 * xx + c2 * xy,
            s * xz + c * yz,
            zz,
            c * xz - s * yz,
            c2 * xx - s2 * xy,
        ],
        1,
    )
