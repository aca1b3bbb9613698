"""The Surrey Face Model (Huber et al. 2016) and other models in the eos library's binary format (cereal, little endian).

uint32 version, then the shape model, the colour model, from version 2 an optional expression model, from 3 optional landmark names, then texture
coordinates, from 4 the triangles of these. A model of components is: mean [3V,1], basis [3V,K] of unit length, variances [K,1] and triangles; a matrix
is int32 rows, int32 columns and float32 numbers column by column; a list is a uint64 count and its entries. Millimetres.

Read beside it, where they are there: expression_blendshapes_3448.bin (a list of names and offsets) if the model has no expressions, and
ibug_to_sfm.txt, which maps iBUG's landmarks (1-based) to vertices: the contour and the inner mouth corners are not in it.
"""

import re
import struct

import numpy as np

from facemodels.io.files import existing_file, input_error
from facemodels.models.formats.build import build
from facemodels.models.formats.layout import face_region, modes, outward, points, vertex_landmarks
from facemodels.models.model_data import ModelData

EXPECTED = "a Surrey model or other eos model (.bin)"
LICENCE = "Surrey Face Model, University of Surrey: non-commercial (other models in this format: their own)"
_LINE = re.compile(r"^[ \t]*(\d+)[ \t]*(?:=[ \t]*|[ \t]+)(\d+)", re.MULTILINE)


class _Cut(Exception):
    pass


class _Cursor:
    """Reads forwards through bytes; a declared size is compared with what is left before anything is made of it."""

    def __init__(self, raw: bytes):
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

    def components(self):
        return self.matrix(), self.matrix(), self.matrix().ravel(), self.list("<i4", 3)

    def blendshapes(self) -> dict:
        return {self.text(): self.matrix() for _ in range(self.number("Q"))}


def read_surrey(path) -> ModelData:
    """Reads an eos model: sfm_shape_3448.bin and its relatives."""
    path = existing_file(path, EXPECTED)
    cursor = _Cursor(path.read_bytes())
    pca = blendshapes = None
    names, uv_faces = {}, np.empty((0, 3), np.int32)
    try:
        version = cursor.number("I")
        if not 1 <= version <= 4:
            raise input_error(path, f"{EXPECTED} of version 1 to 4", f"version {version}")
        mean, basis, variance, faces = cursor.components()
        colour, colours, colour_variance, _ = cursor.components()
        if version >= 2 and not cursor.number("B"):
            if cursor.number("i") == 0:
                pca = cursor.components()
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

    rows = len(mean)
    _fits(path, "shape", mean, basis, variance, rows)
    count = rows // 3
    if faces.size and (faces.min() < 0 or faces.max() >= count):
        raise input_error(path, f"triangles of vertices in 0..{count - 1}", f"{faces.min()}..{faces.max()}")
    mean = points(mean, 1)
    expression, expression_names, is_blendshapes = np.zeros((0, count, 3), np.float32), (), False
    beside = path.with_name("expression_blendshapes_3448.bin")
    if pca is not None:
        _fits(path, "expression", *pca[:3], rows)
        mean, expression = mean + points(pca[0], 1), modes(pca[1], np.sqrt(pca[2]))
    elif blendshapes is None and beside.exists() and count == 3448:
        blendshapes = _beside(beside)
    if blendshapes is not None:
        if any(b.shape != (rows, 1) for b in blendshapes.values()):
            sizes = ", ".join(sorted({str(list(b.shape)) for b in blendshapes.values()}))
            raise input_error(beside if beside.exists() else path, f"expressions of [{rows}, 1]", sizes)
        expression, expression_names, is_blendshapes = (
            modes(np.concatenate(list(blendshapes.values()), 1), 1),
            tuple(blendshapes),
            True,
        )
    albedo = {}
    if colour.size:
        _fits(path, "colour", colour, colours, colour_variance, rows)
        albedo = {"albedo_mean": points(colour, 1), "albedo": modes(colours, np.sqrt(colour_variance))}
    turned = outward(faces, mean, clockwise=False)
    if not len(uv):
        uv = uv_faces = None
    else:
        uv = uv * [1, -1] + [0, 1]  # eos counts v from the top
        if not len(uv_faces):
            uv_faces = turned
        elif len(uv_faces) == len(faces) and (turned != faces).any():
            uv_faces = uv_faces[:, [0, 2, 1]]
    landmarks = _landmarks(path, names, count)
    data = build(
        path,
        name=f"Surrey Face Model ({path.stem})",
        mean=mean,
        identity=modes(basis, np.sqrt(variance)),
        expression=expression,
        expression_names=expression_names,
        blendshapes=is_blendshapes,
        faces=turned,
        uv=uv,
        uv_faces=uv_faces,
        albedo_encoding="srgb",
        licence=LICENCE,
        **albedo,
        **({} if landmarks is None else vertex_landmarks(landmarks)),
    )
    data.regions = face_region(data.mean, data.landmark_index, data.landmark_weights)
    return data


def _fits(path, what, mean, basis, variance, rows):
    if (
        rows == 0
        or rows % 3
        or mean.shape != (rows, 1)
        or len(basis) != rows
        or len(variance) != basis.shape[1]
        or variance.min(initial=0) < 0
    ):
        found = f"{list(mean.shape)}, {list(basis.shape)} and {len(variance)}{', some negative' if variance.min(initial=0) < 0 else ''}"
        raise input_error(path, f"a {what} model of mean [3V,1], basis [3V,K] and K variances, 3V = {rows}", found)


def _beside(path):
    expected = "the expressions expression_blendshapes_3448.bin"
    cursor = _Cursor(existing_file(path, expected).read_bytes())
    try:
        return cursor.blendshapes()
    except _Cut as error:
        raise input_error(path, expected, f"a file that ends early or holds something else ({error})") from error


def _landmarks(path, names, count):
    """Vertices of the landmarks, -1 for those without one; None if there are none at all. Names in the file are iBUG's numbers."""
    mapped = {int(n): v for n, v in names.items() if n.isdecimal()}
    text = path.with_name("ibug_to_sfm.txt")
    if not mapped and text.exists() and count == 3448:
        mapped = {
            int(a): int(b)
            for a, b in _LINE.findall(existing_file(text, "eos's ibug_to_sfm.txt").read_text(errors="replace"))
        }
    landmarks = np.full(68, -1)
    for number, vertex in mapped.items():
        if not (1 <= number <= 68 and 0 <= vertex < count):
            raise input_error(
                text if text.exists() else path, f"landmarks 1..68 on vertices 0..{count - 1}", f"{number} on {vertex}"
            )
        landmarks[number - 1] = vertex
    return landmarks if mapped else None
