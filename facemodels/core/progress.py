"""The progress of a slow step: a bar in a terminal, and a line now and then in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_FIRST, _PAUSE = 5.0, 20.0  # seconds to the first line in a log file, and from one to the next


def progress(
    items: Iterable[T], what: str, total: int | None = None, quiet: bool = False, unit: str = "it"
) -> Iterator[T]:
    """Go through items and show on stderr how far one is.

    Args:
        items: The items.
        what: What is done, in the words of a caption: "rendering samples".
        total: How many there are, about; None where `items` has a length, or nobody knows.
        quiet: Show nothing.
        unit: What an item is called beside a bar, which shows items per second.
    """
    if quiet or sys.stderr is None:  # None: a program without a console
        yield from items
        return
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, leave=False, unit=unit)
        return
    count = len(items) if total is None and hasattr(items, "__len__") else total  # type: ignore[arg-type] # has it
    began = said = time.monotonic()
    for k, item in enumerate(items):
        now = time.monotonic()
        if k and now - said > (_FIRST if said == began else _PAUSE):
            said = now
            left = f" of {count}, {duration((count - k) * (now - began) / k)} left" if count and k < count else ""
            with suppress(OSError):  # nobody reads it any more: the work goes on
                print(f"{what}: {k}{left}", file=sys.stderr, flush=True)
        yield item


def duration(seconds: float) -> str:
    """A duration in words: "0.4 s", "40 s", "12 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
