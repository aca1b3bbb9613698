"""The picture of docs/faces.md that shows the signs of pitch, yaw and roll on the built-in head.

python -m benchmarks.angles docs/images/angles.png
"""

import argparse

import numpy as np
import torch
from PIL import Image, ImageDraw

import facemodels
from facemodels.core.drawing import BACKGROUND, portrait, tile, to_bytes
from facemodels.core.rotation import head_rotation

NAMES = ("pitch", "yaw", "roll")
MEANINGS = (("up", "down"), ("left", "right"), ("clockwise", "counterclockwise"))  # as seen in the picture
SIDE, GAP, CAPTION, DEGREES = 160, 8, 34, 25


def picture() -> Image.Image:
    """Three pairs of heads, each with one angle that is not zero, and their captions."""
    model = facemodels.load_model("builtin")
    angles = torch.zeros(6, 3)
    for k in range(6):
        angles[k, k // 2] = DEGREES if k % 2 == 0 else -DEGREES
    heads = portrait(model.mean @ head_rotation(angles).mT, model.topology, model.albedo(), SIDE, height=330.0)
    rows = np.array(to_bytes(tile(heads, 6, GAP)))
    sheet = Image.new(
        "RGB", (rows.shape[1], rows.shape[0] + CAPTION), tuple(to_bytes(torch.tensor(BACKGROUND)).tolist())
    )
    sheet.paste(Image.fromarray(rows), (0, CAPTION))
    draw = ImageDraw.Draw(sheet)
    for k in range(6):
        text = f"{NAMES[k // 2]} {'+' if k % 2 == 0 else '-'}{DEGREES}\n{MEANINGS[k // 2][k % 2]}"
        x = k * (SIDE + GAP) + SIDE // 2
        draw.multiline_text((x, 4), text, (40, 40, 45), anchor="ma", align="center", font_size=13)
    return sheet


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output")
    picture().save(parser.parse_args().output, optimize=True)


if __name__ == "__main__":
    main()
