"""Numbers of options, checked as they are parsed: one out of its range ends the command with exit code 2."""

from argparse import ArgumentTypeError
from collections.abc import Callable

_LARGEST = 1e9


def number(
    kind: type[int] | type[float],
    low: float,
    high: float = _LARGEST,
    within: bool = False,
    infinite: float | None = None,
) -> Callable[[str], int | float]:
    """A `type` for `add_argument`.

    Args:
        kind: int or float.
        low: The smallest number that is taken.
        high: The largest.
        within: Neither of them is taken itself.
        infinite: Infinity, where that is taken, too.
    """
    if within:
        words = f"above {low:g}" + (f" and below {high:g}" if high < _LARGEST else "")
    else:
        words = f"{low:g} to {high:g}" if high < _LARGEST else f"{low:g} or more"
    expected = f"expected a {'whole ' if kind is int else ''}number, {words}"

    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except (ValueError, OverflowError):
            raise ArgumentTypeError(f"{expected}; found {text[:40]!r}") from None
        if value > high == _LARGEST and value != infinite:
            raise ArgumentTypeError(f"{expected}, at most {high:g}; found {text[:40]}")
        if not (low < value < high if within else low <= value <= high) and value != infinite:
            raise ArgumentTypeError(f"{expected}; found {text[:40]}")
        return value

    return parse
