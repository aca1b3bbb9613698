"""Surfaces laid on scans, and their distances, on triangles and spheres whose answers are known by hand."""

import numpy as np
import pytest
import torch

from facemodels.core.alignment import Similarity
from facemodels.core.errors import InputError
from facemodels.core.landmarks import SEVEN, mirror_order
from facemodels.core.surface import ClosestPoints
from facemodels.evaluation import load_protocol, now, protocol_options, scan_alignment
from facemodels.evaluation.scan_alignment import LandmarkCheck, Surface, align_closest_points, misfit, within
from facerender.camera import euler_rotation
from tests.evaluation.sphere_scans import MARKS, RADIUS, UNIT, ball, surface


def brute_force(points, corners):
    """Distances [P] by another way: in the plane by a projection, and from the segments, for every pair."""
    best = np.full(len(points), np.inf)
    for triangle in corners:
        for k in range(3):
            a, along = triangle[k], triangle[(k + 1) % 3] - triangle[k]
            t = np.clip((points - a) @ along / max(along @ along, 1e-300), 0, 1)
            best = np.minimum(best, np.linalg.norm(points - a - t[:, None] * along, axis=1))
        normal = np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0])
        if np.linalg.norm(normal) > 1e-12:
            normal /= np.linalg.norm(normal)
            height = (points - triangle[0]) @ normal
            feet = points - height[:, None] * normal
            signs = np.stack(
                [np.cross(triangle[(k + 1) % 3] - triangle[k], feet - triangle[k]) @ normal for k in range(3)]
            )
            best = np.where((signs >= 0).all(0), np.minimum(best, np.abs(height)), best)
    return best


@pytest.mark.parametrize("away", [0.0, 0.3, 30.0])
def test_closest_points_equal_brute_force_for_small_huge_thin_and_degenerate_triangles(away):
    random = np.random.default_rng(0)
    small = random.uniform(-20, 20, (300, 1, 3)) + random.normal(size=(300, 3, 3))
    huge = random.normal(size=(3, 3, 3)) * 200
    thin = random.uniform(-20, 20, (20, 1, 3)) + np.stack(
        [np.zeros((20, 3)), random.normal(size=(20, 3)) * 15, random.normal(size=(20, 3)) * 1e-4], 1
    )
    empty = np.repeat(random.uniform(-20, 20, (5, 1, 3)), 3, 1)
    corners = np.concatenate([small, huge, thin, empty])
    on = corners[random.integers(0, len(corners), 400)]
    points = np.einsum("pk,pki->pi", random.dirichlet((1, 1, 1), 400), on) + away * random.normal(size=(400, 3))
    found = ClosestPoints(torch.from_numpy(corners.reshape(-1, 3)), torch.arange(3 * len(corners)).view(-1, 3))(
        torch.from_numpy(points)
    )
    np.testing.assert_allclose(found.distance.numpy(), brute_force(points, corners), rtol=1e-9, atol=1e-10)
    feet = np.einsum("pk,pki->pi", found.bary.numpy(), corners[found.face_id.numpy()])
    np.testing.assert_allclose(np.linalg.norm(points - feet, axis=1), found.distance.numpy(), rtol=1e-9, atol=1e-10)


def test_distances_are_to_the_surface_and_plane_distances_to_planes_of_the_closest_triangles():
    triangle = Surface(
        torch.tensor([[0.0, 0, 0], [10, 0, 0], [0, 10, 0]]), torch.tensor([[0, 1, 2]]), torch.zeros(68, 3)
    )
    points = torch.tensor([[2.0, 2, 3], [5, -4, 3]], dtype=torch.float64)
    here = Similarity(torch.tensor(1.0).double(), torch.eye(3).double(), torch.zeros(3).double())
    torch.testing.assert_close(triangle.distances(points, here), torch.tensor([3.0, 5.0]).double())
    torch.testing.assert_close(triangle.plane_distances(points, here), torch.tensor([3.0, 3.0]).double())
    twice = Similarity(torch.tensor(2.0).double(), torch.eye(3).double(), torch.tensor([0, 0, 1.0]).double())
    torch.testing.assert_close(triangle.distances(points, twice), torch.tensor([2.0, 20**0.5]).double())


def ellipsoid():
    model = ball()
    vertices = model.mean.double() * torch.tensor([0.8, 1.3, 1.0])
    return Surface(vertices, model.faces, vertices[MARKS])


@pytest.mark.parametrize("scale", [1.0, 1.04])
def test_alignment_finds_the_placement_from_a_start_that_is_off(scale):
    surface = ellipsoid()
    turn, off = euler_rotation(torch.tensor([[0.3, -0.8, 0.4], [0.33, -0.77, 0.42]], dtype=torch.float64))
    truth = Similarity(torch.tensor(scale).double(), turn, torch.tensor([10.0, -20, 300]).double())
    points = truth(surface.vertices[surface.faces].mean(1))  # no vertices: middles of triangles
    start = Similarity(torch.tensor(1.0).double(), off, torch.tensor([11.0, -18.5, 299]).double())
    found = align_closest_points(points, surface, start)
    assert surface.distances(points, start).mean() > 0.5
    assert surface.distances(points, found).max() < 1e-6
    torch.testing.assert_close(found.scale.item(), scale, atol=1e-5, rtol=0)
    rigid = align_closest_points(points, surface, start, scale=False)
    assert rigid.scale == 1 and (surface.distances(points, rigid).max() < 1e-6) == (scale == 1.0)


def test_alignment_is_a_minimum_of_the_sum_of_squares():
    """Of noisy points: no small motion in any of the seven directions makes it less."""
    surface = ellipsoid()
    points = surface.vertices + torch.randn(
        len(UNIT), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    found = align_closest_points(
        points, surface, Similarity(torch.tensor(1.0).double(), torch.eye(3).double(), torch.ones(3).double())
    )
    least = surface.distances(points, found).square().sum()
    for axis in range(7):
        for sign in (-1, 1):
            step = torch.zeros(7, dtype=torch.float64)
            step[axis] = sign * (0.05 if axis > 3 else 0.001)
            moved = Similarity(
                found.scale * step[0].exp(),
                euler_rotation(step[None, 1:4])[0] @ found.rotation,
                found.translation + step[4:],
            )
            assert surface.distances(points, moved).square().sum() > least, axis


def test_alignment_begins_with_a_part_of_the_points_and_ends_with_all(monkeypatch):
    monkeypatch.setattr(scan_alignment, "THINNED", 100)
    surface = ellipsoid()
    points = surface.vertices.clone()
    points[1::7] *= 1.02  # of which the first pass, every seventh from the first, sees none
    assert len(points) / 100 > 6 and len(points) / 100 < 7
    here = Similarity(torch.tensor(1.0).double(), torch.eye(3).double(), torch.zeros(3).double())
    assert align_closest_points(points, surface, here).scale > 1.001


@pytest.mark.parametrize("unit", [1.0, 0.5])
def test_size_of_its_own_is_kept_far_from_the_origin_and_does_not_move_the_face(unit):
    """A scan 1 m away, and a prediction `unit` times as large: it stands where the scan is, its size apart."""
    own = surface()
    points = own.vertices / unit + torch.tensor([0.0, 0, 1000])
    found = now.distances(points, points[MARKS[list(SEVEN)]], own, scale=False)
    # The prediction's triangles are flat.
    torch.testing.assert_close(found, torch.full_like(found, RADIUS / unit - RADIUS), atol=0.3, rtol=0)


def test_within_keeps_the_vertices_within_the_radius():
    vertices = torch.tensor([[0.0, 0, 95], [0, 0, 95.01], [3, 4, 0]], dtype=torch.float64)
    assert torch.equal(within(vertices, torch.zeros(3).double(), 95.0), vertices[[0, 2]])


# The seven landmarks of a face, mm.
FACE = torch.tensor(
    [[-46, 36, -18], [-16, 34, -10], [16, 34, -10], [46, 36, -18], [0, -6, 12], [-26, -36, 0], [26, -36, 0]],
    dtype=torch.float64,
)


def faces_and_check(millimeters=True):
    landmarks = torch.zeros(68, 3, dtype=torch.float64)
    landmarks[list(SEVEN)] = FACE
    triangle = Surface(torch.eye(3), torch.tensor([[0, 1, 2]]), landmarks)
    return triangle, LandmarkCheck(SEVEN, millimeters)


def test_misfit_is_the_distance_after_alignment_relative_to_the_spread():
    turn = euler_rotation(torch.tensor([[0.3, -0.8, 0.4]], dtype=torch.float64))[0]
    assert misfit(FACE, 3 * FACE @ turn.T + 7) == pytest.approx(0, abs=1e-12)
    square = torch.tensor([[1.0, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]], dtype=torch.float64)
    lifted = square + torch.tensor([[0, 0, 0.1], [0, 0, -0.1], [0, 0, 0.1], [0, 0, -0.1]])  # nothing turns it back
    assert misfit(square, lifted) == pytest.approx(0.1 / (2 + 0.01) ** 0.5)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda marks: marks.flip(0), "check their order, which is eye_outer_right, eye_inner_right"),
        (lambda marks: marks[[3, 2, 1, 0, 4, 6, 5]], "left and right exchanged"),
        (lambda marks: marks[[1, 0, 2, 3, 4, 5, 6]], "check their order"),
        (lambda marks: marks[[4, 0, 1, 2, 3, 5, 6]], "check their order"),
        (lambda marks: marks / 1000, "times the size of the prediction; check the scan's unit"),
    ],
    ids=["reversed", "sides exchanged", "corners of an eye exchanged", "nose first", "meters"],
)
def test_landmarks_in_another_order_or_unit_warn_once_and_are_noted(change, words):
    surface, check = faces_and_check()
    noise = 3 * torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with pytest.warns(UserWarning, match=f"bad.pp: expected .*{words}") as caught:
        for name in ("bad.pp", "bad.pp", "worse.pp"):
            check.add(name, surface, change(FACE + noise))
    check.add("good.pp", surface, FACE + noise)
    (note,) = check.finish()
    assert len(caught) == 1 and note.startswith("Landmarks of 2 of 3 scans do not fit; the first, bad.pp: ")


@pytest.mark.filterwarnings("error")
def test_landmarks_of_other_people_with_noise_do_not_warn():
    surface, check = faces_and_check()
    random = torch.Generator().manual_seed(1)
    for k in range(50):
        stretched = FACE * (1 + 0.1 * torch.randn(3, generator=random, dtype=torch.float64))
        check.add(k, surface, stretched + 3 * torch.randn(7, 3, generator=random, dtype=torch.float64) / 3**0.5)
    assert check.finish() == []
    surface, check = faces_and_check(millimeters=False)
    check.add("meters.obj", surface, FACE / 1000)
    assert check.finish() == []


def test_check_of_all_landmarks_leaves_out_the_contour_and_those_that_are_unknown():
    random = torch.Generator().manual_seed(2)
    marks = 40 * torch.randn(68, 3, generator=random, dtype=torch.float64)
    triangle, check = Surface(torch.eye(3), torch.tensor([[0, 1, 2]]), marks), LandmarkCheck()
    some = marks.clone()
    some[:17], some[20], some[40] = 1e3, torch.nan, torch.nan
    check.add("a.txt", triangle, some)
    assert check.finish() == []
    with pytest.warns(UserWarning, match="a.txt: .*the 68 landmarks of iBUG"):
        check.add("a.txt", triangle, marks[list(mirror_order(68))])


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("size", [1.0, 1e-3], ids=["turned away", "meters"])
def test_alignment_of_what_stays_far_from_the_scan_ends_after_a_few_searches(size, scale, monkeypatch):
    """Steps that do not converge, on searches that are slow far from a surface, would take a minute for a face."""
    searched = []
    find = ClosestPoints.__call__
    monkeypatch.setattr(scan_alignment, "COARSE", 100)
    monkeypatch.setattr(
        ClosestPoints, "__call__", lambda self, points: searched.append(len(points)) or find(self, points)
    )
    own = ellipsoid()
    points, patch = own.vertices, own.faces[own.vertices[own.faces, 2].amin(1) > 0.8 * RADIUS]
    surface = Surface(size * own.vertices, patch, own.landmarks)  # a small part of the points' surface
    here = Similarity(torch.tensor(1.0).double(), torch.eye(3).double(), torch.zeros(3).double())
    align_closest_points(points, surface, here, scale, fits=False)
    if not scale:
        assert max(searched) <= 100 and len(searched) == scan_alignment.HOPELESS_AFTER + 1


def test_surface_whose_landmarks_do_not_fit_is_still_laid_on_a_scan_that_is_near():
    surface = ellipsoid()
    start = Similarity(torch.tensor(1.0).double(), torch.eye(3).double(), torch.ones(3).double())
    found = align_closest_points(surface.vertices, surface, start, fits=False)
    assert surface.distances(surface.vertices, found).max() < 1e-6


def test_evaluation_stops_where_the_first_five_predictions_are_misfits_unless_told_to_go_on():
    surface, check = faces_and_check()
    with pytest.warns(UserWarning, match="0.pp"):
        for k in range(4):
            check.add(f"{k}.pp", surface, FACE.flip(0))
    with pytest.raises(InputError, match="4.pp: expected landmarks .* None of the first 5 .* --keep-going"):
        check.add("4.pp", surface, FACE.flip(0))
    going = LandmarkCheck(SEVEN, keep_going=True)
    with pytest.warns(UserWarning):
        for k in range(9):
            going.add(f"{k}.pp", surface, FACE.flip(0))
    assert going.finish()[0].startswith("Landmarks of 9 of 9 scans")
    mixed = LandmarkCheck(SEVEN)
    mixed.add("good.pp", surface, FACE)
    with pytest.warns(UserWarning):
        for k in range(9):
            mixed.add(f"{k}.pp", surface, FACE.flip(0))


def test_faces_in_another_unit_are_warned_of_and_scored_all_the_same():
    surface, _ = faces_and_check()
    small = Surface(surface.vertices / 1000, surface.faces, surface.landmarks / 1000)
    check = LandmarkCheck(SEVEN, millimeters=True)
    with pytest.warns(UserWarning, match="0.npy: expected a face in millimeters, .* one 0.001 times .*--unit"):
        assert not any([check.add(f"{k}.pp", small, FACE, f"{k}.npy") for k in range(9)])
    assert check.finish()[0].startswith("Landmarks of 9 of 9 predictions do not fit; the first, 0.npy")


@pytest.mark.parametrize("name", ["now", "florence", "facewarehouse", "realy", "e2far-shape"])
def test_every_protocol_that_checks_landmarks_of_scans_can_keep_going(name):
    module = load_protocol(name)
    assert protocol_options(module, name, {}).keep_going is False
    assert protocol_options(module, name, {"keep_going": True}).keep_going is True
