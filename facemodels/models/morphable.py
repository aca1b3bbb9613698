"""Morphable face models: coefficients to vertices, albedo and landmarks.

The linear model of Blanz and Vetter (1999), with expressions (Cao et al. 2014) and, where a model has joints, linear blend skinning with
pose blend shapes (Li et al. 2017): plain functions first, then the arrays that a model consists of (`ModelData`, what every reader of
`facemodels.models.formats` returns), then the module that holds them (`MorphableModel`).

Conventions, the same for every model after loading: millimetres, y up, +z out of the face, +x to the subject's left; identity and albedo
coefficients have unit variance; triangles are counter-clockwise seen from outside; the 68 landmarks are in Multi-PIE (iBUG) order.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from facemodels.core.contour import contour_lines, moving_contour
from facemodels.core.landmarks import CONTOUR, INNER, OUTER_CORNERS
from facemodels.core.rotation import axis_angle_rotation
from facemodels.core.surface import gather_points
from facemodels.models.model_data import ModelData
from facerender import Topology
from facerender.color import to_linear

# ---------------------------------------------------------------------------------------------------------------------- functions


def blend(mean: Tensor, basis: Tensor, coefficients: Tensor) -> Tensor:
    """mean + coefficients @ basis: [V,3] or [N|1,V,3], [K,V*3], [N,K] -> [N,V,3]."""
    vertices = mean.shape[-2]
    return torch.addmm(mean.reshape(-1, vertices * 3), coefficients, basis).view(-1, vertices, 3)


def skin(vertices: Tensor, joints: Tensor, rotations: Tensor, parents: tuple[int, ...], weights: Tensor) -> Tensor:
    """Linear blend skinning.

    vertices [N,V,3] and joints [N,J,3] at rest; rotations [N,J,3,3], each relative to its parent; parents: the parent of each joint, -1 for
    the root, parents before children; weights [V,J], rows of sum 1 -> [N,V,3].
    """
    turn, place = [], []
    for j, parent in enumerate(parents):
        if parent < 0:
            turn.append(rotations[:, j])
            place.append(joints[:, j])
        else:
            turn.append(turn[parent] @ rotations[:, j])
            place.append((turn[parent] @ (joints[:, j] - joints[:, parent])[..., None])[..., 0] + place[parent])
    turn, place = torch.stack(turn, 1), torch.stack(place, 1)
    shift = place - (turn @ joints[..., None])[..., 0]
    affine = torch.cat([turn, shift[..., None]], -1).flatten(2)  # [N,J,12]
    per_vertex = (weights @ affine).view(len(vertices), -1, 3, 4)
    return (per_vertex[..., :3] @ vertices[..., None])[..., 0] + per_vertex[..., 3]


# --------------------------------------------------------------------------------------------------------------------------- data


# ------------------------------------------------------------------------------------------------------------------------- module


class ModelOutput(NamedTuple):
    vertices: Tensor  # [N,V,3] mm
    albedo: Tensor | None  # [N,V,3] linear, 0..1
    landmarks: Tensor | None  # [N,68,3] mm, static


class MorphableModel(nn.Module):
    """A morphable model as a module of buffers: nothing in it is trained.

    ``model(identity, expression, albedo)`` gives a `ModelOutput`; `shape`, `albedo` and `landmarks` give its parts. A coefficient tensor that is None means zeros; one with fewer columns
    than the model has modes uses the first modes; one with a batch of 1 is shared by the batch (many frames of one person: the identity is then
    evaluated once, and each frame costs its expression alone).

    Attributes:
        num_vertices, num_identity, num_expression, num_albedo: V, I, E, A (0 for a model without colours).
        topology: `facerender.Topology` of the faces, on the module's device.
        expression_names, blendshapes, regions, name, source, licence, albedo_encoding: as in `ModelData`; regions as int64 tensors.
        faces [F,3], uv [T,2], uv_faces [F,3], symmetry [V], has_landmark [68] bool: buffers; None where the model lacks them.
        joints: names of the skeleton's joints but the root, () for a model without.
    """

    def __init__(self, data: ModelData):
        super().__init__()
        self.name, self.source, self.licence = data.name, data.source, data.licence
        self.expression_names, self.blendshapes = data.expression_names, data.blendshapes
        self.albedo_encoding = data.albedo_encoding
        V = len(data.mean)
        self.num_vertices, self.num_identity, self.num_expression = V, len(data.identity), len(data.expression)
        self.num_albedo = 0 if data.albedo is None else len(data.albedo)
        # One matrix, the mean above identity above expression: a full evaluation is one product.
        self._buffer("rows", np.concatenate([data.mean[None], data.identity, data.expression]).reshape(-1, V * 3))
        self._buffer("faces", data.faces)
        self._buffer("albedo_mean", data.albedo_mean)
        self._buffer("albedo_basis", None if data.albedo is None else data.albedo.reshape(-1, V * 3))
        self._buffer("landmark_index", data.landmark_index)
        self._buffer("landmark_weights", data.landmark_weights)
        contour = data.contour
        has = None if data.landmark_index is None else data.landmark_weights.sum(1) != 0
        if contour is None and has is not None and has[CONTOUR].all() and has[list(OUTER_CORNERS)].all():
            contour = contour_lines(data.mean, data.faces, data.landmark_index, data.landmark_weights)
        self._buffer("contour", contour)
        self._buffer("has_landmark", has)
        self._buffer("uv", data.uv)
        self._buffer("uv_faces", data.uv_faces)
        self._buffer("symmetry", data.symmetry)
        self.regions = {k: torch.from_numpy(v).long() for k, v in data.regions.items()}
        s = data.skeleton
        self.joints = () if s is None else tuple(s.names[1:])
        self.parents = () if s is None else tuple(int(p) for p in s.parents)
        self._buffer("skin_weights", None if s is None else s.weights)
        self._buffer("joint_regressor", None if s is None else s.regressor)
        self._buffer("pose_basis", None if s is None or s.pose_basis is None else s.pose_basis.reshape(-1, V * 3))
        self._topology = Topology(self.faces, V)

    def _buffer(self, name, array):
        self.register_buffer(name, None if array is None else torch.from_numpy(np.array(array)), persistent=False)

    @property
    def topology(self) -> Topology:
        self._topology = self._topology.to(self.faces.device)
        return self._topology

    @property
    def mean(self) -> Tensor:
        """[V,3] mm: the mean face."""
        return self.rows[0].view(self.num_vertices, 3)

    @property
    def basis(self) -> Tensor:
        """[I+E,V*3] mm: identity above expression."""
        return self.rows[1:]

    @property
    def identity_basis(self) -> Tensor:
        """[I,V,3] mm per standard deviation."""
        return self.basis[: self.num_identity].view(-1, self.num_vertices, 3)

    @property
    def expression_basis(self) -> Tensor:
        """[E,V,3] mm per unit."""
        return self.basis[self.num_identity :].view(-1, self.num_vertices, 3)

    def forward(
        self,
        identity: Tensor | None = None,
        expression: Tensor | None = None,
        albedo: Tensor | None = None,
        joints: Tensor | None = None,
    ) -> ModelOutput:
        """identity [N|1,<=I], expression [N|1,<=E], albedo [N|1,<=A], joints [N|1,J,3] rotation vectors -> ModelOutput. All None: the mean face, N = 1."""
        vertices = self.shape(identity, expression, joints)
        colours = self.albedo(albedo) if self.num_albedo else None
        return ModelOutput(vertices, colours, self.landmarks(vertices) if self.landmark_index is not None else None)

    def shape(
        self, identity: Tensor | None = None, expression: Tensor | None = None, joints: Tensor | None = None
    ) -> Tensor:
        """Vertices [N,V,3] in mm. Coefficients as in `forward`.

        Raises:
            ValueError: coefficients with more columns than modes, or batches that do not go together; both sizes are named.
        """
        identity = self._coefficients("identity", identity, self.num_identity)
        expression = self._coefficients("expression", expression, self.num_expression)
        _same_batch(identity=identity, expression=expression, joints=joints)
        shape = self._shape(identity, expression)
        return shape if joints is None else self._pose(shape, joints)

    def _shape(self, identity, expression):
        if identity is None and expression is None:
            return self.mean[None]
        if identity is None or expression is None:
            given, basis = (expression, self.basis[self.num_identity :]) if identity is None else (identity, self.basis)
            return blend(self.mean, basis[: given.shape[1]], given)
        if len(identity) == len(expression) and identity.shape[1] == self.num_identity:
            one = identity.new_ones(len(identity), 1)
            return (
                torch.cat([one, identity, expression], 1) @ self.rows[: 1 + self.num_identity + expression.shape[1]]
            ).view(-1, self.num_vertices, 3)
        neutral = blend(self.mean, self.basis[: identity.shape[1]], identity)
        moved = expression @ self.basis[self.num_identity :][: expression.shape[1]]
        return moved.view(-1, self.num_vertices, 3) + neutral

    def _pose(self, shape, rotations):
        if not self.joints:
            raise ValueError(f"joints: the model {self.name} has none, got {list(rotations.shape)}")
        if rotations.shape[1:] != (len(self.joints), 3):
            raise ValueError(
                f"joints must be [N,{len(self.joints)},3], rotation vectors of {', '.join(self.joints)}, got {list(rotations.shape)}"
            )
        N = max(len(shape), len(rotations))
        shape, rotations = shape.expand(N, -1, -1), rotations.expand(N, -1, -1)
        matrices = axis_angle_rotation(rotations)
        rest = self.joint_regressor @ shape
        if self.pose_basis is not None:
            eye = torch.eye(3, dtype=shape.dtype, device=shape.device)
            shape = blend(shape, self.pose_basis, (matrices - eye).flatten(1))
        root = torch.eye(3, dtype=shape.dtype, device=shape.device).expand(N, 1, 3, 3)
        return skin(shape, rest, torch.cat([root, matrices], 1), self.parents, self.skin_weights)

    def albedo(self, coefficients: Tensor | None = None) -> Tensor:
        """Linear albedo [N,V,3], 0..1, of albedo coefficients [N,<=A]; the mean's, N = 1, for None."""
        if not self.num_albedo:
            raise ValueError(f"the model {self.name} has no albedo")
        coefficients = self._coefficients("albedo", coefficients, self.num_albedo)
        colours = (
            self.albedo_mean[None]
            if coefficients is None
            else blend(self.albedo_mean, self.albedo_basis[: coefficients.shape[1]], coefficients)
        )
        colours = colours.clamp(0, 1)
        return to_linear(colours) if self.albedo_encoding == "srgb" else colours

    def landmarks(self, vertices: Tensor, rotation: Tensor | None = None) -> Tensor:
        """The 68 landmarks [N,68,3] of vertices [N,V,3]; with the head's rotation [N,3,3], the first 17 lie on the contour as it is seen
        under it (what 2D annotators mark), without, at their static places (what 3D data sets label). `has_landmark` tells which the model has.

        Raises:
            ValueError: the model has no landmarks.
        """
        if self.landmark_index is None:
            raise ValueError(
                f"the model {self.name} has no landmarks; put the landmark file that belongs to it beside it (facemodels doctor names it)"
            )
        points = gather_points(vertices, self.landmark_index, self.landmark_weights)
        if rotation is None or self.contour is None:
            return points
        chosen = moving_contour(vertices, self.contour, rotation)
        moved = vertices[torch.arange(len(vertices), device=vertices.device)[:, None], chosen]
        static = chosen == self.contour[:, 0]
        return torch.cat([torch.where(static[..., None], points[:, CONTOUR], moved), points[:, INNER]], 1)

    def _coefficients(self, name, value, modes):
        if value is None:
            return None
        if value.dim() != 2 or value.shape[1] > modes:
            raise ValueError(
                f"{name} must be [N,{modes}] or fewer columns for the model {self.name}, got {list(value.shape)}"
            )
        return value

    def __repr__(self) -> str:
        return f"MorphableModel({self.name}: V={self.num_vertices}, F={len(self.faces)}, identity={self.num_identity}, expression={self.num_expression}, albedo={self.num_albedo})"


def _same_batch(**tensors):
    sizes = {name: len(t) for name, t in tensors.items() if t is not None}
    if len({s for s in sizes.values() if s != 1}) > 1:
        raise ValueError(
            "batches must be equal or 1, got " + ", ".join(f"{name} {size}" for name, size in sizes.items())
        )
