"""python -m facerender: pictures of mesh files, and one clear sentence for a wrong one."""

import imageio.v3 as iio
import numpy as np
import pytest

from benchmarks.meshes import head, write_ply
from facerender.__main__ import main

trimesh = pytest.importorskip("trimesh")


@pytest.fixture
def ply(tmp_path):
    path = tmp_path / "head.ply"
    write_ply(path, *head(12))
    return path


def quad(tmp_path, suffix, textured=False):
    """A quadrilateral facing the viewer, red on the left and green on the right."""
    v = np.array([[-1, -1, 0], [0, -1, 0], [1, -1, 0], [1, 1, 0], [0, 1, 0], [-1, 1, 0.0]])
    f = np.array([[0, 1, 4], [0, 4, 5], [1, 2, 3], [1, 3, 4]])
    if textured:
        from PIL import Image

        pixels = np.zeros((8, 16, 3), np.uint8)
        pixels[:, :8, 0], pixels[:, 8:, 1] = 255, 255
        uv = v[:, :2] * 0.5 + 0.5
        material = trimesh.visual.material.SimpleMaterial(image=Image.fromarray(pixels))
        if suffix == ".glb":
            material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels))
        mesh = trimesh.Trimesh(v, f, process=False, visual=trimesh.visual.TextureVisuals(uv=uv, material=material))
    else:
        colors = np.where(v[:, :1] < 0.5, [[255, 0, 0, 255]], [[0, 255, 0, 255]]).astype(np.uint8)
        mesh = trimesh.Trimesh(v, f, process=False, vertex_colors=colors)
    path = tmp_path / f"quad{suffix}"
    mesh.export(path)
    return path


def test_draws_a_head(ply, tmp_path, capsys):
    out = tmp_path / "out.png"
    assert main([str(ply), "-o", str(out), "--size", "96"]) == 0
    pixels = iio.imread(out)
    assert pixels.shape == (96, 96, 3) and pixels.dtype == np.uint8
    background = pixels[0, 0].astype(int)
    drawn = np.abs(pixels.astype(int) - background).sum(-1) > 30
    assert 0.1 < drawn.mean() < 0.7 and drawn[40:56, 40:56].all()
    assert "96x96" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["shaded", "normals", "depth", "albedo", "face_id"])
def test_every_pass_draws(what, ply, tmp_path):
    out = tmp_path / "out.png"
    assert main([str(ply), "-o", str(out), "--size", "64", "--pass", what]) == 0
    assert len(np.unique(iio.imread(out).reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize(
    "suffix,textured", [(".obj", False), (".obj", True), (".ply", False), (".glb", False), (".glb", True)]
)
def test_colors_and_textures_of_each_format(suffix, textured, tmp_path):
    out = tmp_path / "out.png"
    assert (
        main(
            [
                str(quad(tmp_path, suffix, textured)),
                "-o",
                str(out),
                "--size",
                "64",
                "--pass",
                "albedo",
                "--orthographic",
            ]
        )
        == 0
    )
    pixels = iio.imread(out).astype(int)
    left, right = pixels[32, 16], pixels[32, 48]
    assert left[0] > 200 and left[1] < 90, left
    assert right[1] > 200 and right[0] < 110, right


def test_turntable(ply, tmp_path):
    out = tmp_path / "turn.gif"
    assert main([str(ply), "--turntable", str(out), "--frames", "5", "--size", "48", "--samples", "1"]) == 0
    frames = iio.imread(out)
    assert frames.shape[:3] == (5, 48, 48) and (frames[0] != frames[2]).any()
    assert not ply.with_suffix(".png").exists()


def test_turntable_as_video(ply, tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")
    out = tmp_path / "turn.mp4"
    assert main([str(ply), "--turntable", str(out), "--frames", "5", "--size", "48", "--samples", "1"]) == 0
    assert out.stat().st_size > 500


def broken_files(tmp_path):
    files = {
        "missing.ply": None,
        "empty.obj": b"",
        "mesh.stl": b"solid",
        "noise.ply": bytes(range(256)) * 4,
        "cut.ply": b"ply\nformat binary_little_endian 1.0\n"
        b"element vertex 9\nproperty float x\nproperty float y\nproperty float z\n"
        b"element face 3\nproperty list uchar int vertex_indices\nend_header\n\0\0",
        "noise.glb": b"glTF" + bytes(60),
        "points.obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\n",
        "nan.obj": b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
        "index.obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n",
        "far.obj": b"v 0 0 0\nv 1e25 0 0\nv 0 1e25 0\nf 1 2 3\n",
        ".": None,
    }
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        yield tmp_path / name


def test_a_wrong_file_gets_one_sentence(tmp_path, capsys):
    for path in broken_files(tmp_path):
        assert main([str(path), "-o", str(tmp_path / "out.png")]) == 1, path
        error = capsys.readouterr().err
        assert error.startswith(f"facerender: {path}: ") and error.count("\n") == 1 and "Traceback" not in error, error


def test_wrong_options_get_one_sentence(ply, tmp_path, capsys):
    for options, words in (
        (["-o", str(tmp_path / "no" / "out.png")], "does not exist"),
        (["-o", str(tmp_path / "out.tiff")], ".png or .jpg"),
        (["--turntable", str(tmp_path / "out.avi")], ".gif or .mp4"),
        (["--size", "0"], "--size must be 1 to 4096"),
        (["--device", "xpu"], "--device must be cpu or cuda"),
        (["--frames", "0"], "--frames must be at least 1"),
    ):
        assert main([str(ply), *options]) == 1
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
