"""What the methods have in common: each is trained about one morphable model."""

import torch

from .. import load_model
from ..errors import InputError
from ..training import Config, Method


class FaceMethod(Method):
    """A method whose `config.model` names its morphable model, held as `model` on the method's device; it is no part of what is trained and saved.

    Raises:
        InputError: the model cannot be read, or lacks landmarks or the region "face".
    """

    def __init__(self, config: Config):
        super().__init__(config)
        model = load_model(config.model)
        if "face" not in model.regions or model.landmark_index is None or not model.has_landmark.all():
            raise InputError(f"{config.model}: training needs a model with 68 landmarks and a region named face, and {model.name} lacks some of them")
        object.__setattr__(self, "model", model)

    def _apply(self, move, *args, **kwargs):
        moved = super()._apply(move, *args, **kwargs)
        self.model.to(next(self.parameters(), torch.empty(0)).device)
        return moved
