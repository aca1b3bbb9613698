"""Fixtures of the tests of 2DASL."""

import pytest

from facemodels.methods.dasl import (
    DASL,
)
from tests.methods.dasl.common import small


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A method as it begins."""
    method = DASL(small(tmp_path_factory.mktemp("run"), stage1=0)).eval()
    method.initialize()
    return method
