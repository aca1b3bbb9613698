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
        (lambda d: without(d, "imagepathsvalidation.txt"), "imagepathsvalidation.txt: expected NoW's list"),
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
            "2.jpg: not a readable picture",
        ),
        (
            lambda d: without(d, "NoW_Dataset/final_release_version/detected_face/A/selfie/2.npy"),
            "2.npy: expected a detected face",
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
