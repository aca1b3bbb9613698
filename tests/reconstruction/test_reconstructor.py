"""Faces found in photos, independently of their crops (facemodels.reconstruction.reconstructor)."""

import numpy as np
import pytest
import torch

import facemodels
from facemodels import InputError
from facemodels.core.crops import landmark_box
from facemodels.reconstruction.detect import Detection, first_crop
from facemodels.reconstruction.reconstructor import Reconstructor
from tests.stub_method import HEIGHT, WIDTH, StubMethod, found_at, pretend, ramps, upright


@pytest.mark.parametrize("box", [(110, 60, 210, 190), (125, 80, 190, 160), (100.5, 70.25, 240.75, 200)])
def test_a_face_lies_where_it_is_in_the_picture_whatever_was_cropped(stub, box):
    (face,) = facemodels.reconstruct(ramps(), stub, boxes=[box])
    assert face.box == box
    assert torch.allclose(face.translation, torch.tensor(stub.place), atol=1.0)
    assert face.scale == pytest.approx(stub.px_per_mm, rel=0.03)
    camera = face.camera((HEIGHT, WIDTH))
    seen = camera.pixels(stub.model.landmarks(face.vertices[None]))[0]
    assert torch.allclose(
        seen, face.landmarks[:, :2], atol=1e-2
    )  # the model and its landmarks agree in the whole picture
    assert np.allclose(face.degrees, [-6, -23, 11], atol=1e-3)


def test_a_found_face_is_cropped_again_around_its_landmarks(stub, monkeypatch):
    box = (120.0, 70.0, 200.0, 170.0)
    pretend(monkeypatch, found_at(box))
    (face,) = facemodels.reconstruct(ramps(), stub)
    assert face.score == 0.9 and face.crop != first_crop(box)
    assert np.allclose(face.crop, landmark_box(face.landmarks[:, :2].numpy()), atol=2)


@pytest.mark.filterwarnings("ignore::facemodels.reconstruction.landmark_check.LandmarkWarning")
def test_given_landmarks_are_the_crop_and_nothing_is_searched(stub, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("searched")

    pretend(monkeypatch, refuse)
    points = np.random.default_rng(0).uniform(80, 200, (68, 2))
    points[36:42], points[42:48], points[48:] = (140, 100), (180, 100), (160, 160)  # upright
    (face,) = facemodels.reconstruct(ramps(), stub, landmarks=[points])
    assert np.allclose(face.crop, landmark_box(points)) and face.turn == 0
    five = np.array([[140, 100], [180, 100], [160, 120], [145, 145], [175, 145]], float)
    (face,) = facemodels.reconstruct(ramps(), stub, landmarks=[five])
    assert np.allclose(
        face.crop, landmark_box(face.landmarks[:, :2].numpy()), atol=2
    )  # five are less than a face: it is looked at twice
    with pytest.raises(InputError, match="boxes or landmarks, not both"):
        facemodels.reconstruct(ramps(), stub, landmarks=[five], boxes=[(0, 0, 9, 9)])
    with pytest.raises(InputError, match="68 .* or 5 points, got 7"):
        facemodels.reconstruct(ramps(), stub, landmarks=[points[:7]])


def test_faces_of_many_pictures_go_through_the_network_together(stub, monkeypatch):
    pretend(monkeypatch, found_at((110, 60, 210, 190), (120, 70, 200, 170)))
    before = stub.passes
    faces = facemodels.reconstruct([ramps(), ramps(), ramps()], stub)
    assert [len(f) for f in faces] == [1, 1, 1]  # found twice, it is one face
    assert stub.passes == before + 2  # each face is cropped twice


@pytest.mark.parametrize(
    "image, message",
    [
        (np.full((4, 4, 3), 2.0), "in 0..1, got 2..2"),
        (np.zeros((6, 4, 2), np.uint8), r"\[6, 4, 2\]"),
        (np.zeros((0, 4, 3), np.uint8), r"\[0, 4, 3\]"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(stub, image, message):
    with pytest.raises(InputError, match=message):
        facemodels.reconstruct(image, stub, boxes=[(0, 0, 2, 2)])


@pytest.mark.parametrize("degrees", [0, 35, -80, 170])
def test_heads_that_stand_askew_are_turned_upright_and_back(degrees, monkeypatch):
    """The network gets upright crops; its prediction comes out at the place and with the roll of the picture."""
    turn = np.radians(degrees)
    stub = StubMethod(yaw=0.0).eval()
    stub.rotation = torch.eye(3)
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
    pretend(monkeypatch, lambda *_, **__: [Detection((120.0, 80.0, 200.0, 160.0), 0.9, points)])
    crops = []
    monkeypatch.setattr(stub, "reconstruct", lambda image: crops.append(image) or upright(stub, len(image)))
    (face,) = Reconstructor(stub)([ramps()])[0]
    assert face.turn == pytest.approx(turn if abs(degrees) > 20 else 0, abs=1e-6)
    assert face.degrees[2] == pytest.approx(-degrees, abs=1e-3)  # clockwise
    assert torch.allclose(
        face.camera((HEIGHT, WIDTH)).pixels(stub.model.landmarks(face.vertices[None]))[0],
        face.landmarks[:, :2],
        atol=1e-2,
    )
    eyes, mouth = face.landmarks[[39, 42], :2].mean(0), face.landmarks[[48, 54], :2].mean(0)
    upwards = ((eyes - mouth) / (eyes - mouth).norm()).numpy()
    assert upwards @ up > 0.99  # from the mouth to the eyes is up of the head, in the picture
    across = float(crops[0][0, 0].mean(0)[40] - crops[0][0, 0].mean(0)[24])  # red grows to the right of the picture
    assert across * np.cos(turn) > 0
