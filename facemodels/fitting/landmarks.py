"""A model fitted to the landmarks of a photo: pose in closed form, then pose and coefficients by Levenberg-Marquardt on exact Jacobians."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from facemodels.core.camera import POSE, Camera, camera_from_points
from facemodels.core.contour import moving_contour
from facemodels.core.errors import InputError
from facemodels.core.landmarks import AFLW_21, EAR_LOBES, NUM_CONTOUR, NUM_LANDMARKS, landmark_means
from facemodels.core.surface import gather_points
from facemodels.fitting.least_squares import Layout, ModelPart, bounded_step
from facemodels.models.morphable import MorphableModel

DEVIATIONS = (0.5, 5.0)  # of labels, mm on the face: the least and the most that is believed


class ModelLandmarks:
    """The 68 landmarks of a model as a function of a coefficient vector, with Jacobian; on the moving contour for contour="moving"."""

    def __init__(self, model: MorphableModel, layout: Layout, contour: str = "static"):
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
        self._part = ModelPart(model, used, layout)

    def at(self, x: Tensor, rotation: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x [K], rotation [3,3] of the head (for the moving contour) -> points [68,3], and where on the model they are, for `jacobian`."""
        vertices = self._part(x)
        index, weights = self._index, self._weights
        if self._lines is not None:
            chosen = moving_contour(vertices[None], self._lines, rotation[None])[0]
            moved = chosen != self._lines[:, 0]
            index, weights = index.clone(), weights.clone()
            index[:NUM_CONTOUR][moved] = chosen[moved, None]
            weights[:NUM_CONTOUR][moved] = 1 / 3
        return gather_points(vertices[None], index, weights)[0], (index, weights)

    def jacobian(self, x: Tensor, where: tuple[Tensor, Tensor]) -> Tensor:
        """d points / d x: [68,3,K]."""
        index, weights = where
        return (self._part.jacobian(x)[index] * weights[..., None, None]).sum(1)


@dataclass(frozen=True)
class Labels:
    """Landmarks that are known of a photo and of a model: points [L,2] pixels, means [L,68], spread [L], each one's deviation relative to the others'."""

    points: Tensor
    means: Tensor
    spread: Tensor

    def energy(self, pixels: Tensor, unit: Tensor | float) -> Tensor:
        """Of the model's 68 points at pixels [68,2]: minus the logarithm of Cauchy's likelihood, about squares / 2 up to a deviation of three."""
        square = ((self.means @ pixels - self.points) / (self.spread * unit)[:, None]).square().sum(-1)
        return 4.5 * torch.log1p(square / 9).sum()


def labels_of(model: MorphableModel, landmarks: Tensor, contour: str) -> Labels:
    """landmarks: [L,2], NaN for missing ones."""
    means = landmark_means(len(landmarks)).to(landmarks)
    spread = torch.ones_like(landmarks[:, 0])
    if len(landmarks) == NUM_LANDMARKS and contour == "moving":
        spread[:NUM_CONTOUR] = 2  # annotators agree on where the outline is, not on where along it a point lies
    if len(landmarks) == len(AFLW_21):
        spread[list(EAR_LOBES)] = 5
    if model.landmark_index is None:
        raise InputError(
            f"the model {model.name} has no landmarks, so it cannot be fitted to any; put the landmark file that belongs to it beside it (facemodels doctor names it)"
        )
    known = ~torch.isnan(landmarks).any(-1) & (means @ model.has_landmark.to(landmarks) > 0.999)
    if known.sum() < 4:
        raise InputError(
            f"at least 4 landmarks are needed that are visible and that the model {model.name} has, got {int(known.sum())}"
        )
    return Labels(landmarks[known], means[known], spread[known])


def fit_landmarks(
    model: MorphableModel,
    layout: Layout,
    labels: Labels,
    size: tuple[int, int],
    center: tuple[float, float],
    focal: float = math.inf,
    contour: str = "static",
    iterations: int = 30,
) -> tuple[Camera, Tensor, float]:
    """The most probable camera and coefficients given landmarks.

    Args:
        layout: which coefficients, and their prior. labels: in double precision; far ones count for less. size, center, focal: of the camera. contour: what
            the first 17 of 68 labels are.

    Returns:
        (Camera with N = 1, coefficients [K], the labels' deviation from the model in mm on the face, estimated), all float64.
    """
    means, spread = labels.means, labels.spread
    points = ModelLandmarks(model, layout, contour)
    x = torch.zeros_like(layout.precision)
    eye = torch.eye(3, dtype=x.dtype, device=x.device)
    camera = camera_from_points(means @ points.at(x, eye)[0], labels.points, spread**-2, size, center)
    camera = camera_from_points(
        means @ points.at(x, camera.rotation[0])[0], labels.points, spread**-2, size, center, focal
    )
    deviation = DEVIATIONS[1]  # pose and the broad shape before the details
    free = torch.zeros(POSE, dtype=x.dtype, device=x.device)
    lower, upper = torch.cat([free - torch.inf, layout.lower]), torch.cat([free + torch.inf, layout.upper])

    def energy(camera, x, spread):
        places, where = points.at(x, camera.rotation[0])
        residual = (camera.pixels((means @ places)[None])[0] - labels.points) / spread[:, None]
        square = (residual**2).sum(-1)
        return (
            4.5 * torch.log1p(square / 9).sum() + (layout.precision * x * x).sum() / 2,
            places,
            where,
            residual,
            1 / (1 + square / 9),
        )

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
        # The labels' deviation, by the evidence (MacKay 1992): the squares that are left, over the equations less what the parameters took up.
        taken = float(torch.linalg.solve(hessian + 1e-9 * torch.eye(len(hessian)).to(hessian), data).diagonal().sum())
        left = float((weight[:, None] * residual**2).sum()) * deviation**2
        deviation = min(max(math.sqrt(left / max(2 * float(weight.sum()) - taken, 1.0)), DEVIATIONS[0]), DEVIATIONS[1])
    return camera, x, deviation
