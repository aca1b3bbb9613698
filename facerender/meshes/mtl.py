"""Materials of OBJ files: the color (Kd) and the texture (map_Kd) with its options."""

import codecs
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import numpy as np

from .._checks import brief_repr
from ..color import to_linear_array
from .images import read_texture
from .parsed import Look, MeshError, Say, Texture
from .text import decoded, find_file, is_number, shown

# Options of a texture, and how many words follow at most: one, and numbers.
OPTIONS = dict.fromkeys(
    (b"-blendu", b"-blendv", b"-bm", b"-boost", b"-cc", b"-clamp", b"-colorspace", b"-imfchan", b"-texres", b"-type"), 1
) | {b"-mm": 2, b"-o": 3, b"-s": 3, b"-t": 3}


@brief_repr
@dataclass(frozen=True)
class Material:
    """A material.

    Attributes:
        folder: of its file.
        color: Kd, sRGB, or None.
        texture: the name in map_Kd, or None.
        scale: of texture coordinates.
        offset: added to them after that.
        clamp: whether the texture ends at its border.
        image: the texture, when it is loaded.
    """

    folder: Path
    color: tuple[float, float, float] | None = None
    texture: bytes | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    clamp: bool = False
    image: Texture | None = None

    def loaded(self, say: Say, mesh: Path) -> "Material":
        """Return the material with its texture; one that is not found is said."""
        if self.texture is None:
            return self
        name = self.texture
        names = [name] if b" #" not in name else [name, name[: name.index(b" #")].rstrip()]  # a comment, or a name
        found = (find_file(folder, name) for name in names for folder in (self.folder, mesh.parent))
        file = next((file for file in found if file is not None), None)
        if file is None:
            say(f"{mesh}: its texture {shown(self.texture)} was not found beside it; drawn without")
            return self
        wrap = "clamp" if self.clamp else "repeat"
        return replace(self, image=Texture(read_texture(file, f"{mesh}: {file.name}"), (wrap, wrap)))


def read_mtl(path: Path) -> dict[str, Material]:
    """Read the materials of a file by name.

    Raises:
        MeshError: a color or an option cannot be read.
    """
    materials: dict[str, Material] = {}
    name = None
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").replace(b"\\\n", b" ")
    for number, line in enumerate(data.splitlines(), 1):
        key, *rest = line.strip().split(None, 1)[:2] or [b""]
        value = rest[0].strip() if rest else b""
        key = key.lower()
        if key == b"newmtl":
            name = decoded(value)
            materials[name] = Material(path.parent)
        elif name is not None and key in (b"kd", b"map_kd"):
            try:
                made = materials[name]
                materials[name] = replace(made, color=_color(value)) if key == b"kd" else _textured(made, value)
            except (ValueError, IndexError):
                raise MeshError(
                    f"{path}: line {number}: {shown(line.strip()[:60])!r} cannot be read; expected three numbers or "
                    "the name of a texture"
                ) from None
    return materials


def _color(value: bytes) -> tuple[float, float, float] | None:
    words = value.split()
    if words[0] in (b"spectral", b"xyz"):
        return None
    numbers = [float(word) for word in words[:3]]
    r, g, b = (numbers * 3 if len(numbers) == 1 else numbers)[:3]
    if not np.isfinite([r, g, b]).all():
        raise ValueError("a color is not finite")
    return r, g, b


def _textured(material: Material, value: bytes) -> Material:
    """The material with what map_Kd says."""
    rest = value
    while rest.startswith(b"-") and (words := rest.split())[0].lower() in OPTIONS:
        option = words[0].lower()
        taken = [words[1], *takewhile(is_number, words[2 : OPTIONS[option] + 1])]
        rest = b"".join(rest.split(None, 1 + len(taken))[1 + len(taken) :])
        if option in (b"-s", b"-o"):
            fill = 1.0 if option == b"-s" else 0.0
            u, v = ([float(word) for word in taken] + [fill, fill])[:2]
            if not np.isfinite([u, v]).all():
                raise ValueError("a number is not finite")
            material = replace(material, scale=(u, v)) if option == b"-s" else replace(material, offset=(u, v))
        elif option == b"-clamp":
            material = replace(material, clamp=taken[0].lower() == b"on")
    name = rest.strip().strip(b'"')
    return replace(material, texture=name or None)


def look_of(material: Material, has_colors: bool) -> Look:
    """The look of a material; vertices' colors take the place of its own, where there is no texture."""
    linear = None
    if material.color is not None:
        r, g, b = to_linear_array(np.clip(np.array(material.color, np.float32), 0, 1)).tolist()
        linear = (r, g, b)
    if material.image is not None:
        # A texture counts alone: many programs write a Kd of 0.8 or 0 beside it.
        return Look((1.0, 1.0, 1.0), material.image, linear)
    return Look(None if has_colors else linear)
