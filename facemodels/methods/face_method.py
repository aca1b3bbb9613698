"""What the methods have in common: each is trained about one morphable model."""

from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.core.parameters import FaceParameters
from facemodels.methods.registry import load_method
from facemodels.models.load import load_model
from facemodels.training.config import Config
from facemodels.training.method import Method


class FaceMethod(Method):
    """A method whose `config.model` names its morphable model, held as `model` on the method's device; it is no part of what is trained and saved. `size` is the side of its pictures.

    Raises:
        InputError: the model cannot be read, or lacks landmarks or the region "face".
    """

    def __init__(self, config: Config):
        super().__init__(config)
        model = load_model(config.model)
        if "face" not in model.regions or model.landmark_index is None or not model.has_landmark.all():
            raise InputError(
                f"{config.model}: training needs a model with 68 landmarks and a region named face, and {model.name} lacks some of them"
            )
        self.set_unregistered("model", model)

    def initialize(self):
        """Takes the weights of `config.start`; those of parts in `optional` where it has them."""
        if not self.config.start:
            return
        begun, path = load_method(self.config.start), self.config.start
        if begun.name != self.name or begun.config.model != self.config.model:
            raise InputError(
                f"{path}: a checkpoint of {begun.name} with the model {begun.config.model}; start must be one of {self.name} with {self.config.model}"
            )
        mine, its = self.state_dict(), begun.state_dict()
        wrong = [
            k for k, v in mine.items() if not k.startswith(self.optional) and (k not in its or its[k].shape != v.shape)
        ]
        if wrong:
            raise InputError(
                f"{path}: {wrong[0]} is missing or of another shape there; start must be a checkpoint of {self.name} with the same networks"
            )
        self.load_state_dict({k: its.get(k, v) for k, v in mine.items()})

    def reconstruct(self, image: Tensor) -> FaceParameters:
        """Faces of pictures [N,3,S,S], sRGB in 0..1, cropped as `data.crops.landmark_box` does; S is `size`.

        Raises:
            InputError: the network gives no pose.
        """
        raise NotImplementedError

    def landmarks(self, image: Tensor) -> Tensor:
        """[N,68,3] of pictures, see `FaceParameters`."""
        return self.reconstruct(image).landmarks
