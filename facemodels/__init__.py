"""Morphable face models, and the reconstruction methods built on `facerender`.

Conventions: millimeters, y up, +z out of the face, +x to the subject's left; 68 landmarks in Multi-PIE (iBUG) order;
coefficients of unit variance; radians.

Packages, each of which imports only from those below it:

* `cli`: the commands, `facemodels COMMAND`.
* `evaluation`: the protocols of the field, one file each.
* `reconstruction`: photographs and videos in, faces out.
* `teachers`: labels for photographs by networks that were trained elsewhere.
* `methods`: UH-E2FAR, 2DASL, the pose guidance network and cycle-consistency, and the registry that loads them.
* `training`: the loop, its settings and its checkpoints.
* `data`: sources of training and test images.
* `fitting`: models fitted to photos and scans.
* `export`: mesh files and the viewer.
* `networks`: backbones.
* `losses`: losses that methods share.
* `models`: morphable models: the built-in one, and readers for the families of others.
* `io`: images, videos, landmark files, `.mat` files, pickles.
* `core`: what all of them share: errors, seeding, devices, geometry, landmarks, parameters, drawing.
* `weights`: trained weights that ship.

Packages and public names are imported where they are first used: `import facemodels` takes no time, and
`facemodels.evaluation` is there without an import of its own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from facemodels.core.errors import InputError

if TYPE_CHECKING:
    from facemodels.export import Mesh, mesh_of, write
    from facemodels.fitting.photo import fit_image
    from facemodels.fitting.scan import fit_mesh
    from facemodels.fitting.transfer import Transfer
    from facemodels.methods.registry import load_method
    from facemodels.models.load import load_model
    from facemodels.models.model_data import ModelData, Skeleton
    from facemodels.models.morphable import ModelOutput, MorphableModel
    from facemodels.reconstruction.face import Face
    from facemodels.reconstruction.label import label_pictures
    from facemodels.reconstruction.overlays import overlay
    from facemodels.reconstruction.reconstructor import Reconstructor, reconstruct

# Public name -> the module that defines it. Imported on first use: torch alone takes two seconds.
_LAZY = {
    "Face": "reconstruction.face",
    "Mesh": "export",
    "ModelData": "models.model_data",
    "ModelOutput": "models.morphable",
    "MorphableModel": "models.morphable",
    "Reconstructor": "reconstruction.reconstructor",
    "Skeleton": "models.model_data",
    "Transfer": "fitting.transfer",
    "fit_image": "fitting.photo",
    "fit_mesh": "fitting.scan",
    "label_pictures": "reconstruction.label",
    "load_method": "methods.registry",
    "load_model": "models.load",
    "mesh_of": "export",
    "overlay": "reconstruction.overlays",
    "reconstruct": "reconstruction.reconstructor",
    "write": "export",
}
__all__ = [
    "Face",
    "InputError",
    "Mesh",
    "ModelData",
    "ModelOutput",
    "MorphableModel",
    "Reconstructor",
    "Skeleton",
    "Transfer",
    "fit_image",
    "fit_mesh",
    "label_pictures",
    "load_method",
    "load_model",
    "mesh_of",
    "overlay",
    "reconstruct",
    "write",
]


_PACKAGES = (
    *("cli", "core", "data", "evaluation", "export", "fitting", "io", "losses", "methods", "models", "networks"),
    *("reconstruction", "teachers", "training", "weights"),
)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"facemodels.{_LAZY[name]}"), name)
    if name in _PACKAGES:
        return import_module(f"facemodels.{name}")
    if name == "__version__":
        from facerender import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES, "__version__"])
