"""Synthetic faces: people of a morphable model under random pose, light and camera, before random backgrounds, behind random things, through a
random camera's blur, noise and compression; with everything known about them, without end, and the same for the same numbers.

Rendering runs on the device of the model, in one pass of `facerender.render_face`. The random numbers of a sample come from a generator of
its own, seeded by (seed, step, sample): a sample does not depend on the batch or the process that it is made in.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import facerender as fr

from facerender.colour import to_srgb
from ..morphable import MorphableModel
from ..sampling import EXPRESSIONS, mixed_expressions
from ..training import seed_of
from . import Faces


@dataclass
class Variety:
    """How much varies. Angles in degrees; shares are probabilities.

    yaw: largest; a share `frontal` of faces is drawn from a normal distribution of 20 degrees instead of evenly. pitch, roll: standard
    deviations. box: side of the picture relative to that of the square around the landmarks, lowest and highest; shift: of the box's middle, relative to
    its side, standard deviation. occluded: share with something before the face. degraded: share with each of blur, noise and compression.
    expressive: share with an expression. background: 0 leaves it grey.
    """

    yaw: float = 90.0
    frontal: float = 0.5
    pitch: float = 12.0
    roll: float = 10.0
    box: tuple[float, float] = (1.25, 1.6)
    shift: float = 0.04
    occluded: float = 0.3
    degraded: float = 0.5
    expressive: float = 0.8
    background: float = 1.0


class Synthetic:
    """Endless faces of a model, `size` pixels square.

    ``Synthetic(model, 112)(seed, step, range(32))`` gives the samples 0 to 31 of a step as `Faces`. No gradients flow.
    """

    def __init__(self, model: MorphableModel, size: int, variety: Variety | None = None):
        self.model, self.size, self.variety = model, size, variety or Variety()

    @torch.no_grad()
    def __call__(self, seed: int, step: int, indices: range) -> Faces:
        dice = _Dice(seed, step, indices, self.model.mean.device)
        identity, expression, albedo = self._person(dice)
        vertices = self.model.shape(identity, expression)
        rotation = self._rotation(dice)
        landmarks = self.model.landmarks(vertices)
        turned = landmarks @ rotation.transpose(1, 2)
        scale, translation = self._camera(dice, turned[..., :2])
        clip = fr.camera.weak_perspective(vertices, scale, rotation, translation, (self.size, self.size))
        normals = fr.vertex_normals(vertices, self.model.topology) @ rotation.transpose(1, 2)
        light = self._light(dice)
        background = self._background(dice)
        colours = self.model.albedo(albedo) if self.model.num_albedo else torch.full_like(vertices[:1], 0.45)
        image, face_id = fr.render_face(clip, normals.contiguous(), colours, light, self.model.topology, (self.size, self.size), background=background)
        mask = (face_id >= 0).float()
        image, mask = self._occlude(dice, image, mask)
        image = to_srgb(image.clamp(0, 1)).permute(0, 3, 1, 2)
        image = self._degrade(dice, image)
        pixels = turned[..., :2] * scale[:, None, None] + translation[:, None]
        pixels = torch.stack([pixels[..., 0], self.size - pixels[..., 1]], -1)
        return Faces(image.contiguous(), pixels, torch.ones_like(pixels[..., 0], dtype=torch.bool), mask, identity, expression, albedo, rotation, scale, translation, light)

    def _person(self, dice):
        m, v = self.model, self.variety
        identity, albedo = dice.normal(m.num_identity).clamp(-2.5, 2.5), dice.normal(m.num_albedo).clamp(-2.5, 2.5) if m.num_albedo else None
        if m.blendshapes:
            pick = (dice.uniform(2) * len(EXPRESSIONS)).long()
            expression = mixed_expressions(m, pick.cpu(), dice.uniform(2).cpu(), dice.uniform(m.num_expression).cpu()).to(identity)
        else:
            expression = 0.8 * dice.normal(m.num_expression).clamp(-2.5, 2.5)
        return identity, expression * (dice.uniform(1) < v.expressive), albedo

    def _rotation(self, dice):
        v = self.variety
        even = (dice.uniform(1) * 2 - 1) * v.yaw
        yaw = torch.where(dice.uniform(1) < v.frontal, (20 * dice.normal(1)).clamp(-v.yaw, v.yaw), even)
        pitch, roll = v.pitch * dice.normal(1).clamp(-2.5, 2.5), v.roll * dice.normal(1).clamp(-2.5, 2.5)
        return fr.camera.euler_rotation(torch.cat([pitch, yaw, roll], 1) * (math.pi / 180))

    def _camera(self, dice, points):
        """(scale [N], translation [N,2]) that put the landmarks' square into the picture."""
        v = self.variety
        low, high = points.amin(1), points.amax(1)
        side = (high - low).amax(-1) * (v.box[0] + (v.box[1] - v.box[0]) * dice.uniform(1)[:, 0])
        middle = (low + high) / 2 + v.shift * side[:, None] * dice.normal(2).clamp(-2, 2)
        scale = self.size / side
        return scale, self.size / 2 - scale[:, None] * middle

    def _light(self, dice):
        """A room and two lamps, tinted a little; as bright as cameras expose for."""
        tint = lambda amount: (1 + amount * dice.normal(3)).clamp(0.5, 1.5)  # noqa: E731
        ambient = (0.12 + 0.4 * dice.uniform(1)) * tint(0.08)
        total = fr.lighting.ambient_and_directional(ambient, torch.ones_like(ambient), torch.zeros_like(ambient))
        for strength in (1.0, 0.4):
            direction = dice.normal(3) * dice.normal(3).new_tensor([1.0, 0.6, 0.6]) + dice.normal(3).new_tensor([0.0, 0.4, 0.8])
            intensity = strength * (0.2 + 1.1 * dice.uniform(1)) * tint(0.12)
            total = total + fr.lighting.ambient_and_directional(torch.zeros_like(ambient), direction, intensity)
        return (total * (0.75 + 0.9 * dice.uniform(1))[..., None]).contiguous()

    def _background(self, dice):
        """Smooth noise of several widths in random colours, linear [N,H,W,3]."""
        image = torch.full((dice.count, 3, self.size, self.size), 0.4, device=dice.device)
        if self.variety.background:
            image = 0.08 + 0.35 * (dice.uniform(1) + 0.5 * dice.uniform(3))[:, :, None, None].expand_as(image)
            for cells, amount in ((3, 0.5), (7, 0.35), (17, 0.2), (41, 0.1)):
                noise = dice.normal(3 * cells * cells).view(-1, 3, cells, cells)
                noise = noise.mean(1, keepdim=True) * 1.3 + 0.25 * noise  # mostly grey
                strength = amount * dice.uniform(1)[:, :, None, None]
                image = image + strength * F.interpolate(noise, (self.size, self.size), mode="bilinear", align_corners=False)
        return image.clamp(0, 1).permute(0, 2, 3, 1).contiguous()

    def _occlude(self, dice, image, mask):
        """Ellipses and bars of random colour and texture, such as hands, hair and microphones are to a blurred eye."""
        ys, xs = torch.meshgrid(*[torch.linspace(-1, 1, self.size, device=dice.device)] * 2, indexing="ij")
        for _ in range(2):
            middle, angle, radii = dice.uniform(2) * 1.8 - 0.9, dice.uniform(1) * math.pi, 0.08 + 0.4 * dice.uniform(2) ** 2
            there = (dice.uniform(1) < self.variety.occluded / 1.5).float()
            bar = (dice.uniform(1) < 0.5)[..., None]
            c, s = angle.cos(), angle.sin()
            x, y = xs - middle[:, :1, None], ys - middle[:, 1:, None]
            u, v = (c[..., None] * x + s[..., None] * y) / radii[:, :1, None], (c[..., None] * y - s[..., None] * x) / radii[:, 1:, None]
            u2, v2 = u * u, v * v
            outside = torch.where(bar, u2 * u2 * u2 * u2 + v2 * v2 * v2 * v2, u2 + v2)  # nearly a rectangle, or an ellipse
            inside = ((1 - outside) * 8).clamp(0, 1) * there[..., None]
            colour = dice.uniform(3)[:, None, None] ** 2 * (0.8 + 0.4 * (3 * u + 2 * v).sin())[..., None]
            image = image + inside[..., None] * (colour - image)
            mask = mask * (1 - inside)
        return image, mask

    def _degrade(self, dice, image):
        v = self.variety
        chosen = lambda: (dice.uniform(1) < v.degraded).float()[..., None, None]  # noqa: E731
        gain = torch.exp(0.12 * dice.normal(3))[..., None, None]
        image = (image * (1 + chosen() * (gain - 1))).clamp(0, 1)
        contrast = torch.exp(0.2 * dice.normal(1))[..., None, None]
        image = (0.45 + (image - 0.45) * (1 + chosen() * (contrast - 1))).clamp(0, 1)
        image = image + chosen() * (blurred(image, 0.3 + self.size / 112 * 1.3 * dice.uniform(1)[:, 0]) - image)
        noise = dice.normal(3 * self.size * self.size).view_as(image)
        image = (image + chosen() * (0.04 * dice.uniform(1) ** 2)[..., None, None] * noise).clamp(0, 1)
        quality = 15 + 80 * dice.uniform(1)[:, 0]
        grey = image.mean(1, keepdim=True).expand_as(image)
        image = image + chosen() * (compressed(image, quality) - image)
        return image + (dice.uniform(1) < 0.05).float()[..., None, None] * (grey - image)


class _Dice:
    """Random numbers [N,k] for the samples of a step, each sample's from its own generator, on the CPU so that devices agree."""

    def __init__(self, seed, step, indices, device):
        self.generators = [torch.Generator().manual_seed(seed_of(seed, step, i)) for i in indices]
        self.count, self.device = len(self.generators), device

    def normal(self, k) -> Tensor:
        return torch.stack([torch.randn(k, generator=g) for g in self.generators]).to(self.device)

    def uniform(self, k) -> Tensor:
        return torch.stack([torch.rand(k, generator=g) for g in self.generators]).to(self.device)


def blurred(image: Tensor, deviation: Tensor) -> Tensor:
    """Gaussian blur of images [N,C,H,W], each with its own standard deviation [N] in pixels (at most about 3)."""
    n, c, h, w = image.shape
    reach = torch.arange(-6, 7, device=image.device)
    kernel = torch.exp(-0.5 * (reach / deviation[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, 0)[:, None]
    flat = F.pad(image.reshape(1, n * c, h, w), (6, 6, 6, 6), mode="replicate")
    flat = F.conv2d(F.conv2d(flat, kernel[:, :, None], groups=n * c), kernel[..., None], groups=n * c)
    return flat.view(n, c, h, w)


# The luminance table of the JPEG standard (ITU-T T.81, annex K).
_TABLE = [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
          18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]  # fmt: skip


def compressed(image: Tensor, quality: Tensor) -> Tensor:
    """What JPEG leaves of images [N,3,H,W] in 0..1 at a quality [N] of 1..100: blocks of 8 by 8, cosine transform, rounding by the standard's
    table (the luminance one for all channels, no subsampling)."""
    n, c, h, w = image.shape
    padded = F.pad(image, (0, -w % 8, 0, -h % 8), mode="replicate")
    hp, wp = padded.shape[-2:]
    k = torch.arange(8, device=image.device, dtype=image.dtype)
    transform = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * torch.where(k[:, None] == 0, math.sqrt(1 / 8), 0.5)
    blocks = padded.view(n, c, hp // 8, 8, wp // 8, 8).transpose(3, 4) * 255 - 128
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50).clamp(min=0.01)
    step = (torch.tensor(_TABLE, device=image.device, dtype=image.dtype).view(8, 8) * scale[:, None, None]).clamp(min=1)[:, None, None, None]
    # Products from the right, one after the other, with transposes between: each is one large matrix product.
    spectrum = (blocks @ transform.T).mT @ transform.T
    rounded = (spectrum / step.mT).round() * step.mT
    back = (rounded @ transform).mT @ transform
    return ((back + 128) / 255).transpose(3, 4).reshape(n, c, hp, wp)[..., :h, :w].clamp(0, 1)
