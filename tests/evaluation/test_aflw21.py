"""The visible ones of 21 landmarks on AFLW, on made-up crops."""

import json
import math
import zipfile
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from facemodels import InputError
from facemodels.core.parameters import FaceParameters
from facemodels.evaluation import aflw21
from tests.evaluation.labeled_faces import Stub, parse


def points68(k):
    return np.random.default_rng(900 + k).uniform(18, 102, (68, 2))  # of a crop of 120 pixels


HIDDEN = {0: (), 1: (5, 20), 2: tuple(range(21)), 3: (0,)}


def write_aflw(folder, fitted=False, yaw=(0, 45, 70, -80)):
    """Write four crops of boxes of 240 pixels; their labels are 21 points of `points68`, all hidden in the third."""
    folder.mkdir()
    names = [f"image{k:05d}.jpg" for k in range(4)]
    corner = np.array([30.0, 50])  # first pixel of the box, counted from 1
    of_photo = lambda crop: crop.T * 2 + corner[:, None] - 0.5  # noqa: E731
    points = np.stack([of_photo(aflw21.to_aflw(points68(k)[None])[0]) for k in range(4)])
    for k, hidden in HIDDEN.items():
        points[k][:, list(hidden)] = -1
    boxes = np.tile(np.r_[corner, corner + 239], (4, 1))
    arrays = dict(
        names=np.array(names), pts21=points.astype(np.float32), roi_box=boxes, yaw_deg=np.array(yaw, np.float32)
    )
    if fitted:
        arrays["pts68"] = np.stack([of_photo(points68(k)) for k in range(4)]).astype(np.float32)
    np.savez(folder / "aflw_crops_labels.npz", **arrays)
    with zipfile.ZipFile(folder / "aflw_crops.zip", "w") as archive:
        for name in names:
            archive.writestr(
                f"crops/{name}", iio.imwrite("<bytes>", np.zeros((120, 120, 3), np.uint8), extension=".jpg")
            )
    return folder, arrays


def seen_aflw(move=(0.0, 0.0), **config):
    """Predicts `points68` of the faces with visible points (0, 1, 3), moved by pixels of the stored crops."""

    def answer(k):
        points = (points68((0, 1, 3)[k]) + move) / 2
        return FaceParameters(
            *[torch.zeros(1)] * 5, torch.from_numpy(np.concatenate([points, np.zeros((68, 1))], 1)).float()
        )

    return Stub(answer, **config)


def test_the_21_points_of_aflw_are_means_of_groups_of_68():
    points = np.arange(68.0)[None, :, None].repeat(2, 2)
    expected = [17, 19, 21, 22, 24, 26, 36, 38.5, 39, 42, 44.5, 45, 2, 31, 30, 35, 14, 48, 63.5, 54, 8]
    np.testing.assert_array_equal(aflw21.to_aflw(points)[0, :, 0], expected)


def test_only_visible_points_count_relative_to_the_box_of_the_fitted_face_in_bins_of_yaw(tmp_path):
    data, _ = write_aflw(tmp_path / "aflw", fitted=True)
    found = aflw21.run(seen_aflw((3, -4)), data, parse(aflw21))
    expected = [100 * 5 / side(k) for k in (0, 1, 3)]
    np.testing.assert_allclose(found.errors, expected, rtol=1e-4)
    assert (
        found.results["images"] == 3
        and found.results["images_without_visible_points"] == 1
        and "without a visible point" in " ".join(found.notes)
    )
    assert found.row == pytest.approx([*expected, np.mean(expected)], rel=1e-4)
    assert [found.results[f"images_yaw_{b}"] for b in ("0_30", "30_60", "60_90")] == [1, 1, 1]
    assert "smaller" not in " ".join(found.notes)
    assert json.loads(json.dumps(found.results, allow_nan=False)) == found.results
    assert aflw21.run(seen_aflw(), data, parse(aflw21, "--limit", "1")).results["images"] == 1


THEIRS = [2.685608339, 11.878352105, 2.737543593]  # printed by 3DDFA's program itself, in double precision


def test_stored_boxes_map_predictions_back_as_3ddfas_program_does(tmp_path):
    """Its formula: pixels of a crop of 120, times the box's size / 120, plus the box's corner, all as in the files."""
    data, arrays = write_aflw(tmp_path / "aflw", fitted=True)
    boxes = arrays["roi_box"].copy()
    boxes[1, 3] -= 40  # clipped at the lower border
    np.savez(data / "aflw_crops_labels.npz", **arrays | {"roi_box": boxes})
    found = aflw21.run(seen_aflw((1, 2)), data, parse(aflw21, "--boxes", "stored"))
    expected = []
    for k in (0, 1, 3):
        left, top, right, bottom = boxes[k]
        predicted = np.float64(np.float32((points68(k) + [1, 2]) / 2)) * 2  # as the method gives them
        back = predicted * [(right - left) / 120, (bottom - top) / 120] + [left, top]
        labels, fitted = np.float64(arrays["pts21"][k].T), np.float64(arrays["pts68"][k])
        seen = (labels != -1).all(1)
        far = np.linalg.norm(aflw21.to_aflw(back[None])[0] - labels, axis=1)[seen].mean()
        expected.append(100 * far / np.sqrt(np.prod(fitted.max(1) - fitted.min(1))))
    np.testing.assert_allclose(found.errors, expected, rtol=1e-9)
    np.testing.assert_allclose(found.errors, THEIRS, rtol=1e-9)
    assert found.results["boxes"] == "stored" and "--boxes" not in " ".join(found.notes)
    completed = aflw21.run(seen_aflw((1, 2)), data, parse(aflw21))
    np.testing.assert_allclose(completed.errors[[0, 2]], [100 * 5**0.5 / side(k) for k in (0, 3)], rtol=1e-4)
    assert completed.results["boxes"] == "completed" and "--boxes stored" in " ".join(completed.notes)


def side(k):
    return np.sqrt(np.ptp(points68(k), axis=0).prod())


def test_without_fitted_points_errors_are_normalized_by_the_crop_and_the_report_says_so(tmp_path):
    data, _ = write_aflw(tmp_path / "aflw")
    found = aflw21.run(seen_aflw((3, -4)), data / "aflw_crops.zip", parse(aflw21))
    np.testing.assert_allclose(found.errors, 100 * 5 * math.sqrt(2) / 120, rtol=1e-4)
    assert any("smaller" in note for note in found.notes) and "crop" in found.results["box"] and "crop" in found.title


def test_3ddfas_own_files_give_the_same_results(tmp_path):
    data, arrays = write_aflw(tmp_path / "aflw", fitted=True)
    expected = aflw21.run(seen_aflw((1, 1)), data, parse(aflw21))
    crops, labels = tmp_path / "test.data" / "AFLW_GT_crop", tmp_path / "test.configs"
    crops.mkdir(parents=True)
    labels.mkdir()
    with zipfile.ZipFile(data / "aflw_crops.zip") as archive:
        for member in archive.namelist():
            (crops / Path(member).name).write_bytes(archive.read(member))
    crops.with_name("AFLW_GT_crop.list").write_text("\n".join(arrays["names"]) + "\n")
    for key, file in aflw21._TDDFA_FILES.items():
        np.save(labels / file, arrays[key])
    for path in (crops, crops.parent):
        assert aflw21.run(seen_aflw((1, 1)), path, parse(aflw21, "--labels", str(labels))).results == expected.results
    (labels / "AFLW_GT_pts21.npy").write_bytes(b"no")
    with pytest.raises(InputError, match="AFLW_GT_pts21.npy"):
        aflw21.run(seen_aflw(), crops, parse(aflw21, "--labels", str(labels)))
    with pytest.raises(InputError, match="AFLW_GT_crop.list"):
        aflw21.run(seen_aflw(), labels, parse(aflw21, "--labels", str(labels)))


@pytest.mark.parametrize(
    "wild, seen",
    [("data/aflw_crops.zip", True), ("AFLW", True), ("synthetic", False), ("photos", False), (None, False)],
)
def test_notes_warn_of_a_method_that_was_trained_on_aflw(wild, seen, tmp_path):
    data, _ = write_aflw(tmp_path / "faces")
    config = {} if wild is None else {"wild": wild}
    found = aflw21.run(seen_aflw(**config), data, parse(aflw21))
    assert any("trained on AFLW" in note for note in found.notes) == seen
    assert aflw21.trained_on_aflw(Stub(None, wild=str(data))), "a folder that holds the crops"


def test_unreadable_crops_are_left_out_counted_and_named(tmp_path):
    data, arrays = write_aflw(tmp_path / "aflw")
    with zipfile.ZipFile(data / "aflw_crops.zip") as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if "image00003" not in name}
    with zipfile.ZipFile(data / "aflw_crops.zip", "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content if "image00001" not in name else b"no picture")
    with pytest.warns(UserWarning, match="2 of 3 .*image00001.jpg, image00003.jpg"):
        assert aflw21.run(seen_aflw(), data, parse(aflw21)).results["images_left_out"] == 2
    damages = [
        ({"names": np.arange(4)}, "4 names"),
        ({"pts21": arrays["pts21"][:3]}, "roi_box"),
        ({"roi_box": arrays["roi_box"] * 0}, "boxes"),
    ]
    for changed, match in (*damages, ({"pts21": arrays["pts21"] * 0 - 1}, "visible point")):
        np.savez(data / "aflw_crops_labels.npz", **arrays | changed)
        with pytest.raises(InputError, match=match) as error:
            aflw21.run(seen_aflw(), data, parse(aflw21))
        assert "\n" not in str(error.value)
    (data / "aflw_crops.zip").write_bytes(b"no zip")
    np.savez(data / "aflw_crops_labels.npz", **arrays)
    with pytest.raises(InputError, match="not a readable zip"):
        aflw21.run(seen_aflw(), data, parse(aflw21))
