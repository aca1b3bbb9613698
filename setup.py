"""Builds facerender._C: the ops, on LibTorch's stable ABI. Everything else about the package is in pyproject.toml.

FACERENDER_CUDA=0 never builds the CUDA kernels, =1 insists on them; unset, they are built where torch has CUDA and nvcc
is found, whether or not a GPU is present. FACERENDER_SANITIZE=1 builds with AddressSanitizer and
UndefinedBehaviorSanitizer.

One wheel serves every Python from 3.10 on and every torch from 2.11 on. The library needs Python.h for its module
function alone, under the limited API. Everything else is registered with torch's dispatcher, the helpers that run on
the host too: pybind11 (3.1) does not support the limited API, and nanobind supports it from Python 3.12 on.

Asked for metadata or an sdist, setup.py neither imports torch nor writes anything. When the library is built, it writes
facerender/_build.py for facerender.build_info(): into the build folder, or, for an editable install, into the source
tree.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
OLDEST_TORCH = (2, 11)
TORCH_TARGET_VERSION = "0x020b000000000000"  # the oldest torch again, as its headers spell it
CUDA_ARCHS = "7.5;8.0;8.6;8.9;9.0;10.0+PTX"  # built where no GPU is present; with one, torch builds for that one


def find(*patterns: str) -> list[str]:
    """Return the sources under csrc that match, relative to setup.py and sorted."""
    return sorted(path.relative_to(ROOT).as_posix() for pattern in patterns for path in (ROOT / "csrc").glob(pattern))


CPU_SOURCES = find("*.cpp", "cpu/**/*.cpp")
CUDA_SOURCES = find("cuda/*.cu")


def commit() -> str:
    """Return the commit that is built, "unknown" outside a checkout."""
    try:
        run = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return run.stdout.strip() or "unknown"


class BuildOps(build_ext):
    """Hands the library to torch's own build_ext, which knows torch's headers, nvcc and ninja."""

    def run(self) -> None:
        try:
            import torch
            from torch.utils import cpp_extension
        except ImportError as error:
            raise SystemExit(
                f"facerender is built with torch, and {error.name} is not installed here. "
                "Run: pip install torch ninja setuptools && pip install --no-build-isolation ."
            ) from None
        if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < OLDEST_TORCH:
            raise SystemExit(
                f"facerender needs torch 2.11 or newer, and this is torch {torch.__version__}. "
                "Run: pip install --upgrade torch"
            )
        wanted, toolkit = os.environ.get("FACERENDER_CUDA"), cpp_extension.CUDA_HOME
        possible = torch.version.cuda is not None and toolkit is not None
        if wanted == "1" and not possible:
            raise SystemExit(
                f"FACERENDER_CUDA=1 needs a CUDA build of torch (this one is {torch.__version__}) and nvcc (CUDA_HOME "
                f"is {toolkit}). Install both, or leave FACERENDER_CUDA unset for a CPU build."
            )
        cuda = possible and wanted != "0"
        sanitize = os.environ.get("FACERENDER_SANITIZE") == "1"
        if cuda and torch.cuda.device_count() == 0:
            os.environ.setdefault("TORCH_CUDA_ARCH_LIST", CUDA_ARCHS)
        with_cuda = f"CUDA {torch.version.cuda}" if cuda else "no CUDA"
        print(f"facerender: torch {torch.__version__}, {with_cuda}{', sanitizers' if sanitize else ''}")

        self.distribution.ext_modules = [library(cpp_extension, cuda, sanitize)]
        builder = cpp_extension.BuildExtension(self.distribution)
        for option in ("build_lib", "build_temp", "inplace", "editable_mode", "debug", "force", "parallel", "verbose"):
            setattr(builder, option, getattr(self, option))
        builder.ensure_finalized()
        builder.run()

        facts = {
            "version": self.distribution.get_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda if cuda else None,
            "archs": os.environ.get("TORCH_CUDA_ARCH_LIST", "the GPUs of the machine that built it") if cuda else None,
            "sanitize": sanitize,
            "commit": commit(),
        }
        text = f'"""Written by setup.py: what the compiled library was built from."""\n\nFACTS = {facts!r}\n'
        self.facts_path(ROOT if self.inplace else Path(self.build_lib)).write_text(text)

    def facts_path(self, place: Path) -> Path:
        return place / "facerender" / "_build.py"

    def get_outputs(self) -> list[str]:
        return [*super().get_outputs(), *([] if self.inplace else [str(self.facts_path(Path(self.build_lib)))])]


def library(cpp_extension, cuda: bool, sanitize: bool) -> Extension:
    """Describe facerender._C to torch's build_ext, `cpp_extension` being torch.utils.cpp_extension."""
    abi = [f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}"]
    # The same bits on every machine: no fused multiply-add but those that the source spells out.
    exact = ["-ffp-contract=off", "-fno-math-errno"]
    optimize = ["-O1", "-g"] if sanitize else ["-O3", "-g0"]
    sanitizers = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-DFACERENDER_SANITIZE"] * sanitize
    use_cuda = ["-DUSE_CUDA"] * cuda
    cxx = ["-Wall", "-Wno-psabi", "-Wno-maybe-uninitialized", *optimize, *exact, *sanitizers, *abi, *use_cuda]
    nvcc = ["-O3", "-lineinfo", "--fmad=false", *use_cuda, *abi]
    return (cpp_extension.CUDAExtension if cuda else cpp_extension.CppExtension)(
        "facerender._C",
        CPU_SOURCES + CUDA_SOURCES * cuda,
        extra_compile_args={"cxx": cxx, "nvcc": nvcc},
        extra_link_args=sanitizers[:1],
        py_limited_api=True,
    )


# This extension stands for the library in metadata and in the sdist; BuildOps builds the one that `library` describes.
setup(
    ext_modules=[Extension("facerender._C", CPU_SOURCES, py_limited_api=True)],
    cmdclass={"build_ext": BuildOps},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
