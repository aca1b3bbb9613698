"""Morphable face models: coefficients to vertices, albedo and landmarks.

The linear model of Blanz and Vetter (1999), with expressions (Cao et al. 2014) and, where a model has joints, linear
blend skinning with pose blend shapes (Li et al. 2017): the plain functions first, then the module that holds the
arrays.

Conventions, the same for every model after loading: millimeters, y up, +z out of the face, +x to the subject's left;
identity and albedo coefficients have unit variance; faces are counterclockwise seen from outside; the 68 landmarks are
in Multi-PIE (iBUG) order.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from facemodels.core.contour import contour_lines, moving_contour
from facemodels.core.landmarks import CONTOUR, INNER, OUTER_CORNERS
from facemodels.core.rotation import axis_angle_rotation
from facemodels.core.surface import gather_points
from facemodels.models.model_data import ModelData, regions_of
from facerender import Topology
from facerender._checks import brief_repr
from facerender.color import to_linear


def blend(mean: Tensor, basis: Tensor, coefficients: Tensor) -> Tensor:
    """Evaluate a linear model: mean + coefficients @ basis.

    Args:
        mean: [V,3], [1,V,3] or [N,V,3].
        basis: [K,V*3].
        coefficients: [N,K].

    Returns:
        [N,V,3].
    """
    vertices = mean.shape[-2]
    return torch.addmm(mean.reshape(-1, vertices * 3), coefficients, basis).view(-1, vertices, 3)


def skin(vertices: Tensor, joints: Tensor, rotations: Tensor, parents: tuple[int, ...], weights: Tensor) -> Tensor:
    """Linear blend skinning.

    Args:
        vertices: [N,V,3], at rest.
        joints: [N,J,3], at rest.
        rotations: [N,J,3,3], each relative to its parent.
        parents: the parent of each joint, -1 for the root; parents before children.
        weights: [V,J], rows of sum 1.

    Returns:
        The posed vertices [N,V,3].
    """
    turns: list[Tensor] = []  # of each joint, from rest to its pose
    places: list[Tensor] = []
    for j, parent in enumerate(parents):
        if parent < 0:
            turns.append(rotations[:, j])
            places.append(joints[:, j])
        else:
            bone = (joints[:, j] - joints[:, parent])[..., None]
            turns.append(turns[parent] @ rotations[:, j])
            places.append((turns[parent] @ bone)[..., 0] + places[parent])
    turn, place = torch.stack(turns, 1), torch.stack(places, 1)
    shift = place - (turn @ joints[..., None])[..., 0]
    affine = torch.cat([turn, shift[..., None]], -1).flatten(2)  # [N,J,12]
    per_vertex = (weights @ affine).view(len(vertices), -1, 3, 4)
    return (per_vertex[..., :3] @ vertices[..., None])[..., 0] + per_vertex[..., 3]


@brief_repr
class ModelOutput(NamedTuple):
    """The faces of coefficients.

    Attributes:
        vertices: [N,V,3] mm.
        albedo: [N,V,3] or [1,V,3], linear, in 0..1; None for a model without colors.
        landmarks: [N,68,3] mm, the static ones; None for a model without landmarks.
    """

    vertices: Tensor
    albedo: Tensor | None
    landmarks: Tensor | None


class MorphableModel(nn.Module):
    """A morphable model as a module of buffers; it has no parameters to train.

    `model(identity, expression, albedo)` gives a `ModelOutput`; `shape`, `albedo` and `landmarks` give its parts.
    Vertices are in millimeters.

    Coefficients [N,K] are tensors or arrays of any precision; None for zeros. With fewer columns than the model has
    modes, they are those of the first modes. With a batch of 1, they are shared by the batch: for many frames of one
    person, the identity is evaluated once, and each frame costs its expression alone.

    Attributes:
        num_vertices: V.
        num_identity: I, modes of identity.
        num_expression: E, modes of expression.
        num_albedo: A, modes of albedo; 0 for a model without colors.
        name: what the model is.
        source: where it came from.
        licence: what may be done with it.
        expression_names: a name for each mode of expression.
        blendshapes: whether expressions are activations in 0..1 rather than deviations of unit variance.
        albedo_encoding: "linear" or "srgb", of the albedo's arrays. (What `albedo` returns is linear.)
        regions: name -> vertices, int64; they stay on the CPU.
        joints: names of the skeleton's joints without the root; () for a model without.
        parents: the parent of each joint, the root's first; () for a model without.
        faces: int32 [F,3].
        rows: [1+I+E,V*3] mm: the mean above identity above expression, so that an evaluation is one product.
        uv: [T,2] texture coordinates, (0, 0) at the lower left; None for a model without.
        uv_faces: int32 [F,3], corners in uv; None for a model without.
        symmetry: int32 [V], the mirror image of each vertex; None where it is not known.
        has_landmark: bool [68], which landmarks the model has; None for a model without any.
        landmark_index: int32 [68,3] vertices, of which each static landmark is a weighted mean; or None.
        landmark_weights: [68,3]; or None.
        contour: int32 [17,K], candidates of the moving contour (`facemodels.core.contour`); or None.
        albedo_mean: [V,3]; or None.
        albedo_basis: [A,V*3]; or None.
        skin_weights: [V,J]; or None.
        joint_regressor: [J,V]; or None.
        pose_basis: [9(J-1),V*3] mm; or None.
    """

    rows: Tensor
    faces: Tensor
    # None for a model without.
    uv: Tensor
    uv_faces: Tensor
    symmetry: Tensor
    has_landmark: Tensor
    landmark_index: Tensor
    landmark_weights: Tensor
    contour: Tensor
    albedo_mean: Tensor
    albedo_basis: Tensor
    skin_weights: Tensor
    joint_regressor: Tensor
    pose_basis: Tensor

    def __init__(self, data: ModelData) -> None:
        """Build the module from a model's arrays, which are copied."""
        super().__init__()
        self.name, self.source, self.licence = data.name, data.source, data.licence
        self.expression_names, self.blendshapes = data.expression_names, data.blendshapes
        self.albedo_encoding = data.albedo_encoding
        V = len(data.mean)
        self.num_vertices, self.num_identity, self.num_expression = V, len(data.identity), len(data.expression)
        self.num_albedo = 0 if data.albedo is None else len(data.albedo)
        self._buffer("rows", np.concatenate([data.mean[None], data.identity, data.expression]).reshape(-1, V * 3))
        self._buffer("faces", data.faces)
        self._buffer("albedo_mean", data.albedo_mean)
        self._buffer("albedo_basis", None if data.albedo is None else data.albedo.reshape(-1, V * 3))
        self._buffer("landmark_index", data.landmark_index)
        self._buffer("landmark_weights", data.landmark_weights)
        self._buffer("has_landmark", data.has_landmark)
        self._buffer("contour", _contour(data))
        self._buffer("uv", data.uv)
        self._buffer("uv_faces", data.uv_faces)
        self._buffer("symmetry", data.symmetry)
        self.regions = {k: torch.from_numpy(v).long() for k, v in regions_of(data).items()}
        s = data.skeleton
        self.joints = () if s is None else tuple(s.names[1:])
        self.parents = () if s is None else tuple(int(p) for p in s.parents)
        self._buffer("skin_weights", None if s is None else s.weights)
        self._buffer("joint_regressor", None if s is None else s.regressor)
        self._buffer("pose_basis", None if s is None or s.pose_basis is None else s.pose_basis.reshape(-1, V * 3))
        self._topology = Topology(self.faces, V)

    def _buffer(self, name: str, array: np.ndarray | None) -> None:
        self.register_buffer(name, None if array is None else torch.from_numpy(np.array(array)), persistent=False)

    @property
    def topology(self) -> Topology:
        """`facerender.Topology` of the faces, on the module's device."""
        self._topology = self._topology.to(self.faces.device)
        return self._topology

    @property
    def mean(self) -> Tensor:
        """The mean face [V,3] mm, without expression."""
        return self.rows[0].view(self.num_vertices, 3)

    @property
    def basis(self) -> Tensor:
        """All modes of shape [I+E,V*3] mm: identity above expression."""
        return self.rows[1:]

    @property
    def identity_basis(self) -> Tensor:
        """Modes of identity [I,V,3], mm per standard deviation."""
        return self.basis[: self.num_identity].view(-1, self.num_vertices, 3)

    @property
    def expression_basis(self) -> Tensor:
        """Modes of expression [E,V,3], mm per unit of the coefficient."""
        return self.basis[self.num_identity :].view(-1, self.num_vertices, 3)

    def forward(
        self,
        identity: Tensor | np.ndarray | None = None,
        expression: Tensor | np.ndarray | None = None,
        albedo: Tensor | np.ndarray | None = None,
        joints: Tensor | np.ndarray | None = None,
    ) -> ModelOutput:
        """Evaluate the model. Without any coefficients: the mean face, N = 1.

        Args:
            identity: [N,<=I] or [1,<=I]; None: zeros.
            expression: [N,<=E] or [1,<=E]; None: zeros.
            albedo: [N,<=A] or [1,<=A]; None: zeros.
            joints: [N,J-1,3] or [1,J-1,3], rotation vectors of `joints`, radians; None: at rest.

        Returns:
            Vertices in mm, linear albedo and static landmarks in mm.

        Raises:
            ValueError: coefficients do not fit the model, or their batches do not fit each other.
        """
        vertices = self.shape(identity, expression, joints)
        colors = self.albedo(albedo) if self.num_albedo else None
        return ModelOutput(vertices, colors, self.landmarks(vertices) if self.landmark_index is not None else None)

    def shape(
        self,
        identity: Tensor | np.ndarray | None = None,
        expression: Tensor | np.ndarray | None = None,
        joints: Tensor | np.ndarray | None = None,
    ) -> Tensor:
        """Vertices [N,V,3] in millimeters.

        Args:
            identity: [N,<=I] or [1,<=I], a tensor or an array of numpy; standard deviations, of any size; None: zeros.
            expression: [N,<=E] or [1,<=E], likewise; activations of blend shapes above 1 exaggerate, and nothing clips
                them; None: zeros.
            joints: [N,J-1,3] or [1,J-1,3], rotation vectors of `joints`, radians; None: at rest.

        Raises:
            ValueError: coefficients have more columns than the model has modes, or the batches do not fit each other;
                the message names both sizes.
        """
        identity = self._checked("identity", identity, self.num_identity)
        expression = self._checked("expression", expression, self.num_expression)
        joints = None if joints is None else self._tensor("joints", joints)
        _check_batches(identity=identity, expression=expression, joints=joints)
        shape = self._at_rest(identity, expression)
        return shape if joints is None else self._posed(shape, joints)

    def _at_rest(self, identity: Tensor | None, expression: Tensor | None) -> Tensor:
        if identity is None:
            if expression is None:
                return self.mean[None]
            return blend(self.mean, self.basis[self.num_identity :][: expression.shape[1]], expression)
        if expression is None:
            return blend(self.mean, self.basis[: identity.shape[1]], identity)
        if len(identity) == len(expression) and identity.shape[1] == self.num_identity:
            rows = self.rows[: 1 + self.num_identity + expression.shape[1]]
            coefficients = torch.cat([identity.new_ones(len(identity), 1), identity, expression], 1)
            return (coefficients @ rows).view(-1, self.num_vertices, 3)
        neutral = blend(self.mean, self.basis[: identity.shape[1]], identity)
        moved = expression @ self.basis[self.num_identity :][: expression.shape[1]]
        return moved.view(-1, self.num_vertices, 3) + neutral

    def _posed(self, shape: Tensor, rotations: Tensor) -> Tensor:
        """Vertices [N,V,3] at rest, skinned with rotation vectors [N,J-1,3]."""
        if not self.joints:
            raise ValueError(f"joints: the model {self.name} has none, got {list(rotations.shape)}")
        if rotations.shape[1:] != (len(self.joints), 3):
            raise ValueError(
                f"joints must be [N,{len(self.joints)},3], rotation vectors of {', '.join(self.joints)}, "
                f"got {list(rotations.shape)}"
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

    def albedo(self, coefficients: Tensor | np.ndarray | None = None) -> Tensor:
        """Linear albedo [N,V,3] in 0..1.

        Args:
            coefficients: [N,<=A]; None: the mean's albedo, N = 1.

        Raises:
            ValueError: the model has no colors, or fewer modes than there are columns.
        """
        if not self.num_albedo:
            raise ValueError(f"the model {self.name} has no albedo")
        coefficients = self._checked("albedo", coefficients, self.num_albedo)
        colors = (
            self.albedo_mean[None]
            if coefficients is None
            else blend(self.albedo_mean, self.albedo_basis[: coefficients.shape[1]], coefficients)
        )
        colors = colors.clamp(0, 1)
        return to_linear(colors) if self.albedo_encoding == "srgb" else colors

    def landmarks(self, vertices: Tensor, rotation: Tensor | None = None) -> Tensor:
        """The 68 landmarks [N,68,3] of vertices, in the unit of the vertices (mm).

        Args:
            vertices: [N,V,3].
            rotation: [N,3,3] of the head. With it, the first 17 landmarks lie on the visible outline, which is what
                people mark in photos; without it, at fixed places of the head, which is what 3D data sets label.

        Returns:
            [N,68,3]; landmarks that the model lacks (see `has_landmark`) are 0.

        Raises:
            ValueError: the model has no landmarks.
        """
        if self.landmark_index is None:
            raise ValueError(
                f"the model {self.name} has no landmarks; put the landmark file that belongs to it beside it "
                "(facemodels doctor names it)"
            )
        points = gather_points(vertices, self.landmark_index, self.landmark_weights)
        if rotation is None or self.contour is None:
            return points
        chosen = moving_contour(vertices, self.contour, rotation)
        moved = vertices[torch.arange(len(vertices), device=vertices.device)[:, None], chosen]
        static = chosen == self.contour[:, 0]
        return torch.cat([torch.where(static[..., None], points[:, CONTOUR], moved), points[:, INNER]], 1)

    def _tensor(self, name: str, value: Tensor | np.ndarray) -> Tensor:
        """An array as a tensor of the model's precision; arrays of numpy also come to its device."""
        if isinstance(value, Tensor):
            return value.to(self.rows.dtype)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
            raise ValueError(f"{name} must be a tensor or an array of numbers, got {type(value).__name__}")
        return torch.as_tensor(value, dtype=self.rows.dtype, device=self.rows.device)

    def _checked(self, name: str, value: Tensor | np.ndarray | None, modes: int) -> Tensor | None:
        """Coefficients, after checking that they are [N,K] with K at most `modes`."""
        if value is None:
            return None
        value = self._tensor(name, value)
        if value.dim() != 2 or value.shape[1] > modes:
            raise ValueError(
                f"{name} must be [N,{modes}] or fewer columns for the model {self.name}, got {list(value.shape)}"
            )
        return value

    def __repr__(self) -> str:
        return (
            f"MorphableModel({self.name}: V={self.num_vertices}, F={len(self.faces)}, identity={self.num_identity}, "
            f"expression={self.num_expression}, albedo={self.num_albedo})"
        )


def _contour(data: ModelData) -> np.ndarray | None:
    """The candidates of the moving contour: the model's, or found on the mean face if it has the landmarks for it."""
    has = data.has_landmark
    if data.contour is not None or has is None or not (has[CONTOUR].all() and has[list(OUTER_CORNERS)].all()):
        return data.contour
    assert data.landmark_index is not None and data.landmark_weights is not None
    return contour_lines(data.mean, data.faces, data.landmark_index, data.landmark_weights)


def _check_batches(**tensors: Tensor | None) -> None:
    sizes = {name: len(t) for name, t in tensors.items() if t is not None}
    if len({s for s in sizes.values() if s != 1}) > 1:
        raise ValueError(
            "batches must be equal or 1, got " + ", ".join(f"{name} {size}" for name, size in sizes.items())
        )
