"""NoW, on a sphere in the data set's own layout."""

import numpy as np
import pytest
import torch

from facemodels import InputError
from facemodels.core.landmarks import SEVEN
from facemodels.evaluation import now
from tests.evaluation.sphere_scans import (
    EXACT,
    MARKS,
    RADIUS,
    UNIT,
    Stub,
    check,
    parse,
    picked,
    placed,
    without,
    write_picture,
    write_scan,
)


def write_now(folder, vertices, photos=("A/multiview_neutral/1.jpg", "A/selfie/2.jpg")):
    """NoW with one subject, whose scan has two vertices more, far away, that belong to no face."""
    inside = "NoW_Dataset/final_release_version"
    far = np.array([[500.0, 0, 0], [0, 900, 0]])
    for name in photos:
        write_picture(folder / inside / "iphone_pictures" / name, landmarks=False)
        box = (folder / inside / "detected_face" / name).with_suffix(".npy")
        box.parent.mkdir(parents=True, exist_ok=True)
        np.save(box, {"left": 20.0, "top": 30.0, "right": 80.0, "bottom": 100.0}, allow_pickle=True)
    write_scan(folder / "scans" / "A" / "scan.obj", np.concatenate([vertices, far]), marks=False)
    (folder / "scans_lmks_onlypp" / "A").mkdir(parents=True)
    (folder / "scans_lmks_onlypp" / "A" / "scan.pp").write_text(picked(vertices[MARKS[list(SEVEN)]]))
    (folder / "imagepathsvalidation.txt").write_text("\n".join(photos) + "\n")
    return folder


def test_errors_depend_on_shape_alone_and_metrical_errors_on_size_too(tmp_path):
    """A sphere that is 2 mm larger has the same shape; in the metrical variant it is 2 mm away everywhere."""
    data = write_now(tmp_path, placed((RADIUS + 2) * UNIT))
    report = now.run(Stub([0.0, 0.0]), data, parse(now))
    results = check(report, "now")
    assert results["vertices"] == 2 * len(UNIT) == len(report.errors)  # the far vertices are cropped off
    assert results["median_mm"] < EXACT and results["mean_mm"] < EXACT and report.errors.max() < EXACT
    assert results["metrical_median_mm"] == pytest.approx(2, abs=EXACT) and results[
        "metrical_mean_mm"
    ] == pytest.approx(2, abs=EXACT)
    assert report.row == [results["median_mm"], results["mean_mm"], results["std_mm"]] and report.unit == "mm"


def test_the_same_mesh_has_no_error_whatever_its_expression(tmp_path):
    data = write_now(tmp_path, placed((RADIUS + 2) * UNIT))
    results = now.run(Stub([2.0, 0.0], expression=9.0), data, parse(now)).results
    assert results["metrical_mean_mm"] < EXACT and results["mean_mm"] < EXACT


def test_error_is_the_size_of_a_roughness_that_no_alignment_removes(tmp_path):
    """Vertices 1 mm out or in by turns; from within, the faces beside a vertex are a little nearer than it."""
    uneven = np.sign((UNIT[:, 0] ** 2 - UNIT[:, 1] ** 2).round(9))
    data = write_now(tmp_path, placed((RADIUS + uneven)[:, None] * UNIT, scale=1.0))
    report = now.run(Stub([0.0, 0.0]), data, parse(now))
    assert report.results["mean_mm"] == pytest.approx(np.abs(uneven).mean(), rel=0.06)
    assert report.results["median_mm"] == pytest.approx(1, rel=0.06)


def test_vertices_are_pooled_over_all_photographs_and_over_those_of_each_challenge(tmp_path):
    data = write_now(
        tmp_path, placed((RADIUS + 3) * UNIT), ("A/multiview_neutral/1.jpg", "A/selfie/2.jpg", "A/selfie/3.jpg")
    )
    results = now.run(Stub([[3.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), data, parse(now)).results
    assert results["metrical_median_mm"] == pytest.approx(3, abs=1e-3) and results["metrical_mean_mm"] == pytest.approx(
        2, abs=1e-3
    )
    assert results["selfie_images"] == 2 and results["multiview_neutral_images"] == 1 and results["people"] == 1


def test_points_in_another_order_warn_and_are_noted_with_their_file(tmp_path):
    data = write_now(tmp_path, placed(RADIUS * UNIT))
    assert not any("do not fit" in note for note in now.run(Stub([0.0, 0.0]), data, parse(now)).notes)
    file = data / "scans_lmks_onlypp" / "A" / "scan.pp"
    file.write_text(picked(placed(RADIUS * UNIT)[MARKS[list(SEVEN)]][::-1]))
    with pytest.warns(UserWarning, match="scan.pp: expected landmarks of a face"):
        report = now.run(Stub([0.0, 0.0]), data, parse(now, "--keep-going"))
    assert "Landmarks of 1 of 1 scans do not fit" in report.notes[0] and str(file) in report.notes[0]


def test_table_has_a_row_of_the_mean_face_of_the_methods_model(tmp_path):
    data = write_now(tmp_path, placed(RADIUS * UNIT))
    report = now.run(Stub([5.0, 0.0]), data, parse(now))
    assert report.results["mean_face_median_mm"] < EXACT
    (row,) = report.measured
    assert row.values == [report.results[f"mean_face_{key}_mm"] for key in ("median", "mean", "std")]
    assert f"> {row.method}" in report.table()


# Predictions of other methods.


def write_predictions(folder, vertices, photos=("A/multiview_neutral/1", "A/selfie/2"), kinds=("obj", "npy")):
    for photo in photos:
        file = folder / photo
        write_scan(file.with_suffix(".obj"), vertices, marks=False)
        marks = vertices[MARKS[list(SEVEN)]]
        if kinds[1] == "npy":
            np.save(file.with_suffix(".npy"), marks)
        else:
            np.savetxt(file.with_suffix(".txt"), marks, delimiter=", ")
    return folder


@pytest.mark.parametrize("kind", ["npy", "txt"])
def test_predictions_from_files_score_as_the_same_meshes_of_a_method_do(tmp_path, kind):
    data = write_now(tmp_path / "now", placed((RADIUS + 2) * UNIT))
    made = write_predictions(tmp_path / "theirs", placed(RADIUS * UNIT, (0.1, 0.2, 0.3)) / 1e3, kinds=("obj", kind))
    options = parse(now, "--predictions", str(made), "--unit", "m")
    report = now.run(None, data, options)
    expected = now.run(Stub([0.0, 0.0]), data, parse(now)).results
    assert report.results["images"] == 2
    for key in ("mean_mm", "metrical_mean_mm", "metrical_median_mm"):
        assert report.results[key] == pytest.approx(expected[key], abs=1e-3), key


def test_predictions_need_no_pictures_and_any_mesh_will_do(tmp_path):
    data = write_now(tmp_path / "now", placed(RADIUS * UNIT))
    (data / "NoW_Dataset").rename(tmp_path / "elsewhere")
    made = write_predictions(tmp_path / "theirs", np.concatenate([RADIUS * UNIT, [[0, 0, 500.0]]]))
    assert now.run(None, data, parse(now, "--predictions", str(made))).results["mean_mm"] < 1e-3


def test_predictions_whose_landmarks_have_exchanged_sides_are_named_and_not_the_scan(tmp_path):
    data = write_now(tmp_path / "now", placed(RADIUS * UNIT))
    made = write_predictions(tmp_path / "theirs", RADIUS * UNIT)
    file = made / "A/selfie/2.npy"
    np.save(file, np.load(file)[[3, 2, 1, 0, 4, 6, 5]])
    with pytest.warns(UserWarning, match="2.npy: expected landmarks of a face, .*of the scan .*left and right"):
        report = now.run(None, data, parse(now, "--predictions", str(made)))
    assert report.notes[0].startswith(f"Landmarks of 1 of 2 predictions do not fit; the first, {file}: ")
    marks = placed(RADIUS * UNIT)[MARKS[list(SEVEN)]][[3, 2, 1, 0, 4, 6, 5]]
    (data / "scans_lmks_onlypp" / "A" / "scan.pp").write_text(picked(marks))
    write_predictions(tmp_path / "theirs", RADIUS * UNIT)
    with pytest.warns(UserWarning, match="scan.pp: expected landmarks of a face, .*left and right"):
        report = now.run(None, data, parse(now, "--predictions", str(made), "--keep-going"))
    assert "Landmarks of 1 of 1 scans do not fit" in report.notes[0]


@pytest.mark.parametrize("unit, size", [("mm", "0.001"), ("cm", "0.01")])
def test_a_wrong_unit_of_predictions_is_named(unit, size, tmp_path):
    data = write_now(tmp_path / "now", placed(RADIUS * UNIT))
    made = write_predictions(tmp_path / "theirs", RADIUS * UNIT / 1000)
    words = f"1.npy: expected a face in millimeters, found landmarks of one {size} times .*--unit"
    options = ("--predictions", str(made), "--unit", unit)
    with pytest.warns(UserWarning, match=words):
        report = now.run(None, data, parse(now, *options))
    assert report.results["metrical_median_mm"] > 10 * report.results["median_mm"]  # of which the unit is no part
    assert "2 of 2 predictions" in report.notes[0] and "--unit" in report.notes[0]
    assert now.run(None, data, parse(now, "--predictions", str(made), "--unit", "m")).results["metrical_mean_mm"] < 1e-3


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda d: without(d, "A/selfie/2.obj"),
            "found none for 1 of them; the first that is missing is A/selfie/2.obj",
        ),
        (lambda d: without(d, "A/selfie/2.npy"), "the first that is missing is A/selfie/2.txt or .npy"),
        (lambda d: d.rename(d.with_name("moved")), "theirs: there is no such folder of predictions$"),
        (lambda d: np.save(d / "A/selfie/2.npy", np.zeros((68, 3))), r"seven landmarks \[7,3\].*found \[68, 3\]"),
        (lambda d: np.save(d / "A/selfie/2.npy", np.full((7, 3), np.nan)), "found one that is not finite"),
        (lambda d: (d / "A/selfie/2.npy").write_text("no"), "2.npy: expected seven landmarks"),
        (lambda d: (d / "A/selfie/2.obj").write_text("v 0 0 0\n"), "2.obj: expected a scan with triangles"),
    ],
)
def test_error_says_what_is_wrong_with_predictions(tmp_path, damage, message):
    data = write_now(tmp_path / "now", placed(RADIUS * UNIT))
    made = write_predictions(tmp_path / "theirs", RADIUS * UNIT)
    damage(made)
    with pytest.raises(InputError, match=message) as error:
        now.run(None, data, parse(now, "--predictions", str(made)))
    assert "\n" not in str(error.value)


def test_crop_depends_on_the_distance_of_the_eyes_and_the_length_of_the_nose():
    marks = torch.tensor(
        [[-45.0, 40, 0], [-15, 40, 0], [15, 40, 0], [45, 40, 0], [0, 0, 0], [-20, -20, 0], [20, -20, 0]],
        dtype=torch.float64,
    )
    radius = 1.4 * (90 + 40) / 2  # around a point 12 mm above the base of the nose
    vertices = torch.tensor(
        [[0, 12 + radius - 0.01, 0], [0, 12 + radius + 0.01, 0], [radius - 0.01, 12, 0], [0, 12 - radius - 0.01, 0]],
        dtype=torch.float64,
    )
    assert torch.equal(now.cropped(vertices, marks), vertices[[0, 2]])


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda d: without(d, "imagepathsvalidation.txt"),
            "imagepathsvalidation.txt: there is no such file; expected NoW's list",
        ),
        (
            lambda d: (d / "imagepathsvalidation.txt").write_text("A/1.jpg\n"),
            "imagepathsvalidation.txt: expected lines subject/challenge/name.jpg",
        ),
        (
            lambda d: (d / "imagepathsvalidation.txt").write_text("B/selfie/1.jpg\n"),
            "scans/B: expected a scan, one file",
        ),
        (
            lambda d: without(d, "scans_lmks_onlypp/A/scan.pp"),
            "scans_lmks_onlypp/A: expected the scan's seven landmarks",
        ),
        (
            lambda d: (d / "scans_lmks_onlypp/A/scan.pp").write_text(picked(np.full((7, 3), 9e4))),
            "scan.pp: expected landmarks that lie on the scan",
        ),
        (
            lambda d: without(d, "NoW_Dataset/final_release_version/iphone_pictures/A/selfie/2.jpg"),
            "2.jpg: there is no such file",
        ),
        (
            lambda d: without(d, "NoW_Dataset/final_release_version/detected_face/A/selfie/2.npy"),
            "2.npy: there is no such file; expected a detected face",
        ),
        (
            lambda d: np.save(d / "NoW_Dataset/final_release_version/detected_face/A/selfie/2.npy", np.ones(4)),
            "2.npy: expected a detected face",
        ),
    ],
)
def test_error_says_what_is_wrong_with_the_files(tmp_path, damage, message):
    data = write_now(tmp_path, placed(RADIUS * UNIT))
    damage(data)
    with pytest.raises(InputError, match=message) as error:
        now.run(Stub([0.0, 0.0]), data, parse(now))
    assert "\n" not in str(error.value)


def test_error_says_where_pictures_were_looked_for(tmp_path):
    data = write_now(tmp_path, placed(RADIUS * UNIT))
    (data / "NoW_Dataset").rename(data / "elsewhere")
    with pytest.raises(InputError, match="expected NoW's folder iphone_pictures"):
        now.run(Stub([0.0, 0.0]), data, parse(now))
