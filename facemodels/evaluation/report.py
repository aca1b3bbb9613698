"""The result of a protocol, and how it is shown: a published table with the method's row, and an error curve."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facemodels.evaluation.metrics import cumulative_curve
from facerender._checks import brief_repr

# Flat results of JSON types, with units in their names.
Results: TypeAlias = dict[str, Any]

RECALLED = "recalled"  # the source of a number that was recalled from the literature and not found again
UNITS = {"mm": "mm", "percent": "%", "degrees": "degrees"}
_RECALLED_MARK = "*"  # behind each recalled number
_OWN_MARK = ">"  # before the method's own row


class PublishedRow(NamedTuple):
    """A row of a published table.

    Attributes:
        method: The method's name.
        values: Its numbers, one for each column of the report; None where one is not known.
        source: Where they were found, or `RECALLED`.
    """

    method: str
    values: Sequence[float | None]
    source: str


@brief_repr
@dataclass
class Report:
    """The result of a protocol for one method.

    Attributes:
        protocol: The protocol's name.
        title: A sentence that says exactly what was measured.
        results: Flat results of JSON types, with units in their names.
        errors: [N], one for each picture or vertex; one that is not finite counts as larger than any threshold.
        unit: Their unit: "mm", "percent" or "degrees".
        largest: The right end of the error curve, in that unit.
        columns: Names of the table's columns.
        row: The method's numbers under them; None where there is none.
        ranked_by: The column by which the field ranks methods; the table is sorted by it, least first.
        published: The rows of published methods.
        measured: Rows that the protocol has measured for comparison, such as the mean face; they get the method's mark.
        notes: Details of the protocol: what was excluded or left out and why, what may not be compared.
        details: The results as a text for people; None prints one line for each.
        method: The name of the method in its row; `facemodels.evaluation.evaluate` and the command set it.
    """

    protocol: str
    title: str
    results: Results
    errors: np.ndarray
    unit: str
    largest: float
    columns: Sequence[str]
    row: Sequence[float | None]
    ranked_by: str
    published: Sequence[PublishedRow] = ()
    measured: Sequence[PublishedRow] = ()
    notes: Sequence[str] = field(default_factory=list)
    details: str | None = None
    method: str = "this method"

    def table(self) -> str:
        """The published table with the method's row in its place, as text."""
        return format_table(self, self.method)

    def __str__(self) -> str:
        """What was measured, the results, the table and the notes: the text that the command prints."""
        details = format_results(self.results) if self.details is None else self.details
        return f"{self.title}\n\n{details}\n\n{self.table()}\n{format_notes(self.notes)}"

    def __post_init__(self) -> None:
        self.errors = np.asarray(self.errors, np.float64).ravel()
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}, got {self.unit!r}")
        if not (math.isfinite(self.largest) and self.largest > 0):
            raise ValueError(f"largest must be positive, got {self.largest}")
        if self.ranked_by not in self.columns:
            raise ValueError(f"ranked_by must be one of the columns {', '.join(self.columns)}, got {self.ranked_by!r}")
        for name, values, source in [
            *self.published,
            *self.measured,
            PublishedRow("the method's row", self.row, "measured"),
        ]:
            if len(values) != len(self.columns):
                raise ValueError(f"{name}: expected {len(self.columns)} numbers, got {len(values)}")
            if not source:
                raise ValueError(f"{name}: expected the source of its numbers, or {RECALLED!r}, got none")


def format_table(report: Report, name: str) -> str:
    """Format the published rows with the method's row in its place.

    Rows are ordered by the column that the field ranks by, least first; those without a number there come last.

    Args:
        report: The report.
        name: The name of the method in its row.
    """
    rows = [(row.method, row.values, _RECALLED_MARK if row.source == RECALLED else "") for row in report.published]
    rows += [(name, report.row, _OWN_MARK), *((row.method, row.values, _OWN_MARK) for row in report.measured)]
    rank = list(report.columns).index(report.ranked_by)

    def place(row: tuple[str, Sequence[float | None], str]) -> tuple[bool, float, bool]:
        value = row[1][rank]
        return _is_missing(value), 0.0 if value is None or _is_missing(value) else value, row[2] != _OWN_MARK

    rows.sort(key=place)
    width = max(len(r[0]) for r in rows) + 4
    widths = [max(10, len(c) + 3) for c in report.columns]
    lines = [" " * width + "".join(f"{c:>{w}} " for c, w in zip(report.columns, widths))]
    for method, values, mark in rows:
        own = mark == _OWN_MARK
        cells = ["-" if _is_missing(v) else f"{v:.2f}" for v in values]
        marks = [" " if _is_missing(v) or own else (mark or " ") for v in values]
        lines.append(
            f"{_OWN_MARK if own else ' '} {method:{width - 2}}"
            + "".join(f"{c:>{w}}{m}" for c, w, m in zip(cells, widths, marks))
        )
    legend = [f"sorted by {report.ranked_by}; {_OWN_MARK} measured now"]
    if any(row.source != RECALLED for row in report.published):
        legend.append("without a mark: published, found in public material")
    if any(row.source == RECALLED for row in report.published):
        legend.append(f"{_RECALLED_MARK} recalled from the literature, not verified")
    return "\n".join([*(line.rstrip() for line in lines), "", *(f"  {line}" for line in legend)])


def format_results(results: Results) -> str:
    """Format results, a line for each."""
    width = max(map(len, results))
    shown = {
        key: "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
        for key, value in results.items()
    }
    return "\n".join(f"{key:{width}}  {value}" for key, value in shown.items())


def format_notes(notes: Sequence[str], width: int = 100) -> str:
    """Format notes as a list of wrapped lines, after an empty one; "" if there are none."""
    lines = [textwrap.fill(note, width, initial_indent="  - ", subsequent_indent="    ") for note in notes]
    return "\n".join(["", *lines]) if lines else ""


def _is_missing(value: float | None) -> bool:
    return value is None or not math.isfinite(value)


# The error curve.

WIDTH, HEIGHT = 1280, 900
_LEFT, _RIGHT, _BOTTOM = 130, 50, 110  # margins of the axes
_Color: TypeAlias = tuple[int, int, int]
_INK: _Color = (25, 30, 38)
_GRAY: _Color = (95, 103, 115)
_GRID: _Color = (226, 229, 234)
_LINE: _Color = (24, 98, 190)
_OVERSAMPLING = 2  # drawn at this many times the size, so that the line is smooth


class _Canvas:
    """A white picture that is drawn on in pixels of the final size."""

    def __init__(self, width: float, height: float) -> None:
        size = (int(width * _OVERSAMPLING), int(height * _OVERSAMPLING))
        self.image = Image.new("RGB", size, (255, 255, 255))
        self._draw = ImageDraw.Draw(self.image)

    def line(self, points: Sequence[tuple[float, float]], color: _Color, width: int, joint: str | None = None) -> None:
        scaled = [_scaled(x, y) for x, y in points]
        self._draw.line(scaled, fill=color, width=width * _OVERSAMPLING, joint=joint)

    def text(self, x: float, y: float, words: str, size: int, color: _Color = _INK, anchor: str = "mm") -> None:
        font = ImageFont.load_default(size * _OVERSAMPLING)
        self._draw.text(_scaled(x, y), words, font=font, fill=color, anchor=anchor)

    def frame(self, left: float, top: float, right: float, bottom: float) -> None:
        self._draw.rectangle([_scaled(left, top), _scaled(right, bottom)], outline=_GRAY, width=_OVERSAMPLING)

    def card(self, left: float, top: float, right: float, bottom: float) -> None:
        self._draw.rounded_rectangle(
            [_scaled(left, top), _scaled(right, bottom)],
            radius=8 * _OVERSAMPLING,
            fill=(255, 255, 255),
            outline=_GRID,
            width=_OVERSAMPLING,
        )


def _scaled(x: float, y: float) -> tuple[float, float]:
    return x * _OVERSAMPLING, y * _OVERSAMPLING


def draw_curve(report: Report, name: str) -> np.ndarray:
    """Draw the cumulative error curve: the share of errors that are at most as large as each threshold.

    Args:
        report: The report.
        name: The name of the method in the legend.

    Returns:
        uint8 [HEIGHT,WIDTH,3], sRGB.
    """
    canvas = _Canvas(WIDTH, HEIGHT)
    title = textwrap.wrap(report.title, 104)
    top = 90 + 30 * len(title)
    across, up = WIDTH - _LEFT - _RIGHT, HEIGHT - top - _BOTTOM

    def place(error: float, share: float) -> tuple[float, float]:
        return _LEFT + across * error / report.largest, top + up * (1 - share / 100)

    step = _tick_distance(report.largest)
    for k in range(math.floor(report.largest / step + 1e-9) + 1):
        x, _ = place(k * step, 0)
        canvas.line([(x, top), (x, top + up)], _GRID, 1)
        canvas.line([(x, top + up), (x, top + up + 8)], _GRAY, 1)
        canvas.text(x, top + up + 26, f"{k * step:.10g}", 22)
    for percent in range(0, 101, 20):
        _, y = place(0, percent)
        canvas.line([(_LEFT, y), (_LEFT + across, y)], _GRID, 1)
        canvas.line([(_LEFT - 8, y), (_LEFT, y)], _GRAY, 1)
        canvas.text(_LEFT - 16, y, str(percent), 22, anchor="rm")
    thresholds, shares = cumulative_curve(report.errors, report.largest, 1001)
    canvas.line([place(t, s) for t, s in zip(thresholds, shares)], _LINE, 4, joint="curve")
    canvas.frame(_LEFT, top, _LEFT + across, top + up)

    canvas.text(_LEFT + across / 2, HEIGHT - 38, f"error, {UNITS[report.unit]}", 26)
    label = _Canvas(up, 40)
    label.text(up / 2, 20, "share with at most this error, %", 26)
    canvas.image.paste(label.image.rotate(90, expand=True), (16 * _OVERSAMPLING, top * _OVERSAMPLING))
    canvas.text(_LEFT, 38, report.protocol, 34, anchor="lm")
    for k, line in enumerate(title):
        canvas.text(_LEFT, 84 + 30 * k, line, 22, _GRAY, anchor="lm")
    upper_left = bool(shares[600] < 45)  # else the curve is there, and the lower right is free
    corner = (_LEFT + 24, top + 24) if upper_left else (_LEFT + across - 24, top + up - 24)
    _draw_legend(canvas, report, name, corner, upper_left)
    return np.asarray(canvas.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def _draw_legend(canvas: _Canvas, report: Report, name: str, corner: tuple[float, float], is_upper_left: bool) -> None:
    """Draw the method's name beside a piece of its line, and the errors in numbers.

    Args:
        canvas: Where to draw.
        report: The report.
        name: The method's name.
        corner: The upper left or the lower right corner of the legend.
        is_upper_left: Which of the two it is.
    """
    unit = UNITS[report.unit]
    known = report.errors[np.isfinite(report.errors)]
    beyond = 100 * float((~(report.errors <= report.largest)).mean()) if len(report.errors) else 0.0
    lines = [f"{len(report.errors):,} errors"]
    if len(known):
        lines += [f"mean {known.mean():.2f} {unit}, median {np.median(known):.2f} {unit}"]
    lines += [f"{beyond:.1f} % beyond {report.largest:.10g} {unit}"]
    widths = [
        ImageFont.load_default(size).getlength(words) for size, words in ((26, name), *((21, line) for line in lines))
    ]
    width, height = max(widths[0] + 60, *widths[1:]) + 40, 52 + 32 * len(lines) + 14
    x, y = corner if is_upper_left else (corner[0] - width, corner[1] - height)
    canvas.card(x, y, x + width, y + height)
    canvas.line([(x + 20, y + 30), (x + 64, y + 30)], _LINE, 4)
    canvas.text(x + 80, y + 30, name, 26, anchor="lm")
    for k, line in enumerate(lines):
        canvas.text(x + 20, y + 66 + 32 * k, line, 21, _GRAY, anchor="lm")


def _tick_distance(largest: float) -> float:
    """The distance of ticks, 1, 2 or 5 times a power of ten: at most ten of them."""
    power = 10.0 ** math.floor(math.log10(largest / 10))
    return next(m * power for m in (1, 2, 5, 10) if largest / (m * power) <= 10 + 1e-9)


def write_curve(path: Path, report: Report, name: str) -> None:
    """Write the error curve as a picture, .png or .jpg."""
    iio.imwrite(path, draw_curve(report, name))
