"""What a reconstruction method gives to the training loop: parameters, batches, losses, validation."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from facemodels.training.config import Config
from facerender._checks import brief_repr


@brief_repr
class Panel(NamedTuple):
    """A picture of predictions.

    Attributes:
        picture: Linear colors [H,W,3]: rows and columns of pictures of one size.
        rows: What each row shows, in a few words.
        columns: What each column shows; empty: no captions.
    """

    picture: Tensor
    rows: Sequence[str]
    columns: Sequence[str] = ()


class Method(nn.Module):
    """A method as the training loop sees it. Its parameters and buffers are what is trained and saved.

    A constructor reads neither data nor weights, because a checkpoint is also loaded where these files do not exist.
    `initialize` and `prepare_data` read them.

    Attributes:
        name: Name of the method, as commands and checkpoints have it.
        config_class: The class of its settings.
        PRESETS: Settings by the name of a preset.
        given: What a prediction rests on besides the weights; a phrase for reports.
        monitor: The validation result that decides which checkpoint is the best; lower is better.
        measured_on: What `monitor` is measured on and against, a phrase that a run says with it. `prepare_data` may
            change it.
        optional: Prefixes of names in the state dict that only training needs: shipped weights may lack them.
        config: The settings.
    """

    name: ClassVar[str] = "method"
    config_class: ClassVar[type[Config]] = Config
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}
    given: ClassVar[str] = "the picture alone"
    monitor: ClassVar[str] = "loss"
    measured_on: str = ""
    optional: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Config) -> None:
        """Build the networks; read no files of data or weights."""
        super().__init__()
        self.config = config
        self._unregistered: list[str] = []

    def set_unregistered(self, name: str, module: nn.Module) -> None:
        """Set an attribute to a module that moves to the method's device, but is neither trained nor saved with it.

        `nn.Module.__setattr__` would register it as a submodule, with its buffers in the state dict.
        """
        object.__setattr__(self, name, module)
        self._unregistered.append(name)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Method":
        super()._apply(fn, recurse)
        device = next(self.parameters(), torch.empty(0)).device
        for name in self._unregistered:
            getattr(self, name).to(device)  # the device alone: its precision is its own
        return self

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by optimizer group: one group, unless networks are trained against each other.

        Each group has its own optimizer and its own loss. In a step, the groups are updated in this order.
        """
        return {"network": [p for p in self.parameters() if p.requires_grad]}

    def is_active(self, group: str, step: int) -> bool:
        """Whether an optimizer group is updated in a step. Nothing is computed for a group that is not."""
        return True

    def initialize(self) -> None:
        """Set the initial state of a new run, such as weights from a file. A resumed run does not call it."""

    def prepare_data(self) -> None:
        """Read or render the data that batches are drawn from. Called once, before the first step."""

    def data_notes(self) -> list[str]:
        """Return sentences about the data that `prepare_data` found, which a run says before its first step."""
        return []

    def batch(self, step: int, indices: range, device: torch.device) -> Any:
        """Make a part of a step's batch. Called from a thread.

        Random numbers must come from generators that are seeded by the step and the index of the sample.

        Args:
            step: The step, from 0.
            indices: Which samples of the step's batch.
            device: Where the samples are wanted.
        """
        raise NotImplementedError

    def forward(self, group: str, batch: Any, step: int, shared: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the losses of an optimizer group, means over the samples of the batch.

        Args:
            group: The group that is about to be updated.
            batch: What `batch` returned.
            step: The step, from 0.
            shared: What the groups before this one in the same step computed, without gradients; empty for the first
                group. A group that has something to pass on adds it.

        Returns:
            "loss", which the group minimizes, and others that are logged; scalars. Every process must return the same
            names.
        """
        raise NotImplementedError

    def validate(self, device: torch.device) -> dict[str, Tensor] | dict[str, float]:
        """Measure errors on held-out data."""
        return {}

    def visualize(self, batch: Any) -> Panel | None:
        """Draw predictions for a batch, or None for no picture."""
        return None
