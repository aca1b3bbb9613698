"""What is built, and what an import says when it is not."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import facerender as fr

ROOT = Path(__file__).parents[2]


def test_build_info_tells_what_was_built():
    info = fr.build_info()
    assert set(info) == {"version", "torch", "cuda", "archs", "sanitize", "commit", "cuda_kernels", "cpu_level"}
    assert info["cuda_kernels"] == (info["cuda"] is not None)
    assert info["version"] == fr.__version__
    assert info["cpu_level"] in ("baseline", "x86-64-v3", "x86-64-v4")


def library() -> Path:
    return next(Path(fr.__file__).parent.glob("_C*.so"))


def test_the_library_asks_for_no_symbol_outside_the_stable_abi():
    if shutil.which("nm") is None:
        pytest.skip("nm is not on the path")
    names = subprocess.run(
        ["nm", "-D", "--undefined-only", "-C", str(library())], capture_output=True, text=True, check=True
    ).stdout
    assert "aoti_torch" in names or "torch_" in names  # it does ask for something
    assert [line for line in names.splitlines() if "at::" in line or "c10::" in line or "torch::" in line] == []


def test_the_library_needs_nothing_of_python_but_its_module_function():
    """So that one library serves every Python: it is built under the limited API."""
    if shutil.which("nm") is None:
        pytest.skip("nm is not on the path")
    assert library().name == "_C.abi3.so"
    names = subprocess.run(["nm", "-D", "--undefined-only", str(library())], capture_output=True, text=True, check=True)
    python = [line.split()[-1] for line in names.stdout.splitlines() if line.split()[-1].startswith(("Py", "_Py"))]
    assert python == ["PyModule_Create2"]


def test_the_ops_need_torch_and_numpy_alone():
    """The modules that an import and a call load, outside the standard library, torch and what torch requires."""
    program = """
import sys, torch, numpy
before = set(sys.modules)
import facerender as fr
faces = torch.tensor([[0, 1, 2]], dtype=torch.int32)
fr.rasterize(torch.rand(1, 3, 4), fr.Topology(faces, 3), (4, 4))
loaded = {name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(*sorted(loaded - {"torch", "numpy"}))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["facerender"]


@pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="the source tree is not here")
@pytest.mark.parametrize("question", [["--version"], ["egg_info", "-e", "."], ["-q", "sdist"]])
def test_setup_py_asked_for_metadata_needs_no_torch_and_leaves_the_source_tree_alone(tmp_path, question):
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    for package in ("facerender", "facemodels/weights/dasl-aflw", "facemodels/weights/face-check"):
        (tmp_path / package).mkdir(parents=True)
    (tmp_path / "facerender" / "__init__.py").touch()
    for name in ("dasl-aflw", "face-check"):
        shutil.copy(ROOT / f"facemodels/weights/{name}/LICENSE", tmp_path / f"facemodels/weights/{name}")
    before = sorted(tmp_path.rglob("*"))
    program = "import sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; exec(open('setup.py').read())"
    run = subprocess.run(
        [sys.executable, "-c", f"__file__ = {str(tmp_path / 'setup.py')!r}; {program}", "setup.py", *question],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    made = [p.relative_to(tmp_path).parts[0] for p in sorted(tmp_path.rglob("*")) if p not in before]
    assert set(made) <= {"facerender.egg-info", "dist"}
    if question == ["--version"]:
        assert made == [] and run.stdout.split() == [fr.__version__]


def run_in_copy(tmp_path, prepare, program="import facerender"):
    package = tmp_path / "facerender"
    shutil.copytree(Path(fr.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    prepare(package)
    # An editable install would find the real package's modules beside the copy.
    alone = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
    return subprocess.run([sys.executable, "-c", alone + program], cwd=tmp_path, capture_output=True, text=True)


def test_an_import_without_the_library_says_which_command_builds_it(tmp_path):
    run = run_in_copy(tmp_path, lambda p: [f.unlink() for f in p.glob("_C*.so")])
    last = run.stderr.strip().splitlines()[-1]
    assert "facerender is not built" in last and "pip install --no-build-isolation" in last


def test_an_import_under_an_old_torch_says_so(tmp_path):
    run = run_in_copy(tmp_path, lambda p: None, "import torch; torch.__version__ = '2.9.1'; import facerender")
    last = run.stderr.strip().splitlines()[-1]
    assert "needs torch 2.11 or newer, and this is torch 2.9.1" in last and "pip install --upgrade torch" in last


def test_an_import_without_cuda_libraries_says_so(tmp_path):
    """Stood in for by a library that cannot be loaded for want of libtorch_cuda.so."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")

    def break_it(package):
        target = next(package.glob("_C*.so"))
        target.unlink()
        stub = tmp_path / "stub"
        stub.mkdir()
        (stub / "empty.cpp").write_text("")
        subprocess.run(["g++", "-shared", "-o", str(stub / "libtorch_cuda.so"), str(stub / "empty.cpp")], check=True)
        subprocess.run(
            [
                "g++",
                "-shared",
                "-o",
                str(target),
                str(stub / "empty.cpp"),
                "-Wl,--no-as-needed",
                f"-L{stub}",
                "-ltorch_cuda",
            ],
            check=True,
        )
        shutil.rmtree(stub)
        build = package / "_build.py"
        text, count = re.subn(r"""(['"]cuda['"]: )None""", r"\1'13.0'", build.read_text())
        assert count == 1
        build.write_text(text)

    if torch.version.cuda is not None:
        pytest.skip("this torch has the CUDA libraries")
    run = run_in_copy(tmp_path, break_it)
    last = run.stderr.strip().splitlines()[-1]
    assert (
        "was built with CUDA 13.0, and its CUDA libraries are missing here" in last
        and "FACERENDER_CUDA=0 pip install" in last
    )


@pytest.mark.gpu
def test_a_cuda_tensor_on_a_cpu_build_gets_a_clear_sentence(monkeypatch):
    if not torch.cuda.is_available() or fr.has_cuda_kernels():
        pytest.skip("needs a CUDA device and a build without CUDA")
    with pytest.raises(RuntimeError, match="was built without CUDA"):
        fr.rasterize(torch.zeros(1, 3, 4, device="cuda"), torch.zeros(1, 3, dtype=torch.int32, device="cuda"), (4, 4))


def test_every_public_name_has_a_docstring():
    for name in fr.__all__:
        assert getattr(fr, name).__doc__, name
