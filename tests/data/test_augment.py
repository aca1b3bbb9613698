"""Augmentation: labels stay on what they label, cameras and lights go along, and colors change as named."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

import facerender as fr
from facemodels import load_model
from facemodels.core.landmarks import mirror_order
from facemodels.data import FaceBatch
from facemodels.data.augment import AugmentConfig, augment, warp_faces
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from tests.data.pictures import light_center, spots


@pytest.fixture(scope="module")
def model():
    return load_model("builtin")


def only(**values):
    """A configuration that changes nothing but this."""
    return AugmentConfig(**{f.name: values.get(f.name, 0.0) for f in fields(AugmentConfig)})


def some_faces(count=6, size=48):
    torch.manual_seed(3)
    points = torch.rand(count, 21, 2) * size
    points[0, 4] = torch.nan
    return FaceBatch(
        torch.rand(count, 3, size, size),
        points,
        ~points[..., 0].isnan(),
        (torch.rand(count, size, size) > 0.5).float(),
        person=torch.arange(count),
    )


def numbers(count, angle=0.0, scale=1.0, shift=(0.0, 0.0), mirrored=False):
    return (
        torch.full((count,), angle),
        torch.full((count,), scale),
        torch.tensor(shift).expand(count, 2),
        torch.full((count,), mirrored),
    )


def test_mirroring_twice_changes_nothing():
    faces = some_faces()
    once = warp_faces(faces, *numbers(6, mirrored=True))
    twice = warp_faces(once, *numbers(6, mirrored=True))
    torch.testing.assert_close(once.image, faces.image.flip(-1), rtol=0, atol=1e-4)
    torch.testing.assert_close(once.mask, faces.mask.flip(-1), rtol=0, atol=1e-4)
    for name in ("image", "mask", "landmarks", "visible", "person"):
        torch.testing.assert_close(
            getattr(twice, name), getattr(faces, name), rtol=0, atol=2e-4, equal_nan=True, msg=name
        )
    assert (
        once.landmarks[0].isnan().any(1).nonzero().tolist() == [[mirror_order(21)[4]]]
        and not once.visible[0, mirror_order(21)[4]]
    )


def test_quarter_turns_are_counterclockwise_and_exact():
    faces = some_faces()
    got = warp_faces(faces, *numbers(6, angle=np.pi / 2))
    torch.testing.assert_close(got.image, faces.image.rot90(1, (-2, -1)), rtol=0, atol=1e-3)
    torch.testing.assert_close(
        warp_faces(faces, *numbers(6, shift=(5.0, -3.0))).image[:, :, :-3, 5:],
        faces.image[:, :, 3:, :-5],
        rtol=0,
        atol=1e-3,
    )


def test_landmarks_stay_on_the_dots_that_they_label():
    """Every way of moving at once, and pictures that are not square."""
    rng = np.random.default_rng(1)
    lattice = np.stack(np.meshgrid([30, 50, 70, 90], [28, 44, 60]), -1).reshape(-1, 2)
    points = np.stack([rng.permutation(lattice)[:5] + rng.uniform(-2, 2, (5, 2)) for _ in range(12)])
    image = torch.from_numpy(np.stack([spots(p, 90, 120, 2.5) for p in points])).permute(0, 3, 1, 2) / 255
    faces = FaceBatch(image, torch.from_numpy(points).float(), torch.ones(12, 5, dtype=torch.bool))
    got = augment(faces, 0, 0, range(12), only(rotation=20, scale=0.1, shift=0.03, mirrored=0.5))
    assert (got.landmarks - faces.landmarks).abs().amax((1, 2)).min() > 3
    for picture, marks in zip(got.image, got.landmarks.numpy()):
        inside = (marks > 6).all(1) & (marks < (114, 84)).all(1)
        assert inside.sum() >= 2
        for point in marks[inside]:
            np.testing.assert_allclose(light_center(picture.permute(1, 2, 0), point, 6), point, atol=0.15)


def drawn(model, faces, size):
    """Draw the labels of synthetic faces: (image [N,3,S,S] of the face alone, face [N,S,S] bool)."""
    vertices = model.shape(faces.identity, faces.expression)
    clip = fr.camera.weak_perspective(vertices, faces.scale, faces.rotation, faces.translation, (size, size))
    normals = (fr.vertex_normals(vertices, model.topology) @ faces.rotation.transpose(1, 2)).contiguous()
    image, face_id = fr.render_face(
        clip, normals, model.albedo(faces.albedo), faces.light.contiguous(), model.topology, (size, size)
    )
    return fr.color.to_srgb(image.clamp(0, 1)).permute(0, 3, 1, 2), face_id >= 0


def test_depth_of_landmarks_is_scaled_with_the_picture_and_no_more():
    points = torch.rand(3, 68, 3, generator=torch.Generator().manual_seed(2)) * 100
    scale = torch.tensor([1.0, 1.5, 0.5])
    given = (
        FaceBatch(torch.rand(3, 3, 100, 100), points),
        torch.tensor([0.2, -0.4, 1.0]),
        scale,
        torch.tensor([[3.0, 1], [0, 0], [-5, 9]]),
        torch.tensor([False, True, True]),
    )
    got = warp_faces(*given).landmarks
    flat = warp_faces(FaceBatch(given[0].image, points[..., :2]), *given[1:]).landmarks
    depth = torch.where(given[4][:, None], points[:, mirror_order(68), 2], points[..., 2]) * scale[:, None]
    torch.testing.assert_close(got, torch.cat([flat, depth[..., None]], -1))


def test_a_moved_picture_is_what_its_moved_labels_draw(model):
    """Camera and light, by rendering again."""
    faces = Synthetic(model, 128, RandomizationConfig(occluded=0.0, degraded=0.0, background=0.0))(0, 0, range(6))
    change = only(rotation=30, scale=0.15, shift=0.06)
    got = augment(faces, 1, 0, range(6), change)
    image, face = drawn(model, got, 128)
    inside = (
        augment(replace(faces, mask=torch.ones_like(faces.mask)), 1, 0, range(6), change).mask > 0.999
    )  # of the old picture
    inner = (got.mask > 0.999) & face
    assert (got.rotation - faces.rotation).abs().amax((1, 2)).min() > 0.02 and inner.float().mean() > 0.2
    assert ((got.mask > 0.5) != face)[inside].float().mean() < 0.01
    errors = (image - got.image).abs().mean(1)
    assert errors[inner].mean() < 0.01
    assert (drawn(model, replace(got, light=faces.light), 128)[0] - got.image).abs().mean(1)[inner].mean() > 2 * errors[
        inner
    ].mean()
    points = model.landmarks(model.shape(got.identity, got.expression))
    pixels = fr.camera.to_pixels(
        fr.camera.weak_perspective(points, got.scale, got.rotation, got.translation, (128, 128)), (128, 128)
    )
    torch.testing.assert_close(pixels, got.landmarks, rtol=0, atol=2e-2)


def test_the_camera_and_light_of_a_mirrored_face_are_those_of_the_mirrored_head(model):
    """The mirrored head is drawn by mirroring vertices, triangles and colors, which coefficients cannot."""
    faces = Synthetic(model, 96, RandomizationConfig(occluded=0.0, degraded=0.0, background=0.0))(0, 0, range(4))
    vertices, albedo = model.shape(faces.identity, faces.expression), model.albedo(faces.albedo)
    known = replace(faces, identity=None, expression=None, albedo=None)
    how = numbers(4, angle=0.3, scale=0.9, shift=(4.0, -6.0), mirrored=True)
    got, inside = (
        warp_faces(known, *how),
        warp_faces(replace(known, mask=torch.ones_like(faces.mask)), *how).mask > 0.999,
    )
    topology = fr.Topology(model.faces[:, [0, 2, 1]].contiguous(), vertices.shape[1])
    vertices = vertices * torch.tensor([-1.0, 1, 1])
    clip = fr.camera.weak_perspective(vertices, got.scale, got.rotation, got.translation, (96, 96))
    normals = (fr.vertex_normals(vertices, topology) @ got.rotation.transpose(1, 2)).contiguous()
    image, face_id = fr.render_face(clip, normals, albedo, got.light.contiguous(), topology, (96, 96))
    image, inner = fr.color.to_srgb(image.clamp(0, 1)).permute(0, 3, 1, 2), (got.mask > 0.999) & (face_id >= 0)
    assert inner.float().mean() > 0.2 and ((got.mask > 0.5) != (face_id >= 0))[inside].float().mean() < 0.01
    assert (image - got.image).abs().mean(1)[inner].mean() < 0.012
    torch.testing.assert_close(torch.linalg.det(got.rotation), torch.ones(4))


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_normal_that_moves_with_its_picture_is_lit_as_before(mirrored):
    """All nine bands, which real lights hardly use."""
    normals, light = torch.nn.functional.normalize(torch.randn(5, 40, 3), dim=-1), torch.randn(5, 9, 3)
    angle = torch.linspace(-3, 3, 5)
    faces = FaceBatch(torch.zeros(5, 3, 4, 4), rotation=torch.eye(3).expand(5, 3, 3), light=light)
    got = warp_faces(faces, angle, *numbers(5, mirrored=mirrored)[1:])
    flipped = normals * torch.tensor([-1.0 if mirrored else 1.0, 1, 1])
    after = fr.lighting.sh_basis(flipped @ got.rotation.mT) @ got.light
    torch.testing.assert_close(after, fr.lighting.sh_basis(normals) @ light, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got.rotation, fr.camera.euler_rotation(torch.stack([0 * angle, 0 * angle, angle], 1)))


def test_faces_with_coefficients_are_never_mirrored():
    faces = some_faces(40)
    faces.identity = torch.zeros(40, 3)
    got = augment(faces, 0, 0, range(40), only(mirrored=1.0))
    torch.testing.assert_close(got.image, faces.image, rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="cannot be mirrored"):
        warp_faces(faces, *numbers(40, mirrored=True))


def test_an_augmented_sample_does_not_depend_on_its_batch():
    faces = some_faces(8)
    whole = augment(faces, 5, 2, range(8))
    parts = FaceBatch.concatenate([augment(faces[k : k + n], 5, 2, range(k, k + n)) for k, n in ((0, 3), (3, 5))])
    for name in ("image", "mask", "landmarks", "visible"):
        torch.testing.assert_close(
            getattr(whole, name), getattr(parts, name), rtol=1e-4, atol=1e-4, equal_nan=True, msg=name
        )
    other = augment(faces, 5, 3, range(8))
    assert (other.image - whole.image).abs().mean((1, 2, 3)).min() > 0.01
    with pytest.raises(ValueError, match="as many"):
        augment(faces, 0, 0, range(3))


def test_without_change_nothing_changes_and_the_given_faces_are_never_written_to():
    faces = some_faces()
    before = {k: v.clone() for k, v in vars(faces).items() if v is not None}
    same = augment(faces, 0, 0, range(6), only())
    torch.testing.assert_close(same.image, faces.image, rtol=0, atol=1e-3)
    augment(faces, 0, 1, range(6), AugmentConfig(covered=1.0, blurred=1.0))
    for name, value in before.items():
        torch.testing.assert_close(getattr(faces, name), value, rtol=0, atol=0, equal_nan=True)


def test_patches_cover_picture_and_mask_alike():
    faces = some_faces(60)
    faces.mask = torch.ones_like(faces.mask)
    got = augment(faces, 0, 0, range(60), only(covered=0.5, patch=0.4))
    changed = (got.image - faces.image).abs().amax(1) > 0.01
    hit = changed.flatten(1).any(1)
    assert 15 < hit.sum() < 45
    assert (
        torch.equal(got.mask.flatten(1).amin(1) < 0.5, hit) or ((got.mask.flatten(1).amin(1) < 0.5) ^ hit).sum() <= 3
    )  # a sliver at the border
    assert not changed[got.mask > 0.999].any() and changed[got.mask == 0].float().mean() > 0.9
    assert 0.005 < (1 - got.mask[hit]).mean() < 0.4 and torch.equal(got.visible, faces.visible)


@pytest.mark.parametrize(
    "name, amount",
    [("brightness", 0.2), ("contrast", 0.3), ("tint", 0.1), ("saturation", 0.3), ("grey", 1.0), ("blurred", 1.0)],
)
def test_colors_and_sharpness_change_as_they_are_named(name, amount):
    faces = some_faces(20)
    faces.image = 0.4 + 0.2 * faces.image
    got = augment(faces, 0, 0, range(20), only(blur=0.03, **{name: amount})).image
    before, after = (x.mean((2, 3)) for x in (faces.image, got))
    luma = torch.tensor([0.299, 0.587, 0.114])
    spread = got.std((2, 3)).mean(1) / faces.image.std((2, 3)).mean(1)
    gain = after / before
    if name == "brightness":
        torch.testing.assert_close(gain, gain[:, :1].expand(-1, 3), rtol=1e-2, atol=0)
        assert gain[:, 0].log().std() > 0.1 and torch.isfinite(gain).all()
    elif name == "tint":
        assert gain.log().std(1).mean() > 0.03
    elif name == "contrast":
        assert spread.min() < 0.8 and spread.max() > 1.2 and (after - before).abs().max() < 0.05
    elif name == "saturation":
        torch.testing.assert_close(
            (got * luma[:, None, None]).sum(1), (faces.image * luma[:, None, None]).sum(1), rtol=0, atol=5e-3
        )
        assert (got - faces.image).abs().mean() > 0.005
    elif name == "grey":
        assert (got.amax(1) - got.amin(1)).max() < 1e-3
    else:
        torch.testing.assert_close(after, before, rtol=0, atol=2e-2)
        assert spread.max() < 1 and spread.min() < 0.6


def test_a_photo_may_end_at_one_side_or_two_and_is_black_beyond_with_its_mask():
    faces = replace(some_faces(64), image=torch.full((64, 3, 48, 48), 0.5), mask=torch.ones(64, 48, 48))
    changed = augment(faces, 0, 0, range(64), only(ended=0.5, margin=0.3))
    shown = changed.image[:, 0] > 0
    assert torch.equal(shown, changed.mask > 0)
    torch.testing.assert_close(changed.image, 0.5 * shown[:, None].expand(-1, 3, -1, -1))
    ends = ~shown.flatten(1).all(1)
    assert 20 < int(ends.sum()) < 44
    rows, columns = shown.any(2), shown.any(1)
    assert torch.equal(shown, rows[:, :, None] & columns[:, None, :])  # a rectangle
    black = torch.stack([(~rows).float().mean(1), (~columns).float().mean(1)], 1)
    assert black.max() <= 0.31 and bool((black.amax(1)[ends] > 0.2).any())
    cut = torch.stack([~rows[:, 0], ~rows[:, -1], ~columns[:, 0], ~columns[:, -1]], 1).sum(0)
    assert bool((cut > 3).all())  # every side occurs
    torch.testing.assert_close(changed.landmarks, faces.landmarks, equal_nan=True)
    whole = augment(faces, 0, 0, range(64), only(margin=0.3))
    torch.testing.assert_close(whole.image, faces.image)
