"""68 landmarks on AFLW2000-3D, on made-up photographs and on the development half of the real ones."""

import json
import math
import zipfile

import numpy as np
import pytest
import torch

from facemodels import InputError
from facemodels.core.crops import landmark_box, to_crop
from facemodels.evaluation.aflw2000 import evaluate, predictions, scores
from facemodels.evaluation.aflw2000_data import locate
from facemodels.evaluation.metrics import nme
from tests.data_sets import DATA, needs_data
from tests.evaluation.labeled_faces import SIZE, answers, points_of, write_aflw2000


def test_perfect_predictions_have_no_error_and_a_shift_in_pixels_has_its_own(tmp_path):
    data = write_aflw2000(tmp_path / "AFLW2000")
    assert evaluate(answers(), data)["nme68_2d_plain_percent"] < 1e-4
    results = evaluate(answers(shift=(3, 4)), data, size=64)
    expected = [100 * 5 / np.sqrt(np.ptp(points_of(k), axis=0).prod()) for k in range(5)]
    bins = np.mean(expected[:2]), expected[2], np.mean(expected[3:])
    assert results["nme68_2d_plain_percent"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert results["nme68_2d_balanced_percent"] == pytest.approx(np.mean(bins), rel=1e-4)
    assert results["nme68_2d_std_of_bins_percent"] == pytest.approx(np.std(bins), rel=1e-3)
    assert results["nme68_2d_yaw_60_90_percent"] == pytest.approx(bins[2], rel=1e-4)
    assert [results[f"images_yaw_{b}"] for b in ("0_30", "30_60", "60_90")] == [2, 1, 2]


def test_both_kinds_of_labels_and_yaw_are_scored_if_their_file_exists(tmp_path):
    data = write_aflw2000(tmp_path / "AFLW2000")
    results = evaluate(answers(shift=(3, 0)), data)
    assert results["nme68_2d_reannotated_balanced_percent"] < 1e-4 < results["nme68_2d_balanced_percent"]
    assert results["nme68_2d_between_labels_plain_percent"] == pytest.approx(
        results["nme68_2d_plain_percent"], rel=1e-3
    )
    assert [results[f"images_aflw_yaw_{b}"] for b in ("0_30", "30_60", "60_90")] == [1, 2, 2]
    assert results["nme68_2d_aflw_yaw_balanced_percent"] != results["nme68_2d_balanced_percent"]
    (tmp_path / "AFLW2000_labels.npz").rename(tmp_path / "elsewhere.npz")
    without = evaluate(answers(), data)
    assert not any("reannotated" in k or "aflw_yaw" in k or "between" in k for k in without)
    assert evaluate(answers(shift=(3, 0)), data, labels=tmp_path / "elsewhere.npz") == results


def test_labels_from_3ddfas_own_folder_give_the_same_results(tmp_path):
    data = write_aflw2000(tmp_path / "AFLW2000")
    beside = np.load(tmp_path / "AFLW2000_labels.npz")
    expected = evaluate(answers(), data)
    folder = tmp_path / "test.configs"
    folder.mkdir()
    files = {
        "AFLW2000-3D-Reannotated.pts68": "pts68_reannotated",
        "AFLW2000-3D-new.pose": "yaw_aflw_deg",
        "AFLW2000-3D_crop.roi_box": "roi_box",
    }
    for file, key in files.items():
        np.save(folder / f"{file}.npy", beside[key])
    (tmp_path / "AFLW2000_labels.npz").unlink()
    assert evaluate(answers(), data, labels=folder) == expected
    np.save(folder / "AFLW2000-3D-new.pose.npy", np.ones(9))
    with pytest.raises(InputError, match="aflw_yaw"):
        evaluate(answers(), data, labels=folder)
    (folder / "AFLW2000-3D-new.pose.npy").unlink()
    with pytest.raises(InputError, match="AFLW2000-3D-new.pose.npy"):
        evaluate(answers(), data, labels=folder)


def test_3d_errors_are_scored_if_depth_is_predicted_relative_to_any_origin(tmp_path):
    data = write_aflw2000(tmp_path / "AFLW2000")
    results = evaluate(answers(z=True), data)
    assert results["nme68_3d_min_z_balanced_percent"] < 1e-3 and results["nme68_3d_mean_z_balanced_percent"] < 1e-3
    assert not any("3d" in k for k in evaluate(answers(), data))


def test_stored_boxes_map_back_wrongly_only_where_they_are_clipped(tmp_path):
    data = write_aflw2000(tmp_path / "AFLW2000", shifted=(1,))
    labels = dict(np.load(tmp_path / "AFLW2000_labels.npz"))
    assert labels["roi_box"][1, 2] == SIZE and np.ptp(labels["roi_box"][1, ::2]) < np.ptp(labels["roi_box"][1, 1::2])
    found = predictions(answers(shifted=(1,)), data, boxes="stored")
    assert (
        found.clipped == 1 and found.errors[1] > 3 and np.delete(found.errors, 1).max() < 1
    )  # a box is rounded to pixels
    assert "1 of them clipped" in scores(found)["boxes"]
    assert predictions(answers(shifted=(1,)), data).errors.max() < 1e-4
    (tmp_path / "AFLW2000_labels.npz").unlink()
    with pytest.raises(InputError, match="stored boxes"):
        evaluate(answers(), data, boxes="stored")
    with pytest.raises(InputError, match="recomputed or stored"):
        evaluate(answers(), data, boxes="mine")


def test_results_are_flat_json_that_states_the_protocol_even_with_empty_bins(tmp_path):
    data = write_aflw2000(tmp_path / "AFLW2000")
    results = evaluate(answers(), data, limit=2)
    assert (
        results["images"] == 2
        and results["nme68_2d_balanced_percent"] is None
        and results["nme68_2d_yaw_0_30_percent"] < 1e-4
    )
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert all(isinstance(v, (str, int, float, type(None))) for v in results.values())
    assert all(
        isinstance(v, str) or k.startswith("images") or k.endswith(("_percent", "_percent_of_images"))
        for k, v in results.items()
    )
    assert "from the labeled landmarks" in results["crops"] and results["boxes"] == "recomputed"
    with pytest.raises(InputError, match="limit"):
        evaluate(answers(), data, limit=0)


def test_unreadable_photographs_are_left_out_counted_and_named(tmp_path):
    data = write_aflw2000(tmp_path / "AFLW2000")
    (data / "image00000.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of 5 .* image00000"):
        results = evaluate(lambda crops: torch.zeros(len(crops), 68, 2), data)
    assert results["images"] == 4 and results["images_left_out"] == 1
    for k in range(1, 5):
        (data / f"image{k:05d}.mat").unlink()
    with pytest.raises(InputError, match="none of 5"):
        evaluate(answers(), data)


def test_predictions_that_are_not_finite_or_of_another_shape_are_refused(tmp_path):
    data = write_aflw2000(tmp_path / "AFLW2000")

    def broken(crops):
        points = torch.zeros(len(crops), 68, 2)
        points[3, 5, 1] = math.nan
        return points

    with pytest.raises(InputError, match="image00003"):
        evaluate(broken, data)
    with pytest.raises(ValueError, match="68,2"):
        evaluate(lambda crops: torch.zeros(len(crops), 2, 68), data)


@pytest.mark.parametrize("damage", ["text", "another name", "too few", "nan"])
def test_error_names_a_label_file_that_does_not_fit(tmp_path, damage):
    data, file = write_aflw2000(tmp_path / "AFLW2000"), tmp_path / "AFLW2000_labels.npz"
    arrays = dict(np.load(file))
    if damage == "text":
        file.write_text("no archive")
    else:
        if damage == "another name":
            arrays["names"][2] = "image99999"
        elif damage == "too few":
            arrays["roi_box"] = arrays["roi_box"][:3]
        else:
            arrays["pts68_reannotated"][0, 0, 0] = math.nan
        np.savez(file, **arrays)
    with pytest.raises(InputError, match="AFLW2000_labels.npz") as error:
        evaluate(answers(), data)
    assert "\n" not in str(error.value)


@needs_data("aflw2000_dev.zip")
def test_label_sets_of_the_development_half_differ_as_in_the_whole_set_and_a_mean_shape_is_far_worse():
    """The whole set has 3.381 (balanced) and 3.088 (plain). A mean shape without pose must not come near them."""
    first = predictions(lambda crops: torch.zeros(len(crops), 68, 2), DATA / "aflw2000_dev.zip", size=32)
    results = scores(first)
    assert results["images"] == 1000 and results["images_left_out"] == 0
    assert results["nme68_2d_between_labels_balanced_percent"] == pytest.approx(3.381, abs=0.1)
    assert results["nme68_2d_between_labels_plain_percent"] == pytest.approx(3.088, abs=0.1)
    boxes = [landmark_box(p) for p in first.original[..., :2]]
    mean = np.mean([to_crop(p, b, 32) for p, b in zip(first.original[..., :2], boxes)], 0)
    placed = np.stack([mean * (b[2] - b[0]) / 32 + b[:2] for b in boxes])
    assert nme(placed, first.original[..., :2]).mean() > 4 * results["nme68_2d_between_labels_plain_percent"]


def test_data_set_is_found_in_a_folder_that_contains_its_zip_or_folder(tmp_path):
    data = write_aflw2000(tmp_path / "AFLW2000")
    assert locate(tmp_path) == data and locate(data) == data
    expected = evaluate(answers(shift=(3, 0)), data)
    assert (
        "nme68_2d_reannotated_balanced_percent" in evaluate(answers(shift=(3, 0)), locate(tmp_path))
        and evaluate(answers(shift=(3, 0)), locate(tmp_path)) == expected
    )
    with zipfile.ZipFile(tmp_path / "aflw2000_dev.zip", "w") as archive:
        for file in data.iterdir():
            archive.write(file, f"AFLW2000/{file.name}")
    with pytest.raises(InputError, match="AFLW2000, aflw2000_dev.zip"):
        locate(tmp_path)
    assert locate(tmp_path / "aflw2000_dev.zip") == tmp_path / "aflw2000_dev.zip"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert locate(empty) == empty  # and the reader says that nothing is in it
