"""A face that the stub method reconstructed."""

import pytest

import facemodels
from tests.stub_method import ramps


@pytest.fixture(scope="module")
def face(stub):
    return facemodels.reconstruct(ramps(), stub, boxes=[(110, 60, 210, 190)])[0]
