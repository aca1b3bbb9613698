"""Fitting a model to a photo with landmarks: `fit_image`. (`fit_mesh`, for meshes and scans, is in `fit_scan`.)

Analysis by synthesis as of Blanz and Vetter (1999): pose in closed form and a Gauss-Newton fit of pose and shape to the landmarks (`fit_landmarks`); spherical-harmonic
light (Ramamoorthi and Hanrahan 2001) by linear least squares on the pixels; at last camera, shape, light and albedo together by Adam on the rendered
picture, with a robust penalty, since a photo shows hair, glasses and hands that the model cannot. If it is asked for, the outline of the face is looked for in the photo, too (`outline`).
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import facerender as fr
from facemodels.core.alignment import Similarity
from facemodels.core.camera import POSE, Camera
from facemodels.core.errors import InputError
from facemodels.core.landmarks import BROWS, landmark_means
from facemodels.fitting.landmarks import Labels, fit_landmarks, labels_of
from facemodels.fitting.least_squares import coefficients_of
from facemodels.fitting.outline import outline_offsets
from facemodels.models.morphable import ModelOutput, MorphableModel
from facerender.color import to_linear, to_srgb

RASTER = 224  # pixels a side that the face is rendered at
SIGMA = 0.01  # the least deviation of a pixel's colour that is believed, relative to the face's brightness
BLOCK = 32  # pixels a side of the blocks over which errors of neighbours are taken to go together
# Deviations of the coefficients of bands 1 and 2 relative to band 0's: a lamp alone has 1.15 and 0.56 in all (over 3 and 5 coefficients), daylight less.
LIGHT = (0.5,) * 3 + (0.2,) * 5
PRESET = "standard"
OUTLINE = 1.0, 8.0  # pixels of the raster: the deviation of an outline, and along it how far its errors go together


class Weights(NamedTuple):
    """What counts how much in the photometric stage. picture: in units of what as many independent pixels say as its errors show. landmarks. shape: the prior of identity and expression. outline: of
    the face below the brows, where nothing of the head lies behind it; 0: it is not looked for. The priors of albedo and light count once."""

    picture: float = 1.0
    landmarks: float = 1.0
    shape: float = 1.0
    outline: float = 0.0


@dataclass
class Fit:
    """What a fit found. Tensors have a batch of 1.

    identity [1,I], expression [1,E], albedo [1,A] or None: coefficients. joints [1,J,3] rotation vectors, or None for a model without.
    camera: in pixels of the photo (None of a fit to a mesh). light: [1,9,3], spherical harmonics of preset "standard", in camera space; None without.
    placement: of a fit to a mesh, from the model's millimetres to the mesh's coordinates; else None.
    landmarks: [L,2] in the photo ([L,3] in the mesh's coordinates), the fitted ones of those that were given; landmark_error: their mean distance
        in pixels (in millimetres).
    history: what the fit leaves in each iteration of the last stage: the deviation of the face's colours relative to its brightness (of a mesh, the
        mean distance of its surface in mm).
    """

    identity: Tensor
    expression: Tensor
    albedo: Tensor | None = None
    joints: Tensor | None = None
    camera: Camera | None = None
    light: Tensor | None = None
    placement: Similarity | None = None
    landmarks: Tensor | None = None
    landmark_error: float | None = None
    history: list[float] = field(default_factory=list)

    def face(self, model: MorphableModel) -> ModelOutput:
        """The fitted face in the model's own coordinates."""
        return model(self.identity, self.expression, self.albedo, self.joints)

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it but the history as float32 arrays, by name: what `facemodels fit` writes and `facemodels transfer` reads."""
        found = {
            name: getattr(self, name) for name in ("identity", "expression", "albedo", "joints", "light", "landmarks")
        }
        if self.camera is not None:
            c = self.camera
            found |= {
                "scale": c.scale,
                "rotation": c.rotation,
                "translation": c.translation,
                "focal": c.focal,
                "center": c.center,
                "size": c.size,
            }
        if self.placement is not None:
            found |= dict(zip(("scale", "rotation", "translation"), self.placement))
        return {
            name: np.asarray(value.cpu() if isinstance(value, Tensor) else value, np.float32)
            for name, value in found.items()
            if value is not None
        }


def fit_image(
    image,
    landmarks,
    model: MorphableModel,
    contour: str = "moving",
    focal: float = math.inf,
    iterations: int = 400,
    weights: Weights = Weights(),
    hold_expression: bool = False,
    progress: bool = True,
) -> Fit:
    """Fits a model to a photo.

    Args:
        image: [H,W,3], uint8 or floats 0..1, sRGB.
        landmarks: [L,2] pixels, L = 68 (iBUG), 21 (AFLW) or 5, as `read_landmarks` gives them; NaN for missing ones.
        contour: "moving" where the first 17 of 68 lie on the outline of the face that the photo shows (as people mark them), "static" where they are
            fixed places of the head whether seen or not (300W-LP and AFLW2000-3D).
        focal: focal length in pixels, if it is known; else scaled orthography, which is right for what is not too near. iterations: of the
            photometric stage; 0 for none (a model without albedo has none). weights: of what counts there. hold_expression: the expression stays as the landmarks
            have it.
        progress: shows a bar on a terminal.

    Returns:
        `Fit`, on the model's device.

    Raises:
        InputError: too few landmarks, or they do not fit an image of this size. ValueError: an argument of a wrong shape.
    """
    photo = linear_photo(image).to(model.mean.device)
    labels = to_tensor(landmarks).to(photo.device, torch.float64)
    if labels.dim() != 2 or labels.shape[1] != 2:
        raise ValueError(f"landmarks must be [L,2], got {list(labels.shape)}")
    if float((labels[:, None] - labels).norm(dim=-1).nan_to_num().max()) < 2:
        raise InputError(
            "the landmarks lie within two pixels; they must be pixels of the photo, not shares of its size"
        )
    size = tuple(photo.shape[:2])
    layout = coefficients_of(model)
    known = labels_of(model, labels, contour)
    camera, x, deviation = fit_landmarks(model, layout, known, size, (size[1] / 2, size[0] / 2), focal, contour)
    scene = _Scene(model, layout, photo, known, contour, deviation, camera, x, weights)
    scene.solve_light()
    history = scene.descend(iterations, hold_expression, progress) if iterations and model.num_albedo else []
    fit = scene.result(history)
    fit.landmarks = landmark_means(len(labels)).to(fit.landmarks) @ fit.landmarks
    fit.landmark_error = float((fit.landmarks - labels).norm(dim=-1).nanmean())
    return fit


class _Scene:
    """A face before the camera, in a raster of RASTER pixels around it: what the photometric stage moves."""

    def __init__(self, model, layout, photo, labels, contour, deviation, camera, x, weights):
        self.model, self.layout, self.contour, self.deviation, self.weights = model, layout, contour, deviation, weights
        self.region = face_triangles(model)
        # Hair hides foreheads more often than anything hides the rest, so light and noise are measured below.
        brows = model.landmarks(model.mean[None])[0, BROWS][model.has_landmark[BROWS]]
        height = float(brows[:, 1].max()) + 5 if len(brows) else torch.inf
        self.core = self.region & (model.mean[model.faces.long(), 1].amax(1) < height)
        self.border = self.region & (model.topology.neighbours < 0).any(1)
        self.x = x.float()
        vertices = self.shape(self.x)
        seen = camera.to(torch.float32).pixels(vertices[:, model.faces[self.region].unique().long()])[0]
        low, high = seen.amin(0), seen.amax(0)
        side = 1.1 * float((high - low).max())
        self.offset = tuple(((low + high) / 2 - side / 2).tolist())
        self.factor = RASTER / side
        self.labels = Labels(
            self.factor * (labels.points.float() - labels.points.new_tensor(self.offset).float()),
            labels.means.float(),
            labels.spread.float(),
        )
        self.photo_size = tuple(photo.shape[:2])
        self.photo, self.inside = cut_out(photo, self.offset, side, RASTER)
        self.srgb = to_srgb(self.photo)
        self.camera = camera.to(torch.float32).resampled(self.factor, self.offset, (RASTER, RASTER))
        self.albedo = torch.zeros(model.num_albedo, device=photo.device)
        self.light = torch.zeros(9, 3, device=photo.device)

    def shape(self, x):
        identity, expression, _ = self.layout.split(x[None])
        return self.model.shape(identity, expression, self.joints(x))

    def joints(self, x):
        return self.layout.joint_rotations(x, len(self.model.joints))[None] if self.model.joints else None

    def colours(self, albedo):
        """[1,V,3]; a model without albedo is white, and its light takes the skin's colour."""
        return self.model.albedo(albedo[None]) if self.model.num_albedo else torch.ones_like(self.model.mean)[None]

    def normals(self, vertices, camera):
        return fr.vertex_normals(vertices, self.model.topology) @ camera.rotation.transpose(-1, -2)

    def skin(self, face_id, triangles):
        """[1,H,W] bool: pixels that see some triangles, bool [F], and lie in the photo; not the outermost, which the photo mixes with what lies behind."""
        return self.seen(face_id, triangles) & ~outermost(face_id)

    def seen(self, face_id, triangles):
        """[1,H,W] bool: the same with the outermost."""
        return (
            torch.cat([triangles, triangles.new_zeros(1)])[face_id.long()] & self.inside
        )  # -1, the background, is the last

    @torch.no_grad()
    def solve_light(self, rounds=4):
        """Linear least squares for the light on the mean albedo, with outliers weighed down."""
        vertices = self.shape(self.x)
        normals = torch.nn.functional.normalize(self.normals(vertices, self.camera), dim=-1)
        fragments = fr.rasterize(self.camera.clip(vertices), self.model.topology, (RASTER, RASTER))
        skin = self.skin(fragments.face_id, self.core)[0]
        if skin.sum() < 50:
            raise InputError(
                "the face that the landmarks show lies outside the photo, or is turned away from the camera"
            )

        def at(values):
            return fr.interpolate(values, self.model.topology, fragments)[0][skin]

        target, basis = (
            self.photo[skin],
            fr.lighting.sh_basis(torch.nn.functional.normalize(at(normals), dim=-1), PRESET),
        )  # [M,3], [M,9]
        self.bright = float(target.mean().clamp(min=1e-3))
        albedo, weight = at(self.colours(self.albedo)), torch.ones_like(target[:, 0])
        self.ambient = float(target.mean() / albedo.mean() / basis[0, 0])  # if the light came from everywhere
        precision = (self.ambient * basis.new_tensor((1.0,) + LIGHT)) ** -2
        for _ in range(rounds):
            square = (target - albedo * (basis @ self.light)).square().sum(-1)
            if self.light.any():
                weight = 1 / (1 + square / (7 * square.median())) ** 2
            count = (
                100 / weight.sum() / (0.15 * self.bright) ** 2
            )  # as many independent pixels as a first look deserves, 15 % off
            for c in range(3):
                rows = albedo[:, c, None] * basis
                normal, right = rows.T @ (rows * weight[:, None]) * count, rows.T @ (weight * target[:, c]) * count
                right[0] += precision[0] * self.ambient
                self.light[:, c] = torch.linalg.solve(normal + precision.diag(), right)

    def energy(self, pose, x, albedo, light):
        """The negative log posterior of it all, and the deviation of the colours."""
        camera = self.camera.moved(pose)
        vertices = self.shape(x)
        normals = self.normals(vertices, camera)
        clip, size = camera.clip(vertices), (RASTER, RASTER)
        picture, face_id = fr.render_face(
            clip, normals, self.colours(albedo), light[None], self.model.topology, size, self.photo[None], PRESET
        )
        skin = self.skin(face_id, self.region)
        difference = (picture - self.photo) / self.bright
        with torch.no_grad():
            sigma, count = _noise(difference, skin, self.skin(face_id, self.core))
        square = (difference / sigma).square().sum(-1)
        weights = self.weights
        photometric = weights.picture * count * torch.where(skin, _robust(square), 0).sum() / skin.sum().clamp(min=1)
        light_energy = ((light / self.ambient)[1:] / light.new_tensor(LIGHT)[:, None]).square().sum() / 2
        landmark_energy = weights.landmarks * self.labels.energy(
            self.landmarks(camera, vertices), self.deviation * self.camera.scale
        )
        prior = (weights.shape * (self.layout.precision * x * x).sum() + albedo.square().sum()) / 2
        outline_energy = (
            weights.outline * self.outline_energy(camera, vertices, normals, face_id) if weights.outline else 0
        )
        return photometric + light_energy + landmark_energy + outline_energy + prior, sigma

    def outline_energy(self, camera, vertices, normals, face_id):
        """How far the outline of the face that is drawn lies from the photo's; foreheads have none, since hair lies over them, and nor has the border of a mesh, where the head goes on."""
        deviation, together = OUTLINE
        border = grown(self.seen(face_id, self.border), 2)
        corners = self.model.faces[
            face_id[self.seen(face_id, self.core) & outermost(face_id) & ~border].long()
        ].long()  # [M,3]
        points = camera.pixels(vertices[:, corners.flatten()])[0].view(-1, 3, 2).mean(1)
        across = normals[0][corners].detach().mean(1)[:, :2] * normals.new_tensor(
            [1.0, -1.0]
        )  # of a surface seen edge on
        across = torch.nn.functional.normalize(across, dim=-1)
        offset, found = outline_offsets(self.srgb, points.detach(), across)
        distance = ((points - points.detach()) * across).sum(-1) - offset
        return torch.where(found, _robust((distance / deviation).square()), 0).sum() / together

    def landmarks(self, camera, vertices):
        """[68,2] in the camera's raster."""
        return camera.pixels(self.model.landmarks(vertices, camera.rotation if self.contour == "moving" else None))[0]

    def descend(self, iterations, hold_expression, progress):
        pose = torch.zeros(POSE, device=self.x.device)
        free = [pose, self.x, self.albedo, self.light]
        pose_units, shape_units = (
            pose.new_tensor([0.003, 0.005, 0.005, 0.005, 0.3, 0.3]),
            0.1 / self.layout.precision.float().sqrt(),
        )
        if hold_expression:
            self.layout.split(shape_units[None])[1].zero_()
        units = [
            pose_units,
            shape_units,
            torch.full_like(self.albedo, 0.05),
            0.01 * self.light.abs().mean(),
        ]  # what Adam's first steps are
        steps = [torch.zeros_like(f).requires_grad_() for f in free]
        bounds = [
            (bound.float() - self.x) / units[1].clamp(min=1e-12) for bound in (self.layout.lower, self.layout.upper)
        ]
        optimiser = torch.optim.Adam(steps, lr=1.0, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda k: min(1, 10 * (k + 1) / iterations) * (1 + math.cos(math.pi * k / iterations)) / 2
        )
        history = []
        for _ in tqdm(range(iterations), "light, albedo and shape", disable=None if progress else True, leave=False):
            optimiser.zero_grad()
            pose, x, albedo, light = (f + s * u for f, s, u in zip(free, steps, units))
            energy, sigma = self.energy(pose, x, albedo, light)
            energy.backward()
            optimiser.step()
            schedule.step()
            history.append(sigma)
            with torch.no_grad():
                steps[1].clamp_(*bounds)
        with torch.no_grad():
            pose, self.x, self.albedo, self.light = (f + s * u for f, s, u in zip(free, steps, units))
            self.x = self.x.clamp(self.layout.lower.float(), self.layout.upper.float())  # to the last bit
            self.camera = self.camera.moved(pose)
        return torch.stack(history).tolist()

    @torch.no_grad()
    def result(self, history):
        identity, expression, _ = self.layout.split(self.x[None])
        vertices = self.shape(self.x)
        camera = self.camera.resampled(1 / self.factor, tuple(-self.factor * o for o in self.offset), self.photo_size)
        landmarks = self.landmarks(camera, vertices)
        albedo = self.albedo[None] if self.model.num_albedo else None
        return Fit(
            identity,
            expression,
            albedo,
            self.joints(self.x),
            camera,
            self.light[None],
            landmarks=landmarks,
            history=history,
        )


def _noise(difference, skin, core):
    """What the photo's noise and all that the model cannot show amount to: the deviation of a colour (from the median over the core, so that outliers
    do not count), and how many independent pixels the skin's [1,H,W] make, by how much less means over blocks of the difference [1,H,W,3] vary than pixels."""
    square = difference.square().sum(-1)
    sigma = (
        (square[core].median() / 2.37).sqrt().clamp(min=SIGMA)
    )  # 2.37: the median of chi-squared with 3 degrees of freedom
    kept = (skin & (square < 16 * sigma**2)).float()[:, None]
    mean = torch.nn.functional.avg_pool2d(torch.where(kept.bool(), difference.movedim(-1, 1), 0), BLOCK)
    share = torch.nn.functional.avg_pool2d(kept, BLOCK)
    of_blocks = (mean.square().sum(1, keepdim=True) / share.clamp(min=1e-6)).sum() / share.sum()
    of_pixels = square[kept[:, 0].bool()].mean()
    return sigma, kept.sum() / BLOCK**2 * (of_pixels / of_blocks.clamp(min=1e-12)).clamp(1, BLOCK**2)


def _robust(square):
    """Geman and McClure's penalty of squared errors in units of the deviation: of square / 2 near zero, and never above 8."""
    return 8 * square / (16 + square)


def outermost(face_id: Tensor) -> Tensor:
    """bool [1,H,W]: pixels of what is drawn that touch the background, and the background."""
    return grown(face_id < 0, 1)


def grown(mask: Tensor, reach: int) -> Tensor:
    """bool [N,H,W]: pixels within so many, also diagonally, of one of the mask's, bool [N,H,W]."""
    return torch.nn.functional.max_pool2d(mask.float()[:, None], 2 * reach + 1, 1, reach)[:, 0] > 0


def face_triangles(model: MorphableModel) -> Tensor:
    """bool [F]: triangles of the region "face", of everything where a model has no such region."""
    if "face" not in model.regions:
        return torch.ones(len(model.faces), dtype=torch.bool, device=model.faces.device)
    member = torch.zeros(model.num_vertices, dtype=torch.bool, device=model.faces.device)
    member[model.regions["face"].to(member.device)] = True
    return member[model.faces.long()].all(1)


def cut_out(photo: Tensor, offset: tuple[float, float], side: float, pixels: int) -> tuple[Tensor, Tensor]:
    """The square of `side` pixels of a photo [H,W,3] at `offset` (x, y), in a raster of `pixels` a side: (colours [pixels,pixels,3], area averaged where
    it shrinks, and bool [pixels,pixels]: what lies within the photo). What lies outside repeats its border."""
    height, width = photo.shape[:2]
    planes, factor = photo.movedim(-1, 0)[None], pixels / side
    if factor < 1:  # shrink the whole photo first, so that the bilinear samples below miss nothing
        small = (max(1, round(height * factor)), max(1, round(width * factor)))
        planes = torch.nn.functional.interpolate(planes, small, mode="area")
    centre = (torch.arange(pixels, device=photo.device) + 0.5) / factor
    x, y = (offset[0] + centre) * (2 / width) - 1, (offset[1] + centre) * (2 / height) - 1
    grid = torch.stack([x[None].expand(pixels, -1), y[:, None].expand(-1, pixels)], -1)
    picture = torch.nn.functional.grid_sample(planes, grid[None], padding_mode="border", align_corners=False)[
        0
    ].movedim(0, -1)
    return picture.contiguous(), (grid.abs() <= 1).all(-1)


def to_tensor(values) -> Tensor:
    return values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))


def linear_photo(image) -> Tensor:
    """An sRGB picture [H,W,3], uint8 or floats 0..1, as linear float32."""
    image = to_tensor(image)
    if image.dim() != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"image must be [H,W,3], got {list(image.shape)}")
    return to_linear(image.float() / 255 if image.dtype == torch.uint8 else image.float())
