"""A model fitted to the landmarks of a photo.

The pose comes in closed form; then pose and coefficients together by Levenberg-Marquardt on exact Jacobians.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from facemodels.core.camera import POSE, Camera, camera_from_points
from facemodels.core.contour import moving_contour
from facemodels.core.errors import InputError
from facemodels.core.landmarks import (
    AFLW_21,
    EAR_LOBES,
    NUM_CONTOUR,
    NUM_LANDMARKS,
    landmark_means,
)
from facemodels.core.surface import gather_points
from facemodels.fitting.least_squares import (
    CoefficientLayout,
    VertexFunction,
    bounded_step,
)
from facemodels.models.morphable import MorphableModel
from facerender._checks import brief_repr

MIN_DEVIATION, MAX_DEVIATION = 0.5, 5.0  # bounds of the estimated deviation of the labels, mm on the face


class ModelLandmarks:
    """The 68 landmarks of a model as a function of a coefficient vector, with Jacobian.

    Args:
        model: The model.
        layout: The layout of the coefficient vector.
        contour: "static", or "moving": the first 17 lie on the outline of the face as the camera sees it.
    """

    def __init__(self, model: MorphableModel, layout: CoefficientLayout, contour: str = "static") -> None:
        if contour not in ("static", "moving"):
            raise ValueError(f"contour must be 'static' or 'moving', got {contour!r}")
        lines = model.contour if contour == "moving" else None
        used, place = torch.unique(
            torch.cat([model.landmark_index.flatten()] + ([] if lines is None else [lines.flatten()])).long(),
            return_inverse=True,
        )
        self._index = place[: NUM_LANDMARKS * 3].view(NUM_LANDMARKS, 3)
        self._lines = None if lines is None else place[NUM_LANDMARKS * 3 :].view(lines.shape)
        self._weights = model.landmark_weights.to(layout.precision.dtype)
        self._vertices = VertexFunction(model, used, layout)

    def at(self, x: Tensor, rotation: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Evaluate the landmarks.

        Args:
            x: [K], coefficients.
            rotation: [3,3] of the head; needed for the moving contour alone.

        Returns:
            Points [68,3] in millimeters, and where on the model they are, for `jacobian`.
        """
        vertices = self._vertices(x)
        index, weights = self._index, self._weights
        if self._lines is not None:
            assert rotation is not None
            chosen = moving_contour(vertices[None], self._lines, rotation[None])[0]
            moved = chosen != self._lines[:, 0]
            index, weights = index.clone(), weights.clone()
            index[:NUM_CONTOUR][moved] = chosen[moved, None]
            weights[:NUM_CONTOUR][moved] = 1 / 3
        return gather_points(vertices[None], index, weights)[0], (index, weights)

    def jacobian(self, x: Tensor, where: tuple[Tensor, Tensor]) -> Tensor:
        """Derivatives of the points by x: [68,3,K]."""
        index, weights = where
        return (self._vertices.jacobian(x)[index] * weights[..., None, None]).sum(1)


@brief_repr
@dataclass(frozen=True)
class Labels:
    """The labeled landmarks that are known and that the model has.

    Attributes:
        points: [L,2] pixels of a photo, or [L,3] of a mesh.
        means: [L,68], each label as a mean of the 68 landmarks.
        spread: [L], the deviation of each label relative to the others.
    """

    points: Tensor
    means: Tensor
    spread: Tensor

    def energy(self, pixels: Tensor, unit: Tensor | float) -> Tensor:
        """The negative logarithm of a Cauchy likelihood: about half the squares up to three deviations.

        Args:
            pixels: [68,2], the model's landmarks.
            unit: The deviation of a label of spread 1, pixels.
        """
        square = ((self.means @ pixels - self.points) / (self.spread * unit)[:, None]).square().sum(-1)
        return 4.5 * torch.log1p(square / 9).sum()


def available(model: MorphableModel, count: int) -> Tensor:
    """bool [count], which of a set of 68, 21 or 5 landmarks a model has; a mean needs all that it is of."""
    if model.has_landmark is None:
        return torch.zeros(count, dtype=torch.bool)
    return landmark_means(count).to(model.has_landmark.device) @ model.has_landmark.float() > 0.999


def fitted_landmarks(model: MorphableModel, points: Tensor, count: int) -> Tensor:
    """A set of 68, 21 or 5 landmarks [count,D] of the model's 68 [68,D]; NaN for those that the model lacks."""
    means, has = landmark_means(count).to(points), available(model, count).to(points.device)
    return torch.where(has[:, None], means @ points, torch.nan)


def known_labels(model: MorphableModel, landmarks: Tensor, contour: str) -> Labels:
    """Select the labels that can be used.

    Args:
        model: The model.
        landmarks: [L,2] or [L,3], NaN for missing ones.
        contour: What the first 17 of 68 are, "static" or "moving".

    Raises:
        InputError: The model has no landmarks, or fewer than four labels can be used.
    """
    means, has = landmark_means(len(landmarks)).to(landmarks), available(model, len(landmarks))
    spread = torch.ones_like(landmarks[:, 0])
    if len(landmarks) == NUM_LANDMARKS and contour == "moving":
        spread[:NUM_CONTOUR] = 2  # annotators agree on where the outline is, not on where along it a point lies
    if len(landmarks) == len(AFLW_21):
        spread[list(EAR_LOBES)] = 5
    if model.landmark_index is None:
        raise InputError(
            f"the model {model.name} has no landmarks, so it cannot be fitted to any; put the landmark file that"
            " belongs to it beside it (facemodels doctor names it)"
        )
    known = ~torch.isnan(landmarks).any(-1) & has.to(landmarks.device)
    if known.sum() < 4:
        raise InputError(
            f"at least 4 landmarks are needed that are known (not NaN) and that the model {model.name} has, got"
            f" {int(known.sum())} of {len(landmarks)}"
        )
    return Labels(landmarks[known], means[known], spread[known])


def fit_landmarks(
    model: MorphableModel,
    layout: CoefficientLayout,
    labels: Labels,
    size: tuple[int, int],
    center: tuple[float, float],
    focal: float = math.inf,
    contour: str = "static",
    iterations: int = 30,
) -> tuple[Camera, Tensor, float]:
    """Find the most probable camera and coefficients given landmarks.

    Args:
        model: The model.
        layout: Which coefficients, and their prior.
        labels: In double precision; outliers count for less.
        size: (H, W) of the photo.
        center: (x, y) of the principal point, pixels.
        focal: Focal length in pixels, or infinity for scaled orthography.
        contour: What the first 17 of 68 labels are, "static" or "moving".
        iterations: At most so many steps for each estimate of the labels' deviation.

    Returns:
        The camera (N = 1), the coefficients [K], and the estimated deviation of the labels from the model in mm on the
        face; all float64.
    """
    means, spread = labels.means, labels.spread
    points = ModelLandmarks(model, layout, contour)
    x = torch.zeros_like(layout.precision)
    eye = torch.eye(3, dtype=x.dtype, device=x.device)
    camera = camera_from_points(means @ points.at(x, eye)[0], labels.points, spread**-2, size, center)
    camera = camera_from_points(
        means @ points.at(x, camera.rotation[0])[0], labels.points, spread**-2, size, center, focal
    )
    deviation = MAX_DEVIATION  # pose and the broad shape before the details
    free = torch.zeros(POSE, dtype=x.dtype, device=x.device)
    lower, upper = torch.cat([free - torch.inf, layout.lower]), torch.cat([free + torch.inf, layout.upper])

    def energy(camera: Camera, x: Tensor, unit: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], Tensor, Tensor]:
        """(energy, points, where they are, residuals in deviations, robust weights)."""
        places, where = points.at(x, camera.rotation[0])
        residual = (camera.pixels((means @ places)[None])[0] - labels.points) / unit[:, None]
        square = (residual**2).sum(-1)
        prior = (layout.precision * x * x).sum() / 2
        return 4.5 * torch.log1p(square / 9).sum() + prior, places, where, residual, 1 / (1 + square / 9)

    for _ in range(4):
        unit = spread * (deviation * camera.scale)
        damping = 1e-3
        value, places, where, residual, weight = energy(camera, x, unit)
        for _ in range(iterations):
            to_point, to_pose = camera.jacobian(means @ places)
            to_x = to_point @ torch.einsum("lp,pik->lik", means, points.jacobian(x, where))
            J = (torch.cat([to_pose, to_x], -1) * (weight.sqrt() / unit)[:, None, None]).flatten(0, 1)
            r = (residual * weight.sqrt()[:, None]).flatten()
            data, gradient = J.T @ J, J.T @ r
            gradient[POSE:] += layout.precision * x
            hessian = data.clone()
            hessian.diagonal()[POSE:] += layout.precision
            step = bounded_step(
                hessian + torch.diag(damping * hessian.diagonal() + 1e-12),
                gradient,
                lower - torch.cat([free, x]),
                upper - torch.cat([free, x]),
            )
            next_camera, next_x = camera.moved(step[:POSE]), x + step[POSE:]
            trial = energy(next_camera, next_x, unit)
            gain = float(value - trial[0])
            if gain > 0:
                camera, x, (value, places, where, residual, weight) = next_camera, next_x, trial
            damping = max(damping / 5, 1e-9) if gain > 0 else damping * 10
            if 0 < gain < 1e-6 * (1 + float(value)) or damping > 1e6:
                break
        # The labels' deviation by the evidence (MacKay 1992): the remaining squares over the number of equations, less
        # what the parameters took up.
        taken = float(torch.linalg.solve(hessian + 1e-9 * torch.eye(len(hessian)).to(hessian), data).diagonal().sum())
        left = float((weight[:, None] * residual**2).sum()) * deviation**2
        estimate = math.sqrt(left / max(2 * float(weight.sum()) - taken, 1.0))
        deviation = min(max(estimate, MIN_DEVIATION), MAX_DEVIATION)
    return camera, x, deviation
