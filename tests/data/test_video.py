"""Videos as data: persons and crops of their frames, landmarks beside them, and what cannot be used."""

import shutil

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from facemodels.core.crops import landmark_box, to_crop
from facemodels.core.errors import InputError
from facemodels.data.video import videos
from tests.data.pictures import five, write_frames


def test_frames_know_their_person_and_their_square(tmp_path):
    write_frames(tmp_path / "anna", 6)
    write_frames(tmp_path / "bert", 3, first=10)
    (tmp_path / "empty").mkdir()
    with pytest.warns(
        UserWarning,
        match="2 of 2 videos have no landmarks beside them and are cropped to the square in the middle: anna, bert",
    ) as caught:
        faces = videos(tmp_path, 32, every=2)
    assert len(caught) == 1
    assert faces.person.tolist() == [0, 0, 0, 1, 1] and faces.person.dtype == torch.int64 and faces.landmarks is None
    assert faces.image[:, 0, 16, 16].tolist() == [40, 60, 80, 140, 160]
    assert faces.image[..., [0, 2, -3, -1]].amin() > 200
    with pytest.warns(UserWarning):
        assert videos(tmp_path, 32, limit=2).image[:, 0, 0, 16].tolist() == [40, 50, 140, 150]


def test_frames_are_cut_out_around_landmarks_of_either_form(tmp_path):
    write_frames(tmp_path / "each", 3, marks=True)
    write_frames(tmp_path / "table", 3)
    table = np.stack([five(30 + k, 30, 12) for k in range(3)])
    table[1] = np.nan
    np.save(tmp_path / "table.npy", table)
    (tmp_path / "each" / "0001.npy").unlink()
    with pytest.warns(UserWarning, match="2 of 6 pictures are left out: each, frame 1, table, frame 1"):
        faces = videos(tmp_path, 40)
    assert faces.person.tolist() == [0, 0, 1, 1] and faces.visible.all()
    for got, k in zip(faces.landmarks, (0, 2, 0, 2)):
        points = five(30 + k, 30, 12)
        np.testing.assert_allclose(got, to_crop(points, landmark_box(points), 40), atol=1e-3)


def test_videos_with_and_without_landmarks_lie_beside_each_other(tmp_path):
    write_frames(tmp_path / "with", 2, marks=True)
    write_frames(tmp_path / "without", 2)
    with pytest.warns(UserWarning, match="1 of 2 videos have no landmarks.*: without$"):
        faces = videos(tmp_path, 24)
    assert faces.landmarks.shape == (4, 5, 2) and faces.visible.all(1).tolist() == [True, True, False, False]
    assert faces.landmarks[2:].isnan().all() and not faces.landmarks[:2].isnan().any()


@pytest.mark.filterwarnings("ignore")
def test_landmarks_that_do_not_fit_are_refused_or_left_out(tmp_path):
    write_frames(tmp_path / "a", 4)
    write_frames(tmp_path / "b", 4, marks=True)
    np.save(tmp_path / "a.npy", np.stack([five(30, 30, 12)] * 3))
    with pytest.warns(UserWarning, match="left out: a, frame 0; .*landmarks of 3 frames, and the folder has 4"):
        assert videos(tmp_path).person.tolist() == [1] * 4
    np.save(tmp_path / "a.npy", np.zeros((4, 7, 2)))
    with pytest.warns(UserWarning, match=r"\[T,L,2\] with L = 68, 21 or 5"):
        assert videos(tmp_path).person.tolist() == [1] * 4
    np.save(tmp_path / "a.npy", np.random.default_rng(0).uniform(10, 50, (4, 21, 2)))
    with pytest.raises(InputError, match="must all be of one kind"):
        videos(tmp_path)


def test_folders_without_videos_are_refused(tmp_path):
    for path, match in ((tmp_path / "none", "no such folder"), (tmp_path, "expected video files")):
        with pytest.raises(InputError, match=match):
            videos(path)
    with pytest.raises(InputError, match="every and limit"):
        videos(tmp_path, every=0)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # imageio's, where ffmpeg ends by itself
def test_video_files_are_read_as_their_frames_and_damaged_ones_named(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg")
    frames = [np.full((64, 96, 3), 40 + 15 * k, np.uint8) for k in range(9)]
    iio.imwrite(tmp_path / "anna.mp4", frames, plugin="FFMPEG", fps=10)
    (tmp_path / "bert").mkdir()
    iio.imwrite(tmp_path / "bert" / "one.mp4", frames[:4], plugin="FFMPEG", fps=10)
    iio.imwrite(tmp_path / "bert" / "two.mp4", frames[4:], plugin="FFMPEG", fps=10)
    np.save(tmp_path / "anna.npy", np.stack([five(40, 30, 12)] * 9))
    (tmp_path / "carl.mp4").write_bytes(b"not a video")
    with pytest.warns(UserWarning) as caught:
        faces = videos(tmp_path, 32, every=3, limit=2)
    lines = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    assert any("1 of 7 pictures are left out: carl.mp4, frame 0" in line for line in lines), lines
    assert any(
        "3 of 4 videos have no landmarks" in line and "bert/one.mp4, bert/two.mp4, carl.mp4" in line for line in lines
    ), lines
    assert faces.person.tolist() == [0, 0, 1, 1, 1, 1]
    assert (faces.image[:, 0, 16, 16].int() - torch.tensor([40, 85, 40, 85, 100, 145])).abs().max() < 5
    with pytest.warns(UserWarning, match="1 of 1 videos have no landmarks.*: one.mp4$"):
        assert videos(tmp_path / "bert" / "one.mp4", 32).person.tolist() == [0] * 4  # a video alone
    for number, match in ((5, "and the video has more"), (11, "and the video has 9")):
        alone = tmp_path / str(number)
        alone.mkdir()
        shutil.copy(tmp_path / "anna.mp4", alone)
        np.save(alone / "anna.npy", np.stack([five(40, 30, 12)] * number))
        with pytest.warns(UserWarning, match=f"anna.npy: landmarks of {number} frames, {match}"):
            assert len(videos(alone, 32)) == min(number, 9)
