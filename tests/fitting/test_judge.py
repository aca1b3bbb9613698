"""Fits that cannot be right are told from those that may be."""

import warnings
from dataclasses import replace

import pytest
import torch

from facemodels import InputError, MorphableModel, fit_image, fit_mesh, load_model
from facemodels.fitting.judge import FitWarning, judged_error, mean_error
from tests.face_patch import patch, patch_data
from tests.synthetic_faces import rendered, scanned


def fitted(points, picture, contour="static"):
    return fit_image(picture, points, patch(), contour, iterations=0, progress=False)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_landmarks_a_few_millimeters_off_give_no_doubts(seed, noise):
    picture, camera, _, _, points = rendered(patch(), seed=seed)
    off = noise * float(camera.scale) * torch.randn(points.shape, generator=torch.Generator().manual_seed(seed))
    fit = fitted(points + off, picture)
    assert fit.doubts == [] and fit.landmark_count == 68


@pytest.mark.parametrize(
    "wrong",
    [
        lambda p: torch.stack([224 - p[:, 0], p[:, 1]], 1),
        lambda p: torch.stack([p[:, 0], 224 - p[:, 1]], 1),
        lambda p: p.flip(1),
    ],
    ids=["mirrored", "y upwards", "x and y exchanged"],
)
def test_landmarks_of_a_mirrored_face_are_refused(wrong):
    picture, *_, points = rendered(patch(), seed=1)
    with pytest.raises(InputError, match="from behind"):
        fitted(wrong(points), picture)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda p: p.roll(1, 0), "landmarks are"),
        (lambda p: torch.stack([torch.arange(68.0), p[:, 0]], 1), "behind|landmarks are"),
        (lambda p: p[torch.randperm(68, generator=torch.Generator().manual_seed(1))], "behind|landmarks are"),
        (lambda p: p.flip(0), "behind|landmarks are"),
    ],
    ids=["by one", "a number for x", "shuffled", "reversed"],
)
def test_landmarks_in_another_order_give_doubts(wrong, words):
    picture, *_, points = rendered(patch(), seed=1)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            fit = fit_image(picture, wrong(points), patch(), "static", iterations=0, progress=False)
        except InputError as error:
            said = str(error)
        else:
            said = "; ".join(fit.doubts)
            assert str(warned[0].message) == f"the fit cannot be right: {said}" and warned[0].filename == __file__
    assert said and any(word in said for word in words.split("|"))


@pytest.mark.parametrize("seed", range(2))
def test_a_scan_of_a_face_gives_no_doubts(seed):
    vertices, landmarks, _ = scanned(patch(), seed)
    assert fit_mesh(vertices, patch().faces, patch(), landmarks, progress=False).doubts == []


@pytest.mark.parametrize("kind", ["shuffled", "upside down"])
def test_a_scan_with_wrong_landmarks_gives_doubts(kind):
    vertices, landmarks, _ = scanned(patch(), 1, turned=False)
    if kind == "shuffled":
        landmarks = landmarks[torch.randperm(68, generator=torch.Generator().manual_seed(0))]
    else:
        landmarks = landmarks * torch.tensor([1.0, -1, 1]) + torch.tensor([0.0, 2, 0]) * landmarks.mean(0)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            fit = fit_mesh(vertices, patch().faces, patch(), landmarks, progress=False)
        except InputError as error:
            assert "no part of the mesh" in str(error)
        else:
            assert fit.doubts and warned[0].category is FitWarning and warned[0].filename == __file__


@pytest.mark.slow
def test_a_scan_in_inches_which_is_taken_for_centimeters_gives_doubts():
    model = load_model()
    with pytest.warns(FitWarning):
        (doubt,) = fit_mesh(scanned(model, 0, unit=1 / 25.4)[0], model.faces, model, progress=False).doubts
    assert "as far from the mean face as people are" in doubt and "inches" in doubt


def test_errors_count_the_landmarks_that_the_model_has():
    data = patch_data()
    weights = data.landmark_weights.copy()
    weights[:17] = 0
    model = MorphableModel(replace(data, landmark_weights=weights, contour=None))
    picture, *_, points = rendered(patch(), seed=2)
    fit = fit_image(picture, points, model, "static", iterations=0, progress=False)
    assert fit.landmark_count == 51 and fit.landmark_error < 1.5 and fit.doubts == []
    assert torch.isnan(fit.landmarks[:17]).all() and torch.isfinite(fit.landmarks[17:]).all()
    vertices, landmarks, _ = scanned(patch(), 1)
    fit = fit_mesh(vertices, patch().faces, model, landmarks, progress=False)
    assert fit.landmark_count == 51 and fit.landmark_error < 1.5 and fit.doubts == []


def test_the_mean_error_is_that_of_points_in_both():
    nan = float("nan")
    a, b = torch.tensor([[0.0, 0], [nan, 0], [1, 1], [5, 5]]), torch.tensor([[3.0, 4], [0, 0], [nan, nan], [5, 5]])
    assert mean_error(a, b) == 2.5


def test_lobes_of_the_ears_which_models_lack_are_not_judged():
    given, fitted = torch.zeros(21, 2), torch.full((21, 2), 3.0)
    fitted[[12, 16]] = 100.0
    given[0] = float("nan")
    assert judged_error(fitted, given) == pytest.approx(3 * 2**0.5)
    assert judged_error(fitted[:5], given[:5]) == pytest.approx(3 * 2**0.5)
