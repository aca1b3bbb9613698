"""Least squares over a model's coefficients: exact Jacobians of its vertices, the prior, and steps that keep the bounds.

What the fitting of photos and of scans and the transfer between models share. A coefficient vector here is [K]: identity, then expression, then the rotation
vectors of the joints that are fitted (a jaw; what else a skeleton has stays at rest).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from facemodels.core.rotation import axis_angle_rotation
from facemodels.models.morphable import MorphableModel, blend, skin

FITTED_JOINTS = ("jaw",)
BLENDSHAPE_DEVIATION = 0.4  # of the prior of a coefficient that runs from 0 to 1
JOINT_DEVIATION = 0.2  # radians


@dataclass(frozen=True)
class Layout:
    """Where what lies in a coefficient vector, and the prior over it: independent normal distributions with the given precision, cut off at the bounds.

    sizes: (I, E, 3 J), as many of each as are fitted. joints: places of the fitted joints among the model's. precision, lower, upper: [K].
    """

    sizes: tuple[int, int, int]
    joints: tuple[int, ...]
    precision: Tensor
    lower: Tensor
    upper: Tensor

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [...,K] -> identity [...,I], expression [...,E], joints [...,3J]."""
        return x.split(self.sizes, -1)

    def joint_rotations(self, x: Tensor, count: int) -> Tensor:
        """Rotation vectors [count,3] of all joints, those that are not fitted at rest."""
        out = x.new_zeros(count, 3)
        turned = self.split(x)[2].view(-1, 3)
        return (
            out.index_put((torch.tensor(self.joints, dtype=torch.long, device=x.device),), turned)
            if self.joints
            else out
        )


def coefficients_of(
    model: MorphableModel, identity: int | None = None, expression: int | None = None, dtype=torch.float64
) -> Layout:
    """The layout and prior for a model's first `identity` and `expression` modes (all for None; 0 for none, which holds the joints too)."""
    I = model.num_identity if identity is None else min(identity, model.num_identity)
    E = model.num_expression if expression is None else min(expression, model.num_expression)
    joints = tuple(k for k, name in enumerate(model.joints) if name in FITTED_JOINTS and expression != 0)
    on = {"dtype": dtype, "device": model.mean.device}
    each = [(I, 1.0), (E, BLENDSHAPE_DEVIATION if model.blendshapes else 1.0), (3 * len(joints), JOINT_DEVIATION)]
    deviation = torch.cat([torch.full((count,), value, **on) for count, value in each])
    lower, upper = torch.full_like(deviation, -torch.inf), torch.full_like(deviation, torch.inf)
    if model.blendshapes:
        lower[I : I + E], upper[I : I + E] = 0, 1
    return Layout((I, E, 3 * len(joints)), joints, deviation**-2, lower, upper)


class ModelPart:
    """Some vertices of a model as a function of a coefficient vector, with the exact Jacobian, in double precision."""

    def __init__(self, model: MorphableModel, vertices: Tensor, layout: Layout):
        """vertices: int64 [U]."""
        dtype = layout.precision.dtype
        I, E, J = layout.sizes
        self.layout = layout
        rows = torch.cat([torch.arange(I), model.num_identity + torch.arange(E)]).to(vertices.device)
        modes = model.basis.view(-1, model.num_vertices, 3)
        self._mean, self._basis = model.mean[vertices].to(dtype), modes[:, vertices][rows].to(dtype)  # [U,3], [I+E,U,3]
        self._skinned = J > 0
        if not self._skinned:
            self._linear = self._basis.movedim(0, -1).contiguous()  # [U,3,I+E]
            return
        self._joint_count, self._parents = len(model.joints), model.parents
        regressor = model.joint_regressor.to(dtype)
        self._joint_mean = regressor @ model.mean.to(dtype)
        self._joint_basis = (
            torch.stack([regressor @ modes[k].to(dtype) for k in rows])
            if I + E
            else self._basis.new_zeros(0, len(regressor), 3)
        )
        self._weights = model.skin_weights[vertices].to(dtype)
        self._pose_basis = (
            None
            if model.pose_basis is None
            else model.pose_basis.view(-1, model.num_vertices, 3)[:, vertices].flatten(1).to(dtype)
        )

    def __call__(self, x: Tensor) -> Tensor:
        """x [K] -> [U,3]."""
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
        """d vertices / d x at x [K]: [U,3,K]."""
        return torch.func.jacfwd(self)(x) if self._skinned else self._linear


def bounded_step(hessian: Tensor, gradient: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The step d [K] that minimises d.g + d.H d / 2 within lower <= d <= upper, by projected Newton steps (Bertsekas 1982).

    H [K,K] must be positive definite and the bounds contain zero. Never worse than no step.
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
