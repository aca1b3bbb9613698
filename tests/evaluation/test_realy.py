"""REALY, on a sphere in the data set's own layout."""

import json

import numpy as np
import pytest
import torch

from facemodels import InputError
from facemodels.core.alignment import Similarity
from facemodels.core.landmarks import SEVEN
from facemodels.evaluation import realy
from facemodels.evaluation.scan_alignment import Surface
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

CHEEK = np.array([-0.8, -0.3, 0.3]) / np.linalg.norm([-0.8, -0.3, 0.3])
HERE = Similarity(torch.tensor(1.0).double(), torch.eye(3).double(), torch.zeros(3).double())


def write_realy(folder, vertices, names=("1", "2"), scale=10.0, rows=None):
    """Regions are the parts of the ball around their keypoints, in units of `scale` millimeters.

    Of the forehead's keypoints, those of the eyes lie all around the ball, so its region is all of it.
    """
    vertices = vertices / scale
    own = Surface(torch.tensor(vertices), torch.tensor(FACES), torch.tensor(vertices[MARKS]))
    points = realy.predicted_keypoints(own).nan_to_num(0.0).numpy()
    for name in names:
        home = folder / "REALY_scan_region" / name
        home.mkdir(parents=True)
        for region, numbers in realy.NON_RIGID.items():
            center = UNIT[MARKS[list(numbers)]].mean(0) if numbers else CHEEK
            near = np.linalg.norm(UNIT - center / np.linalg.norm(center), axis=1) < (2 if region == "forehead" else 0.8)
            used, faces = np.unique(FACES[near[FACES].all(1)], return_inverse=True)
            text = "".join(f"v {x:.9f} {y:.9f} {z:.9f}\n" for x, y, z in vertices[used]) + "".join(
                f"f {a} {b} {c}\n" for a, b, c in faces.reshape(-1, 3) + 1
            )
            (home / f"{region}.obj").write_text(text)
        keypoints = folder / "REALY_HIFI3D_keypoints" / f"{name}.obj"
        keypoints.parent.mkdir(exist_ok=True)
        keypoints.write_text("".join(f"v {x:.9f} {y:.9f} {z:.9f}\n" for x, y, z in points))
        write_picture(folder / "REALY_image" / f"{name}.png")
    write_picture(folder / "REALY_image" / "side" / "1_left.png")
    rows = [scale] * max(map(int, names)) if rows is None else rows
    (folder / "metrical_scale.txt").write_text("\n".join(map(str, rows)))
    return folder


@pytest.mark.parametrize("far", [0.0, 5.2e6])
def test_error_of_the_scan_itself_is_zero_in_every_region(far, tmp_path):
    data = write_realy(tmp_path, placed(RADIUS * UNIT, scale=1.2, shift=(1.0 + far, -2.0, 3.0)))
    loose = tmp_path / "REALY_scan_region" / "1" / "nose.obj"
    loose.write_text(loose.read_text() + "v 900 900 900\nv nan 0 0\n")  # no triangle uses them
    report = realy.run(Stub([0.0, 0.0]), data, parse(realy))
    results = check(report, "realy")
    assert (
        max(report.row) < 1e-4
        and results["frontal_images"] == 2
        and results["side_images"] == 1
        and results["scans"] == 2
    )
    assert results["side_all_mm"] < 1e-4


def dented(depth):
    """The ball with a dent in the cheek alone; and its depth at each vertex."""
    dent = depth * np.exp(-((np.linalg.norm(UNIT - CHEEK, axis=1) / 0.25) ** 2))
    return (RADIUS - dent)[:, None] * UNIT, dent


def test_dent_counts_in_its_region_in_millimeters_and_a_deeper_one_counts_more(tmp_path):
    cheeks = []
    for depth in (1.0, 2.0, 4.0):
        vertices, dent = dented(depth)
        data = write_realy(tmp_path / str(depth), vertices, names=("7",))
        results = realy.run(Stub([0.0, 0.0]), data, parse(realy)).results
        inside = np.linalg.norm(UNIT - CHEEK, axis=1) < 0.75
        assert results["frontal_cheek_mm"] == pytest.approx(dent[inside].mean(), rel=0.6)
        assert results["frontal_cheek_mm"] > 2 * results["frontal_forehead_mm"]
        assert results["frontal_all_mm"] == pytest.approx(
            np.mean([results[f"frontal_{region}_mm"] for region in realy.REGIONS])
        )
        assert results["frontal_cheek_std_mm"] is None  # of one scan
        cheeks.append(results["frontal_cheek_mm"])
    assert cheeks == sorted(cheeks)


def test_scale_of_a_scan_is_the_row_of_its_number_also_where_fewer_scans_are_there(tmp_path, monkeypatch):
    data = write_realy(tmp_path, RADIUS * UNIT, names=("3", "12"), rows=np.arange(100) + 1.5)
    monkeypatch.setattr(realy, "region_error", lambda *_: 2.0)
    results = realy.run(Stub([0.0, 0.0]), data, parse(realy)).results
    assert results["frontal_nose_mm"] == pytest.approx(2 * (3.5 + 12.5) / 2) and results["frontal_images"] == 2
    (data / "metrical_scale.txt").write_text("1\n2\n3\n")
    with pytest.raises(InputError, match=r"that of scan 12 in row 12, found 3 numbers, the least 1"):
        realy.run(Stub([0.0, 0.0]), data, parse(realy))


def test_alignment_by_seven_keypoints_has_the_ratio_of_coordinate_sums_as_scale():
    points = realy.predicted_keypoints(surface())
    turn = euler_rotation(torch.tensor([[0.3, -0.8, 0.4]], dtype=torch.float64))[0]
    shift = torch.tensor([1.0, 2.0, 3.0]).double()
    exact = realy.align_seven(points, 0.2 * points @ turn.T + shift)
    torch.testing.assert_close(exact(points[:68]), 0.2 * points[:68] @ turn.T + shift)
    stretched = points * torch.tensor([1.0, 1.0, 1.3])  # whose nearest rotation is none, by symmetry of least squares
    found = realy.align_seven(points, stretched)
    source, target = (p[list(SEVEN)] - p[list(SEVEN)].mean(0) for p in (points, stretched))
    expected = float(target.abs().sum() / (source @ found.rotation.T).abs().sum())
    assert float(found.scale) == pytest.approx(expected) and expected != pytest.approx(
        float((source @ found.rotation.T * target).sum() / source.square().sum()), rel=1e-3
    )


@pytest.mark.parametrize("name", realy.REGIONS)
def test_keypoints_of_a_region_weigh_as_much_as_its_vertices_and_a_quarter_in_the_cheek(name):
    """Keypoints, symmetric about the middle of a flat scan, want to be 1 unit above it: the plane rises in part."""
    grid = np.stack([g.ravel() for g in np.meshgrid(np.linspace(-5, 5, 21), np.linspace(-5, 5, 21), [0.0])], 1)
    points = torch.tensor(grid)
    plane = Surface(
        torch.tensor([[-99.0, -99, 0], [99, -99, 0], [99, 99, 0], [-99, 99, 0]]),
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
        torch.zeros(68, 3),
    )
    numbers, _ = realy.RIGID[name]
    count = {"nose": 11, "mouth": 14, "forehead": 22, "cheek": 27}[name]
    assert len(numbers) == len(set(numbers)) == count
    keypoints = torch.full((85, 3), torch.nan, dtype=torch.float64)
    angle = torch.arange(count).double() * 2 * torch.pi / count
    keypoints[list(numbers)] = torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)
    wanted = keypoints + torch.tensor([0.0, 0, 1])
    weight = int(len(points) / count / (4 if name == "cheek" else 1)) * count
    found = realy.align_region(name, points, wanted, plane, keypoints, HERE)
    torch.testing.assert_close(found.translation, torch.tensor([0, 0, weight / (weight + len(points))]).double())
    torch.testing.assert_close(found.rotation, HERE.rotation)


def test_rigid_alignment_of_a_region_finds_the_motion_and_keeps_the_scale():
    own = surface()
    points = realy.predicted_keypoints(own)
    turn = euler_rotation(torch.tensor([[0.05, -0.1, 0.03]], dtype=torch.float64))[0]
    truth = Similarity(torch.tensor(0.1).double(), turn, torch.tensor([0.1, 0.2, -0.1]).double())
    start = Similarity(torch.tensor(0.1).double(), torch.eye(3).double(), torch.zeros(3).double())
    found = realy.align_region("nose", truth(own.vertices[::3]), truth(points), own, points, start)
    assert found.scale == start.scale
    torch.testing.assert_close(found(own.vertices), truth(own.vertices), atol=0.02, rtol=0)


def test_error_includes_distances_of_counterparts_along_the_surface(monkeypatch):
    """The prediction is the same surface with its keypoints elsewhere on it; that of closest points would be 0."""
    monkeypatch.setattr(realy, "align_region", lambda *arguments: arguments[-1])
    predicted = surface()
    points = realy.predicted_keypoints(predicted)
    scan = Scan(predicted.vertices, predicted.faces)
    assert realy.region_error("nose", scan, points, predicted, points, HERE) < 1e-6
    turned = points @ euler_rotation(torch.tensor([[0.0, 0.1, 0.0]], dtype=torch.float64))[0].T
    assert realy.region_error("nose", scan, points, predicted, turned, HERE) > 0.6
    assert realy.region_error("cheek", scan, points, predicted, turned, HERE) < 1e-6  # has no keypoints in this step


def test_vertices_at_one_place_are_one_and_unused_ones_do_not_count():
    vertices = [[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9], [1, 0, 0], [0, 1, 0], [1, 1, 0]]
    scan = realy.merged(Scan(torch.tensor(vertices).double(), torch.tensor([[0, 1, 2], [4, 6, 5]])))
    assert len(scan.vertices) == 4
    torch.testing.assert_close(
        scan.vertices[scan.faces],
        torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], [[1, 0, 0], [1, 1, 0], [0, 1, 0]]]).double(),
    )


def test_keypoints_that_are_no_landmarks_lie_on_the_surface_beside_the_nose_and_on_the_cheeks():
    own = surface()
    points = realy.predicted_keypoints(own)
    torch.testing.assert_close(points[:68], own.landmarks)
    assert points.isfinite().all(1).nonzero()[68:, 0].tolist() == [70, 71, 76, 77]
    assert own.distances(points[[70, 71, 76, 77]], HERE).max() < 1e-9
    wanted = 0.36 * own.landmarks[36] + 0.4 * own.landmarks[48] + 0.24 * own.landmarks[30]
    nearest = own.vertices[(own.vertices - wanted).norm(dim=1).argmin()]
    assert (points[70] - wanted).norm() <= (nearest - wanted).norm()


def test_keypoints_of_the_mesh_are_read_from_a_file_of_realys(tmp_path):
    data, model = write_realy(tmp_path / "data", RADIUS * UNIT, names=("1",)), Stub([0.0, 0.0])
    faces = model.model.faces.numpy()
    corner = [(int((faces == m).any(1).argmax()), m) for m in MARKS]
    rows = [[f, float(faces[f][0] == m), float(faces[f][1] == m)] for f, m in corner]
    rows += [[5, 0.2, 0.3]] * 17
    file = tmp_path / "ball.txt"
    file.write_text(json.dumps(rows))
    triangles, weights = realy.read_template(file, model.model.faces)
    own = surface()
    points = realy.template_keypoints(own, triangles, weights)
    torch.testing.assert_close(points[:68], own.landmarks, atol=1e-5, rtol=0)
    torch.testing.assert_close(points[80], torch.tensor([0.2, 0.3, 0.5]).double() @ own.vertices[own.faces[5]])
    report = realy.run(model, data, parse(realy, "--keypoints", str(file)))
    assert report.results["frontal_mouth_mm"] < 1e-4 and any("ball.txt" in note for note in report.notes)
    for content, found in (
        ("[[1, 2", "cannot be parsed"),
        (json.dumps(rows[:80]), r"numbers \[80, 3\]"),
        (json.dumps([[len(faces), 0, 0], *rows[1:]]), f"a triangle {len(faces)}"),
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=f"ball.txt: expected 85 rows .*{found}"):
            realy.read_template(file, model.model.faces)


def test_keypoints_in_another_order_warn_and_are_noted(tmp_path):
    data = write_realy(tmp_path, RADIUS * UNIT, names=("1",))
    file = data / "REALY_HIFI3D_keypoints" / "1.obj"
    file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))
    with pytest.warns(UserWarning, match="1.obj: expected landmarks of a face"):
        report = realy.run(Stub([0.0, 0.0]), data, parse(realy, "--keep-going"))
    assert any("do not fit" in note for note in report.notes)


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda d: without(d, "metrical_scale.txt"),
            "metrical_scale.txt: there is no such file; expected the unit of each scan",
        ),
        (lambda d: (d / "metrical_scale.txt").write_text("1 -1"), "metrical_scale.txt: expected the unit of each scan"),
        (
            lambda d: (d / "REALY_HIFI3D_keypoints/1.obj").write_text("v 0 0 0\n"),
            "1.obj: expected 85 vertices, found 1",
        ),
        (
            lambda d: without(d, "REALY_scan_region/1/mouth.obj"),
            "mouth.obj: there is no such file; expected a scan with triangles",
        ),
        (lambda d: (d / "REALY_image").rename(d / "images"), "expected pictures named as the scans are"),
        (lambda d: (d / "REALY_HIFI3D_keypoints").rename(d / "keypoints"), "expected REALY's keypoints"),
    ],
)
def test_error_says_what_is_wrong_with_the_files(tmp_path, damage, message):
    data = write_realy(tmp_path, RADIUS * UNIT)
    damage(data)
    with pytest.raises(InputError, match=message):
        realy.run(Stub([0.0, 0.0]), data, parse(realy))
