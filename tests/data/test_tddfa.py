"""300W-LP and AFLW2000-3D: the data sets' formula against this library's camera, their layout, damaged files."""

import math
import pickle
import warnings
import zipfile
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from scipy.io import savemat

import facerender as fr
from facemodels import InputError, load_model
from facemodels.core.crops import landmark_box, to_crop
from facemodels.data.tddfa import AFLW2000, LP300W, aflw2000, basel_deviations, lp300w, pose_rotation
from tests.data_sets import DATA, needs_data

DEVELOPMENT = DATA / "aflw2000_dev.zip"
SIDE = 9
V = SIDE * SIDE
POSES = [
    (0.0, 0.0, 0.0, 160.0, 90.0, -20.0, 1.2e-3),
    (0.2, 1.1, -0.3, 140.0, 120.0, 5.0, 9e-4),
    (-0.3, -1.5, 0.2, 40.0, 20.0, 0.0, 1.1e-3),  # reaches out of the photograph
    (0.1, 0.4, 2.9, 150.0, 100.0, 0.0, -1.0e-3),  # as image04157
]


@pytest.fixture(scope="module")
def basel(tmp_path_factory):
    """A made-up model of the data set's kind: path of Model_Shape.mat, and its arrays in micrometers."""
    folder, random = tmp_path_factory.mktemp("basel"), np.random.default_rng(1)
    x, y = np.meshgrid(np.linspace(-80, 80, SIDE), np.linspace(90, -90, SIDE))
    mean = np.stack([x, y, 100 - (x * x + y * y) / 160], -1).reshape(-1, 1) * 1e3
    corner = np.arange(V).reshape(SIDE, SIDE)
    a, b, c, d = (corner[i, j].ravel() for i, j in (np.s_[:-1, :-1], np.s_[1:, :-1], np.s_[1:, 1:], np.s_[:-1, 1:]))
    w, w_exp = random.normal(size=(3 * V, 199)), random.normal(size=(3 * V, 29)) * 1e3
    w /= np.linalg.norm(w, axis=0)
    m = {
        "mu_shape": (mean * 0.99).astype(np.float32),
        "w": w.astype(np.float32),
        "sigma": np.linspace(9e4, 4e3, 199)[:, None].astype(np.float32),
        "tri": np.concatenate([np.stack([a, c, b]), np.stack([a, d, c])], 1) + 1,
        "keypoints": np.r_[V // 2, random.permutation(V)[:67]][None] + 1,
    }
    m["keypoints"][0, [0, 30]] = m["keypoints"][0, [30, 0]]
    e = {
        "mu_exp": (mean * 0.01).astype(np.float32),
        "w_exp": w_exp.astype(np.float32),
        "sigma_exp": np.linspace(1.5, 0.2, 29)[:, None].astype(np.float32),
    }
    savemat(folder / "Model_Shape.mat", m)
    savemat(folder / "Model_Exp.mat", e)
    return folder / "Model_Shape.mat", m | e


def published(m, shape, expression, pose, height):
    """The authors' projection, term by term: [V,3], 1-based."""
    vertices = (
        (m["mu_shape"] + m["mu_exp"] + m["w"] @ shape + m["w_exp"] @ expression).astype(np.float64).reshape(-1, 3).T
    )
    (cx, cy, cz), (sx, sy, sz) = np.cos(pose[:3]), np.sin(pose[:3])
    rx = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    ry = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    rz = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    x, y, z = pose[6] * rx @ ry @ rz @ vertices + np.array(pose[3:6])[:, None]
    return np.stack([x, height + 1 - y, z], -1)


def parameters(k):
    random = np.random.default_rng(100 + k)
    return (random.normal(size=(199, 1)) * np.linspace(9e4, 4e3, 199)[:, None]).astype(np.float32), random.normal(
        size=(29, 1)
    ).astype(np.float32)


def write_sample(stem, m, k, size=(180, 300), own=True):
    """One picture with its .mat; returns all vertices as the authors project them."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    (shape, expression), pose = parameters(k), np.array(POSES[k % len(POSES)], np.float32)
    points = published(m, shape, expression, pose.astype(np.float64), size[0])
    iio.imwrite(stem.with_suffix(".jpg"), np.random.default_rng(k).integers(0, 255, (*size, 3)).astype(np.uint8))
    content = {
        "Pose_Para": pose[None],
        "Shape_Para": shape,
        "Exp_Para": expression,
        "Color_Para": np.ones((1, 7)),
        "roi": np.ones((1, 4), np.int16),
    }
    savemat(
        stem.with_suffix(".mat"),
        content | ({"pt3d_68": points[m["keypoints"][0] - 1].T.astype(np.float32)} if own else {}),
        do_compression=k % 2 == 1,
    )
    return points


@pytest.fixture(scope="module")
def small(basel, tmp_path_factory):
    """A made-up AFLW2000-3D: its folder, and the projected vertices of each face."""
    folder = tmp_path_factory.mktemp("data")
    return folder, [write_sample(folder / "AFLW2000" / f"image{k:05d}", basel[1], k) for k in range(len(POSES))]


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


# ---- convention ------------------------------------------------------------


def test_this_librarys_camera_puts_every_vertex_where_the_data_sets_formula_does(basel, small):
    model, size = load_model(basel[0]), 120
    faces = aflw2000(small[0], size, basel[0])
    vertices = model.shape(faces.identity, faces.expression)
    clip = fr.camera.weak_perspective(vertices, faces.scale, faces.rotation, faces.translation, (size, size))
    pixels = fr.camera.to_pixels(clip, (size, size)).numpy()
    for k, points in enumerate(small[1]):
        labels = points[basel[1]["keypoints"][0] - 1, :2] - 0.5
        expected = to_crop(points[:, :2] - 0.5, landmark_box(labels), size)
        np.testing.assert_allclose(pixels[k], expected, atol=1e-4)
        np.testing.assert_allclose(faces.landmarks[k, :, :2], to_crop(labels, landmark_box(labels), size), atol=1e-4)


def test_depth_is_that_of_the_camera_in_crop_pixels_and_nearer_is_larger(basel, small):
    faces = aflw2000(small[0], 120, basel[0])
    model = load_model(basel[0])
    turned = (
        model.landmarks(model.shape(faces.identity, faces.expression))
        @ faces.rotation.transpose(1, 2)
        * faces.scale[:, None, None]
    )
    for k, pose in enumerate(POSES):
        sign = math.copysign(1, pose[6])  # the file whose scale is negative has its depth the other way
        np.testing.assert_allclose(
            np.ptp(faces.landmarks[k, :, 2].numpy() - sign * turned[k, :, 2].numpy()), 0, atol=1e-3
        )


def test_the_rotation_is_proper_and_that_of_the_authors_matrices():
    angles = np.random.default_rng(0).uniform(-3, 3, (50, 3))
    rotation = pose_rotation(angles)
    np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2), np.broadcast_to(np.eye(3), (50, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-12)
    np.testing.assert_allclose(
        rotation, fr.camera.euler_rotation(torch.from_numpy(angles)).transpose(1, 2).numpy(), atol=1e-12
    )


def test_rotations_are_proper_and_scales_positive_also_where_the_files_scale_is_negative(small):
    faces = aflw2000(small[0])
    torch.testing.assert_close(torch.linalg.det(faces.rotation), torch.ones(len(faces)))
    assert (faces.scale > 0).all() and POSES[3][6] < 0


def test_the_first_pixel_is_number_one_in_the_files_and_a_half_here(basel, tmp_path):
    """A bright dot on the pixel that a label names is where the crop's landmark says."""
    stem = tmp_path / "image00001"
    write_sample(stem, basel[1], 0, (400, 400))
    picture = np.zeros((400, 400, 3), np.uint8)
    points = np.stack([np.linspace(100, 300, 68), np.linspace(50, 330, 68), np.zeros(68)])
    points[:2, 40] = 181, 223
    picture[222, 180] = 255
    shape, expression = parameters(0)
    savemat(
        stem.with_suffix(".mat"),
        {"Pose_Para": np.array(POSES[:1]), "Shape_Para": shape, "Exp_Para": expression, "pt3d_68": points},
    )
    iio.imwrite(stem.with_suffix(".jpg"), picture, quality=100, subsampling=0)
    faces = aflw2000(tmp_path, 792)  # a crop that enlarges twice
    bright = faces.image[0].float().sum(0).clamp(min=60) - 60
    middle = (
        torch.tensor(
            [(bright.sum(0) * (torch.arange(792) + 0.5)).sum(), (bright.sum(1) * (torch.arange(792) + 0.5)).sum()]
        )
        / bright.sum()
    )
    torch.testing.assert_close(middle, faces.landmarks[0, 40, :2], atol=0.15, rtol=0)


def test_coefficients_are_raw_without_a_model_and_deviations_of_it_with_one(basel, small):
    raw, ours = aflw2000(small[0]), aflw2000(small[0], model=basel[0])
    shape, expression = parameters(1)
    torch.testing.assert_close(raw.identity[1], torch.from_numpy(shape[:, 0]))
    torch.testing.assert_close(raw.expression[1], torch.from_numpy(expression[:, 0]))
    torch.testing.assert_close(ours.identity[1], torch.from_numpy(shape[:, 0] / basel[1]["sigma"][:, 0]))
    assert 0.8 < ours.identity.std() < 1.2


def test_the_deviations_of_3ddfa_v2_are_those_of_its_training_set(small, tmp_path):
    std = np.arange(1, 63, dtype=np.float32)
    (tmp_path / "param_mean_std_62d_120x120.pkl").write_bytes(pickle.dumps({"mean": std * 0, "std": std}))
    faces, (shape, expression) = aflw2000(small[0], model=tmp_path / "bfm_noneck_v3.pkl"), parameters(0)
    torch.testing.assert_close(faces.identity[0], torch.from_numpy(shape[:40, 0] / std[12:52]))
    torch.testing.assert_close(faces.expression[0], torch.from_numpy(expression[:10, 0] / std[52:]))


def test_a_model_that_is_not_there_is_named(small, tmp_path):
    with pytest.raises(InputError, match="Model_Shape.mat"):
        aflw2000(small[0], model=tmp_path / "Model_Shape.mat")
    with pytest.raises(InputError, match="param_mean_std"):
        basel_deviations(tmp_path / "bfm_noneck_v3.pkl")
    savemat(tmp_path / "Model_Shape.mat", {"sigma": np.ones((80, 1))})
    with pytest.raises(InputError, match="199"):
        basel_deviations(tmp_path / "Model_Shape.mat")


# ---- layout ----------------------------------------------------------------


def test_folder_inner_folder_and_zip_hold_the_same(small, tmp_path):
    expected = aflw2000(small[0])
    assert expected.image.dtype == torch.uint8 and expected.image.shape == (4, 3, 120, 120) and expected.visible.all()
    for path in (small[0] / "AFLW2000", zipped(small[0], tmp_path / "a.zip")):
        found = aflw2000(path)
        for name in ("image", "landmarks", "identity", "expression", "rotation", "scale", "translation"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_crops_are_found_again_in_the_cache_and_made_anew_for_another_model(basel, small, tmp_path):
    first, again = (aflw2000(small[0], cache=tmp_path) for _ in range(2))
    assert torch.equal(first.image, again.image) and torch.equal(first.identity, again.identity)
    assert not torch.equal(aflw2000(small[0], model=basel[0], cache=tmp_path).identity, first.identity)


@pytest.fixture
def lp(basel, tmp_path):
    """A made-up 300W-LP in which the mirrored picture of the second sample has a landmark file of its own."""
    root, own = tmp_path / "lp" / "300W_LP", np.random.default_rng(7).uniform(50, 120, (68, 2)).astype(np.float32)
    for k, name in enumerate(("AFW/AFW_1_0", "HELEN/HELEN_2_0")):
        points = write_sample(root / name, basel[1], k, own=False)[basel[1]["keypoints"][0] - 1]
        write_sample(root / name.replace("/", "_Flip/"), basel[1], k, own=False)
        (root / "landmarks" / name).parent.mkdir(parents=True)
        savemat(root / "landmarks" / f"{name}_pts.mat", {"pts_3d": points[:, :2], "pts_2d": points[:, :2] + 9})
    (root / "landmarks" / "HELEN_Flip").mkdir()
    savemat(root / "landmarks" / "HELEN_Flip" / "HELEN_2_0_pts.mat", {"pts_3d": own})
    (root / "Code").mkdir()
    iio.imwrite(root / "Code" / "example.jpg", np.zeros((9, 9, 3), np.uint8))
    return tmp_path / "lp", own


def test_300w_lp_in_its_own_layout(lp, basel, tmp_path):
    photos = LP300W(zipped(lp[0], tmp_path / "a.zip"))
    assert photos.names == ["AFW/AFW_1_0", "AFW_Flip/AFW_1_0", "HELEN/HELEN_2_0", "HELEN_Flip/HELEN_2_0"]
    (shape, expression), pose = parameters(0), np.array(POSES[0], np.float32).astype(np.float64)
    expected = published(basel[1], shape, expression, pose, 180)[basel[1]["keypoints"][0] - 1, :2] - 0.5
    np.testing.assert_allclose(photos.read("AFW/AFW_1_0").landmarks, expected, atol=1e-4)
    faces = lp300w(lp[0] / "300W_LP", 64, basel[0])
    assert faces.image.shape == (4, 3, 64, 64) and faces.landmarks.shape == (4, 68, 2)
    clip = fr.camera.weak_perspective(
        load_model(basel[0]).shape(faces.identity, faces.expression),
        faces.scale,
        faces.rotation,
        faces.translation,
        (64, 64),
    )
    seen = fr.camera.to_pixels(clip, (64, 64))[:, basel[1]["keypoints"][0] - 1]
    torch.testing.assert_close(seen[[0, 2]], faces.landmarks[[0, 2]], atol=1e-4, rtol=0)


def test_landmarks_of_a_mirrored_picture_are_its_own_or_the_mirrored_ones_of_the_other(lp):
    photos = LP300W(lp[0])
    there, mirrored = photos.read("AFW/AFW_1_0"), photos.read("AFW_Flip/AFW_1_0")
    width = there.image.shape[1]
    for left, right in ((0, 16), (36, 45), (31, 35), (48, 54), (60, 64), (8, 8), (17, 26), (67, 65)):
        np.testing.assert_allclose(mirrored.landmarks[left] * (-1, 1) + (width, 0), there.landmarks[right], atol=1e-4)
    np.testing.assert_allclose(photos.read("HELEN_Flip/HELEN_2_0").landmarks, lp[1] - 0.5, atol=1e-5)


# ---- damage ----------------------------------------------------------------


def empty(file):
    file.write_bytes(b"")


def cut_off(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def nonsense(file):
    file.write_bytes(b"\x89 not what it says" * 100)


def change(**fields):
    def changed(file):
        shape, expression = parameters(0)
        content = {
            "Pose_Para": np.array(POSES[:1]),
            "Shape_Para": shape,
            "Exp_Para": expression,
            "pt3d_68": np.random.default_rng(0).uniform(20, 90, (3, 68)),
        }
        savemat(file, {k: v for k, v in (content | fields).items() if v is not None})

    return changed


DAMAGE = {
    "picture missing": (".jpg", Path.unlink),
    "picture empty": (".jpg", empty),
    "picture cut off": (".jpg", cut_off),
    "picture nonsense": (".jpg", nonsense),
    "labels missing": (".mat", Path.unlink),
    "labels empty": (".mat", empty),
    "labels cut off": (".mat", cut_off),
    "labels nonsense": (".mat", nonsense),
    "no pose": (".mat", change(Pose_Para=None)),
    "pose not finite": (".mat", change(Pose_Para=np.full((1, 7), np.nan))),
    "scale of zero": (".mat", change(Pose_Para=np.zeros((1, 7)))),
    "shape too large for a float": (".mat", change(Shape_Para=np.full((199, 1), 1e300))),
    "too few shape numbers": (".mat", change(Shape_Para=np.ones((80, 1)))),
    "too few landmarks": (".mat", change(pt3d_68=np.ones((3, 21)))),
    "landmarks in one place": (".mat", change(pt3d_68=np.ones((3, 68)))),
    "landmarks far away": (".mat", change(pt3d_68=np.random.default_rng(0).uniform(-1e8, 1e8, (3, 68)))),
    "text for landmarks": (".mat", change(pt3d_68="none")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_samples_are_left_out_and_named(basel, tmp_path, kind):
    for k in range(3):
        write_sample(tmp_path / "data" / f"image{k:05d}", basel[1], k)
    suffix, damage = DAMAGE[kind]
    damage(tmp_path / "data" / f"image00001{suffix}")
    for path in (tmp_path / "data", zipped(tmp_path / "data", tmp_path / "a.zip")):
        with pytest.warns(UserWarning, match=r"1 of 3 .* image00001") as told:
            faces = aflw2000(path)
        assert len(faces) == 2 and len(told) == 1 and "\n" not in str(told[0].message)


def test_a_zip_whose_bytes_were_changed_loses_what_was_hit(small, tmp_path):
    path = zipped(small[0], tmp_path / "a.zip")
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("AFLW2000/image00002.jpg")
    raw = bytearray(path.read_bytes())
    raw[member.header_offset + 2000] ^= 0xFF
    path.write_bytes(raw)
    with pytest.warns(UserWarning, match="image00002"):
        assert len(aflw2000(path)) == 3


def test_where_nothing_is_left_or_nothing_is_there_one_sentence_says_so(basel, small, tmp_path):
    write_sample(tmp_path / "one" / "image00001", basel[1], 0)
    empty(tmp_path / "one" / "image00001.mat")
    (tmp_path / "none").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    half = zipped(small[0], tmp_path / "half.zip")
    cut_off(half)
    for reader, path in (
        (aflw2000, tmp_path / "one"),
        *((r, tmp_path / p) for r in (aflw2000, lp300w) for p in ("none", "missing", "text.zip", "half.zip")),
    ):
        with pytest.raises(InputError, match=path.name) as error:
            reader(path)
        assert "\n" not in str(error.value)


# ---- the real data ---------------------------------------------------------


@needs_data("aflw2000_dev.zip")
def test_the_convention_is_that_of_the_real_files():
    """Turned back and without scale and translation, the labeled landmarks must be one linear function of Shape_Para
    and Exp_Para for all photographs: 229 unknowns for each coordinate and 1,000 equations. A wrong sign, order of
    rotations, flip or offset leaves millimeters."""
    photos = AFLW2000(DEVELOPMENT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        faces = aflw2000(DEVELOPMENT)
    assert len(faces) == 1000
    torch.testing.assert_close(torch.linalg.det(faces.rotation), torch.ones(1000))
    labels = faces.landmarks.double()
    placed = torch.stack([labels[..., 0], 120 - labels[..., 1]], -1) - faces.translation[:, None].double()
    rows = faces.rotation[:, :2].double()
    # z is known up to the translation tz, which is not in FaceBatch: it is taken from the file.
    pose = torch.from_numpy(
        np.stack([photos.arrays(stem + ".mat", ("Pose_Para",))["Pose_Para"][0] for stem in photos.stems.values()])
    ).double()
    depth = labels[..., 2] - (pose[:, 5] * faces.scale.double() / (pose[:, 6] * 1e3))[:, None]
    neutral = (
        torch.cat([placed, depth[..., None]], -1)
        / faces.scale[:, None, None].double()
        @ torch.cat([rows, faces.rotation[:, 2:].double()], 1)
    )
    known = torch.cat([torch.ones(1000, 1), faces.identity / 1e5, faces.expression], 1).double()
    solution = torch.linalg.lstsq(known, neutral.flatten(1)).solution
    assert (known @ solution - neutral.flatten(1)).abs().max() < 2e-3  # mm
    mean = neutral.mean(0)
    assert (
        80 < mean[45, 0] - mean[36, 0] < 95
        and mean[30, 2] > mean[[0, 16], 2].max() + 90
        and mean[27, 1] > mean[8, 1] + 80
    )


@needs_data("aflw2000_dev.zip")
def test_real_faces_look_where_their_yaw_says():
    photos = AFLW2000(DEVELOPMENT)
    for face in map(
        photos.read, ("image00004", "image00006")
    ):  # to the left of the picture: the nose is left of the jaw's ends
        assert face.yaw > 40 and face.landmarks[30, 0] < face.landmarks[[0, 16], 0].min()
