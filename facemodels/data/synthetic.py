"""Synthetic faces: random people of a morphable model under random pose, light and camera, with every label.

They stand before random backgrounds and behind random occluders, and a random camera blurs, degrades and compresses the
picture. The supply is endless, and the same numbers give the same samples. Rendering runs on the device of the model,
in one pass of `facerender.render_face`. The random numbers of a sample are hashes of (seed, step, sample), so a sample
does not depend on the batch or the process that renders it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

import facerender as fr
from facemodels.core.parameters import flip_y
from facemodels.core.seeding import seed_of
from facemodels.data import FaceBatch
from facemodels.data.counter_rng import CounterRNG
from facemodels.data.degradations import gaussian_blur, jpeg
from facemodels.models.morphable import MorphableModel
from facemodels.models.sampling import EXPRESSIONS, mixed_expressions
from facerender.color import to_srgb

RNG = TypeVar("RNG", bound=CounterRNG)


@dataclass
class RandomizationConfig:
    """How much rendered faces vary."""

    # pose, degrees
    yaw: float = 90.0  # largest
    frontal: float = 0.5  # share of faces whose yaw is normal with 20 degrees instead of uniform
    pitch: float = 12.0  # standard deviation
    roll: float = 10.0  # standard deviation
    # place in the picture
    box: tuple[float, float] = (1.25, 1.6)  # side of the picture over that of the landmarks' square, lowest and highest
    shift: float = 0.04  # standard deviation of the square's center, over the picture's side
    # looks
    occluded: float = 0.3  # share with something in front of the face
    degraded: float = 0.5  # share with each of white balance, contrast, blur, noise and compression
    expressive: float = 0.8  # share with an expression
    background: float = 1.0  # 0: plain gray


class _Camera(NamedTuple):
    """Cameras of N faces, and what they see of the landmarks.

    Attributes:
        rotation: [N,3,3].
        scale: [N], pixels per mm.
        translation: [N,2], pixels from the lower left corner, y up.
        landmarks: [N,L,2] pixels, y down.
        depth: [N,L], depth of the landmarks toward the camera, mm.
    """

    rotation: Tensor
    scale: Tensor
    translation: Tensor
    landmarks: Tensor
    depth: Tensor


class _Scene(NamedTuple):
    """Faces before they are drawn.

    Attributes:
        identity: [N,I].
        expression: [N,E].
        albedo: [N,A], or None.
        light: [N,9,3].
        vertices: [N,V,3] mm, without rotation.
        camera: where they stand.
        person: int64 [N], or None.
    """

    identity: Tensor
    expression: Tensor
    albedo: Tensor | None
    light: Tensor
    vertices: Tensor
    camera: _Camera
    person: Tensor | None = None

    def batch(self) -> FaceBatch:
        """The labels: a batch with an image of [N,3,0,0], without mask and visible."""
        return FaceBatch(
            torch.empty(len(self.vertices), 3, 0, 0, device=self.vertices.device),
            self.camera.landmarks,
            identity=self.identity,
            expression=self.expression,
            albedo=self.albedo,
            rotation=self.camera.rotation,
            scale=self.camera.scale,
            translation=self.camera.translation,
            light=self.light,
            person=self.person,
        )


class Synthetic(Generic[RNG]):
    """Endless rendered faces of a model.

    ``Synthetic(model, 112)(seed, step, range(32))`` renders samples 0 to 31 of a step. No gradients flow.

    Args:
        model: the morphable model; its device renders.
        size: side of the pictures in pixels.
        randomization: how much faces vary; None for the defaults.
    """

    def __init__(self, model: MorphableModel, size: int, randomization: RandomizationConfig | None = None) -> None:
        self.model, self.size, self.randomization = model, size, randomization or RandomizationConfig()

    @torch.no_grad()
    def __call__(self, seed: int, step: int, indices: range) -> FaceBatch:
        """Render samples of a step.

        Args:
            seed: seed of the run.
            step: number of the batch.
            indices: numbers of the samples within the batch.

        Returns:
            A batch with image [N,3,size,size] in 0..1 and every label.
        """
        rng = self._rng(seed, step, indices)
        scene = self._scene(rng)
        vertices, camera, size = scene.vertices, scene.camera, (self.size, self.size)
        clip = fr.camera.weak_perspective(vertices, camera.scale, camera.rotation, camera.translation, size)
        normals = fr.vertex_normals(vertices, self.model.topology) @ camera.rotation.transpose(1, 2)
        background = self._background(rng)
        colors = torch.full_like(vertices[:1], 0.45) if scene.albedo is None else self.model.albedo(scene.albedo)
        image, face_id = fr.render_face(
            clip, normals, colors, scene.light, self.model.topology, size, background=background
        )
        image, mask = self._occlude(rng, image, (face_id >= 0).float())
        image = self._degrade(rng, to_srgb(image).permute(0, 3, 1, 2).contiguous())
        visible = self._visible(camera, vertices @ camera.rotation[:, 2, :, None], face_id, mask)
        return replace(scene.batch(), image=image, mask=mask, visible=visible)

    @torch.no_grad()
    def labels(self, seed: int, step: int, indices: range) -> FaceBatch:
        """Return the labels of the same faces without drawing them: image is [N,3,0,0], mask and visible are None."""
        return self._scene(self._rng(seed, step, indices)).batch()

    def _rng(self, seed: int, step: int, indices: range) -> RNG:
        rng = CounterRNG([seed_of(seed, step, i) for i in indices], self.model.mean.device)
        return rng  # type: ignore[return-value] # subclasses with another RNG override this

    def _scene(self, rng: RNG) -> _Scene:
        identity, albedo = self._identity(rng)
        expression = self._expression(rng)
        vertices = self.model.shape(identity, expression)
        rotation = fr.camera.euler_rotation(self._angles(rng))
        camera = self._place(vertices, rotation, lambda points: self._camera(rng, points))
        return _Scene(identity, expression, albedo, self._light(rng), vertices, camera)

    def _place(self, vertices: Tensor, rotation: Tensor, camera: Callable[[Tensor], tuple[Tensor, Tensor]]) -> _Camera:
        """Place heads before the camera.

        Args:
            vertices: [N,V,3] mm.
            rotation: [N,3,3].
            camera: takes the rotated landmarks [N,L,2] in mm and returns scale [N] and translation [N,2].
        """
        rotated = self.model.landmarks(vertices) @ rotation.transpose(1, 2)
        scale, translation = camera(rotated[..., :2])
        pixels = flip_y(rotated[..., :2] * scale[:, None, None] + translation[:, None], self.size)
        return _Camera(rotation, scale, translation, pixels, rotated[..., 2])

    def _visible(self, camera: _Camera, surface: Tensor, face_id: Tensor, mask: Tensor) -> Tensor:
        """Whether landmarks can be seen, bool [N,L].

        A landmark must be in the picture, not occluded, and not behind the surface drawn at its pixel by more than 8
        mm, the accuracy of the model's lips, lids and contour.

        Args:
            camera: with the landmarks.
            surface: [N,V,1], depth of the vertices toward the camera, mm.
            face_id: [N,H,W], the triangle at each pixel, -1 for none.
            mask: [N,H,W].
        """
        pixels, last = camera.landmarks, self.size - 1
        n = torch.arange(len(pixels), device=pixels.device)[:, None]
        column, row = pixels.long().clamp(0, last).unbind(-1)
        drawn = face_id[n, row, column]
        corners = self.model.topology.faces[drawn.clamp(min=0).long()].long()  # [N,L,3]
        front = surface[n[..., None], corners, 0].mean(-1)
        inside = ((pixels >= 0) & (pixels < self.size)).all(-1)
        return inside & ((drawn < 0) | ((camera.depth > front - 8) & (mask[n, row, column] > 0.5)))

    def _identity(self, rng: CounterRNG) -> tuple[Tensor, Tensor | None]:
        """Draw identity [N,I] and albedo [N,A], None for a model without."""
        m = self.model
        identity = rng.normal(m.num_identity).clamp(-2.5, 2.5)
        return identity, rng.normal(m.num_albedo).clamp(-2.5, 2.5) if m.num_albedo else None

    def _expression(self, rng: CounterRNG) -> Tensor:
        m = self.model
        if m.blendshapes:
            pick = (rng.cpu_uniform(2) * len(EXPRESSIONS)).long()
            expression = mixed_expressions(m, pick, rng.cpu_uniform(2), rng.cpu_uniform(m.num_expression)).to(
                rng.device, non_blocking=True
            )
        else:
            expression = 0.8 * rng.normal(m.num_expression).clamp(-2.5, 2.5)
        return expression * (rng.uniform(1) < self.randomization.expressive)

    def _angles(self, rng: CounterRNG) -> Tensor:
        """Draw pitch, yaw and roll [N,3], radians."""
        r = self.randomization
        uniform = (rng.uniform(1) * 2 - 1) * r.yaw
        yaw = torch.where(rng.uniform(1) < r.frontal, (20 * rng.normal(1)).clamp(-r.yaw, r.yaw), uniform)
        pitch, roll = r.pitch * rng.normal(1).clamp(-2.5, 2.5), r.roll * rng.normal(1).clamp(-2.5, 2.5)
        return torch.cat([pitch, yaw, roll], 1) * (math.pi / 180)

    def _camera(self, rng: RNG, points: Tensor) -> tuple[Tensor, Tensor]:
        """Draw scale [N] and translation [N,2] that put the square around landmarks [N,L,2] mm into the picture."""
        r = self.randomization
        low, high = points.amin(1), points.amax(1)
        side = (high - low).amax(-1) * (r.box[0] + (r.box[1] - r.box[0]) * rng.uniform(1)[:, 0])
        center = (low + high) / 2 + r.shift * side[:, None] * rng.normal(2).clamp(-2, 2)
        scale = self.size / side
        return scale, self.size / 2 - scale[:, None] * center

    def _light(self, rng: CounterRNG) -> Tensor:
        """Draw light [N,9,3]: ambient and two lamps, slightly tinted, as bright as cameras expose for.

        Computed on the CPU: on a device, so few numbers would be a hundred kernels, and their constants would wait for
        it.
        """
        uniform, normal = rng.cpu_uniform, rng.cpu_normal

        def tint(amount: float) -> Tensor:
            return (1 + amount * normal(3)).clamp(0.5, 1.5)

        ambient = (0.12 + 0.4 * uniform(1)) * tint(0.08)
        total = fr.lighting.ambient_and_directional(ambient, torch.ones_like(ambient), torch.zeros_like(ambient))
        for strength in (1.0, 0.4):
            direction = normal(3) * torch.tensor([1.0, 0.6, 0.6]) + torch.tensor([0.0, 0.4, 0.8])
            rng.position += 6  # six numbers no longer used; skipping them keeps all samples as they were
            intensity = strength * (0.2 + 1.1 * uniform(1)) * tint(0.12)
            total = total + fr.lighting.ambient_and_directional(torch.zeros_like(ambient), direction, intensity)
        return (total * (0.75 + 0.9 * uniform(1))[..., None]).contiguous().to(rng.device, non_blocking=True)

    def _background(self, rng: RNG) -> Tensor:
        """Draw backgrounds, linear [N,H,W,3]."""
        if not self.randomization.background:
            return (
                torch.full((1, self.size, self.size, 3), 0.4, device=rng.device)
                .expand(rng.count, -1, -1, -1)
                .contiguous()
            )
        image = F.interpolate(self._surroundings(rng), (self.size, self.size), mode="bilinear", align_corners=True)
        return image.clamp_(0, 1).permute(0, 2, 3, 1).contiguous()

    def _surroundings(self, rng: CounterRNG) -> Tensor:
        """Draw smooth noise of several widths in random colors, [N,3,41,41]."""
        image = 0.08 + 0.35 * (rng.uniform(1) + 0.5 * rng.uniform(3))[:, :, None, None]
        for cells, amount in ((3, 0.5), (7, 0.35), (17, 0.2), (41, 0.1)):  # coarse to fine
            noise = rng.normal_field(3 * cells * cells).view(-1, 3, cells, cells)
            noise = noise.mean(1, keepdim=True) * 1.3 + 0.25 * noise  # mostly gray
            image = (
                F.interpolate(image, (cells, cells), mode="bilinear", align_corners=True)
                + amount * rng.uniform(1)[:, :, None, None] * noise
            )
        return image

    def _occlude(self, rng: RNG, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Draw up to two occluders over images [N,H,W,3] and take them out of masks [N,H,W].

        Ellipses and bars of random color and stripes: what hands, hair and microphones are to a blurred eye.
        """
        ys, xs = torch.meshgrid(*[torch.linspace(-1, 1, self.size, device=rng.device)] * 2, indexing="ij")
        for occluder in range(2):
            some = rng.choose(self.randomization.occluded / 1.5)
            center, angle, radii = (
                (rng.uniform(2) * 1.8 - 0.9 + self._occluder_motion(rng, occluder))[some],
                rng.uniform(1)[some] * math.pi,
                0.08 + 0.4 * rng.uniform(2)[some] ** 2,
            )
            bar, tint = (rng.uniform(1)[some] < 0.5)[..., None], rng.uniform(3)[some][:, None, None]
            c, s = angle.cos(), angle.sin()
            x, y = xs - center[:, :1, None], ys - center[:, 1:, None]
            u, v = (
                (c[..., None] * x + s[..., None] * y) / radii[:, :1, None],
                (c[..., None] * y - s[..., None] * x) / radii[:, 1:, None],
            )
            u2, v2 = u * u, v * v
            outside = torch.where(
                bar, u2 * u2 * u2 * u2 + v2 * v2 * v2 * v2, u2 + v2
            )  # nearly a rectangle, or an ellipse
            inside = ((1 - outside) * 8).clamp(0, 1)
            color = tint**2 * (0.8 + 0.4 * (3 * u + 2 * v).sin())[..., None]
            image[some] = torch.lerp(image[some], color, inside[..., None])
            mask[some] = mask[some] * (1 - inside)
        return image, mask

    def _occluder_motion(self, rng: RNG, occluder: int) -> Tensor | float:
        """How far an occluder has moved from its place, [N,2] in halves of the picture."""
        return 0.0

    def _degrade(self, rng: RNG, image: Tensor) -> Tensor:
        """Degrade images [N,3,H,W] as cameras do, each step on its share of the images.

        White balance, contrast, blur, noise, compression, and now and then no color.
        """
        share = self.randomization.degraded
        gain = torch.where(rng.uniform(1) < share, torch.exp(0.12 * rng.normal(3)), 1.0)
        contrast = torch.where(rng.uniform(1) < share, torch.exp(0.2 * rng.normal(1)), 1.0)
        image = torch.addcmul((0.45 * (1 - contrast))[..., None, None], image, (gain * contrast)[..., None, None])
        some, deviation = rng.choose(share), 0.3 + self.size / 112 * 1.3 * rng.uniform(1)[:, 0]
        image[some] = gaussian_blur(image[some], deviation[some])
        some, amount = rng.choose(share), 0.04 * rng.uniform(1) ** 2
        image[some] += amount[some][..., None, None] * rng.noise(some, image.shape[1:])
        image.clamp_(0, 1)
        some, quality = rng.choose(share), 15 + 80 * rng.uniform(1)[:, 0]
        image[some] = jpeg(image[some], quality[some])
        some = rng.choose(0.05)
        image[some] = image[some].mean(1, keepdim=True).expand(-1, 3, -1, -1)
        return image
