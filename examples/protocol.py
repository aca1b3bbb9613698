"""An evaluation protocol: NME of 68 landmarks in a folder of pictures with landmark files beside them.

A protocol is a module with three functions, registered in `facemodels.evaluation.PROTOCOLS`. It may live anywhere: this
one registers itself, below, and then is a command with everything that `facemodels evaluate` has.

python examples/protocol.py --example my_data
python examples/protocol.py --data my_data --method pgn
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch

from facemodels.cli.main import main
from facemodels.core.crops import cut, from_crop, landmark_box
from facemodels.core.errors import InputError
from facemodels.evaluation import PROTOCOLS, ProtocolEntry
from facemodels.evaluation.examples import ORDER_68, people
from facemodels.evaluation.metrics import nme
from facemodels.evaluation.predictor import add_limit, limited, predictor
from facemodels.evaluation.report import Report
from facemodels.io.images import picture_files, read_picture
from facemodels.io.landmarks import read_landmarks, sidecar
from facemodels.methods.face_method import FaceMethod


def configure(parser: ArgumentParser) -> None:
    """Add the protocol's own arguments; `facemodels evaluate` has --method, --data, --json and more already."""
    parser.epilog = f"""example:
  facemodels evaluate my-protocol --data DATA --limit 100

The data:
  DATA/
    NAME.jpg    a picture
    NAME.txt    its landmarks [68,2], pixels, y down

{ORDER_68}"""
    add_limit(parser, "pictures")


def run(method: FaceMethod, data: Path, options: Namespace) -> Report:
    """Score a method on the pictures of a folder."""
    reconstruct = predictor(method, "reconstruct")  # on the method's device, without gradients
    labels, predictions = [], []
    for name in limited([str(file) for file in picture_files(data)], options.limit):
        beside = sidecar(name)
        if beside is None:
            raise InputError(f"{name}: expected a landmark file beside it, found none")
        points = read_landmarks(beside).points  # [68,2] pixels, y down
        box = landmark_box(points)  # the square that the methods are trained on
        crop = cut(read_picture(name), box, method.size)  # uint8 [S,S,3]
        faces = reconstruct(torch.tensor(crop).permute(2, 0, 1)[None].float() / 255)  # FaceParameters
        predictions.append(from_crop(faces.landmarks[0, :, :2].cpu().numpy(), box, method.size))
        labels.append(points)
    if not labels:
        raise InputError(f"{data}: expected pictures with landmark files, found no picture")
    errors = nme(np.stack(predictions), np.stack(labels))  # [N], percent of sqrt(w h) of the labels' box
    mean = float(errors.mean())
    return Report(
        protocol="my-protocol",
        title=f"Mean distance of 68 landmarks in {len(errors)} pictures, percent of sqrt(width * height) of their box",
        results={"nme_percent": mean, "pictures": len(errors)},
        errors=errors,
        unit="percent",
        largest=10.0,
        columns=["NME"],
        row=[mean],
        ranked_by="NME",
    )


def write_example(folder: Path) -> None:
    """Write a tiny data set for --example."""
    for k, picture in enumerate(people(1, yaws=(0, 30))[0].pictures):
        iio.imwrite(folder / f"{k}.jpg", picture.image)
        np.savetxt(folder / f"{k}.txt", picture.landmarks[:, :2])


if __name__ == "__main__":
    # In a package of your own: ProtocolEntry("mypackage.mymodule", ...).
    PROTOCOLS["my-protocol"] = ProtocolEntry(__name__, "68 landmarks in a folder of pictures")
    if code := main(["evaluate", "my-protocol", *sys.argv[1:]]):
        sys.exit(code)
