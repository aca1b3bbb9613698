"""Boxes of faces from a JSON file: {"photo.jpg": [[x0, y0, x1, y1], ...]}, in pixels of each photograph."""

import json
import math
from pathlib import Path
from typing import Any

from facemodels.core.crops import Box
from facemodels.io.files import existing_file, input_error, read_text

_EXPECTED = 'JSON, {"photo.jpg": [[x0, y0, x1, y1], ...]} with boxes in pixels'
_BOX = "[x0, y0, x1, y1] in pixels with x0 < x1 and y0 < y1"


def read_boxes(path: str | Path) -> dict[str, list[Box]]:
    """Read the boxes of photographs.

    Args:
        path: A JSON file: an object with the name of each photograph, and its boxes in a list. A photograph with one
            face may have its box alone, without the list around it.

    Returns:
        Name -> boxes, each (x0, y0, x1, y1) in pixels.

    Raises:
        InputError: The file is missing, or holds anything else.
    """
    path = existing_file(path, _EXPECTED)
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise input_error(path, _EXPECTED, _describe_text(text, error)) from None
    if not isinstance(content, dict):
        raise input_error(path, _EXPECTED, f"{_describe(content)} in place of the object")
    return {name: _boxes(path, name, given) for name, given in content.items()}


def _describe_text(text: str, error: Exception) -> str:
    """What a text is that is not JSON, for messages."""
    if not text.strip():
        return "nothing"
    if isinstance(error, json.JSONDecodeError) and text.lstrip()[0] in "{[":
        return f"JSON that is cut off or damaged (line {error.lineno}, column {error.colno})"
    return f"no JSON: {text.split(maxsplit=1)[0][:60]!r} ..."


def _boxes(path: Path, name: str, given: Any) -> list[Box]:
    if not isinstance(given, list):
        raise input_error(path, f"a list of boxes, {_BOX}, for {name[:60]!r}", _describe(given))
    alone = len(given) == 4 and not any(isinstance(value, list) for value in given)
    return [_box(path, name, values) for values in ([given] if alone else given)]


def _box(path: Path, name: str, values: Any) -> Box:
    expected = f"boxes of {name[:60]!r} to be {_BOX}"
    if not isinstance(values, list):
        raise input_error(path, expected, _describe(values))
    if len(values) != 4 or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        raise input_error(path, expected, json.dumps(values)[:80])
    try:
        x0, y0, x1, y1 = (float(v) for v in values)
    except OverflowError:
        x0 = y0 = x1 = y1 = math.inf
    if not all(map(math.isfinite, (x0, y0, x1, y1))) or x0 >= x1 or y0 >= y1:
        raise input_error(path, expected, json.dumps(values)[:80])
    return x0, y0, x1, y1


def _describe(value: Any) -> str:
    """What a value of JSON is, for messages."""
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return json.dumps(value)[:60]
