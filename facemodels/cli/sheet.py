"""facemodels sheet: random faces of a model as a picture, and its mean face as an HTML viewer."""

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

import torch

from facemodels.core import drawing
from facemodels.core.errors import InputError
from facemodels.core.options import add_model, number
from facemodels.core.progress import progress
from facemodels.io.files import check_not_inputs
from facemodels.io.images import write_picture
from facemodels.models.sampling import random_coefficients

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = """examples:
  facemodels sheet -o faces.png --viewer face.html
  facemodels sheet -o clay.jpg --model FLAME2020/generic_model.pkl --count 8 --clay"""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="the picture, .png or .jpg: each person neutral from the front, then with an expression from the side",
    )
    add_model(parser)
    parser.add_argument("--count", type=number(int, 1), default=32, metavar="N", help="number of people (default: 32)")
    parser.add_argument("--columns", type=number(int, 1), default=4, metavar="N", help="people in a row (default: 4)")
    parser.add_argument(
        "--size",
        type=number(int, 16, 2048),
        default=224,
        metavar="PIXELS",
        help="height and width of a face (default: 224)",
    )
    parser.add_argument(
        "--seed", type=number(int, 0), default=0, metavar="N", help="another seed gives other people (default: 0)"
    )
    parser.add_argument("--clay", action="store_true", help="shapes without color")
    parser.add_argument(
        "--viewer", type=Path, metavar="FILE", help="also write the mean face as an HTML viewer with sliders"
    )


def run(options: Namespace) -> int:
    """Run the command and return its exit code."""
    if options.output.suffix.lower() not in _PICTURE_SUFFIXES:
        raise InputError(f"{options.output}: pictures are written as .png or .jpg")
    check_not_inputs([options.output, options.viewer], [options.model])
    from facemodels.models.load import load_model

    model = load_model(options.model)
    people = random_coefficients(model, options.count, torch.Generator().manual_seed(options.seed))
    height, middle = drawing.frame(model.mean, model.regions.get("face"))
    pictures = []
    for k in progress(range(options.count), "faces"):
        identity = people.identity[k : k + 1]
        vertices = torch.cat([model.shape(identity), model.shape(identity, people.expression[k : k + 1])])
        albedo = model.albedo(people.albedo[k : k + 1]) if people.albedo is not None and not options.clay else None
        yaw = torch.tensor([0.0, 35.0 if k % 2 else -35.0])
        pictures.append(
            drawing.portrait(vertices, model.topology, albedo, options.size, yaw, height=height, middle=middle)
        )
    write_picture(options.output, drawing.to_bytes(drawing.tile(torch.cat(pictures), 2 * options.columns)))
    print(f"{options.output}  {options.count} people of the model {model.name}, seed {options.seed}")
    if options.viewer:
        from facemodels.export import bake_albedo, mesh_of, write

        mesh = replace(mesh_of(model), name="mean face")
        if model.uv is not None and model.num_albedo:
            mesh = replace(mesh, texture=bake_albedo(model).detach().cpu().numpy())
        write(options.viewer, mesh)
        print(f"{options.viewer}  the mean face with {model.num_expression} expressions")
    return 0
