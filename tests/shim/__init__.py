"""Builds the CUDA sources as C++ against cuda_shim.h, as ops of the library ``facerender_shim``.

The library is kept in build/shim, under a digest of what it is built from, so that it is built once for all processes.
"""

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
HEADER = Path(__file__).parent / "cuda_shim.h"
TORCH = Path(torch.__file__).parent
FLAGS = [
    "-O1", "-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-w",
    "-DTORCH_TARGET_VERSION=0x020b000000000000", "-DFACERENDER_LIBRARY=facerender_shim",
    f'-DFACERENDER_SHIM="{HEADER}"', "-DPy_LIMITED_API=0x030A0000",
    f"-I{TORCH / 'include'}", f"-I{sysconfig.get_paths()['include']}",
]  # fmt: skip


@functools.cache
def load():
    """Return torch.ops.facerender_shim, whose ops take CPU tensors and run the CUDA kernels thread by thread."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise FileNotFoundError("g++")
    kept = ROOT / "build" / "shim"
    kept.mkdir(parents=True, exist_ok=True)
    library = kept / f"{digest(compiler)}.so"
    with open(kept / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other processes wait for the one that builds
        if not library.exists():
            for old in kept.glob("*.so"):
                old.unlink()
            with tempfile.TemporaryDirectory(dir=kept) as out:
                os.replace(build(compiler, Path(out)), library)
    torch.ops.load_library(str(library))
    return torch.ops.facerender_shim


def digest(compiler):
    """A digest of all that the library depends on."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    found = hashlib.sha256("\n".join([version, torch.__version__, *FLAGS]).encode())
    for path in [Path(__file__), HEADER, *sorted(p for p in (ROOT / "csrc").rglob("*") if p.is_file())]:
        found.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def build(compiler, out):
    """Return the path of the library, built in the folder out."""

    def compile_one(source):
        target = out / (source.stem + ".o")
        run = subprocess.run(
            [compiler, *FLAGS, "-x", "c++", "-c", str(source), "-o", str(target)], capture_output=True, text=True
        )
        if run.returncode:
            raise RuntimeError(f"{source.name} does not compile against cuda_shim.h:\n{run.stderr[-3000:]}")
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, [ROOT / "csrc/ops.cpp", *sorted((ROOT / "csrc/cuda").glob("*.cu"))]))
    library = out / "facerender_shim.so"
    subprocess.run([compiler, "-shared", "-o", str(library), *objects, f"-L{TORCH / 'lib'}", "-ltorch_cpu"], check=True)
    return library
