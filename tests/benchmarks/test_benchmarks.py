"""The benchmarks that need a GPU, as far as they can be tested without one."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu, kernels, plots, training, variants
from benchmarks.meshes import face_mesh

ROOT = Path(__file__).parents[2]
# Names of kernels, as a profiler prints them.
SHADE_BACKWARD = (
    "void facerender::(anonymous namespace)::shade_backward<float, float, (facerender::Mode)0, 10>"
    "(facerender::(anonymous namespace)::BatchView"
)
DRAW = "void facerender::draw<float, 512>(facerender::BatchMesh<float>, facerender::Visibility, unsigned int*, bool)"
ELEMENTWISE = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::{}<float>, std::array<char*, 1ul> >(int, ...)"
)


def test_every_case_of_the_kernels_runs():
    ops, triangles, covered = kernels.cases(300, 2, 24, torch.device("cpu"))
    assert triangles == 300 and 0.2 < covered < 0.6
    for name, (run, moved) in ops.items():
        found = run()
        found = [t for t in (found if isinstance(found, tuple) else (found,)) if isinstance(t, torch.Tensor)]
        assert found and all(t.numel() for t in found), name
        assert moved >= sum(t.numel() * t.element_size() for t in found) / 2, name


def test_every_variant_draws_the_same_surface():
    vertices, faces = face_mesh(2000)
    want = np.sort(vertices[faces].mean(1) @ [1.0, 10.0, 100.0])
    for name, (v, f) in variants.orders(vertices, faces).items():
        assert f.dtype == np.int32 and len(f) == len(faces)
        np.testing.assert_allclose(np.sort(v[f].mean(1) @ [1.0, 10.0, 100.0]), want, rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    "kernel, name",
    [
        (SHADE_BACKWARD, "shade_backward"),
        (DRAW, "draw"),
        ("Memset (Device)", "fill"),
        (ELEMENTWISE.format("FillFunctor"), "fill"),
    ],
)
def test_kernels_get_short_names(kernel, name):
    assert kernels.short(kernel) == name


def test_every_kernel_is_counted():
    """The list for Nsight Compute names the kernels of the sources."""
    import re

    text = "".join(p.read_text() for p in sorted((ROOT / "csrc/cuda").glob("*.cu*")) + [ROOT / "csrc/cuda/launch.h"])
    defined = set(re.findall(r"__global__ void(?:\s+__launch_bounds__\((?:[^()]|\([^()]*\))*\))?\s+(\w+)\(", text))
    assert {"draw", "shade", "resolve"} <= defined
    assert defined - set(gpu.KERNELS) == {
        "from_fixed",
        "sums_backward",
        "vertices_backward",
    }  # of the ordered sums, and of no hot path
    assert set(gpu.KERNELS) <= defined


def test_time_in_which_several_things_run_on_a_device_counts_once():
    assert training.covered([]) == 0
    assert training.covered([(5, 7), (0, 2), (1, 3), (1, 2), (7, 8), (10, 10)]) == 3 + 3


def test_a_trace_separates_the_renderer_from_other_kernels_and_work_from_waiting():
    ours, theirs = SHADE_BACKWARD, ELEMENTWISE.format("CUDAFunctor_add")
    events = [
        {"cat": "kernel", "name": ours, "ts": 0.0, "dur": 3000.0},
        {"cat": "kernel", "name": theirs, "ts": 2000.0, "dur": 3000.0},  # beside the first for a while
        {"cat": "gpu_memcpy", "name": "Memcpy HtoD (Pageable -> Device)", "ts": 8000.0, "dur": 1000.0},
        {"cat": "gpu_user_annotation", "name": "Optimizer.step#AdamW.step", "ts": 0.0, "dur": 20000.0},  # no work
        {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 0.0, "dur": 5.0},
        {"cat": "cuda_runtime", "name": "cudaStreamSynchronize", "ts": 9.0, "dur": 5.0},
        {"ph": "M", "name": "process_name", "ts": 0.0},
    ]
    found = training.on_device(events, 2, 4.0)
    assert found == {
        "busy_ms": 3.0,
        "idle_share": 0.25,
        "kernels_ms": 3.0,
        "facerender_ms": 1.5,
        "facerender_kernels_ms": {"shade_backward": 1.5},
        "launches": 1.5,
        "waits": 0.5,
    }
    for path in (ROOT / "csrc/cuda").glob("*.cu"):
        assert "namespace facerender" in path.read_text(), path  # by which its kernels are known


def test_a_report_on_a_gpu_has_the_table_of_device_times(capsys):
    run = {
        "method": "e2far",
        "preset": "gpu",
        "precision": "bfloat16",
        "batch": 256,
        "images_per_s": 9.0,
        "step_ms": 4.0,
        "parameters": 10**6,
        **{f"{p}_ms": 1.0 for p in training.PARTS},
    }
    run["on_device"] = training.on_device(
        [{"cat": "kernel", "name": "void facerender::draw<float>(int)", "ts": 0.0, "dur": 1000.0}], 1, 4.0
    )
    training.report(
        {
            "environment": {"device": "d", "date": "2026-01-01", "commit": "c", "torch": "t"},
            "runs": [run],
            "left_out": [],
        },
        torch.device("cuda"),
    )
    assert (
        "| e2far  | gpu    | 4.0       | 1.0      | 75.0 % | 100.0 %    | 1        | 0.0   | draw 1.00"
        in capsys.readouterr().out
    )


def test_the_steps_on_a_gpu_name_test_files_that_exist():
    steps = gpu.steps_of(argparse.Namespace(output=ROOT / "nowhere", quick=False))
    assert list(steps)[:4] == ["build", "kernels", "variants", "cuda-tests"] and list(steps)[-1] == "tests"
    for path in [*gpu.CUDA_TESTS, *gpu.SANITIZED]:
        assert (ROOT / path).is_file()


@pytest.mark.parametrize("module", [gpu, kernels, variants], ids=["gpu", "kernels", "variants"])
def test_without_a_gpu_benchmarks_for_one_exit_with_a_message(module, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # for the process in which benchmarks.gpu asks torch
    with pytest.raises(SystemExit) as stopped:
        sys.exit(module.main([]))
    assert stopped.value.code  # 2, or a sentence that Python prints
    assert "CUDA device" in f"{stopped.value.code} {capsys.readouterr().err}"


def test_a_plot_shows_every_renderer(tmp_path):
    import json

    rows = [
        {
            "triangles": t,
            "pixels": s,
            "pass": p,
            "batch": 64,
            "ms": {"render_face": s * t / 1e6, "DRTK": s * t / 2e5} | ({"pytorch3d": 900.0} if s == 112 else {}),
        }
        for t in (5000, 18000)
        for s in (112, 224)
        for p in ("forward", "backward")
    ]
    (tmp_path / "r.json").write_text(
        json.dumps({"peers": rows, "environment": {"device": "d", "date": "2026-01-01", "commit": "c", "torch": "t"}})
    )
    import imageio.v3 as iio

    image = iio.imread(plots.main([str(tmp_path / "r.json")]))
    for name in ("render_face", "DRTK", "pytorch3d"):
        assert (image.reshape(-1, 3) == plots.COLORS[name]).all(1).sum() > 100, name
    assert image.shape[1] > 2 * plots.PANEL[0]  # a column for each mesh
