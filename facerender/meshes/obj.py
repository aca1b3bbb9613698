"""Wavefront OBJ: vertices, with colors behind them, texture coordinates, polygons and materials.

Lines of a kind are parsed together, with NumPy. Libraries that are as fast have no wheels for every Python, give
float32, or renumber the vertices: docs/notes/meshes.md compares them.
"""

import codecs
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._checks import brief_repr
from .mtl import Material, look_of, read_mtl
from .parsed import MeshError, ParsedMesh, Say, linear_colors
from .polygons import FANS, split_polygons
from .text import decoded, find_file, is_number, parse_numbers, shown

CHUNK = 1 << 18  # bytes that are parsed at once: temporary arrays stay small
NO_MATERIAL = ("", "none", "(null)", "default")  # what programs write where they have none
DIGITS = 18  # of an index, at most
SPACE = (32, 9)
_KIND = np.zeros(256, np.uint8)  # of a character in a line of a polygon
_KIND[list(b"0123456789")], _KIND[list(b"+-")], _KIND[47], _KIND[[32, 9, 10, 11, 12, 13]] = 1, 2, 3, 4


class _Lines(NamedTuple):
    """A file's bytes, and its lines.

    Attributes:
        path: of the file.
        data: uint8; ends with a line feed.
        starts: [L], where lines begin.
        ends: [L], where their line feeds are.
        first: [L], their first bytes.
    """

    path: Path
    data: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    first: np.ndarray

    def beginning(self, word: bytes) -> np.ndarray:
        """Indices of the lines that begin with a word and a space."""
        found = np.flatnonzero(self.first == word[0])
        for k, letters in enumerate([*word[1:], SPACE], 1):
            found = found[np.isin(self.data[np.minimum(self.starts[found] + k, len(self.data) - 1)], letters)]
        return found

    def of(self, chosen: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """The bytes of some lines, in pieces.

        Args:
            chosen: their indices [n], ascending.

        Returns:
            For each piece, a copy of its bytes, and where each of its lines begins.
        """
        pieces = []
        lengths = self.ends[chosen] + 1 - self.starts[chosen]
        total = np.cumsum(lengths)
        at = 0
        while at < len(chosen):
            upto = int(np.searchsorted(total, (total[at - 1] if at else 0) + CHUNK, "right"))
            upto = max(upto, at + 1)
            lines, sizes = chosen[at:upto], lengths[at:upto]
            begin, end = self.starts[lines[0]], self.ends[lines[-1]] + 1
            begins = np.cumsum(sizes) - sizes
            if end - begin == sizes.sum():
                piece = self.data[begin:end].copy()
            else:
                index = np.arange(sizes.sum()) + np.repeat(self.starts[lines] - begins, sizes)
                piece = self.data[index]
            pieces.append((piece, begins))
            at = upto
        return pieces


@brief_repr
class Polygons(NamedTuple):
    """The polygons of a file, as they stand there.

    Attributes:
        vertices: float64 [V,3].
        uv: float64 [T,2], texture coordinates.
        counts: [P], corners of each polygon.
        corners: int64 [C,2], of one polygon after another: indices into vertices and uv; -1 for no texture coordinate.
    """

    vertices: np.ndarray
    uv: np.ndarray
    counts: np.ndarray
    corners: np.ndarray


def read_obj(path: Path, say: Say, looks: bool = True) -> ParsedMesh:
    """Read an OBJ file.

    Args:
        path: the file.
        say: takes a sentence about every texture or file of materials that is not there.
        looks: whether to read materials and textures.

    Returns:
        The mesh, with all vertices of the file in their order.

    Raises:
        MeshError: a line cannot be read, or names what does not exist.
    """
    lines = _lines(path)
    rows, f_lines, (vertices, uv, counts, corners) = _read(lines, looks)
    triangles, polygon, concave = split_polygons(vertices, corners[:, 0], counts)
    if concave:
        say(f"{path}: {concave:,} {FANS}")
    faces = corners[:, 0][triangles]
    colours = _colors(rows)
    if not looks:
        return ParsedMesh(vertices, faces, colours)
    uv_faces = corners[:, 1][triangles] if len(uv) and (corners[:, 1] >= 0).any() else None
    if uv_faces is not None:
        uv_faces[(uv_faces < 0).any(1)] = -1
    found, look_of_line = _looks(lines, f_lines, say)
    look_of_face = look_of_line[polygon]
    uv_faces, uv = _move(uv_faces, uv, found, look_of_face)
    made = [look_of(material, colours is not None) for material in found]
    return ParsedMesh(vertices, faces, colours, uv if uv_faces is not None else None, uv_faces, made, look_of_face)


def read_polygons(path: Path) -> Polygons:
    """Read the polygons of an OBJ file, which are not divided into triangles.

    Raises:
        MeshError: a line cannot be read, or names what does not exist.
    """
    return _read(_lines(path), True)[2]


def read_vertices(path: Path) -> np.ndarray:
    """Read the vertices of an OBJ file alone, float64 [V,3].

    Raises:
        MeshError: a line of a vertex cannot be read.
    """
    lines = _lines(path)
    return _vertex_rows(lines, lines.beginning(b"v"))[:, :3]


def _vertex_rows(lines: _Lines, v_lines: np.ndarray) -> np.ndarray:
    """Coordinates of vertices and what stands behind them, [V,3 or more]."""
    return _numbers(lines, v_lines, 1, (3, 4, 6, 7), "a vertex", "3 (x y z) or 6 (with a color)")


def _read(lines: _Lines, with_uv: bool) -> tuple[np.ndarray, np.ndarray, Polygons]:
    """The rows of vertices, the lines of polygons, and the polygons.

    Without texture coordinates, the indices of these stay unchecked.
    """
    v_lines, vt_lines, f_lines = (lines.beginning(word) for word in (b"v", b"vt", b"f"))
    rows = _vertex_rows(lines, v_lines)
    uv = _numbers(lines, vt_lines, 2, (1, 2, 3), "a texture coordinate", "2")[:, :2] if with_uv else np.zeros((0, 2))
    counts, corners = _polygons(lines, f_lines)
    line_of_corner = np.repeat(f_lines, counts)
    wanted = [(v_lines, "vertex")] + [(vt_lines, "texture coordinate")] * with_uv
    for column, (known, what) in enumerate(wanted):
        before = np.searchsorted(known, f_lines)
        _resolve(lines, corners[:, column], before, counts, line_of_corner, len(known), what)
    return rows, f_lines, Polygons(rows[:, :3], uv, counts, corners)


def _lines(path: Path) -> _Lines:
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise MeshError(f"{path}: the file is UTF-16 text; save it as UTF-8")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\\" in data:  # looking for one byte is a hundred times as fast as for two
        data = data.replace(b"\\\n", b" ")
    if not data.endswith(b"\n"):
        data += b"\n"
    array = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(array == 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if np.isin(array[starts], SPACE).any():
        array = np.frombuffer(re.sub(rb"(?m)^[ \t]+", b"", data), np.uint8)
        ends = np.flatnonzero(array == 10)
        starts = np.concatenate([[0], ends[:-1] + 1])
    return _Lines(path, array, starts, ends, array[starts])


def _numbers(
    lines: _Lines, chosen: np.ndarray, letters: int, sizes: tuple[int, ...], what: str, wanted: str
) -> np.ndarray:
    """The numbers of some lines as float64 [n,columns]; NaN where a line has fewer than others.

    Args:
        lines: the file's.
        chosen: indices of lines.
        letters: of the word that the lines begin with.
        sizes: how many numbers a line may have.
        what: what a line is, for errors.
        wanted: how many numbers are expected, for errors.
    """
    values, counts = [], []
    done = 0
    for piece, begins in lines.of(chosen):
        for k in range(letters):
            piece[begins + k] = 32
        if (piece == 35).any():
            _blank_comments(piece)
        blank = piece <= 32
        begun = ~blank
        begun[1:] &= blank[:-1]
        here = np.add.reduceat(begun, begins, dtype=np.int64)
        parsed = parse_numbers(piece.tobytes())
        if parsed is None or len(parsed) != here.sum():
            raise _bad_number(lines, chosen[done : done + len(begins)], what)
        values.append(parsed)
        counts.append(here)
        done += len(begins)
    if not values:
        return np.zeros((0, sizes[0]))
    numbers, count = np.concatenate(values), np.concatenate(counts)
    columns = int(count.max())
    wrong = np.flatnonzero(~np.isin(count, sizes))
    if len(wrong):
        raise MeshError(
            f"{lines.path}: line {chosen[wrong[0]] + 1}: {what} has {count[wrong[0]]} numbers; expected {wanted}"
        )
    if (count == columns).all():
        return numbers.reshape(-1, columns)
    rows = np.full((len(count), columns), np.nan)
    rows[np.arange(columns) < count[:, None]] = numbers
    return rows


def _blank_comments(piece: np.ndarray) -> None:
    """Overwrite comments behind numbers with spaces."""
    for found in re.finditer(rb"(?<!1\.)#[^\n]*", piece.tobytes()):
        piece[found.start() : found.end()] = 32


def _bad_number(lines: _Lines, chosen: np.ndarray, what: str) -> MeshError:
    for line in chosen:
        words = lines.data[lines.starts[line] : lines.ends[line]].tobytes().split(b"#")[0].split()[1:]
        wrong = next((word for word in words if not is_number(word)), None)
        if wrong is not None:
            return MeshError(
                f"{lines.path}: line {line + 1}: {what} has {shown(wrong[:20])!r} in place of a number; "
                "correct it there"
            )
    return MeshError(f"{lines.path}: {what} has numbers that cannot be read; export it again")


def _polygons(lines: _Lines, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of each polygon [P], and indices of vertices and texture coordinates [C,2] as they stand; 0 for none."""
    counts, corners = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)]
    done = 0
    for piece, begins in lines.of(chosen):
        piece[begins] = 32
        if (piece == 35).any():
            _blank_comments(piece)
        here = _even_corners(piece, begins) or _corners(piece, begins)
        if here is None:
            number, words = _bad_polygon(lines, chosen[done : done + len(begins)])
            raise MeshError(
                f"{lines.path}: line {number}: a face has the corner {words!r}; expected 1, 1/2, 1//3 or 1/2/3"
            )
        counts.append(here[0])
        corners.append(here[1])
        done += len(begins)
    return np.concatenate(counts), np.concatenate(corners)


def _even_corners(piece: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The same of one piece whose corners all have the same form, in half the time; None if they do not."""
    word = piece > 32
    word[1:] &= piece[:-1] <= 32
    corner = np.flatnonzero(word)
    slash = piece == 47
    slashes = np.flatnonzero(slash)
    each = len(slashes) // max(len(corner), 1)
    if not len(corner) or each > 2 or each * len(corner) != len(slashes):
        return None
    if each:
        if (piece[slashes - 1] <= 32).any() or (piece[slashes + 1] <= 32).any():
            return None
        place = np.searchsorted(slashes, corner)  # the slashes of corner k begin at each * k
        if (place != np.arange(len(corner)) * each).any():
            return None
    double = np.count_nonzero(slash[1:] & slash[:-1])
    if double not in (0, len(corner)) or (double and each != 2):
        return None
    numbers = 2 if double else each + 1
    separate = piece.copy()
    separate[slashes] = 32
    values = parse_numbers(separate.tobytes(), np.int64)
    if values is None or len(values) != numbers * len(corner):
        return None
    values = values.reshape(-1, numbers)
    if (values[:, 0] == 0).any():
        return None
    corners = np.zeros((len(corner), 2), np.int64)
    corners[:, 0] = values[:, 0]
    if each and not double:
        corners[:, 1] = values[:, 1]
    return np.diff(np.searchsorted(corner, np.append(begins, len(piece)))), corners


def _corners(piece: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The same of one piece, whose corners may have any form; None if something is no corner."""
    kind = np.concatenate([[4], _KIND[piece], [4]]).astype(np.uint8)  # one space on each side
    number = (kind == 1) | (kind == 2)
    start = np.flatnonzero(number[1:] & ~number[:-1]) + 1
    end = np.flatnonzero(number[:-1] & ~number[1:]) + 1
    signed = kind[start] == 2
    digits = end - start - signed
    slashes = np.flatnonzero(kind == 3)
    if (
        (kind == 0).any()
        or (len(start) and (digits.min() < 1 or digits.max() > DIGITS))
        or np.count_nonzero(kind == 2) != np.count_nonzero(signed)
        or (kind[slashes - 1] == 4).any()  # a slash behind nothing
    ):
        return None
    value = np.zeros(len(start), np.int64)
    which = np.arange(len(start))
    for k in range(int(digits.max(initial=0))):
        if k:
            which = which[digits[which] > k]
        value[which] += (piece[end[which] - 2 - k].astype(np.int64) - 48) * 10**k  # piece lacks the space before
    minus = signed & (piece[start - 1] == 45)
    value[minus] *= -1
    behind_slash = kind[start - 1] == 3
    two = behind_slash & (kind[start - 2] == 3)
    slot = np.where(two, 2, behind_slash).astype(np.int8)  # of a number in its corner: vertex, texture, normal
    again = np.flatnonzero(slot == 1)
    slot[again] += slot[again - 1] > 0  # behind the second number stands the third
    third = np.flatnonzero(slot == 2)
    if (behind_slash[third] & ~two[third] & (slot[third - 1] != 1)).any() or (
        two[third] & (slot[third - 1] != 0)
    ).any():
        return None  # more than three numbers
    is_corner = slot == 0
    corner = np.cumsum(is_corner) - 1
    corners = np.zeros((int(is_corner.sum()), 2), np.int64)
    corners[:, 0] = value[is_corner]
    texture = slot == 1
    corners[corner[texture], 1] = value[texture]
    if (value[~texture & is_corner] == 0).any():
        return None
    at = np.searchsorted(start[is_corner] - 1, np.append(begins, len(piece)))
    return np.diff(at), corners


def _bad_polygon(lines: _Lines, chosen: np.ndarray) -> tuple[int, str]:
    good = re.compile(rb"[-+]?0*[1-9][0-9]{0,17}(/[-+]?[0-9]{0,18}){0,2}")
    for line in chosen:
        for word in lines.data[lines.starts[line] : lines.ends[line]].tobytes().split(b"#")[0].split()[1:]:
            if not good.fullmatch(word):
                return int(line) + 1, shown(word[:20])
    return int(chosen[0]) + 1, "?"


def _resolve(
    lines: _Lines,
    index: np.ndarray,
    before: np.ndarray,
    counts: np.ndarray,
    line_of_corner: np.ndarray,
    known: int,
    what: str,
) -> None:
    """Make indices count from 0, in place; -1 for none. Relative ones count back from the line that they stand in.

    Raises:
        MeshError: one names what does not exist.
    """
    relative = index < 0
    if relative.any():
        index[relative] += np.repeat(before, counts)[relative] + 1
        wrong = np.flatnonzero(relative & (index < 1))
        if len(wrong):
            raise MeshError(
                f"{lines.path}: line {line_of_corner[wrong[0]] + 1}: a face counts back to a {what} "
                "before the first one; export it again"
            )
    index -= 1
    if len(index) and index.max() >= known:
        line = line_of_corner[np.flatnonzero(index >= known)[0]] + 1
        raise MeshError(
            f"{lines.path}: line {line}: a face names {what} {index.max() + 1}, and there are {known}; export it again"
        )


def _colors(rows: np.ndarray) -> np.ndarray | None:
    """Linear colors [V,3] of vertices' lines; None if no line has any. Lines without are white."""
    if rows.shape[1] < 6:
        return None
    colors = linear_colors(rows[:, 3:6])
    colors[np.isnan(rows[:, 3:6]).any(1)] = 1
    return colors


def _looks(lines: _Lines, f_lines: np.ndarray, say: Say) -> tuple[list[Material], np.ndarray]:
    """The materials that polygons use, and for each line of a polygon an index into them, -1 for none."""
    none = np.full(len(f_lines), -1)

    def words(word: bytes) -> tuple[np.ndarray, list[bytes]]:
        found, texts = [], []
        for line in np.flatnonzero(lines.first == word[0]):
            text = lines.data[lines.starts[line] : lines.ends[line]].tobytes().split(None, 1)
            if text[0] == word:
                found.append(line)
                texts.append(text[1].strip() if len(text) > 1 else b"")
        return np.array(found, np.int64), texts

    libraries = list(dict.fromkeys(words(b"mtllib")[1]))
    if not libraries:
        return [], none
    materials: dict[str, Material] = {}
    for names in libraries:
        # One name, which may have spaces, or several.
        for name in [names] if find_file(lines.path.parent, names) else names.split():
            file = find_file(lines.path.parent, name)
            if file is None:
                say(f"{lines.path}: its materials {shown(name)} were not found beside it; drawn without")
                continue
            materials |= {key: value for key, value in read_mtl(file).items() if key not in materials}
    used_lines, names_used = words(b"usemtl")
    if not len(used_lines):
        only = list(materials.values())
        return (only, none + 1) if len(only) == 1 else ([], none)
    keys = [decoded(name) for name in names_used]
    if materials:  # otherwise it is said that the file is missing
        for name, key in dict(zip(names_used, keys)).items():
            if key not in materials and key.lower() not in NO_MATERIAL:
                say(f"{lines.path}: its material {shown(name)} is in none of its files of materials; drawn without")
    found = {key: materials[key] for key in dict.fromkeys(keys) if key in materials}
    index = {key: k for k, key in enumerate(found)}
    order = np.array([-1, *(index.get(key, -1) for key in keys)])
    look_of_line = order[np.searchsorted(used_lines, f_lines)]
    used = [
        material.loaded(say, lines.path) if (look_of_line == k).any() else material
        for k, material in enumerate(found.values())
    ]
    return used, look_of_line


def _move(
    uv_faces: np.ndarray | None, uv: np.ndarray, found: list[Material], look_of_face: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:
    """Apply the scale and offset of materials' textures to copies of the texture coordinates of their triangles."""
    for k, material in enumerate(found):
        if uv_faces is None or (material.scale == (1, 1) and material.offset == (0, 0)):
            continue
        here = (look_of_face == k) & (uv_faces[:, 0] >= 0)
        moved = uv * material.scale + material.offset
        uv_faces[here] += len(uv)
        uv = np.concatenate([uv, moved]) if here.any() else uv
    return uv_faces, uv
