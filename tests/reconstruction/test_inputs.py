"""Pictures, videos, boxes and landmarks as people have them (facemodels.reconstruction.inputs)."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

import facemodels
from facemodels import InputError
from facemodels.reconstruction.reconstructor import Reconstructor
from facemodels.reconstruction.refine import ITERATIONS
from tests.stub_method import found_at, pretend, ramps, write_video

pytestmark = pytest.mark.filterwarnings("ignore::facemodels.reconstruction.landmark_check.LandmarkWarning")

BOX = (110, 60, 210, 190)
FIVE = np.array([[140, 100], [180, 100], [160, 120], [145, 145], [175, 145]], float)


def png():
    out = BytesIO()
    Image.fromarray(ramps()).save(out, "PNG")
    return out.getvalue()


PICTURES = {
    "uint16": lambda: ramps().astype(np.uint16) * 257,
    "floats": lambda: ramps() / 255,
    "transparent": lambda: np.concatenate([ramps(), np.full_like(ramps()[..., :1], 9)], -1),
    "PIL": lambda: Image.fromarray(ramps()),
    "tensor [h,w,3]": lambda: torch.from_numpy(ramps()),
    "tensor [3,h,w]": lambda: torch.from_numpy(ramps()).permute(2, 0, 1),
    "float tensor": lambda: torch.from_numpy(ramps()).permute(2, 0, 1) / 255,
    "bytes": png,
    "open file": lambda: BytesIO(png()),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_one_picture_of_any_kind_gives_a_list_of_faces(stub, kind):
    (expected,) = facemodels.reconstruct(ramps(), stub, boxes=BOX)
    (face,) = facemodels.reconstruct(PICTURES[kind](), stub, boxes=BOX)
    assert face == expected


def test_bgr_is_a_flag_for_arrays_and_tensors(stub):
    (expected,) = facemodels.reconstruct(ramps(), stub, boxes=BOX)
    swapped = np.ascontiguousarray(ramps()[..., ::-1])
    assert facemodels.reconstruct(swapped, stub, boxes=BOX, bgr=True) == [expected]
    assert facemodels.reconstruct([torch.from_numpy(swapped)], stub, boxes=[BOX], bgr=True) == [[expected]]
    assert facemodels.reconstruct(swapped, stub, boxes=BOX) != [expected]


def test_several_are_lists_batches_and_folders(stub, tmp_path, monkeypatch):
    pretend(monkeypatch, found_at(BOX))
    for name in ("b.png", "a.png"):
        Image.fromarray(ramps()).save(tmp_path / name)
    batch = torch.from_numpy(np.stack([ramps()] * 2))
    for several in ([ramps(), str(tmp_path / "a.png")], batch, batch.permute(0, 3, 1, 2), batch.numpy(), tmp_path):
        assert [len(faces) for faces in facemodels.reconstruct(several, stub)] == [1, 1]
    assert [f.source.name for (f,) in facemodels.reconstruct(tmp_path, stub)] == ["a.png", "b.png"]
    assert facemodels.reconstruct([], stub) == []


def test_a_video_and_an_iterator_of_frames_give_faces_frame_by_frame(stub, tmp_path, monkeypatch):
    pretend(monkeypatch, found_at(BOX))
    found = facemodels.reconstruct((ramps() for _ in range(3)), stub)
    assert iter(found) is found
    assert [[(f.track, f.source, f.size) for f in faces] for faces in found] == [[(0, None, (240, 320))]] * 3
    write_video(tmp_path / "a.mp4", 4)
    assert [len(faces) for faces in facemodels.reconstruct(tmp_path / "a.mp4", stub)] == [1] * 4


@pytest.mark.parametrize("boxes", [BOX, list(BOX), [BOX], np.array(BOX), np.array([BOX]), torch.tensor([BOX])])
def test_boxes_of_one_picture_are_one_or_a_list(stub, boxes):
    assert [f.box for f in facemodels.reconstruct(ramps(), stub, boxes=boxes)] == [BOX]


def test_of_several_pictures_each_has_its_boxes_or_none(stub, monkeypatch):
    pretend(monkeypatch, found_at((90, 50, 200, 180)))
    found = facemodels.reconstruct([ramps()] * 3, stub, boxes=[BOX, [BOX, BOX], None])
    assert [[f.box for f in faces] for faces in found] == [[BOX], [BOX, BOX], [(90, 50, 200, 180)]]
    assert facemodels.reconstruct(ramps(), stub, boxes=[]) == []


@pytest.mark.parametrize(
    "points", [FIVE, FIVE.tolist(), [FIVE], torch.from_numpy(FIVE), np.pad(FIVE, ((0, 0), (0, 1)))]
)
def test_landmarks_of_one_picture_are_of_one_face_or_a_list(stub, points):
    (face,) = facemodels.reconstruct(ramps(), stub, landmarks=points)
    assert face.confidence == 1


def test_landmarks_of_several_faces_may_differ_in_number(stub):
    many = np.random.default_rng(0).uniform(80, 200, (68, 2))
    assert len(facemodels.reconstruct(ramps(), stub, landmarks=[FIVE, many])) == 2


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, "got None$"),
        (3, "got 3$"),
        ({}, "got dict$"),
        ("", "the path of the picture is empty"),
        ([3], "picture 0 of the list: a picture is a path, an array, a tensor or a PIL image, got int"),
        ([ramps(), "a.mp4"], "a.mp4: a video among pictures"),
        (b"no picture", "picture in memory: not a readable picture"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_sentence(stub, images, message):
    with pytest.raises(InputError, match=message) as error:
        facemodels.reconstruct(images, stub)
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_a_folder_without_pictures_is_refused(stub, tmp_path):
    with pytest.raises(InputError, match="there are no pictures in this folder"):
        facemodels.reconstruct(tmp_path, stub)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"boxes": [[1, 2, 3]]}, r"\[x0, y0, x1, y1\] in pixels, or a list of these; got a list of shape \[1, 3\]"),
        ({"boxes": "abc"}, "got str"),
        ({"boxes": [5, 5, 2, 9]}, "x0 < x1 and y0 < y1; got 5, 5, 2, 9"),
        ({"boxes": [0, 0, np.nan, 9]}, "got 0, 0, nan, 9"),
        ({"boxes": [0.3, 0.1, 0.5, 0.4]}, "box 0.3, 0.1, 0.5, 0.4 covers no face in a picture of 320 x 240 pixels"),
        ({"boxes": [[90, 50, 200, 180], [0, 0, 1, 1]]}, "in pixels of the picture, not in shares of its size"),
        ({"boxes": [330, 50, 400, 180]}, "box 330, 50, 400, 180 covers no face"),
        ({"boxes": [90, -90, 200, 1]}, "box 90, -90, 200, 1 covers no face"),
        ({"landmarks": np.full((68, 2), np.nan)}, r"0 of 68 are known \(not NaN\); give at least 2, or none"),
        ({"landmarks": np.where(np.arange(5)[:, None] < 1, FIVE, np.nan)}, "1 of 5 are known"),
        ({"landmarks": FIVE / 320}, "the landmarks of a face: .* not shares of its size"),
        ({"landmarks": [FIVE, FIVE + 400]}, "0 of 5 landmarks lie in the image of 320 x 240 pixels"),
        ({"landmarks": np.zeros((66, 2))}, "landmarks must be 68 .* got 66"),
        ({"landmarks": 3}, "got 3"),
        ({"landmarks": torch.zeros(2, 2, 2, 2)}, r"got Tensor \[2, 2, 2, 2\]"),
        ({"landmarks": [["a"]]}, "a list of length 1"),
    ],
)
def test_boxes_and_landmarks_that_do_not_fit_are_refused_in_one_sentence(stub, known, message):
    with pytest.raises(InputError, match=message):
        facemodels.reconstruct(ramps(), stub, **known)


def test_several_pictures_need_boxes_for_each(stub):
    with pytest.raises(InputError, match="boxes must be a list for each of the 2 pictures"):
        facemodels.reconstruct([ramps()] * 2, stub, boxes=[BOX])


@pytest.mark.parametrize("options", [{"refine": "yes"}, {"refine": -1}, {"threshold": 2}, {"device": 3}])
def test_options_out_of_their_range_are_refused(stub, options):
    with pytest.raises(InputError, match=next(iter(options))):
        facemodels.reconstruct(ramps(), stub, **options)


def test_refine_is_the_commands_refine_and_not_for_videos(stub):
    assert Reconstructor(stub, refine=True).refined.iterations == ITERATIONS
    assert Reconstructor(stub, refine=3).refined.iterations == 3 and Reconstructor(stub).refined is None
    with pytest.raises(InputError, match="refine is for pictures"):
        facemodels.reconstruct(iter([ramps()]), stub, refine=True)
    with pytest.raises(InputError, match="boxes and landmarks are for pictures"):
        facemodels.reconstruct(iter([ramps()]), stub, boxes=BOX)


def test_a_method_is_moved_to_the_device_that_is_named(stub):
    assert Reconstructor(stub, device=torch.device("meta")).method.weight.device.type == "meta"


@pytest.mark.parametrize("wrong", [3, "", [1]])
def test_methods_and_models_that_are_none_are_refused(wrong):
    for load, word in ((facemodels.load_method, "a method is"), (facemodels.load_model, "a model is")):
        with pytest.raises(InputError, match=word):
            load(wrong)
    with pytest.raises(InputError, match="got None"):
        facemodels.load_model(None)
