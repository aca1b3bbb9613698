"""The arrays that a morphable model consists of: what every reader of `facemodels.models.formats` returns and
`MorphableModel` is built from.

Conventions: millimeters, y up, +z out of the face, +x to the subject's left; faces counterclockwise seen from outside.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from facemodels.core.errors import InputError
from facemodels.core.landmarks import NOSE_TIP, NUM_CONTOUR, NUM_LANDMARKS
from facemodels.models.plausible import CLEAR, outwardness, turned_over, weak_modes, wrong_axes, wrong_front, wrong_size
from facerender._checks import brief_repr

FACE_RADIUS = 95.0  # mm around the tip of the nose: the crop of the MICC Florence protocol
_FACE_ALONE = 0.75  # share of the triangles within this radius from which on a mesh is a face without its head
_COLORS = (-1.0, 2.0)  # an albedo that is meant to be in 0..1; sRGB bytes go to 255


@brief_repr
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


@brief_repr
@dataclass
class ModelData:
    """The arrays of a morphable model, in this library's conventions.

    They are checked when the object is made: an array of a wrong shape, an index out of range, a number that is not
    finite, a mean that is not in millimeters or faces another way (by its landmarks), or an albedo that is not in 0..1
    raises `InputError` with the model's name. Modes that move a face much less than people differ, as those in a larger
    unit do, give a warning.

    Attributes:
        name: what the model is.
        mean: float32 [V,3] mm, the mean face, without expression.
        identity: float32 [I,V,3], mm per standard deviation; None for a model without.
        expression: float32 [E,V,3], mm per unit of the coefficient: a standard deviation or, for blend shapes, a full
            activation; None for a model without.
        faces: int32 [F,3], triangles. Where most of the surface faces inward, the corners are put in the other order.
        expression_names: a name for each mode of expression; () gives them numbers.
        blendshapes: whether coefficients of expressions are activations in 0..1.
        albedo_mean: float32 [V,3] in 0..1, encoded as `albedo_encoding` says; None for a model without colors.
        albedo: float32 [A,V,3], per standard deviation; None for a model without colors.
        albedo_encoding: "linear" or "srgb".
        landmark_index: int32 [68,3], the vertices of each static landmark; or [68], where each is one vertex, -1 for a
            landmark that the model lacks; None for a model without landmarks.
        landmark_weights: float32 [68,3], their weights, of sum 1; all 0 for a landmark that the model lacks. None with
            a landmark_index [68].
        contour: int32 [17,K], candidates of the moving contour (`facemodels.core.contour`); None: `MorphableModel`
            finds them on the mean face.
        uv: float32 [T,2], texture coordinates, (0, 0) at the lower left; None for a model without.
        uv_faces: int32 [F,3], the corners of the faces in `uv`.
        regions: name -> int32 vertices ("face", "nose", ...), or a bool [V] that says which. The region "face" is what
            models are fitted to and measured on; where it is missing, a `MorphableModel` has `face_region`'s.
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
        for name, array, rows in (("mean", self.mean, "V"), ("faces", self.faces, "F")):
            if np.ndim(array) != 2:
                raise InputError(
                    f"{self.name}: {name} must be an array [{rows},3], got "
                    + ("None" if array is None else _shape_text(np.shape(array)))
                )
        V, F = len(self.mean), len(self.faces)
        self.identity, self.expression = (
            np.zeros((0, V, 3), np.float32) if modes is None else modes for modes in (self.identity, self.expression)
        )
        self.regions = self.regions or {}
        if len(self.expression_names) == 0:
            self.expression_names = tuple(f"expression{k:03d}" for k in range(len(self.expression)))
        self.expression_names = tuple(map(str, self.expression_names))
        self.mean = self._numbers("mean", self.mean, (V, 3))
        self._refuse(wrong_size(self.mean))
        self.identity = self._modes("identity", self.identity)
        self.expression = self._modes("expression", self.expression)
        if np.shape(self.faces)[1] == 4:
            raise InputError(
                f"{self.name}: faces must be triangles [F,3], got {_shape_text(np.shape(self.faces))}; where they are "
                "quads, np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]]) splits them (uv_faces too)"
            )
        self.faces = self._indices("faces", self.faces, (F, 3), V)
        if (self.albedo_mean is None) != (self.albedo is None):
            raise InputError(f"{self.name}: albedo_mean and albedo come together or not at all")
        if self.albedo_mean is not None:
            self.albedo_mean = self._numbers("albedo_mean", self.albedo_mean, (V, 3))
            low, high = float(self.albedo_mean.min(initial=0)), float(self.albedo_mean.max(initial=0))
            if low < _COLORS[0] or high > _COLORS[1]:
                raise InputError(
                    f"{self.name}: albedo_mean must be in 0..1, got {low:g}..{high:g}; divide it and albedo by "
                    "255 where they are bytes"
                )
            self.albedo = self._modes("albedo", self.albedo)
        if self.albedo_encoding not in ("linear", "srgb"):
            raise InputError(f"{self.name}: albedo_encoding must be 'linear' or 'srgb', got {self.albedo_encoding!r}")
        if self.landmark_index is not None:
            self._take_landmarks(V)
        if self.contour is not None:
            self.contour = self._indices("contour", self.contour, (NUM_CONTOUR, None), V)
        if (self.uv is None) != (self.uv_faces is None):
            raise InputError(f"{self.name}: uv and uv_faces come together or not at all")
        if self.uv is not None:
            self.uv = self._numbers("uv", self.uv, (None, 2))
            self.uv_faces = self._indices("uv_faces", self.uv_faces, (F, 3), len(self.uv))
        if outwardness(self.faces, self.mean) < -CLEAR:
            self.faces = turned_over(self.faces)
            self.uv_faces = None if self.uv_faces is None else turned_over(self.uv_faces)
        if self.symmetry is not None:
            self.symmetry = self._indices("symmetry", self.symmetry, (V,), V)
        self.regions = {name: self._region(name, vertices) for name, vertices in self.regions.items()}
        if len(self.expression_names) != len(self.expression):
            raise InputError(f"{self.name}: {len(self.expression)} expressions have {len(self.expression_names)} names")
        if self.skeleton is not None:
            self.skeleton = self._checked_skeleton(self.skeleton)
        self._check_face()

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

    def _check_face(self) -> None:
        """Check which way the mean faces; warn of modes that cannot be in millimeters."""
        if self.landmark_index is not None and self.landmark_weights is not None:
            weights = np.where(self.landmark_weights.any(1, keepdims=True), self.landmark_weights, np.nan)
            self._refuse(wrong_axes((self.mean[self.landmark_index] * weights[..., None]).sum(1)))
        face = regions_of(self).get("face", np.arange(len(self.mean)))
        if self.landmark_index is None:
            self._refuse(wrong_front(self.faces[np.isin(self.faces, face).all(1)], self.mean))
        for weak in weak_modes(self.identity, self.expression, face):
            warnings.warn(f"{self.name}: {weak}", stacklevel=4)

    def _refuse(self, wrong: str | None) -> None:
        if wrong is not None:
            raise InputError(f"{self.name}: {wrong}")

    def _take_landmarks(self, vertices: int) -> None:
        """Check the landmarks, and bring those of one vertex each to the form of the others."""
        index = np.asarray(self.landmark_index)
        if index.ndim == 1 and self.landmark_weights is None:
            if len(index) != NUM_LANDMARKS:
                raise InputError(
                    f"{self.name}: landmark_index must be [{NUM_LANDMARKS}], got [{len(index)}]; put -1 for each "
                    "landmark that the model lacks"
                )
            self._indices("landmark_index", np.where(index == -1, 0, index), (NUM_LANDMARKS,), vertices)
            both = vertex_landmarks(index)
            self.landmark_index, self.landmark_weights = both["landmark_index"], both["landmark_weights"]
        if self.landmark_weights is None:
            raise InputError(
                f"{self.name}: landmark_index {_shape_text(index.shape)} needs landmark_weights [68,3]; without them "
                "it is [68], a vertex for each landmark"
            )
        self.landmark_index = self._indices("landmark_index", self.landmark_index, (NUM_LANDMARKS, 3), vertices)
        self.landmark_weights = self._numbers("landmark_weights", self.landmark_weights, (NUM_LANDMARKS, 3))
        sums = self.landmark_weights.sum(1)
        wrong = np.flatnonzero((np.abs(sums - 1) > 0.01) & (sums != 0))
        if len(wrong):
            raise InputError(
                f"{self.name}: landmark_weights must have rows of sum 1, or 0 for a landmark that the model lacks; row "
                f"{wrong[0]} has {sums[wrong[0]]:g}"
            )

    def _region(self, name: str, vertices: Any) -> np.ndarray:
        """A region as int32 vertices, from those or from a bool for each vertex."""
        value, V = np.asarray(vertices), len(self.mean)
        if value.dtype == bool:
            if value.shape != (V,):
                raise InputError(f"{self.name}: region {name!r} is a mask {_shape_text(value.shape)}, expected [{V}]")
            value = np.flatnonzero(value)
        if value.ndim != 1 or (value.size and (value.min() < 0 or value.max() >= V)):
            raise InputError(f"{self.name}: region {name!r} must be a list of vertices in 0..{V - 1}")
        return self._whole(f"region {name!r}", value)

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

    def _modes(self, name: str, array: Any) -> np.ndarray:
        """Modes as float32 [K,V,3]; other common layouts are named with what brings them to this one."""
        shape, V = np.shape(array), len(self.mean)
        hint = ""
        if len(shape) == 3 and shape[:2] == (V, 3):
            hint = f"; np.moveaxis({name}, 2, 0) brings [V,3,K] to [K,V,3]"
        elif shape[:1] == (3 * V,) and len(shape) == 2:
            hint = f"; {name}.T.reshape(-1, {V}, 3) brings [3V,K] to [K,V,3]"
        elif len(shape) == 2 and shape[1] == 3 * V:
            hint = f"; {name}.reshape(-1, {V}, 3) brings [K,3V] to [K,V,3]"
        try:
            return self._numbers(name, array, (None, V, 3))
        except InputError as error:
            raise InputError(f"{error}{hint}") from None

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
        if value.dtype == bool:
            raise InputError(f"{self.name}: {name} must hold indices, got booleans")
        if value.size and (value.min() < 0 or value.max() >= count):
            raise InputError(
                f"{self.name}: {name} must hold indices in 0..{count - 1}, got {value.min()}..{value.max()}"
            )
        return self._whole(name, value)

    def _whole(self, name: str, value: np.ndarray) -> np.ndarray:
        """Numbers as int32, after checking that none has a fraction."""
        if value.dtype.kind == "f" and (value != np.floor(value)).any():
            raise InputError(f"{self.name}: {name} must hold whole numbers, got {value[value != np.floor(value)][0]:g}")
        return np.ascontiguousarray(value, np.int32)

    def _check_shape(self, name: str, value: np.ndarray, shape: Sequence[int | None]) -> None:
        if value.ndim != len(shape) or any(w is not None and w != g for w, g in zip(shape, value.shape)):
            raise InputError(f"{self.name}: {name} must be {_shape_text(shape)}, got {_shape_text(value.shape)}")


def _shape_text(shape: Sequence[int | None]) -> str:
    return "[" + ",".join("any" if s is None else str(s) for s in shape) + "]"


def face_region(
    mean: np.ndarray, landmark_index: np.ndarray | None, landmark_weights: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The region "face" of a model that names none: the vertices within 95 mm of the tip of the nose.

    Returns:
        {"face": int32 vertices}, or {} for a model without that landmark.
    """
    if landmark_index is None or landmark_weights is None or not landmark_weights[NOSE_TIP].any():
        return {}
    tip = (mean[landmark_index[NOSE_TIP]] * landmark_weights[NOSE_TIP][:, None]).sum(0)
    return {"face": np.flatnonzero(np.linalg.norm(mean - tip, axis=1) <= FACE_RADIUS).astype(np.int32)}


def regions_of(data: ModelData) -> dict[str, np.ndarray]:
    """The regions of a model, int32 vertices.

    Where the model names no "face", it is `face_region`'s; all vertices of a mesh that is little more than a face.
    """
    found = {} if "face" in data.regions else face_region(data.mean, data.landmark_index, data.landmark_weights)
    if not found:
        return data.regions
    inside = np.isin(data.faces, found["face"]).all(1)
    if not inside.any() or inside.mean() > _FACE_ALONE:
        found = {"face": np.arange(len(data.mean), dtype=np.int32)}
    return data.regions | found


def vertex_landmarks(vertices: Any) -> dict[str, np.ndarray]:
    """The fields landmark_index and landmark_weights of `ModelData` for landmarks that lie on vertices.

    Args:
        vertices: [68] vertices, -1 for a landmark that the model lacks.
    """
    vertices = np.asarray(vertices, np.int64).ravel()
    weights = np.zeros((len(vertices), 3), np.float32)
    weights[:, 0] = vertices >= 0
    return {"landmark_index": np.repeat(np.maximum(vertices, 0)[:, None], 3, 1), "landmark_weights": weights}


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
