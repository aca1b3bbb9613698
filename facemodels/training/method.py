"""training.method: TODO."""

import torch
from torch import Tensor, nn

from facemodels.training.config import Config


class Method(nn.Module):
    """What a method brings. Its parameters and buffers are what is trained and saved.

    A constructor reads no data and no weights: a checkpoint is used where they are not. `begin` and `prepare` do.

    Class attributes: name; Config; given, what a prediction from a picture rests on, for reports; monitor, the validation result that says which checkpoint is best (lower is better);
    optional, beginnings of names of parts that only training needs: weights may be without them.
    """

    name = "method"
    Config = Config
    given = "the picture alone"
    monitor = "loss"
    optional: tuple[str, ...] = ()

    def __init__(self, config: Config):
        super().__init__()
        self.config = config

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Sets of parameters that are trained against each other, each with an optimizer of its own; one unless the method is adversarial."""
        return {"network": [p for p in self.parameters() if p.requires_grad]}

    def begin(self):
        """Takes up what a new run begins with, weights from a file say; a run that is resumed does not need it."""

    def prepare(self):
        """Reads or makes what batches are taken from; called once, before the first step."""

    def plays(self, player: str, step: int) -> bool:
        """Whether a player takes part in a step; where not, nothing of it is computed or changed."""
        return True

    def batch(self, step: int, indices: range, device: torch.device):
        """The samples `indices` (numbers within the step's batch) of a step, on the device. Called from a thread: random numbers come from
        generators seeded by the step and the sample."""
        raise NotImplementedError

    def forward(self, player: str, batch, step: int) -> dict[str, Tensor]:
        """The losses of one player, means over the batch's samples: "loss" is what it minimises, the others are logged; the same names in every process."""
        raise NotImplementedError

    def validate(self, device: torch.device) -> dict[str, float]:
        """Results on held-out data."""
        return {}

    def panel(self, batch) -> Tensor | None:
        """A picture of what the method does now, linear colours [H,W,3]."""
        return None
