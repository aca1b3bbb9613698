"""Mesh files: OBJ, PLY and glTF (.glb, .gltf), read into a `Mesh` that is ready to be drawn.

* `load`: `load_mesh`: which reader, checks, centering, one vertex for each position, texture coordinate and tint
* `mesh`: `Mesh`, `make_mesh` with normals, `mesh_albedo`
* `obj`, `mtl`: Wavefront OBJ with its materials
* `ply`: PLY, text and binary
* `gltf`, `accessors`: glTF 2.0
* `images`: textures
* `text`: numbers, names, and the files that names mean
* `parsed`: what readers return, `MeshError`, and what they share

Importing this package needs torch and numpy alone. A texture needs pillow, Draco compression DracoPy.
"""

from .load import load_mesh, parse_mesh
from .mesh import SKIN, Mesh, Texture, make_mesh, mesh_albedo
from .parsed import MeshError, MeshWarning, need

__all__ = [
    "SKIN",
    "Mesh",
    "MeshError",
    "MeshWarning",
    "Texture",
    "load_mesh",
    "make_mesh",
    "mesh_albedo",
    "need",
    "parse_mesh",
]
