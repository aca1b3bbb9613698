"""Names that the packages export."""

import subprocess
import sys
from pathlib import Path

import pytest

import facemodels


def test_public_names_are_there():
    for name in facemodels.__all__:
        assert getattr(facemodels, name) is not None
    assert set(facemodels.__all__) <= set(dir(facemodels))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = facemodels.nothing


def test_packages_are_attributes_without_an_import_of_their_own():
    code = "import facemodels; print(facemodels.evaluation.__name__, facemodels.weights.names())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("facemodels.evaluation ['cycle'")


def test_dir_lists_what_there_is_and_nothing_private():
    folder = Path(facemodels.__file__).parent
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert set(dir(facemodels)) == {*facemodels.__all__, *packages, "__version__"}
    assert facemodels.__version__ and all(getattr(facemodels, name) is not None for name in dir(facemodels))
