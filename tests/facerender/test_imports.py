"""What an import needs: torch and numpy alone. The command and mesh files say which package they miss."""

import importlib.metadata
import subprocess
import sys

import facerender as fr

OTHERS = ("PIL", "imageio", "networkx", "scipy", "skimage", "tqdm", "trimesh")


def run(program, *without):
    """Run a program in which some packages cannot be imported."""
    block = f"import sys\nfor name in {without!r}: sys.modules[name] = None\n"
    return subprocess.run([sys.executable, "-W", "error", "-c", block + program], capture_output=True, text=True)


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


def test_the_command_says_which_package_it_needs(tmp_path):
    mesh = tmp_path / "mesh.obj"
    mesh.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    for missing, words in (
        ("trimesh", "reading meshes needs trimesh. Run: pip install trimesh"),
        ("PIL", "reading meshes needs pillow. Run: pip install pillow"),
        ("imageio", "writing pictures needs imageio. Run: pip install imageio"),
        ("tqdm", "drawing a turntable needs tqdm. Run: pip install tqdm"),
    ):
        arguments = [str(mesh), "--size", "8", "--turntable", str(tmp_path / "turn.gif")]
        ran = run(f"from facerender.__main__ import main; sys.exit(main({arguments!r}))", missing)
        assert ran.returncode == 1
        assert ran.stderr == f"facerender: {words}\n"


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
