"""Tries an installed package, or looks into a wheel; .ci/packages runs it.

python try_package.py facerender        the ops alone, where torch and numpy are all that is installed
python try_package.py facemodels        with the extra "models"
python try_package.py contents WHEEL    what a wheel must hold, and must not
"""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path


def facerender() -> None:
    """A triangle, its gradients, the metadata; and facemodels, which names what it misses."""
    import torch

    import facerender as fr

    inside(Path(fr.__file__))
    for name in ("scipy", "imageio", "safetensors", "tqdm"):
        assert importlib.util.find_spec(name) is None, f"{name} is installed, so this shows nothing"
    clip = torch.tensor([[[-0.9, -0.9, 0.0, 1.0], [0.9, -0.9, 0.0, 1.0], [0.0, 0.9, 0.0, 1.0]]], requires_grad=True)
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    albedo = torch.eye(3)[None].requires_grad_()
    topology = fr.Topology(faces, 3)
    fragments = fr.rasterize(clip, topology, (32, 32))
    image = fr.interpolate(albedo, topology, fragments)
    image = fr.edge_gradients(image, fragments, clip, topology)
    image.square().sum().backward()
    covered = (fragments.face_id >= 0).sum().item()
    assert 300 < covered < 512, covered
    assert torch.allclose(image.sum(-1)[fragments.face_id >= 0], torch.ones(covered))
    assert clip.grad.abs().sum() > 0 and albedo.grad.abs().sum() > 0
    assert fr.__version__ == fr.build_info()["version"], (fr.__version__, fr.build_info())
    run = subprocess.run([Path(sys.executable).with_name("facemodels"), "doctor"], capture_output=True, text=True)
    assert run.returncode != 0 and "Traceback" not in run.stderr, run.stderr
    assert len(run.stderr.strip().splitlines()) == 1 and "pip install" in run.stderr, run.stderr
    print(
        f"facerender {fr.__version__} on torch {torch.__version__}, Python {sys.version.split()[0]}: {covered} pixels"
    )
    print(run.stderr.strip())


def facemodels() -> None:
    """The data that ships: the models, the weights, the viewer."""
    import facemodels as fm

    inside(Path(fm.__file__))
    model = fm.load_model("builtin")
    for name in ("dasl-aflw", "pgn", "dasl", "e2far", "cycle"):
        fm.load_method(name)
    command = [Path(sys.executable).with_name("facemodels"), "sheet", "-o", "faces.png", "--viewer", "viewer.html"]
    subprocess.run([*command, "--count", "2", "--size", "64"], check=True)
    print(f"facemodels: {model.num_identity} identities, five weight files, a sheet and a viewer")


def inside(path: Path) -> None:
    """The package comes from the environment, not from a source tree beside it."""
    assert path.is_relative_to(sys.prefix), f"{path} is not in {sys.prefix}"


def contents(wheel: str) -> None:
    """The files of a wheel and its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
        metadata = archive.read(f"{info}/METADATA").decode()
    wanted = ["facerender/_C.abi3.so", "facerender/_build.py", "facerender/py.typed", "facemodels/py.typed"]
    wanted += [f"facemodels/export/viewer.{kind}" for kind in ("html", "css", "js")]
    for weights in ("dasl-aflw", "pgn", "dasl", "e2far", "cycle"):
        wanted += [
            f"facemodels/weights/{weights}/{name}" for name in ("weights.safetensors", "config.json", "README.md")
        ]
    wanted += [f"{info}/licenses/LICENSE", f"{info}/licenses/facemodels/weights/dasl-aflw/LICENSE"]
    wanted += ["facemodels/weights/face-check/face_check.safetensors"]
    wanted += [f"{info}/licenses/facemodels/weights/face-check/LICENSE"]
    missing = sorted(set(wanted) - set(names))
    assert not missing, f"the wheel lacks {missing}"
    strange = [name for name in names if name.split("/")[0] not in ("facerender", "facemodels", info)]
    strange += [name for name in names if name.endswith((".cpp", ".h", ".cu", ".pyc"))]
    assert not strange, f"the wheel holds {strange}"
    requires = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert requires == ["Requires-Dist: torch>=2.11", "Requires-Dist: numpy"], requires
    assert "License-Expression: MIT AND LicenseRef-Research-Only" in metadata
    print(f"{len(names)} files; base requirements: torch, numpy")


if __name__ == "__main__":
    {"facerender": facerender, "facemodels": facemodels, "contents": contents}[sys.argv[1]](*sys.argv[2:])
