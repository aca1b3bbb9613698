"""Cameras and Jacobians against differences, least squares within bounds, and faces that are rendered or scanned and found again."""

import json
import math
import re
from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pytest
import torch
import trimesh

import facerender as fr
from facemodels import InputError, MorphableModel, load_model
from facemodels.cli.main import main
from facemodels.core.alignment import similarity
from facemodels.core.camera import POSE, Camera, camera_from_points
from facemodels.core.drawing import to_bytes
from facemodels.core.landmarks import landmark_means
from facemodels.core.surface import closest_points
from facemodels.export import Mesh, write
from facemodels.fitting.landmarks import ModelLandmarks
from facemodels.fitting.least_squares import (
    VertexFunction,
    bounded_step,
    coefficient_layout,
)
from facemodels.fitting.photo import Weights, fit_image
from facemodels.fitting.scan import fit_mesh
from facemodels.models.formats.native import write_native
from facemodels.models.sampling import random_coefficients
from tests.face_patch import patch, patch_data

SIZE = (224, 224)


def camera(yaw=0.4, pitch=-0.1, roll=0.15, scale=1.3, focal=math.inf, size=SIZE, translation=(4.0, -3.0)):
    rotation = fr.camera.euler_rotation(torch.tensor([[pitch, yaw, roll]], dtype=torch.float64))
    return Camera(
        torch.tensor([scale]).double(),
        rotation,
        torch.tensor([translation]).double(),
        size,
        (size[1] / 2 + 5, size[0] / 2),
        focal,
    )


def points(count=30):
    return torch.randn(1, count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 50


# ------------------------------------------------------------------------------------------------------------------------ camera


def test_camera_without_focal_length_is_weak_perspective():
    c, p = camera(), points()
    height = c.size[0]
    shifted = c.translation + torch.tensor([[c.center[0], height - c.center[1]]])
    expected = fr.camera.weak_perspective(p, c.scale, c.rotation, shifted, c.size)
    torch.testing.assert_close(c.clip(p), expected)


def test_camera_with_focal_length_is_the_pinhole():
    c, p = camera(focal=700.0), points()
    distance = c.focal / c.scale
    place = torch.stack([c.translation[:, 0] / c.scale, c.translation[:, 1] / c.scale, -distance], -1)
    expected = fr.camera.pinhole(p @ c.rotation.mT + place, c.focal, c.center, c.size, 100, 2000)
    torch.testing.assert_close(c.pixels(p), fr.camera.to_pixels(expected, c.size))


@pytest.mark.parametrize("focal", [math.inf, 600.0])
def test_camera_jacobians_are_the_derivatives(focal):
    c, p = camera(focal=focal), points(5)
    to_point, to_pose = c.jacobian(p[0])
    expected = torch.autograd.functional.jacobian(lambda q: c.pixels(q)[0], p)  # [5,2,1,5,3]
    torch.testing.assert_close(to_point, torch.stack([expected[k, :, 0, k] for k in range(5)]))
    expected = torch.autograd.functional.jacobian(
        lambda step: c.moved(step).pixels(p)[0], torch.zeros(POSE, dtype=torch.float64)
    )
    torch.testing.assert_close(to_pose, expected)


def test_resampled_camera_shows_the_same_view():
    c, p = camera(focal=600.0), points()
    again = c.resampled(0.4, (30.0, -12.0), (100, 120))
    torch.testing.assert_close(again.pixels(p), (c.pixels(p) - torch.tensor([30.0, -12.0])) * 0.4)


@pytest.mark.parametrize("yaw", [-80, -40, 0, 40, 80])
@pytest.mark.parametrize("count", [5, 21, 68])
def test_camera_is_found_from_points_in_closed_form(yaw, count):
    truth = camera(yaw=math.radians(yaw))
    p = landmark_means(count).double() @ patch().landmarks(patch().shape()).double()[0]
    found = camera_from_points(p, truth.pixels(p[None])[0], torch.ones(count).double(), truth.size, truth.center)
    assert (found.pixels(p[None]) - truth.pixels(p[None])).norm(dim=-1).max() < 0.2
    assert torch.linalg.matrix_norm(found.rotation - truth.rotation) < 0.02


# ----------------------------------------------------------------------------------------------------------------- least squares


@pytest.mark.parametrize("jaw", [False, True])
def test_model_part_is_the_model_with_its_derivative(jaw):
    model = patch(jaw=jaw).double()
    layout = coefficient_layout(model)
    assert sum(layout.sizes) == len(layout.precision) == 8 + 3 + 3 * jaw
    vertices = torch.tensor([5, 300, 700, 960, 5])
    part = VertexFunction(model, vertices, layout)
    x = torch.randn(len(layout.precision), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.5
    identity, expression, joints = layout.split(x[None])
    expected = model.shape(identity, expression, joints.view(1, -1, 3) if jaw else None)[0, vertices]
    torch.testing.assert_close(part(x), expected)
    torch.testing.assert_close(part.jacobian(x), torch.autograd.functional.jacobian(part, x))


def test_landmarks_have_their_derivative_on_the_moving_contour_too():
    model = MorphableModel(patch_data())
    model.contour = torch.stack(
        [model.landmark_index[:17, 0] + 0, model.landmark_index[:17, 0] + 1, model.landmark_index[:17, 0] - 1], 1
    )
    layout = coefficient_layout(model)
    marks = ModelLandmarks(model, layout, "moving")
    turn = fr.camera.euler_rotation(torch.tensor([[0.0, 0.9, 0.0]], dtype=torch.float64))[0]
    x = torch.full_like(layout.precision, 0.2)
    found, where = marks.at(x, turn)
    identity, expression, _ = layout.split(x[None].float())
    torch.testing.assert_close(found.float(), model.landmarks(model.shape(identity, expression), turn[None].float())[0])
    assert not torch.equal(found, marks.at(x, torch.eye(3, dtype=torch.float64))[0])
    torch.testing.assert_close(
        marks.jacobian(x, where), torch.autograd.functional.jacobian(lambda x: marks.at(x, turn)[0], x)
    )


@pytest.mark.parametrize("seed", range(5))
def test_bounded_step_is_the_minimum_within_the_bounds(seed):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(40, 12, generator=generator, dtype=torch.float64) * torch.logspace(0, -2, 12, dtype=torch.float64)
    hessian, gradient = (
        a.T @ a + 1e-6 * torch.eye(12).double(),
        torch.randn(12, generator=generator, dtype=torch.float64),
    )
    lower, upper = (
        -torch.rand(12, generator=generator, dtype=torch.float64),
        torch.rand(12, generator=generator, dtype=torch.float64),
    )
    step = bounded_step(hessian, gradient, lower, upper)
    slope = gradient + hessian @ step
    assert (step >= lower).all() and (step <= upper).all()
    inside = (step > lower) & (step < upper)
    assert slope[inside].abs().max() < 1e-6 if inside.any() else True
    assert (slope[step == lower] >= -1e-9).all() and (slope[step == upper] <= 1e-9).all()


# ------------------------------------------------------------------------------------------------------------------------- photos


def rendered(model, seed=0, scale=1.0, focal=math.inf, size=SIZE, yaw=None):
    """(picture uint8, camera, coefficients, vertices, landmarks [68,2]) of somebody before a plain background, from a lamp and the sky."""
    generator = torch.Generator().manual_seed(seed)
    person = random_coefficients(model, 1, generator)
    yaw = float(torch.rand(1, generator=generator) - 0.5) * 1.2 if yaw is None else yaw
    c = camera(yaw=yaw, pitch=0.1, scale=scale * size[0] / 224, focal=focal, size=size).to(torch.float32)
    vertices = model.shape(person.identity, person.expression)
    lamp = torch.tensor([[0.6, 0.4, 0.9]])
    light = fr.lighting.ambient_and_directional(
        torch.tensor([[0.45, 0.45, 0.5]]), lamp, torch.tensor([[0.8, 0.75, 0.7]]), "standard"
    )
    normals = fr.vertex_normals(vertices, model.topology) @ c.rotation.mT
    picture, _ = fr.render_face(
        c.clip(vertices),
        normals,
        model.albedo(person.albedo),
        light,
        model.topology,
        size,
        torch.tensor([0.2, 0.3, 0.25]),
        "standard",
    )
    return to_bytes(picture[0]), c, person, vertices, c.pixels(model.landmarks(vertices))[0]


def errors(model, fit, c, vertices):
    """(mean landmark error in pixels at 224, median vertex error in mm of the face after similarity alignment in camera space)."""
    found = fit.face(model).vertices
    gap = (
        (fit.camera.pixels(model.landmarks(found)) - c.pixels(model.landmarks(vertices))).norm(dim=-1).mean()
        * 224
        / c.size[0]
    )
    region = model.regions.get("face", slice(None))
    own, true = (found @ fit.camera.rotation.mT)[0, region], (vertices @ c.rotation.mT)[0, region]
    return float(gap), float((similarity(own, true)(own) - true).norm(dim=1).median())


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


def test_the_builtin_model_recovers_a_rendered_face_within_half_a_pixel_and_a_millimetre():
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


def test_wrong_labels_do_not_spoil_the_right_ones():
    model = patch()
    picture, c, person, vertices, landmarks = rendered(model, seed=3)
    landmarks[[20, 40, 60]] += torch.tensor([40.0, -30.0])
    landmarks[[3, 50]] = torch.nan
    fit = fit_image(picture, landmarks, model, "static", iterations=30)
    assert errors(model, fit, c, vertices)[0] < 1


def test_the_deviation_of_the_labels_is_estimated_so_that_noise_is_not_taken_for_shape():
    model = patch()
    _, c, person, vertices, landmarks = rendered(model, seed=5)
    noisy = landmarks + 3 * torch.randn(68, 2, generator=torch.Generator().manual_seed(0))
    fit = fit_image(np.zeros((224, 224, 3), np.uint8) + 90, noisy, model, "static", iterations=0)
    assert (fit.identity.abs() < 3).all() and errors(model, fit, c, vertices)[0] < 2


def test_a_jaw_opens_to_landmarks():
    model = patch(jaw=True)
    person = model.shape(torch.zeros(1, 8), None, torch.tensor([[[0.35, 0.0, 0.0]]]))
    c = camera(yaw=0.5, pitch=0.0).to(torch.float32)
    fit = fit_image(
        np.full((224, 224, 3), 128, np.uint8), c.pixels(model.landmarks(person))[0], model, "static", iterations=0
    )
    assert fit.landmark_error < 0.5 and fit.joints.shape == (1, 1, 3) and fit.joints[0, 0, 0] > 0.2


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


# -------------------------------------------------------------------------------------------------------------------------- scans


def scanned(model, seed, unit=1.0, turned=True):
    generator = torch.Generator().manual_seed(seed)
    person = random_coefficients(model, 1, generator)
    vertices = model.shape(person.identity, person.expression)[0].double()
    angles = torch.rand(1, 3, generator=generator, dtype=torch.float64) * 6 if turned else torch.zeros(1, 3).double()
    rotation = fr.camera.euler_rotation(angles)[0]
    place = lambda p: (p.double() @ rotation.T + torch.tensor([120.0, -40, 70])) * unit  # noqa: E731
    return place(vertices), place(model.landmarks(vertices[None].float())[0]), person


@pytest.mark.parametrize("unit", [0.1, 1000.0])
def test_a_scan_in_any_unit_is_found_from_landmarks(unit):
    model = patch()
    vertices, landmarks, person = scanned(model, 1, unit)
    fit = fit_mesh(vertices, model.faces, model, landmarks, progress=False)
    found = fit.placement(fit.face(model).vertices[0]).double()
    assert closest_points(vertices, found, model.faces).distance.median() < 0.1 * unit
    assert float(fit.placement.scale) == pytest.approx(unit, rel=0.02) and fit.landmark_error < 1


def test_a_scan_that_lies_anyhow_is_found_without_landmarks():
    model = patch()
    vertices, landmarks, person = scanned(model, 1)
    fit = fit_mesh(vertices, model.faces, model, progress=False)
    found = fit.placement(fit.face(model).vertices[0]).double()
    assert (found - vertices).norm(dim=1).median() < 2 and closest_points(
        vertices, found, model.faces
    ).distance.median() < 0.15


def test_a_part_of_a_face_with_turned_triangles_is_fitted_where_it_is():
    model = patch()
    vertices, landmarks, person = scanned(model, 4)
    kept = model.faces[(patch().mean[model.faces.long(), 0] < 20).all(1)]
    fit = fit_mesh(vertices, kept.flip(1), model, landmarks, progress=False)
    found = fit.placement(fit.face(model).vertices[0]).double()
    used = kept.unique().long()
    assert closest_points(vertices[used], found, model.faces).distance.median() < 0.1


def test_a_neutral_fit_leaves_the_expression_out():
    model = patch()
    vertices, landmarks, person = scanned(model, 5)
    fit = fit_mesh(vertices, model.faces, model, landmarks, expression=False, progress=False)
    assert fit.expression.shape == (1, 3) and not fit.expression.any()


def test_landmarks_that_lie_off_the_mesh_are_noticed():
    model = patch()
    vertices, landmarks, person = scanned(model, 5)
    with pytest.raises(InputError, match="landmarks"):
        fit_mesh(vertices, model.faces, model, landmarks + 500, progress=False)


def test_meshes_that_cannot_be_fitted_are_refused():
    model = patch()
    good = model.mean.clone()
    bad = {
        "triangles": (good, model.faces[:0]),
        "NaN": (good * torch.nan, model.faces),
        "extent": (good * 0, model.faces),
        "does not exist": (good[:5], model.faces),
    }
    for words, (vertices, faces) in bad.items():
        with pytest.raises(InputError, match=words):
            fit_mesh(vertices, faces, model)


# ------------------------------------------------------------------------------------------------------------------------ command


@pytest.fixture
def model_file(tmp_path):
    write_native(patch_data(), tmp_path / "patch.safetensors")
    return str(tmp_path / "patch.safetensors")


def test_command_fits_a_photo_with_the_landmarks_beside_it(tmp_path, model_file, capsys):
    picture, _, _, _, landmarks = rendered(patch(), seed=7)
    iio.imwrite(tmp_path / "face.png", picture)
    np.savetxt(tmp_path / "face.txt", landmarks.numpy())
    out = tmp_path / "out"
    assert (
        main(
            [
                "fit",
                str(tmp_path / "face.png"),
                "--model",
                model_file,
                "--contour",
                "static",
                "--iterations",
                "20",
                "-o",
                str(out),
                "--mesh",
                ".ply",
                ".glb",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "68 landmarks" in said and "pixels off" in said
    overlay, error = iio.imread(out / "overlay.png"), iio.imread(out / "error.png")
    assert overlay.shape == (512, 3 * 512, 3) and error.shape[1] == 512
    photo, fitted = overlay[:, :512].astype(float), overlay[:, 512:1024].astype(float)
    assert 0 < np.abs(photo - fitted).mean() < 10  # drawn over it, and like it
    numbers = np.load(out / "coefficients.npz")
    assert numbers["identity"].shape == (1, 8) and numbers["rotation"].shape == (1, 3, 3)
    named = json.loads((out / "coefficients.json").read_text())
    assert set(named["expression"]) == {"chinDown", "mouthWide", "browsUp"}
    assert sorted(p.name for p in out.iterdir()) == [
        "coefficients.json",
        "coefficients.npz",
        "error.png",
        "face.glb",
        "face.ply",
        "overlay.png",
    ]


def test_command_fits_a_mesh(tmp_path, model_file, capsys):
    vertices, landmarks, _ = scanned(patch(), 2)
    write(tmp_path / "scan.ply", Mesh(vertices, patch().faces), unit="cm")
    np.save(tmp_path / "points.npy", landmarks / 10)
    assert (
        main(
            [
                "fit",
                str(tmp_path / "scan.ply"),
                "--landmarks",
                str(tmp_path / "points.npy"),
                "--model",
                model_file,
                "-o",
                str(tmp_path / "out"),
                "--mesh",
                ".html",
                ".ply",
            ]
        )
        == 0
    )
    millimetres = re.search(r"([\d.]+) mm to the mesh's unit", capsys.readouterr().out)[1]
    assert float(millimetres) == pytest.approx(10, rel=0.02)
    assert (tmp_path / "out/face.html").stat().st_size > 10000
    again = [
        "fit",
        str(tmp_path / "scan.ply"),
        "--landmarks",
        str(tmp_path / "points.npy"),
        "--model",
        model_file,
        "-o",
        str(tmp_path / "metres"),
        "--mesh",
        ".ply",
    ]
    assert main([*again, "--unit", "m", "--axes", "z-up"]) == 0
    plain, turned = (
        np.asarray(trimesh.load(tmp_path / f"{folder}/face.ply", process=False).vertices)
        for folder in ("out", "metres")
    )
    np.testing.assert_allclose(turned * 1000, plain[:, [0, 2, 1]] * [1, -1, 1], atol=1e-2)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["missing.jpg"], "no such file"),
        (["photo.png"], "needs landmarks"),
        (["photo.png", "--landmarks", "wrong.txt"], "68"),
        (["photo.png", "--mesh", ".fbx"], ".fbx"),
        (["photo.png", "--focal", "-1"], "--focal"),
        (["broken.png", "--landmarks", "wrong.txt"], "not a readable picture"),
        (["broken.ply"], "broken.ply"),
    ],
)
def test_command_says_in_one_sentence_what_is_wrong(tmp_path, model_file, arguments, words, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    iio.imwrite("photo.png", np.zeros((64, 64, 3), np.uint8))
    for name in ("broken.png", "broken.ply"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
    (tmp_path / "wrong.txt").write_text("1 2\n3 4\n")
    assert main(["fit", *arguments, "--model", model_file, "-o", "out"]) == 1
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
