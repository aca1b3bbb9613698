"""Faces fitted to their photo from a network's prediction (facemodels.reconstruction.refine)."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import facerender as fr
from facemodels import MorphableModel, load_model
from facemodels.core.errors import InputError
from facemodels.core.parameters import FaceParameters
from facemodels.methods.face_method import FaceMethod
from facemodels.methods.registry import load_method
from facemodels.models.builtin import builtin_data
from facemodels.reconstruction.reconstructor import Reconstructor
from facemodels.reconstruction.refine import Refined
from tests.synthetic_faces import CROP, drawn


@pytest.fixture(scope="module")
def model():
    return load_model()


class Network:
    """Says where the landmarks are, and that everybody has the mean face."""

    size, name, given, config, monitor, optional = CROP, "stub", "the picture alone", None, "loss", ()

    def __init__(self, model, cameras, identities, shift=0.0):
        self.model, self.calls = model, 0
        points = [model.landmarks(model.shape(i)) for i in identities]
        marks = [torch.cat([c.pixels(p) + shift, torch.zeros(1, 68, 1)], -1) for c, p in zip(cameras, points)]
        place = torch.stack([c.pixels(torch.zeros(1, 1, 3))[0, 0] for c in cameras])
        n = len(cameras)
        self.prediction = FaceParameters(
            torch.zeros(n, 5),
            torch.zeros(n, 3),
            torch.cat([c.rotation for c in cameras]),
            torch.cat([c.scale for c in cameras]),
            place,
            torch.cat(marks),
        )

    def reconstruct(self, image):
        self.calls += 1
        assert len(image) == len(self.prediction.identity)
        return self.prediction


def error(model, found, identity):
    """Mean distance of the face's vertices, mm, without what moves all of them."""
    offset = (model.shape(found) - model.shape(identity))[0][model.regions["face"]]
    return float((offset - offset.mean(0)).norm(dim=1).mean())


@pytest.mark.slow
def test_it_comes_nearer_to_the_person_and_keeps_the_pose(model):
    people = [1.5 * torch.randn(1, 20, generator=torch.Generator().manual_seed(k)) for k in (1, 2)]
    drawings = [drawn(model, identity, yaw) for identity, yaw in zip(people, (0.0, 0.4))]
    network = Network(model, [c for _, c in drawings], people)
    found = Refined(network).reconstruct(torch.cat([image for image, _ in drawings]))
    assert (
        found.identity.shape == (2, model.num_identity)
        and found.expression.shape == (2, model.num_expression)
        and found.albedo.shape == (2, model.num_albedo)
        and found.light.shape == (2, 9, 3)
    )
    for n, (_, camera) in enumerate(drawings):
        assert error(model, found.identity[n : n + 1], people[n]) < 0.75 * error(model, torch.zeros(1, 1), people[n])
        turned = found.rotation[n] @ camera.rotation[0].T
        assert float(torch.acos(((turned.trace() - 1) / 2).clamp(-1, 1)).rad2deg()) < 4
        assert (
            abs(float(found.scale[n] / camera.scale) - 1) < 0.08
        )  # a large head far away looks like a small one nearby
        one = found.select(slice(n, n + 1))  # camera and landmarks say the same
        pixels = one.pixels(model.landmarks(model.shape(one.identity, one.expression)))[0]
        torch.testing.assert_close(found.landmarks[n], pixels, rtol=0, atol=2e-3)
        assert (found.landmarks[n, :, :2] - network.prediction.landmarks[n, :, :2]).norm(dim=1).mean() < 1.5
    brightness = (
        fr.lighting.sh_basis(torch.tensor([0.0, 0.0, 1.0])) @ found.light
    )  # what falls on a surface that faces the camera, in the preset that is promised
    expected = fr.lighting.sh_basis(torch.tensor([0.0, 0.0, 1.0])) @ fr.lighting.studio(1)
    torch.testing.assert_close(brightness, expected.expand(2, 1, 3)[:, 0], rtol=0.5, atol=0)


def test_where_there_is_no_face_to_fit_the_network_has_the_last_word(model):
    identity = torch.zeros(1, 1)
    image, camera = drawn(model, identity, 0.0)
    for network in (Network(model, [camera], [identity], shift=5 * CROP), Network(model, [camera], [identity])):
        if network.prediction.landmarks.max() < 2 * CROP:
            network.prediction = network.prediction._replace(landmarks=network.prediction.landmarks * 1e-3)
        found = Refined(network).reconstruct(image)
        assert (
            found.identity.shape == (1, model.num_identity)
            and not found.identity.any()
            and found.light.shape == (1, 9, 3)
            and found.albedo.shape == (1, model.num_albedo)
        )
        torch.testing.assert_close(found.landmarks, network.prediction.landmarks)
        torch.testing.assert_close(found.rotation, network.prediction.rotation)


def test_landmarks_that_the_model_lacks_do_not_count(model):
    """A network says something of them, too: here, that they are far away."""
    data = builtin_data()
    weights = data.landmark_weights.copy()
    weights[:17] = 0
    lacking = MorphableModel(replace(data, landmark_weights=weights, contour=None))
    identity = torch.zeros(1, 1)
    image, camera = drawn(model, identity, 0.0)
    network = Network(model, [camera], [identity])
    network.model = lacking
    network.prediction.landmarks[:, :17, :2] += 40 * CROP
    assert Refined(network, iterations=3).reconstruct(image).identity.any()
    network.prediction.landmarks[:, 17:48, :2] += CROP * torch.rand(31, 2, generator=torch.Generator().manual_seed(0))
    assert not Refined(network, iterations=3).reconstruct(image).identity.any()


def test_all_else_is_the_networks(model):
    image, camera = drawn(model, torch.zeros(1, 1), 0.0)
    network = Network(model, [camera], [torch.zeros(1, 1)])
    refined = Refined(network, 3)
    assert refined.size == CROP and refined.model is model and network.calls == 0
    torch.testing.assert_close(refined.landmarks(image), refined.reconstruct(image).landmarks)
    with pytest.raises(ValueError, match="at least 1"):
        Refined(network, 0)
    assert copy.deepcopy(refined).size == CROP
    network.model = SimpleNamespace(name="flame", joints=("jaw",))
    with pytest.raises(InputError, match="flame cannot be refined"):
        Refined(network)


def test_faces_of_pictures_are_refined_once(model, monkeypatch):
    """The first pass, which finds the crop, is the network's; the last one is fitted, also with given landmarks."""
    worker = Reconstructor("dasl-aflw", refine=4)
    seen = []
    fitted = Refined._fit
    monkeypatch.setattr(
        Refined, "_fit", lambda self, picture, said: seen.append(picture.shape) or fitted(self, picture, said)
    )
    image, camera = drawn(model, torch.zeros(1, 1), 0.2)
    photo = (image[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    photo = np.pad(photo, ((40, 40), (40, 40), (0, 0)), mode="edge")
    marks = camera.pixels(model.landmarks(model.mean[None]))[0].numpy() + 40
    for given in (marks, marks[[36, 45, 30, 48, 54]]):
        seen.clear()
        (face,) = worker([photo], None, [[given]])[0]
        assert len(seen) == 1 and face.albedo is not None and face.light.shape == (9, 3)
        assert np.linalg.norm(face.landmarks[:, :2].numpy() - marks, axis=1).mean() < 8


def test_protocols_with_scans_refine_the_second_look(model, monkeypatch):
    from facemodels.evaluation import scan_faces

    image, camera = drawn(model, torch.zeros(1, 1), 0.2)
    photo = scan_faces.Photo(
        "photo", (image[0].permute(1, 2, 0) * 255).byte().numpy(), (0.0, 0.0, float(CROP), float(CROP))
    )
    method, seen = load_method("dasl-aflw"), []
    fitted = Refined._fit
    monkeypatch.setattr(Refined, "_fit", lambda self, picture, said: seen.append(1) or fitted(self, picture, said))
    (plain,), (refined,) = (list(scan_faces.reconstructions(m, [photo])) for m in (method, Refined(method, 4)))
    assert len(seen) == 1 and plain.albedo is None and refined.albedo is not None
    assert (plain.landmarks - refined.landmarks)[..., :2].norm(dim=-1).mean() < 4


def test_a_refined_method_is_a_method_that_a_reconstructor_takes(model):
    network = load_method("pgn")
    refined = Refined(network, 1)
    assert isinstance(refined, FaceMethod) and (refined.name, refined.size) == (network.name, network.size)
    assert refined.monitor == network.monitor and refined.optional == network.optional
    assert refined.model is network.model and next(refined.parameters()) is next(network.parameters())
    image = np.full((60, 60, 3), 90, np.uint8)
    (face,) = Reconstructor(refined)([image], boxes=[[(10.0, 10.0, 50.0, 50.0)]])[0]
    assert face.identity.shape == (refined.model.num_identity,) and face.light is not None
