"""This library's own format: a `.safetensors` file with every array of `ModelData`, and the rest as JSON in its
metadata.

Tensors are named after the fields (`mean`, `identity`, ...), regions `region.NAME`, the arrays of the skeleton
`skeleton.NAME`. Arrays are mapped into memory when they are read. All are float32 or int32: half precision would be off
by up to 0.016 mm where an expression moves a vertex by 40 mm.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from facemodels.core.errors import InputError, one_line
from facemodels.io.files import atomic_write, existing_file, input_error
from facemodels.models.model_data import ModelData, Skeleton

EXPECTED = "a model that facemodels convert wrote"
VERSION = 1
_TEXT = ("name", "source", "licence", "albedo_encoding")
_ARRAYS = tuple(
    f.name
    for f in dataclasses.fields(ModelData)
    if f.name not in (*_TEXT, "expression_names", "blendshapes", "regions", "skeleton")
)
_SKELETON = ("weights", "regressor", "pose_basis")


def write_native(data: ModelData, path: str | Path) -> None:
    """Write a model; the file appears complete or not at all.

    Raises:
        InputError: the name does not end in .safetensors, or the file cannot be written there.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a model is written to a file whose name ends in .safetensors")
    given = {k: getattr(data, k) for k in _ARRAYS} | {f"region.{k}": v for k, v in data.regions.items()}
    described = {k: getattr(data, k) for k in (*_TEXT, "expression_names", "blendshapes")}
    described["regions"] = list(data.regions)
    if data.skeleton is not None:
        given |= {f"skeleton.{k}": getattr(data.skeleton, k) for k in _SKELETON}
        described["skeleton"] = {"names": data.skeleton.names, "parents": [int(p) for p in data.skeleton.parents]}
    arrays = {k: np.ascontiguousarray(v) for k, v in given.items() if v is not None}
    metadata = {"format": "facemodels", "version": str(VERSION), "model": json.dumps(described)}
    try:
        with atomic_write(path) as part:
            part.touch()
            mode = part.stat().st_mode  # that of the user's other files; safetensors makes its files private
            save_file(arrays, part, metadata=metadata)
            os.chmod(part, mode)
    except SafetensorError as error:
        raise InputError(f"{path}: expected a place to write to, found none ({one_line(error)})") from error


def read_native(path: str | Path) -> ModelData:
    """Read what `write_native` wrote.

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
        arrays: dict[str, Any] = {k: v.numpy() for k, v in tensors.items()}
        fields: dict[str, Any] = {k: described[k] for k in (*_TEXT, "expression_names", "blendshapes")}
        fields |= {k: arrays.get(k) for k in _ARRAYS}
        fields["regions"] = {k: arrays[f"region.{k}"] for k in described["regions"]}
        if (joints := described.get("skeleton")) is not None:
            parts: dict[str, Any] = {k: arrays.get(f"skeleton.{k}") for k in _SKELETON}
            fields["skeleton"] = Skeleton(tuple(joints["names"]), tuple(joints["parents"]), **parts)
        return ModelData(**fields)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise input_error(path, EXPECTED, "one whose parts do not fit together") from error
