"""python -m facerender: pictures of mesh files, and one clear sentence for a wrong one."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from benchmarks.meshes import head, write_ply
from facemodels.core.rotation import head_rotation
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
    pytest.importorskip("av", reason="PyAV is not installed")
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


def test_outputs_that_cannot_be_written_get_one_sentence(ply, tmp_path, capsys):
    for options, words in (
        (["-o", str(tmp_path / "no" / "out.png")], "does not exist"),
        (["-o", str(tmp_path / "out.tiff")], ".png or .jpg"),
        (["--turntable", str(tmp_path / "out.avi")], ".gif or .mp4"),
        (["--turntable", str(tmp_path / "out.mp4"), "--size", "1x9"], "--size 2 or more"),
    ):
        assert main([str(ply), *options]) == 1
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "options,words",
    [
        (["--size", "0"], "--size must be 1 to 4096"),
        (["--size", "640x4097"], "--size must be 1 to 4096"),
        (["--size", "640x"], "--size must be a number of pixels or WIDTHxHEIGHT, such as 640x480, got 640x"),
        (["--size", "1x2x3"], "--size must be a number of pixels or WIDTHxHEIGHT"),
        (["--size", "-5"], "--size must be a number of pixels or WIDTHxHEIGHT"),
        (["--device", "xpu"], "--device must be cpu or cuda"),
        (["--frames", "0"], "--frames must be at least 1"),
        (["--yaw", "nan"], "--yaw must be a number of degrees"),
        (["--roll", "inf"], "--roll must be a number of degrees"),
        (["--fov", "0"], "--fov must be 1 to 150 degrees, got 0"),
        (["--fov", "nan"], "--fov must be 1 to 150 degrees"),
        (["--distance", "-3"], "--distance must be positive, in the mesh's unit, got -3"),
        (["--distance", "nan"], "--distance must be positive"),
        (["--orthographic", "--fov", "30"], "leave out --orthographic"),
        (["--orthographic", "--distance", "30"], "leave out --orthographic"),
        (["--light", "sun"], "--light must be studio, flat or three numbers X,Y,Z, such as --light=-1,1,1, got sun"),
        (["--light", "0,0,0"], "--light must be studio, flat or three numbers"),
        (["--light", "1,nan,1"], "--light must be studio, flat or three numbers"),
        (["--background", "colorful"], "--background must be the name of a color, #rrggbb or transparent"),
        (["--background", "transparent", "--turntable", "a.gif"], "a turntable needs a color"),
        (["--background", "transparent", "-o", "a.jpg"], "a.jpg has no transparency"),
    ],
    ids=" ".join,
)
def test_wrong_options_get_one_sentence(options, words, ply, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(ply), *options]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and error.startswith("facerender: ")
    assert list(tmp_path.iterdir()) == [ply]


def picture(tmp_path, path, *options):
    out = tmp_path / "picture.png"
    assert main([str(path), "-o", str(out), "--samples", "2", *options]) == 0
    return iio.imread(out).astype(int)


def test_a_picture_need_not_be_square(ply, tmp_path, capsys):
    wide, square = picture(tmp_path, ply, "--size", "96x48"), picture(tmp_path, ply, "--size", "48")
    assert "96x48" in capsys.readouterr().out
    assert wide.shape == (48, 96, 3) and np.abs(wide[:, 24:72] - square).max() <= 1  # the shorter side decides
    assert picture(tmp_path, ply, "--size", "30x60").shape == (60, 30, 3)


def test_the_pose_has_the_signs_of_300w_lp(tmp_path):
    """A cone that points to the viewer points up, and to the left of the picture, where these angles are positive."""
    path = tmp_path / "cone.ply"
    trimesh.creation.cone(0.3, 2.0).export(path)
    face = torch.tensor([[0.0, 0.0, 1.0]])
    for angles in ((20.0, 0.0, 0.0), (0.0, 35.0, 0.0), (15.0, 30.0, 40.0)):
        pitch, yaw, roll = (str(v) for v in angles)
        pixels = picture(
            tmp_path, path, "--size", "96", "--pass", "depth", "--orthographic", "--pitch", pitch, "--yaw", yaw,
            "--roll", roll,
        )  # fmt: skip
        y, x = np.unravel_index(pixels[..., 0].argmax(), pixels.shape[:2])  # the tip is nearest
        tip = (face @ head_rotation(torch.tensor(angles)).mT)[0].tolist()
        assert np.sign(round((x - 47.5) / 8)) == np.sign(round(tip[0] * 6)), angles
        assert np.sign(round((47.5 - y) / 8)) == np.sign(round(tip[1] * 6)), angles


def test_roll_turns_clockwise_in_the_picture(tmp_path):
    """Red is left and green is right; after a quarter turn red is above."""
    pixels = picture(tmp_path, quad(tmp_path, ".ply"), "--size", "64", "--pass", "albedo", "--roll", "90")
    above, below = pixels[16, 32], pixels[48, 32]
    assert above[0] > 200 and below[1] > 200


def test_a_wider_field_of_view_keeps_the_size_and_a_distance_changes_it(tmp_path):
    path = quad(tmp_path, ".ply")

    def covered(*options):
        pixels = picture(tmp_path, path, "--size", "256", "--pass", "albedo", "--background", "blue", *options)
        return (pixels[..., 2] < 100).sum()

    assert abs(covered("--fov", "5") / covered("--fov", "20") - 1) < 0.03
    assert abs(covered("--distance", "40") / covered("--distance", "20") - 0.25) < 0.03


def test_the_light_comes_from_where_it_is_said_to_be(tmp_path):
    path = tmp_path / "ball.ply"
    trimesh.creation.icosphere(3).export(path)
    dark = {}
    for light in ("-1,0,0", "1,0,0", "0,1,0", "0,-1,0", "flat"):
        pixels = picture(tmp_path, path, "--size", "64", f"--light={light}", "--background", "black").sum(-1)
        dark[light] = [pixels[32, 12], pixels[32, 51], pixels[12, 32], pixels[51, 32]]  # left, right, top, bottom
    for k, light in enumerate(("-1,0,0", "1,0,0", "0,1,0", "0,-1,0")):
        assert np.argmax(dark[light]) == k and max(dark[light]) > 1.5 * dark[light][k ^ 1]
    assert np.ptp(dark["flat"]) <= 3


@pytest.mark.parametrize("what", ["shaded", "normals", "depth", "albedo", "face_id"])
def test_the_background_has_the_color_asked_for(what, ply, tmp_path):
    red = picture(tmp_path, ply, "--size", "48", "--pass", what, "--background", "#cc3311")
    assert red[0, 0].tolist() == [0xCC, 0x33, 0x11]
    clear = picture(tmp_path, ply, "--size", "48", "--pass", what, "--background", "transparent")
    assert clear.shape == (48, 48, 4) and clear[0, 0, 3] == 0 and clear[24, 24, 3] == 255
    opaque = clear[..., 3] == 255
    assert np.array_equal(clear[opaque][:, :3], red[opaque]) and 0.1 < opaque.mean() < 0.8


def test_edges_over_a_transparent_background_have_the_color_of_the_mesh(tmp_path):
    path = quad(tmp_path, ".ply")
    pixels = picture(tmp_path, path, "--size", "64", "--pass", "albedo", "--roll", "17", "--background", "transparent")
    partly = pixels[(pixels[..., 3] > 0) & (pixels[..., 3] < 255)]
    assert len(partly) > 30 and (partly[:, :2].max(1) > 180).all() and (partly[:, 2] < 60).all()


def test_an_empty_picture_is_said_with_its_reason_once(ply, tmp_path, capsys):
    assert main([str(ply), "-o", str(tmp_path / "out.png"), "--size", "32", "--distance", "1e7"]) == 0
    error = capsys.readouterr().err
    assert "nothing of the mesh is in the picture: it is smaller than a pixel (" in error and error.count("\n") == 1
    flat = quad(tmp_path, ".ply")
    turn = ["--turntable", str(tmp_path / "turn.gif"), "--frames", "2", "--size", "33", "--yaw", "90"]
    assert main([str(flat), *turn, "--orthographic"]) == 0
    error = capsys.readouterr().err
    assert error.count("nothing of the mesh is in the picture") == 1 and "edge-on" in error
    assert main([str(ply), "-o", str(tmp_path / "out.png"), "--size", "32"]) == 0
    assert capsys.readouterr().err == ""


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    said = capsys.readouterr().out
    assert "exit codes: 0 done, also where nothing of the mesh is in the picture" in said
    assert ended.value.code == 0 and "--size 1280x720 --fov 60 --distance 350" in said
    assert all(option in said for option in ("--roll", "--fov", "--distance", "--light", "--background"))


def test_a_closed_standard_output_is_no_error_and_a_full_one_is_named(tmp_path):
    command = [sys.executable, "-m", "facerender", str(quad(tmp_path, ".ply")), "-o", "out.png", "--size", "8"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "") and (tmp_path / "out.png").is_file()
    if Path("/dev/full").exists():
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert "facerender: standard output cannot be written (No space left on device)" in done.stderr


def test_names_that_standard_output_cannot_encode_are_printed_with_backslashes(tmp_path):
    command = [sys.executable, "-m", "facerender", str(quad(tmp_path, ".ply")), "-o", "\u00e9.png", "--size", "8"]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=ascii_only)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith(r"\xe9.png  8x8")
    assert (tmp_path / "\u00e9.png").is_file()


def test_folders_that_cannot_be_written_or_are_no_mesh_get_one_sentence(ply, tmp_path, capsys, monkeypatch):
    assert main([str(tmp_path), "-o", "out.png"]) == 1
    assert capsys.readouterr().err == f"facerender: {tmp_path}: expected a mesh file, found a folder\n"
    for option, name in (("-o", "a.png"), ("--turntable", "a.mp4"), ("--turntable", "a.gif")):
        (tmp_path / name).mkdir()
        assert main([str(ply), option, str(tmp_path / name)]) == 1
        assert f"{name}: expected the name of a file to write, found a folder\n" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert main([str(ply), "-o", str(tmp_path / "out.png")]) == 1
    assert "out.png: cannot be written (permission denied); give another folder with -o" in capsys.readouterr().err


@pytest.mark.parametrize("option, name", [("-o", "a.png"), ("--turntable", "a.gif"), ("--turntable", "a.mp4")])
def test_a_full_disk_is_said_with_the_name_of_the_file(option, name, ply, tmp_path, capsys, monkeypatch):
    av = pytest.importorskip("av")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(iio, "imwrite", full)
    monkeypatch.setattr(av, "open", full)
    assert main([str(ply), option, str(tmp_path / name), "--size", "8", "--frames", "2"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"facerender: {tmp_path / name}: cannot be written (No space left on device)"
