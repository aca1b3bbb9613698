"""Landmark files of every kind, with their conventions, and files that are wrong."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from facemodels import InputError
from facemodels.io.landmarks import check_inside, read_landmarks, sidecar

POINTS = np.random.default_rng(0).uniform(10, 200, (68, 2)).round(3)


def write(path, points):
    if path.suffix == ".txt":
        path.write_text("\n".join(f"{x} {y}" for x, y in points))
    elif path.suffix == ".pts":
        path.write_text("version: 1\nn_points: 68\n{\n" + "\n".join(f"{x} {y}" for x, y in points) + "\n}\n")
    elif path.suffix == ".npy":
        np.save(path, points)
    elif path.suffix == ".json":
        path.write_text(json.dumps({"landmarks": points.tolist()}))
    return path


@pytest.mark.parametrize("suffix, offset", [(".txt", 0), (".npy", 0), (".json", 0), (".pts", -0.5)])
@pytest.mark.parametrize("count", [68, 21, 5])
def test_each_kind_holds_the_points_and_one_based_ones_are_shifted_to_pixel_corners(tmp_path, suffix, offset, count):
    found = read_landmarks(write(tmp_path / f"a{suffix}", POINTS[:count]))
    np.testing.assert_allclose(found.points, POINTS[:count] + offset, atol=1e-4)
    assert found.points.dtype == np.float32 and found.contour == "moving"


def test_aflw2000_labels_are_static_and_one_based(tmp_path):
    savemat(tmp_path / "a.mat", {"pt3d_68": np.concatenate([POINTS.T, np.zeros((1, 68))]), "pt2d": np.ones((2, 21))})
    found = read_landmarks(tmp_path / "a.mat")
    np.testing.assert_allclose(found.points, POINTS - 0.5, atol=1e-4)
    assert found.contour == "static"


@pytest.mark.parametrize("key, contour", [("pts_3d", "static"), ("pts_2d", "moving"), ("landmarks", "moving")])
def test_300w_lp_arrays_are_read(tmp_path, key, contour):
    savemat(tmp_path / "a.mat", {key: POINTS})
    found = read_landmarks(tmp_path / "a.mat")
    np.testing.assert_allclose(found.points, POINTS - 0.5, atol=1e-4)
    assert found.contour == contour


def test_invisible_points_of_aflw_are_missing(tmp_path):
    points = POINTS[:21].T.copy()
    points[:, 4], points[1, 7] = -1, 0
    savemat(tmp_path / "a.mat", {"pt2d": points})
    found = read_landmarks(tmp_path / "a.mat").points
    assert np.isnan(found).any(1).nonzero()[0].tolist() == [4, 7]


def test_a_subset_by_ibug_number(tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps({"36": [1, 2, 3], "45": [4, 5, 6], "48": [7, 8, 9], "54": [1, 1, 1], "8": [2, 2, 2]})
    )
    found = read_landmarks(tmp_path / "a.json", dimensions=3).points
    assert found.shape == (68, 3) and (~np.isnan(found).any(1)).sum() == 5
    np.testing.assert_array_equal(found[45], [4, 5, 6])


def test_files_of_the_same_name_are_found(tmp_path):
    assert sidecar(tmp_path / "photo.jpg") is None
    write(tmp_path / "photo.npy", POINTS)
    assert sidecar(tmp_path / "photo.jpg") == tmp_path / "photo.npy"


def damaged(path, kind):
    if kind == "count":
        write(path, POINTS[:60])
    elif kind == "few":
        points = POINTS.copy()
        points[3:] = np.nan
        write(path, points)
    elif kind == "infinite":
        points = POINTS.copy()
        points[3, 1] = np.inf
        write(path, points)
    elif kind == "bytes":
        path.write_bytes(b"\x80\x04\x95\xff\xfe not what it says")
    elif kind == "empty":
        path.write_bytes(b"")
    return path


@pytest.mark.parametrize("suffix", [".txt", ".pts", ".npy", ".json", ".mat"])
@pytest.mark.parametrize("kind", ["bytes", "empty"])
def test_damaged_files_get_one_sentence_that_names_them(tmp_path, suffix, kind):
    path = damaged(tmp_path / f"bad{suffix}", kind)
    with pytest.raises(InputError) as error:
        read_landmarks(path)
    assert "bad" + suffix in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".txt", ".npy", ".json"])
@pytest.mark.parametrize("kind, words", [("count", "60"), ("few", "3 of 68"), ("infinite", "infinite")])
def test_wrong_points_get_one_sentence_that_says_what_is_wrong(tmp_path, suffix, kind, words):
    with pytest.raises(InputError, match=words):
        read_landmarks(damaged(tmp_path / f"bad{suffix}", kind))


def test_no_code_of_a_pickled_array_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    np.save(tmp_path / "a.npy", np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(InputError, match="a.npy"):
        read_landmarks(tmp_path / "a.npy")


def test_missing_files_and_other_kinds(tmp_path):
    with pytest.raises(InputError, match="no such"):
        read_landmarks(tmp_path / "a.txt")
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(InputError, match=".mat"):
        read_landmarks(tmp_path / "a.csv")
    savemat(tmp_path / "a.mat", {"other": POINTS})
    with pytest.raises(InputError, match="pt3d_68"):
        read_landmarks(tmp_path / "a.mat")


def test_text_that_is_not_numbers_names_its_line(tmp_path):
    (tmp_path / "a.txt").write_text("1 2\n3 four\n")
    with pytest.raises(InputError, match="line 2"):
        read_landmarks(tmp_path / "a.txt")


def test_landmarks_of_another_image_or_scale_are_noticed_and_a_few_outside_are_not():
    points = POINTS.astype(np.float32)
    points[:10] += 1000
    check_inside(points, (224, 224), "a.txt")
    for wrong in (points + 1000, POINTS / 224):
        with pytest.raises(InputError, match="224 x 224"):
            check_inside(wrong, (224, 224), "a.txt")
