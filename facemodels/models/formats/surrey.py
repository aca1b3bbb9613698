"""The Surrey Face Model (Huber et al. 2016) and other models in the eos library's binary format (cereal, little
endian).

The file holds uint32 version, the shape model, the color model, from version 2 an optional expression model, from 3
optional names of landmarks, then texture coordinates, from 4 the triangles of these. A model of components is: mean
[3V,1], basis [3V,K] of unit length, variances [K,1] and triangles. A matrix is int32 rows, int32 columns and float32
numbers column by column; a list is a uint64 count and its entries. Millimeters.

Read beside it, where they are there: expression_blendshapes_3448.bin (a list of names and offsets) if the model has no
expressions, and ibug_to_sfm.txt, which maps iBUG's landmarks (1-based) to vertices; it lacks the contour and the inner
corners of the mouth.
"""

import re
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facemodels.core.landmarks import NUM_LANDMARKS
from facemodels.io.files import existing_file, input_error
from facemodels.models.formats.build import build, check_vertices
from facemodels.models.formats.layout import modes, outward, points
from facemodels.models.model_data import ModelData, face_region, vertex_landmarks

EXPECTED = "a Surrey model or other eos model (.bin)"
LICENSE = "Surrey Face Model, University of Surrey: non-commercial (other models in this format: their own)"
VERTICES = 3448  # of the models that the files beside it belong to
_LINE = re.compile(r"^[ \t]*(\d+)[ \t]*(?:=[ \t]*|[ \t]+)(\d+)", re.MULTILINE)
_DIGITS = 18  # of a number that may count vertices
_BLENDSHAPES = f"expression_blendshapes_{VERTICES}.bin"


class _Cut(Exception):
    """The file ends early, or holds something else."""


class _Components(NamedTuple):
    """mean [3V,1], basis [3V,K], variance [K], faces [F,3]."""

    mean: np.ndarray
    basis: np.ndarray
    variance: np.ndarray
    faces: np.ndarray


class _Content(NamedTuple):
    """What an eos model file holds; expression and blendshapes are None where it has none."""

    shape: _Components
    color: _Components
    expression: _Components | None
    blendshapes: dict[str, np.ndarray] | None
    names: dict[str, int]
    uv: np.ndarray
    uv_faces: np.ndarray


class _Cursor:
    """Reads forward through bytes; a declared size is compared with what is left before memory is allocated for it."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def take(self, count: int) -> bytes:
        if count < 0 or count > len(self.raw) - self.at:
            raise _Cut(f"{count} bytes declared at byte {self.at} of {len(self.raw)}")
        self.at += count
        return self.raw[self.at - count : self.at]

    def number(self, kind: str) -> int:
        return struct.unpack("<" + kind, self.take(struct.calcsize(kind)))[0]

    def matrix(self) -> np.ndarray:
        rows, columns = self.number("i"), self.number("i")
        if rows < 0 or columns < 0:
            raise _Cut(f"a matrix of {rows} by {columns} declared at byte {self.at - 8}")
        return np.frombuffer(self.take(4 * rows * columns), "<f4").reshape(columns, rows).T

    def list(self, dtype: str, width: int) -> np.ndarray:
        return np.frombuffer(self.take(self.number("Q") * width * np.dtype(dtype).itemsize), dtype).reshape(-1, width)

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", "replace")

    def components(self) -> _Components:
        return _Components(self.matrix(), self.matrix(), self.matrix().ravel(), self.list("<i4", 3))

    def blendshapes(self) -> dict[str, np.ndarray]:
        return {self.text(): self.matrix() for _ in range(self.number("Q"))}


def read_surrey(path: str | Path) -> ModelData:
    """Read an eos model: sfm_shape_3448.bin and its relatives.

    Raises:
        InputError: the file, or one that belongs to it, is missing, damaged or of another kind.
    """
    path = existing_file(path, EXPECTED)
    content = _content(path)
    shape, color, pca = content.shape, content.color, content.expression
    rows = len(shape.mean)
    _check(path, "shape", shape, rows)
    count = rows // 3
    check_vertices(path, shape.faces, count)
    mean = points(shape.mean, 1)
    expression = {"expression": np.zeros((0, count, 3), np.float32), "expression_names": (), "blendshapes": False}
    if pca is not None:
        _check(path, "expression", pca, rows)
        mean = mean + points(pca.mean, 1)
        expression["expression"] = modes(pca.basis, np.sqrt(pca.variance))
    if (blendshapes := _blendshapes(path, content, rows)) is not None:
        expression = {
            "expression": modes(np.concatenate(list(blendshapes.values()), 1), 1),
            "expression_names": tuple(blendshapes),
            "blendshapes": True,
        }
    albedo = {}
    if color.mean.size:
        _check(path, "color", color, rows)
        albedo = {"albedo_mean": points(color.mean, 1), "albedo": modes(color.basis, np.sqrt(color.variance))}
    faces = outward(shape.faces, mean, clockwise=False)
    uv, uv_faces = _texture(content, faces)
    landmarks = _landmarks(path, content.names, count)
    data = build(
        path,
        name=f"Surrey Face Model ({path.stem})",
        mean=mean,
        identity=modes(shape.basis, np.sqrt(shape.variance)),
        faces=faces,
        uv=uv,
        uv_faces=uv_faces,
        albedo_encoding="srgb",
        licence=LICENSE,
        **expression,
        **albedo,
        **({} if landmarks is None else vertex_landmarks(landmarks)),
    )
    data.regions = face_region(data.mean, data.landmark_index, data.landmark_weights)
    return data


def _content(path: Path) -> _Content:
    cursor = _Cursor(path.read_bytes())
    expression = blendshapes = None
    names: dict[str, int] = {}
    uv_faces = np.empty((0, 3), np.int32)
    try:
        version = cursor.number("I")
        if not 1 <= version <= 4:
            raise input_error(path, f"{EXPECTED} of version 1 to 4", f"version {version}")
        shape, color = cursor.components(), cursor.components()
        if version >= 2 and not cursor.number("B"):
            if cursor.number("i") == 0:
                expression = cursor.components()
            else:
                blendshapes = cursor.blendshapes()
        if version >= 3 and not cursor.number("B"):
            names = {cursor.text(): cursor.number("i") for _ in range(cursor.number("Q"))}
        uv = cursor.list("<f8", 2)
        if version >= 4:
            uv_faces = cursor.list("<i4", 3)
        if cursor.at != len(cursor.raw):
            raise _Cut(f"{len(cursor.raw) - cursor.at} bytes after the model")
    except _Cut as error:
        raise input_error(path, EXPECTED, f"a file that ends early or holds something else ({error})") from error
    return _Content(shape, color, expression, blendshapes, names, uv, uv_faces)


def _check(path: Path, what: str, part: _Components, rows: int) -> None:
    """Check that a model of components has this number of rows, and variances that are not negative."""
    mean, basis, variance, _ = part
    if (
        rows == 0
        or rows % 3
        or mean.shape != (rows, 1)
        or len(basis) != rows
        or len(variance) != basis.shape[1]
        or variance.min(initial=0) < 0
    ):
        negative = ", some negative" if variance.min(initial=0) < 0 else ""
        found = f"{list(mean.shape)}, {list(basis.shape)} and {len(variance)}{negative}"
        expected = f"a {what} model of mean [3V,1], basis [3V,K] and K variances, 3V = {rows}"
        raise input_error(path, expected, found)


def _blendshapes(path: Path, content: _Content, rows: int) -> dict[str, np.ndarray] | None:
    """The blend shapes of the model or, if it has no expressions, of the file beside it: name -> offsets [3V,1]."""
    sidecar = path.with_name(_BLENDSHAPES)
    blendshapes = content.blendshapes
    if blendshapes is None and content.expression is None and sidecar.exists() and rows == 3 * VERTICES:
        expected = f"the expressions {_BLENDSHAPES}"
        cursor = _Cursor(existing_file(sidecar, expected).read_bytes())
        try:
            blendshapes = cursor.blendshapes()
        except _Cut as error:
            found = f"a file that ends early or holds something else ({error})"
            raise input_error(sidecar, expected, found) from error
    if blendshapes is not None and any(b.shape != (rows, 1) for b in blendshapes.values()):
        sizes = ", ".join(sorted({str(list(b.shape)) for b in blendshapes.values()}))
        raise input_error(sidecar if sidecar.exists() else path, f"expressions of [{rows}, 1]", sizes)
    return blendshapes


def _texture(content: _Content, faces: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """uv [T,2] and uv_faces [F,3] for faces [F,3] that may have been wound the other way."""
    if not len(content.uv):
        return None, None
    uv = content.uv * [1, -1] + [0, 1]  # eos counts v from the top
    uv_faces = content.uv_faces
    if not len(uv_faces):
        uv_faces = faces
    elif len(uv_faces) == len(faces) and (faces != content.shape.faces).any():
        uv_faces = uv_faces[:, [0, 2, 1]]
    return uv, uv_faces


def _landmarks(path: Path, names: dict[str, int], count: int) -> np.ndarray | None:
    """Vertices of the landmarks [68], -1 for those without one; None if there are none at all.

    Names in the file are iBUG's numbers, from 1.
    """
    mapped = {int(n): v for n, v in names.items() if n.isdecimal() and len(n) < _DIGITS}
    text = path.with_name("ibug_to_sfm.txt")
    if not mapped and text.exists() and count == VERTICES:
        lines = existing_file(text, "eos's ibug_to_sfm.txt").read_text(errors="replace")
        mapped = {int(a[:_DIGITS]): int(b[:_DIGITS]) for a, b in _LINE.findall(lines)}
    landmarks = np.full(NUM_LANDMARKS, -1)
    for number, vertex in mapped.items():
        if not (1 <= number <= NUM_LANDMARKS and 0 <= vertex < count):
            expected = f"landmarks 1..{NUM_LANDMARKS} on vertices 0..{count - 1}"
            raise input_error(text if text.exists() else path, expected, f"{number} on {vertex}")
        landmarks[number - 1] = vertex
    return landmarks if mapped else None
