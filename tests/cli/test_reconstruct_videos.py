"""facemodels reconstruct: videos and webcams: what is written, and what cannot be read to its end."""

import os
import threading
from fractions import Fraction

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from facemodels import InputError
from facemodels.cli import reconstruct_videos
from facemodels.cli.main import main
from facemodels.io.video import Video, VideoFrame
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
from tests.videos import make_video, probe


@unclosed
def test_a_video_becomes_a_video_and_tables_with_a_row_a_frame(stub, tmp_path, monkeypatch, capsys):
    write_video(tmp_path / "clip.mp4")
    pretend(monkeypatch, found_at((110, 60, 210, 190)))
    out = tmp_path / "out"
    words = "overlay,pose,glb,coefficients,arkit,landmarks"
    assert run_reconstruct(stub, monkeypatch, tmp_path / "clip.mp4", "-o", out, "--write", words) == 0
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
    words = [tmp_path / "torn.mp4", "-o", tmp_path / "out", "--write", "overlay,pose"]
    assert run_reconstruct(stub, monkeypatch, *words) == 1
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
    words = [tmp_path / "clip.mp4", "-o", tmp_path / "out", "--write", "overlay,pose"]
    assert run_reconstruct(stub, monkeypatch, *words) == 1
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


def test_landmarks_of_a_video_are_refused(stub, tmp_path, monkeypatch, capsys):
    write_video(tmp_path / "a.mp4", 2)
    np.savetxt(tmp_path / "a.txt", np.zeros((68, 2)))
    words = [tmp_path / "a.mp4", "-o", tmp_path / "out", "--landmarks", tmp_path / "a.txt"]
    assert run_reconstruct(stub, monkeypatch, *words) == 1
    assert "a.txt: --landmarks are for photographs" in capsys.readouterr().err


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
