"""Faces that are rendered and found again in their photo (facemodels.fitting.photo)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from facemodels import InputError, MorphableModel, load_model
from facemodels.core import progress
from facemodels.core.landmarks import landmark_means
from facemodels.fitting.photo import Weights, fit_image
from tests.face_patch import patch, patch_data
from tests.synthetic_faces import errors, rendered


@pytest.mark.parametrize("count, limit", [(68, 0.5), (21, 0.7), (5, 1.0)])
def test_a_rendered_face_is_found_again_from_each_set_of_landmarks(count, limit):
    model = patch()
    picture, c, person, vertices, landmarks = rendered(model, seed=count)
    fit = fit_image(picture, landmark_means(count) @ landmarks, model, "static", iterations=150)
    pixels, mm = errors(model, fit, c, vertices)
    assert pixels < limit and mm < 1
    assert fit.landmarks.shape == (count, 2) and fit.landmark_error < limit
    assert len(fit.history) == 150 and fit.history[-1] < 0.011  # of the brightness: as little as is believed
    assert (fit.expression >= 0).all() and (fit.expression <= 1).all()


@pytest.mark.slow
def test_the_builtin_model_recovers_a_rendered_face_within_half_a_pixel_and_a_millimeter():
    model = load_model("builtin")
    picture, c, person, vertices, landmarks = rendered(model, seed=1, scale=0.9)
    pixels, mm = errors(model, fit_image(picture, landmarks, model, "static", iterations=200), c, vertices)
    assert pixels < 0.5 and mm < 1


def test_the_photometric_stage_brings_the_shape_closer_than_landmarks_alone():
    model = patch()
    picture, c, person, vertices, landmarks = rendered(model, seed=4)
    alone = fit_image(picture, landmarks, model, "static", iterations=0)
    assert (
        alone.history == []
        and errors(model, fit_image(picture, landmarks, model, "static", iterations=150), c, vertices)[1]
        < errors(model, alone, c, vertices)[1]
    )


@pytest.mark.slow
def test_the_outline_tells_the_shape_of_a_turned_face():
    model, sums = load_model("builtin"), torch.zeros(2)
    for seed in (1, 2, 3):
        picture, c, person, vertices, landmarks = rendered(model, seed=seed, scale=0.9, yaw=0.7)
        landmarks[:17] = torch.nan
        for k, outline in enumerate((0.0, 4.0)):
            fit = fit_image(
                picture, landmarks, model, "static", iterations=40, weights=Weights(picture=1e-3, outline=outline)
            )
            sums[k] += errors(model, fit, c, vertices)[1]
    assert sums[1] < 0.9 * sums[0]


def test_the_border_of_a_mesh_is_no_outline():
    model = patch()
    picture, _, _, _, landmarks = rendered(model, seed=4, yaw=0.0)
    without, with_it = (
        fit_image(picture, landmarks, model, "static", iterations=5, weights=Weights(outline=o)) for o in (0.0, 4.0)
    )
    assert torch.equal(without.identity, with_it.identity)


def test_an_expression_that_is_held_is_that_of_the_landmarks():
    model = patch()
    picture, _, _, _, landmarks = rendered(model, seed=4)
    alone, held = (fit_image(picture, landmarks, model, "static", iterations=n, hold_expression=True) for n in (0, 20))
    assert torch.equal(held.expression, alone.expression) and alone.expression.any()
    assert not torch.allclose(held.identity, alone.identity, atol=1e-3)


def test_a_larger_photo_gives_its_own_pixels_and_a_known_focal_length_is_heeded():
    model = patch()
    picture, c, person, vertices, landmarks = rendered(model, seed=2, focal=900.0, size=(300, 500))
    fit = fit_image(picture, landmarks, model, "static", focal=900.0, iterations=0)
    assert (fit.landmarks - landmarks).norm(dim=-1).mean() < 0.5 and fit.camera.size == (300, 500)
    weak = fit_image(picture, landmarks, model, "static", iterations=0)
    assert torch.linalg.matrix_norm(fit.camera.rotation - c.rotation) < torch.linalg.matrix_norm(
        weak.camera.rotation - c.rotation
    )


def test_a_model_without_albedo_gets_light_and_shape():
    model = MorphableModel(replace(patch_data(), albedo_mean=None, albedo=None))
    picture, c, person, vertices, landmarks = rendered(patch(), seed=6)
    fit = fit_image(picture, landmarks, model, "static")
    assert fit.albedo is None and fit.light.abs().max() > 0 and fit.landmark_error < 0.5


def test_too_few_landmarks_and_a_face_outside_the_photo_are_named():
    model = patch()
    picture, c, person, vertices, landmarks = rendered(model)
    some = landmarks.clone()
    some[3:] = torch.nan
    with pytest.raises(InputError, match="at least 4"):
        fit_image(picture, some, model)
    with pytest.raises(InputError, match="68"):
        fit_image(picture, landmarks[:30], model)
    with pytest.raises(InputError, match="two pixels"):
        fit_image(picture, landmarks / 224, model)
    with pytest.raises(InputError, match="outside the photo"):
        fit_image(picture, landmarks + 5000, model)


def test_a_file_is_fitted_as_its_pixels_are(tmp_path):
    picture, *_, landmarks = rendered(patch(), seed=1)
    image = Image.fromarray(np.asarray(picture))
    image.save(tmp_path / "photo.png")
    given = (picture, torch.from_numpy(picture).double() / 255, str(tmp_path / "photo.png"), image)
    first, *others = (fit_image(p, landmarks, patch(), "static", iterations=3, progress=False) for p in given)
    for fit in others:
        torch.testing.assert_close(fit.light, first.light)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda p: "nothing.jpg", "nothing.jpg"),
        (lambda p: p.astype(np.float32), r"a picture is uint8, or floats in 0..1, got torch.float32 in 69..195"),
        (lambda p: p.astype(np.int32), "a picture is uint8, or floats in 0..1, got torch.int32"),
        (lambda p: p / np.nan, "a picture is uint8, or floats in 0..1, got torch.float64 in nan"),
        (lambda p: {"photo": 1}, r"expected a picture \[H,W,3\], got {'photo': 1}"),
        (lambda p: p[..., 0], r"image must be \[H,W,3\], got \[224, 224\]"),
    ],
)
def test_what_is_no_picture_is_one_sentence(change, words):
    picture, *_, landmarks = rendered(patch())
    with pytest.raises(ValueError, match=words):
        fit_image(change(picture), landmarks, patch())


def test_landmarks_with_depth_are_taken_and_their_number_is_checked_before_their_place():
    model = patch()
    picture, _, _, _, landmarks = rendered(model, seed=3)
    flat, deep = landmarks[:, :2], torch.cat([landmarks[:, :2], torch.full((68, 1), 7.0)], 1)
    fits = [fit_image(picture, points, model, "static", iterations=0) for points in (flat, deep)]
    assert torch.equal(fits[0].identity, fits[1].identity) and fits[1].landmarks.shape == (68, 2)
    with pytest.raises(InputError, match="landmarks must be 68 .* got 66"):
        fit_image(picture, torch.zeros(66, 2), model)
    with pytest.raises(ValueError, match=r"landmarks must be \[L,2\] or \[L,3\] of one face, got \[1, 68, 2\]"):
        fit_image(picture, flat[None], model)


def test_a_file_of_landmarks_is_one_sentence():
    picture, *_ = rendered(patch())
    with pytest.raises(InputError, match=r"expected landmarks \[L,2\], as read_landmarks gives them, got 'photo.pts'"):
        fit_image(picture, "photo.pts", patch())


def test_a_fit_says_on_stderr_how_far_it_is_unless_it_is_told_not_to(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_FIRST", -1.0)  # seconds: every fit is a slow one
    picture, *_, landmarks = rendered(patch(), seed=1)
    fit_image(picture, landmarks, patch(), "static", iterations=3)
    assert capsys.readouterr().err.startswith("light, albedo and shape: 1 of 3, ")
    fit_image(picture, landmarks, patch(), "static", iterations=3, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("value", "known", "words"),
    [(torch.nan, 0, "at least 4 landmarks are needed that are known"), (torch.nan, 3, "got 3 of 68")]
    + [(torch.inf, 67, "write NaN for a point that is missing")],
)
def test_landmarks_that_are_not_finite_are_refused_with_what_to_do(value, known, words):
    points = 100 * torch.rand(68, 2, generator=torch.Generator().manual_seed(0))
    points[known:] = value
    with pytest.raises(InputError, match=words):
        fit_image(torch.zeros(100, 100, 3), points, patch(), iterations=0, progress=False)
