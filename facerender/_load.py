"""Loads the compiled ops, or names the one command that fixes the failure."""

import importlib
import importlib.metadata
import importlib.util
from typing import Any

import torch

REBUILD = "pip install --no-build-isolation --force-reinstall --no-deps -e ."


def load() -> None:
    """Load the compiled library, which registers the ops.

    Raises:
        ImportError: torch is too old, or the library is missing or does not load with this torch.
    """
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 11):
        raise ImportError(
            f"facerender needs torch 2.11 or newer, and this is torch {torch.__version__}. "
            "Run: pip install --upgrade torch"
        )
    if importlib.util.find_spec("facerender._C") is None:
        raise ImportError(
            f"facerender is not built: its folder holds no compiled library. Run, where setup.py is: {REBUILD}"
        )
    try:
        importlib.import_module("facerender._C")  # which registers the ops
    except ImportError as error:
        from ._build import FACTS

        cause = str(error)
        if FACTS["cuda"] and ("libcuda" in cause or "libtorch_cuda" in cause or "libc10_cuda" in cause):
            raise ImportError(
                f"facerender was built with CUDA {FACTS['cuda']}, and its CUDA libraries are missing here: "
                f"torch {torch.__version__} has CUDA {torch.version.cuda} ({error}). Run: FACERENDER_CUDA=0 {REBUILD}"
            ) from error
        raise ImportError(
            f"facerender was built with torch {FACTS['torch']} and does not load with torch {torch.__version__} "
            f"({error}). Run: {REBUILD}"
        ) from error


def has_cuda_kernels() -> bool:
    """Whether this build can render CUDA tensors."""
    return torch._C._dispatch_has_kernel_for_dispatch_key("facerender::rasterize", "CUDA")


def build_info() -> dict[str, Any]:
    """Return what the compiled library was built from and what it can run.

    Returns:
        A dictionary: ``version``; ``torch`` and ``cuda``, the versions at build time (``cuda`` is None for a CPU
        build); ``archs``, the GPU architectures; ``sanitize``; ``commit``; ``cuda_kernels``, whether CUDA tensors can
        be rendered; ``cpu_level``, the instruction set that the CPU kernels use here.
    """
    from ._build import FACTS

    level = torch.ops.facerender.cpu_level()
    cpu_level = f"x86-64-v{level}" if level else "baseline"
    return {**FACTS, "cuda_kernels": has_cuda_kernels(), "cpu_level": cpu_level}


def installed_version() -> str:
    """Return the version of the installed distribution, or of the build where the package is not installed."""
    try:
        return importlib.metadata.version("facerender")
    except importlib.metadata.PackageNotFoundError:
        from ._build import FACTS

        return str(FACTS.get("version", "unknown"))
