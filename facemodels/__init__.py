"""Morphable face models and the reconstruction methods that stand on facerender.

Conventions: millimetres, y up, +z out of the face, +x to the subject's left; 68 landmarks in Multi-PIE (iBUG) order; coefficients of unit
variance; radians.
"""

from .errors import InputError
from .morphable import Face, ModelData, MorphableModel, Skeleton

__all__ = ["Face", "InputError", "ModelData", "MorphableModel", "Skeleton", "load_model"]


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
