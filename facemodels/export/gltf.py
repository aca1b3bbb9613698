"""glTF 2.0 in one binary file (GLB), for Blender, game engines and the web, with morph targets that animate
expressions.

After the Khronos glTF 2.0 specification: accessors and sparse accessors (section 3.6.2), morph targets (3.7.2.2), the
GLB container (4.4).
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

import facerender.meshes
from facemodels.export.files import convert_axes, encode_image, unit_scale
from facemodels.export.mesh import Mesh, normals_of, split_seams
from facemodels.io.files import write_atomically

FLOAT, USHORT, UINT = 5126, 5123, 5125
VERTEX_DATA, INDEX_DATA = 34962, 34963
LINEAR_FILTER, MIPMAPS, CLAMP = 9729, 9987, 33071
ROUGHNESS = 0.55  # of skin, between oily and dry
SMALLEST = 1e-3  # mm; smaller offsets of morph targets are left out


def write_glb(path: str | Path, mesh: Mesh, unit: str = "m", axes: str = "y-up") -> None:
    """Write a GLB.

    It has positions, normals, texture coordinates with an sRGB PNG texture or else linear vertex colors, and the morph
    targets, positions and normals, their names in `mesh.extras.targetNames` and their weights in `mesh.weights`.
    Vertices are split at the seams of the texture only (see `split_seams`: the first V keep their numbers).

    Args:
        path: the file.
        mesh: the mesh.
        unit: "mm", "cm" or "m"; glTF demands meters, other units are for readers that know about them.
        axes: "y-up", which glTF demands, or "z-up".

    Raises:
        InputError: another unit or axes; a folder that does not exist.
    """
    scale = unit_scale(unit)
    if mesh.texture is not None:
        source, uv, faces = split_seams(mesh)
    else:
        source, faces = np.arange(len(mesh.vertices)), mesh.faces
    neutral = normals_of(mesh.vertices, mesh.faces) if mesh.normals is None or mesh.morphs else mesh.normals

    data = _Buffer()
    attributes = {
        "POSITION": data.array(convert_axes(mesh.vertices[source] * scale, axes), bounds=True),
        "NORMAL": data.array(convert_axes(neutral[source], axes)),
    }
    material: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": ROUGHNESS}
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "facemodels"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": mesh.name, "mesh": 0}],
        "materials": [{"name": "skin", "pbrMetallicRoughness": material, "doubleSided": True}],
    }
    if mesh.texture is not None:
        # glTF has (0, 0) at the upper left.
        attributes["TEXCOORD_0"] = data.array(np.stack([uv[:, 0], 1 - uv[:, 1]], -1))
        document["images"] = [{"bufferView": data.view(encode_image(mesh.texture, "PNG")), "mimeType": "image/png"}]
        document["samplers"] = [{"magFilter": LINEAR_FILTER, "minFilter": MIPMAPS, "wrapS": CLAMP, "wrapT": CLAMP}]
        document["textures"] = [{"source": 0, "sampler": 0}]
        material["baseColorTexture"] = {"index": 0}
    elif mesh.colours is not None:
        attributes["COLOR_0"] = data.array(np.clip(mesh.colours, 0, 1))
    else:
        material["baseColorFactor"] = [*facerender.meshes.SKIN, 1.0]
    primitive: dict[str, Any] = {"attributes": attributes, "indices": data.indices(faces, len(source)), "material": 0}
    content: dict[str, Any] = {"name": mesh.name, "primitives": [primitive]}
    if mesh.morphs:
        offsets = np.stack(list(mesh.morphs.values()))
        turns = normals_of(mesh.vertices + offsets, mesh.faces) - neutral
        primitive["targets"] = [
            _target(data, mesh.faces, offset, turn, source, scale, axes) for offset, turn in zip(offsets, turns)
        ]
        content["weights"] = [float(mesh.weights.get(name, 0)) for name in mesh.morphs]
        content["extras"] = {"targetNames": list(mesh.morphs)}
    document["meshes"] = [content]
    write_atomically({Path(path): data.glb(document)})


def _target(
    data: "_Buffer",
    faces: np.ndarray,
    offset: np.ndarray,
    turn: np.ndarray,
    source: np.ndarray,
    scale: np.float32,
    axes: str,
) -> dict[str, int]:
    """Store a morph target and return its accessors.

    Args:
        data: where it is stored.
        faces: [F,3], of the vertices before seams are split.
        offset: [V,3] mm.
        turn: [V,3], what it adds to the normals.
        source: [U], the vertex that each vertex of the file is a copy of.
        scale: from mm to the file's unit.
        axes: of the file.
    """
    moved = np.abs(offset).max(1) >= SMALLEST
    turning = np.zeros(len(moved), bool)  # normals change at all corners of a triangle with a moved corner
    turning[faces[moved[faces].any(1)]] = True
    return {
        "POSITION": data.sparse(convert_axes(offset[source] * scale, axes), moved[source], bounds=True),
        "NORMAL": data.sparse(convert_axes(turn[source], axes), turning[source]),
    }


class _Buffer:
    """The binary part: one buffer, its views on 4-byte boundaries, and the accessors that read them."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        self.zeros: dict[int, int] = {}  # length -> view

    def view(self, content: bytes, **more: Any) -> int:
        """Append bytes and return the index of their view; `more` are its other properties."""
        self.views.append({"buffer": 0, "byteOffset": self.length, "byteLength": len(content), **more})
        padded = content + bytes(-len(content) % 4)
        self.parts.append(padded)
        self.length += len(padded)
        return len(self.views) - 1

    def array(self, values: np.ndarray, bounds: bool = False) -> int:
        """Append float32 [n,2..4] and return the index of its accessor, which has minimum and maximum with `bounds`."""
        values = np.ascontiguousarray(values, "<f4")
        view = self.view(values.tobytes(), target=VERTEX_DATA)
        return self._accessor(values, FLOAT, f"VEC{values.shape[1]}", bounds, bufferView=view)

    def indices(self, faces: np.ndarray, count: int) -> int:
        """Append indices of `count` vertices and return the index of their accessor."""
        values, kind = _unsigned(faces.reshape(-1), count)
        return self._accessor(values, kind, "SCALAR", False, bufferView=self.view(values.tobytes(), target=INDEX_DATA))

    def sparse(self, values: np.ndarray, kept: np.ndarray, bounds: bool = False) -> int:
        """Append float32 [n,3] that is zero except where `kept`, bool [n]; stored sparsely where that is smaller.

        Sparse accessors stand on a view of zeros, which all of them share: without it, VTK misplaces vertices, and
        Open3D and assimp refuse targets that do not move. VTK also wants `byteOffset` where it could be left out.
        """
        values = np.where(kept[:, None], values, 0).astype("<f4")
        index, kind = _unsigned(np.flatnonzero(kept), len(values))
        if len(index) * (index.itemsize + 12) >= values.nbytes:
            return self.array(values, bounds)
        if len(values) not in self.zeros:
            self.zeros[len(values)] = self.view(bytes(values.nbytes), byteStride=12, target=VERTEX_DATA)
        more: dict[str, Any] = {"bufferView": self.zeros[len(values)], "byteOffset": 0}
        if len(index):
            more["sparse"] = {
                "count": len(index),
                "indices": {"bufferView": self.view(index.tobytes()), "byteOffset": 0, "componentType": kind},
                "values": {"bufferView": self.view(values[index].tobytes()), "byteOffset": 0},
            }
        return self._accessor(values, FLOAT, "VEC3", bounds, **more)

    def _accessor(self, values: np.ndarray, component: int, kind: str, bounds: bool, **more: Any) -> int:
        accessor = {"componentType": component, "count": len(values), "type": kind, **more}
        if bounds:
            accessor |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def glb(self, document: dict[str, Any]) -> bytes:
        """Assemble the file of a document and everything appended."""
        document = document | {
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": self.length}],
        }
        text = json.dumps(document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        binary = b"".join(self.parts)
        header = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(binary))
        return (
            header
            + struct.pack("<I4s", len(text), b"JSON")
            + text
            + struct.pack("<I4s", len(binary), b"BIN\0")
            + binary
        )


def _unsigned(values: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """Convert to the narrowest index type whose largest value stays free: glTF reserves that for restarts."""
    return (values.astype("<u2"), USHORT) if count < 65535 else (values.astype("<u4"), UINT)
