"""Where data sets are that do not ship, and the mark of tests that read them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(os.environ.get("FACEMODELS_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def needs_data(*files: str) -> Callable:
    """Mark a test that reads files of the data folder, and skip it where one is missing."""
    missing = [file for file in files if not (DATA / file).exists()]
    skip = pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)} in FACEMODELS_DATA")
    return lambda test: pytest.mark.data(skip(test))
