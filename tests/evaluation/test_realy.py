"""REALY, on a sphere in the data set's own layout."""

import numpy as np
import pytest
import torch

from facemodels import InputError
from facemodels.core.alignment import Similarity
from facemodels.evaluation import realy
from facemodels.evaluation.scans import Scan
from facerender.camera import euler_rotation
from tests.evaluation.sphere_scans import (
    FACES,
    MARKS,
    RADIUS,
    UNIT,
    Stub,
    check,
    parse,
    placed,
    surface,
    without,
    write_picture,
)


def write_realy(folder, vertices, names=("1", "2"), scale=10.0):
    """Regions are those parts of the ball that lie nearest to their keypoints, in units of `scale` millimeters."""
    vertices = vertices / scale
    centers = {
        name: UNIT[MARKS[list(numbers)]].mean(0) if numbers else np.array([-0.8, -0.3, 0.3])
        for name, numbers in realy.REGIONS.items()
    }
    for name in names:
        home = folder / "REALY_scan_region" / name
        home.mkdir(parents=True)
        for region, center in centers.items():
            near = np.linalg.norm(UNIT - center / np.linalg.norm(center), axis=1) < 0.8
            faces = FACES[near[FACES].all(1)]
            used, faces = np.unique(faces, return_inverse=True)
            text = "".join(f"v {x:.9f} {y:.9f} {z:.9f}\n" for x, y, z in vertices[used]) + "".join(
                f"f {a} {b} {c}\n" for a, b, c in faces.reshape(-1, 3) + 1
            )
            (home / f"{region}.obj").write_text(text)
        keypoints = folder / "REALY_HIFI3D_keypoints" / f"{name}.obj"
        keypoints.parent.mkdir(exist_ok=True)
        keypoints.write_text("".join(f"v {x:.9f} {y:.9f} {z:.9f}\n" for x, y, z in vertices[[*MARKS, *[0] * 17]]))
        write_picture(folder / "REALY_image" / f"{name}.png")
    write_picture(folder / "REALY_image" / "side" / "1_left.png")
    (folder / "metrical_scale.txt").write_text("\n".join([str(scale)] * len(names)))
    return folder


def test_error_of_the_scan_itself_is_zero_in_every_region(tmp_path):
    data = write_realy(tmp_path, placed(RADIUS * UNIT, scale=1.2))
    report = realy.run(Stub([0.0, 0.0]), data, parse(realy))
    results = check(report, "realy")
    assert (
        max(report.row) < 1e-4
        and results["frontal_images"] == 2
        and results["side_images"] == 1
        and results["scans"] == 2
    )
    assert results["side_all_mm"] < 1e-4


def test_dent_counts_in_its_region_in_millimeters(tmp_path):
    """A dent in the cheek alone, 2 mm deep in its middle."""
    middle = np.array([-0.8, -0.3, 0.3]) / np.linalg.norm([-0.8, -0.3, 0.3])
    dent = 2 * np.exp(-((np.linalg.norm(UNIT - middle, axis=1) / 0.25) ** 2))
    data = write_realy(tmp_path, (RADIUS - dent)[:, None] * UNIT, names=("7",))
    results = realy.run(Stub([0.0, 0.0]), data, parse(realy)).results
    inside = np.linalg.norm(UNIT - middle, axis=1) < 0.75
    assert results["frontal_cheek_mm"] == pytest.approx(dent[inside].mean(), rel=0.5)
    assert results["frontal_cheek_mm"] > 5 * results["frontal_forehead_mm"]
    assert results["frontal_all_mm"] == pytest.approx(
        np.mean([results[f"frontal_{region}_mm"] for region in realy.REGIONS])
    )
    assert results["frontal_cheek_std_mm"] is None  # of one scan


def test_error_includes_distances_of_counterparts_along_the_surface(monkeypatch):
    """The prediction is the same surface with a keypoint elsewhere on it; the distance of closest points would be 0."""
    monkeypatch.setattr(realy, "align_closest_points", lambda points, surface, start, **_: start)
    here = Similarity(torch.tensor(1.0).double(), torch.eye(3).double(), torch.zeros(3).double())
    predicted = surface()
    numbers = list(realy.REGIONS["nose"])
    scan, keypoints = Scan(predicted.vertices, predicted.faces), predicted.landmarks[numbers].clone()
    assert realy.region_error(scan, keypoints, predicted, numbers, here) < 1e-6
    predicted.landmarks[numbers] = keypoints @ euler_rotation(torch.tensor([[0.0, 0.1, 0.0]], dtype=torch.float64))[0].T
    assert (
        realy.region_error(scan, keypoints, predicted, numbers, here) > 0.6
    )  # from where the deformed scan lies, it is 0.44


def test_deformation_follows_targets_that_move_together_and_smooths_those_that_do_not():
    scan = Scan(torch.tensor(UNIT), torch.tensor(FACES))
    none = torch.zeros(0, 3).double()
    shift = torch.tensor([1.0, 2, 3]).double()
    torch.testing.assert_close(realy.deform(scan, scan.vertices + shift, none, none), scan.vertices + shift)
    targets = scan.vertices.clone()
    targets[5] += shift
    moved = (realy.deform(scan, targets, none, none) - scan.vertices).norm(dim=1)
    assert moved.max() < 0.1 * shift.norm() and moved.argmax() == 5
    pulled = realy.deform(scan, scan.vertices, scan.vertices[7:8], scan.vertices[7:8] + shift) - scan.vertices
    assert pulled[7].norm() > 2 * moved[5] and pulled.norm(dim=1).argmax() == 7


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda d: without(d, "metrical_scale.txt"), "metrical_scale.txt: expected 2 positive numbers"),
        (lambda d: (d / "metrical_scale.txt").write_text("1 -1"), "metrical_scale.txt: expected 2 positive numbers"),
        (
            lambda d: (d / "REALY_HIFI3D_keypoints/1.obj").write_text("v 0 0 0\n"),
            "1.obj: expected 85 vertices, found 1",
        ),
        (lambda d: without(d, "REALY_scan_region/1/mouth.obj"), "mouth.obj: expected a scan with triangles"),
        (lambda d: (d / "REALY_image").rename(d / "images"), "expected pictures named as the scans are"),
        (lambda d: (d / "REALY_HIFI3D_keypoints").rename(d / "keypoints"), "expected REALY's keypoints"),
    ],
)
def test_error_says_what_is_wrong_with_the_files(tmp_path, damage, message):
    data = write_realy(tmp_path, RADIUS * UNIT)
    damage(data)
    with pytest.raises(InputError, match=message):
        realy.run(Stub([0.0, 0.0]), data, parse(realy))
