"""The measure of UH-E2FAR, on spheres."""

import numpy as np
import pytest

from facemodels import InputError
from facemodels.evaluation import e2far_shape
from tests.evaluation.sphere_scans import RADIUS, UNIT, Stub, check, parse, placed, without, write_picture, write_scan


def write_people(folder, vertices):
    for name in ("anne", "ben"):
        write_scan(folder / name / "scan.obj", vertices)
        write_picture(folder / name / "pictures" / "1.png")
        write_picture(folder / name / "pictures" / "2.png")
    return folder


def test_size_counts(tmp_path):
    data = write_people(tmp_path, placed((RADIUS + 2) * UNIT))
    report = e2far_shape.run(
        Stub([[0.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 0.0]], expression=9.0), data, parse(e2far_shape)
    )
    results = check(report, "e2far-shape")
    np.testing.assert_allclose(report.errors, [2, 0, 0, 2], atol=1e-4)
    assert (
        results["rmse_mm"] == pytest.approx(1, abs=1e-4)
        and results["people"] == 2
        and results["rmse_std_over_people_mm"] == pytest.approx(0, abs=1e-4)
    )


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda d: without(d, "anne/scan.txt"), "scan.obj: expected 68 landmarks"),
        (lambda d: without(d, "anne/scan.obj"), "anne: expected a neutral scan"),
        (
            lambda d: (d / "anne/pictures/1.png").rename(d / "anne/1.png") and without(d, "anne/pictures/2.png"),
            "anne/pictures: expected photographs",
        ),
        (
            lambda d: [(d / name / "pictures").rename(d / name / "photos") for name in ("anne", "ben")],
            "expected a folder for each person",
        ),
    ],
)
def test_error_says_what_is_wrong_with_the_files(tmp_path, damage, message):
    data = write_people(tmp_path, RADIUS * UNIT)
    damage(data)
    with pytest.raises(InputError, match=message):
        e2far_shape.run(Stub([0.0, 0.0]), data, parse(e2far_shape))
