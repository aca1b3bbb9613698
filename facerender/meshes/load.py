"""Reading a mesh file: `load_mesh`."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from .gltf import read_gltf
from .mesh import SKIN, Mesh, make_mesh
from .obj import read_obj
from .parsed import Look, MeshError, MeshWarning, ParsedMesh, Say, Texture
from .ply import read_ply

SUFFIXES = (".obj", ".ply", ".glb", ".gltf")
FARTHEST = 1e12  # a coordinate that can be drawn
NEAREST = 1e-12  # extent of a mesh that can be drawn
NOTES = 3  # sentences about what is not there, at most
FEWEST_STEPS = 1000  # between a mesh's ends: with fewer, its surface is a staircase
FAR = 16.0  # extents from the origin, beyond which float32 would lose a mesh's detail


def load_mesh(path: Path, say: Say | None = None) -> Mesh:
    """Read a mesh.

    Vertices keep the file's order. Those that no triangle uses are left out, and those where texture coordinates or
    materials differ from triangle to triangle have copies behind the others.

    Args:
        path: OBJ, PLY, GLB or glTF file.
        say: takes one sentence about each texture or file of materials that is not there; None warns.

    Returns:
        The mesh, with the file's vertex colors or textures, or else the color of skin.

    Raises:
        MeshError: the file is missing, of another kind, damaged, or holds no triangles; or a package that reads it is
            not installed.
    """
    path = Path(path)
    notes: list[str] = []
    parsed = parse_mesh(path, notes.append)
    try:
        mesh = _assembled(path, parsed, notes)
        if not mesh.textures and any(look.texture for look in parsed.looks):
            notes.append(f"{path}: it names a texture, and has no texture coordinates for it; drawn without")
    except MemoryError:
        raise MeshError(f"{path}: the mesh does not fit into memory; reduce it") from None
    notes = list(dict.fromkeys(notes))
    if len(notes) > NOTES:
        notes = [*notes[: NOTES - 1], f"{path}: {len(notes) - NOTES + 1} more textures or materials were not found"]
    for note in notes:
        if say is None:
            warnings.warn(note, MeshWarning, stacklevel=2)
        else:
            say(note)
    return mesh


def parse_mesh(path: Path, say: Say, looks: bool = True) -> ParsedMesh:
    """Read a mesh as its file has it, with all its vertices, in float64.

    Args:
        path: OBJ, PLY, GLB or glTF file.
        say: takes one sentence about each texture or file of materials that is not there.
        looks: whether to read materials and textures.

    Returns:
        The mesh; its triangles are of vertices that exist and are finite.

    Raises:
        MeshError: as `load_mesh`.
    """
    path = Path(path)
    kind = path.suffix.lower()
    check_file(path)
    if kind not in SUFFIXES:
        raise MeshError(f"{path}: only .obj, .ply, .glb and .gltf files can be read; convert it to one of them")
    if path.stat().st_size == 0:
        raise MeshError(f"{path}: the file is empty; export it again")
    reader = {".obj": read_obj, ".ply": read_ply}.get(kind, read_gltf)
    try:
        with np.errstate(all="ignore"):  # numbers that are not finite are found below
            parsed = reader(path, say, looks)
    except MeshError:
        raise
    except MemoryError:
        raise MeshError(f"{path}: the mesh does not fit into memory; reduce it") from None
    except OSError as error:
        raise MeshError(f"{error.filename or path}: the file cannot be read ({error.strerror or error})") from error
    except Exception as error:  # whatever a parser raises at a damaged file, in words of Python
        raise MeshError(
            f"{path}: not a readable {kind[1:].upper()} file: its parts do not fit together; export it again"
        ) from error
    if len(parsed.faces) == 0 or len(parsed.vertices) == 0:
        raise MeshError(
            f"{path}: the file holds no triangles, only {len(parsed.vertices):,} "
            f"{'vertex' if len(parsed.vertices) == 1 else 'vertices'}; export a mesh with faces"
        )
    if parsed.faces.min() < 0 or parsed.faces.max() >= len(parsed.vertices):
        raise MeshError(f"{path}: a triangle names a vertex that does not exist; export it again")
    if not np.isfinite(parsed.vertices).all() and not np.isfinite(parsed.vertices[parsed.faces]).all():
        raise MeshError(f"{path}: a vertex of a triangle is NaN or infinite; remove it, or export the mesh again")
    return parsed


def check_file(path: Path) -> None:
    """Check that there is a file.

    Raises:
        MeshError: there is none, or a folder.
    """
    if not path.is_file():
        found = "expected a mesh file, found a folder" if path.is_dir() else "there is no such file"
        raise MeshError(f"{path}: {found}")


def _assembled(path: Path, parsed: ParsedMesh, notes: list[str]) -> Mesh:
    """The mesh with one index for each corner, centered where its coordinates need it."""
    faces, vertices, colours = parsed.faces, parsed.vertices, parsed.colours
    uv, uv_faces = parsed.uv, parsed.uv_faces
    used = np.zeros(len(vertices), bool)
    used[faces] = True
    if not used.all():
        number = np.cumsum(used) - 1
        if uv is not None and uv_faces is None:
            uv = uv[used]
        vertices, faces = vertices[used], number[faces]
        colours = None if colours is None else colours[used]
    vertices, origin = _centered(path, vertices, notes)
    textures, texture_of_face, tints, tint_of_face = _applied(parsed, colours, len(faces))
    source, uv_of, tint_of, index = _split(faces, uv_faces if uv is not None else None, tint_of_face, len(vertices))
    vertices = vertices if source is None else vertices[source]
    colors = None if colours is None else (colours if source is None else colours[source])
    if tint_of is not None:
        given = np.full((len(vertices), 3), SKIN, np.float32) if colors is None else colors
        table = np.array([(0, 0, 0) if tint is None else tint for tint in tints], np.float32)
        own = np.array([tint is not None for tint in tints])
        colors = np.where(own[tint_of][:, None], table[tint_of], given)
    elif tints[0] is not None:
        colors = np.tile(np.array(tints[0], np.float32), (len(vertices), 1))
    coordinates = None
    if uv is not None and textures:
        if uv_of is not None:
            coordinates = np.concatenate([uv, np.zeros((1, 2))])[uv_of]
        else:
            coordinates = uv if source is None else uv[source]
    mesh = make_mesh(
        torch.from_numpy(np.ascontiguousarray(vertices, np.float32)),
        torch.from_numpy(np.ascontiguousarray(index, np.int32)),
        None if colors is None else torch.from_numpy(np.ascontiguousarray(colors, np.float32)),
        None if coordinates is None else torch.from_numpy(np.ascontiguousarray(np.nan_to_num(coordinates), np.float32)),
    )
    x, y, z = origin.tolist()
    which = None if texture_of_face is None else torch.from_numpy(texture_of_face)
    return replace(mesh, textures=textures, texture_of_face=which, origin=(x, y, z))


def _centered(path: Path, vertices: np.ndarray, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices around 0 where float32 would lose their detail elsewhere, and where 0 was moved to."""
    low, high = vertices.min(0), vertices.max(0)
    with np.errstate(over="ignore"):  # an infinite extent is refused below
        origin, extent = np.zeros(3), float((high - low).max())
    if max(abs(low).max(), abs(high).max()) > FAR * extent:
        origin = (low + high) / 2
    if extent < NEAREST:
        raise MeshError(f"{path}: a mesh of {extent:.3g} is too small to draw; scale it up")
    largest = float(max(abs(low - origin).max(), abs(high - origin).max()))
    if largest > FARTHEST:
        raise MeshError(f"{path}: a coordinate of {largest:.3g} is too large to draw; scale the mesh down")
    step = float(np.spacing(np.float32(max(abs(low).max(), abs(high).max()))))
    if step * FEWEST_STEPS > extent and (vertices == vertices.astype(np.float32)).all():
        notes.append(
            f"{path}: its coordinates have steps of {step:.2g} in a mesh of {extent:.3g}, as floats far from 0 have; "
            "export it with doubles, or nearer to 0"
        )
    return (vertices - origin if origin.any() else vertices), origin


Tint = tuple[float, float, float] | None


def _applied(
    parsed: ParsedMesh, colours: np.ndarray | None, count: int
) -> tuple[tuple[Texture, ...], np.ndarray | None, list[Tint], np.ndarray | None]:
    """What looks mean for triangles.

    Returns:
        The textures; int64 [F], which of them a triangle has, -1 for none, or None if all have the first;
        tints, None for the vertices' colors, else skin; int64 [F], which of them a triangle has, or None if all have
        the first.
    """
    looks = [*parsed.looks, Look()]  # the last one is that of triangles without
    if parsed.look_of_face is None:
        which = np.full(count, 0)
    else:
        which = np.where(parsed.look_of_face < 0, len(looks) - 1, parsed.look_of_face)
    bare = np.zeros(count, bool)  # without texture coordinates
    if parsed.uv is None:
        bare[:] = True
    elif parsed.uv_faces is not None:
        bare = parsed.uv_faces[:, 0] < 0
    textures: list[Texture] = []
    tints: list[Tint] = []
    texture_of_face, tint_of_face = np.full(count, -1), np.zeros(count, np.int64)

    def number_of(tint: Tint) -> int:
        if tint not in tints:
            tints.append(tint)
        return tints.index(tint)

    present = np.bincount(which, minlength=len(looks)) > 0
    for k, look in enumerate(looks):
        if not present[k]:
            continue
        here = which == k
        if look.texture is None:
            tint_of_face[here] = number_of(look.color)
            continue
        clothed = here & ~bare
        if clothed.any():
            at = next((i for i, texture in enumerate(textures) if texture.image is look.texture.image), len(textures))
            if at == len(textures) or textures[at].wrap != look.texture.wrap:
                at = len(textures)
                textures.append(look.texture)
            texture_of_face[clothed] = at
            tint_of_face[clothed] = number_of(look.color or (None if colours is not None else (1.0, 1.0, 1.0)))
        if (here & bare).any():
            tint_of_face[here & bare] = number_of(None if look.color is None else look.plain)
    same = bool((texture_of_face == 0).all()) if textures else True
    return tuple(textures), None if same else texture_of_face, tints, tint_of_face if len(tints) > 1 else None


def _split(
    faces: np.ndarray, uv_faces: np.ndarray | None, tint_of_face: np.ndarray | None, count: int
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None, np.ndarray]:
    """Copy vertices whose corners have different texture coordinates or tints; the first `count` keep their numbers.

    Returns:
        The vertex that each is a copy of, its texture coordinate (-1 for none) and its tint, or None where nothing
        is split, or there are no indices of texture coordinates or no tints; faces of the new vertices.
    """
    if uv_faces is None and tint_of_face is None:
        return None, None, None, faces
    flat = faces.reshape(-1).astype(np.int64)
    uvs = np.zeros(len(flat), np.int64) if uv_faces is None else uv_faces.reshape(-1).astype(np.int64) + 1
    tints = np.zeros(len(flat), np.int64) if tint_of_face is None else np.repeat(tint_of_face, 3)
    one = np.zeros(count, np.int64)
    one[flat] = np.arange(len(flat))  # some corner of each vertex
    if (uvs[one[flat]] == uvs).all() and (tints[one[flat]] == tints).all():
        source, uv_of, tint_of, index = None, uvs[one], tints[one], faces
    else:
        spread = int(uvs.max()) + 1
        keys, where = np.unique((flat * spread + uvs) * (int(tints.max()) + 1) + tints, return_inverse=True)
        rest, tint = np.divmod(keys, int(tints.max()) + 1)
        vertex, coordinate = np.divmod(rest, spread)
        again = np.r_[False, vertex[1:] == vertex[:-1]]
        slot = np.where(again, count - 1 + np.cumsum(again), vertex)
        order = np.argsort(slot)
        source, uv_of, tint_of = vertex[order], coordinate[order], tint[order]
        index = slot[where].reshape(-1, 3)
    return source, None if uv_faces is None else uv_of - 1, None if tint_of_face is None else tint_of, index
