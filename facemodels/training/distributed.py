"""The processes of a run, one a device under torchrun, and what they agree upon."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from facemodels.core.device import parse_device


def training_device(name: str) -> torch.device:
    """Return the device of a setting and make it CUDA's current one; under torchrun, "cuda" is the process's own.

    Raises:
        InputError: There is no such device here.
    """
    device = parse_device(name)
    if device.type == "cuda":
        if device.index is None and "LOCAL_RANK" in os.environ:
            device = parse_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(device.index or 0)  # which needs a number
    return device


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        rank: The number of this one.
        count: How many there are.
        device: The device of this one.
    """

    rank: int
    count: int
    device: torch.device

    @staticmethod
    def from_environment(device: torch.device) -> "Processes":
        """Read the environment variables of torchrun; without them, there is one process."""
        return Processes(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)), device)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connect the processes, unless they are connected already."""
        connect = self.count > 1 and not dist.is_initialized()
        if connect:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        try:
            yield
        finally:
            if connect:
                dist.destroy_process_group()

    def share(self, batch: int) -> range:
        """Return which samples of a batch are this process's."""
        share = batch // self.count
        return range(self.rank * share, (self.rank + 1) * share)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process: all must stop, save and wait for each other at the same step."""
        if self.count == 1:
            return flag
        value = torch.tensor([flag], dtype=torch.int32, device=self.device)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return bool(value.item())

    def mean(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the means of scalars over the processes; one that is not finite in one process is so in all."""
        if self.count == 1:
            return values
        stacked = torch.stack([v.float().reshape(()) for v in values.values()])
        dist.all_reduce(stacked)
        return dict(zip(values, stacked / self.count))

    def broadcast(self, module: nn.Module) -> None:
        """Give all processes the parameters and buffers of the main one."""
        if self.count == 1:
            return
        for value in module.state_dict().values():
            first = value.contiguous()
            dist.broadcast(first, 0)
            value.copy_(first)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            dist.barrier()
