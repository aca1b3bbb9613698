"""The mesh that writers write, with its looks and morph targets; made of a morphable model by `mesh_of`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

import facerender as fr
from facemodels.core.errors import InputError
from facemodels.models.load import load_model
from facemodels.models.morphable import MorphableModel
from facemodels.models.sampling import EXPRESSIONS, activations
from facerender._checks import brief_repr

Array: TypeAlias = np.ndarray | Tensor
Shape: TypeAlias = tuple[int | None, ...]  # None for any size


@brief_repr
@dataclass
class Mesh:
    """A mesh to be written. Arrays may also be given as tensors on any device; they become NumPy arrays and are
    checked.

    Attributes:
        vertices: float32 [V,3] mm, y up, without the morph targets' part.
        faces: int32 [F,3], counterclockwise seen from outside.
        normals: float32 [V,3] of unit length; None to compute them.
        colours: float32 [V,3], linear albedo in 0..1.
        uv: float32 [T,2], texture coordinates, (0, 0) at the lower left.
        uv_faces: int32 [F,3], indices into uv: corners have their own, so seams need no split vertices.
        texture: float32 [H,W,3], linear albedo in 0..1, row 0 at the top; takes precedence over colours.
        morphs: name -> offsets float32 [V,3] mm at a weight of 1.
        weights: name -> weight of a morph target; 0 for those not named.
        morph_range: lowest and highest sensible weight: (0, 1) for blend shapes, (-3, 3) for standard deviations.
        presets: name -> weights; expressions to choose from in the viewer.
        error: float32 [V] mm >= 0, NaN where not measured: the viewer's heat map, "quality" in a PLY file.
        landmarks: float32 [L,3] mm, on `vertices`.
        name: name of the mesh.

    Raises:
        InputError: an array of a wrong shape, an index out of range, a number that is not finite; no triangles.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray | None = None
    colours: np.ndarray | None = None
    uv: np.ndarray | None = None
    uv_faces: np.ndarray | None = None
    texture: np.ndarray | None = None
    morphs: dict[str, np.ndarray] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    morph_range: tuple[float, float] = (0.0, 1.0)
    presets: dict[str, dict[str, float]] = field(default_factory=dict)
    error: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    name: str = "mesh"

    def __post_init__(self) -> None:
        self.vertices = self._numbers("vertices", self.vertices, (None, 3))
        V, F = len(self.vertices), len(self.faces)
        self.faces = self._indices("faces", self.faces, (F, 3), V)
        if not F:
            raise InputError(f"{self.name}: there are no triangles to write")
        self.normals = self._optional("normals", self.normals, (V, 3))
        self.colours = self._optional("colours", self.colours, (V, 3))
        if (self.uv is None) != (self.uv_faces is None):
            raise InputError(f"{self.name}: uv and uv_faces come together or not at all")
        if self.uv is not None and self.uv_faces is not None:
            self.uv = self._numbers("uv", self.uv, (None, 2))
            self.uv_faces = self._indices("uv_faces", self.uv_faces, (F, 3), len(self.uv))
        if self.texture is not None and self.uv is None:
            raise InputError(f"{self.name}: a texture needs uv and uv_faces, which say where it lies")
        self.texture = self._optional("texture", self.texture, (None, None, 3))
        self.morphs = {name: self._numbers(f"morph {name!r}", offsets, (V, 3)) for name, offsets in self.morphs.items()}
        unknown = [name for name in self.weights if name not in self.morphs]
        if unknown:
            raise InputError(f"{self.name}: the weight {unknown[0]!r} belongs to none of its {len(self.morphs)} morphs")
        self.error = self._optional("error", self.error, (V,), finite=False)
        if self.error is not None and (self.error < 0).any():
            raise InputError(f"{self.name}: error must be distances, 0 or more, got {np.nanmin(self.error):.3g}")
        self.landmarks = self._optional("landmarks", self.landmarks, (None, 3))

    def save(self, path: str | Path) -> None:
        """Write the mesh in the format of the path's suffix: .obj, .ply, .glb or .html; see `facemodels.write`."""
        from facemodels.export import write

        write(path, self)

    def _optional(self, name: str, value: Array | None, shape: Shape, finite: bool = True) -> np.ndarray | None:
        return None if value is None else self._numbers(name, value, shape, finite)

    def _numbers(self, name: str, value: Array, shape: Shape, finite: bool = True) -> np.ndarray:
        value = np.ascontiguousarray(value.detach().float().cpu() if isinstance(value, Tensor) else value, np.float32)
        self._check_shape(name, value, shape)
        if finite and not np.isfinite(value).all():
            raise InputError(f"{self.name}: {name} holds a number that is not finite")
        return value

    def _indices(self, name: str, value: Array, shape: Shape, count: int) -> np.ndarray:
        value = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
        self._check_shape(name, value, shape)
        if value.size and (value.min() < 0 or value.max() >= count):
            raise InputError(
                f"{self.name}: {name} must hold indices in 0..{count - 1}, got {value.min()}..{value.max()}"
            )
        return np.ascontiguousarray(value, np.int32)

    def _check_shape(self, name: str, value: np.ndarray, shape: Shape) -> None:
        if value.ndim != len(shape) or any(want is not None and want != got for want, got in zip(shape, value.shape)):
            wanted = ",".join("any" if want is None else str(want) for want in shape)
            raise InputError(f"{self.name}: {name} must be [{wanted}], got {list(value.shape)}")


def posed(mesh: Mesh) -> np.ndarray:
    """Return the vertices [V,3] with the morph targets applied at their weights."""
    vertices = mesh.vertices
    for name, weight in mesh.weights.items():
        vertices = vertices + np.float32(weight) * mesh.morphs[name]
    return vertices


def normals_of(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Compute area-weighted unit normals.

    Args:
        vertices: [...,V,3].
        faces: int32 [F,3].

    Returns:
        [...,V,3]; along z where undefined, since formats require unit length everywhere.
    """
    topology = fr.Topology(torch.from_numpy(faces), vertices.shape[-2])
    normals = fr.vertex_normals(torch.from_numpy(vertices.reshape(-1, *vertices.shape[-2:])), topology)
    undefined = (normals == 0).all(-1, keepdim=True)
    return torch.where(undefined, normals.new_tensor([0.0, 0.0, 1.0]), normals).numpy().reshape(vertices.shape)


def posed_normals(mesh: Mesh) -> np.ndarray:
    """Return unit normals [V,3] of `posed`: the mesh's own where it has them and no morph target is applied."""
    if mesh.normals is not None and not any(mesh.weights.values()):
        return mesh.normals
    return normals_of(posed(mesh), mesh.faces)


def split_seams(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split vertices at the seams of the texture, for formats with one index per corner.

    Returns:
        source: int64 [U], the vertex that each new vertex is a copy of. The first V copy the V vertices in order, so
            vertex numbers are kept; the copies that seams need come after.
        uv: float32 [U,2], 0 at a vertex without faces.
        faces: int32 [F,3], indices of the U vertices.
    """
    assert mesh.uv is not None and mesh.uv_faces is not None
    V, T = len(mesh.vertices), max(len(mesh.uv), 1)
    corners, where = np.unique(mesh.faces.astype(np.int64) * T + mesh.uv_faces, return_inverse=True)
    vertex = corners // T
    again = np.r_[False, vertex[1:] == vertex[:-1]][: len(vertex)]
    slot = np.where(again, V - 1 + np.cumsum(again), vertex)
    source = np.concatenate([np.arange(V), vertex[again]])
    uv = np.zeros((len(source), 2), np.float32)
    uv[slot] = mesh.uv[corners % T]
    return source, uv, slot[where].reshape(-1, 3).astype(np.int32)


def mesh_of(
    model: MorphableModel | str | Path,
    identity: Tensor | None = None,
    expression: Tensor | None = None,
    albedo: Tensor | None = None,
    joints: Tensor | None = None,
    morphs: bool = True,
    name: str | None = None,
) -> Mesh:
    """Make a `Mesh` of one face of a model.

    Args:
        model: the model, or what `load_model` takes.
        identity: [<=I] or [1,<=I], as `MorphableModel.forward` takes it; None for the mean.
        expression: [<=E] or [1,<=E]; None for neutral.
        albedo: [<=A] or [1,<=A]; None for the mean.
        joints: [J,3] or [1,J,3] axis-angle rotations; None for the rest pose.
        morphs: whether expression modes become morph targets, with the expression as their weights; otherwise the
            expression is part of the vertices. Under a pose of the joints the targets are exact, since skinning is
            linear in the unposed shape.
        name: name of the mesh; None for the model's.
    """
    model = load_model(model)
    with torch.no_grad():
        identity, expression, albedo = (None if c is None else c.reshape(1, -1) for c in (identity, expression, albedo))
        joints = None if joints is None else joints.reshape(1, -1, 3)
        vertices = model.shape(identity, None if morphs else expression, joints)
        offsets: Sequence[Tensor] | Tensor = []
        weights: dict[str, float] = {}
        if morphs and joints is None:
            offsets = model.expression_basis
        elif morphs:
            offsets = model.shape(identity, torch.eye(model.num_expression, device=vertices.device), joints) - vertices
        if morphs and expression is not None:
            weights = {n: float(w) for n, w in zip(model.expression_names, expression[0]) if w}
        presets: dict[str, dict[str, float]] = {}
        if morphs and model.blendshapes:
            presets = {
                face: {n: float(w) for n, w in zip(model.expression_names, activations(model, e)) if w}
                for face, e in EXPRESSIONS.items()
            }
        return Mesh(
            vertices=_numpy(vertices[0]),
            faces=_numpy(model.faces),
            colours=_numpy(model.albedo(albedo)[0]) if model.num_albedo else None,
            uv=None if model.uv is None else _numpy(model.uv),
            uv_faces=None if model.uv_faces is None else _numpy(model.uv_faces),
            morphs={name: _numpy(offset) for name, offset in zip(model.expression_names, offsets)},
            weights=weights,
            morph_range=(0.0, 1.0) if model.blendshapes else (-3.0, 3.0),
            presets={face: w for face, w in presets.items() if w},
            landmarks=None
            if model.landmark_index is None
            else _numpy(model.landmarks(vertices)[0][model.has_landmark]),
            name=name or model.name,
        )


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def bake_albedo(model: MorphableModel, albedo: Tensor | None = None, size: int = 1024) -> Tensor:
    """Bake a texture of a model's colors, differentiable with respect to `albedo`.

    Texels outside the charts repeat the nearest one inside, so neither filtering nor mipmapping shows a seam.

    Args:
        model: the model.
        albedo: coefficients [<=A] or [1,<=A], or linear vertex colors [V,3]; None for the model's mean.
        size: side of the texture in texels.

    Returns:
        Linear [size,size,3], row 0 at the top.

    Raises:
        InputError: the model has no texture coordinates.
    """
    if model.uv is None or model.uv_faces is None:
        raise InputError(
            f"the model {model.name} has no texture coordinates to bake its colors over; write vertex colors instead"
        )
    if albedo is not None and albedo.shape == (model.num_vertices, 3):
        colors = albedo[None]
    else:
        colors = model.albedo(None if albedo is None else albedo.reshape(1, -1))
    fragments = fr.texture.rasterize_uv(model.uv, model.uv_faces, (size, size))
    texture = fr.interpolate(colors, model.faces, fragments)[0]
    outside = (fragments.face_id[0] < 0).cpu().numpy()
    row, column = distance_transform_edt(outside, return_distances=False, return_indices=True)
    return texture[torch.from_numpy(row).to(texture.device).long(), torch.from_numpy(column).to(texture.device).long()]
