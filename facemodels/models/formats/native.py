"""This library's own format: a `.safetensors` file with every array of `ModelData`, and the rest as JSON in its metadata.

Tensors are named after the fields (`mean`, `identity`, ...), regions are `region.NAME`, the skeleton's arrays `skeleton.NAME`. Arrays are mapped
into memory when they are read. Everything is float32 or int32: half precision would be off by up to 0.016 mm
where an expression moves a vertex by 40 mm.
"""

import json
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from facemodels.core.errors import InputError, one_line
from facemodels.io.files import existing_file, input_error
from facemodels.models.model_data import ModelData, Skeleton

EXPECTED = "a model that facemodels convert wrote"
VERSION = 1
_TEXT = ("name", "source", "licence", "albedo_encoding")
_ARRAYS = tuple(
    f.name
    for f in fields(ModelData)
    if f.name not in (*_TEXT, "expression_names", "blendshapes", "regions", "skeleton")
)
_SKELETON = ("weights", "regressor", "pose_basis")


def write_native(data: ModelData, path) -> None:
    """Writes the model; the file appears whole or not at all.

    Raises:
        InputError: the name does not end in .safetensors, or the folder cannot be written to.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a model is written to a file whose name ends in .safetensors")
    arrays = {k: getattr(data, k) for k in _ARRAYS} | {f"region.{k}": v for k, v in data.regions.items()}
    described = {k: getattr(data, k) for k in (*_TEXT, "expression_names", "blendshapes")} | {
        "regions": list(data.regions)
    }
    if data.skeleton is not None:
        arrays |= {f"skeleton.{k}": getattr(data.skeleton, k) for k in _SKELETON}
        described["skeleton"] = {"names": data.skeleton.names, "parents": [int(p) for p in data.skeleton.parents]}
    arrays = {k: np.ascontiguousarray(v) for k, v in arrays.items() if v is not None}
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.touch()
        mode = partial.stat().st_mode  # what the user's files have; safetensors makes them private
        save_file(
            arrays, partial, metadata={"format": "facemodels", "version": str(VERSION), "model": json.dumps(described)}
        )
        os.chmod(partial, mode)
        os.replace(partial, path)
    except SafetensorError as error:
        raise InputError(f"{path}: expected a place to write to, found none ({one_line(error)})") from error
    finally:
        partial.unlink(missing_ok=True)


def read_native(path) -> ModelData:
    """Reads what `write_native` wrote.

    Raises:
        InputError: the file is missing, damaged, no model, or of a later version.
    """
    path = existing_file(path, EXPECTED)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()} if metadata.get("format") == "facemodels" else {}
    except (SafetensorError, OSError, ValueError) as error:
        raise input_error(path, EXPECTED, f"a file that does not read as .safetensors ({one_line(error)})") from error
    if metadata.get("format") != "facemodels":
        raise input_error(path, EXPECTED, "other tensors")
    if metadata.get("version") != str(VERSION):
        raise input_error(
            path,
            f"version {VERSION} of the format",
            f"version {metadata.get('version')}; convert the model again with this version of facemodels",
        )
    try:
        described = json.loads(metadata["model"])
        arrays = {k: v.numpy() for k, v in tensors.items()}
        regions = {k: arrays[f"region.{k}"] for k in described["regions"]}
        skeleton = described.pop("skeleton", None)
        if skeleton is not None:
            skeleton = Skeleton(
                tuple(skeleton["names"]), tuple(skeleton["parents"]), *(arrays.get(f"skeleton.{k}") for k in _SKELETON)
            )
        text = {k: described[k] for k in (*_TEXT, "expression_names", "blendshapes")}
        return ModelData(**text, **{k: arrays.get(k) for k in _ARRAYS}, regions=regions, skeleton=skeleton)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise input_error(
            path, EXPECTED, f"one whose parts do not fit together ({type(error).__name__}: {error})"
        ) from error
