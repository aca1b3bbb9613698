"""facemodels reconstruct: photographs and folders of them: what is read, what is passed over, what cannot be used."""

import os

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from facemodels import load_model
from facemodels.cli import reconstruct_photos
from facemodels.cli.main import main
from facemodels.io import images
from facemodels.reconstruction.reconstructor import Reconstructor
from tests.stub_method import HEIGHT, WIDTH, found_at, pretend, ramps, read_arrays, run_reconstruct
from tests.synthetic_faces import drawn


def test_what_cannot_be_used_is_named_and_the_rest_is_done(stub, tmp_path, monkeypatch, capsys):
    pretend(
        monkeypatch,
        lambda image, threshold, longest: found_at((110, 60, 210, 190))(image) if image.shape[0] == HEIGHT else [],
    )
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    Image.fromarray(ramps()).save(folder / "good.png")
    Image.fromarray(ramps()).save(folder / "good.jpg", quality=95)
    Image.fromarray(ramps()).save(folder / "deeper" / "good.png")
    (folder / "text.png").write_text("not a picture")
    whole = (folder / "good.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(folder / "dot.png")
    (folder / "notes.txt").write_text("left alone")
    (tmp_path / "empty").mkdir()
    inputs = [folder, tmp_path / "empty", tmp_path / "nowhere.jpg", "https://example.com/a.jpg"]
    assert run_reconstruct(stub, monkeypatch, *inputs, "-o", tmp_path / "out", "--write", "landmarks") == 1
    said = capsys.readouterr().err
    for part in (
        "text.png: not a readable picture",
        "cut.jpg: not a readable picture",
        "dot.png: no face was found",
        "empty: a folder without pictures",
        "nowhere.jpg: there is no such file",
        " https://example.com/a.jpg: URLs are not read; download the file",
    ):
        assert said.count(part) == 1, part
    names = {p.name for p in (tmp_path / "out").iterdir() if p.suffix == ".png"}
    assert names == {
        "good.png_landmarks.png",
        "good.jpg_landmarks.png",
        "good.png-2_landmarks.png",
    }  # none over another


def test_a_folder_takes_what_single_files_take_and_names_the_rest(stub, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jpg", "b.avif", "c.jfif", "d.gif", "e.jp2", "f.jpe", "g.tga", "h.qoi", "i.PNG"):
        Image.fromarray(ramps()).save(folder / name, "JPEG" if name[-2:] in ("if", "pe") and name[0] in "cf" else None)
    (folder / "notes.txt").write_text("x")
    (folder / "table.xlsx").write_text("x")
    (folder / "j.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(500))
    frames = [Image.fromarray(np.roll(ramps(), 3 * k, 0)) for k in range(6)]
    frames[0].save(folder / "k.webp", save_all=True, append_images=frames[1:], duration=100)
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    assert run_reconstruct(stub, monkeypatch, folder, "-o", tmp_path / "out", "--write", "pose") == 1
    said = capsys.readouterr()
    assert f"{folder}: passed over: notes.txt, table.xlsx\n" in said.err and "j.heic: " in said.err
    assert said.err.count("\n") == 2
    assert {p.name.partition("_")[0] for p in (tmp_path / "out").glob("*.csv")} == set("abcdefghik")
    assert (tmp_path / "out" / "k_pose.mp4").is_file() and (tmp_path / "out" / "a_pose.png").is_file()


def test_a_very_large_photo_is_read_at_a_half_and_numbers_count_its_own_pixels(stub, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(images, "MAX_PIXELS", HEIGHT * WIDTH)
    large = Image.fromarray(ramps()).resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.jpg", quality=95)
    Image.fromarray(ramps()).save(tmp_path / "usual.png")
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    out = tmp_path / "out"
    for name in ("large.jpg", "usual.png"):
        assert run_reconstruct(stub, monkeypatch, tmp_path / name, "-o", out, "--write", "pose,landmarks") == 0
        assert ("read at 1/2 of its size" in capsys.readouterr().out) == (name == "large.jpg")
    twice, once = (np.loadtxt(out / f"{name}_0_landmarks.txt") for name in ("large", "usual"))
    np.testing.assert_allclose(twice, 2 * once, atol=1.5)
    assert iio.imread(out / "large_pose.png").shape[:2] == (HEIGHT, WIDTH)
    # Known boxes and landmarks, too, count the pixels of the file.
    np.savetxt(tmp_path / "large.txt", twice[:, :2])
    arguments = ("--landmarks", tmp_path / "large.txt", "--write", "landmarks")
    assert run_reconstruct(stub, monkeypatch, tmp_path / "large.jpg", "-o", tmp_path / "known", *arguments) == 0
    known = np.loadtxt(tmp_path / "known" / "large_0_landmarks.txt")
    assert np.abs(known.mean(0) - twice.mean(0))[:2].max() < 40


def test_only_a_few_pixels_of_a_batch_are_held(stub, tmp_path, monkeypatch):
    monkeypatch.setattr(reconstruct_photos, "_GROUP_PIXELS", 2 * HEIGHT * WIDTH)
    for k in range(7):
        Image.fromarray(ramps()).save(tmp_path / f"{k}.png")
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    sizes, real = [], Reconstructor.__call__
    monkeypatch.setattr(
        Reconstructor, "__call__", lambda self, i, *more: (sizes.append(len(i)), real(self, i, *more))[1]
    )
    assert run_reconstruct(stub, monkeypatch, tmp_path, "-o", tmp_path / "out", "--write", "landmarks") == 0
    assert sizes == [2, 2, 2, 1]


def test_refined_coefficients_of_a_photo_are_others_and_have_an_albedo(tmp_path):
    model = load_model()
    image, camera = drawn(model, torch.zeros(1, 1), 0.2)
    iio.imwrite(
        tmp_path / "photo.png",
        np.pad((image[0].permute(1, 2, 0) * 255).byte().numpy(), ((40, 40), (40, 40), (0, 0)), mode="edge"),
    )
    np.savetxt(tmp_path / "photo.txt", camera.pixels(model.landmarks(model.mean[None]))[0].numpy() + 40)
    known = [str(tmp_path / "photo.png"), "--landmarks", str(tmp_path / "photo.txt")]
    arguments = ["reconstruct", *known, "--write", "coefficients", "-o"]
    assert main([*arguments, str(tmp_path / "a")]) == 0 and main([*arguments, str(tmp_path / "b"), "--refine"]) == 0
    plain, refined = (read_arrays(tmp_path / folder / "photo_0.npz") for folder in "ab")
    assert "albedo" in refined and "albedo" not in plain and not np.array_equal(plain["identity"], refined["identity"])


@pytest.mark.skipif(os.name != "posix", reason="no pipes and links in folders")
def test_what_is_no_file_in_a_folder_is_named_and_landmarks_beside_pictures_are_not(
    stub, tmp_path, monkeypatch, capsys
):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(ramps()).save(folder / "a.png")
    for name in ("a.txt", "a.pts", "other.txt"):
        (folder / name).write_text("1 2\n")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (folder / "linked").symlink_to(tmp_path)
    assert run_reconstruct(stub, monkeypatch, folder, "-o", tmp_path / "out", "--write", "pose") == 0
    assert capsys.readouterr().err == (
        f"facemodels reconstruct: {folder}: passed over: broken.jpg (a broken link), linked (a link to a folder), "
        "pipe.jpg (a pipe), other.txt\n"
    )
    single = [folder / "pipe.jpg", folder / "broken.jpg"]
    assert run_reconstruct(stub, monkeypatch, *single, "-o", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "pipe.jpg: expected a file or folder, found a pipe" in said and "broken.jpg: expected a file or" in said


def test_an_empty_input_is_not_the_current_folder(stub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(ramps()).save("a.jpg")
    assert main(["reconstruct", "", "-o", "out"]) == 1
    assert "an input is empty" in capsys.readouterr().err and not (tmp_path / "out" / "a_overlay.png").exists()
