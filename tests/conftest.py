"""Fixtures of all tests.

A test that takes `device` runs on the CPU, and on CUDA where there is a device; pytest lists what it skipped (-rs).
Only torch, numpy and facerender are imported here: the tests of the operations run where nothing else is installed.
"""

import pytest
import torch

import facerender as fr


def pytest_collection_modifyitems(items):
    for item in items:
        if "cuda" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device here")
        if not fr.has_cuda_kernels():
            pytest.skip("facerender was built without CUDA")
    return torch.device(request.param)


@pytest.fixture
def cuda():
    if not (torch.cuda.is_available() and fr.has_cuda_kernels()):
        pytest.skip("needs a CUDA device and a CUDA build")
    return torch.device("cuda")


@pytest.fixture(scope="module")
def stub():
    """A method that needs no network (tests/stub_method.py)."""
    from tests.stub_method import StubMethod

    return StubMethod().eval()
