"""The arrays that a morphable model consists of: what every reader of `facemodels.models.formats` returns and
`MorphableModel` is built from.

Conventions: millimeters, y up, +z out of the face, +x to the subject's left; faces counterclockwise seen from outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from facemodels.core.errors import InputError
from facemodels.core.landmarks import NUM_CONTOUR, NUM_LANDMARKS


@dataclass
class Skeleton:
    """Joints of a model that is posed by skinning (FLAME).

    Attributes:
        names: of the J joints, the root first.
        parents: the parent of each joint, -1 for the root; parents before children.
        weights: float32 [V,J], how much each vertex follows each joint; rows of sum 1.
        regressor: float32 [J,V], the joints at rest as means of the vertices before posing.
        pose_basis: float32 [9(J-1),V,3] mm, offsets for the entries of (R - I) of every joint but the root, row by row;
            None for a model without.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    weights: np.ndarray
    regressor: np.ndarray
    pose_basis: np.ndarray | None = None


@dataclass
class ModelData:
    """The arrays of a morphable model, in this library's conventions.

    They are checked when the object is made: an array of a wrong shape, an index out of range or a number that is not
    finite raises `InputError` with the model's name.

    Attributes:
        name: what the model is.
        mean: float32 [V,3] mm, the mean face, without expression.
        identity: float32 [I,V,3], mm per standard deviation.
        expression: float32 [E,V,3], mm per unit of the coefficient: a standard deviation or, for blend shapes, a full
            activation.
        faces: int32 [F,3].
        expression_names: a name for each mode of expression; () gives them numbers.
        blendshapes: whether coefficients of expressions are activations in 0..1.
        albedo_mean: float32 [V,3] in 0..1, encoded as `albedo_encoding` says; None for a model without colors.
        albedo: float32 [A,V,3], per standard deviation; None for a model without colors.
        albedo_encoding: "linear" or "srgb".
        landmark_index: int32 [68,3], the vertices of each static landmark; None for a model without landmarks.
        landmark_weights: float32 [68,3], their weights; all 0 for a landmark that the model lacks.
        contour: int32 [17,K], candidates of the moving contour (`facemodels.core.contour`); None: `MorphableModel`
            finds them on the mean face.
        uv: float32 [T,2], texture coordinates, (0, 0) at the lower left; None for a model without.
        uv_faces: int32 [F,3], the corners of the faces in `uv`.
        regions: name -> int32 vertices ("face", "nose", ...). The region "face" is what models are fitted to and
            measured on.
        symmetry: int32 [V], the mirror image of each vertex; None where it is not known.
        skeleton: joints; None for a model without.
        source: where the model came from.
        licence: what may be done with it.
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

    def __post_init__(self) -> None:
        """Check all arrays, and bring them to their dtypes."""
        V, F = len(self.mean), len(self.faces)
        if not self.expression_names:
            self.expression_names = tuple(f"expression{k:03d}" for k in range(len(self.expression)))
        self.expression_names = tuple(self.expression_names)
        self.mean = self._numbers("mean", self.mean, (V, 3))
        self.identity = self._numbers("identity", self.identity, (None, V, 3))
        self.expression = self._numbers("expression", self.expression, (None, V, 3))
        self.faces = self._indices("faces", self.faces, (F, 3), V)
        if (self.albedo_mean is None) != (self.albedo is None):
            raise InputError(f"{self.name}: albedo_mean and albedo come together or not at all")
        if self.albedo_mean is not None:
            self.albedo_mean = self._numbers("albedo_mean", self.albedo_mean, (V, 3))
            self.albedo = self._numbers("albedo", self.albedo, (None, V, 3))
        if self.albedo_encoding not in ("linear", "srgb"):
            raise InputError(f"{self.name}: albedo_encoding must be 'linear' or 'srgb', got {self.albedo_encoding!r}")
        if self.landmark_index is not None:
            self.landmark_index = self._indices("landmark_index", self.landmark_index, (NUM_LANDMARKS, 3), V)
            self.landmark_weights = self._numbers("landmark_weights", self.landmark_weights, (NUM_LANDMARKS, 3))
        if self.contour is not None:
            self.contour = self._indices("contour", self.contour, (NUM_CONTOUR, None), V)
        if (self.uv is None) != (self.uv_faces is None):
            raise InputError(f"{self.name}: uv and uv_faces come together or not at all")
        if self.uv is not None:
            self.uv = self._numbers("uv", self.uv, (None, 2))
            self.uv_faces = self._indices("uv_faces", self.uv_faces, (F, 3), len(self.uv))
        if self.symmetry is not None:
            self.symmetry = self._indices("symmetry", self.symmetry, (V,), V)
        self.regions = {k: np.ascontiguousarray(v, np.int32) for k, v in self.regions.items()}
        for k, v in self.regions.items():
            if v.ndim != 1 or (v.size and (v.min() < 0 or v.max() >= V)):
                raise InputError(f"{self.name}: region {k!r} must be a list of vertices in 0..{V - 1}")
        if len(self.expression_names) != len(self.expression):
            raise InputError(f"{self.name}: {len(self.expression)} expressions have {len(self.expression_names)} names")
        if self.skeleton is not None:
            self.skeleton = self._checked_skeleton(self.skeleton)

    def save(self, path: str | Path) -> None:
        """Write the model to a file that `facemodels.load_model` reads.

        Args:
            path: A name ending in .safetensors; an existing file is replaced once the new one is complete.

        Raises:
            InputError: The name ends in something else, or the file cannot be written.
        """
        from facemodels.models.formats.native import write_native  # which builds on this module

        write_native(self, path)

    @property
    def has_landmark(self) -> np.ndarray | None:
        """bool [68], which landmarks the model has; None for a model without any."""
        if self.landmark_index is None or self.landmark_weights is None:
            return None
        return self.landmark_weights.sum(1) != 0

    def _checked_skeleton(self, s: Skeleton) -> Skeleton:
        """The skeleton in single precision, after checking that it fits the vertices."""
        V, J = len(self.mean), len(s.names)
        tree = (
            len(s.parents) == J
            and J > 0
            and s.parents[0] == -1
            and all(0 <= p < j for j, p in enumerate(s.parents) if j)
        )
        fits = (
            s.weights.shape == (V, J)
            and s.regressor.shape == (J, V)
            and (s.pose_basis is None or s.pose_basis.shape == (9 * (J - 1), V, 3))
        )
        arrays = {k: getattr(s, k) for k in ("weights", "regressor", "pose_basis") if getattr(s, k) is not None}
        if not (tree and fits) or not all(np.isfinite(a).all() for a in arrays.values()):
            raise InputError(f"{self.name}: the skeleton's {J} joints do not fit its {V} vertices, or hold NaN")
        single: dict[str, Any] = {k: np.ascontiguousarray(a, np.float32) for k, a in arrays.items()}
        return replace(s, **single)

    def _numbers(self, name: str, array: Any, shape: Sequence[int | None]) -> np.ndarray:
        """The array as float32, after checking its shape (None for any size) and that its numbers are finite."""
        value = np.ascontiguousarray(array, np.float32)
        self._check_shape(name, value, shape)
        if not np.isfinite(value).all():
            raise InputError(f"{self.name}: {name} holds a number that is not finite")
        return value

    def _indices(self, name: str, array: Any, shape: Sequence[int | None], count: int) -> np.ndarray:
        """The array as int32, after checking its shape (None for any size) and that it holds indices below count."""
        value = np.asarray(array)
        self._check_shape(name, value, shape)
        if value.size and (value.min() < 0 or value.max() >= count):
            raise InputError(
                f"{self.name}: {name} must hold indices in 0..{count - 1}, got {value.min()}..{value.max()}"
            )
        return np.ascontiguousarray(value, np.int32)

    def _check_shape(self, name: str, value: np.ndarray, shape: Sequence[int | None]) -> None:
        if value.ndim != len(shape) or any(w is not None and w != g for w, g in zip(shape, value.shape)):
            raise InputError(f"{self.name}: {name} must be {_shape_text(shape)}, got {_shape_text(value.shape)}")


def _shape_text(shape: Sequence[int | None]) -> str:
    return "[" + ",".join("any" if s is None else str(s) for s in shape) + "]"


def truncated(
    data: ModelData, identity: int | None = None, expression: int | None = None, albedo: int | None = None
) -> ModelData:
    """The model with only its first modes of each kind; None keeps all."""
    short = replace(
        data,
        identity=data.identity[:identity],
        expression=data.expression[:expression],
        expression_names=data.expression_names[:expression],
    )
    return short if data.albedo is None else replace(short, albedo=data.albedo[:albedo])
