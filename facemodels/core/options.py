"""Options that several commands have, and numbers of options: one out of its range ends with exit code 2."""

import math
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

_LARGEST = 1e9  # of options without a limit of their own


def add_output_folder(parser: ArgumentParser) -> None:
    """Add `-o FOLDER`, the option `output`."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder for the results; created if it does not exist",
    )


def add_model(parser: ArgumentParser) -> None:
    """Add `--model MODEL`, the option `model`."""
    parser.add_argument("--model", default="builtin", help="builtin, or a model file (default: builtin)")


def number(
    kind: type[int] | type[float],
    low: float,
    high: float | None = None,
    exclusive: bool = False,
    infinite: bool = False,
) -> Callable[[str], int | float]:
    """Make a `type` for `add_argument`: a number within limits.

    Args:
        kind: int or float.
        low: The lower limit.
        high: The upper limit; None: a billion, which only the message about a larger number names.
        exclusive: Whether the limits themselves are refused.
        infinite: Whether infinity is allowed, beyond the upper limit.
    """
    if exclusive:
        limits = f"above {low:g}" + ("" if high is None else f" and below {high:g}")
    else:
        limits = f"{low:g} or more" if high is None else f"{low:g} to {high:g}"
    expected = f"expected a {'whole ' if kind is int else ''}number, {limits}"
    top = _LARGEST if high is None else high

    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except (ValueError, OverflowError):
            raise ArgumentTypeError(f"{expected}; found {text[:40]!r}") from None
        if infinite and value == math.inf:
            return value
        if high is None and value > top:
            raise ArgumentTypeError(f"{expected}, at most {top:g}; found {text[:40]}")
        if not (low < value < top if exclusive else low <= value <= top):
            raise ArgumentTypeError(f"{expected}; found {text[:40]}")
        return value

    return parse
