"""What the reconstruction methods have in common: each is trained about one morphable model."""

from typing import Any

from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.core.parameters import FaceParameters
from facemodels.methods.shipped import method_folder
from facemodels.models.load import load_model
from facemodels.models.morphable import MorphableModel
from facemodels.training.checkpoint import load_weights
from facemodels.training.config import configured, read_json
from facemodels.training.method import Method


class FaceMethod(Method):
    """A method that reconstructs faces with the morphable model that its setting `model` names.

    Attributes:
        model: The morphable model, on the method's device; neither trained nor saved with it.
        size: Side of its pictures in pixels.
        neutral: [E], below which 90 % of its answers for faces without expression lie, for each curve of a model with
            blend shapes (`methods.neutral`); None where that was not measured.
    """

    config: Any  # settings with `model`; a method declares its own class of settings
    model: MorphableModel
    size: int
    neutral: Tensor | None = None

    def __init__(self, config: Any) -> None:
        """Read the morphable model.

        Args:
            config: The method's settings, with a setting `model`.

        Raises:
            InputError: The model cannot be read, or lacks landmarks or the region "face".
        """
        super().__init__(config)
        model = load_model(config.model)
        if "face" not in model.regions or model.landmark_index is None or not model.has_landmark.all():
            raise InputError(
                f"{config.model}: training needs a model with 68 landmarks and a region named face, and {model.name} "
                "lacks some of them"
            )
        self.set_unregistered("model", model)

    def initialize(self) -> None:
        """Take the weights of the setting `start`; of parts in `optional`, only those that it has.

        Raises:
            InputError: `start` is no checkpoint of this method, model and networks.
        """
        path = self.config.start
        if not path:
            return
        folder, name = method_folder(path)
        model = read_json(folder / "config.json").get("model", "builtin")
        if name != self.name or model != self.config.model:
            raise InputError(
                f"{path}: a checkpoint of {name} with the model {model}; start must be one of {self.name} with "
                f"{self.config.model}"
            )
        start = type(self)(configured(self.config_class, file=folder / "config.json"))
        load_weights(start, folder)
        own, given = self.state_dict(), start.state_dict()
        for key, value in own.items():
            if not key.startswith(self.optional) and (key not in given or given[key].shape != value.shape):
                raise InputError(
                    f"{path}: {key} is missing or of another shape there; start must be a checkpoint of {self.name} "
                    "with the same networks"
                )
        self.load_state_dict({k: given.get(k, v) for k, v in own.items()})

    def reconstruct(self, image: Tensor) -> FaceParameters:
        """Reconstruct the faces of pictures.

        Args:
            image: [N,3,S,S], sRGB in 0..1, cropped as `core.crops.landmark_box` does; S is `size`.

        Raises:
            InputError: The network gives no pose.
        """
        raise NotImplementedError

    def landmarks(self, image: Tensor) -> Tensor:
        """Return the landmarks [N,68,3] of pictures, see `FaceParameters`."""
        return self.reconstruct(image).landmarks
