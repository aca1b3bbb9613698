"""Morphable face models and the reconstruction methods that stand on facerender.

Conventions: millimetres, y up, +z out of the face, +x to the subject's left; 68 landmarks in Multi-PIE (iBUG) order; coefficients of unit
variance; radians.
"""

from importlib import import_module

from .errors import InputError
from .morphable import Face, ModelData, MorphableModel, Skeleton

_LATER = {"fit_image": "fit", "fit_mesh": "fit_scan", "Transfer": "transfer", "Mesh": "export", "mesh_of": "export", "write": "export", "load_method": "methods", "reconstruct": "reconstruction", "Reconstructor": "reconstruction"}  # imported when asked for
__all__ = ["Face", "InputError", "ModelData", "MorphableModel", "Skeleton", "load_model", *_LATER]


def __getattr__(name):
    if name in _LATER:
        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_model(model="builtin") -> MorphableModel:
    """A model by name or path: "builtin" is the one that ships; anything else is a file or folder of one of the families that
    `facemodels convert --help` lists.

    Raises:
        InputError: the file is missing, damaged or of no known kind; one sentence that names it, what was expected and what was found.
    """
    if isinstance(model, MorphableModel):
        return model
    if model == "builtin":
        from .builtin import builtin_data

        return MorphableModel(builtin_data())
    from .formats import read

    return MorphableModel(read(model))
