"""PLY, text and binary: vertices, colors, texture coordinates, polygons and triangle strips.

Elements and properties that nothing here uses are passed over. Sizes that the header claims are compared with the
file's before memory is taken.
"""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .images import read_texture
from .parsed import Look, MeshError, ParsedMesh, Say, Texture, linear_colors, strip
from .polygons import FANS, split_polygons
from .text import decoded, find_file, is_number, parse_numbers, shown

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8", "int64": "i8", "uint64": "u8", "long": "i8", "ulong": "u8", "half": "f2",
}  # fmt: skip
COLORS = tuple((f"{p}red", f"{p}green", f"{p}blue") for p in ("", "diffuse_", "vertex_", "color_")) + (("r", "g", "b"),)
COORDINATES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"), ("texture_s", "texture_t"))
INDICES = ("vertex_indices", "vertex_index", "vertex_indexes")
HEADER = 1 << 20  # bytes, at most


@dataclass(frozen=True)
class _Property:
    """A property; `count` is the type of a list's length, None where there is no list."""

    name: str
    kind: np.dtype
    count: np.dtype | None


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[_Property]


@dataclass(frozen=True)
class _Ragged:
    """Lists: their numbers one after another, and how many each has."""

    values: np.ndarray
    counts: np.ndarray


def read_ply(path: Path, say: Say, looks: bool = True) -> ParsedMesh:
    """Read a PLY file.

    Args:
        path: the file.
        say: takes a sentence about every texture that is not there, and about what stands behind the last row.
        looks: whether to read textures.

    Returns:
        The mesh, with all vertices of the file in their order.

    Raises:
        MeshError: the header or the numbers cannot be read.
    """
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    form, elements, comments, begin = _header(path, data)
    body: _Text | _Binary = _Text(path, data, begin) if form == "ascii" else _Binary(path, data, begin, form)
    wanted = {"vertex", "face", "tristrips"} & {element.name for element in elements}
    if "vertex" not in wanted:
        raise MeshError(f"{path}: the file has no vertices; export a mesh")
    found: dict[str, dict[str, np.ndarray | _Ragged]] = {}
    for element in elements:
        if element.name not in found:
            found[element.name] = body.rows(element)
        if wanted <= set(found):
            break
    rest = body.rest() if element is elements[-1] else ""
    if rest:
        are = "is" if rest.startswith("1 ") else "are"
        say(f"{path}: {rest} behind the rows that its header declares {are} ignored; export it again if one is missing")
    vertex = {name: values for name, values in found["vertex"].items() if isinstance(values, np.ndarray)}
    if any(axis not in vertex for axis in "xyz"):
        raise MeshError(f"{path}: the vertices have no x, y and z; export it again")
    vertices = np.stack([vertex[axis] for axis in "xyz"], -1).astype(np.float64)
    polygons = found.get("face", {})
    corners = _list(polygons, *INDICES)
    lists = [values for name, values in polygons.items() if isinstance(values, _Ragged) and name != "texcoord"]
    if corners is None and len(lists) == 1:  # under another name
        corners = lists[0]
    if corners is None:
        corners = _Ragged(np.zeros(0, np.int64), np.zeros(0, np.int64))
    index = _whole(path, corners.values)
    if len(corners.counts) and (corners.counts == 3).all():
        triangles, polygon = np.arange(len(index)).reshape(-1, 3), np.arange(len(corners.counts))
        faces = index.reshape(-1, 3)
    else:
        triangles, polygon, concave = split_polygons(vertices, index, corners.counts)
        if concave:
            say(f"{path}: {concave:,} {FANS}")
        faces = index[triangles]
    colours = _colors(vertex)
    if colours is None and len(polygon):
        colours = _face_colors(polygons, polygon, faces, len(vertices))
    uv, uv_faces, made, which = _textured(path, comments, vertex, polygons, corners, triangles, polygon, say, looks)
    strips = _list(found.get("tristrips", {}), *INDICES)
    if strips is not None:
        # Every list is a strip, and a negative number begins another one.
        ends = np.cumsum(strips.counts)
        more = strip(np.insert(_whole(path, strips.values), ends, -1))
        faces = np.concatenate([faces, more.astype(faces.dtype)])
        if uv_faces is not None:
            uv_faces = np.concatenate([uv_faces, np.full_like(more, -1)])
        if which is not None:
            which = np.concatenate([which, np.full(len(more), -1)])
    if len(polygon) == len(faces) == 0 < len(corners.counts) and rest:
        raise MeshError(
            f"{path}: its header does not fit what follows: {rest} behind the {len(vertices):,} rows of 'vertex' and "
            "the others that it declares, and no triangle; export it again"
        )
    return ParsedMesh(vertices, faces, colours, uv, uv_faces, made, which)


def _header(path: Path, data: bytes) -> tuple[str, list[_Element], list[bytes], int]:
    """The format, the elements, the comments, and where numbers begin."""
    # Behind a lone carriage return, a line feed is a number's first byte.
    feed = rb"\r" if re.match(rb"ply[ \t]*\r(?!\n)", data) else rb"\r\n|\n|\r"
    ending = re.compile(rb"(?:^|[\r\n])[ \t]*end_header[ \t]*(" + feed + rb")?").search(data, 0, HEADER)
    if data[:3] != b"ply" or ending is None:
        raise MeshError(f"{path}: not a readable PLY file: it has no header from ply to end_header; export it again")
    form, elements, comments = "", [], []
    for line in re.split(rb"\r\n|\n|\r", data[: ending.start()])[1:]:
        words = line.split()
        if not words or words[0] == b"obj_info":
            continue
        if words[0] == b"comment":
            comments.append(line.split(None, 1)[1].strip() if len(words) > 1 else b"")
            continue
        text = [decoded(word) for word in words]
        try:
            if text[0] == "format":
                form = {"ascii": "ascii", "binary_little_endian": "<", "binary_big_endian": ">"}[text[1]]
            elif text[0] == "element":
                elements.append(_Element(text[1].lower(), int(text[2]), []))
                if elements[-1].count < 0:
                    raise ValueError
            elif text[0] == "property":
                order = form if form in ("<", ">") else "="
                count = np.dtype(order + TYPES[text[2]]) if text[1] == "list" else None
                if count is not None and count.kind == "f":
                    raise ValueError
                kind, name = text[-2:]
                elements[-1].properties.append(_Property(name.lower(), np.dtype(order + TYPES[kind]), count))
            elif all(32 <= byte < 127 or byte == 9 for byte in line):
                raise ValueError
            # Otherwise a comment of two bytes a letter, one of which looked like the end of its line.
        except (ValueError, KeyError, IndexError):
            raise MeshError(
                f"{path}: the header's line {shown(line.strip()[:60])!r} cannot be read; export the mesh again"
            ) from None
    if not form:
        raise MeshError(f"{path}: the header does not say the format, ascii or binary; export the mesh again")
    return form, elements, comments, ending.end()


def _short(path: Path, element: _Element) -> MeshError:
    rows = "row" if element.count == 1 else f"{element.count:,} rows"
    return MeshError(
        f"{path}: the file ends before the {rows} of {element.name!r} that its header has; it is cut "
        "off or damaged, copy or export it again"
    )


def _no_rows(element: _Element) -> dict[str, np.ndarray | _Ragged]:
    none = np.zeros(0)
    return {p.name: none if p.count is None else _Ragged(none, np.zeros(0, np.int64)) for p in element.properties}


class _Text:
    """The numbers of a text file."""

    def __init__(self, path: Path, data: bytes, begin: int) -> None:
        self.path, self.at = path, 0
        text = data[begin:]
        values = parse_numbers(text)
        if values is None:
            wrong = next((word for word in text.split() if not is_number(word)), b"?")[:20]
            raise MeshError(f"{path}: {shown(wrong)!r} stands in place of a number; correct or export it again")
        self.values = values

    def rest(self) -> str:
        """What has not been read, in words; empty if nothing is left."""
        left = len(self.values) - self.at
        return f"{left:,} number{'s' if left > 1 else ''}" if left else ""

    def rows(self, element: _Element) -> dict[str, np.ndarray | _Ragged]:
        """The element's properties by name; numbers or lists."""
        left = len(self.values) - self.at
        if element.count and element.properties and element.count > left:
            raise _short(self.path, element)
        if not element.count or not element.properties:
            return _no_rows(element)
        starts, counts = self._uniform(element) or self._walked(element)
        result: dict[str, np.ndarray | _Ragged] = {}
        for p, start, count in zip(element.properties, starts, counts):
            if p.count is None:
                numbers = self.values[start]
                whole = numbers.astype(p.kind)
                # Numbers that their type can't hold stay what they are, such as colors of 0..1 declared as bytes.
                result[p.name] = whole if p.kind.kind != "f" and (whole == numbers).all() else numbers
            else:
                result[p.name] = _Ragged(self.values[_spread(start, count)], count)
        return result

    def _uniform(self, element: _Element) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
        """Where each row's properties begin and how many numbers they have, if all rows are like the first."""
        width, lengths, columns = 0, [], []
        for p in element.properties:
            if self.at + width >= len(self.values):
                raise _short(self.path, element)
            length = 1 if p.count is None else _length(self.path, float(self.values[self.at + width]))
            columns.append(width + (p.count is not None))
            lengths.append(length)
            width += length + (p.count is not None)
        if element.count * width > len(self.values) - self.at:
            return None
        table = self.values[self.at : self.at + element.count * width].reshape(element.count, width)
        for p, column, length in zip(element.properties, columns, lengths):
            if p.count is not None and not (table[:, column - 1] == length).all():
                return None
        begin = self.at + np.arange(element.count) * width
        self.at += element.count * width
        return [begin + column for column in columns], [np.full(element.count, length) for length in lengths]

    def _walked(self, element: _Element) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The same, row by row."""
        values, at, end = self.values, self.at, len(self.values)
        lists = [p.count is not None for p in element.properties]
        starts: list[list[int]] = [[] for _ in lists]
        counts: list[list[int]] = [[] for _ in lists]
        for _ in range(element.count):
            for k, is_list in enumerate(lists):
                length = 1
                if is_list:
                    if at >= end:
                        raise _short(self.path, element)
                    length = _length(self.path, float(values[at]))
                    at += 1
                starts[k].append(at)
                counts[k].append(length)
                at += length
        if at > end:
            raise _short(self.path, element)
        self.at = at
        return [np.array(a, np.int64) for a in starts], [np.array(a, np.int64) for a in counts]


class _Binary:
    """The numbers of a binary file."""

    def __init__(self, path: Path, data: bytes, begin: int, order: str) -> None:
        self.path, self.data, self.at, self.order = path, data, begin, order

    def rest(self) -> str:
        """What has not been read, in words; empty if nothing is left but padding."""
        left = self.data[self.at :]
        return f"{len(left):,} byte{'s' if len(left) > 1 else ''}" if left.strip(b"\0 \r\n") else ""

    def rows(self, element: _Element) -> dict[str, np.ndarray | _Ragged]:
        """The element's properties by name; numbers or lists."""
        if not element.count or not element.properties:
            return _no_rows(element)
        if element.count > len(self.data) - self.at:  # a row has a byte at least
            raise _short(self.path, element)
        return self._uniform(element) or self._walked(element)

    def _uniform(self, element: _Element) -> dict[str, np.ndarray | _Ragged] | None:
        """The properties, if lists are as long in all rows as in the first one."""
        fields: list[tuple[str, np.dtype, int]] = []
        offset, lengths = self.at, []
        for k, p in enumerate(element.properties):
            length = 1
            if p.count is not None:
                length = self._length(element, p.count, offset)
                fields.append((f"n{k}", p.count, 1))
                offset += p.count.itemsize
            fields.append((f"v{k}", p.kind, length))
            lengths.append(length)
            offset += p.kind.itemsize * length
        size = offset - self.at
        if element.count * size > len(self.data) - self.at:
            if all(p.count is None for p in element.properties):
                raise _short(self.path, element)
            return None
        table = np.frombuffer(
            self.data,
            np.dtype([(name, kind, (length,)) for name, kind, length in fields]),
            element.count,
            self.at,
        )
        for k, p in enumerate(element.properties):
            if p.count is not None and not (table[f"n{k}"] == lengths[k]).all():
                return None
        self.at += element.count * size
        found: dict[str, np.ndarray | _Ragged] = {}
        for k, p in enumerate(element.properties):
            values = table[f"v{k}"]
            found[p.name] = (
                values[:, 0] if p.count is None else _Ragged(values.reshape(-1), np.full(element.count, lengths[k]))
            )
        return found

    def _walked(self, element: _Element) -> dict[str, np.ndarray | _Ragged]:
        """The properties, row by row."""
        data, at, end = self.data, self.at, len(self.data)
        starts: list[list[int]] = [[] for _ in element.properties]
        counts: list[list[int]] = [[] for _ in element.properties]
        plan = [(p.kind.itemsize, None if p.count is None else p.count) for p in element.properties]
        for _ in range(element.count):
            for k, (size, count) in enumerate(plan):
                length = 1
                if count is not None:
                    if at >= end:
                        raise _short(self.path, element)
                    length = data[at] if count.itemsize == 1 else self._length(element, count, at)
                    at += count.itemsize
                starts[k].append(at)
                counts[k].append(length)
                at += size * length
        if at > end:
            raise _short(self.path, element)
        self.at = at
        octets = np.frombuffer(data, np.uint8)
        found: dict[str, np.ndarray | _Ragged] = {}
        for k, p in enumerate(element.properties):
            start, sizes = np.array(starts[k], np.int64), np.array(counts[k], np.int64)
            # Lists of other types are 8 times as large while they are gathered.
            pieces = [
                octets[_spread(start[i : i + 65536], sizes[i : i + 65536] * p.kind.itemsize)]
                for i in range(0, len(start), 65536)
            ]
            values = np.concatenate(pieces).view(p.kind)
            found[p.name] = values if p.count is None else _Ragged(values, sizes)
        return found

    def _length(self, element: _Element, kind: np.dtype, at: int) -> int:
        if at + kind.itemsize > len(self.data):
            raise _short(self.path, element)
        length = int(np.frombuffer(self.data, kind, 1, at)[0])
        if not 0 <= length <= len(self.data):
            raise _short(self.path, element)
        return length


def _length(path: Path, value: float) -> int:
    if not 0 <= value < 2**53 or value != int(value):
        raise MeshError(f"{path}: a list has a length of {value:g}; the file is damaged, export it again")
    return int(value)


def _spread(start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Indices start, start + 1, ..., `count` of them for each start."""
    before = np.cumsum(count) - count
    return np.arange(int(count.sum())) + np.repeat(start - before, count)


def _list(found: dict[str, np.ndarray | _Ragged], *names: str) -> _Ragged | None:
    """The first list of one of the names, or None."""
    for name in names:
        values = found.get(name)
        if isinstance(values, _Ragged):
            return values
    return None


def _whole(path: Path, values: np.ndarray) -> np.ndarray:
    """Indices as integers."""
    if values.dtype.kind == "f":
        if not (np.abs(values) < 2**31).all() or (values != np.rint(values)).any():
            raise MeshError(f"{path}: a face has an index that is no whole number; export it again")
        return values.astype(np.int64)
    return values.astype(np.int32 if np.can_cast(values.dtype, np.int32) else np.int64)


def _colors(found: dict[str, np.ndarray]) -> np.ndarray | None:
    """Linear colors [n,3] under one of the names that programs use, or None."""
    names = next((names for names in COLORS if all(name in found for name in names)), None)
    if names is None:
        return None
    return linear_colors(np.stack([found[name] for name in names], -1))


def _face_colors(
    found: dict[str, np.ndarray | _Ragged], polygon: np.ndarray, faces: np.ndarray, count: int
) -> np.ndarray | None:
    """Vertices' colors [V,3] as the means of those of their polygons, or None."""
    colors = _colors({name: values for name, values in found.items() if isinstance(values, np.ndarray)})
    if colors is None or faces.min() < 0 or faces.max() >= count:
        return None
    flat, each = faces.reshape(-1), np.repeat(colors[polygon], 3, 0)
    sums = np.stack([np.bincount(flat, each[:, k], count) for k in range(3)], -1)
    return (sums / np.maximum(np.bincount(flat, minlength=count), 1)[:, None]).astype(np.float32)


def _textured(
    path: Path,
    comments: list[bytes],
    vertex: dict[str, np.ndarray],
    polygons: dict[str, np.ndarray | _Ragged],
    corners: _Ragged,
    triangles: np.ndarray,
    polygon: np.ndarray,
    say: Say,
    looks: bool,
) -> tuple[np.ndarray | None, np.ndarray | None, list[Look], np.ndarray | None]:
    """Texture coordinates of vertices, or as MeshLab writes them of corners, and the textures that comments name.

    Returns:
        As `ParsedMesh` has them: uv, uv_faces, looks, look_of_face.
    """
    names = [
        comment[len("texturefile") :].strip() for comment in comments if comment.lower().startswith(b"texturefile")
    ]
    if not names or not looks:
        return None, None, [], None
    uv = uv_faces = which = None
    wedge = _list(polygons, "texcoord") if len(corners.counts) else None
    pair = next((pair for pair in COORDINATES if all(name in vertex for name in pair)), None)
    if wedge is not None:
        has = wedge.counts == 2 * corners.counts
        place = np.cumsum(corners.counts) - corners.counts
        uv = np.zeros((len(corners.values), 2))
        # Corner k of a polygon with coordinates is their pair k; lists of another length hold none.
        from_list = _spread((np.cumsum(wedge.counts) - wedge.counts)[has], wedge.counts[has])
        uv[_spread(place[has], corners.counts[has])] = wedge.values[from_list].reshape(-1, 2)
        uv_faces = np.where(has[polygon][:, None], triangles, -1)
    elif pair is not None:
        uv = np.stack([vertex[name] for name in pair], -1).astype(np.float64)
    made = []
    for name in names:
        file = find_file(path.parent, name)
        if file is None:
            say(f"{path}: its texture {shown(name)} was not found beside it; drawn without")
            made.append(Look())
        else:
            # A texture counts alone; vertices' colors are those of triangles without.
            made.append(Look((1.0, 1.0, 1.0), Texture(read_texture(file, f"{path}: {file.name}"))))
    number = polygons.get("texnumber")
    if len(made) > 1 and isinstance(number, np.ndarray):
        which = number[polygon].astype(np.int64)
        which[(which < 0) | (which >= len(made))] = -1
    return uv, uv_faces, made, which
