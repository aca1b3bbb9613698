"""Builds the CUDA sources as C++ against cuda_shim.h, once per session, as ops of the library ``facerender_shim``."""

import functools
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]


@functools.cache
def load():
    """Return torch.ops.facerender_shim, whose ops take CPU tensors and run the CUDA kernels thread by thread."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise FileNotFoundError("g++")
    torch_dir = Path(torch.__file__).parent
    out = Path(tempfile.mkdtemp(prefix="facerender_shim_"))
    flags = [
        "-O1", "-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-w",
        "-DTORCH_TARGET_VERSION=0x020b000000000000", "-DFACERENDER_LIBRARY=facerender_shim",
        f'-DFACERENDER_SHIM="{Path(__file__).parent / "cuda_shim.h"}"', "-DPy_LIMITED_API=0x030A0000",
        f"-I{torch_dir / 'include'}", f"-I{__import__('sysconfig').get_paths()['include']}",
    ]  # fmt: skip

    def compile_one(source):
        target = out / (source.stem + ".o")
        run = subprocess.run(
            [compiler, *flags, "-x", "c++", "-c", str(source), "-o", str(target)], capture_output=True, text=True
        )
        if run.returncode:
            raise RuntimeError(f"{source.name} does not compile against cuda_shim.h:\n{run.stderr[-3000:]}")
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, [ROOT / "csrc/ops.cpp", *sorted((ROOT / "csrc/cuda").glob("*.cu"))]))
    library = out / "facerender_shim.so"
    subprocess.run(
        [compiler, "-shared", "-o", str(library), *objects, f"-L{torch_dir / 'lib'}", "-ltorch_cpu"], check=True
    )
    torch.ops.load_library(str(library))
    shutil.rmtree(out)
    return torch.ops.facerender_shim
