"""What an import needs: torch and numpy alone. The command and mesh files say which package they miss."""

import importlib.metadata
import subprocess
import sys

import facerender as fr

OTHERS = ("DracoPy", "PIL", "imageio", "networkx", "scipy", "skimage", "tqdm", "trimesh")


def run(program, *without, arguments=()):
    """Run a program in which some packages cannot be imported."""
    block = f"import sys\nfor name in {without!r}: sys.modules[name] = None\n"
    command = [sys.executable, "-W", "error", "-c", block + program, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_renderer_needs_torch_and_numpy_alone():
    program = (
        "import torch, facerender, facerender.meshes, facerender.reference, facerender.__main__\n"
        "print(facerender.Topology(torch.tensor([[0, 1, 2]]).int(), 3))"
    )
    ran = run(program, *(name for name in OTHERS if name != "networkx"))  # torch itself imports networkx
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "Topology(F=1, V=3, device=cpu)"


def test_the_import_brings_no_package_along_that_torch_does_not():
    program = (
        "import numpy, torch\n"
        "def packages(): return {name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "before = packages()\n"
        "import facerender\n"
        "print(packages() - before)"
    )
    ran = run(program)
    assert ran.stdout.strip() == "{'facerender'}", ran.stdout + ran.stderr


MISSING = """
import os, torch, warnings
import facerender

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
for missing in sys.argv[3:]:
    child = os.fork()  # with torch imported
    if child == 0:
        sys.modules[missing] = None
        from facerender.__main__ import main
        code = main([sys.argv[1], "--size", "8", "--turntable", sys.argv[2]])
        sys.stderr.flush()
        os._exit(code)
    print("exit code", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr, flush=True)
"""


def test_the_command_says_which_package_it_needs(tmp_path):
    mesh = tmp_path / "mesh.obj"
    mesh.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    wanted = {
        "PIL": "writing pictures needs pillow. Run: pip install pillow",
        "imageio": "writing pictures needs imageio. Run: pip install imageio",
        "tqdm": "drawing a turntable needs tqdm. Run: pip install tqdm",
    }
    ran = run(MISSING, arguments=[str(mesh), str(tmp_path / "turn.gif"), *wanted])
    assert ran.returncode == 0
    assert ran.stderr == "".join(f"facerender: {words}\nexit code 1\n" for words in wanted.values())


def test_the_version_is_that_of_the_distribution():
    assert fr.__version__ == importlib.metadata.version("facerender")


def test_without_a_distribution_the_version_is_that_of_the_build():
    program = (
        "import importlib.metadata\n"
        "def version(name): raise importlib.metadata.PackageNotFoundError(name)\n"
        "importlib.metadata.version = version\n"
        "import facerender\n"
        "print(facerender.__version__ == facerender.build_info()['version'])"
    )
    ran = run(program)
    assert ran.stdout.strip() == "True", ran.stderr
