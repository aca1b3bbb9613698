"""Readers of morphable model files, one file a family. Each returns `ModelData` in this library's conventions.

`read` finds the family from a file's name and content, or from what a folder holds.

* `basel2009`: the Basel Face Model of 2009: the original, Deep3DFaceRecon's, 300W-LP's.
* `basel2017`: the Basel Face Models of 2017 and 2019.
* `flame`: FLAME.
* `ict`: ICT-FaceKit light.
* `native`: this library's own format.
* `surrey`: the Surrey Face Model and others in eos's format.
* `tddfa_v2`: 3DDFA_V2's Basel model.
* `build`, `layout`, `obj`: what the readers share.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facemodels.core.errors import InputError
from facemodels.io.files import existing_file, input_error, no_such_file
from facemodels.io.matfile import read_mat
from facemodels.io.pickles import read_pickle
from facemodels.models.formats import basel2009, basel2017, flame, ict, native, surrey, tddfa_v2
from facemodels.models.model_data import ModelData

__all__ = ["FAMILIES", "Family", "model_files", "read"]


class Family(NamedTuple):
    """A family of model files.

    Attributes:
        given: description of the path to pass, for users; the reader's docstring lists the files read beside it.
        files: patterns of the main file's name.
    """

    given: str
    files: tuple[str, ...]


FAMILIES = {
    "ICT-FaceKit light": Family(
        "the folder FaceXModel, or ict_facekit.npz", ("ict_facekit.npz", "generic_neutral_mesh.obj")
    ),
    "Basel 2009": Family(
        "01_MorphableModel.mat (with Exp_Pca.bin, std_exp.txt and BFM_exp_idx.mat beside it for expressions)",
        ("01_MorphableModel.mat",),
    ),
    "Basel 2009 of Deep3DFaceRecon": Family("BFM_model_front.mat", ("BFM_model_front.mat",)),
    "Basel 2009 of 300W-LP": Family(
        "Model_Shape.mat (with Model_Exp.mat or Model_Expression.mat beside it)", ("Model_Shape.mat",)
    ),
    "Basel 2009 of 3DDFA_V2": Family(
        "bfm_noneck_v3.pkl (with tri.pkl and param_mean_std_62d_120x120.pkl beside it)", ("bfm_noneck_v3*.pkl",)
    ),
    "Basel 2017": Family("model2017-1_*.h5 (pip install h5py)", ("model2017*.h5",)),
    "Basel 2019": Family("model2019_*.h5 (pip install h5py)", ("model2019*.h5",)),
    "FLAME 2019, 2020, 2023": Family(
        "generic_model.pkl, flame2023.pkl ... "
        "(with landmark_embedding.npy or *static_embedding*.pkl beside it for landmarks)",
        ("generic_model.pkl", "FLAME*.pkl", "flame2*.pkl"),
    ),
    "Surrey": Family(
        "sfm_shape_3448.bin (with expression_blendshapes_3448.bin and ibug_to_sfm.txt beside it)", ("sfm_*.bin",)
    ),
    "facemodels": Family("a .safetensors that facemodels convert wrote", ("*.safetensors",)),
}
# What tells a family apart, by its keys, and files of the same kind that are not models themselves.
_MAT = {"shapeMU": basel2009.read_original, "meanshape": basel2009.read_front, "mu_shape": basel2009.read_300w_lp}
_PKL = {"v_template": flame.from_pickle, "w_shp": tddfa_v2.from_pickle}
_HINTS = {
    "mu_exp": "the expressions alone; give Model_Shape.mat, which belongs beside it",
    "tri_mask2": "facts about Deep3DFaceRecon's model alone; give BFM_model_front.mat",
    "trimIndex": "indices alone; give 01_MorphableModel.mat, which belongs beside it",
    "lmk_face_idx": "landmarks alone; give FLAME's model, which belongs beside it",
    "face": "regions alone; give FLAME's model, which belongs beside it",
    "std": "statistics alone; give bfm_noneck_v3.pkl, which belongs beside it",
}
_NOT_MODELS = ("FLAME_masks.pkl", "FLAME_texture.pkl")  # side files whose names are like a model's


# Overflowing numbers are found by the checks of `ModelData`, whose errors name the file.
@np.errstate(all="ignore")
def read(path: str | Path) -> ModelData:
    """Read a model of any family; its name and content tell which one.

    Args:
        path: the file, or a folder with one model in it.

    Raises:
        InputError: the file or folder is missing, damaged or of no known kind. The message names it, what was expected
            and what was found.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    expected = "a model of one of the families that facemodels convert --help lists"
    if not path.exists() and not path.suffix:
        raise no_such_file(path, "file or folder", f"{expected}, or builtin, the model that ships")
    kind = path.suffix.lower()
    if kind == ".safetensors":
        return native.read_native(path)
    if kind == ".npz":
        return ict.read_ict_npz(path)
    if kind == ".obj" and path.name == "generic_neutral_mesh.obj":
        return ict.read_ict_folder(path.parent)
    if kind in (".h5", ".hdf5"):
        return basel2017.read_basel2017(path)
    if kind == ".bin":
        if path.name == "Exp_Pca.bin":
            existing_file(path, expected)
            found = "the expressions alone; give 01_MorphableModel.mat, which belongs beside it"
            raise input_error(path, expected, found)
        return surrey.read_surrey(path)
    if kind == ".mat":
        keys = read_mat(path, expected, [*_MAT, *_HINTS])
        return _choose(path, _MAT, keys, expected)(path)
    if kind == ".pkl":
        content = read_pickle(path, expected)
        if not isinstance(content, dict):
            raise input_error(path, expected, f"a pickle of one {type(content).__name__}")
        return _choose(path, _PKL, content, expected)(path, content)
    existing_file(path, expected)
    raise input_error(path, expected, f"a file ending in {kind}" if kind else "a file without an ending")


def _choose(
    path: Path, readers: Mapping[str, Callable[..., ModelData]], content: Mapping[str, Any], expected: str
) -> Callable[..., ModelData]:
    """The reader whose key is in the content."""
    for key, reader in readers.items():
        if key in content:
            return reader
    hint = next((text for key, text in _HINTS.items() if key in content), None)
    raise input_error(path, expected, hint or f"none of {', '.join(readers)} among its entries")


def model_files(folder: Path) -> dict[Path, str]:
    """The models in a folder, by their names: what to give to `read` -> family. ICT-FaceKit's is the folder itself."""
    found = {}
    for family, (_, patterns) in FAMILIES.items():
        paths = (p for pattern in patterns for p in folder.glob(pattern))
        for path in sorted(p for p in paths if p.is_file() and p.name not in _NOT_MODELS):
            found[folder if path.suffix == ".obj" else path] = family
    return found


def _read_folder(folder: Path) -> ModelData:
    found = list(model_files(folder))
    if len(found) != 1:
        patterns = ", ".join(pattern for family in FAMILIES.values() for pattern in family.files)
        names = ", ".join(p.name for p in found) or f"none of {patterns}"
        advice = "; give the file itself" if found else ""
        raise InputError(f"{folder}: expected a folder with one model in it, found {names}{advice}")
    return ict.read_ict_folder(folder) if found[0] == folder else read(found[0])
