"""What the writers write: a mesh, its looks and its morph targets."""

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

import facerender as fr
from facemodels.core.errors import InputError
from facemodels.models.morphable import MorphableModel
from facemodels.models.sampling import EXPRESSIONS, activations


@dataclass
class Mesh:
    """A mesh to be written. Arrays may be given as tensors, on any device, too; they become NumPy arrays and are checked.

    vertices: float32 [V,3] mm, y up, without the morph targets' part. faces: int32 [F,3], counter-clockwise seen from outside.
    normals: float32 [V,3] of unit length; computed where None.
    colours: float32 [V,3] linear albedo, 0..1.
    uv float32 [T,2], (0, 0) at the lower left, and uv_faces int32 [F,3]: texture coordinates with corners of their own, so seams need no
        split vertices.
    texture: float32 [H,W,3] linear albedo, 0..1, row 0 at the top. Goes before colours where both are given.
    morphs: name -> offsets float32 [V,3] mm at a weight of 1. weights: name -> the weight at which it stands; 0 for one that is not named.
    morph_range: the weights that make sense: (0, 1) for blend shapes, (-3, 3) for standard deviations.
    presets: name -> weights, faces to choose from in the viewer.
    error: float32 [V] mm >= 0, NaN where it was not measured: the viewer's heat map, "quality" in a PLY file.
    landmarks: float32 [L,3] mm, on `vertices`.

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

    def __post_init__(self):
        self.vertices = self._numbers("vertices", self.vertices, (None, 3))
        V, F = len(self.vertices), len(self.faces)
        self.faces = self._indices("faces", self.faces, (F, 3), V)
        if not F:
            raise InputError(f"{self.name}: there are no triangles to write")
        self.normals = self._numbers("normals", self.normals, (V, 3))
        self.colours = self._numbers("colours", self.colours, (V, 3))
        if (self.uv is None) != (self.uv_faces is None):
            raise InputError(f"{self.name}: uv and uv_faces come together or not at all")
        if self.uv is not None:
            self.uv = self._numbers("uv", self.uv, (None, 2))
            self.uv_faces = self._indices("uv_faces", self.uv_faces, (F, 3), len(self.uv))
        if self.texture is not None and self.uv is None:
            raise InputError(f"{self.name}: a texture needs uv and uv_faces, which say where it lies")
        self.texture = self._numbers("texture", self.texture, (None, None, 3))
        self.morphs = {name: self._numbers(f"morph {name!r}", offsets, (V, 3)) for name, offsets in self.morphs.items()}
        unknown = [name for name in self.weights if name not in self.morphs]
        if unknown:
            raise InputError(f"{self.name}: the weight {unknown[0]!r} belongs to none of its {len(self.morphs)} morphs")
        self.error = self._numbers("error", self.error, (V,), finite=False)
        if self.error is not None and (self.error < 0).any():
            raise InputError(f"{self.name}: error must be distances, 0 or more, got {np.nanmin(self.error):.3g}")
        self.landmarks = self._numbers("landmarks", self.landmarks, (None, 3))

    def _numbers(self, name, value, shape, finite=True):
        if value is None:
            return None
        value = np.ascontiguousarray(value.detach().float().cpu() if isinstance(value, Tensor) else value, np.float32)
        self._shape(name, value, shape)
        if finite and not np.isfinite(value).all():
            raise InputError(f"{self.name}: {name} holds a number that is not finite")
        return value

    def _indices(self, name, value, shape, count):
        value = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
        self._shape(name, value, shape)
        if value.size and (value.min() < 0 or value.max() >= count):
            raise InputError(
                f"{self.name}: {name} must hold indices in 0..{count - 1}, got {value.min()}..{value.max()}"
            )
        return np.ascontiguousarray(value, np.int32)

    def _shape(self, name, value, shape):
        if value.ndim != len(shape) or any(want is not None and want != got for want, got in zip(shape, value.shape)):
            wanted = ",".join("any" if want is None else str(want) for want in shape)
            raise InputError(f"{self.name}: {name} must be [{wanted}], got {list(value.shape)}")


def posed(mesh: Mesh) -> np.ndarray:
    """The vertices [V,3] with the morph targets at their weights."""
    vertices = mesh.vertices
    for name, weight in mesh.weights.items():
        vertices = vertices + np.float32(weight) * mesh.morphs[name]
    return vertices


def normals_of(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals [...,V,3] of vertices [...,V,3]; along z where undefined, for formats that want unit length everywhere."""
    topology = fr.Topology(torch.from_numpy(faces), vertices.shape[-2])
    normals = fr.vertex_normals(torch.from_numpy(vertices.reshape(-1, *vertices.shape[-2:])), topology)
    undefined = (normals == 0).all(-1, keepdim=True)
    return torch.where(undefined, normals.new_tensor([0.0, 0.0, 1.0]), normals).numpy().reshape(vertices.shape)


def posed_normals(mesh: Mesh) -> np.ndarray:
    """Unit normals [V,3] of `posed`: the mesh's own where it has them and stands as they were made for."""
    if mesh.normals is not None and not any(mesh.weights.values()):
        return mesh.normals
    return normals_of(posed(mesh), mesh.faces)


def split_seams(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One index a corner, for formats that have no separate one for texture coordinates.

    Returns (source int64 [U]: the vertex that each new vertex is a copy of, uv float32 [U,2], faces int32 [F,3] into them). The first V
    copy the V vertices in order, so that vertex numbers stay what they were; the copies that seams need come after. uv is 0 at a vertex
    without faces.
    """
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
    model: MorphableModel,
    identity: Tensor | None = None,
    expression: Tensor | None = None,
    albedo: Tensor | None = None,
    joints: Tensor | None = None,
    morphs: bool = True,
    name: str | None = None,
) -> Mesh:
    """One face of a model as a `Mesh`.

    identity [<=I] or [1,<=I], expression, albedo and joints [J,3] or [1,J,3] as `MorphableModel.forward` takes them. With morphs, the
    expression modes become morph targets under the pose of the joints (skinning is linear in the unposed shape, so they are exact), and
    the expression their weights; without, it is part of the vertices.
    """
    with torch.no_grad():
        identity, expression, albedo = (None if c is None else c.reshape(1, -1) for c in (identity, expression, albedo))
        joints = None if joints is None else joints.reshape(1, -1, 3)
        vertices = model.shape(identity, None if morphs else expression, joints)
        offsets, weights = [], {}
        if morphs and joints is None:
            offsets = model.expression_basis
        elif morphs:
            offsets = model.shape(identity, torch.eye(model.num_expression, device=vertices.device), joints) - vertices
        if morphs and expression is not None:
            weights = {n: float(w) for n, w in zip(model.expression_names, expression[0]) if w}
        presets = {}
        if morphs and model.blendshapes:
            presets = {
                face: {n: float(w) for n, w in zip(model.expression_names, activations(model, e)) if w}
                for face, e in EXPRESSIONS.items()
            }
        return Mesh(
            vertices=vertices[0],
            faces=model.faces,
            colours=model.albedo(albedo)[0] if model.num_albedo else None,
            uv=model.uv,
            uv_faces=model.uv_faces,
            morphs=dict(zip(model.expression_names, offsets)),
            weights=weights,
            morph_range=(0.0, 1.0) if model.blendshapes else (-3.0, 3.0),
            presets={face: w for face, w in presets.items() if w},
            landmarks=None if model.landmark_index is None else model.landmarks(vertices)[0][model.has_landmark],
            name=name or model.name,
        )


def bake_albedo(model: MorphableModel, albedo: Tensor | None = None, size: int = 1024) -> Tensor:
    """A texture of a model's colours: linear [size,size,3], row 0 at the top, differentiable to `albedo`.

    albedo: coefficients [<=A] or [1,<=A], or linear vertex colours [V,3]; the model's mean for None. Texels outside the charts repeat the
    nearest one inside, so that neither filtering nor mip-mapping brings in a seam.

    Raises:
        InputError: the model has no texture coordinates.
    """
    if model.uv is None:
        raise InputError(
            f"the model {model.name} has no texture coordinates to bake its colours over; write vertex colours instead"
        )
    if albedo is not None and albedo.shape == (model.num_vertices, 3):
        colours = albedo[None]
    else:
        colours = model.albedo(None if albedo is None else albedo.reshape(1, -1))
    fragments = fr.texture.rasterize_uv(model.uv, model.uv_faces, (size, size))
    texture = fr.interpolate(colours.contiguous(), model.faces, fragments)[0]
    outside = (fragments.face_id[0] < 0).cpu().numpy()
    row, column = distance_transform_edt(outside, return_distances=False, return_indices=True)
    return texture[torch.from_numpy(row).to(texture.device).long(), torch.from_numpy(column).to(texture.device).long()]
