"""Synthetic faces: people of a morphable model under random pose, light and camera, before random backgrounds, behind random things, through a
random camera's blur, noise and compression; with everything known about them, without end, and the same for the same numbers.

Rendering runs on the device of the model, in one pass of `facerender.render_face`. The random numbers of a sample are hashes of
(seed, step, sample): a sample does not depend on the batch or the process that it is made in.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import facerender as fr
from facemodels.core.seeding import seed_of
from facemodels.data import FaceBatch
from facemodels.models.morphable import MorphableModel
from facemodels.models.sampling import EXPRESSIONS, mixed_expressions
from facerender.color import to_srgb


@dataclass
class RandomizationConfig:
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

    ``Synthetic(model, 112)(seed, step, range(32))`` gives the samples 0 to 31 of a step as `FaceBatch`. No gradients flow.
    """

    def __init__(self, model: MorphableModel, size: int, randomization: RandomizationConfig | None = None):
        self.model, self.size, self.randomization = model, size, randomization or RandomizationConfig()

    @torch.no_grad()
    def __call__(self, seed: int, step: int, indices: range) -> FaceBatch:
        rng = self._rng(seed, step, indices)
        faces, vertices, depth = self._described(rng)
        size = (self.size, self.size)
        clip = fr.camera.weak_perspective(vertices, faces.scale, faces.rotation, faces.translation, size)
        normals = fr.vertex_normals(vertices, self.model.topology) @ faces.rotation.transpose(1, 2)
        background = self._background(rng)
        colours = self.model.albedo(faces.albedo) if self.model.num_albedo else torch.full_like(vertices[:1], 0.45)
        image, face_id = fr.render_face(
            clip, normals.contiguous(), colours, faces.light, self.model.topology, size, background=background
        )
        image, faces.mask = self._occlude(rng, image, (face_id >= 0).float())
        faces.image = self._degrade(rng, to_srgb(image).permute(0, 3, 1, 2).contiguous())
        faces.visible = self._visible(
            faces.landmarks, depth, vertices @ faces.rotation[:, 2, :, None], face_id, faces.mask
        )
        return faces

    @torch.no_grad()
    def labels(self, seed: int, step: int, indices: range) -> FaceBatch:
        """What is known of the same faces before they are drawn: without image ([N,3,0,0]), mask and visible."""
        return self._described(self._rng(seed, step, indices))[0]

    def _rng(self, seed, step, indices):
        return CounterRNG([seed_of(seed, step, i) for i in indices], self.model.mean.device)

    def _described(self, rng):
        """(faces without pictures, vertices [N,V,3], depth of the landmarks towards the camera [N,L], mm)."""
        identity, albedo = self._identity(rng)
        expression = self._expression(rng)
        vertices = self.model.shape(identity, expression)
        faces, depth = self._placed(
            vertices, fr.camera.euler_rotation(self._angles(rng)), lambda points: self._camera(rng, points)
        )
        faces.identity, faces.expression, faces.albedo, faces.light = identity, expression, albedo, self._light(rng)
        return faces, vertices, depth

    def _placed(self, vertices, rotation, camera):
        """(faces that know rotation, camera and landmarks, depth of the landmarks [N,L]). camera: of the landmarks as they are turned [N,L,2], mm."""
        turned = self.model.landmarks(vertices) @ rotation.transpose(1, 2)
        scale, translation = camera(turned[..., :2])
        pixels = turned[..., :2] * scale[:, None, None] + translation[:, None]
        pixels = torch.stack([pixels[..., 0], self.size - pixels[..., 1]], -1)
        nothing = torch.empty(len(vertices), 3, 0, 0, device=vertices.device)
        return FaceBatch(nothing, pixels, rotation=rotation, scale=scale, translation=translation), turned[..., 2]

    def _visible(self, pixels, depth, surface, face_id, mask):
        """Whether landmarks are in the picture, before anything but the surface that is seen at their pixel, up to 8 mm (the model's lips, lids and contour are no
        sharper), and not covered. pixels [N,L,2], depth [N,L] and surface [N,V,1] towards the camera, mm."""
        n, last = torch.arange(len(pixels), device=pixels.device)[:, None], self.size - 1
        column, row = pixels.long().clamp(0, last).unbind(-1)
        seen = face_id[n, row, column]
        corners = self.model.topology.faces[seen.clamp(min=0).long()].long()  # [N,L,3]
        before = surface[n[..., None], corners, 0].mean(-1)
        inside = ((pixels >= 0) & (pixels < self.size)).all(-1)
        return inside & ((seen < 0) | ((depth > before - 8) & (mask[n, row, column] > 0.5)))

    def _identity(self, rng):
        """(identity [N,I], albedo [N,A] or None)."""
        m = self.model
        return rng.normal(m.num_identity).clamp(-2.5, 2.5), rng.normal(m.num_albedo).clamp(
            -2.5, 2.5
        ) if m.num_albedo else None

    def _expression(self, rng):
        m = self.model
        if m.blendshapes:
            pick = (rng.small(2) * len(EXPRESSIONS)).long()
            expression = mixed_expressions(m, pick, rng.small(2), rng.small(m.num_expression)).to(
                rng.device, non_blocking=True
            )
        else:
            expression = 0.8 * rng.normal(m.num_expression).clamp(-2.5, 2.5)
        return expression * (rng.uniform(1) < self.randomization.expressive)

    def _angles(self, rng):
        """Pitch, yaw and roll [N,3], radians."""
        v = self.randomization
        even = (rng.uniform(1) * 2 - 1) * v.yaw
        yaw = torch.where(rng.uniform(1) < v.frontal, (20 * rng.normal(1)).clamp(-v.yaw, v.yaw), even)
        pitch, roll = v.pitch * rng.normal(1).clamp(-2.5, 2.5), v.roll * rng.normal(1).clamp(-2.5, 2.5)
        return torch.cat([pitch, yaw, roll], 1) * (math.pi / 180)

    def _camera(self, rng, points):
        """(scale [N], translation [N,2]) that put the landmarks' square into the picture."""
        v = self.randomization
        low, high = points.amin(1), points.amax(1)
        side = (high - low).amax(-1) * (v.box[0] + (v.box[1] - v.box[0]) * rng.uniform(1)[:, 0])
        middle = (low + high) / 2 + v.shift * side[:, None] * rng.normal(2).clamp(-2, 2)
        scale = self.size / side
        return scale, self.size / 2 - scale[:, None] * middle

    def _light(self, rng):
        """A room and two lamps, tinted a little; as bright as cameras expose for. Made on the CPU: so few numbers would be a hundred kernels, and their constants waits for the device."""
        uniform, normal = rng.small, rng.small_normal
        tint = lambda amount: (1 + amount * normal(3)).clamp(0.5, 1.5)  # noqa: E731
        ambient = (0.12 + 0.4 * uniform(1)) * tint(0.08)
        total = fr.lighting.ambient_and_directional(ambient, torch.ones_like(ambient), torch.zeros_like(ambient))
        for strength in (1.0, 0.4):
            direction = normal(3) * torch.tensor([1.0, 0.6, 0.6]) + torch.tensor([0.0, 0.4, 0.8])
            rng.drawn += 6  # numbers that were drawn here once: the samples stay what they were
            intensity = strength * (0.2 + 1.1 * uniform(1)) * tint(0.12)
            total = total + fr.lighting.ambient_and_directional(torch.zeros_like(ambient), direction, intensity)
        return (total * (0.75 + 0.9 * uniform(1))[..., None]).contiguous().to(rng.device, non_blocking=True)

    def _background(self, rng):
        """Linear [N,H,W,3], grey where the randomization has none."""
        if not self.randomization.background:
            return (
                torch.full((1, self.size, self.size, 3), 0.4, device=rng.device)
                .expand(rng.count, -1, -1, -1)
                .contiguous()
            )
        image = F.interpolate(self._surroundings(rng), (self.size, self.size), mode="bilinear", align_corners=True)
        return image.clamp_(0, 1).permute(0, 2, 3, 1).contiguous()

    def _surroundings(self, rng):
        """Smooth noise of several widths in random colours, coarse: [N,3,41,41]."""
        image = 0.08 + 0.35 * (rng.uniform(1) + 0.5 * rng.uniform(3))[:, :, None, None]
        for cells, amount in (
            (3, 0.5),
            (7, 0.35),
            (17, 0.2),
            (41, 0.1),
        ):  # coarse to fine: only the last one is as large as the picture
            noise = rng.normal_field(3 * cells * cells).view(-1, 3, cells, cells)
            noise = noise.mean(1, keepdim=True) * 1.3 + 0.25 * noise  # mostly grey
            image = (
                F.interpolate(image, (cells, cells), mode="bilinear", align_corners=True)
                + amount * rng.uniform(1)[:, :, None, None] * noise
            )
        return image

    def _occlude(self, rng, image, mask):
        """Ellipses and bars of random colour and texture, such as hands, hair and microphones are to a blurred eye."""
        ys, xs = torch.meshgrid(*[torch.linspace(-1, 1, self.size, device=rng.device)] * 2, indexing="ij")
        for thing in range(2):
            some = rng.chosen(self.randomization.occluded / 1.5)
            middle, angle, radii = (
                (rng.uniform(2) * 1.8 - 0.9 + self._sway(rng, thing))[some],
                rng.uniform(1)[some] * math.pi,
                0.08 + 0.4 * rng.uniform(2)[some] ** 2,
            )
            bar, tint = (rng.uniform(1)[some] < 0.5)[..., None], rng.uniform(3)[some][:, None, None]
            c, s = angle.cos(), angle.sin()
            x, y = xs - middle[:, :1, None], ys - middle[:, 1:, None]
            u, v = (
                (c[..., None] * x + s[..., None] * y) / radii[:, :1, None],
                (c[..., None] * y - s[..., None] * x) / radii[:, 1:, None],
            )
            u2, v2 = u * u, v * v
            outside = torch.where(
                bar, u2 * u2 * u2 * u2 + v2 * v2 * v2 * v2, u2 + v2
            )  # nearly a rectangle, or an ellipse
            inside = ((1 - outside) * 8).clamp(0, 1)
            colour = tint**2 * (0.8 + 0.4 * (3 * u + 2 * v).sin())[..., None]
            image[some] = torch.lerp(image[some], colour, inside[..., None])
            mask[some] = mask[some] * (1 - inside)
        return image, mask

    def _sway(self, rng, thing):
        """How far one of the things before a face has moved from its place, [N,2] in halves of the picture."""
        return 0.0

    def _degrade(self, rng, image):
        """White balance, contrast, blur, noise, compression, and no colour; each where chance has it."""
        share = self.randomization.degraded
        gain = torch.where(rng.uniform(1) < share, torch.exp(0.12 * rng.normal(3)), 1.0)
        contrast = torch.where(rng.uniform(1) < share, torch.exp(0.2 * rng.normal(1)), 1.0)
        image = torch.addcmul((0.45 * (1 - contrast))[..., None, None], image, (gain * contrast)[..., None, None])
        some, deviation = rng.chosen(share), 0.3 + self.size / 112 * 1.3 * rng.uniform(1)[:, 0]
        image[some] = gaussian_blur(image[some], deviation[some])
        some, amount = rng.chosen(share), 0.04 * rng.uniform(1) ** 2
        image[some] += amount[some][..., None, None] * rng.noise(some, image.shape[1:])
        image.clamp_(0, 1)
        some, quality = rng.chosen(share), 15 + 80 * rng.uniform(1)[:, 0]
        image[some] = jpeg(image[some], quality[some])
        some = rng.chosen(0.05)
        image[some] = image[some].mean(1, keepdim=True).expand(-1, 3, -1, -1)
        return image


class CounterRNG:
    """Random numbers [N,k] for samples with keys of 63 bits: the n-th number of a sample is a hash of its key and n, so a sample does not depend on its batch, and
    there is no state. What decides (`chosen`) and other small numbers are made on the CPU, and no device is waited for; fields on the device."""

    def __init__(self, keys: list[int], device: torch.device):
        self.keys = torch.tensor([[k & _WORD, k >> 32] for k in keys], dtype=torch.int64).view(-1, 2)
        self.count, self.device, self.drawn = len(keys), device, 0
        self.field_keys = self.noise_keys = self.keys.to(device, non_blocking=True)

    def _bits(self, keys, k):
        """[N,k] int64, 32 random bits each."""
        counter = torch.arange(self.drawn, self.drawn + k, device=keys.device)
        self.drawn += k
        return _mixed(_mixed(counter * 0x9E3779B9 + keys[:, :1] & _WORD) ^ keys[:, 1:])

    def small(self, k) -> Tensor:
        """Uniform in 0..1, on the CPU."""
        return self._uniform(self.keys, k)

    def small_normal(self, k) -> Tensor:
        return _normal(self.small(k))

    def uniform(self, k) -> Tensor:
        return self.small(k).to(self.device, non_blocking=True)

    def normal(self, k) -> Tensor:
        return self.small_normal(k).to(self.device, non_blocking=True)

    def normal_field(self, k) -> Tensor:
        return _normal(self._uniform(self.field_keys, k))

    def _uniform(self, keys, k):
        return ((self._bits(keys, k) >> 8).float() + 0.5) * 2.0**-24

    def chosen(self, share) -> Tensor:
        """The places of the samples that chance chooses, int64."""
        return (self.small(1)[:, 0] < share).nonzero()[:, 0].to(self.device, non_blocking=True)

    def noise(self, some, shape) -> Tensor:
        """Normal noise [len(some),3,H,W] for some of the samples: three numbers of ten bits from each hash, through a table of quantiles."""
        _, h, w = shape
        bits = self._bits(self.noise_keys[some], h * w)
        table = _normal((torch.arange(1024, device=self.device) + 0.5) / 1024)
        return torch.stack([table[bits >> shift & 1023] for shift in (0, 10, 20)], 1).view(-1, 3, h, w)


_WORD = 0xFFFFFFFF


def _mixed(x):
    """A hash of 32 bits in int64, multipliers of Ettinger's search for low bias; in place."""
    x ^= x >> 16
    x.mul_(0x21F0AAAD).bitwise_and_(_WORD)
    x ^= x >> 15
    x.mul_(0xD35A2D97).bitwise_and_(_WORD)
    x ^= x >> 15
    return x


def _normal(uniform):
    return torch.erfinv(2 * uniform - 1) * math.sqrt(2)


def gaussian_blur(image: Tensor, deviation: Tensor) -> Tensor:
    """Gaussian blur of images [N,C,H,W], each with its own standard deviation [N] in pixels (at most about 3)."""
    n, c, h, w = image.shape
    if n == 0:
        return image
    reach = torch.arange(-6, 7, device=image.device)
    kernel = torch.exp(-0.5 * (reach / deviation[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, 0)[:, None]
    flat = F.pad(image.reshape(1, n * c, h, w), (6, 6, 6, 6), mode="replicate")
    flat = F.conv2d(F.conv2d(flat, kernel[:, :, None], groups=n * c), kernel[..., None], groups=n * c)
    return flat.view(n, c, h, w)


# The luminance table of the JPEG standard (ITU-T T.81, annex K).
_TABLE = [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
          18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]  # fmt: skip


def jpeg(image: Tensor, quality: Tensor) -> Tensor:
    """What JPEG leaves of images [N,3,H,W] in 0..1 at a quality [N] of 1..100: blocks of 8 by 8, cosine transform, rounding by the standard's
    table (the luminance one for all channels, no subsampling)."""
    n, c, h, w = image.shape
    if n == 0:
        return image
    padded = F.pad(image, (0, -w % 8, 0, -h % 8), mode="replicate")
    hp, wp = padded.shape[-2:]
    k = torch.arange(8, device=image.device, dtype=image.dtype)
    cosines = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * torch.where(
        k[:, None] == 0, math.sqrt(1 / 8), 0.5
    )
    transform = torch.kron(cosines, cosines)  # of a block's 64 pixels at once
    blocks = F.pixel_unshuffle(padded.reshape(n * c, 1, hp, wp), 8).flatten(2) * 255 - 128
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50).clamp(min=0.01)
    step = (
        (torch.tensor(_TABLE, dtype=image.dtype).to(image.device, non_blocking=True) * scale[:, None])
        .clamp(min=1)
        .repeat_interleave(c, 0)[..., None]
    )
    back = transform.T @ ((transform @ blocks).div_(step).round_().mul_(step))
    back = F.pixel_shuffle(back.view(n * c, 64, hp // 8, wp // 8), 8).view(n, c, hp, wp)
    return back.add_(128).div_(255).clamp_(0, 1)[..., :h, :w]
