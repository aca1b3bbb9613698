"""A morphable model by its name or its file."""

from pathlib import Path

from facemodels.core.errors import InputError
from facemodels.models.morphable import MorphableModel


def load_model(model: str | Path | MorphableModel = "builtin") -> MorphableModel:
    """Load a morphable model.

    Args:
        model: "builtin" for the model that ships, or the file or folder of one of the families that `facemodels convert
            --help` lists. A `MorphableModel` is returned as it is.

    Returns:
        The model, on the CPU; its vertices are in millimeters.

    Raises:
        InputError: the file is missing, damaged or of no known family. The message names it, what was expected and what
            was found.
    """
    if isinstance(model, MorphableModel):
        return model
    if not isinstance(model, (str, Path)) or model == "":
        raise InputError(
            "a model is 'builtin', the file or folder of a model, or a MorphableModel, got "
            + (repr(model) if isinstance(model, (str, int, float, type(None))) else type(model).__name__)
        )
    if model == "builtin":
        from facemodels.models.builtin import builtin_data

        return MorphableModel(builtin_data())
    from facemodels.models.formats import read

    return MorphableModel(read(model))
