"""Faces of a video: which is which over time, and smoothing (facemodels.reconstruction.tracking)."""

import numpy as np
import pytest
import torch

import facerender as fr
from facemodels.core.parameters import FaceParameters
from facemodels.reconstruction import follow
from facemodels.reconstruction.detect import Detection
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.reconstructor import Reconstructor
from facemodels.reconstruction.tracking import overlap, smoothed
from tests.stub_method import StubMethod, found_at, pretend, ramps


def test_overlap_is_intersection_over_union():
    assert (
        overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
        and overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0
        and overlap((0, 0, 1, 1), (0, 0, 1, 1)) == 1
    )


def at(place):
    """A method that sees one face, at this place of every picture."""
    return StubMethod(place=place).eval()


def test_a_face_keeps_its_track_though_a_search_does_not_find_it(stub, monkeypatch):
    box = (110.0, 60.0, 210.0, 190.0)
    searched = iter([[box], [], [], [box]])
    pretend(monkeypatch, lambda *_, **__: [Detection(b, 0.9, np.zeros((5, 2))) for b in next(searched, [])])
    frames = list(Reconstructor(stub).follow([ramps()] * 12, every=3))
    assert [[f.track for f in faces] for faces in frames] == [[0]] * 12


def test_a_face_that_no_longer_looks_like_one_is_gone_and_comes_back_with_its_track(stub, monkeypatch):
    seen = [0.9, 0.9, 0.9, 0.05, 0.05, 0.9, 0.9, 0.9]
    worker = follow.Follower(Reconstructor(stub), every=50)
    frames = []
    for confidence in seen:
        pretend(monkeypatch, found_at((110.0, 60.0, 210.0, 190.0)), confidence)
        frames.append(worker.step(ramps()))
    assert [[f.track for f in faces] for faces in frames] == [[0], [0], [0], [], [], [0], [0], [0]]


def test_a_track_ends_at_a_cut(stub, monkeypatch):
    pretend(monkeypatch, found_at((110.0, 60.0, 210.0, 190.0)))
    frames = list(Reconstructor(stub).follow([ramps()] * 3 + [255 - ramps()] * 3, every=50))
    assert [[f.track for f in faces] for faces in frames] == [[0]] * 3 + [[1]] * 3


def test_a_track_ends_where_its_face_suddenly_looks_like_somebody_else(stub, monkeypatch):
    pretend(monkeypatch, found_at((110.0, 60.0, 210.0, 190.0)))
    monkeypatch.setattr(follow, "is_cut", lambda *_: False)
    frames = list(Reconstructor(stub).follow([ramps()] * 3 + [255 - ramps()] * 3, every=50))
    assert [[f.track for f in faces] for faces in frames] == [[0]] * 3 + [[1]] * 3


def test_at_most_so_many_faces_are_followed(monkeypatch):
    pretend(monkeypatch, found_at((110.0, 60.0, 210.0, 190.0)))
    worker = Reconstructor(at((160.0, 120.0)), most=1)
    assert [len(faces) for faces in worker.follow([ramps()] * 4, every=2)] == [1] * 4


def test_a_face_that_leaves_the_picture_is_let_go(monkeypatch):
    stub = StubMethod(place=(-40.0, 120.0)).eval()
    pretend(monkeypatch, found_at((110.0, 60.0, 210.0, 190.0)))
    assert list(Reconstructor(stub).follow([ramps()], every=1)) == [[]]


def face_at(t, track=0, noise=0.0, generator=None):
    jitter = (lambda *s: noise * torch.randn(*s, generator=generator)) if noise else (lambda *s: torch.zeros(*s))
    rotation = fr.camera.euler_rotation(torch.tensor([[0.0, 0.02 * t, 0.0]]) + jitter(1, 3) * 0.01)[0]
    parameters = FaceParameters(
        identity=jitter(3),
        expression=torch.full((2,), 0.3) + jitter(2) * 0.1,
        rotation=rotation,
        scale=torch.tensor(1.0),
        translation=torch.tensor([float(t), 2.0]) + jitter(2),
        landmarks=torch.zeros(68, 3),
    )
    return Face((0, 0, 1, 1), 1.0, (0, 0, 1, 1), parameters.map(lambda value: value[None]), track=track)


def test_smoothing_keeps_steady_motion_and_takes_jitter_away():
    steady = [[face_at(t)] for t in range(30)]
    for before, after in zip(steady[6:-6], smoothed(steady)[6:-6]):  # away from the ends
        assert torch.allclose(before[0].translation, after[0].translation, atol=1e-4)
        assert torch.allclose(before[0].rotation, after[0].rotation, atol=1e-4)
    g = torch.Generator().manual_seed(0)
    shaky = [[face_at(t, noise=1.0, generator=g)] for t in range(200)]
    calm = smoothed(shaky)

    def jitter(frames):
        return torch.stack([f[0].translation for f in frames]).diff(n=2, dim=0)[4:-4].square().mean().sqrt()

    assert jitter(calm) < 0.35 * jitter(shaky)
    assert all(torch.equal(f[0].identity, calm[0][0].identity) for f in calm)
    assert torch.allclose(calm[0][0].identity, torch.stack([f[0].identity for f in shaky]).mean(0))
    assert torch.allclose(smoothed(shaky, 0)[7][0].translation, shaky[7][0].translation)


def test_smoothing_does_not_reach_over_a_gap():
    frames = [[face_at(0)], [face_at(0)], [], [face_at(100)], [face_at(100)]]
    calm = smoothed(frames)
    assert calm[1][0].translation[0] == pytest.approx(0) and calm[3][0].translation[0] == pytest.approx(100)
