"""Every test that takes `device` runs on the CPU, and on CUDA where there is one; pytest lists the skips at the end (-rs)."""

import pytest
import torch

import facerender as fr


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(params=["cpu", "cuda"])
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
