"""The protocols that compare with scans, on spheres whose errors are known by hand, in data sets written in their own layouts."""

import json
from argparse import ArgumentParser
from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from facemodels import InputError, ModelData, MorphableModel
from facemodels.core.alignment import Similarity
from facemodels.core.crops import cut, from_crop, landmark_box
from facemodels.core.landmarks import SEVEN
from facemodels.core.parameters import FaceParameters
from facemodels.core.surface import ClosestPoints
from facemodels.data.clips import SyntheticGroups
from facemodels.evaluation import e2far_shape, facewarehouse, florence, now, realy, scans, synthetic_scans
from facemodels.evaluation.scans import (
    Pairs,
    Photo,
    Scan,
    Surface,
    detector_box,
    inner,
    read_picked_points,
    read_scan,
    read_scan_landmarks,
    refined,
)
from facemodels.models.formats.native import write_native
from facerender.camera import euler_rotation
from tests.face_patch import patch_data

RADIUS = 40.0  # mm, of the sphere that stands for a head: all of it lies within 95 mm of its nose
SIZE = 64
EXACT = 1e-5  # mm: predictions are float32


# --------------------------------------------------------------------------------------------------------------- a head made of a sphere


def cube_sphere(n=10):
    """Unit vertices [V,3] and triangles [F,3], with all the symmetries of a cube."""
    u = np.linspace(-1, 1, n + 1)
    x, y = (g.ravel() for g in np.meshgrid(u, u, indexing="ij"))
    grid = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    a, b, c, d = grid[:-1, :-1].ravel(), grid[1:, :-1].ravel(), grid[1:, 1:].ravel(), grid[:-1, 1:].ravel()
    square = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    vertices, faces = [], []
    for axis in range(3):
        for side in (-1, 1):
            plane = np.insert(np.stack([x, y], 1), axis, side, axis=1)
            faces.append((square if (side > 0) == (axis != 1) else square[:, ::-1]) + len(vertices) * len(x))
            vertices.append(plane)
    vertices, where = np.unique(np.concatenate(vertices).round(9), axis=0, return_inverse=True)
    return vertices / np.linalg.norm(vertices, axis=1, keepdims=True), where.ravel()[np.concatenate(faces)]


UNIT, FACES = cube_sphere()
# Where landmarks lie: anywhere for most; the corners of the eyes across, the nose in front, so that NoW's crop holds the whole sphere.
_PLACES = np.random.default_rng(0).normal(size=(68, 3))
for _region, _middle in (((17, 27), (0, 1, 0.4)), ((27, 36), (0, 0.2, 1)), ((48, 68), (0, -0.7, 0.7))):
    _PLACES[slice(*_region)] = 0.25 * _PLACES[slice(*_region)] + _middle
_PLACES[[36, 39, 42, 45, 33, 30, 48, 54]] = [
    (-1, 0, 0),
    (-0.3, 0.9, 0.6),
    (0.3, 0.9, 0.6),
    (1, 0, 0),
    (0, -0.2, 1),
    (0, 0, 1),
    (-0.3, -0.7, 0.7),
    (0.3, -0.7, 0.7),
]
MARKS = (UNIT @ _PLACES.T).argmax(0)  # vertex numbers


def ball() -> MorphableModel:
    """Identity: millimetres of radius, and an unevenness; expression: longer along y."""
    uneven = UNIT * np.sign((UNIT[:, 0] ** 2 - UNIT[:, 1] ** 2).round(9))[:, None]
    index = np.repeat(MARKS[:, None], 3, 1)
    lines = np.repeat(MARKS[:17, None], 2, 1)
    return MorphableModel(
        ModelData(
            "ball", RADIUS * UNIT, np.stack([UNIT, uneven]), (UNIT * [0, 1, 0])[None], FACES, landmark_index=index, landmark_weights=np.tile([1.0, 0, 0], (68, 1)), contour=lines,
            regions={"face": np.arange(len(UNIT))},
        )
    )  # fmt: skip


class Stub:
    """A method that answers with given identities, one after another (the last one again and again), and sees the landmarks in the middle half of every crop."""

    size, name, given = SIZE, "stub", "nothing"

    def __init__(self, identities, expression=0.0, model=None):
        self.model, self.expression, self.crops = model or ball(), expression, []
        self.answers = torch.as_tensor(identities, dtype=torch.float32).reshape(-1, self.model.num_identity)

    def landmarks(self, crops):
        assert (
            crops.shape[1:] == (3, SIZE, SIZE)
            and crops.dtype == torch.float32
            and 0 <= crops.min()
            and crops.max() <= 1
        )
        self.crops.append(crops)
        points = torch.rand(68, 3, generator=torch.Generator().manual_seed(0)) * SIZE / 2 + SIZE / 4
        points[0, :2], points[1, :2] = SIZE / 4, 3 * SIZE / 4
        return points.expand(len(crops), -1, -1)

    def reconstruct(self, crops):
        n = len(crops)
        identity, self.answers = self.answers[:n], self.answers[min(n, len(self.answers) - 1) :]
        identity = torch.cat([identity, identity[-1:].expand(n - len(identity), -1)])
        landmarks = self.landmarks(crops)
        return FaceParameters(
            identity,
            torch.full((n, self.model.num_expression), self.expression),
            torch.eye(3).expand(n, 3, 3),
            torch.ones(n),
            torch.zeros(n, 2),
            landmarks,
        )


def surface(grown=0.0, uneven=0.0):
    model = ball()
    vertices = model.shape(torch.tensor([[grown, uneven]]))
    return Surface(vertices[0], model.faces, model.landmarks(vertices)[0])


def placed(vertices, angles=(0.3, -0.8, 0.4), scale=1.0, shift=(10.0, -20.0, 300.0)):
    """Vertices [V,3] somewhere else."""
    return scale * vertices @ euler_rotation(torch.tensor([angles]))[0].double().numpy().T + shift


def write_scan(path, vertices, marks=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(f"v {x:.9f} {y:.9f} {z:.9f}\n" for x, y, z in vertices)
        + "".join(f"f {a} {b} {c}\n" for a, b, c in FACES + 1)
    )
    if marks:
        np.savetxt(path.with_suffix(".txt"), vertices[MARKS], fmt="%.9f")


def write_picture(path, landmarks=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, np.random.default_rng(1).integers(0, 255, (120, 100, 3), np.uint8))
    if landmarks:
        np.savetxt(path.with_suffix(".txt"), np.random.default_rng(2).uniform(20, 80, (68, 2)))


def settings(protocol, *arguments):
    parser = ArgumentParser()
    protocol.configure(parser)
    return parser.parse_args(arguments)


def check(report, name):
    assert report.protocol == name and len(report.row) == len(report.columns)
    assert all(
        len(values) == len(report.columns) and source in ("found", "recalled") for _, values, source in report.published
    )
    json.dumps(report.results)  # JSON types alone
    assert all(isinstance(note, str) for note in report.notes) and report.title
    return report.results


# --------------------------------------------------------------------------------------------------------------------- closest points


def brute_force(points, corners):
    """Distances [P] by another way than the search's: the foot in the plane by a linear solve, and segments, for every pair, one after another."""
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
def test_closest_points_are_those_of_brute_force_among_small_huge_thin_and_empty_triangles(away):
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


# -------------------------------------------------------------------------------------------------------------------------- alignment


def test_distances_are_to_the_surface_and_plane_distances_to_the_planes_of_what_is_nearest():
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
def test_refinement_finds_the_place_from_a_start_that_is_off(scale):
    surface = ellipsoid()
    turn, off = euler_rotation(torch.tensor([[0.3, -0.8, 0.4], [0.33, -0.77, 0.42]], dtype=torch.float64))
    truth = Similarity(torch.tensor(scale).double(), turn, torch.tensor([10.0, -20, 300]).double())
    points = truth(surface.vertices[surface.faces].mean(1))  # no vertices: middles of triangles
    start = Similarity(torch.tensor(1.0).double(), off, torch.tensor([11.0, -18.5, 299]).double())
    found = refined(points, surface, start)
    assert surface.distances(points, start).mean() > 0.5
    assert surface.distances(points, found).max() < 1e-6
    torch.testing.assert_close(found.scale.item(), scale, atol=1e-5, rtol=0)
    rigid = refined(points, surface, start, scale=False)
    assert rigid.scale == 1 and (surface.distances(points, rigid).max() < 1e-6) == (scale == 1.0)


def test_refinement_is_the_least_sum_of_squares():
    """Of noisy points: no small motion in any of the seven directions makes it less."""
    surface = ellipsoid()
    points = surface.vertices + torch.randn(
        len(UNIT), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    found = refined(
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


def test_refinement_on_a_part_of_the_points_ends_on_all(monkeypatch):
    monkeypatch.setattr(scans, "THINNED", 100)
    surface = ellipsoid()
    points = surface.vertices.clone()
    points[1::7] *= 1.02  # of which the first pass, every seventh from the first, sees none
    assert len(points) / 100 > 6 and len(points) / 100 < 7
    here = Similarity(torch.tensor(1.0).double(), torch.eye(3).double(), torch.zeros(3).double())
    assert refined(points, surface, here).scale > 1.001


def test_pairs_hold_what_closest_points_leave_free():
    """A ball turns in itself freely; pairs say how."""
    ball = surface()
    turn = euler_rotation(torch.tensor([[0.0, 0.1, 0.2]], dtype=torch.float64))[0]
    points = ball.vertices @ turn.T
    here = Similarity(torch.tensor(1.0).double(), torch.eye(3).double(), torch.zeros(3).double())
    found = refined(points, ball, here, scale=False, pairs=Pairs(ball.landmarks, ball.landmarks @ turn.T))
    torch.testing.assert_close(found.rotation, turn, atol=1e-6, rtol=0)


def test_inner_keeps_what_lies_within_the_radius():
    vertices = torch.tensor([[0.0, 0, 95], [0, 0, 95.01], [3, 4, 0]], dtype=torch.float64)
    assert torch.equal(inner(vertices, torch.zeros(3).double(), 95.0), vertices[[0, 2]])


# -------------------------------------------------------------------------------------------------------------------- files and pictures


def test_a_scan_keeps_its_vertices_also_where_its_texture_has_seams(tmp_path):
    path = tmp_path / "scan.obj"
    text = (
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 7 7 7\n"
        + "".join(f"vt {k / 10} 0\n" for k in range(6))
        + "f 1/1 2/2 3/3\nf 1/4 3/5 4/6\n"
    )
    path.write_text(text)
    scan = read_scan(path)
    assert scan.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [7, 7, 7]]
    assert scan.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize(
    "name, text, found",
    [
        ("scan.obj", None, "no such file"),
        ("scan.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no triangles"),
        ("scan.obj", "v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
        ("scan.ply", "ply\nformat ascii 1.0\nelement vertex 3\n", "does not read"),
        ("scan.stl", "solid", ".stl"),
    ],
)
def test_a_scan_that_cannot_be_used_is_told_in_one_sentence(tmp_path, name, text, found):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=rf"{name}: expected a scan with triangles.*{found}") as error:
        read_scan(path)
    assert "\n" not in str(error.value)


def picked(points):
    rows = "".join(f'<point y="{y}" x="{x}" z="{z}" name="{k}" active="1"/>' for k, (x, y, z) in enumerate(points))
    return f"<!DOCTYPE PickedPoints>\n<PickedPoints><DocumentData/>{rows}</PickedPoints>"


def test_picked_points_are_read_by_name_of_the_axis(tmp_path):
    path = tmp_path / "scan.pp"
    path.write_text(picked([(1, 2, 3), (4, 5, 6)]))
    assert read_picked_points(path, 2).tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(InputError, match="7 picked points.*found 2"):
        read_picked_points(path, 7)
    path.write_text("<PickedPoints>")
    with pytest.raises(InputError, match="scan.pp: expected 7 picked points.*does not read"):
        read_picked_points(path, 7)


def test_a_scan_s_landmarks_may_be_missing_but_not_those_that_are_needed(tmp_path):
    path = tmp_path / "scan.obj"
    with pytest.raises(InputError, match="expected 68 landmarks.*scan.txt.*none"):
        read_scan_landmarks(path, (30,))
    marks = np.random.default_rng(0).normal(size=(68, 3))
    marks[3] = np.nan
    np.savetxt(tmp_path / "scan.txt", marks)
    np.testing.assert_allclose(read_scan_landmarks(path, (30, 36)).numpy(), marks, rtol=1e-6)
    marks[36] = np.nan
    np.savetxt(tmp_path / "scan.txt", marks)
    with pytest.raises(InputError, match="30, 36.*without 36"):
        read_scan_landmarks(path, (30, 36))


def test_a_detector_s_box_is_cropped_by_the_rule_of_3ddfa():
    np.testing.assert_allclose(detector_box(100, 200, 180, 320), (140 - 79, 260 + 14 - 79, 140 + 79, 260 + 14 + 79))
    with pytest.raises(ValueError, match="left < right"):
        detector_box(5, 0, 5, 9)


def test_faces_are_cropped_again_around_the_landmarks_that_are_predicted_first():
    image = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    boxes = [(20.0, 10.0, 148.0, 138.0), (100.0, 30.0, 260.0, 190.0)]
    stub = Stub([[1.0, 0], [2.0, 0]])
    found = list(scans.reconstructions(stub, [Photo("a", image, boxes[0]), Photo("b", image, boxes[1])]))
    assert [f.identity.tolist() for f in found] == [[[1.0, 0.0]], [[2.0, 0.0]]]
    first, second = stub.crops
    points = stub.landmarks(first)[0, :, :2].numpy()
    for k, box in enumerate(boxes):
        np.testing.assert_array_equal((first[k] * 255).round().byte().permute(1, 2, 0).numpy(), cut(image, box, SIZE))
        again = landmark_box(from_crop(points, box, SIZE))
        assert np.abs(np.subtract(again, box)).max() > 5
        np.testing.assert_array_equal(
            (second[k] * 255).round().byte().permute(1, 2, 0).numpy(), cut(image, again, SIZE)
        )


def test_more_photos_than_a_batch_keep_their_order():
    image = np.zeros((50, 50, 3), np.uint8)
    count = 2 * scans.BATCH + 1
    found = scans.reconstructions(
        Stub([[float(k), 0] for k in range(count)]),
        (Photo(str(k), image, (0.0, 0.0, 50.0, 50.0)) for k in range(count)),
    )
    assert [float(f.identity[0, 0]) for f in found] == list(range(count))


def test_a_prediction_that_is_not_finite_names_the_photo():
    image = np.zeros((50, 50, 3), np.uint8)
    photos = [Photo(name, image, (0.0, 0.0, 50.0, 50.0)) for name in ("a.jpg", "b.jpg")]
    with pytest.raises(InputError, match="b.jpg: the prediction is not finite"):
        list(scans.reconstructions(Stub([[0.0, 0], [float("nan"), 0]]), photos))


# -------------------------------------------------------------------------------------------------------------------------------- NoW


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


def test_now_sees_nothing_but_the_shape_of_a_face_and_the_metrical_variant_its_size_too(tmp_path):
    """A sphere two millimetres larger is the same shape, and everywhere 2 mm away from where the metrical variant leaves it."""
    data = write_now(tmp_path, placed((RADIUS + 2) * UNIT))
    report = now.run(Stub([0.0, 0.0]), data, settings(now))
    results = check(report, "now")
    assert results["vertices"] == 2 * len(UNIT) == len(report.errors)  # the far vertices are cropped off
    assert results["median_mm"] < EXACT and results["mean_mm"] < EXACT and report.errors.max() < EXACT
    assert results["metrical_median_mm"] == pytest.approx(2, abs=EXACT) and results[
        "metrical_mean_mm"
    ] == pytest.approx(2, abs=EXACT)
    assert report.row == [results["median_mm"], results["mean_mm"], results["std_mm"]] and report.unit == "mm"


def test_now_is_exact_on_the_very_mesh_and_expression_is_left_out(tmp_path):
    data = write_now(tmp_path, placed((RADIUS + 2) * UNIT))
    results = now.run(Stub([2.0, 0.0], expression=9.0), data, settings(now)).results
    assert results["metrical_mean_mm"] < EXACT and results["mean_mm"] < EXACT


def test_now_gives_the_size_of_an_unevenness_that_no_alignment_takes_away(tmp_path):
    """Vertices 1 mm out or in by turns; from within, the faces beside a vertex are a little nearer than it."""
    uneven = np.sign((UNIT[:, 0] ** 2 - UNIT[:, 1] ** 2).round(9))
    data = write_now(tmp_path, placed((RADIUS + uneven)[:, None] * UNIT, scale=1.0))
    report = now.run(Stub([0.0, 0.0]), data, settings(now))
    assert report.results["mean_mm"] == pytest.approx(np.abs(uneven).mean(), rel=0.06)
    assert report.results["median_mm"] == pytest.approx(1, rel=0.06)


def test_now_pools_vertices_of_all_photographs_and_of_each_challenge(tmp_path):
    data = write_now(
        tmp_path, placed((RADIUS + 3) * UNIT), ("A/multiview_neutral/1.jpg", "A/selfie/2.jpg", "A/selfie/3.jpg")
    )
    results = now.run(Stub([[3.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), data, settings(now)).results
    assert results["metrical_median_mm"] == pytest.approx(3, abs=1e-3) and results["metrical_mean_mm"] == pytest.approx(
        2, abs=1e-3
    )
    assert results["selfie_images"] == 2 and results["multiview_neutral_images"] == 1 and results["people"] == 1


def test_now_crops_by_the_distance_of_the_eyes_and_the_length_of_the_nose():
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


def without(folder, name):
    (folder / name).unlink()


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
def test_now_tells_what_is_wrong_with_its_files(tmp_path, damage, message):
    data = write_now(tmp_path, placed(RADIUS * UNIT))
    damage(data)
    with pytest.raises(InputError, match=message) as error:
        now.run(Stub([0.0, 0.0]), data, settings(now))
    assert "\n" not in str(error.value)


def test_now_says_where_it_looked_for_pictures(tmp_path):
    data = write_now(tmp_path, placed(RADIUS * UNIT))
    (data / "NoW_Dataset").rename(data / "elsewhere")
    with pytest.raises(InputError, match="expected NoW's folder iphone_pictures"):
        now.run(Stub([0.0, 0.0]), data, settings(now))


# ---------------------------------------------------------------------------------------------------------------------- MICC Florence


def write_florence(folder, vertices, subjects=2, frames=7):
    for subject in range(1, subjects + 1):
        home = folder / f"subject_{subject:02d}"
        write_scan(home / "Model" / "frontal1" / "obj" / "scan.obj", vertices)
        for frame in range(frames):
            write_picture(home / "Video" / "Indoor-Cooperative" / f"{frame:03d}.png")
        write_picture(home / "Video" / "Outdoor" / "000.png")
    return folder


def test_florence_takes_size_away_and_measures_shape(tmp_path):
    uneven = np.sign((UNIT[:, 0] ** 2 - UNIT[:, 1] ** 2).round(9))
    far = np.array([[0, 0, 900.0]])
    data = write_florence(tmp_path, placed(np.concatenate([(RADIUS + uneven)[:, None] * UNIT, far]), scale=1.0))
    report = florence.run(Stub([5.0, 0.0], expression=9.0), data, settings(florence))
    results = check(report, "florence")
    assert results["people"] == 2 and results["images"] == 2 * (florence.FRAMES + 1) == len(report.errors)
    size = RADIUS / (RADIUS + 5)  # the prediction is larger, and shrunk onto the scan
    assert results["rmse_mm"] == pytest.approx(np.sqrt((uneven**2).mean()), rel=0.06) and size < 0.95
    assert results["rmse_std_over_people_mm"] < 1e-6
    assert {"indoor_cooperative_rmse_mm", "outdoor_rmse_mm"} <= set(results)


def test_florence_is_zero_on_the_scan_itself_of_another_size(tmp_path):
    data = write_florence(tmp_path, placed(RADIUS * UNIT, scale=1.1), subjects=1, frames=1)
    assert florence.run(Stub([0.0, 0.0]), data, settings(florence)).results["rmse_mm"] < EXACT


def test_florence_nme_is_in_percent_of_the_eyes_distance_and_draws_the_scan_itself(tmp_path):
    uneven = np.sign((UNIT[:, 0] ** 2 - UNIT[:, 1] ** 2).round(9))
    vertices = (RADIUS + uneven)[:, None] * UNIT
    data = write_florence(tmp_path, vertices, subjects=1)
    stub = Stub([0.0, 0.0])
    report = florence.run(stub, data, settings(florence, "--variant", "nme"))
    results = check(report, "florence")
    eyes = np.linalg.norm(vertices[MARKS[36]] - vertices[MARKS[45]])
    assert report.unit == "percent" and results["nme_percent"] == pytest.approx(
        100 * np.abs(uneven).mean() / eyes, rel=0.06
    )
    assert results["images"] == 15
    drawn = torch.cat(stub.crops[::2])  # of each batch the first crops; the second are around landmarks
    assert drawn.std((1, 2, 3)).min() > 0.03  # a head before a background


def test_florence_turns_the_scan_to_the_side_that_it_says():
    """A mark on the ball's left, the subject's, is seen in the picture's left half when the subject looks to the other side."""
    from facerender.meshes import make_mesh

    colours = torch.tensor([0.1, 0.1, 0.1]).expand(len(UNIT), 3).clone()
    colours[UNIT[:, 2] > 0.95] = torch.tensor([1.0, 0, 0])  # the nose
    mesh = make_mesh(torch.tensor(RADIUS * UNIT).float(), torch.tensor(FACES).int(), colours)
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


def test_florence_measures_to_planes_and_its_other_variant_to_points(monkeypatch):
    """A point 3 mm beside the border of a flat face is 0 from its plane."""
    monkeypatch.setattr(florence, "refined", lambda points, surface, start: start)
    marks = torch.zeros(68, 3).double()
    marks[17:21] = torch.tensor([[0.0, 0, 0], [10, 0, 0], [0, 10, 0], [10, 10, 0]])
    marks[36], marks[45] = marks[17], marks[18]
    marks[:17] = torch.nan
    flat = Surface(marks[17:21], torch.tensor([[0, 1, 2], [1, 3, 2]]), marks)
    points = torch.tensor([[-3.0, 5, 0], [5, 5, 4]]).double()
    assert florence.point_to_plane_rmse(points, marks, flat) == pytest.approx((16 / 2) ** 0.5)
    assert florence.nme(points, marks, flat) == pytest.approx(100 * (3 + 4) / 2 / 10)


def test_florence_leaves_people_without_frames_out_by_name(tmp_path):
    data = write_florence(tmp_path, placed(RADIUS * UNIT), frames=1)
    for path in (data / "subject_02" / "Video").rglob("*.png"):
        path.unlink()
    report = florence.run(Stub([0.0, 0.0]), data, settings(florence))
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
def test_florence_tells_what_is_wrong_with_its_files(tmp_path, damage, message):
    data = write_florence(tmp_path, placed(RADIUS * UNIT), subjects=1, frames=1)
    damage(data)
    with pytest.raises(InputError, match=message):
        florence.run(Stub([0.0, 0.0]), data, settings(florence))


# ----------------------------------------------------------------------------------------------------------------------- FaceWarehouse


def write_facewarehouse(folder, vertices, poses=3):
    for pose in range(poses):
        home = folder / "Tester_1" / "TrainingPose"
        write_scan(home / f"pose_{pose}.obj", vertices, marks=False)
        write_picture(home / f"pose_{pose}.png")
    (folder / "landmarks.txt").write_text(" ".join(map(str, [*[-1] * 17, *MARKS[17:]])))
    return folder


def test_facewarehouse_finds_the_unit_and_keeps_the_expression(tmp_path):
    """Meshes in decimetres; the expression makes the head longer by 4 mm at the poles."""
    long = RADIUS * UNIT + 4 * UNIT * [0, 1, 0]
    data = write_facewarehouse(tmp_path, placed(long / 100, shift=(0, 0, 1)))
    report = facewarehouse.run(Stub([0.0, 0.0], expression=4.0), data, settings(facewarehouse))
    results = check(report, "facewarehouse")
    assert results["distance_mm"] < EXACT and results["meshes"] == 3 and results["people"] == 1
    assert facewarehouse.run(Stub([0.0, 0.0]), data, settings(facewarehouse)).results["distance_mm"] > 0.5


def test_facewarehouse_gives_millimetres(tmp_path):
    uneven = np.sign((UNIT[:, 0] ** 2 - UNIT[:, 1] ** 2).round(9))
    data = write_facewarehouse(tmp_path, placed((RADIUS + uneven)[:, None] * UNIT / 100, shift=(0, 0, 1)), poses=1)
    assert facewarehouse.run(Stub([0.0, 0.0]), data, settings(facewarehouse)).results["distance_mm"] == pytest.approx(
        np.abs(uneven).mean(), rel=0.06
    )


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda d: without(d, "landmarks.txt"), "landmarks.txt: expected 68 vertex numbers"),
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
def test_facewarehouse_tells_what_is_wrong_with_its_files(tmp_path, damage, message):
    data = write_facewarehouse(tmp_path, placed(RADIUS * UNIT), poses=1)
    damage(data)
    with pytest.raises(InputError, match=message):
        facewarehouse.run(Stub([0.0, 0.0]), data, settings(facewarehouse))


# ------------------------------------------------------------------------------------------------------------------------------- REALY


def write_realy(folder, vertices, names=("1", "2"), scale=10.0):
    """Regions are those parts of the ball that lie nearest to their keypoints, in units of `scale` millimetres."""
    vertices = vertices / scale
    centres = {
        name: UNIT[MARKS[list(numbers)]].mean(0) if numbers else np.array([-0.8, -0.3, 0.3])
        for name, numbers in realy.REGIONS.items()
    }
    for name in names:
        home = folder / "REALY_scan_region" / name
        home.mkdir(parents=True)
        for region, centre in centres.items():
            near = np.linalg.norm(UNIT - centre / np.linalg.norm(centre), axis=1) < 0.8
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


def test_realy_is_zero_in_every_region_of_the_scan_itself(tmp_path):
    data = write_realy(tmp_path, placed(RADIUS * UNIT, scale=1.2))
    report = realy.run(Stub([0.0, 0.0]), data, settings(realy))
    results = check(report, "realy")
    assert (
        max(report.row) < 1e-4
        and results["frontal_images"] == 2
        and results["side_images"] == 1
        and results["scans"] == 2
    )
    assert results["side_all_mm"] < 1e-4


def test_realy_gives_the_millimetres_of_a_bump_in_the_region_where_it_is(tmp_path):
    """A dent in the cheek alone, 2 mm deep in its middle."""
    middle = np.array([-0.8, -0.3, 0.3]) / np.linalg.norm([-0.8, -0.3, 0.3])
    dent = 2 * np.exp(-((np.linalg.norm(UNIT - middle, axis=1) / 0.25) ** 2))
    data = write_realy(tmp_path, (RADIUS - dent)[:, None] * UNIT, names=("7",))
    results = realy.run(Stub([0.0, 0.0]), data, settings(realy)).results
    inside = np.linalg.norm(UNIT - middle, axis=1) < 0.75
    assert results["frontal_cheek_mm"] == pytest.approx(dent[inside].mean(), rel=0.5)
    assert results["frontal_cheek_mm"] > 5 * results["frontal_forehead_mm"]
    assert results["frontal_all_mm"] == pytest.approx(
        np.mean([results[f"frontal_{region}_mm"] for region in realy.REGIONS])
    )
    assert results["frontal_cheek_std_mm"] is None  # of one scan


def test_realy_counts_how_far_counterparts_lie_apart_along_the_surface_too(monkeypatch):
    """The prediction is the very surface, but what is a keypoint there lies elsewhere on it: the distance of nearest points would be 0."""
    monkeypatch.setattr(realy, "refined", lambda points, surface, start, **_: start)
    here = Similarity(torch.tensor(1.0).double(), torch.eye(3).double(), torch.zeros(3).double())
    predicted = surface()
    numbers = list(realy.REGIONS["nose"])
    scan, keypoints = Scan(predicted.vertices, predicted.faces), predicted.landmarks[numbers].clone()
    assert realy.region_error(scan, keypoints, predicted, numbers, here) < 1e-6
    predicted.landmarks[numbers] = keypoints @ euler_rotation(torch.tensor([[0.0, 0.1, 0.0]], dtype=torch.float64))[0].T
    assert (
        realy.region_error(scan, keypoints, predicted, numbers, here) > 0.6
    )  # from where the deformed scan lies, it is 0.44


def test_deformation_follows_targets_that_all_move_alike_and_smooths_those_that_do_not():
    scan = Scan(torch.tensor(UNIT), torch.tensor(FACES))
    none = torch.zeros(0, 3).double()
    shift = torch.tensor([1.0, 2, 3]).double()
    torch.testing.assert_close(realy.deformed(scan, scan.vertices + shift, none, none), scan.vertices + shift)
    targets = scan.vertices.clone()
    targets[5] += shift
    moved = (realy.deformed(scan, targets, none, none) - scan.vertices).norm(dim=1)
    assert moved.max() < 0.1 * shift.norm() and moved.argmax() == 5
    pulled = realy.deformed(scan, scan.vertices, scan.vertices[7:8], scan.vertices[7:8] + shift) - scan.vertices
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
def test_realy_tells_what_is_wrong_with_its_files(tmp_path, damage, message):
    data = write_realy(tmp_path, RADIUS * UNIT)
    damage(data)
    with pytest.raises(InputError, match=message):
        realy.run(Stub([0.0, 0.0]), data, settings(realy))


# --------------------------------------------------------------------------------------------------------------------------- UH-E2FAR


def write_people(folder, vertices):
    for name in ("anne", "ben"):
        write_scan(folder / name / "scan.obj", vertices)
        write_picture(folder / name / "pictures" / "1.png")
        write_picture(folder / name / "pictures" / "2.png")
    return folder


def test_e2far_shape_keeps_the_size(tmp_path):
    data = write_people(tmp_path, placed((RADIUS + 2) * UNIT))
    report = e2far_shape.run(
        Stub([[0.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 0.0]], expression=9.0), data, settings(e2far_shape)
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
            "expected a folder a person",
        ),
    ],
)
def test_e2far_shape_tells_what_is_wrong_with_its_files(tmp_path, damage, message):
    data = write_people(tmp_path, RADIUS * UNIT)
    damage(data)
    with pytest.raises(InputError, match=message):
        e2far_shape.run(Stub([0.0, 0.0]), data, settings(e2far_shape))


# ---------------------------------------------------------------------------------------------------------------------- synthetic scans


def toy(name):
    """The patch of a face with the regions that ICT-FaceKit and the built-in model have."""
    data = patch_data()
    middles = {"left_eye": (31, 21), "right_eye": (-31, 21), "mouth": (0, -36), "tongue": (-8, -36), "teeth": (8, -36)}
    near = {k: np.flatnonzero(np.hypot(*(data.mean[:, :2] - p).T) < 8) for k, p in middles.items()}
    everything = np.arange(len(data.mean))
    regions = near | {"face": everything, "full_face": everything, "head": everything, "eye_sockets": everything[:0]}
    regions |= {
        "eyeball_left": near["left_eye"],
        "eyeball_right": near["right_eye"],
        "mouth_socket": near["mouth"],
        "gums_tongue": near["tongue"],
    }
    return replace(data, name=name, regions=regions)


@pytest.fixture
def other_model(tmp_path, monkeypatch):
    """The file of a model without colours; the built-in one is a toy too, for speed."""
    monkeypatch.setattr(synthetic_scans, "builtin_data", lambda: toy("skin"))
    monkeypatch.setattr(synthetic_scans, "POINTS", 2000)
    monkeypatch.setattr(synthetic_scans, "PICTURES", 2)
    monkeypatch.setattr(synthetic_scans, "SIZE", 120)
    write_native(replace(toy("stranger"), albedo_mean=None, albedo=None), tmp_path / "stranger.safetensors")
    return tmp_path / "stranger.safetensors"


def people_of(path, seed, people):
    """The true identities of all pictures, in order."""
    model = synthetic_scans.coloured(synthetic_scans.read(path), toy("skin"))
    groups = SyntheticGroups(model, synthetic_scans.SIZE, synthetic_scans.PICTURES, synthetic_scans.RANDOMIZATION)
    return torch.cat(
        [
            synthetic_scans.pictures(groups, seed, person)[1].repeat(synthetic_scans.PICTURES, 1)
            for person in range(people)
        ]
    )


def test_who_knows_the_people_is_left_with_the_scanner_s_noise_and_who_does_not_with_the_mean_face(other_model):
    options = settings(synthetic_scans, "--people", "2", "--seed", "3")
    model = MorphableModel(toy("stranger"))
    knowing = synthetic_scans.run(Stub(people_of(other_model, 3, 2), model=model), other_model, options)
    results = check(knowing, "synthetic-scans")
    assert results["images"] == 4 and results["people"] == 2 and len(knowing.errors) == results["vertices"]
    assert results["median_mm"] == pytest.approx(0.6745 * synthetic_scans.NOISE, rel=0.1)
    assert results["metrical_median_mm"] == pytest.approx(results["median_mm"], rel=0.1)
    assert results["median_share_of_mean_face"] < 0.75
    blind = synthetic_scans.run(Stub(np.zeros(8), model=model), other_model, options).results
    assert (
        blind["median_share_of_mean_face"] == 1 and blind["median_mm"] == results["mean_face_median_mm"]
    )  # which is the same for the same seed


def test_another_seed_is_other_people(other_model):
    identities = [people_of(other_model, seed, 1) for seed in (0, 0, 1)]
    assert torch.equal(identities[0], identities[1]) and not torch.equal(identities[0], identities[2])
    assert (identities[0] == identities[0][0]).all()  # in all pictures of a person


def test_a_scan_is_a_noisy_surface_with_holes():
    model = MorphableModel(toy("stranger"))
    identity = torch.zeros(1, model.num_identity)
    points, marks = synthetic_scans.scanned(model, identity, 0, 0)
    clean = Surface(model.mean, model.faces, model.landmarks(model.mean[None])[0])
    here = Similarity(torch.tensor(1.0).double(), torch.eye(3).double(), torch.zeros(3).double())
    distance = clean.distances(points, here)
    assert distance.square().mean().sqrt() == pytest.approx(synthetic_scans.NOISE, rel=0.05)
    off = (marks - clean.landmarks[list(SEVEN)]).norm(dim=1)
    assert 0 < off.max() < 4 * synthetic_scans.PICKED
    whole = now.cropped(clean.vertices, marks)
    lonely = torch.cdist(whole, points).min(1).values
    assert (lonely > 3).sum() > 5 and (lonely > 3).double().mean() < 0.3  # vertices in holes
    again, _ = synthetic_scans.scanned(model, identity, 0, 0)
    assert torch.equal(points, again) and len(synthetic_scans.scanned(model, identity, 0, 1)[0]) != len(points)


def test_colours_are_carried_to_where_they_are_on_the_other_model():
    """Between two models that are the same, to the same vertices, mean and modes."""
    skin = toy("skin")
    found = synthetic_scans.coloured(replace(toy("stranger"), albedo_mean=None, albedo=None), skin)
    own = MorphableModel(skin)
    one = torch.randn(1, own.num_albedo, generator=torch.Generator().manual_seed(0))
    assert (found.albedo_mean - own.albedo_mean).abs().mean() < 0.01
    assert (found.albedo(one) - own.albedo(one)).abs().mean() < 0.015
    assert (own.albedo(one) - own.albedo_mean).abs().mean() > 0.03


def test_pictures_turn_up_to_45_degrees_and_have_boxes_around_the_face():
    model = MorphableModel(toy("stranger"))
    groups = SyntheticGroups(model, synthetic_scans.SIZE, synthetic_scans.PICTURES, synthetic_scans.RANDOMIZATION)
    for person in range(3):
        photos, identity = synthetic_scans.pictures(groups, 0, person)
        faces = groups(0, 0, range(person, person + 1))
        assert (
            len(photos) == synthetic_scans.PICTURES
            and torch.equal(faces.identity[:1], identity)
            and (faces.identity == identity).all()
        )
        yaw = torch.asin(-faces.rotation[:, 2, 0].clamp(-1, 1)) * 180 / torch.pi
        assert yaw.abs().max() <= 45 + 1e-3
        for photo, points in zip(photos, faces.landmarks):
            x0, y0, x1, y1 = photo.box
            inside = (points[:, 0] > x0) & (points[:, 0] < x1) & (points[:, 1] > y0) & (points[:, 1] < y1)
            assert inside.all() and (x1 - x0) < 2.2 * float((points.amax(0) - points.amin(0)).max())


def test_synthetic_scans_want_the_model_and_people(tmp_path, other_model):
    write_native(replace(patch_data(), regions={"face": np.arange(9)}), tmp_path / "patch.safetensors")
    stub = Stub(np.zeros(8), model=MorphableModel(toy("stranger")))
    with pytest.raises(InputError, match="patch.safetensors: expected ICT-FaceKit.*without a region full_face"):
        synthetic_scans.run(stub, tmp_path / "patch.safetensors", settings(synthetic_scans))
    with pytest.raises(InputError, match="--people must be at least 1, got 0"):
        synthetic_scans.run(stub, other_model, settings(synthetic_scans, "--people", "0"))
    with pytest.raises(InputError, match="none.npz"):
        synthetic_scans.run(stub, tmp_path / "none.npz", settings(synthetic_scans))
