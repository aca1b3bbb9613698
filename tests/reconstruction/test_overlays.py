"""Faces drawn over their picture (facemodels.reconstruction.overlays)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from facemodels import InputError
from facemodels.reconstruction import overlays
from tests.stub_method import ramps


@pytest.mark.parametrize("word", sorted(overlays.PICTURES))
def test_pictures_change_where_the_face_is_and_nowhere_else(stub, face, word):
    picture = ramps()
    drawn = overlays.PICTURES[word](picture, [face], stub.model)
    assert drawn.shape == picture.shape and drawn.dtype == np.uint8
    if word in ("depth", "normals"):
        assert (drawn[:10] == 0).all() and (drawn[110:130, 150:170] > 0).any()
    else:
        assert np.array_equal(drawn[:10], picture[:10]) and not np.array_equal(drawn, picture)
    assert np.array_equal(
        overlays.PICTURES[word](picture, [], stub.model),
        np.zeros_like(picture) if word in ("depth", "normals") else picture,
    )


def test_normals_of_a_face_that_looks_at_the_camera_are_blue(face, stub):
    frontal = face.with_parameters(rotation=torch.eye(3), expression=torch.zeros_like(face.expression))
    drawn = overlays.normals(ramps(), [frontal], stub.model)
    x, y = (
        int(frontal.translation[0]),
        int(frontal.translation[1] - frontal.scale * 60),
    )  # 60 mm above the head's origin
    assert drawn[y, x, 2] > 200


def test_a_face_beyond_the_border_is_drawn_in_part_or_not_at_all(stub, face):
    picture = ramps()
    half = face.with_parameters(translation=torch.tensor([0.0, 120.0]))
    assert not np.array_equal(overlays.overlay(picture, [half], stub.model), picture)
    away = face.with_parameters(translation=torch.tensor([-5000.0, 120.0]))
    assert np.array_equal(overlays.overlay(picture, [away], stub.model), picture)


@pytest.mark.parametrize("word", sorted(overlays.PICTURES))
def test_drawing_takes_one_face_and_pictures_of_every_kind(stub, face, word, tmp_path):
    draw, picture = overlays.PICTURES[word], ramps()
    wanted = draw(picture, [face], stub.model)
    Image.fromarray(picture).save(tmp_path / "a.png")
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    for kind in (str(tmp_path / "a.png"), tmp_path / "a.png", tensor, Image.fromarray(picture), picture / 255.0):
        np.testing.assert_array_equal(draw(kind, face), wanted)
    np.testing.assert_array_equal(draw(picture, (f for f in [face])), wanted)
    np.testing.assert_array_equal(face.overlay(tensor), overlays.overlay(picture, [face]))
    assert draw(picture, []).shape == picture.shape


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(picture="nope.png"), "nope.png: "),
        (dict(picture=3), "a picture is a path, an array"),
        (dict(picture=ramps()[:50]), "overlay: the picture has .* x 50 pixels, and a face was found in one of "),
        (dict(faces=None), "overlay takes a face or a list of faces of one picture.*; got a NoneType"),
        (dict(faces=[[]]), "overlay takes a face .*; got lists of faces: give those of one picture"),
    ],
)
def test_what_cannot_be_drawn_is_said(face, change, words):
    with pytest.raises(InputError, match=words):
        overlays.overlay(**{"picture": ramps(), "faces": replace(face, size=ramps().shape[:2])} | change)
