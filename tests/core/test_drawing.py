"""Portraits and sheets of pictures."""

import torch

from facemodels import load_model
from facemodels.core import drawing


def test_portrait_shows_the_lit_and_colored_face_in_the_middle():
    model = load_model("builtin")
    face = model()
    image = drawing.portrait(face.vertices, model.topology, face.albedo, size=96)
    assert image.shape == (1, 96, 96, 3)
    background = torch.tensor(drawing.BACKGROUND)
    assert torch.allclose(image[0, 0, 0], background) and not torch.allclose(image[0, 48, 48], background)
    nose = image[0, 44:56, 44:52].mean((0, 1))
    assert nose[0] > nose[1] > nose[2] > 0.05  # skin
    left, right = drawing.portrait(
        face.vertices.expand(2, -1, -1), model.topology, face.albedo, 96, torch.tensor([30.0, -30.0])
    )
    assert (left - right.flip(1)).abs().mean() < (left - right).abs().mean() * 0.7  # turned the other way


def test_tiles_keep_order():
    images = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 2, 3, 3) / 5
    sheet = drawing.tile(images, 2)
    assert sheet.shape == (6, 6, 3) and sheet[0, 3, 0] == 0.2 and sheet[2, 0, 0] == 0.4
