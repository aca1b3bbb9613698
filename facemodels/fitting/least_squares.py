"""Least squares over a model's coefficients: exact Jacobians of its vertices, the prior, and steps within bounds.

Fitting to photos, fitting to scans, and the transfer between models share it. A coefficient vector here is [K]:
identity, then expression, then the rotation vectors of the joints that are fitted (a jaw; the other joints stay at
rest).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from facemodels.core.rotation import axis_angle_rotation
from facemodels.models.morphable import MorphableModel, blend, skin
from facerender._checks import brief_repr

FITTED_JOINTS = ("jaw",)
BLENDSHAPE_DEVIATION = 0.4  # standard deviation in the prior of a coefficient that runs from 0 to 1
JOINT_DEVIATION = 0.2  # radians


@brief_repr
@dataclass(frozen=True)
class CoefficientLayout:
    """The parts of a coefficient vector and its prior: independent normal distributions, cut off at bounds.

    Attributes:
        sizes: (I, E, 3J), how many coefficients of each kind are fitted.
        joints: Numbers of the fitted joints among the model's.
        precision: [K], inverse variances of the prior.
        lower: [K], lower bounds.
        upper: [K], upper bounds.
    """

    sizes: tuple[int, int, int]
    joints: tuple[int, ...]
    precision: Tensor
    lower: Tensor
    upper: Tensor

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split x [...,K] into identity [...,I], expression [...,E] and joints [...,3J]."""
        identity, expression, joints = x.split(self.sizes, -1)
        return identity, expression, joints

    def joint_rotations(self, x: Tensor, count: int) -> Tensor:
        """Rotation vectors [count,3] of all joints; those that are not fitted are at rest."""
        out = x.new_zeros(count, 3)
        if not self.joints:
            return out
        places = torch.tensor(self.joints, dtype=torch.long, device=x.device)
        return out.index_put((places,), self.split(x)[2].view(-1, 3))


def coefficient_layout(
    model: MorphableModel,
    identity: int | None = None,
    expression: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> CoefficientLayout:
    """The layout and prior of a model's coefficients.

    Args:
        model: The model.
        identity: How many of the first identity modes are fitted; None for all.
        expression: How many of the first expression modes are fitted; None for all. 0 holds the joints too.
        dtype: Of the vectors.
    """
    num_identity = model.num_identity if identity is None else min(identity, model.num_identity)
    num_expression = model.num_expression if expression is None else min(expression, model.num_expression)
    joints = tuple(k for k, name in enumerate(model.joints) if name in FITTED_JOINTS and expression != 0)
    on: dict[str, Any] = {"dtype": dtype, "device": model.mean.device}
    parts = [
        (num_identity, 1.0),
        (num_expression, BLENDSHAPE_DEVIATION if model.blendshapes else 1.0),
        (3 * len(joints), JOINT_DEVIATION),
    ]
    deviation = torch.cat([torch.full((count,), value, **on) for count, value in parts])
    lower, upper = torch.full_like(deviation, -torch.inf), torch.full_like(deviation, torch.inf)
    if model.blendshapes:
        activations = slice(num_identity, num_identity + num_expression)
        lower[activations], upper[activations] = 0, 1
    sizes = (num_identity, num_expression, 3 * len(joints))
    return CoefficientLayout(sizes, joints, deviation**-2, lower, upper)


class VertexFunction:
    """Some vertices of a model as a function of a coefficient vector, with the exact Jacobian, in double precision.

    Args:
        model: The model.
        vertices: int64 [U], the vertices.
        layout: The layout of the coefficient vector.
    """

    def __init__(self, model: MorphableModel, vertices: Tensor, layout: CoefficientLayout) -> None:
        dtype = layout.precision.dtype
        num_identity, num_expression, num_joints = layout.sizes
        self.layout = layout
        rows = torch.cat([torch.arange(num_identity), model.num_identity + torch.arange(num_expression)])
        rows = rows.to(vertices.device)
        modes = model.basis.view(-1, model.num_vertices, 3)
        self._mean, self._basis = model.mean[vertices].to(dtype), modes[:, vertices][rows].to(dtype)  # [U,3], [I+E,U,3]
        self._skinned = num_joints > 0
        if not self._skinned:
            self._linear = self._basis.movedim(0, -1).contiguous()  # [U,3,I+E]
            return
        self._joint_count, self._parents = len(model.joints), model.parents
        regressor = model.joint_regressor.to(dtype)
        self._joint_mean = regressor @ model.mean.to(dtype)
        self._joint_basis = self._basis.new_zeros(0, len(regressor), 3)
        if num_identity + num_expression:
            self._joint_basis = torch.stack([regressor @ modes[k].to(dtype) for k in rows])
        self._weights = model.skin_weights[vertices].to(dtype)
        self._pose_basis: Tensor | None = None
        if model.pose_basis is not None:
            offsets = model.pose_basis.view(-1, model.num_vertices, 3)[:, vertices]
            self._pose_basis = offsets.flatten(1).to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Vertices [U,3] in millimeters, of x [K]."""
        if not self._skinned:
            return self._mean + self._linear @ x
        linear = x[: len(self._basis)]
        shape = self._mean + torch.einsum("k,kui->ui", linear, self._basis)
        rest = self._joint_mean + torch.einsum("k,kui->ui", linear, self._joint_basis)
        matrices = axis_angle_rotation(self.layout.joint_rotations(x, self._joint_count))
        eye = torch.eye(3, dtype=x.dtype, device=x.device)
        if self._pose_basis is not None:
            shape = blend(shape, self._pose_basis, (matrices - eye).flatten()[None])[0]
        return skin(shape[None], rest[None], torch.cat([eye[None], matrices])[None], self._parents, self._weights)[0]

    def jacobian(self, x: Tensor) -> Tensor:
        """Derivatives of the vertices by x at x [K]: [U,3,K]."""
        return torch.func.jacfwd(self)(x) if self._skinned else self._linear


def bounded_step(hessian: Tensor, gradient: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The step d that minimizes d.g + d.H d / 2 within bounds, by projected Newton steps (Bertsekas 1982).

    Args:
        hessian: H [K,K], positive definite.
        gradient: g [K].
        lower: [K], not above 0.
        upper: [K], not below 0.

    Returns:
        [K], never worse than no step.
    """
    step, slope = torch.zeros_like(gradient), gradient
    for _ in range(50):
        free = (~((step <= lower) & (slope > 0) | (step >= upper) & (slope < 0))).nonzero()[:, 0]
        newton = torch.zeros_like(step)
        newton[free] = -torch.cholesky_solve(slope[free, None], torch.linalg.cholesky(hessian[free][:, free]))[:, 0]
        for halvings in range(30):
            change = (step + newton * 0.5**halvings).clamp(lower, upper) - step
            gain = -(slope @ change + change @ hessian @ change / 2)
            if gain > 0:
                break
        else:
            break
        step = step + change
        slope = gradient + hessian @ step
        if gain < 1e-12 * (step @ hessian @ step):
            break
    return step
