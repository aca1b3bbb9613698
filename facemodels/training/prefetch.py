"""Batches prepared ahead of their use, by threads."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from facemodels.core.errors import InputError


class Prefetcher:
    """Makes batches in threads ahead of their use. A context manager.

    Neither the order nor the content of the batches depends on how many are made ahead.
    """

    def __init__(self, make: Callable[[int], Any], count: int) -> None:
        """Start the threads.

        Args:
            make: Makes the batch of a step.
            count: Batches to make ahead; 0 makes each when it is taken.
        """
        self.make, self.count = make, count
        self.pending: dict[int, Future] = {}
        self.pool = ThreadPoolExecutor(max(1, count))

    def __enter__(self) -> "Prefetcher":
        return self

    def take(self, step: int, end: int) -> Any:
        """Return the batch of a step, and begin with those of the next steps, all below `end`.

        Raises:
            InputError: `make` raised one.
            RuntimeError: `make` raised anything else, SystemExit too: a thread must not end the run silently.
        """
        for s in range(step, min(step + 1 + self.count, end)):
            if s not in self.pending:
                self.pending[s] = self.pool.submit(self.make, s)
        future = self.pending.pop(step)
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, InputError):
            raise error
        raise RuntimeError(f"step {step}: its batch could not be made ({type(error).__name__}: {error})") from error

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
