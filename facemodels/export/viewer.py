"""A viewer in one HTML file: meshes, and a page that draws them with WebGL 2. It opens from disk and needs no network.

The page is viewer.html, its style and program viewer.css and viewer.js, all beside this file. Numbers are quantized
finer than the eye can tell at the closest view, laid out as bytes, compressed with gzip (which browsers since 2023
decompress) and embedded as base64.
"""

import base64
import gzip
import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from facemodels.export.files import encode_image, srgb_bytes
from facemodels.export.mesh import Mesh, split_seams
from facemodels.io.files import write_atomically

STEP = 0.004  # mm; morph targets' offsets are rounded to multiples, and zeros left out
MISSING = 65535  # stands for an error that was not measured


def write_html(path: str | Path, meshes: Mesh | list[Mesh], title: str | None = None) -> None:
    """Write a page that shows one mesh, or several to choose from.

    It can orbit, zoom and pan, show clay or colors, wireframe, landmarks and the error as a heat map, and has a slider
    per morph target.

    Args:
        path: the file.
        meshes: one mesh, or several.
        title: title of the page; None for the first mesh's name.

    Raises:
        InputError: the folder does not exist.
    """
    meshes = [meshes] if isinstance(meshes, Mesh) else list(meshes)
    blocks = _Blocks()
    scene = json.dumps([_mesh(blocks, mesh) for mesh in meshes], separators=(",", ":"))
    here = files(__package__)
    parts = {
        "TITLE": html.escape(meshes[0].name if title is None else title),
        "STYLE": here.joinpath("viewer.css").read_text("utf-8"),
        "SCENE": scene.replace("<", "\\u003c"),  # a name must not end the script element
        "DATA": base64.b64encode(gzip.compress(b"".join(blocks.parts), 9, mtime=0)).decode(),
        "PROGRAM": here.joinpath("viewer.js").read_text("utf-8"),
    }
    page = here.joinpath("viewer.html").read_text("utf-8")
    head, *rest = page.split("{{")  # in one pass: a title that looks like a placeholder stays as it is
    for piece in rest:
        name, tail = piece.split("}}", 1)
        head += parts[name] + tail
    write_atomically({Path(path): head.encode()})


class _Blocks:
    """The binary part: arrays one after another on 4-byte boundaries. What several meshes share is stored once."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0
        self.known: dict[bytes, list[int]] = {}

    def add(self, content: bytes) -> list[int]:
        """Append bytes and return their [offset, length]."""
        if content not in self.known:
            self.known[content] = [self.length, len(content)]
            padded = content + bytes(-len(content) % 4)
            self.parts.append(padded)
            self.length += len(padded)
        return self.known[content]

    def array(self, values: np.ndarray) -> dict[str, Any]:
        """Append an array and return its description for the page."""
        kind = {"u1": "Uint8Array", "i2": "Int16Array", "u2": "Uint16Array", "u4": "Uint32Array"}[values.dtype.str[1:]]
        return {"at": self.add(values.astype(values.dtype.newbyteorder("<")).tobytes()), "type": kind}

    def quantized(self, values: np.ndarray) -> dict[str, Any]:
        """Append floats [n,...] in 16 bits, each column over its range: value = low + step * stored."""
        flat = values.reshape(len(values), -1).astype(np.float64)
        low = flat.min(0, initial=np.inf) if len(flat) else np.zeros(flat.shape[1])
        step = np.maximum((flat.max(0) - low) / 65534, 1e-12) if len(flat) else np.ones(flat.shape[1])
        return {**self.array(np.round((flat - low) / step).astype("<u2")), "low": low.tolist(), "step": step.tolist()}


def _mesh(blocks: _Blocks, mesh: Mesh) -> dict[str, Any]:
    """Append a mesh's arrays and return its description for the page."""
    V = len(mesh.vertices)
    out: dict[str, Any] = {"name": mesh.name, "count": V, "vertices": blocks.quantized(mesh.vertices)}
    faces = mesh.faces
    if mesh.texture is not None:
        source, uv, faces = split_seams(mesh)
        out["copies"] = blocks.array(source[V:].astype("<u4"))
        out["uv"] = blocks.quantized(np.stack([uv[:, 0], 1 - uv[:, 1]], -1))  # WebGL's first row is the image's first
        out["texture"] = blocks.add(encode_image(mesh.texture, "JPEG", quality=92, subsampling=0))
    out["faces"] = blocks.array(_narrow(faces.ravel()))
    if mesh.colours is not None:
        out["colours"] = blocks.array(srgb_bytes(mesh.colours))
    if mesh.error is not None:
        measured = np.isfinite(mesh.error)
        step = max(float(np.max(mesh.error, initial=0, where=measured)) / (MISSING - 1), 1e-9)
        stored = np.where(measured, np.round(np.nan_to_num(mesh.error) / step), MISSING)
        out["error"] = {**blocks.array(stored.astype("<u2")), "step": step}
    if mesh.landmarks is not None and len(mesh.landmarks):
        # A landmark follows its nearest vertex.
        nearest = ((mesh.landmarks[:, None] - mesh.vertices) ** 2).sum(-1).argmin(1)
        offsets = mesh.landmarks - mesh.vertices[nearest]
        out["landmarks"] = [[int(v), *np.round(o, 4).tolist()] for v, o in zip(nearest, offsets.astype(np.float64))]
    out["range"] = list(mesh.morph_range)
    out["morphs"] = [
        _morph(blocks, name, offsets) | {"weight": float(mesh.weights.get(name, 0))}
        for name, offsets in mesh.morphs.items()
    ]
    out["presets"] = mesh.presets
    return out


def _morph(blocks: _Blocks, name: str, offsets: np.ndarray) -> dict[str, Any]:
    step = max(STEP, float(np.abs(offsets).max(initial=0)) / 32767)
    stored = np.round(offsets / step).astype("<i2")
    index = np.flatnonzero(stored.any(1))
    # Gaps between indices, and planes instead of triples, compress better.
    return {
        "name": name,
        "step": step,
        "gaps": blocks.array(_narrow(np.diff(index, prepend=0))),
        "offsets": blocks.array(np.ascontiguousarray(stored[index].T)),
    }


def _narrow(values: np.ndarray) -> np.ndarray:
    """Convert to the narrower of uint16 and uint32 that holds all values."""
    return values.astype("<u2" if values.max(initial=0) < 65536 else "<u4")
