"""models.model_data: TODO."""

from dataclasses import dataclass, field, replace

import numpy as np

from facemodels.core.errors import InputError
from facemodels.core.landmarks import NUM_CONTOUR, NUM_LANDMARKS


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
            self._index("landmark_index", (NUM_LANDMARKS, 3), V)
            self._array("landmark_weights", (NUM_LANDMARKS, 3))
        if self.contour is not None:
            self._index("contour", (NUM_CONTOUR, None), V)
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
        ok = (
            len(s.parents) == J
            and J > 0
            and s.parents[0] == -1
            and all(0 <= p < j for j, p in enumerate(s.parents) if j)
        )
        ok = (
            ok
            and s.weights.shape == (V, J)
            and s.regressor.shape == (J, V)
            and (s.pose_basis is None or s.pose_basis.shape == (9 * (J - 1), V, 3))
        )
        arrays = [a for a in (s.weights, s.regressor, s.pose_basis) if a is not None]
        if not ok or not all(np.isfinite(a).all() for a in arrays):
            raise InputError(f"{self.name}: the skeleton's {J} joints do not fit its {V} vertices, or hold NaN")
        single = {
            k: np.ascontiguousarray(getattr(s, k), np.float32)
            for k in ("weights", "regressor", "pose_basis")
            if getattr(s, k) is not None
        }
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
            raise InputError(
                f"{self.name}: {name} must hold indices in 0..{count - 1}, got {value.min()}..{value.max()}"
            )
        setattr(self, name, np.ascontiguousarray(value, np.int32))


def _shape(shape):
    return "[" + ",".join("any" if s is None else str(s) for s in shape) + "]"


def truncated(
    data: ModelData, identity: int | None = None, expression: int | None = None, albedo: int | None = None
) -> ModelData:
    """The model with only its first modes."""
    short = replace(
        data,
        identity=data.identity[:identity],
        expression=data.expression[:expression],
        expression_names=data.expression_names[:expression],
    )
    return short if data.albedo is None else replace(short, albedo=data.albedo[:albedo])
