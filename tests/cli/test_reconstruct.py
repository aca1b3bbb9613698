"""facemodels reconstruct: photos, folders, videos and webcams; its options; every input that cannot be used."""

import json
import os
import threading
from fractions import Fraction

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

import facemodels
from facemodels import InputError, load_model
from facemodels.cli import reconstruct_photos, reconstruct_videos
from facemodels.cli.main import main
from facemodels.core.crops import landmark_box
from facemodels.core.landmarks import FIVE, mirror_order
from facemodels.io import images
from facemodels.io.video import Video, VideoFrame
from facemodels.reconstruction.landmark_check import LandmarkWarning
from facemodels.reconstruction.reconstructor import Reconstructor
from tests.stub_method import (
    HEIGHT,
    WIDTH,
    found_at,
    pretend,
    ramps,
    read_arrays,
    read_rows,
    run_reconstruct,
    unclosed,
    write_video,
)
from tests.synthetic_faces import drawn
from tests.videos import make_video, probe


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
    code = run_reconstruct(
        stub,
        monkeypatch,
        folder,
        tmp_path / "empty",
        tmp_path / "nowhere.jpg",
        "https://example.com/a.jpg",
        "-o",
        tmp_path / "out",
        "--write",
        "landmarks",
    )
    assert code == 1
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


def test_all_done_is_exit_code_0_and_a_hundred_faces_are_a_hundred(stub, tmp_path, monkeypatch):
    boxes = [(x, y, x + 20.0, y + 22.0) for y in range(0, 200, 20) for x in range(0, 300, 30)]
    (tmp_path / "boxes.json").write_text(json.dumps({"crowd.png": boxes}))
    Image.fromarray(ramps()).save(tmp_path / "crowd.png")
    arguments = (tmp_path / "crowd.png", "--boxes", tmp_path / "boxes.json", "-o", tmp_path / "out", "--write", "pose")
    assert run_reconstruct(stub, monkeypatch, *arguments) == 0
    assert len(list((tmp_path / "out").glob("crowd_*_pose.csv"))) == 100


def test_boxes_and_landmarks_come_from_files(stub, tmp_path, monkeypatch):
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    (tmp_path / "boxes.json").write_text('{"a.png": [[110, 60, 210, 190], [120, 70, 200, 170]]}')
    assert (
        run_reconstruct(
            stub,
            monkeypatch,
            tmp_path / "a.png",
            "-o",
            tmp_path / "out",
            "--write",
            "pose",
            "--boxes",
            tmp_path / "boxes.json",
        )
        == 0
    )
    assert len(list((tmp_path / "out").glob("*_pose.csv"))) == 2
    points = np.random.default_rng(0).uniform(80, 200, (68, 2))
    points[36:42], points[42:48], points[48:] = (140, 100), (180, 100), (160, 160)  # upright
    np.savetxt(tmp_path / "points.txt", points)
    assert (
        run_reconstruct(
            stub,
            monkeypatch,
            tmp_path / "a.png",
            "-o",
            tmp_path / "more",
            "--write",
            "coefficients",
            "--landmarks",
            tmp_path / "points.txt",
        )
        == 1  # they are not those of the stub's face
    )
    assert np.allclose(read_arrays(tmp_path / "more" / "a_0.npz")["crop"][0], landmark_box(points), atol=1e-3)


def test_files_that_belong_to_no_photograph_are_named(stub, tmp_path, monkeypatch, capsys):
    for name in ("a.png", "b.png"):
        Image.fromarray(ramps()).save(tmp_path / name)
    np.savetxt(tmp_path / "points.txt", np.random.default_rng(0).uniform(80, 200, (68, 2)))
    assert (
        run_reconstruct(
            stub,
            monkeypatch,
            tmp_path / "a.png",
            tmp_path / "b.png",
            "-o",
            tmp_path / "out",
            "--landmarks",
            tmp_path / "points.txt",
        )
        == 1
    )
    assert "landmarks of one photograph, and there are 2" in capsys.readouterr().err
    (tmp_path / "boxes.json").write_text('{"a.png": [[110, 60, 210, 190]], "c.png": []}')
    assert (
        run_reconstruct(
            stub,
            monkeypatch,
            tmp_path / "a.png",
            "-o",
            tmp_path / "out",
            "--write",
            "pose",
            "--boxes",
            tmp_path / "boxes.json",
        )
        == 1
    )
    assert (
        "c.png is none of the photographs" in capsys.readouterr().err and (tmp_path / "out" / "a_0_pose.csv").is_file()
    )


def test_a_box_that_cannot_be_cut_out_stops_its_own_photograph_alone(stub, tmp_path, monkeypatch, capsys):
    for name in ("a.png", "b.png"):
        Image.fromarray(ramps()).save(tmp_path / name)
    (tmp_path / "boxes.json").write_text('{"a.png": [[0, 0, 1e9, 1e9]], "b.png": [[110, 60, 210, 190]]}')
    assert (
        run_reconstruct(
            stub,
            monkeypatch,
            tmp_path / "a.png",
            tmp_path / "b.png",
            "-o",
            tmp_path / "out",
            "--write",
            "pose",
            "--boxes",
            tmp_path / "boxes.json",
        )
        == 1
    )
    assert "a.png: a box of" in capsys.readouterr().err and (tmp_path / "out" / "b_0_pose.csv").is_file()
    (tmp_path / "boxes.json").write_text('{"a.png": [[0, 0, NaN, 1]]}')
    assert (
        run_reconstruct(
            stub, monkeypatch, tmp_path / "a.png", "-o", tmp_path / "out", "--boxes", tmp_path / "boxes.json"
        )
        == 1
    )
    assert "boxes.json: expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--write", "overlay,hologram"], "--write hologram: there are overlay"),
        (["--write", ","], "--write: nothing to write"),
        (["--device", "banana"], "must be cpu, cuda or auto, got 'banana'"),
        (["--boxes", "nowhere.json"], "nowhere.json: there is no such file; expected JSON"),
        (["--landmarks", "nowhere.pts"], "nowhere.pts: there is no such landmark file"),
    ],
)
def test_wrong_options_are_one_sentence(stub, tmp_path, monkeypatch, capsys, arguments, message):
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    assert run_reconstruct(stub, monkeypatch, tmp_path / "a.png", "-o", tmp_path / "out", *arguments) == 1
    assert message in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_sentence(stub, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    assert run_reconstruct(stub, monkeypatch, tmp_path / "a.png", "-o", tmp_path / "file" / "out") == 1
    assert "nothing can be written there" in capsys.readouterr().err


@unclosed
def test_a_video_becomes_a_video_and_tables_with_a_row_a_frame(stub, tmp_path, monkeypatch, capsys):
    write_video(tmp_path / "clip.mp4")
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    out = tmp_path / "out"
    assert (
        run_reconstruct(
            stub,
            monkeypatch,
            tmp_path / "clip.mp4",
            "-o",
            out,
            "--write",
            "overlay,pose,glb,coefficients,arkit,landmarks",
        )
        == 0
    )
    assert iio.imread(out / "clip_overlay.mp4", plugin="FFMPEG").shape == (12, HEIGHT, WIDTH, 3)
    assert len(read_rows(out / "clip_0_pose.csv")) == 12
    arrays = read_arrays(out / "clip_0.npz")
    assert (
        arrays["expression"].shape == (12, 52)
        and arrays["identity"].shape == (1, 100)
        and arrays["frame"].tolist() == list(range(12))
    )
    assert np.load(out / "clip_0_landmarks.npy").shape == (12, 68, 3) and (out / "clip_0.glb").stat().st_size > 10_000
    assert "1 face in 12 frames" in capsys.readouterr().out


def test_times_and_sound_of_a_video_are_in_the_tables_and_in_the_overlay(stub, tmp_path, monkeypatch):
    times = [0, 33, 70, 400, 900, 1400]
    make_video(tmp_path / "call.webm", [ramps()] * 6, times, Fraction(1, 1000), codec="libvpx", sound=("libopus", 2))
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    out = tmp_path / "out"
    words = "overlay,pose,coefficients,arkit"
    assert run_reconstruct(stub, monkeypatch, tmp_path / "call.webm", "-o", out, "--write", words) == 0
    expected = [t / 1000 for t in times]
    for name in ("pose", "arkit"):
        rows = read_rows(out / f"call_0_{name}.csv")
        assert [float(row["time_s"]) for row in rows] == expected and [int(row["frame"]) for row in rows] == [*range(6)]
    np.testing.assert_allclose(read_arrays(out / "call_0.npz")["time"], expected)
    found = probe(out / "call_overlay.mp4")
    np.testing.assert_allclose(found["times"], expected)
    assert [name for name, _ in found["sound"]] == ["opus"] and found["matrix"] == 6


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


@unclosed
def test_a_short_video_is_decoded_once_and_a_long_one_twice_to_the_same_pictures(stub, tmp_path, monkeypatch):
    pytest.importorskip("av", reason="PyAV is not installed: no videos")
    iio.imwrite(
        tmp_path / "clip.mp4",
        np.stack([np.roll(ramps(), 3 * k, 0) for k in range(9)]),
        plugin="FFMPEG",
        fps=10,
        codec="libx264",
        macro_block_size=2,
    )
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    real, times, pictures = reconstruct_videos.open_video, [], []
    monkeypatch.setattr(reconstruct_videos, "open_video", lambda clip: (times.append(clip), real(clip))[1])
    for room in (9 * HEIGHT * WIDTH * 3, 9 * HEIGHT * WIDTH * 3 - 1):
        monkeypatch.setattr(reconstruct_videos.FrameBuffer.__init__, "__defaults__", (room,))
        out = tmp_path / str(room)
        assert run_reconstruct(stub, monkeypatch, tmp_path / "clip.mp4", "-o", out, "--write", "overlay") == 0
        pictures.append(iio.imread(out / "clip_overlay.mp4", plugin="FFMPEG"))
    assert len(times) == 3 and pictures[0].shape[0] == 9 and np.array_equal(*pictures)


@unclosed
def test_a_video_that_breaks_off_is_done_up_to_there(stub, tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))

    def opened(clip):
        def frames():
            for k in range(8):
                yield VideoFrame(ramps(), k / 10)
            raise InputError(f"{clip}: damaged after frame 8 (torn)")

        return Video(str(clip), frames(), 10.0, 20)

    pytest.importorskip("av", reason="PyAV is not installed: no videos")
    monkeypatch.setattr(reconstruct_videos, "open_video", opened)
    (tmp_path / "torn.mp4").write_bytes(b"x")
    assert (
        run_reconstruct(stub, monkeypatch, tmp_path / "torn.mp4", "-o", tmp_path / "out", "--write", "overlay,pose")
        == 1
    )
    assert "damaged after frame 8 (torn); the 8 frames that were read are done" in capsys.readouterr().err
    assert len(read_rows(tmp_path / "out" / "torn_0_pose.csv")) == 8
    assert (tmp_path / "out" / "torn_overlay.mp4").is_file()


@unclosed
def test_a_frame_that_cannot_be_seen_ends_a_video_there(stub, tmp_path, monkeypatch, capsys):
    write_video(tmp_path / "clip.mp4")
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    see, calls = Reconstructor.predict, []

    def seven(self, images, views, method=None):
        calls.append(1)
        if len(calls) > 8:  # the first frame is looked at twice
            raise InputError("a crop is too large")
        return see(self, images, views)

    monkeypatch.setattr(Reconstructor, "predict", seven)
    assert (
        run_reconstruct(stub, monkeypatch, tmp_path / "clip.mp4", "-o", tmp_path / "out", "--write", "overlay,pose")
        == 1
    )
    assert "a crop is too large; the 7 frames that were read are done" in capsys.readouterr().err
    assert (
        len(read_rows(tmp_path / "out" / "clip_0_pose.csv")) == 7
        and iio.imread(tmp_path / "out" / "clip_overlay.mp4", plugin="FFMPEG").shape[0] == 7
    )
    assert not any(thread.name.startswith("video") for thread in threading.enumerate())  # the file is closed


@unclosed
def test_a_video_file_that_was_cut_off_is_named(stub, tmp_path, monkeypatch, capsys):
    fast = tmp_path / "fast.mp4"  # with its table of contents at the front, as files from the web have it
    moving = [np.roll(ramps(), 5 * k, 0) for k in range(60)]
    make_video(fast, moving, movflags="faststart")
    content = fast.read_bytes()
    fast.write_bytes(content[: len(content) * 6 // 10])
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    assert run_reconstruct(stub, monkeypatch, fast, "-o", tmp_path / "out", "--write", "pose") == 1
    said = capsys.readouterr().err
    assert "fast.mp4: ends after frame" in said and "of about 60" in said
    assert 5 <= len(read_rows(tmp_path / "out" / "fast_0_pose.csv")) < 54


@unclosed
def test_a_file_that_is_no_video_and_one_without_faces(stub, tmp_path, monkeypatch, capsys):
    write_video(tmp_path / "bare.mp4", 6)
    (tmp_path / "text.mp4").write_text("not a video")
    pretend(monkeypatch, found_at())
    assert run_reconstruct(stub, monkeypatch, tmp_path / "text.mp4", tmp_path / "bare.mp4", "-o", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "text.mp4: not a readable video" in said and "no face was found in 6 frames" in said
    assert os.listdir(tmp_path / "out") == []


@unclosed
def test_a_webcam_that_is_not_there_is_one_sentence_and_one_that_is_is_a_video(stub, tmp_path, monkeypatch, capsys):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: no webcams")
    assert run_reconstruct(stub, monkeypatch, "webcam:99", "-o", tmp_path / "none") == 1
    assert "webcam:99: there is no such camera" in capsys.readouterr().err

    class Camera:
        left = 6

        def isOpened(self):
            return True

        def get(self, _):
            return 0.0

        def read(self):
            self.left -= 1
            return self.left >= 0, ramps()[..., ::-1]

        def release(self):
            self.left = None

    monkeypatch.setattr(cv2, "VideoCapture", lambda number: Camera())
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    assert run_reconstruct(stub, monkeypatch, "webcam", "-o", tmp_path / "out", "--write", "pose,overlay") == 0
    assert len(read_rows(tmp_path / "out" / "webcam_0_pose.csv")) == 6
    assert (tmp_path / "out" / "webcam_overlay.mp4").is_file() and (tmp_path / "out" / "webcam.mp4").is_file()
    # A second recording does not replace the first.
    first = (tmp_path / "out" / "webcam.mp4").read_bytes()
    assert run_reconstruct(stub, monkeypatch, "webcam", "-o", tmp_path / "out", "--write", "pose") == 0
    assert (tmp_path / "out" / "webcam.mp4").read_bytes() == first
    assert (tmp_path / "out" / "webcam-2.mp4").is_file() and (tmp_path / "out" / "webcam-2_0_pose.csv").is_file()


def test_refining_a_video_is_refused(tmp_path, capsys):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"")
    assert main(["reconstruct", str(clip), "-o", str(tmp_path / "out"), "--refine"]) == 1
    assert "--refine takes photographs" in capsys.readouterr().err


def test_refined_coefficients_of_a_photo_are_others_and_have_an_albedo(tmp_path):
    model = load_model()
    image, camera = drawn(model, torch.zeros(1, 1), 0.2)
    iio.imwrite(
        tmp_path / "photo.png",
        np.pad((image[0].permute(1, 2, 0) * 255).byte().numpy(), ((40, 40), (40, 40), (0, 0)), mode="edge"),
    )
    np.savetxt(tmp_path / "photo.txt", camera.pixels(model.landmarks(model.mean[None]))[0].numpy() + 40)
    arguments = [
        "reconstruct",
        str(tmp_path / "photo.png"),
        "--landmarks",
        str(tmp_path / "photo.txt"),
        "--write",
        "coefficients",
        "-o",
    ]
    assert main([*arguments, str(tmp_path / "a")]) == 0 and main([*arguments, str(tmp_path / "b"), "--refine"]) == 0
    plain, refined = (read_arrays(tmp_path / folder / "photo_0.npz") for folder in "ab")
    assert "albedo" in refined and "albedo" not in plain and not np.array_equal(plain["identity"], refined["identity"])


def test_a_photograph_without_its_landmark_file_is_named(stub, tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(ramps()).save(tmp_path / name)
    marks = tmp_path / "marks"
    marks.mkdir()
    words = [tmp_path / "a.jpg", tmp_path / "b.jpg", "--landmarks", marks, "--write", "pose", "-o"]
    assert run_reconstruct(stub, monkeypatch, *words, tmp_path / "none") == 1
    assert "expected a landmark file named as a photograph" in capsys.readouterr().err
    (face,) = facemodels.reconstruct(ramps(), stub, boxes=[(110, 60, 210, 190)])
    np.savetxt(marks / "b.txt", face.landmarks[:, :2].numpy())
    assert run_reconstruct(stub, monkeypatch, *words, tmp_path / "one") == 0
    said = capsys.readouterr().err
    assert "a.jpg: has no landmark file" in said and "b.jpg" not in said


@pytest.mark.parametrize("count", [68, 5])
@pytest.mark.parametrize("wrong", ["right", "reversed", "mirrored", "permuted"])
def test_landmarks_in_another_order_than_the_faces_are_said(stub, tmp_path, monkeypatch, capsys, wrong, count):
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    (face,) = facemodels.reconstruct(ramps(), stub, boxes=[(110, 60, 210, 190)])
    points = face.landmarks[:, :2].numpy().astype(np.float64)
    points = np.array([points[list(group)].mean(0) for group in FIVE]) if count == 5 else points
    orders = {
        "right": range(count),
        "reversed": range(count)[::-1],
        "mirrored": mirror_order(count),
        "permuted": np.random.default_rng(2).permutation(count),
    }
    np.savetxt(tmp_path / "marks.txt", points[list(orders[wrong])])
    words = [tmp_path / "a.png", "-o", tmp_path / "out", "--write", "pose", "--landmarks", tmp_path / "marks.txt"]
    assert run_reconstruct(stub, monkeypatch, *words) == (wrong != "right")
    said = capsys.readouterr().err
    if wrong == "right":
        assert not said
    else:
        assert said.count("\n") == 1 and "a.png: is done, but the landmarks are" in said and "marks.txt" in said
        with pytest.warns(LandmarkWarning, match="away from the face"):
            facemodels.reconstruct(ramps(), stub, landmarks=points[list(orders[wrong])])
    assert (tmp_path / "out" / "a_pose.png").exists()


def test_a_box_that_cannot_be_cut_is_said_with_its_file(stub, tmp_path, monkeypatch, capsys):
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    (tmp_path / "boxes.json").write_text('{"a.png": [0, 0, 1e9, 1e9]}')
    words = [tmp_path / "a.png", "-o", tmp_path / "out", "--boxes", tmp_path / "boxes.json"]
    assert run_reconstruct(stub, monkeypatch, *words) == 1
    said = capsys.readouterr().err
    assert "a.png: a box of" in said and f"is too large to cut out ({tmp_path / 'boxes.json'})" in said


def test_landmarks_of_a_video_are_refused(stub, tmp_path, monkeypatch, capsys):
    write_video(tmp_path / "a.mp4", 2)
    np.savetxt(tmp_path / "a.txt", np.zeros((68, 2)))
    words = [tmp_path / "a.mp4", "-o", tmp_path / "out", "--landmarks", tmp_path / "a.txt"]
    assert run_reconstruct(stub, monkeypatch, *words) == 1
    assert "a.txt: --landmarks are for photographs" in capsys.readouterr().err


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


def test_an_empty_list_of_boxes_is_said_with_its_file(stub, tmp_path, monkeypatch, capsys):
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    (tmp_path / "boxes.json").write_text('{"a.png": []}')
    words = [tmp_path / "a.png", "-o", tmp_path / "out", "--boxes", tmp_path / "boxes.json"]
    assert run_reconstruct(stub, monkeypatch, *words) == 1
    assert "boxes.json has an empty list of boxes" in capsys.readouterr().err


def test_an_empty_input_is_not_the_current_folder(stub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(ramps()).save("a.jpg")
    assert main(["reconstruct", "", "-o", "out"]) == 1
    assert "an input is empty" in capsys.readouterr().err and not (tmp_path / "out" / "a_overlay.png").exists()


# Nothing lost.


def test_a_photograph_with_the_name_of_a_result_stays(stub, tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    folder = tmp_path / "pics"
    folder.mkdir()
    for name in ("a.jpg", "a_overlay.png"):
        Image.fromarray(ramps()).save(folder / name)
    before = (folder / "a_overlay.png").read_bytes()
    for _ in range(2):  # in the second run there are results in the folder
        assert run_reconstruct(stub, monkeypatch, folder, "-o", folder, "--write", "overlay") == 0
        names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        assert names == ["a.jpg", "a.jpg_overlay.png", "a_overlay.png", "a_overlay_overlay.png"]
        assert (folder / "a_overlay.png").read_bytes() == before
    assert "2 pictures or videos that earlier runs wrote there" in capsys.readouterr().err
    # One by one, too.
    assert run_reconstruct(stub, monkeypatch, folder / "a.jpg", "-o", folder, "--write", "overlay") == 0
    assert (folder / "a_overlay.png~").read_bytes() == before


def test_no_two_words_write_one_file(stub, tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    contents = []
    for words in ("texture,obj", "obj,texture", "all"):
        out = tmp_path / words
        assert run_reconstruct(stub, monkeypatch, tmp_path / "a.png", "-o", out, "--write", words) == 0
        contents.append({p.name: p.read_bytes() for p in out.iterdir() if not p.name.startswith(".")})
        assert int(capsys.readouterr().out.splitlines()[-1].split()[0]) <= len(contents[-1])  # .mtl is not counted
    assert contents[0] == contents[1] and contents[0].items() <= contents[2].items()


def test_usual_is_a_word_for_several(stub, tmp_path, monkeypatch):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    assert run_reconstruct(stub, monkeypatch, tmp_path / "a.png", "-o", tmp_path, "--write", "usual,arkit") == 0
    kinds = {p.name.partition("_")[2] for p in tmp_path.glob("a_*")}
    assert {"overlay.png", "landmarks.png", "pose.png", "0.glb", "0.npz", "0.json", "0_arkit.csv"} <= kinds


def test_a_name_that_cannot_be_written_ends_its_own_input(stub, tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    long = "x" * 245
    for name in (f"{long}.png", "a.png"):
        Image.fromarray(ramps()).save(tmp_path / name)
    out = tmp_path / "out"
    assert run_reconstruct(stub, monkeypatch, tmp_path, "-o", out, "--write", "overlay") == 1
    assert "cannot be written" in capsys.readouterr().err and (out / "a_overlay.png").is_file()


def test_the_work_is_done_when_the_reader_of_the_output_ends(stub, tmp_path, monkeypatch):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    for k in range(12):  # more than one group
        Image.fromarray(ramps()).save(tmp_path / f"{k}.png")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        assert run_reconstruct(stub, monkeypatch, tmp_path, "-o", tmp_path / "out", "--write", "pose") == 0
    assert len(list((tmp_path / "out").glob("*_0_pose.csv"))) == 12


def test_one_person_of_a_video_is_written_alone_and_one_that_is_not_there_is_named(stub, tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    make_video(tmp_path / "clip.mp4", [ramps()] * 8 + [255 - ramps()] * 8, base=Fraction(1, 10))
    arguments = (tmp_path / "clip.mp4", "-o", tmp_path / "out", "--write", "pose,coefficients")
    assert run_reconstruct(stub, monkeypatch, *arguments, "--person", "1") == 0
    assert {path.name for path in (tmp_path / "out").glob("clip_*")} >= {"clip_1_pose.csv", "clip_1.npz"}
    assert not list((tmp_path / "out").glob("clip_0*"))
    rows = read_rows(tmp_path / "out" / "clip_1_pose.csv")
    assert [int(row["frame"]) for row in rows] == list(range(8, 16))
    assert run_reconstruct(stub, monkeypatch, *arguments, "--person", "2") == 1
    assert "clip.mp4: has persons 0 to 1, and not 2 (--person)" in capsys.readouterr().err
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    assert run_reconstruct(stub, monkeypatch, tmp_path / "a.png", "-o", tmp_path / "out", "--person", "0") == 1
    assert "--person is for videos; --most 1 takes the largest face" in capsys.readouterr().err


def test_the_numbers_of_faces_and_their_size_reach_the_search(stub, tmp_path, monkeypatch):
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    arguments = (tmp_path / "a.png", "-o", tmp_path / "out", "--write", "pose")
    assert run_reconstruct(stub, monkeypatch, *arguments, "--most", "1", "--smallest", "20") == 0
    assert run_reconstruct(stub, monkeypatch, *arguments, "--smallest", "239") == 1  # it is smaller
    for wrong in (("--most", "0"), ("--smallest", "0"), ("--person", "-1")):
        with pytest.raises(SystemExit) as end:
            run_reconstruct(stub, monkeypatch, *arguments, *wrong)
        assert end.value.code == 2
