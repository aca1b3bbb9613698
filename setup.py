"""Builds facerender._C (the ops, on LibTorch's stable ABI) and facerender._host (host-side helpers, pybind11).

FACERENDER_CUDA=0 never builds the CUDA kernels, =1 insists on them; unset, they are built where torch has CUDA and nvcc is
found, whether or not a GPU is present. FACERENDER_SANITIZE=1 builds with AddressSanitizer and UndefinedBehaviorSanitizer.
"""

import os
import subprocess
from pathlib import Path

from setuptools import setup

try:
    import pybind11
    import torch
    from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension
except ImportError as error:
    raise SystemExit(
        f"facerender builds against the torch that will run it, and {error.name} is not installed here. "
        "Run: pip install torch pybind11 ninja setuptools && pip install --no-build-isolation -e ."
    ) from None

if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < (2, 11):
    raise SystemExit(f"facerender needs torch 2.11 or newer, and this is {torch.__version__}. Run: pip install --upgrade torch")

wanted = os.environ.get("FACERENDER_CUDA")
possible = torch.version.cuda is not None and CUDA_HOME is not None
if wanted == "1" and not possible:
    raise SystemExit(
        f"FACERENDER_CUDA=1 needs a CUDA build of torch (this one is {torch.__version__}) and nvcc (CUDA_HOME is {CUDA_HOME}). "
        "Install both, or leave FACERENDER_CUDA unset for a CPU build."
    )
cuda = possible and wanted != "0"
sanitize = os.environ.get("FACERENDER_SANITIZE") == "1"
if cuda and torch.cuda.device_count() == 0:  # with a GPU, torch builds for that one
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "7.5;8.0;8.6;8.9;9.0;10.0+PTX")

abi = ["-DTORCH_TARGET_VERSION=0x020b000000000000"]
exact = ["-ffp-contract=off", "-fno-math-errno"]
sanitizers = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-DFACERENDER_SANITIZE"] if sanitize else []
optimise = ["-O1", "-g"] if sanitize else ["-O3", "-g0"]
cxx = ["-Wall", "-Wno-psabi", "-Wno-maybe-uninitialized", *optimise, *exact, *sanitizers, *abi] + ["-DUSE_CUDA"] * cuda
nvcc = ["-O3", "-lineinfo", "--fmad=false", "-DUSE_CUDA", *abi]

root = Path(__file__).parent
sources = sorted(str(p.relative_to(root)) for p in [*root.glob("csrc/ops.cpp"), *root.glob("csrc/cpu/**/*.cpp")])
if cuda:
    sources += sorted(str(p.relative_to(root)) for p in root.glob("csrc/cuda/*.cu"))


def commit() -> str:
    run = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True)
    return run.stdout.strip() or "unknown"


facts = {
    "torch": torch.__version__,
    "cuda": torch.version.cuda if cuda else None,
    "archs": os.environ.get("TORCH_CUDA_ARCH_LIST", "the GPUs of the machine that built it") if cuda else None,
    "sanitize": sanitize,
    "commit": commit(),
}
(root / "facerender" / "_build.py").write_text(f'"""Written by setup.py: what the compiled library was built from."""\n\nFACTS = {facts!r}\n')
print(f"facerender: torch {torch.__version__}, CUDA {'on, ' + torch.version.cuda if cuda else 'off'}{', sanitizers on' if sanitize else ''}")

setup(
    ext_modules=[
        (CUDAExtension if cuda else CppExtension)(
            "facerender._C",
            sources,
            extra_compile_args={"cxx": cxx, "nvcc": nvcc},
            extra_link_args=sanitizers[:1],
            py_limited_api=True,
        ),
        CppExtension(
            "facerender._host",
            ["csrc/host.cpp"],
            include_dirs=[pybind11.get_include()],
            extra_compile_args={"cxx": ["-Wall", *optimise, *sanitizers]},
            extra_link_args=sanitizers[:1],
        ),
    ],
    cmdclass={"build_ext": BuildExtension},
)
