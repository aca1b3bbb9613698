"""facemodels teacher: both teachers, the file, the table and the panel."""

import imageio.v3 as iio
import numpy as np
import pytest

from facemodels.cli import teacher
from facemodels.cli.main import main
from facemodels.data.photographs import photographs
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from facemodels.models.load import load_model
from facemodels.teachers import combine
from facemodels.teachers.face_mesh import IBUG, POINTS, MeshPoints


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twelve renderings of 120 pixels with files of their 68 landmarks."""
    folder = tmp_path_factory.mktemp("pictures")
    source = Synthetic(load_model("builtin"), 120, RandomizationConfig(yaw=25))(3, 0, range(12))
    for k in range(12):
        iio.imwrite(folder / f"{k:02}.png", (source.image[k] * 255).byte().permute(1, 2, 0).numpy())
        np.savetxt(folder / f"{k:02}.txt", source.landmarks[k, :, :2].numpy())
    return folder


def test_the_mesh_is_a_second_teacher(pictures, tmp_path, monkeypatch, capsys):
    """A mesh that puts its points where the landmarks truly are, in the order of the photographs."""
    faces = photographs(pictures)

    def predict(network, images, landmarks):
        assert network == "a network" and images.shape == (12, 120, 120, 3) and landmarks.shape == (12, 68, 2)
        points = np.zeros((12, POINTS, 3), np.float32)
        points[:, IBUG, :2] = faces.landmarks[:, 17:, :2].numpy()
        return MeshPoints(points, np.ones(12, np.float32))

    monkeypatch.setattr(teacher, "load_network", lambda path: "a network")
    monkeypatch.setattr(teacher, "predict_mesh", predict)
    monkeypatch.setattr(combine, "FEWEST", 12)
    file, panel = tmp_path / "labels.npz", tmp_path / "panel.png"
    words = ["teacher", "dasl-aflw", str(pictures), "-o", str(file), "--worst", "100"]
    assert main([*words, "--face-mesh", str(tmp_path), "--panel", str(panel)]) == 0
    said = capsys.readouterr().out
    rows = {line[:14].strip(): line[14:].split() for line in said.splitlines()}
    assert rows[""] == ["0-30", "30-60", "60-90"] and rows["the network"][2] == "-"
    assert float(rows["with the mesh"][0]) < float(rows["the network"][0]) and "green: the labels" in said
    arrays = np.load(file)
    assert arrays["landmarks"].shape == (12, 68, 3) and arrays["weight"].shape == (12,)
    assert 0 < arrays["weight"].min() <= arrays["weight"].max() <= 1 and arrays["given"].shape == (12, 68, 2)
    assert iio.imread(panel).shape == (2 * 364 - 4, 6 * 364 - 4, 3)
    assert main(words) == 0 and "with the mesh" not in capsys.readouterr().out
    assert not np.array_equal(np.load(file)["landmarks"], arrays["landmarks"])


def test_a_package_that_is_missing_is_said_before_photographs_are_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(teacher, "photographs", lambda path: pytest.fail("photographs were read"))
    assert (
        main(["teacher", "dasl-aflw", str(tmp_path), "-o", str(tmp_path / "x.npz"), "--face-mesh", str(tmp_path)]) == 1
    )
    assert "npm pack @mediapipe/face_mesh" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["teacher", "dasl-aflw", "crops.zip", "-o", "x.npz", "--views", "11"])
    assert end.value.code == 2


@pytest.mark.parametrize(
    "output, panel, message",
    [
        ("pictures/00.txt", None, "may be a part of PHOTOS"),
        ("pictures/00.png", None, "may be a part of PHOTOS"),
        ("new.npz", "pictures/00.png", "may be a part of PHOTOS"),
        ("package/network.data", None, "may be a part of --face-mesh"),
        ("run/weights.safetensors", None, "may be a part of NETWORK"),
        ("new.png", "new.png", "-o and --panel must be two files"),
        ("labels.txt", None, "labels are written as .npz"),
        ("pictures", None, "expected the name of a file to write, found a folder"),
        ("new.npz", "panel.tif", "expected a .png or .jpg file for the panel"),
        ("new.npz", "nowhere/panel.png", "there is no folder"),
    ],
)
def test_no_input_is_overwritten_and_names_are_checked_first(output, panel, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(teacher, "load_network", lambda path: pytest.fail("the work began"))
    files = ("pictures/00.txt", "pictures/00.png", "package/network.data", "run/weights.safetensors")
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    words = ["teacher", str(tmp_path / "run"), str(tmp_path / "pictures"), "--face-mesh", str(tmp_path / "package")]
    words += ["-o", str(tmp_path / output)] + ([] if panel is None else ["--panel", str(tmp_path / panel)])
    assert main(words) == 1 and message in capsys.readouterr().err
    assert all((tmp_path / name).read_text() == name for name in files)
