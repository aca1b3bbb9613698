"""facemodels convert: a model of any family to this library's own format."""

import textwrap
from argparse import ArgumentParser, Namespace
from pathlib import Path

from facemodels.core.options import number
from facemodels.io.files import check_not_inputs
from facemodels.models.formats import FAMILIES, read
from facemodels.models.formats.native import write_native
from facemodels.models.model_data import ModelData, truncated


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    families = "\n".join(
        textwrap.fill(f"{name}: {family.given}", 99, initial_indent="  ", subsequent_indent="      ")
        for name, family in FAMILIES.items()
    )
    parser.description = (
        "Convert a model of any family to .safetensors, which loads at once: millimeters, y up,\n"
        "coefficients of unit variance."
    )
    parser.epilog = f"""example:
  facemodels convert FLAME2020/generic_model.pkl flame.safetensors

families, and what to give:
{families}
  builtin: the model that ships"""
    parser.add_argument("input", help="a model file or folder, or builtin")
    parser.add_argument(
        "output",
        type=Path,
        help="a name ending in .safetensors; an existing file is replaced once the new one is complete",
    )
    parser.add_argument("--identity", type=number(int, 0), metavar="K", help="keep only the first K identity modes")
    parser.add_argument("--expression", type=number(int, 0), metavar="K", help="keep only the first K expression modes")


def run(options: Namespace) -> int:
    """Run the command and return its exit code."""
    check_not_inputs([options.output], [options.input])
    data = read_data(options.input)
    kept = truncated(data, options.identity, options.expression)
    write_native(kept, options.output)
    print(f"{options.input}\n{summary(data)}")
    if kept is not data and (len(kept.identity), len(kept.expression)) != (len(data.identity), len(data.expression)):
        print(f"  kept: {len(kept.identity)} identity and {len(kept.expression)} expression modes")
    print(f"{options.output}  {options.output.stat().st_size / 1e6:.1f} MB")
    return 0


def read_data(name: str) -> ModelData:
    """The arrays of a model: "builtin", or a model file or folder."""
    if name != "builtin":
        return read(name)
    from facemodels.models.builtin import builtin_data

    return builtin_data()


def summary(data: ModelData) -> str:
    """Describe a model in a few indented lines."""
    size = data.mean.max(0) - data.mean.min(0)
    parts = [
        f"{landmark_count(data)} of 68 landmarks",
        "texture coordinates" if data.uv is not None else "",
        "symmetry" if data.symmetry is not None else "",
        f"regions {', '.join(data.regions)}" if data.regions else "",
        f"joints {', '.join(data.skeleton.names)}" if data.skeleton else "",
    ]
    blendshapes = " (blend shapes)" if data.blendshapes else ""
    lines = [
        f"{data.name}: {len(data.mean)} vertices, {len(data.faces)} triangles, "
        f"{size[0]:.0f} x {size[1]:.0f} x {size[2]:.0f} mm",
        f"modes: {len(data.identity)} identity, {len(data.expression)} expression{blendshapes}, "
        f"{0 if data.albedo is None else len(data.albedo)} albedo",
        "; ".join(p for p in parts if p),
        f"license: {data.licence or 'not known'}",
    ]
    return "\n".join(f"  {line}" for line in lines)


def landmark_count(data: ModelData) -> int:
    """How many of the 68 landmarks a model has."""
    return 0 if data.has_landmark is None else int(data.has_landmark.sum())
