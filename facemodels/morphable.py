"""Morphable face models: coefficients to vertices, albedo and landmarks.

The linear model of Blanz and Vetter (1999), with expressions (Cao et al. 2014) and, where a model has joints, linear blend skinning with
pose blend shapes (Li et al. 2017): plain functions first, then the arrays that a model consists of (`ModelData`, what every reader of
`facemodels.formats` returns), then the module that holds them (`MorphableModel`).

Conventions, the same for every model after loading: millimetres, y up, +z out of the face, +x to the subject's left; identity and albedo
coefficients have unit variance; triangles are counter-clockwise seen from outside; the 68 landmarks are in Multi-PIE (iBUG) order.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from facerender import Topology
from facerender.colour import to_linear

from .errors import InputError

LANDMARKS = 68
CONTOUR = 17  # the first of them, along the jaw from the subject's right ear to the left


# ---------------------------------------------------------------------------------------------------------------------- functions


def blend(mean: Tensor, basis: Tensor, coefficients: Tensor) -> Tensor:
    """mean + coefficients @ basis: [V,3] or [N|1,V,3], [K,V*3], [N,K] -> [N,V,3]."""
    vertices = mean.shape[-2]
    return torch.addmm(mean.reshape(-1, vertices * 3), coefficients, basis).view(-1, vertices, 3)


def axis_angle_rotation(vectors: Tensor) -> Tensor:
    """Rotation vectors [...,3], radians, to matrices [...,3,3] (Rodrigues); exact and differentiable at zero too."""
    square = (vectors * vectors).sum(-1)[..., None, None]
    small = square < 1e-6
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    a = torch.where(small, 1 - square / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / safe)
    x, y, z = vectors.unbind(-1)
    o = torch.zeros_like(x)
    k = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*vectors.shape[:-1], 3, 3)
    return torch.eye(3, dtype=vectors.dtype, device=vectors.device) + a * k + b * (k @ k)


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


def gather_points(vertices: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Points on the surface: vertices [N,V,3], index [...,3] (three vertices a point), weights [...,3] -> [N,...,3]."""
    return (vertices[:, index.long()] * weights[..., None].to(vertices.dtype)).sum(-2)


def moving_contour(vertices: Tensor, lines: Tensor, rotation: Tensor) -> Tensor:
    """The face contour as it is seen: on each line of candidates the one that lies farthest outwards in the image ("landmark marching",
    Zhu et al. 2015).

    vertices [N,V,3]; lines [17,K] vertex indices, each from its static landmark (first) forwards over the cheek, padded by repetition;
    rotation [N,3,3] of the head -> chosen vertices int64 [N,17]. Outwards is away from the middle of the static contour, per landmark. Not
    differentiable itself: the coordinates of the chosen vertices are.
    """
    seen = vertices.detach()[:, lines.long()].float() @ rotation.detach().float()[:, None].transpose(-1, -2)  # [N,17,K,3]
    static = seen[:, :, 0, :2]
    outwards = static - static.mean(1, keepdim=True)
    outwards = torch.nn.functional.normalize(_level(outwards, rotation), dim=-1)
    choice = (seen[..., :2] * outwards[:, :, None]).sum(-1).argmax(-1)  # the first of equals: the static one
    return lines.long()[torch.arange(lines.shape[0], device=lines.device), choice]


def _level(outwards, rotation):
    """Keeps the outward directions' side: seen in profile, the static contour of the far side lies across the middle."""
    right = rotation[:, :2, 0].float()[:, None]  # where the head's x axis points in the image
    side = outwards.new_tensor([-1.0] * 8 + [0.0] + [1.0] * 8)[:, None]
    flat = (right / right.norm(dim=-1, keepdim=True).clamp(min=1e-6)) * side * outwards.norm(dim=-1, keepdim=True)
    along = (outwards * right).sum(-1, keepdim=True) * side
    return torch.where(along > 0, outwards, flat + (outwards - (outwards * flat).sum(-1, keepdim=True) * flat / (flat * flat).sum(-1, keepdim=True).clamp(min=1e-6)))


# --------------------------------------------------------------------------------------------------------------------------- data


@dataclass
class Skeleton:
    """Joints of a model that is posed by skinning (FLAME).

    names: of the joints, the root first. parents: the parent of each, -1 for the root. weights float32 [V,J]. regressor float32 [J,V]: rest
    joints from the unposed shape. pose_basis float32 [9(J-1),V,3] mm, or None: offsets for (R - I) of every joint but the root, row-major.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    weights: np.ndarray
    regressor: np.ndarray
    pose_basis: np.ndarray | None = None


@dataclass
class ModelData:
    """The arrays of a morphable model, in this library's conventions (see the module). Checked when made: an array of a wrong shape, an
    index out of range or a number that is not finite raises `InputError` with the model's name.

    name, source, licence: what it is, where it came from, what may be done with it.
    mean: float32 [V,3] mm, the mean face, without expression.
    identity: float32 [I,V,3] mm for one standard deviation.
    expression: float32 [E,V,3] mm for a coefficient of one: a standard deviation, or, where `blendshapes` is true, a full activation (their
        coefficients run from 0 to 1). expression_names: a name for each.
    faces: int32 [F,3].
    albedo_mean float32 [V,3], albedo float32 [A,V,3] for one standard deviation; in 0..1, encoded as `albedo_encoding` says ("linear" or
        "srgb"). None for a model without colours.
    landmark_index int32 [68,3], landmark_weights float32 [68,3]: the static landmarks, each a weighted mean of three vertices; a landmark
        that the model does not have has weights of 0. None for a model without landmarks.
    contour: int32 [17,K]: candidates of the moving contour, see `moving_contour`. Found from the geometry where it is None.
    uv float32 [T,2], (0, 0) at the lower left, uv_faces int32 [F,3]: texture coordinates, with corners of their own.
    regions: name -> int32 vertex indices ("face", "nose", ...). The region "face" is what is fitted to and measured on.
    symmetry: int32 [V]: the mirror image of each vertex, or None.
    skeleton: joints, or None.
    """

    name: str
    mean: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    faces: np.ndarray
    expression_names: tuple[str, ...] = ()
    blendshapes: bool = False
    albedo_mean: np.ndarray | None = None
    albedo: np.ndarray | None = None
    albedo_encoding: str = "linear"
    landmark_index: np.ndarray | None = None
    landmark_weights: np.ndarray | None = None
    contour: np.ndarray | None = None
    uv: np.ndarray | None = None
    uv_faces: np.ndarray | None = None
    regions: dict[str, np.ndarray] = field(default_factory=dict)
    symmetry: np.ndarray | None = None
    skeleton: Skeleton | None = None
    source: str = ""
    licence: str = ""

    def __post_init__(self):
        V, F = len(self.mean), len(self.faces)
        if not self.expression_names:
            self.expression_names = tuple(f"expression{k:03d}" for k in range(len(self.expression)))
        self.expression_names = tuple(self.expression_names)
        self._array("mean", (V, 3))
        self._array("identity", (None, V, 3))
        self._array("expression", (None, V, 3))
        self._index("faces", (F, 3), V)
        if (self.albedo_mean is None) != (self.albedo is None):
            raise InputError(f"{self.name}: albedo_mean and albedo come together or not at all")
        if self.albedo_mean is not None:
            self._array("albedo_mean", (V, 3))
            self._array("albedo", (None, V, 3))
        if self.albedo_encoding not in ("linear", "srgb"):
            raise InputError(f"{self.name}: albedo_encoding must be 'linear' or 'srgb', got {self.albedo_encoding!r}")
        if self.landmark_index is not None:
            self._index("landmark_index", (LANDMARKS, 3), V)
            self._array("landmark_weights", (LANDMARKS, 3))
        if self.contour is not None:
            self._index("contour", (CONTOUR, None), V)
        if (self.uv is None) != (self.uv_faces is None):
            raise InputError(f"{self.name}: uv and uv_faces come together or not at all")
        if self.uv is not None:
            self._array("uv", (None, 2))
            self._index("uv_faces", (F, 3), len(self.uv))
        if self.symmetry is not None:
            self._index("symmetry", (V,), V)
        self.regions = {k: np.ascontiguousarray(v, np.int32) for k, v in self.regions.items()}
        for k, v in self.regions.items():
            if v.ndim != 1 or (v.size and (v.min() < 0 or v.max() >= V)):
                raise InputError(f"{self.name}: region {k!r} must be a list of vertices in 0..{V - 1}")
        if len(self.expression_names) != len(self.expression):
            raise InputError(f"{self.name}: {len(self.expression)} expressions have {len(self.expression_names)} names")
        if self.skeleton is not None:
            self._check_skeleton(V)

    def _check_skeleton(self, V):
        s = self.skeleton
        J = len(s.names)
        ok = len(s.parents) == J and J > 0 and s.parents[0] == -1 and all(0 <= p < j for j, p in enumerate(s.parents) if j)
        ok = ok and s.weights.shape == (V, J) and s.regressor.shape == (J, V) and (s.pose_basis is None or s.pose_basis.shape == (9 * (J - 1), V, 3))
        arrays = [a for a in (s.weights, s.regressor, s.pose_basis) if a is not None]
        if not ok or not all(np.isfinite(a).all() for a in arrays):
            raise InputError(f"{self.name}: the skeleton's {J} joints do not fit its {V} vertices, or hold NaN")
        single = {k: np.ascontiguousarray(getattr(s, k), np.float32) for k in ("weights", "regressor", "pose_basis") if getattr(s, k) is not None}
        self.skeleton = replace(s, **single)

    def _array(self, name, shape):
        value = np.ascontiguousarray(getattr(self, name), np.float32)
        if value.ndim != len(shape) or any(w is not None and w != g for w, g in zip(shape, value.shape)):
            raise InputError(f"{self.name}: {name} must be {_shape(shape)}, got {_shape(value.shape)}")
        if not np.isfinite(value).all():
            raise InputError(f"{self.name}: {name} holds a number that is not finite")
        setattr(self, name, value)

    def _index(self, name, shape, count):
        value = np.asarray(getattr(self, name))
        if value.ndim != len(shape) or any(w is not None and w != g for w, g in zip(shape, value.shape)):
            raise InputError(f"{self.name}: {name} must be {_shape(shape)}, got {_shape(value.shape)}")
        if value.size and (value.min() < 0 or value.max() >= count):
            raise InputError(f"{self.name}: {name} must hold indices in 0..{count - 1}, got {value.min()}..{value.max()}")
        setattr(self, name, np.ascontiguousarray(value, np.int32))


def _shape(shape):
    return "[" + ",".join("any" if s is None else str(s) for s in shape) + "]"


def contour_lines(mean: np.ndarray, faces: np.ndarray, landmark_index: np.ndarray, landmark_weights: np.ndarray, candidates: int = 16) -> np.ndarray:
    """Lines of candidates for `moving_contour`, int32 [17,K], from the mean face alone.

    Each line starts at its static landmark and runs forwards over the face in the half plane through the landmark and the axis along z
    behind the nose, to half the landmark's distance from the axis. Candidates are the outermost vertices nearest to that half plane.
    """
    points = (mean[landmark_index] * landmark_weights[..., None]).sum(1)
    centre = points[[36, 45, 48, 54]].mean(0)  # eye and mouth corners
    front = np.unique(faces)
    xyz = mean[front] - centre
    polar = np.stack([np.hypot(xyz[:, 0], xyz[:, 1]), np.arctan2(xyz[:, 1], xyz[:, 0])], -1)
    lines = np.empty((CONTOUR, candidates), np.int32)
    for k in range(CONTOUR):
        p = points[k] - centre
        radius, angle = np.hypot(p[0], p[1]), np.arctan2(p[1], p[0])
        first = landmark_index[k][landmark_weights[k].argmax()]
        line = [first]
        for r in np.linspace(1, 0.5, candidates)[1:]:
            # In the half plane at this distance from the axis: the foremost vertex within a narrow window.
            off = np.abs(np.angle(np.exp(1j * (polar[:, 1] - angle)))) * polar[:, 0]
            window = np.hypot(off, polar[:, 0] - r * radius)
            near = window < max(6.0, np.partition(window, 3)[3])
            chosen = np.flatnonzero(near)[xyz[near, 2].argmax()]
            line.append(front[chosen] if xyz[chosen, 2] >= mean[line[-1], 2] - centre[2] - 2 else line[-1])
        lines[k] = line
    return lines


# ------------------------------------------------------------------------------------------------------------------------- module


class Face(NamedTuple):
    vertices: Tensor  # [N,V,3] mm
    albedo: Tensor | None  # [N,V,3] linear, 0..1
    landmarks: Tensor | None  # [N,68,3] mm, static


class MorphableModel(nn.Module):
    """A morphable model as a module of buffers: nothing in it is trained.

    ``model(identity, expression, albedo)`` gives a `Face`; `shape`, `albedo` and `landmarks` give its parts. A coefficient tensor that is None means zeros; one with fewer columns
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
        if contour is None and has is not None and has[:CONTOUR].all() and has[[36, 45, 48, 54]].all():
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

    def forward(self, identity: Tensor | None = None, expression: Tensor | None = None, albedo: Tensor | None = None, joints: Tensor | None = None) -> Face:
        """identity [N|1,<=I], expression [N|1,<=E], albedo [N|1,<=A], joints [N|1,J,3] rotation vectors -> Face. All None: the mean face, N = 1."""
        vertices = self.shape(identity, expression, joints)
        colours = self.albedo(albedo) if self.num_albedo else None
        return Face(vertices, colours, self.landmarks(vertices) if self.landmark_index is not None else None)

    def shape(self, identity: Tensor | None = None, expression: Tensor | None = None, joints: Tensor | None = None) -> Tensor:
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
            return (torch.cat([one, identity, expression], 1) @ self.rows[: 1 + self.num_identity + expression.shape[1]]).view(-1, self.num_vertices, 3)
        neutral = blend(self.mean, self.basis[: identity.shape[1]], identity)
        moved = expression @ self.basis[self.num_identity :][: expression.shape[1]]
        return moved.view(-1, self.num_vertices, 3) + neutral

    def _pose(self, shape, rotations):
        if not self.joints:
            raise ValueError(f"joints: the model {self.name} has none, got {list(rotations.shape)}")
        if rotations.shape[1:] != (len(self.joints), 3):
            raise ValueError(f"joints must be [N,{len(self.joints)},3], rotation vectors of {', '.join(self.joints)}, got {list(rotations.shape)}")
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
        colours = self.albedo_mean[None] if coefficients is None else blend(self.albedo_mean, self.albedo_basis[: coefficients.shape[1]], coefficients)
        colours = colours.clamp(0, 1)
        return to_linear(colours) if self.albedo_encoding == "srgb" else colours

    def landmarks(self, vertices: Tensor, rotation: Tensor | None = None) -> Tensor:
        """The 68 landmarks [N,68,3] of vertices [N,V,3]; with the head's rotation [N,3,3], the first 17 lie on the contour as it is seen
        under it (what 2D annotators mark), without, at their static places (what 3D data sets label). `has_landmark` tells which the model has.

        Raises:
            ValueError: the model has no landmarks.
        """
        if self.landmark_index is None:
            raise ValueError(f"the model {self.name} has no landmarks; put the landmark file that belongs to it beside it (facemodels doctor names it)")
        points = gather_points(vertices, self.landmark_index, self.landmark_weights)
        if rotation is None or self.contour is None:
            return points
        chosen = moving_contour(vertices, self.contour, rotation)
        moved = vertices[torch.arange(len(vertices), device=vertices.device)[:, None], chosen]
        static = chosen == self.contour[:, 0]
        return torch.cat([torch.where(static[..., None], points[:, :CONTOUR], moved), points[:, CONTOUR:]], 1)

    def _coefficients(self, name, value, modes):
        if value is None:
            return None
        if value.dim() != 2 or value.shape[1] > modes:
            raise ValueError(f"{name} must be [N,{modes}] or fewer columns for the model {self.name}, got {list(value.shape)}")
        return value

    def __repr__(self) -> str:
        return f"MorphableModel({self.name}: V={self.num_vertices}, F={len(self.faces)}, identity={self.num_identity}, expression={self.num_expression}, albedo={self.num_albedo})"


def _same_batch(**tensors):
    sizes = {name: len(t) for name, t in tensors.items() if t is not None}
    if len({s for s in sizes.values() if s != 1}) > 1:
        raise ValueError("batches must be equal or 1, got " + ", ".join(f"{name} {size}" for name, size in sizes.items()))


def truncated(data: ModelData, identity: int | None = None, expression: int | None = None, albedo: int | None = None) -> ModelData:
    """The model with only its first modes."""
    short = replace(data, identity=data.identity[:identity], expression=data.expression[:expression], expression_names=data.expression_names[:expression])
    return short if data.albedo is None else replace(short, albedo=data.albedo[:albedo])
