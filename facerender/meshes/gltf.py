"""glTF 2.0: the triangles of a scene, posed as the file says by nodes, skins and the weights of morph targets."""

from pathlib import Path
from typing import Any

import numpy as np

from .accessors import Container
from .images import read_texture
from .mesh import SKIN
from .parsed import Look, MeshError, ParsedMesh, Say, Texture, need, strip
from .text import shown

DRACO = "KHR_draco_mesh_compression"
TRANSFORM = "KHR_texture_transform"
WEBP = "EXT_texture_webp"
EXTENSIONS = {DRACO, TRANSFORM, WEBP, "KHR_mesh_quantization"}
INSTANCES = "EXT_mesh_gpu_instancing"
WRAPS = {33071: "clamp", 33648: "mirror", 10497: "repeat"}
POINTS_AND_LINES = (0, 1, 2, 3)
REPEATS = 250_000  # vertices and triangles of nodes that show the same mesh again, in a small file


def read_gltf(path: Path, say: Say, looks: bool = True) -> ParsedMesh:
    """Read the triangles of a file's scene.

    Args:
        path: .glb or .gltf file.
        say: takes a sentence about every texture that is not there.
        looks: whether to read materials and textures.

    Returns:
        The mesh: primitives one after another, in the order of the scene's nodes.

    Raises:
        MeshError: the file is damaged, or requires an extension that is not read.
    """
    file = Container(path)
    for name in file.json.get("extensionsRequired", []):
        if name not in EXTENSIONS:
            raise MeshError(
                f"{path}: the file requires the extension {str(name)[:60]}, which is not read; export it without"
            )
    scene = _Scene(file, say, looks)
    if INSTANCES in file.json.get("extensionsUsed", []):
        say(f"{path}: copies of a mesh ({INSTANCES}) are not read; each is drawn once")
    with_mesh = [(node, matrix) for node, matrix in scene.nodes() if "mesh" in node]
    if not with_mesh and file.json.get("meshes"):
        raise MeshError(f"{path}: its scene shows none of its {len(file.json['meshes'])} meshes; export the scene")
    for node, matrix in with_mesh:
        scene.add(node, matrix)
    return scene.mesh()


class _Attributes:
    """The attributes of a primitive, with its morph targets at their weights.

    Args:
        file: the file.
        primitive: the primitive.
        weights: of its targets.
        unpacked: attributes that were compressed, as they are stored.
    """

    def __init__(
        self, file: Container, primitive: dict[str, Any], weights: list[float], unpacked: dict[str, np.ndarray]
    ) -> None:
        self.file, self.weights, self.unpacked = file, weights, unpacked
        self.index: dict[str, Any] = primitive["attributes"]
        self.targets: list[dict[str, Any]] = primitive.get("targets", [])

    def __contains__(self, name: str) -> bool:
        return name in self.index

    def read(self, name: str) -> np.ndarray:
        """An attribute's values without morph targets."""
        return self.file.numbers(self.index[name], self.unpacked.get(name))

    def unit(self, name: str) -> np.ndarray:
        """The same of values that cannot but be normalized, also where the accessor does not say so."""
        accessor, values = self.file.item("accessors", self.index[name]), self.read(name)
        if accessor.get("normalized") is True or accessor["componentType"] == 5126:
            return values
        return values / {5121: 255.0, 5123: 65535.0}.get(accessor["componentType"], 1.0)

    def morphed(self, name: str, values: np.ndarray) -> np.ndarray:
        """Values of an attribute, moved by the morph targets."""
        for target, weight in zip(self.targets, self.weights):
            if weight and name in target:
                offsets = self.file.numbers(target[name])
                if len(offsets) != len(values) or offsets.shape[1] < min(values.shape[1], 3):
                    raise MeshError(
                        f"{self.file.path}: a morph target does not fit its mesh; the file is damaged, export it again"
                    )
                values = values[:, : offsets.shape[1]] + float(weight) * offsets[:, : values.shape[1]]
        return values


class _Scene:
    """Collects primitives."""

    def __init__(self, file: Container, say: Say, looks: bool) -> None:
        self.file, self.say, self.with_looks = file, say, looks
        self.parts: list[ParsedMesh] = []
        self.materials: dict[Any, tuple[Look, np.ndarray | None, str]] = {}
        self.images: dict[Any, Any] = {}
        self.looks: list[Look] = []
        self.total = 0
        self.globals: dict[int, np.ndarray] = {}

    def nodes(self) -> list[tuple[dict[str, Any], np.ndarray]]:
        """The nodes of the scene, each with its matrix [4,4] to the scene."""
        nodes = self.file.json.get("nodes", [])
        if "scene" in self.file.json or self.file.json.get("scenes"):
            roots = self.file.item("scenes", self.file.json.get("scene", 0)).get("nodes", [])
        else:
            children = {child for node in nodes for child in node.get("children", [])}
            roots = [k for k in range(len(nodes)) if k not in children]
        stack = [(k, np.eye(4)) for k in reversed(roots)]
        order = []
        while stack:
            index, above = stack.pop()
            node = self.file.item("nodes", index)
            if index in self.globals:
                raise MeshError(
                    f"{self.file.path}: node {index} stands at two places of the scene; the file is damaged, "
                    "export it again"
                )
            matrix = above @ _matrix(node)
            self.globals[index] = matrix
            order.append((node, matrix))
            stack += [(child, matrix) for child in reversed(node.get("children", []))]
        return order

    def add(self, node: dict[str, Any], matrix: np.ndarray) -> None:
        """Add the primitives of a node's mesh."""
        mesh = self.file.item("meshes", node["mesh"])
        weights = node.get("weights") or mesh.get("weights") or []
        bones = self._bones(node)
        for primitive in mesh.get("primitives", []):
            mode = primitive.get("mode", 4)
            if mode in POINTS_AND_LINES:
                continue
            if mode not in (4, 5, 6):
                raise MeshError(f"{self.file.path}: a primitive of mode {str(mode)[:20]} is not read; export triangles")
            self._add_primitive(primitive, mode, matrix, weights, bones)

    def _bones(self, node: dict[str, Any]) -> np.ndarray | None:
        """Matrices [J,4,4] of a node's joints, from the mesh at rest to the scene; None without a skin."""
        if "skin" not in node:
            return None
        skin = self.file.item("skins", node["skin"])
        missing = [joint for joint in skin["joints"] if joint not in self.globals]
        if missing:
            return None  # joints outside the scene: shown at rest, as viewers do
        bones = np.stack([self.globals[joint] for joint in skin["joints"]])
        if "inverseBindMatrices" in skin:
            # glTF stores columns.
            bones = bones @ self.file.numbers(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        return bones

    def _add_primitive(
        self, primitive: dict[str, Any], mode: int, matrix: np.ndarray, weights: list[float], bones: np.ndarray | None
    ) -> None:
        if "POSITION" not in primitive.get("attributes", {}):
            return
        unpacked, triangles = self._unpacked(primitive)
        attributes = _Attributes(self.file, primitive, weights, unpacked)
        vertices = attributes.morphed("POSITION", self._three(attributes.read("POSITION")))
        count = len(vertices)
        if triangles is None:
            if "indices" in primitive:
                index = self.file.raw(primitive["indices"])[:, 0].astype(np.int64)
            else:
                index = np.arange(count)
            triangles = _triangles(index, mode)
        self._count(count + len(triangles))
        if bones is not None and "JOINTS_0" in attributes and "WEIGHTS_0" in attributes:
            vertices = self._skinned(vertices, attributes, bones)
        else:
            vertices = vertices @ matrix[:3, :3].T + matrix[:3, 3]
            if np.linalg.det(matrix[:3, :3]) < 0:
                triangles = triangles[:, ::-1]
        look, colours, uv = self._appearance(primitive, attributes, count)
        self.looks.append(look)
        self.parts.append(ParsedMesh(vertices, triangles, colours, uv))

    def _appearance(
        self, primitive: dict[str, Any], attributes: _Attributes, count: int
    ) -> tuple[Look, np.ndarray | None, np.ndarray | None]:
        """The look of a primitive, and the colors and texture coordinates of its vertices."""
        look, transform, coordinates = Look(), None, ""
        if self.with_looks and "material" in primitive:
            look, transform, coordinates = self._material(primitive["material"])
        colours = uv = None
        if "COLOR_0" in attributes:
            colours = self._vertex_colors(attributes.morphed("COLOR_0", attributes.unit("COLOR_0")), count)
            if look.color is not None:
                colours = colours * np.array(look.color, np.float32)
            look = look._replace(color=None)
        if look.texture is not None and coordinates in attributes:
            uv = attributes.morphed(coordinates, attributes.read(coordinates)[:, :2])
            if uv.shape != (count, 2):
                raise MeshError(
                    f"{self.file.path}: {coordinates} has {len(uv)} values for {count} vertices; export it again"
                )
            if transform is not None:
                uv = np.concatenate([uv, np.ones((count, 1))], 1) @ transform.T
            uv = np.stack([uv[:, 0], 1 - uv[:, 1]], -1)
        return look, colours, uv

    def _unpacked(self, primitive: dict[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """What Draco has compressed: attributes as they are stored, and triangles; empty and None without."""
        packed = primitive.get("extensions", {}).get(DRACO)
        if packed is None:
            return {}, None
        draco = need("DracoPy", f"{self.file.path}: Draco compression")
        try:
            mesh = draco.decode(self.file.view_bytes(packed["bufferView"]))
            found = {
                name: np.asarray(mesh.get_attribute_by_unique_id(key)["data"])
                for name, key in packed["attributes"].items()
            }
            triangles = np.asarray(mesh.faces).astype(np.int64).reshape(-1, 3)
        except MeshError:
            raise
        except Exception as error:
            raise MeshError(
                f"{self.file.path}: the part that Draco has compressed is damaged; export it again"
            ) from error
        return found, triangles

    def _three(self, values: np.ndarray) -> np.ndarray:
        if values.shape[1] != 3:
            raise MeshError(
                f"{self.file.path}: positions of {len(values)} x {values.shape[1]} numbers, expected n x 3; "
                "export it again"
            )
        return values

    def _count(self, more: int) -> None:
        """Refuse files that show so much of their content again and again that it does not fit into memory."""
        self.total += more
        if self.total > max(REPEATS, self.file.size):
            raise MeshError(
                f"{self.file.path}: its nodes show more than {max(REPEATS, self.file.size):,} vertices and triangles, "
                "many times what the file holds; export it without instances"
            )

    def _skinned(self, vertices: np.ndarray, attributes: _Attributes, bones: np.ndarray) -> np.ndarray:
        """Vertices moved by their joints (linear blending), four for each set of attributes."""
        found: list[np.ndarray] = []
        shares: list[np.ndarray] = []
        while f"JOINTS_{len(found)}" in attributes and f"WEIGHTS_{len(found)}" in attributes:
            shares.append(attributes.unit(f"WEIGHTS_{len(found)}"))
            found.append(attributes.read(f"JOINTS_{len(found)}").astype(np.int64))
            if not found[-1].shape == shares[-1].shape == (len(vertices), 4) or found[-1].min() < 0:
                raise MeshError(
                    f"{self.file.path}: joints or weights do not fit the vertices; the file is damaged, export it again"
                )
        joints, weights = np.concatenate(found, 1), np.concatenate(shares, 1)
        if joints.max(initial=0) >= len(bones):
            raise MeshError(
                f"{self.file.path}: a vertex names joint {joints.max()} of {len(bones)}; the file is damaged, "
                "export it again"
            )
        weights[weights.sum(1) == 0, 0] = 1  # as three.js has it: no vertex falls to the origin
        weights = weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)
        moved = np.zeros_like(vertices)
        for k in range(joints.shape[1]):
            bone = bones[joints[:, k]]
            moved += weights[:, k, None] * ((bone[:, :3, :3] @ vertices[:, :, None])[..., 0] + bone[:, :3, 3])
        return moved

    def _vertex_colors(self, values: np.ndarray, count: int) -> np.ndarray:
        if len(values) != count or values.shape[1] not in (3, 4):
            raise MeshError(
                f"{self.file.path}: {len(values)} x {values.shape[1]} colors for {count} vertices; export it again"
            )
        return np.clip(np.nan_to_num(values[:, :3]), 0, 1).astype(np.float32)

    def _material(self, index: Any) -> tuple[Look, np.ndarray | None, str]:
        """The look of a material, the transform [2,3] of its texture coordinates, and their attribute."""
        if index not in self.materials:
            material = self.file.item("materials", index)
            rough = material.get("pbrMetallicRoughness")
            glossy = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness", {})
            if rough is not None:
                factor, used = rough.get("baseColorFactor"), rough.get("baseColorTexture")
            else:
                factor, used = glossy.get("diffuseFactor"), glossy.get("diffuseTexture")
            color = None
            if factor is not None:
                r, g, b = (min(max(float(channel), 0.0), 1.0) for channel in factor[:3])
                color = (r, g, b)
            texture, transform, attribute = None, None, ""
            if used is not None:
                moved = used.get("extensions", {}).get(TRANSFORM, {})
                attribute = f"TEXCOORD_{moved.get('texCoord', used.get('texCoord', 0))}"
                transform = _texture_transform(moved) if moved else None
                texture = self._texture(used["index"])
            self.materials[index] = Look(color, texture, color), transform, attribute
        return self.materials[index]

    def _texture(self, index: Any) -> Texture | None:
        texture = self.file.item("textures", index)
        source = texture.get("extensions", {}).get(WEBP, {}).get("source", texture.get("source"))
        if source is None:
            names = ", ".join(texture.get("extensions", {})) or "no image"
            self.say(f"{self.file.path}: a texture of {names[:80]} is not read; drawn without")
            return None
        if source not in self.images:
            image = self.file.item("images", source)
            label = shown(str(image.get("name") or source).encode(errors="replace"))
            name = f"{self.file.path}: image {label}"
            try:
                if "uri" in image:
                    content = self.file.resource(image["uri"], "texture")
                else:
                    content = self.file.view_bytes(image["bufferView"])
            except FileNotFoundError as error:
                self.say(f"{error}; drawn without")
                self.images[source] = None
            else:
                self.images[source] = read_texture(content, name)
        if self.images[source] is None:
            return None
        sampler = self.file.item("samplers", texture["sampler"]) if "sampler" in texture else {}
        u, v = (WRAPS.get(sampler.get(key, 10497), "repeat") for key in ("wrapS", "wrapT"))
        return Texture(self.images[source], (u, v))

    def mesh(self) -> ParsedMesh:
        """All primitives as one mesh."""
        if not self.parts:
            return ParsedMesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
        if len(self.parts) == 1:
            only = self.parts[0]
            only.looks = self.looks
            return only
        begins = np.cumsum([0, *(len(part.vertices) for part in self.parts)])
        for part in self.parts:
            if len(part.faces) and (part.faces.min() < 0 or part.faces.max() >= len(part.vertices)):
                raise MeshError(f"{self.file.path}: a triangle names a vertex that does not exist; export it again")
        colours = None
        if any(part.colours is not None for part in self.parts):
            colours = np.concatenate([self._filled(part, look) for part, look in zip(self.parts, self.looks)])
        uv = uv_faces = None
        faces = np.concatenate([part.faces + begin for part, begin in zip(self.parts, begins)])
        if any(part.uv is not None for part in self.parts):
            uv = np.concatenate([np.zeros((len(p.vertices), 2)) if p.uv is None else p.uv for p in self.parts])
            bare = np.repeat([part.uv is None for part in self.parts], [len(part.faces) for part in self.parts])
            uv_faces = np.where(bare[:, None], -1, faces) if bare.any() else None
        which = np.repeat(np.arange(len(self.parts)), [len(part.faces) for part in self.parts])
        return ParsedMesh(
            np.concatenate([part.vertices for part in self.parts]), faces, colours, uv, uv_faces, self.looks, which
        )

    def _filled(self, part: ParsedMesh, look: Look) -> np.ndarray:
        if part.colours is not None:
            return part.colours
        plain = look.color or ((1.0, 1.0, 1.0) if look.texture is not None and part.uv is not None else SKIN)
        return np.tile(np.array(plain, np.float32), (len(part.vertices), 1))


def _matrix(node: dict[str, Any]) -> np.ndarray:
    """A node's matrix [4,4] to its parent."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), np.float64)
    length = (x * x + y * y + z * z + w * w) ** 0.5
    if length > 0:
        x, y, z, w = x / length, y / length, z / length, w / length
        matrix[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    matrix[:3, :3] *= np.array(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix


def _texture_transform(moved: dict[str, Any]) -> np.ndarray:
    """KHR_texture_transform as a matrix [2,3]: scaled, rotated, moved."""
    (x, y), (u, v) = moved.get("offset", (0, 0)), moved.get("scale", (1, 1))
    cos, sin = np.cos(moved.get("rotation", 0)), np.sin(moved.get("rotation", 0))
    return np.array([[cos * u, sin * v, x], [-sin * u, cos * v, y]], np.float64)


def _triangles(index: np.ndarray, mode: int) -> np.ndarray:
    """Triangles [F,3] of a primitive's indices."""
    if mode == 4:
        return index[: len(index) // 3 * 3].reshape(-1, 3)
    if mode == 5:
        return strip(index)
    return np.stack([np.broadcast_to(index[:1], (max(len(index) - 2, 0),)), index[1:-1], index[2:]], 1)
