"""A model fitted to a photo with landmarks: `fit_image`.

Analysis by synthesis (Blanz and Vetter 1999) in three stages: pose and shape from the landmarks (`landmarks`);
spherical-harmonic light (Ramamoorthi and Hanrahan 2001) by linear least squares on the pixels; then camera, shape,
light and albedo together by Adam on the rendered picture, with a robust penalty, since photos show hair, glasses and
hands that the model lacks. On request, the outline of the face is searched in the photo, too (`outline`).
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

import facerender as fr
from facemodels.core.camera import POSE, Camera
from facemodels.core.errors import InputError
from facemodels.core.landmarks import BROWS, check_count
from facemodels.core.progress import progress as core_progress
from facemodels.fitting.judge import check_turn, judged_error, mean_error, photo_doubts, warn_of
from facemodels.fitting.landmarks import Labels, fit_landmarks, fitted_landmarks, known_labels
from facemodels.fitting.least_squares import CoefficientLayout, coefficient_layout
from facemodels.fitting.outline import outline_offsets
from facemodels.fitting.raster import (
    crop_photo,
    dilate,
    face_triangles,
    linear_photo,
    outermost,
    to_tensor,
)
from facemodels.fitting.result import Fit
from facemodels.models.load import load_model
from facemodels.models.morphable import MorphableModel
from facerender.color import to_srgb

RASTER = 224  # pixels a side that the face is rendered at
MIN_SIGMA = 0.01  # least standard deviation of a pixel's color, relative to the face's brightness
BLOCK = 32  # pixels a side of the blocks within which errors of neighbors are correlated
# Deviations of the light's coefficients of bands 1 and 2 relative to band 0's. A lamp alone has 1.15 and 0.56 in all,
# over 3 and 5 coefficients; daylight has less.
LIGHT_DEVIATIONS = (0.5,) * 3 + (0.2,) * 5
PRESET = "standard"  # of the spherical harmonics
OUTLINE_DEVIATION = 1.0  # pixels of the raster
OUTLINE_CORRELATION = 8.0  # pixels along the outline over which its errors are correlated


class Weights(NamedTuple):
    """Weights of the terms of the photometric stage. The priors of albedo and light have weight 1.

    Attributes:
        picture: Photometric weight, relative to the effective number of independent pixels.
        landmarks: Weight of the landmarks.
        shape: Weight of the prior of identity and expression.
        outline: Weight of the outline of the face below the brows, where nothing of the head lies behind it; 0: it is
            not searched.
    """

    picture: float = 1.0
    landmarks: float = 1.0
    shape: float = 1.0
    outline: float = 0.0


DEFAULT_WEIGHTS = Weights()


def fit_image(
    image: Any,
    landmarks: Any,
    model: MorphableModel | str | Path,
    contour: str = "moving",
    focal: float = math.inf,
    iterations: int = 400,
    weights: Weights = DEFAULT_WEIGHTS,
    hold_expression: bool = False,
    progress: bool = True,
) -> Fit:
    """Fit a model to a photo.

    A fit that cannot be right is returned with `doubts`, and a `FitWarning` says them. They are about the landmarks and
    the shape: whether the picture shows a face at the landmarks is not checked (`facemodels fit` does).

    Args:
        image: [H,W,3], uint8 or floats 0..1, sRGB; or a picture's file, or a PIL image.
        landmarks: [L,2] pixels, y down, L = 68 (iBUG), 21 (AFLW) or 5, as `read_landmarks` gives them; NaN for missing
            ones. Of [L,3], such as `Face.landmarks`, x and y are taken.
        model: The model, or what `load_model` takes.
        contour: "moving" where the first 17 of 68 lie on the outline that the photo shows, as people mark them;
            "static" where they are fixed places of the head, visible or not, as in 300W-LP and AFLW2000-3D.
        focal: Focal length in pixels; infinity for scaled orthography, which is right for faces that are not too near.
        iterations: Steps of the photometric stage; 0 for none. A model without albedo has no such stage.
        weights: Of the terms of the photometric stage.
        hold_expression: The expression stays as the landmarks have it.
        progress: Show the progress on stderr: a bar in a terminal, a line now and then in a log file.

    Returns:
        The fit, on the model's device.

    Raises:
        InputError: Too few landmarks, they do not fit an image of this size, or they show a face from behind; or the
            picture cannot be read.
        ValueError: An argument of a wrong shape.
    """
    model = load_model(model)
    photo = linear_photo(image).to(model.mean.device)
    labels = to_tensor(landmarks, "landmarks [L,2], as read_landmarks gives them").to(photo.device, torch.float64)
    if labels.dim() != 2 or labels.shape[1] not in (2, 3):
        raise ValueError(f"landmarks must be [L,2] or [L,3] of one face, got {list(labels.shape)}")
    check_count(len(labels))
    labels = labels[:, :2]
    if labels.isinf().any():
        raise InputError("a landmark lies at infinity; write NaN for a point that is missing")
    if labels.isfinite().all(1).sum() > 1 and float((labels[:, None] - labels).norm(dim=-1).nan_to_num().max()) < 2:
        raise InputError(
            "the landmarks lie within two pixels; they must be pixels of the photo, not shares of its size"
        )
    size = (photo.shape[0], photo.shape[1])
    layout = coefficient_layout(model)
    known = known_labels(model, labels, contour)
    camera, x, deviation = fit_landmarks(model, layout, known, size, (size[1] / 2, size[0] / 2), focal, contour)
    check_turn(camera.rotation[0])
    scene = _Scene(model, layout, photo, known, contour, deviation, camera, x, weights)
    scene.solve_light()
    history = scene.descend(iterations, hold_expression, progress) if iterations and model.num_albedo else []
    fit, points = scene.result(history)
    fit.landmarks = fitted_landmarks(model, points, len(labels))
    fit.landmark_error, fit.landmark_count = mean_error(fit.landmarks, labels), len(known.points)
    assert fit.camera is not None
    judged = judged_error(fit.landmarks, labels)
    fit.doubts = photo_doubts(judged, float(fit.camera.scale), fit.landmark_count, fit.identity, len(labels))
    if history and not math.isfinite(history[-1]):
        fit.doubts.append("the fit to the pixels did not converge; iterations=0 fits to the landmarks alone")
    warn_of(fit.doubts)
    return fit


class _Scene:
    """A face before the camera, in a raster of `RASTER` pixels around it: what the photometric stage moves."""

    def __init__(
        self,
        model: MorphableModel,
        layout: CoefficientLayout,
        photo: Tensor,
        labels: Labels,
        contour: str,
        deviation: float,
        camera: Camera,
        x: Tensor,
        weights: Weights,
    ) -> None:
        self.model, self.layout, self.contour, self.deviation, self.weights = model, layout, contour, deviation, weights
        self.region = face_triangles(model)
        # Hair hides foreheads more often than anything hides the rest: light and noise are measured below the brows.
        brows = model.landmarks(model.mean[None])[0, BROWS][model.has_landmark[BROWS]]
        height = float(brows[:, 1].max()) + 5 if len(brows) else torch.inf
        self.core = self.region & (model.mean[model.faces.long(), 1].amax(1) < height)
        self.border = self.region & (model.topology.neighbours < 0).any(1)
        self.x = x.float()
        vertices = self.shape(self.x)
        face = camera.to(torch.float32).pixels(vertices[:, model.faces[self.region].unique().long()])[0]
        low, high = face.amin(0), face.amax(0)
        side = 1.1 * float((high - low).max())
        left, top = ((low + high) / 2 - side / 2).tolist()
        self.offset = (left, top)
        self.factor = RASTER / side
        self.labels = Labels(
            self.factor * (labels.points.float() - labels.points.new_tensor(self.offset).float()),
            labels.means.float(),
            labels.spread.float(),
        )
        self.photo_size = (photo.shape[0], photo.shape[1])
        self.photo, self.inside = crop_photo(photo, self.offset, side, RASTER)
        self.srgb = to_srgb(self.photo)
        self.camera = camera.to(torch.float32).resampled(self.factor, self.offset, (RASTER, RASTER))
        self.albedo = torch.zeros(model.num_albedo, device=photo.device)
        self.light = torch.zeros(9, 3, device=photo.device)

    def shape(self, x: Tensor) -> Tensor:
        identity, expression, _ = self.layout.split(x[None])
        return self.model.shape(identity, expression, self.joints(x))

    def joints(self, x: Tensor) -> Tensor | None:
        return self.layout.joint_rotations(x, len(self.model.joints))[None] if self.model.joints else None

    def colors(self, albedo: Tensor) -> Tensor:
        """[1,V,3]; a model without albedo is white, and its light takes the skin's color."""
        return self.model.albedo(albedo[None]) if self.model.num_albedo else torch.ones_like(self.model.mean)[None]

    def normals(self, vertices: Tensor, camera: Camera) -> Tensor:
        return fr.vertex_normals(vertices, self.model.topology) @ camera.rotation.transpose(-1, -2)

    def skin(self, face_id: Tensor, triangles: Tensor) -> Tensor:
        """bool [1,H,W]: `visible` without the outermost pixels, which the photo mixes with the background."""
        return self.visible(face_id, triangles) & ~outermost(face_id)

    def visible(self, face_id: Tensor, triangles: Tensor) -> Tensor:
        """bool [1,H,W]: pixels that show one of some triangles, bool [F], and lie inside the photo."""
        # The entry at the end is that of -1, the background.
        return torch.cat([triangles, triangles.new_zeros(1)])[face_id.long()] & self.inside

    @torch.no_grad()
    def solve_light(self, rounds: int = 4) -> None:
        """Linear least squares for the light on the mean albedo; outliers are weighed down from round to round."""
        vertices = self.shape(self.x)
        normals = normalize(self.normals(vertices, self.camera), dim=-1)
        fragments = fr.rasterize(self.camera.clip(vertices), self.model.topology, (RASTER, RASTER))
        skin = self.skin(fragments.face_id, self.core)[0]
        if skin.sum() < 50:
            raise InputError(
                "the face that the landmarks show lies outside the photo, or is turned away from the camera"
            )

        def at(values: Tensor) -> Tensor:
            return fr.interpolate(values, self.model.topology, fragments)[0][skin]

        target = self.photo[skin]  # [M,3]
        basis = fr.lighting.sh_basis(normalize(at(normals), dim=-1), PRESET)  # [M,9]
        self.brightness = float(target.mean().clamp(min=1e-3))
        albedo, weight = at(self.colors(self.albedo)), torch.ones_like(target[:, 0])
        self.ambient = float(target.mean() / albedo.mean() / basis[0, 0])  # if the light came from everywhere
        precision = (self.ambient * basis.new_tensor((1.0,) + LIGHT_DEVIATIONS)) ** -2
        for _ in range(rounds):
            square = (target - albedo * (basis @ self.light)).square().sum(-1)
            if self.light.any():
                weight = 1 / (1 + square / (7 * square.median())) ** 2
            # The pixels count as 100 independent ones, each 15 % off.
            count = 100 / weight.sum() / (0.15 * self.brightness) ** 2
            for c in range(3):
                rows = albedo[:, c, None] * basis
                normal, right = rows.T @ (rows * weight[:, None]) * count, rows.T @ (weight * target[:, c]) * count
                right[0] += precision[0] * self.ambient
                self.light[:, c] = torch.linalg.solve(normal + precision.diag(), right)

    def energy(self, pose: Tensor, x: Tensor, albedo: Tensor, light: Tensor) -> tuple[Tensor, Tensor]:
        """The negative log posterior, and the estimated deviation of the colors."""
        camera = self.camera.moved(pose)
        vertices = self.shape(x)
        normals = self.normals(vertices, camera)
        clip, size = camera.clip(vertices), (RASTER, RASTER)
        picture, face_id = fr.render_face(
            clip, normals, self.colors(albedo), light[None], self.model.topology, size, self.photo[None], PRESET
        )
        skin = self.skin(face_id, self.region)
        difference = (picture - self.photo) / self.brightness
        with torch.no_grad():
            sigma, count = _noise(difference, skin, self.skin(face_id, self.core))
        square = (difference / sigma).square().sum(-1)
        weights = self.weights
        photometric = weights.picture * count * torch.where(skin, _robust(square), 0).sum() / skin.sum().clamp(min=1)
        light_deviations = light.new_tensor(LIGHT_DEVIATIONS)[:, None]
        light_energy = ((light / self.ambient)[1:] / light_deviations).square().sum() / 2
        landmark_energy = weights.landmarks * self.labels.energy(
            self.landmarks(camera, vertices), self.deviation * self.camera.scale
        )
        prior = (weights.shape * (self.layout.precision * x * x).sum() + albedo.square().sum()) / 2
        outline: Tensor | float = 0
        if weights.outline:
            outline = weights.outline * self.outline_energy(camera, vertices, normals, face_id)
        return photometric + light_energy + landmark_energy + outline + prior, sigma

    def outline_energy(self, camera: Camera, vertices: Tensor, normals: Tensor, face_id: Tensor) -> Tensor:
        """How far the rendered outline lies from the photo's.

        Foreheads have none, since hair lies over them, nor has the border of a mesh, where the head goes on.
        """
        border = dilate(self.visible(face_id, self.border), 2)
        rim = self.visible(face_id, self.core) & outermost(face_id) & ~border
        corners = self.model.faces[face_id[rim].long()].long()  # [M,3]
        points = camera.pixels(vertices[:, corners.flatten()])[0].view(-1, 3, 2).mean(1)
        down = normals.new_tensor([1.0, -1.0])
        across = normals[0][corners].detach().mean(1)[:, :2] * down  # of a surface seen edge on
        across = normalize(across, dim=-1)
        offset, found = outline_offsets(self.srgb, points.detach(), across)
        distance = ((points - points.detach()) * across).sum(-1) - offset
        return torch.where(found, _robust((distance / OUTLINE_DEVIATION).square()), 0).sum() / OUTLINE_CORRELATION

    def landmarks(self, camera: Camera, vertices: Tensor) -> Tensor:
        """[68,2] in the camera's raster."""
        return camera.pixels(self.model.landmarks(vertices, camera.rotation if self.contour == "moving" else None))[0]

    def descend(self, iterations: int, hold_expression: bool, progress: bool) -> list[float]:
        """Move everything by Adam; returns the deviation of the colors in each iteration."""
        pose = torch.zeros(POSE, device=self.x.device)
        free = [pose, self.x, self.albedo, self.light]
        shape_units = 0.1 / self.layout.precision.float().sqrt()
        if hold_expression:
            self.layout.split(shape_units[None])[1].zero_()
        units = [  # of Adam's first steps
            pose.new_tensor([0.003, 0.005, 0.005, 0.005, 0.3, 0.3]),
            shape_units,
            torch.full_like(self.albedo, 0.05),
            0.01 * self.light.abs().mean(),
        ]
        steps = [torch.zeros_like(f).requires_grad_() for f in free]
        low, high = ((bound.float() - self.x) / units[1].clamp(min=1e-12) for bound in self.bounds())
        optimizer = torch.optim.Adam(steps, lr=1.0, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda k: min(1, 10 * (k + 1) / iterations) * (1 + math.cos(math.pi * k / iterations)) / 2
        )
        history = []
        for _ in core_progress(range(iterations), "light, albedo and shape", quiet=not progress):
            optimizer.zero_grad()
            pose, x, albedo, light = (f + s * u for f, s, u in zip(free, steps, units))
            energy, sigma = self.energy(pose, x, albedo, light)
            energy.backward()
            optimizer.step()
            schedule.step()
            history.append(sigma)
            with torch.no_grad():
                steps[1].clamp_(low, high)
        with torch.no_grad():
            pose, self.x, self.albedo, self.light = (f + s * u for f, s, u in zip(free, steps, units))
            lower, upper = (bound.float() for bound in self.bounds())
            self.x = self.x.clamp(lower, upper)  # to the last bit
            self.camera = self.camera.moved(pose)
        return torch.stack(history).tolist()

    def bounds(self) -> tuple[Tensor, Tensor]:
        return self.layout.lower, self.layout.upper

    @torch.no_grad()
    def result(self, history: list[float]) -> tuple[Fit, Tensor]:
        """The fit, and the 68 landmarks [68,2] in the photo."""
        identity, expression, _ = self.layout.split(self.x[None])
        x, y = self.offset
        camera = self.camera.resampled(1 / self.factor, (-self.factor * x, -self.factor * y), self.photo_size)
        points = self.landmarks(camera, self.shape(self.x))
        albedo = self.albedo[None] if self.model.num_albedo else None
        joints = self.joints(self.x)
        return Fit(identity, expression, albedo, joints, camera, self.light[None], history=history), points


def _noise(difference: Tensor, skin: Tensor, core: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate the noise of the photo and everything that the model cannot show.

    Args:
        difference: [1,H,W,3], rendered less photographed colors.
        skin: bool [1,H,W].
        core: bool [1,H,W], skin below the brows.

    Returns:
        The standard deviation of a color, from the median over the core, so that outliers do not count; and the
        effective number of independent pixels, from how much less means over blocks vary than pixels.
    """
    square = difference.square().sum(-1)
    # 2.37 is the median of the chi-squared distribution with 3 degrees of freedom.
    sigma = (square[core].median() / 2.37).sqrt().clamp(min=MIN_SIGMA)
    inliers = (skin & (square < 16 * sigma**2)).float()[:, None]
    mean = avg_pool2d(torch.where(inliers.bool(), difference.movedim(-1, 1), 0), BLOCK)
    share = avg_pool2d(inliers, BLOCK)
    of_blocks = (mean.square().sum(1, keepdim=True) / share.clamp(min=1e-6)).sum() / share.sum()
    of_pixels = square[inliers[:, 0].bool()].mean()
    return sigma, inliers.sum() / BLOCK**2 * (of_pixels / of_blocks.clamp(min=1e-12)).clamp(1, BLOCK**2)


def _robust(square: Tensor) -> Tensor:
    """The penalty of Geman and McClure of squared errors in deviations: half the square near zero, never above 8."""
    return 8 * square / (16 + square)
