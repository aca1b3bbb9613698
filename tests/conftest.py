"""Fixtures of all tests.

A test that takes `device` runs on the CPU, and on CUDA where there is a device; pytest lists what it skipped (-rs).
Only torch, numpy and facerender are imported here: the tests of the operations run where nothing else is installed.
"""

import fcntl
import os
import shutil

import pytest
import torch

import facerender as fr


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "cuda" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.gpu)
    if hasattr(
        config, "workerinput"
    ):  # in parallel: long tests first, so that all processes end at about the same time
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A function (name, make): returns a folder that make(folder) fills once for all processes of a parallel run."""

    def shared(name, make):
        root = tmp_path_factory.getbasetemp()
        root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
        folder, done = root / name, root / f"{name}.done"
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return shared


@pytest.fixture(scope="module")
def stub():
    """A method that needs no network (tests/stub_method.py)."""
    from tests.stub_method import StubMethod

    return StubMethod().eval()
