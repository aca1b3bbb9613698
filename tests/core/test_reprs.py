"""What results print as: one line, whatever arrays they hold."""

import dataclasses
import importlib
import pkgutil

import numpy as np
import pytest
import torch

import facemodels
import facerender

# Packages whose classes are not handed to users.
INTERNAL = ("cli", "evaluation", "methods", "models.builtin", "models.formats", "networks")


def _holders():
    """The public dataclasses and named tuples that hold tensors or arrays."""
    found = {}
    for package in (facemodels, facerender):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            name = module.name.removeprefix("facemodels.")
            if name.startswith(INTERNAL) or "._" in name or name.endswith("__main__"):
                continue
            for cls in vars(importlib.import_module(module.name)).values():
                holds = isinstance(cls, type) and (dataclasses.is_dataclass(cls) or hasattr(cls, "_fields"))
                if not holds or cls.__name__.startswith("_") or cls.__module__ != module.name:
                    continue
                types = " ".join(str(t) for t in getattr(cls, "__annotations__", {}).values())
                if ("Tensor" in types or "ndarray" in types) and "Callable" not in types:
                    found[f"{cls.__module__}.{cls.__qualname__}"] = cls
    return found


HOLDERS = _holders()


def test_there_are_such_classes():
    assert {"facemodels.fitting.result.Fit", "facemodels.models.model_data.ModelData"} <= HOLDERS.keys()
    assert {"facerender.rasterize.Fragments", "facerender.meshes.mesh.Mesh"} <= HOLDERS.keys()


@pytest.mark.parametrize("cls", HOLDERS.values(), ids=HOLDERS)
def test_results_print_as_one_line_without_the_numbers_of_their_arrays(cls):
    if cls is facemodels.Face:
        return  # has its own, with tests of it
    array, tensor = np.full((40, 3), 0.123), torch.full((40, 3), 0.123)
    if hasattr(cls, "_fields"):
        holder = cls._make((array, tensor)[k % 2] for k in range(len(cls._fields)))
    else:
        holder = object.__new__(cls)
        for k, field in enumerate(dataclasses.fields(cls)):
            object.__setattr__(holder, field.name, (array, tensor)[k % 2])
    text = repr(holder)
    assert text.startswith(cls.__name__ + "(") and "[40, 3]" in text and "0.123" not in text and "\n" not in text


def test_what_is_short_is_shown_and_what_is_missing_left_out():
    fit = facemodels.fitting.result.Fit(
        torch.zeros(1, 80), torch.zeros(1, 52), landmark_error=1.5, doubts=["far off"], history=[1.0] * 400
    )
    assert repr(fit) == (
        "Fit(identity=float32 [1, 80], expression=float32 [1, 52], landmark_error=1.5, landmark_count=0, "
        "doubts=['far off'], history=list of 400)"
    )
