"""An evaluation protocol: NME of 68 landmarks in a folder of pictures with landmark files beside them.

Copied to facemodels/evaluation/my_protocol.py, with a line in `PROTOCOLS` of facemodels/evaluation/__init__.py, it runs
as `facemodels evaluate my-protocol --data FOLDER`. As it stands:

python examples/protocol.py FOLDER --method pgn
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import torch

from facemodels.core.crops import cut, from_crop, landmark_box
from facemodels.core.errors import InputError
from facemodels.evaluation.metrics import nme
from facemodels.evaluation.predictor import add_limit, limited, predictor
from facemodels.evaluation.report import Report, format_table
from facemodels.io.images import picture_files, read_picture
from facemodels.io.landmarks import read_landmarks, sidecar
from facemodels.methods.face_method import FaceMethod
from facemodels.methods.registry import load_method


def configure(parser: ArgumentParser) -> None:
    """Add the protocol's own arguments; `facemodels evaluate` has --method, --data, --json and more already."""
    parser.epilog = "example:\n  facemodels evaluate my-protocol --data FOLDER --limit 100"
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


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--method", help="weights that ship, or a checkpoint (default: the best that ship)")
    configure(parser)
    options = parser.parse_args()
    report = run(load_method(options.method), options.data, options)
    print(report.title)
    print(format_table(report, options.method or "default"))
