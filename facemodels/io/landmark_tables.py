"""Landmarks from text: lines of points, and tables with a header, one point or one face a line.

Read for `facemodels.io.landmarks`, which says what the files may look like.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facemodels.core.errors import InputError
from facemodels.core.landmarks import NAMES
from facemodels.io.landmark_names import SIZES, by_name, of_picture

_POINT = re.compile(r"(?P<set>.*?)[ _.]?(?:(?P<axis>[xyz])[ _.]?(?P<number>\d+)|(?P<first>\d+)[ _.]?(?P<last>[xyz]))")
_PICTURE = ("image", "image_name", "file", "filename", "file_name", "path", "picture", "name")


class _Table(NamedTuple):
    """Rows of entries, as text, with the number of each one's line; the names of the columns, where there are any."""

    header: list[str] | None
    rows: list[list[str]]
    lines: list[int]


def read_table(path: Path, text: str, photo: str | None) -> list[np.ndarray]:
    """Read the points of each face.

    Args:
        path: The file, for messages.
        text: What it holds.
        photo: The picture's name, which chooses among the pictures of a table.

    Returns:
        [L,2] or [L,3] of each face, NaN for what is missing.

    Raises:
        InputError: A line is not numbers, or the columns are not understood.
    """
    table = _split(path, text)
    if table.header is not None:
        return _faces_of_columns(path, table, photo)
    names, values = _numbers(path, table)
    widths = {len(row) for row in values}
    if names and len(values) > 1:
        return [_named(path, names, values)]
    if len(values) == 1 and len(values[0]) > 3:
        return [_one_row(path, values[0])]
    if len(widths) > 1:
        odd = next(k for k, row in enumerate(values) if len(row) != len(values[0]))
        raise InputError(
            f"{path}: line {table.lines[odd]} has {len(values[odd])} numbers, the lines before have {len(values[0])}"
        )
    return [_without_numbers(path, np.array(values))]


def _split(path: Path, text: str) -> _Table:
    lines = text.splitlines()
    stripped = [line.strip() for line in lines]
    opening = next((k for k, line in enumerate(stripped) if line.endswith("{")), None)
    first = 0
    if opening is not None and "}" in stripped[opening:]:  # iBUG's header and braces
        lines, first = lines[: stripped.index("}", opening)], opening + 1
    elif path.suffix.lower() == ".pts":
        raise InputError(f"{path}: a .pts file has its points between lines with {{ and }}, none were found")
    # Where semicolons separate, a comma may be a decimal point.
    decimal = ";" in text and re.search(r"\d,\d", text) and not re.search(r"\d\.\d", text)
    rows, numbers = [], []
    for k, line in enumerate(lines[first:], first):
        line = line.split("#")[0]
        if decimal:
            entries = [entry.strip() for entry in line.replace(",", ".").split(";")]
        elif re.search(r"[,;\t]", line) and not re.search(r"[()\[\]]", line):
            entries = [entry.strip().strip('"') for entry in re.split(r"[,;\t]", line)]
            if not any(re.search("[A-Za-z]", entry) for entry in entries):
                entries = [part for entry in entries for part in entry.split() or [""]]  # "1, 12.3 45.6"
        else:
            entries = re.sub(r"[,;()\[\]]", " ", line).split()
        while entries and not entries[-1]:
            entries.pop()
        if entries:
            rows.append(entries)
            numbers.append(k + 1)
    if not rows:
        raise InputError(f"{path}: the file holds no points")
    if len(rows) > 1 and len(rows[0]) == 1 and rows[0][0] == str(len(rows) - 1):  # the number of points comes first
        rows, numbers = rows[1:], numbers[1:]
    if len(rows) > 1 and not any(_is_number(entry) for entry in rows[0]) and any(map(_is_number, rows[1])):
        return _Table(rows[0], rows[1:], numbers[1:])
    return _Table(None, rows, numbers)


def _is_number(entry: str) -> bool:
    try:
        float(entry)
    except ValueError:
        return False
    return True


def _numbers(path: Path, table: _Table) -> tuple[list[str], list[list[float]]]:
    """Names at the beginning of the lines, where all have one, and the numbers of the lines."""
    rows = table.rows
    named = all(len(row) > 2 and not _is_number(row[0].rstrip(":")) for row in rows)
    names = [row[0].rstrip(":") for row in rows] if named else []
    values: list[list[float]] = []
    for line, row in zip(table.lines, rows):
        entries = row[1:] if named else [row[0].rstrip(":"), *row[1:]]
        try:
            values.append([float(entry) if entry else np.nan for entry in entries])
        except ValueError:
            found = " ".join(row)[:60]
            raise InputError(f"{path}: line {line} must be numbers, x and y, found {found!r}") from None
    return names, values


def _named(path: Path, names: list[str], values: list[list[float]]) -> np.ndarray:
    digits = [re.sub(r"\D", "", name) for name in names]
    if all(digits) and len(names) in SIZES:  # "p1", "p2", ...
        order = [int(d) for d in digits]
        if order in (list(range(len(order))), list(range(1, len(order) + 1))):
            return np.array(values)
    return by_name(path, dict(zip(names, values)))


def _one_row(path: Path, row: list[float]) -> np.ndarray:
    """The points of a face that is one line: x and y by turns, or all x, then all y."""
    for axes in (2, 3):
        if len(row) % axes == 0 and len(row) // axes in SIZES:
            flat = np.array(row)
            by_turns, blocks = flat.reshape(-1, axes), flat.reshape(axes, -1).T
            # In the wrong order, each point lies far from the next.
            steps = [np.nansum(np.abs(np.diff(p[:, :2], axis=0))) for p in (by_turns, blocks)]
            return by_turns if steps[0] <= steps[1] else blocks
    raise InputError(
        f"{path}: a face in one line must be 136 (68 points), 42 (21) or 10 numbers (5), x and y of each point, found "
        f"{len(row)}"
    )


def _without_numbers(path: Path, values: np.ndarray) -> np.ndarray:
    """The rows in the order of a column that numbers them, without that column.

    Raises:
        InputError: The numbers do not say which points they are.
    """
    if values.shape[1] < 3 or len(values) < 4:
        return values
    for column in (0, -1):
        numbers, others = values[:, column], np.delete(values, column, 1)
        if np.isnan(numbers).any() or (numbers % 1).any() or numbers.min() < 0 or numbers.max() > len(values) + 68:
            continue
        first = numbers.min()
        if first in (0, 1) and np.array_equal(np.sort(numbers), np.arange(len(values)) + first):
            return others[numbers.argsort()]
        if (np.diff(numbers) > 0).all() and numbers.max() <= 68 and (numbers[0] == 0) != (numbers[-1] == 68):
            rows = np.full((68, others.shape[1]), np.nan)  # some of the 68
            rows[numbers.astype(int) - (numbers[-1] == 68)] = others
            return rows
        if len(values) > 5 and (np.diff(numbers) >= 0).all() and 2 * np.ptp(numbers) > len(values):
            raise InputError(
                f"{path}: expected x and y, or a number from 0 or 1 on and x and y, found lines numbered "
                f"{', '.join(f'{n:.0f}' for n in numbers[:5])} ..."
            )
    return values


# Tables with a header.


def _faces_of_columns(path: Path, table: _Table, photo: str | None) -> list[np.ndarray]:
    assert table.header is not None
    header = [name.strip() for name in table.header]
    lower = [name.lower() for name in header]
    columns = _point_columns(header) or _point_columns(lower)
    pictures = next((k for k, name in enumerate(lower) if name in _PICTURE), None)
    rows, lines = table.rows, table.lines
    if any(len(row) > len(header) for row in rows):
        raise InputError(f"{path}: a line has more entries than the header's {len(header)}")
    rows = [row + [""] * (len(header) - len(row)) for row in rows]
    if columns is None and {"x", "y"} <= set(lower):
        axes = [lower.index(axis) for axis in "xyz" if axis in lower]
        face = next((k for k, name in enumerate(lower) if name in ("face", "face_id", "frame", "person")), None)
        marks = [row[face] for row in rows] if face is not None else [""] * len(rows)
        number = next((k for k, n in enumerate(lower) if n in ("landmark", "name", "point", "label", "part")), None)
        faces = []
        for mark in dict.fromkeys(marks):
            own = [k for k in range(len(rows)) if marks[k] == mark]
            points = [[_number(path, lines[k], rows[k][axis]) for axis in axes] for k in own]
            names = [rows[k][number] for k in own] if number is not None else []
            known = bool(names) and (set(names) <= set(NAMES.get(len(names), ())))
            faces.append(by_name(path, dict(zip(names, points))) if known else np.array(points))
        return faces
    if columns is None:
        raise InputError(
            f"{path}: expected columns x and y with a line for each point, or x_0, y_0, x_1 ... with a line for each "
            f"face, found {', '.join(header[:6])}{' ...' if len(header) > 6 else ''}"
        )
    kept = list(range(len(rows)))
    if pictures is not None:
        kept = of_picture(path, [row[pictures] for row in rows], photo)
    if "success" in lower:  # OpenFace's: 0 where no face was found
        column = lower.index("success")
        kept = [k for k in kept if _number(path, lines[k], rows[k][column]) > 0]
        if not kept:
            raise InputError(f"{path}: OpenFace found no face (success is 0 in every line)")
    if "frame" in lower and len({rows[k][lower.index("frame")] for k in kept}) > 1:
        raise InputError(
            f"{path}: the {len(kept)} lines are frames of a video; keep the header and the lines of this picture"
        )
    return [np.array([[_number(path, lines[k], rows[k][c]) for c in point] for point in columns]) for k in kept]


def _point_columns(header: list[str]) -> list[list[int]] | None:
    """The columns of x, y and perhaps z of each point: x_0, y_0 ... with or without a name before them; None: none."""
    sets: dict[str, dict[int, dict[str, int]]] = {}
    for k, name in enumerate(header):
        if match := _POINT.fullmatch(name):
            number = int(match["number"] or match["first"] or 0)
            sets.setdefault(match["set"], {}).setdefault(number, {})[match["axis"] or match["last"]] = k
    for _, points in sorted(sets.items(), key=lambda entry: len(entry[0])):
        numbers = sorted(points)
        axes = set.intersection(*(set(p) for p in points.values()))
        if len(numbers) in SIZES and numbers[-1] - numbers[0] == len(numbers) - 1 and {"x", "y"} <= axes:
            return [[points[n][axis] for axis in "xyz" if axis in axes] for n in numbers]
    return None


def _number(path: Path, line: int, entry: str) -> float:
    try:
        return float(entry) if entry else np.nan
    except ValueError:
        raise InputError(f"{path}: line {line} must be numbers, found {entry[:60]!r}") from None
