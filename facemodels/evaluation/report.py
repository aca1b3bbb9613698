"""What a protocol gives back, and how it is shown: the published table with our row in it, and the cumulative error curve."""

import math
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facemodels.evaluation.metrics import cumulative_curve

FOUND, RECALLED = "found", "recalled"
UNITS = {"mm": "mm", "percent": "%", "degrees": "degrees"}
MARK = "*"  # behind each recalled number
OURS = ">"  # before our row


@dataclass
class Report:
    """The outcome of a protocol for one method.

    protocol: its name. title: a sentence that says exactly what was measured. results: flat, of JSON types, units in the names. errors [N]: one of each image, or of each
    vertex; what is not finite counts as beyond any threshold. unit: theirs, "mm", "percent" or "degrees". largest: the right end of the curve. columns: names of the
    table's numbers; row: ours, None where there is none. published: method, numbers under the columns, and where they are from: "found" in public material, or
    "recalled", which is never printed without a mark. notes: details of the protocol, exclusions, what was left out and why.
    """

    protocol: str
    title: str
    results: dict
    errors: np.ndarray
    unit: str
    largest: float
    columns: list[str]
    row: list[float | None]
    published: list[tuple[str, list[float | None], str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.errors = np.asarray(self.errors, np.float64).ravel()
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}, got {self.unit!r}")
        if not (math.isfinite(self.largest) and self.largest > 0):
            raise ValueError(f"largest must be positive, got {self.largest}")
        for name, numbers, source in [*self.published, ("our row", self.row, FOUND)]:
            if len(numbers) != len(self.columns) or source not in (FOUND, RECALLED):
                raise ValueError(
                    f"{name}: expected {len(self.columns)} numbers, {FOUND} or {RECALLED}, got {len(numbers)}, {source}"
                )


def table(report: Report, name: str) -> str:
    """The published rows with ours, called `name`, in its place: the least in the last column first, those without a number there last."""
    rows = [(method, numbers, MARK if source == RECALLED else "") for method, numbers, source in report.published]
    rows.append((name, report.row, None))
    rows.sort(key=lambda r: (_missing(r[1][-1]), r[1][-1] if not _missing(r[1][-1]) else 0.0, r[2] is not None))
    width = max(len(r[0]) for r in rows) + 4
    wide = [max(10, len(c) + 3) for c in report.columns]
    lines = [" " * width + "".join(f"{c:>{w}} " for c, w in zip(report.columns, wide))]
    for method, numbers, mark in rows:
        cells = ["-" if _missing(v) else f"{v:.2f}" for v in numbers]
        marks = [" " if _missing(v) else (mark or " ") for v in numbers]
        lines.append(
            f"{OURS if mark is None else ' '} {method:{width - 2}}"
            + "".join(f"{c:>{w}}{m}" for c, w, m in zip(cells, wide, marks))
        )
    legend = [f"{OURS} measured now"]
    if any(source == FOUND for *_, source in report.published):
        legend.append("without a mark: published, found in public material")
    if any(source == RECALLED for *_, source in report.published):
        legend.append(f"{MARK} recalled from the literature, not verified")
    return "\n".join([*(line.rstrip() for line in lines), "", *(f"  {line}" for line in legend)])


def _missing(value):
    return value is None or not math.isfinite(value)


# ----------------------------------------------------------------------------------------------------------------------------- the curve

WIDTH, HEIGHT = 1280, 900
_LEFT, _RIGHT, _BOTTOM = 130, 50, 110  # margins of the axes
_INK, _GREY, _GRID, _LINE = (25, 30, 38), (95, 103, 115), (226, 229, 234), (24, 98, 190)
_FINE = 2  # drawn at this many times the size, so that the line is smooth


def curve(report: Report, name: str) -> np.ndarray:
    """The cumulative error curve: which share of the errors is at most so large. uint8 [HEIGHT,WIDTH,3]."""
    large = Image.new("RGB", (WIDTH * _FINE, HEIGHT * _FINE), (255, 255, 255))
    draw = ImageDraw.Draw(large)
    px = lambda *values: tuple(v * _FINE for v in values)  # noqa: E731

    def text(x, y, words, size, fill=_INK, anchor="mm", onto=draw):
        onto.text(px(x, y), words, font=ImageFont.load_default(size * _FINE), fill=fill, anchor=anchor)

    title = textwrap.wrap(report.title, 104)
    top = 90 + 30 * len(title)
    across, up = WIDTH - _LEFT - _RIGHT, HEIGHT - top - _BOTTOM
    at = lambda error, share: (_LEFT + across * error / report.largest, top + up * (1 - share / 100))  # noqa: E731
    step = _step(report.largest)
    for k in range(math.floor(report.largest / step + 1e-9) + 1):
        x, _ = at(k * step, 0)
        draw.line(px(x, top, x, top + up), fill=_GRID, width=_FINE)
        draw.line(px(x, top + up, x, top + up + 8), fill=_GREY, width=_FINE)
        text(x, top + up + 26, f"{k * step:.10g}", 22)
    for share in range(0, 101, 20):
        _, y = at(0, share)
        draw.line(px(_LEFT, y, _LEFT + across, y), fill=_GRID, width=_FINE)
        draw.line(px(_LEFT - 8, y, _LEFT, y), fill=_GREY, width=_FINE)
        text(_LEFT - 16, y, str(share), 22, anchor="rm")
    thresholds, shares = cumulative_curve(report.errors, report.largest, 1001)
    draw.line([px(*at(t, s)) for t, s in zip(thresholds, shares)], fill=_LINE, width=4 * _FINE, joint="curve")
    draw.rectangle(px(_LEFT, top, _LEFT + across, top + up), outline=_GREY, width=_FINE)

    unit = UNITS[report.unit]
    text(_LEFT + across / 2, HEIGHT - 38, f"error, {unit}", 26)
    label = Image.new("RGB", (up * _FINE, 40 * _FINE), (255, 255, 255))
    text(up / 2, 20, "share with at most this error, %", 26, onto=ImageDraw.Draw(label))
    large.paste(label.rotate(90, expand=True), px(16, top))
    text(_LEFT, 38, report.protocol, 34, anchor="lm")
    for k, line in enumerate(title):
        text(_LEFT, 84 + 30 * k, line, 22, fill=_GREY, anchor="lm")
    low = shares[600] < 45  # then the lower right is the curve's, and the upper left is free
    _legend(
        report, name, draw, text, px, (_LEFT + 24, top + 24) if low else (_LEFT + across - 24, top + up - 24), low, unit
    )
    return np.asarray(large.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def _legend(report, name, draw, text, px, corner, first, unit):
    """The method's name beside a piece of its line, and what the curve is in numbers. corner: the upper left (`first`) or lower right one."""
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
    x, y = corner if first else (corner[0] - width, corner[1] - height)
    draw.rounded_rectangle(
        px(x, y, x + width, y + height), radius=8 * _FINE, fill=(255, 255, 255), outline=_GRID, width=_FINE
    )
    draw.line(px(x + 20, y + 30, x + 64, y + 30), fill=_LINE, width=4 * _FINE)
    text(x + 80, y + 30, name, 26, anchor="lm")
    for k, line in enumerate(lines):
        text(x + 20, y + 66 + 32 * k, line, 21, fill=_GREY, anchor="lm")


def _step(largest):
    """The distance of ticks, 1, 2 or 5 times a power of ten: at most ten of them."""
    power = 10.0 ** math.floor(math.log10(largest / 10))
    return next(m * power for m in (1, 2, 5, 10) if largest / (m * power) <= 10 + 1e-9)


def write_curve(path: Path, report: Report, name: str) -> None:
    """The curve as a picture, in the format of the path's ending, .png or .jpg."""
    iio.imwrite(path, curve(report, name))
