"""The progress of a slow step: a bar in a terminal, and a line now and then in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_PAUSE = 20.0  # seconds from one line in a log file to the next


def progress(items: Iterable[T], what: str, total: int | None = None, quiet: bool = False) -> Iterator[T]:
    """Go through items and show on stderr how far one is.

    Args:
        items: The items.
        what: What is done, in the words of a caption: "rendering samples".
        total: How many there are; None where `items` has a length.
        quiet: Show nothing.
    """
    if quiet or sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, disable=quiet, leave=False)
        return
    count = len(items) if total is None and hasattr(items, "__len__") else total  # type: ignore[arg-type] # has it
    began = said = time.monotonic()
    for k, item in enumerate(items):
        now = time.monotonic()
        if k and now - said > _PAUSE:
            said = now
            left = f" of {count}, {(count - k) * (now - began) / k:.0f} s left" if count else ""
            print(f"{what}: {k}{left}", file=sys.stderr, flush=True)
        yield item
