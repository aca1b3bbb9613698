"""Synthetic faces: the same numbers give the same pictures, labels lie where the picture shows them, degradations."""

import io

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import facerender as fr
from facemodels import MorphableModel, load_model
from facemodels.data import FaceBatch
from facemodels.data.degradations import gaussian_blur, jpeg
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from tests.tiny_model import tiny

PLAIN = RandomizationConfig(occluded=0.0, degraded=0.0, background=0.0)


@pytest.fixture(scope="module")
def model():
    return load_model("builtin")


def test_a_sample_does_not_depend_on_the_batch_it_is_made_in(model):
    source = Synthetic(model, 64)
    whole, again = source(3, 7, range(6)), source(3, 7, range(6))
    parts = FaceBatch.concatenate([source(3, 7, range(0, 2)), source(3, 7, range(2, 6))])
    for name in (k for k, v in vars(whole).items() if v is not None):
        assert torch.equal(getattr(whole, name), getattr(again, name)), name
        torch.testing.assert_close(
            getattr(whole, name).float(), getattr(parts, name).float(), rtol=1e-3, atol=2e-2, msg=name
        )
    other = source(3, 8, range(6))
    assert (whole.image - other.image).abs().mean() > 0.05


def test_labels_describe_the_picture(model):
    """The camera and the coefficients give back the landmarks and the face's outline."""
    faces = Synthetic(model, 96, PLAIN)(0, 0, range(8))
    vertices = model.shape(faces.identity, faces.expression)
    clip = fr.camera.weak_perspective(vertices, faces.scale, faces.rotation, faces.translation, (96, 96))
    face_id = fr.rasterize(clip, model.topology, (96, 96)).face_id
    assert torch.equal((face_id >= 0).float(), faces.mask)
    pixels = fr.camera.to_pixels(
        fr.camera.weak_perspective(model.landmarks(vertices), faces.scale, faces.rotation, faces.translation, (96, 96)),
        (96, 96),
    )
    torch.testing.assert_close(pixels, faces.landmarks, rtol=0, atol=1e-2)
    assert (faces.landmarks > -20).all() and (faces.landmarks < 116).all()
    colors = faces.image.permute(0, 2, 3, 1)
    assert (colors[faces.mask == 0] - colors[faces.mask == 0].mean()).abs().max() < 0.02  # gray behind
    assert colors[faces.mask == 1].std() > 0.05


def test_poses_reach_the_profile_and_no_further(model):
    faces = Synthetic(model, 16, PLAIN)(0, 0, range(300))
    forward = faces.rotation[:, :, 2]
    yaw = torch.atan2(forward[:, 0], forward[:, 2]).rad2deg()
    assert yaw.min() < -70 and yaw.max() > 70
    assert 0.2 < (yaw.abs() < 20).float().mean() < 0.65
    frontal = Synthetic(model, 16, RandomizationConfig(yaw=10, pitch=0, roll=0))(0, 0, range(100)).rotation[:, :, 2]
    assert torch.atan2(frontal[:, 0], frontal[:, 2]).rad2deg().abs().max() < 10.01


def test_landmarks_that_the_head_hides_are_not_visible(model):
    """In profile one eye is seen; from the front both, and nothing is hidden but what other things cover."""
    front = Synthetic(
        model, 96, RandomizationConfig(yaw=0, frontal=0, pitch=0, roll=0, occluded=0.0, degraded=0.0, background=0.0)
    )(0, 0, range(8))
    assert (
        front.visible[:, 17:].float().mean() > 0.97 and front.visible.float().mean() > 0.93
    )  # the contour lies on the outline
    faces = Synthetic(
        model, 96, RandomizationConfig(yaw=90, frontal=0, pitch=0, roll=0, occluded=0.0, degraded=0.0, background=0.0)
    )(0, 0, range(200))
    yaw = torch.atan2(faces.rotation[:, 0, 2], faces.rotation[:, 2, 2]).rad2deg()
    right, left = faces.visible[:, 36:42].float().mean(1), faces.visible[:, 42:48].float().mean(1)  # the subject's
    turned = [yaw > 60, yaw < -60]
    seen = [(right[t].mean() - left[t].mean()).item() for t in turned]
    assert min(seen) < -0.5 and max(seen) > 0.5
    plain, covered = (
        Synthetic(model, 96, RandomizationConfig(occluded=o, degraded=0.0, background=0.0))(0, 0, range(24))
        for o in (0.0, 1.5)
    )
    place = torch.arange(24)[:, None], *plain.landmarks.long().clamp(0, 95).flip(-1).unbind(-1)
    hidden = (plain.mask[place] == 1) & (covered.mask[place] < 0.5)
    assert hidden.sum() > 50 and not covered.visible[hidden].any()
    assert torch.equal(covered.visible[~hidden], plain.visible[~hidden])


def test_labels_without_pictures_are_those_of_the_pictures(model):
    source = Synthetic(model, 64)
    drawn, known = source(1, 2, range(4)), source.labels(1, 2, range(4))
    for name in ("landmarks", "identity", "expression", "albedo", "rotation", "scale", "translation", "light"):
        torch.testing.assert_close(getattr(known, name), getattr(drawn, name), rtol=1e-5, atol=1e-4, msg=name)
    assert known.image.numel() == 0


def test_things_before_the_face_are_out_of_the_mask(model):
    plain, covered = (
        Synthetic(model, 48, RandomizationConfig(occluded=o, degraded=0.0, background=0.0))(5, 0, range(24))
        for o in (0.0, 1.5)
    )
    hidden = (plain.mask == 1) & (covered.mask == 0)
    assert hidden.float().sum() > 500
    assert (plain.image - covered.image).abs().amax(1)[hidden].mean() > 0.05
    same = (covered.mask == plain.mask) & (plain.mask == 1)
    assert torch.equal(plain.image.permute(0, 2, 3, 1)[same], covered.image.permute(0, 2, 3, 1)[same])


def test_any_model_can_be_drawn():
    faces = Synthetic(MorphableModel(tiny()), 32)(0, 0, range(4))
    assert faces.image.shape == (4, 3, 32, 32) and torch.isfinite(faces.image).all()
    assert faces.expression.shape == (4, 5) and len(faces) == 4


def test_blur_is_gaussian():
    image = torch.rand(2, 3, 40, 40)
    got = gaussian_blur(image, torch.tensor([0.8, 1.7]))
    for n, sigma in enumerate((0.8, 1.7)):
        for c in range(3):
            want = gaussian_filter(image[n, c].numpy(), sigma, mode="nearest", truncate=6 / sigma)
            np.testing.assert_allclose(got[n, c].numpy(), want, atol=2e-3)


@pytest.mark.parametrize("quality", [20, 50, 90])
def test_compression_is_that_of_a_jpeg_encoder(quality):
    """On a gray picture, where luminance is all, against the real encoder."""
    y, x = np.mgrid[:64, :64]
    gray = (0.5 + 0.3 * np.sin(x / 5) * np.cos(y / 7) + 0.1 * (x > 30)).clip(0, 1)
    picture = (np.repeat(gray[..., None], 3, -1) * 255).round().astype(np.uint8)
    file = io.BytesIO()
    iio.imwrite(file, picture, extension=".jpg", quality=quality)
    want = iio.imread(file.getvalue(), extension=".jpg").astype(float) / 255
    got = (
        jpeg(torch.from_numpy(picture.transpose(2, 0, 1)[None] / 255.0).float(), torch.tensor([float(quality)]))[0]
        .permute(1, 2, 0)
        .numpy()
    )
    assert np.abs(got - want).mean() < 0.15 * np.abs(picture / 255 - want).mean() + 2e-3
