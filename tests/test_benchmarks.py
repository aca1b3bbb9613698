"""What can be shown without a GPU of the benchmarks that need one."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, kernels

ROOT = Path(__file__).parents[1]


def test_every_case_of_the_kernels_runs():
    ops, covered = kernels.cases(300, 2, 24, torch.device("cpu"))
    assert 0.2 < covered < 0.6
    for name, (run, moved) in ops.items():
        found = run()
        found = [t for t in (found if isinstance(found, tuple) else (found,)) if isinstance(t, torch.Tensor)]
        assert found and all(t.numel() for t in found), name
        assert moved >= sum(t.numel() * t.element_size() for t in found) / 2, name


@pytest.mark.parametrize("kernel, name", [
    ("void facerender::(anonymous namespace)::shade_backward<float, float, (facerender::Mode)0, 10>(facerender::(anonymous namespace)::BatchView", "shade_backward"),
    ("void facerender::draw<float, 512>(facerender::BatchMesh<float>, facerender::Visibility, unsigned int*, bool)", "draw"),
    ("Memset (Device)", "fill"),
    ("void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>, std::array<char*, 1ul> >(int, ...)", "fill"),
])  # fmt: skip
def test_kernels_get_short_names(kernel, name):
    assert kernels.short(kernel) == name


def test_every_kernel_is_counted():
    """The list for Nsight Compute names the kernels of the sources."""
    import re

    text = "".join(p.read_text() for p in sorted((ROOT / "csrc/cuda").glob("*.cu*")) + [ROOT / "csrc/cuda/launch.h"])
    defined = set(re.findall(r"__global__ void(?:\s+__launch_bounds__\((?:[^()]|\([^()]*\))*\))?\s+(\w+)\(", text))
    assert {"draw", "shade", "resolve"} <= defined
    assert defined - set(gpu.KERNELS) == {"from_fixed", "sums_backward", "vertices_backward"}  # of the ordered sums, and of no hot path
    assert set(gpu.KERNELS) <= defined


def test_the_steps_on_a_gpu_name_what_is_there():
    steps = gpu.steps_of(argparse.Namespace(output=ROOT / "nowhere", quick=False))
    assert list(steps)[:3] == ["build", "kernels", "cuda-tests"] and list(steps)[-1] == "tests"
    for path in [*gpu.CUDA_TESTS, *gpu.SANITIZED]:
        assert (ROOT / path).is_file()


def test_without_a_gpu_they_say_so():
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    for module in ("gpu", "kernels"):
        run = subprocess.run([sys.executable, "-m", f"benchmarks.{module}"], cwd=ROOT, capture_output=True, text=True)
        assert run.returncode and "CUDA device" in run.stderr and "Traceback" not in run.stderr
