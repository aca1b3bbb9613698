"""What `benchmarks.fuzz` damages of numbers: landmarks, boxes, coefficients and models; and the commands."""

import functools
import importlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[Path, Path], int]  # (the file, a folder for results) -> exit code
HALF_WRITTEN = 3  # an exit code that no command has: 1, and yet there is a result
_WRITERS = "tests.models.files"  # writes small models of every family
_SIDE = 64  # pixels, of the photograph that landmarks and boxes belong to


def _points() -> np.ndarray:
    """68 points in a face's places, nearly, pixels."""
    return np.random.default_rng(0).uniform(8, _SIDE - 8, (68, 2)).round(2)


def landmarks(folder: Path) -> Iterator[Path]:
    """Write landmark files as the usual tools do."""
    from scipy.io import savemat

    points = _points()
    mesh = np.random.default_rng(1).uniform(0.1, 0.9, (478, 3)).round(4)
    rows = points.tolist()
    numbered = "\n".join(f"{k} {x} {y}" for k, (x, y) in enumerate(rows, 1))
    plain = "\n".join(f"{x} {y}" for x, y in rows)
    columns = ",".join([f"x_{k}" for k in range(68)] + [f"y_{k}" for k in range(68)])
    part = "".join(f"<part name='{k:02}' x='{x}' y='{y}'/>" for k, (x, y) in enumerate(rows))
    picked = "".join(f'<point x="{x}" y="{y}" z="1" active="1" name="{k}"/>' for k, (x, y) in enumerate(rows))
    text = {
        "a.pts": f"version: 1\nn_points: 68\n{{\n{plain}\n}}\n",
        "a.txt": plain,
        "numbered.txt": numbered,
        "row.txt": " ".join(f"{x} {y}" for x, y in rows),
        "decimal.txt": plain.replace(" ", ";").replace(".", ","),
        "a.csv": "landmark,x,y\n" + numbered.replace(" ", ","),
        "openface.csv": f"frame, face_id, confidence, success, {columns}\n1, 0, 0.9, 1, "
        + ", ".join(map(str, points.T.ravel())),
        "a.json": json.dumps({"landmarks": rows}),
        "numbers.json": json.dumps({str(k): p for k, p in enumerate(rows)}),
        "named.json": json.dumps({"keypoints": dict(zip(("left_eye", "right_eye", "nose", "mouth_left", "mouth_right"),
                                                        ([20, 20], [40, 20], [30, 30], [22, 42], [38, 42])))}),
        "mediapipe.json": json.dumps({"faceLandmarks": [[dict(zip("xyz", p)) for p in mesh.tolist()]]}),
        "people.json": json.dumps({"people": [{"face_keypoints_2d": np.pad(points, ((0, 2), (0, 1)),
                                                                         constant_values=1).ravel().tolist()}]}),
        "a.xml": "<?xml version='1.0'?><dataset><images><image file='photo.png'><box top='1' left='2' width='3' "
        f"height='4'>{part}</box></image></images></dataset>",
        "a.pp": f"<!DOCTYPE PickedPoints><PickedPoints>{picked}</PickedPoints>",
    }  # fmt: skip
    for name, content in text.items():
        (folder / name).write_text(content)
    (folder / "utf16.txt").write_text(plain, "utf-16")
    np.save(folder / "a.npy", points)
    np.savez(folder / "a.npz", landmarks=points[None])
    np.savez_compressed(folder / "small.npz", landmarks=points.astype(np.float32), frame=np.zeros(1))
    savemat(folder / "a.mat", {"pt3d_68": np.pad(points.T, ((0, 1), (0, 0))), "pt2d": points.T})
    savemat(folder / "small.mat", {"pts_2d": points}, do_compression=True)
    yield from sorted(folder.iterdir())


def boxes(folder: Path) -> Iterator[Path]:
    """Write files of boxes, right ones and such as people take for them."""
    content: dict[str, Any] = {
        "a.json": {"photo.png": [[8, 8, 56, 56], [4.5, 10, 40, 60]]},
        "alone.json": {"photo.png": [8, 8, 56, 56]},
        "none.json": {"photo.png": []},
        "list.json": [[8, 8, 56, 56]],
        "text.json": {"photo.png": [["8", "8", "56", "56"]]},
        "named.json": {"photo.png": [{"x0": 8, "y0": 8, "x1": 56, "y1": 56}]},
    }
    for name, value in content.items():
        (folder / name).write_text(json.dumps(value))
    (folder / "a.csv").write_text("file,x0,y0,x1,y1\nphoto.png,8,8,56,56\n")
    (folder / "deep.json").write_text('{"photo.png": ' + "[" * 3000 + "]" * 3000 + "}")
    yield from sorted(folder.iterdir())


def with_known_faces(option: str) -> Run:
    """`facemodels reconstruct photo.png` with `--landmarks` or `--boxes`, as `option` says."""
    from PIL import Image

    from facemodels.cli.main import main

    photo = np.random.default_rng(2).integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)

    def command(path: Path, out: Path) -> int:
        picture = path.with_name("photo.png")
        if not picture.exists():
            Image.fromarray(photo).save(picture)
        return main(["reconstruct", str(picture), "-o", str(out), "--write", "landmarks", option, str(path)])

    return command


def coefficients(folder: Path) -> Iterator[Path]:
    """Write coefficients as `facemodels fit` does."""
    random = np.random.default_rng(3)
    identity, expression = random.normal(size=(1, 20)), random.uniform(size=(3, 30))
    np.savez(folder / "a.npz", identity=identity, expression=expression)
    np.savez(folder / "single.npz", identity=identity.astype(np.float32), name=np.array("a"))
    np.savez_compressed(folder / "small.npz", expression=expression, identity=identity)
    yield from sorted(folder.iterdir())


def transfer() -> Run:
    """`facemodels transfer FILE --from builtin --to builtin`, whose correspondences are found once."""
    from facemodels.cli import transfer as module
    from facemodels.cli.main import main
    from facemodels.models import load

    builtin = load.load_model("builtin")
    load.load_model = lambda *_: builtin
    module.Transfer = functools.cache(module.Transfer)  # type: ignore[assignment,misc]

    def command(path: Path, out: Path) -> int:
        words = ["transfer", str(path), "--from", "builtin", "--to", "builtin", "-o", str(out / "out.npz")]
        return _whole(main(words), out / "out.npz")

    return command


def _whole(code: int, result: Path) -> int:
    return HALF_WRITTEN if result.exists() != (code == 0) else code


def models(folder: Path) -> Iterator[Path]:
    """Write a small model of every family; each file's suffix has its folder's and its own name."""
    files = importlib.import_module(_WRITERS)
    face = files.dome()
    for writer in files.with_native(files.WRITERS):
        kept = folder / writer.__name__
        kept.mkdir()
        writer(kept, face)
        for file in sorted(kept.iterdir()):
            if file.stat().st_size < 800_000:
                copy = folder / f"a.{writer.__name__}~{file.name.replace('.', '~')}"
                shutil.copy(file, copy)
                yield copy


def convert() -> Run:
    """`facemodels convert`, where one of the files of a model is damaged."""
    from facemodels.cli.main import main

    files = importlib.import_module(_WRITERS)
    holder = tempfile.mkdtemp(prefix="fuzz-models-")
    given = {}
    for writer in files.with_native(files.WRITERS):
        kept = Path(holder, writer.__name__)
        kept.mkdir()
        given[writer.__name__] = writer(kept, files.dome())[0].relative_to(holder)

    def command(path: Path, out: Path) -> int:
        family, name = path.suffix[1:].split("~", 1)
        model = out / path.name
        model.mkdir()
        for file in Path(holder, family).iterdir():
            os.link(file, model / file.name)
        damaged = model / name.replace("~", ".")
        damaged.unlink()
        shutil.copy(path, damaged)
        result = out / "out.safetensors"
        return _whole(main(["convert", str(model.joinpath(*given[family].parts[1:])), str(result)]), result)

    weakref.finalize(command, shutil.rmtree, holder, True)  # TemporaryDirectory would warn when it does the same
    return command
