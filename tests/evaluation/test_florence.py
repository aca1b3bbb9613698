"""MICC Florence, on a sphere in the data set's own layout."""

import numpy as np
import pytest
import torch

from facemodels import InputError
from facemodels.evaluation import florence
from facemodels.evaluation.scan_alignment import Surface
from tests.evaluation.sphere_scans import (
    EXACT,
    FACES,
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


def write_florence(folder, vertices, subjects=2, frames=7):
    for subject in range(1, subjects + 1):
        home = folder / f"subject_{subject:02d}"
        write_scan(home / "Model" / "frontal1" / "obj" / "scan.obj", vertices)
        for frame in range(frames):
            write_picture(home / "Video" / "Indoor-Cooperative" / f"{frame:03d}.png")
        write_picture(home / "Video" / "Outdoor" / "000.png")
    return folder


def test_rmse_is_of_the_shape_after_its_size_is_removed(tmp_path):
    uneven = np.sign((UNIT[:, 0] ** 2 - UNIT[:, 1] ** 2).round(9))
    far = np.array([[0, 0, 900.0]])
    data = write_florence(tmp_path, placed(np.concatenate([(RADIUS + uneven)[:, None] * UNIT, far]), scale=1.0))
    report = florence.run(Stub([5.0, 0.0], expression=9.0), data, parse(florence))
    results = check(report, "florence")
    assert results["people"] == 2 and results["images"] == 2 * (florence.FRAMES + 1) == len(report.errors)
    size = RADIUS / (RADIUS + 5)  # the prediction is larger, and shrunk onto the scan
    assert results["rmse_mm"] == pytest.approx(np.sqrt((uneven**2).mean()), rel=0.06) and size < 0.95
    assert results["rmse_std_over_people_mm"] < 1e-6
    assert {"indoor_cooperative_rmse_mm", "outdoor_rmse_mm"} <= set(results)


def test_rmse_of_the_scan_itself_in_another_size_is_zero(tmp_path):
    data = write_florence(tmp_path, placed(RADIUS * UNIT, scale=1.1), subjects=1, frames=1)
    assert florence.run(Stub([0.0, 0.0]), data, parse(florence)).results["rmse_mm"] < EXACT


@pytest.mark.parametrize("far", [0.0, 5.2e6])
def test_nme_is_in_percent_of_the_eye_distance_on_renderings_of_the_scan(far, tmp_path):
    uneven = np.sign((UNIT[:, 0] ** 2 - UNIT[:, 1] ** 2).round(9))
    vertices = (RADIUS + uneven)[:, None] * UNIT
    data = write_florence(tmp_path, vertices + far, subjects=1)
    stub = Stub([0.0, 0.0])
    report = florence.run(stub, data, parse(florence, "--variant", "nme"))
    results = check(report, "florence")
    eyes = np.linalg.norm(vertices[MARKS[36]] - vertices[MARKS[45]])
    assert report.unit == "percent" and results["nme_percent"] == pytest.approx(
        100 * np.abs(uneven).mean() / eyes, rel=0.06
    )
    assert results["images"] == 15
    drawn = torch.cat(stub.crops[::2])  # of each batch the first crops; the second are around landmarks
    assert drawn.std((1, 2, 3)).min() > 0.03  # a head before a background


def test_renderings_turn_to_the_side_of_their_yaw_and_pitch():
    """The nose, which is red, moves to the side that the head turns to."""
    from facerender.meshes import make_mesh

    colors = torch.tensor([0.1, 0.1, 0.1]).expand(len(UNIT), 3).clone()
    colors[UNIT[:, 2] > 0.95] = torch.tensor([1.0, 0, 0])  # the nose
    mesh = make_mesh(torch.tensor(RADIUS * UNIT).float(), torch.tensor(FACES).int(), colors)
    seen = list(florence.renderings(mesh, torch.tensor([0.0, 0, RADIUS]), "ball"))
    assert len(seen) == 15 and seen[0].image.shape == (florence.SIDE, florence.SIDE, 3)

    def nose(photo):
        red = (photo.image[..., 0] > 200) & (photo.image[..., 1] < 50)
        return np.argwhere(red).mean(0) - florence.SIDE / 2

    poses = {
        (pitch, yaw): nose(photo)
        for (pitch, yaw), photo in zip(((p, y) for p in florence.PITCHES for y in florence.YAWS), seen)
    }
    assert poses[20, 40][1] > 15 and poses[20, -40][1] < -15 and abs(poses[20, 0][1]) < 1
    assert poses[25, 0][0] > 5 and poses[-15, 0][0] < -5  # down where the pitch is positive


def test_rmse_measures_to_planes_and_nme_to_points(monkeypatch):
    """A point 3 mm beside the border of a flat face is 0 from its plane."""
    monkeypatch.setattr(florence, "align_closest_points", lambda points, surface, start, fits: start)
    marks = torch.zeros(68, 3).double()
    marks[17:21] = torch.tensor([[0.0, 0, 0], [10, 0, 0], [0, 10, 0], [10, 10, 0]])
    marks[36], marks[45] = marks[17], marks[18]
    marks[:17] = torch.nan
    flat = Surface(marks[17:21], torch.tensor([[0, 1, 2], [1, 3, 2]]), marks)
    points = torch.tensor([[-3.0, 5, 0], [5, 5, 4]]).double()
    assert florence.point_to_plane_rmse(points, marks, flat) == pytest.approx((16 / 2) ** 0.5)
    assert florence.nme(points, marks, flat) == pytest.approx(100 * (3 + 4) / 2 / 10)


def test_people_without_frames_are_left_out_and_named(tmp_path):
    data = write_florence(tmp_path, placed(RADIUS * UNIT), frames=1)
    for path in (data / "subject_02" / "Video").rglob("*.png"):
        path.unlink()
    report = florence.run(Stub([0.0, 0.0]), data, parse(florence))
    assert (
        report.results["people"] == 1
        and report.results["people_left_out"] == 1
        and any("subject_02" in note for note in report.notes)
    )


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda d: without(d, "subject_01/Model/frontal1/obj/scan.txt"), "scan.obj: expected 68 landmarks"),
        (lambda d: without(d, "subject_01/Model/frontal1/obj/scan.obj"), "frontal1/obj: expected a frontal scan"),
        (
            lambda d: np.savetxt(
                d / "subject_01/Model/frontal1/obj/scan.txt", np.random.default_rng(0).normal(size=(68, 3)) + 9e3
            ),
            "no vertex lies within 95 mm",
        ),
        (lambda d: (d / "subject_01").rename(d / "person"), "expected MICC Florence's folders"),
        (lambda d: (d / "subject_01/Video").rename(d / "subject_01/Frames"), "expected frames of the videos"),
    ],
)
def test_error_says_what_is_wrong_with_the_files(tmp_path, damage, message):
    data = write_florence(tmp_path, placed(RADIUS * UNIT), subjects=1, frames=1)
    damage(data)
    with pytest.raises(InputError, match=message):
        florence.run(Stub([0.0, 0.0]), data, parse(florence))
