"""FaceWarehouse, on a sphere in the data set's own layout."""

import numpy as np
import pytest

from facemodels import InputError
from facemodels.evaluation import facewarehouse
from tests.evaluation.sphere_scans import (
    EXACT,
    MARKS,
    RADIUS,
    UNIT,
    Stub,
    check,
    parse,
    placed,
    without,
    write_picture,
    write_scan,
)


def write_facewarehouse(folder, vertices, poses=3):
    for pose in range(poses):
        home = folder / "Tester_1" / "TrainingPose"
        write_scan(home / f"pose_{pose}.obj", vertices, marks=False)
        write_picture(home / f"pose_{pose}.png")
    (folder / "landmarks.txt").write_text(" ".join(map(str, [*[-1] * 17, *MARKS[17:]])))
    return folder


def test_unit_is_found_and_expression_is_kept(tmp_path):
    """Meshes in decimeters; the expression makes the head longer by 4 mm at the poles."""
    long = RADIUS * UNIT + 4 * UNIT * [0, 1, 0]
    data = write_facewarehouse(tmp_path, placed(long / 100, shift=(0, 0, 1)))
    report = facewarehouse.run(Stub([0.0, 0.0], expression=4.0), data, parse(facewarehouse))
    results = check(report, "facewarehouse")
    assert results["distance_mm"] < EXACT and results["meshes"] == 3 and results["people"] == 1
    assert facewarehouse.run(Stub([0.0, 0.0]), data, parse(facewarehouse)).results["distance_mm"] > 0.5


def test_errors_are_in_millimeters(tmp_path):
    uneven = np.sign((UNIT[:, 0] ** 2 - UNIT[:, 1] ** 2).round(9))
    data = write_facewarehouse(tmp_path, placed((RADIUS + uneven)[:, None] * UNIT / 100, shift=(0, 0, 1)), poses=1)
    assert facewarehouse.run(Stub([0.0, 0.0]), data, parse(facewarehouse)).results["distance_mm"] == pytest.approx(
        np.abs(uneven).mean(), rel=0.06
    )


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda d: without(d, "landmarks.txt"), "landmarks.txt: there is no such file; expected 68 vertex numbers"),
        (lambda d: (d / "landmarks.txt").write_text("1 2 3"), "landmarks.txt: expected 68 vertex numbers.*found 3"),
        (lambda d: (d / "landmarks.txt").write_text("a " * 68), "landmarks.txt: expected 68 vertex numbers"),
        (lambda d: (d / "landmarks.txt").write_text("-1 " * 68), "landmarks.txt: expected at least four"),
        (
            lambda d: (d / "landmarks.txt").write_text(" ".join(map(str, range(9_000, 9_068)))),
            "landmarks.txt: expected vertex numbers below",
        ),
        (lambda d: (d / "landmarks.txt").write_text("5 " * 68), "corners of the eyes coincide"),
        (lambda d: without(d, "Tester_1/TrainingPose/pose_0.obj"), "expected pictures pose_0.png"),
        (lambda d: (d / "Tester_1").rename(d / "Somebody"), "expected FaceWarehouse's folders"),
    ],
)
def test_error_says_what_is_wrong_with_the_files(tmp_path, damage, message):
    data = write_facewarehouse(tmp_path, placed(RADIUS * UNIT), poses=1)
    damage(data)
    with pytest.raises(InputError, match=message):
        facewarehouse.run(Stub([0.0, 0.0]), data, parse(facewarehouse))
