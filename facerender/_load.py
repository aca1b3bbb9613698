"""Loads the compiled ops, or says which one command would mend that."""

import importlib.util

import torch

REBUILD = "pip install --no-build-isolation --force-reinstall --no-deps -e ."


def load():
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 11):
        raise ImportError(f"facerender needs torch 2.11 or newer, and this is torch {torch.__version__}. Run: pip install --upgrade torch")
    if importlib.util.find_spec("facerender._C") is None:
        raise ImportError(f"facerender is not built: its folder holds no compiled library. Run, where setup.py is: {REBUILD}")
    try:
        from . import _C  # noqa: F401
    except ImportError as error:
        from ._build import FACTS

        if FACTS["cuda"] and ("libcuda" in str(error) or "libtorch_cuda" in str(error) or "libc10_cuda" in str(error)):
            raise ImportError(
                f"facerender was built with CUDA {FACTS['cuda']}, and its CUDA libraries are missing here: torch {torch.__version__} has CUDA "
                f"{torch.version.cuda} ({error}). Run: FACERENDER_CUDA=0 {REBUILD}"
            ) from error
        raise ImportError(f"facerender was built with torch {FACTS['torch']} and does not load with torch {torch.__version__} ({error}). Run: {REBUILD}") from error


def has_cuda_kernels() -> bool:
    """Whether this build can render CUDA tensors."""
    return torch._C._dispatch_has_kernel_for_dispatch_key("facerender::rasterize", "CUDA")


def build_info() -> dict:
    """What the compiled library was built from and what it can run.

    Keys: ``torch`` and ``cuda`` (versions at build time, ``cuda`` None for a CPU build), ``archs``, ``sanitize``, ``commit``,
    ``cuda_kernels`` (whether CUDA tensors can be rendered), ``cpu_level`` (the instruction set that the CPU kernels use here).
    """
    from . import _host
    from ._build import FACTS

    return {**FACTS, "cuda_kernels": has_cuda_kernels(), "cpu_level": _host.cpu_level()}
