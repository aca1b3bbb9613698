"""A chart of the comparison with peers that benchmarks.ops has measured.

python -m benchmarks.plots RESULTS.json [-o PLOT.png]

Time against the side of the image, a panel for each mesh and pass.
"""

import argparse
import json
import math
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLORS = {
    "render_face": (200, 30, 40),
    "rasterize + interpolate": (235, 130, 60),
    "DRTK": (40, 90, 170),
    "Sim3DR": (60, 140, 70),
    "nvdiffrast": (110, 70, 160),
    "pytorch3d": (90, 90, 90),
}
PANEL, LEFT, RIGHT, TOP, BOTTOM = (460, 330), 74, 150, 52, 50  # pixels: a panel's axes, and the margins around them
FOOT = 52
INK, PALE = (40, 40, 40), (225, 225, 225)


def main(arguments=None) -> Path:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plots",
        description=__doc__.splitlines()[0],
        epilog="example: python -m benchmarks.plots benchmarks/results/ops_cpu.json",
    )
    parser.add_argument("results", type=Path, help="JSON of benchmarks.ops")
    parser.add_argument("-o", "--output", type=Path, help="a PNG (default: beside the JSON)")
    options = parser.parse_args(arguments)
    result = json.loads(options.results.read_text())
    path = options.output or options.results.with_suffix(".png")
    iio.imwrite(path, plot(result["peers"], result["environment"]))
    print(path)
    return path


def plot(rows: list[dict], environment: dict) -> np.ndarray:
    """Draw the chart, uint8 [H,W,3]. Both axes are logarithmic; lower is better."""
    kinds = [(t, p) for p in ("forward", "backward") for t in sorted({r["triangles"] for r in rows})]
    columns = len(kinds) // 2
    image = Image.new("RGB", (columns * (LEFT + PANEL[0] + RIGHT), 2 * (TOP + PANEL[1] + BOTTOM) + FOOT), "white")
    draw = ImageDraw.Draw(image)
    values = [ms for r in rows for ms in r["ms"].values()]
    low, high = math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1
    for k, (triangles, part) in enumerate(kinds):
        corner = k % columns * (LEFT + PANEL[0] + RIGHT) + LEFT, k // columns * (TOP + PANEL[1] + BOTTOM) + TOP
        panel(draw, corner, [r for r in rows if r["triangles"] == triangles and r["pass"] == part], low, high)
        batch = next(r["batch"] for r in rows if r["triangles"] == triangles)
        title = f"{part}, {triangles:,} triangles, " + ("one image" if batch == 1 else f"batch of {batch}")
        draw.text((corner[0], corner[1] - 34), title, fill=INK, font=ImageFont.load_default(18))
    e = environment
    where = f"{e['device']}, {e['date']}, commit {e['commit']}, torch {e['torch']}"
    where = f"Milliseconds against pixels a side\n{where}"
    draw.multiline_text((LEFT, image.height - FOOT), where, fill=INK, font=ImageFont.load_default(14), spacing=6)
    return np.asarray(image)


def panel(draw, corner, rows, low, high):
    (x0, y0), (width, height) = corner, PANEL
    sides = sorted({r["pixels"] for r in rows})
    first, last = math.log2(sides[0]) - 0.15, math.log2(sides[-1]) + 0.15

    def at(side, ms):
        x = x0 + (math.log2(side) - first) / (last - first) * width
        return x, y0 + (high - math.log10(ms)) / (high - low) * height

    for decade in range(math.floor(low), math.ceil(high) + 1):
        for digit in (1, 2, 5):
            ms = digit * 10.0**decade
            if low <= math.log10(ms) <= high:
                y = at(sides[0], ms)[1]
                draw.line([(x0, y), (x0 + width, y)], fill=PALE if digit > 1 else (190, 190, 190))
                if digit == 1 or high - low < 3.2:
                    draw.text((x0 - 8, y), f"{ms:g} ms", fill=INK, anchor="rm", font=ImageFont.load_default(13))
    for side in sides:
        x = at(side, 1.0)[0]
        draw.line([(x, y0), (x, y0 + height)], fill=PALE)
        draw.text((x, y0 + height + 8), str(side), fill=INK, anchor="ma", font=ImageFont.load_default(13))
    draw.rectangle([x0, y0, x0 + width, y0 + height], outline=INK)
    ends = []
    for name in dict.fromkeys(k for r in rows for k in r["ms"]):
        points = [at(r["pixels"], r["ms"][name]) for r in sorted(rows, key=lambda r: r["pixels"]) if name in r["ms"]]
        color = COLORS.get(name, INK)
        draw.line(points, fill=color, width=3)
        for x, y in points:
            draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=color)
        ends.append([points[-1][1], name, color])
    ends.sort()
    for above, below in zip(ends, ends[1:]):
        below[0] = max(below[0], above[0] + 16)  # labels would overlap
    for y, name, color in ends:
        draw.text((x0 + width + 10, y), name, fill=color, anchor="lm", font=ImageFont.load_default(13))


if __name__ == "__main__":
    main()
