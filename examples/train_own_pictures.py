"""Train 2DASL on a folder of photographs, and reconstruct one of them with what came out.

python examples/train_own_pictures.py -o runs/own                       on pictures that are rendered for it
python examples/train_own_pictures.py PHOTOS -o runs/own --preset cpu   on your own

A picture needs its 68 landmarks in a file beside it: photo.jpg and photo.txt (or .pts, .json ...). Where there is none,
those that the shipped weights predict are written there.
"""

import argparse
from pathlib import Path

import imageio.v3 as iio
import numpy as np

import facemodels
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from facemodels.io.images import picture_files
from facemodels.io.landmarks import read_landmarks, sidecar
from facemodels.methods.dasl import DASL, PRESETS, DASLConfig
from facemodels.training.checkpoint import checkpoints
from facemodels.training.config import configured
from facemodels.training.loop import train


def render_pictures(folder: Path, count: int) -> None:
    """Render faces of the built-in model, and write their landmarks beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    source = Synthetic(facemodels.load_model("builtin"), 256, RandomizationConfig(yaw=60, box=(2.0, 2.5)))
    faces = source(1, 0, range(count))
    for k, (image, points) in enumerate(zip(faces.image, faces.landmarks)):
        iio.imwrite(folder / f"{k:03d}.png", (image.permute(1, 2, 0) * 255).round().byte().numpy())
        np.savetxt(folder / f"{k:03d}.txt", points, fmt="%.2f")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, nargs="?", help="a folder of photographs (default: rendered ones)")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/own"), help="folder of the run")
    parser.add_argument("--preset", default="smoke", choices=list(PRESETS), help="(default: smoke, a few seconds)")
    options = parser.parse_args()

    pictures = options.pictures
    if pictures is None:
        pictures = options.output / "pictures"
        render_pictures(pictures, 24)
    labels = facemodels.label_pictures(pictures)
    for reason in labels.without.values():
        print(reason)

    settings = (f"output={options.output}", f"wild={pictures}", "device=cpu")
    train(DASL, configured(DASLConfig, PRESETS[options.preset], settings=settings), resume="auto")

    last = checkpoints(options.output / "checkpoints")[-1]
    method = facemodels.load_method(last)
    photo = next(picture for picture in picture_files(pictures) if sidecar(picture))
    faces = facemodels.reconstruct(photo, method, landmarks=read_landmarks(sidecar(photo)).points)
    iio.imwrite(options.output / "overlay.png", facemodels.overlay(faces[0].picture, faces))
    print(f"{last}\n{options.output / 'overlay.png'}: {photo.name}, {faces[0].vertices.shape[0]} vertices")


if __name__ == "__main__":
    main()
