"""Random changes to pictures of faces and to all that is known about them: turned, scaled, shifted and mirrored; brighter, paler, blurred, covered.

Labels move with pixels. The random numbers of a sample come from a generator of its own, seeded by (seed, step, sample), so that a sample does not
depend on the batch or the process in which it is changed.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from facemodels.core.landmarks import mirror_order
from facemodels.core.seeding import seed_of
from facemodels.data import FaceBatch
from facemodels.data.synthetic import gaussian_blur


@dataclass
class AugmentConfig:
    """How much is changed. Shares are probabilities.

    rotation: degrees in the picture's plane; scale: of the logarithm; shift: of the picture's side; these three are standard deviations, cut off at two.
    mirrored: share, of faces whose coefficients are not known (see `augment`). brightness, contrast, tint (a gain for each channel), saturation: standard
    deviations of the logarithm of a gain. grey: share without colour. blurred: share, by up to `blur` of the side. covered: share with a patch before the
    face, of up to `patch` of the side.
    """

    rotation: float = 15.0
    scale: float = 0.08
    shift: float = 0.05
    mirrored: float = 0.5
    brightness: float = 0.15
    contrast: float = 0.2
    tint: float = 0.06
    saturation: float = 0.2
    grey: float = 0.05
    blurred: float = 0.2
    blur: float = 0.012
    covered: float = 0.25
    patch: float = 0.45


@torch.no_grad()
def augment(faces: FaceBatch, seed: int, step: int, indices: range, change: AugmentConfig | None = None) -> FaceBatch:
    """The samples `indices` of a step (as many as there are faces), changed at random; see `warp_faces` for what happens to their labels.

    faces.image [N,3,H,W] in 0..1 on any device. Coefficients of a mirrored face would be those of another person, which cannot be told without the
    model's symmetry: faces with identity, expression or albedo are never mirrored. Brightness, colour, blur and patches are the camera's and the
    surroundings', as in `Synthetic`: the light stays, and patches are taken out of the mask, not out of `visible`.
    """
    if len(indices) != len(faces):
        raise ValueError(f"indices must be as many as there are faces, got {len(indices)} for {len(faces)}")
    change = change or AugmentConfig()
    generators = [torch.Generator().manual_seed(seed_of(seed, step, i)) for i in indices]
    device = faces.image.device
    normal = torch.stack([torch.randn(10, generator=g) for g in generators]).clamp(-2, 2).to(device, non_blocking=True)
    chance = torch.stack(
        [torch.rand(16, generator=g) for g in generators]
    )  # what is chosen is known before a device is asked
    uniform = chance.to(device, non_blocking=True)

    height, width = faces.image.shape[-2:]
    known = any(c is not None for c in (faces.identity, faces.expression, faces.albedo))
    flip = uniform[:, 0] < (0.0 if known else change.mirrored)
    angle, scale = change.rotation * math.pi / 180 * normal[:, 0], (change.scale * normal[:, 1]).exp()
    faces = _warp(faces, angle, scale, change.shift * normal[:, 2:4] * _constant([width, height], normal), flip)
    image, mask = faces.image, faces.mask

    chosen = (chance[:, 1] < change.covered).nonzero()[:, 0].to(device, non_blocking=True)
    if len(chosen):
        patch, colour = _patch(uniform[chosen, 2:12], change.patch, height, width)
        image[chosen] = torch.lerp(image[chosen], colour, patch[:, None])  # `warp_faces` made it
        if mask is not None:
            mask[chosen] *= 1 - patch
    chosen = (chance[:, 12] < change.blurred).nonzero()[:, 0].to(device, non_blocking=True)
    if len(chosen):
        image[chosen] = gaussian_blur(image[chosen], 0.3 + change.blur * max(height, width) * uniform[chosen, 13])
    return replace(faces, image=_coloured(image, change, normal[:, 4:], uniform[:, 14] < change.grey), mask=mask)


def _coloured(image, change, normal, grey):
    """One matrix and offset for each picture: saturation, then tint and brightness, then contrast about the middle."""
    gain = (change.brightness * normal[:, :1] + change.tint * normal[:, 1:4]).exp()
    contrast = (change.contrast * normal[:, 4]).exp()
    saturation = (change.saturation * normal[:, 5]).exp() * ~grey
    luma = _constant([0.299, 0.587, 0.114], image)
    matrix = saturation[:, None, None] * torch.eye(3, device=image.device) + (1 - saturation[:, None, None]) * luma
    matrix = matrix * (gain * contrast[:, None])[:, :, None]
    middle = (0.45 * (1 - contrast))[:, None, None].expand(-1, 3, 1)
    return torch.baddbmm(middle, matrix, image.flatten(2)).view_as(image).clamp_(0, 1)


def _patch(uniform, largest, height, width):
    """(how much of each pixel it covers [M,H,W], its colour [M,3,H,W]): ellipses and rectangles with stripes, turned, anywhere."""
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
    """Faces whose pictures are mirrored about their vertical middle line where `mirrored` [N] bool, then turned anticlockwise by `angle` [N] radians and
    scaled by `scale` [N] about their middle, then shifted by `shift` [N,2] pixels, x to the right and y down.

    Pixels are sampled bilinearly, black beyond the old picture. Landmarks go along, also out of the picture, with `visible`, and change their numbers where
    mirrored (`left_right`); so do mask, rotation, scale, translation and light: they describe the same (or the mirrored) head in the new picture.
    Coefficients stay; for a mirrored face they are wrong, so mirroring a face that has them is refused.

    Raises:
        ValueError: a face with identity, expression or albedo is to be mirrored.
    """
    if mirrored.any() and any(c is not None for c in (faces.identity, faces.expression, faces.albedo)):
        raise ValueError("faces with coefficients cannot be mirrored: they would be the coefficients of another face")
    return _warp(faces, angle, scale, shift, mirrored)


def _constant(values, like) -> Tensor:
    """Numbers as a tensor of the kind of another, without waiting for its device as `new_tensor` does."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def _warp(faces, angle, scale, shift, mirrored):
    """`warp_faces`, which does not look whether a face may be mirrored: that waits for the device."""
    height, width = faces.image.shape[-2:]
    half = middle = _constant([width / 2, height / 2], angle)
    sign = 1 - 2 * mirrored.to(angle)
    c, s = angle.cos(), angle.sin()
    # In pixels with y down, turning anticlockwise is [c s; -s c]; mirroring comes first.
    turn = torch.stack([torch.stack([c * sign, s], -1), torch.stack([-s * sign, c], -1)], -2)
    offset = middle + shift
    inverse = turn.mT / scale[:, None, None]
    # grid_sample counts from -1 to 1 across the picture: old = inverse (new - offset) + middle, with both divided by half the size, less one.
    theta = torch.cat(
        [inverse * half / half[:, None], (-(inverse @ shift[..., None]))[..., 0].div(half)[..., None]], -1
    )
    grid = F.affine_grid(theta, (len(angle), 1, height, width), align_corners=False)
    planes = faces.image if faces.mask is None else torch.cat([faces.image, faces.mask[:, None].to(faces.image)], 1)
    planes = F.grid_sample(planes, grid, align_corners=False)
    new = replace(faces, image=planes[:, :3])
    if faces.mask is not None:
        new.mask = planes[:, 3]
    if faces.landmarks is not None:
        points = scale[:, None, None] * (faces.landmarks[..., :2] - middle) @ turn.mT + offset[:, None]
        points = torch.cat([points, scale[:, None, None] * faces.landmarks[..., 2:]], -1)  # depth, where it is known
        table = torch.tensor(mirror_order(points.shape[1])).to(points.device, non_blocking=True)
        new.landmarks = torch.where(mirrored[:, None, None], points[:, table], points)
        if faces.visible is not None:
            new.visible = torch.where(mirrored[:, None], faces.visible[:, table], faces.visible)
    up = _constant([1.0, -1.0], angle)  # cameras have y up
    if faces.translation is not None:
        centred = (faces.translation[:, :2] - middle) * torch.stack([sign, torch.ones_like(sign)], -1)
        rolled = torch.stack([c * centred[:, 0] - s * centred[:, 1], s * centred[:, 0] + c * centred[:, 1]], -1)
        new.translation = scale[:, None] * rolled + middle + up * shift
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


def rotate_light(light, c, s, sign):
    """Light [N,9,3] about a mirrored (sign -1) head that is then turned anticlockwise in the picture, by cosines and sines [N].

    Bands of the preset "deep3d" are 1, y, z, x, xy, yz, 3z^2-1, xz, x^2-y^2, up to factors that x and y share: about z, (x, y) and (xz, yz) turn once,
    (x^2-y^2, 2xy) twice. The factor of xy is twice that of x^2-y^2."""
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


# ------------------------------------------------------------------------------------------------------------------ names of points
