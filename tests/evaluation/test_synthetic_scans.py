"""Synthetic scans, of people of a small model."""

from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch

from facemodels import InputError, MorphableModel
from facemodels.core.alignment import Similarity
from facemodels.core.landmarks import SEVEN
from facemodels.data.clips import SyntheticGroups
from facemodels.evaluation import now, synthetic_scans
from facemodels.evaluation.scan_alignment import Surface
from facemodels.models.formats.native import write_native
from tests.evaluation.sphere_scans import Stub, check, parse
from tests.face_patch import patch_data


def toy(name):
    """The patch of a face with the regions that ICT-FaceKit and the built-in model have."""
    data = patch_data()
    middles = {"left_eye": (31, 21), "right_eye": (-31, 21), "mouth": (0, -36), "tongue": (-8, -36), "teeth": (8, -36)}
    near = {k: np.flatnonzero(np.hypot(*(data.mean[:, :2] - p).T) < 8) for k, p in middles.items()}
    everything = np.arange(len(data.mean))
    regions = near | {"face": everything, "full_face": everything, "head": everything, "eye_sockets": everything[:0]}
    regions |= {
        "eyeball_left": near["left_eye"],
        "eyeball_right": near["right_eye"],
        "mouth_socket": near["mouth"],
        "gums_tongue": near["tongue"],
    }
    return replace(data, name=name, regions=regions)


@pytest.fixture
def other_model(tmp_path, monkeypatch):
    """The file of a model without colors; the built-in one is a toy too, for speed."""
    monkeypatch.setattr(synthetic_scans, "builtin_data", lambda: toy("skin"))
    monkeypatch.setattr(synthetic_scans, "POINTS", 2000)
    monkeypatch.setattr(synthetic_scans, "PICTURES", 2)
    monkeypatch.setattr(synthetic_scans, "SIZE", 120)
    write_native(replace(toy("stranger"), albedo_mean=None, albedo=None), tmp_path / "stranger.safetensors")
    return tmp_path / "stranger.safetensors"


def people_of(path, seed, people):
    """The true identities of all pictures, in order."""
    model = synthetic_scans.colored_model(synthetic_scans.read(path), toy("skin"))
    groups = SyntheticGroups(model, synthetic_scans.SIZE, synthetic_scans.PICTURES, synthetic_scans.RANDOMIZATION)
    return torch.cat(
        [
            synthetic_scans.render_person(groups, seed, person)[1].repeat(synthetic_scans.PICTURES, 1)
            for person in range(people)
        ]
    )


def test_true_identities_have_the_scanners_noise_as_error_and_mean_ones_that_of_the_mean_face(other_model):
    options = parse(synthetic_scans, "--people", "2", "--seed", "3")
    model = MorphableModel(toy("stranger"))
    knowing = synthetic_scans.run(Stub(people_of(other_model, 3, 2), model=model), other_model, options)
    results = check(knowing, "synthetic-scans")
    assert results["images"] == 4 and results["people"] == 2 and len(knowing.errors) == results["vertices"]
    assert results["median_mm"] == pytest.approx(0.6745 * synthetic_scans.NOISE, rel=0.1)
    assert results["metrical_median_mm"] == pytest.approx(results["median_mm"], rel=0.1)
    assert results["median_share_of_mean_face"] < 0.75
    blind = synthetic_scans.run(Stub(np.zeros(8), model=model), other_model, options).results
    assert (
        blind["median_share_of_mean_face"] == 1 and blind["median_mm"] == results["mean_face_median_mm"]
    )  # which is the same for the same seed


def test_another_seed_gives_other_people(other_model):
    identities = [people_of(other_model, seed, 1) for seed in (0, 0, 1)]
    assert torch.equal(identities[0], identities[1]) and not torch.equal(identities[0], identities[2])
    assert (identities[0] == identities[0][0]).all()  # in all pictures of a person


def test_a_scan_is_a_noisy_surface_with_holes():
    model = MorphableModel(toy("stranger"))
    identity = torch.zeros(1, model.num_identity)
    points, marks = synthetic_scans.scan_person(model, identity, 0, 0)
    clean = Surface(model.mean, model.faces, model.landmarks(model.mean[None])[0])
    here = Similarity(torch.tensor(1.0).double(), torch.eye(3).double(), torch.zeros(3).double())
    distance = clean.distances(points, here)
    assert distance.square().mean().sqrt() == pytest.approx(synthetic_scans.NOISE, rel=0.05)
    off = (marks - clean.landmarks[list(SEVEN)]).norm(dim=1)
    assert 0 < off.max() < 4 * synthetic_scans.LANDMARK_NOISE
    whole = now.cropped(clean.vertices, marks)
    lonely = torch.cdist(whole, points).min(1).values
    assert (lonely > 3).sum() > 5 and (lonely > 3).double().mean() < 0.3  # vertices in holes
    again, _ = synthetic_scans.scan_person(model, identity, 0, 0)
    assert torch.equal(points, again) and len(synthetic_scans.scan_person(model, identity, 0, 1)[0]) != len(points)


def test_colors_come_to_the_same_places_on_the_other_model():
    """Between two models that are the same, to the same vertices, mean and modes."""
    skin = toy("skin")
    found = synthetic_scans.colored_model(replace(toy("stranger"), albedo_mean=None, albedo=None), skin)
    own = MorphableModel(skin)
    one = torch.randn(1, own.num_albedo, generator=torch.Generator().manual_seed(0))
    assert (found.albedo_mean - own.albedo_mean).abs().mean() < 0.01
    assert (found.albedo(one) - own.albedo(one)).abs().mean() < 0.015
    assert (own.albedo(one) - own.albedo_mean).abs().mean() > 0.03


def test_pictures_are_turned_by_up_to_45_degrees_and_have_boxes_around_the_face():
    model = MorphableModel(toy("stranger"))
    groups = SyntheticGroups(model, synthetic_scans.SIZE, synthetic_scans.PICTURES, synthetic_scans.RANDOMIZATION)
    for person in range(3):
        photos, identity = synthetic_scans.render_person(groups, 0, person)
        faces = groups(0, 0, range(person, person + 1))
        assert (
            len(photos) == synthetic_scans.PICTURES
            and torch.equal(faces.identity[:1], identity)
            and (faces.identity == identity).all()
        )
        yaw = torch.asin(-faces.rotation[:, 2, 0].clamp(-1, 1)) * 180 / torch.pi
        assert yaw.abs().max() <= 45 + 1e-3
        for photo, points in zip(photos, faces.landmarks):
            x0, y0, x1, y1 = photo.box
            inside = (points[:, 0] > x0) & (points[:, 0] < x1) & (points[:, 1] > y0) & (points[:, 1] < y1)
            assert inside.all() and (x1 - x0) < 2.2 * float((points.amax(0) - points.amin(0)).max())


def test_error_names_another_model_and_a_number_of_people_below_one(tmp_path, other_model):
    write_native(replace(patch_data(), regions={"face": np.arange(9)}), tmp_path / "patch.safetensors")
    stub = Stub(np.zeros(8), model=MorphableModel(toy("stranger")))
    with pytest.raises(InputError, match="patch.safetensors: expected ICT-FaceKit.*without a region full_face"):
        synthetic_scans.run(stub, tmp_path / "patch.safetensors", parse(synthetic_scans))
    with pytest.raises(InputError, match="people must be at least 1, got 0"):
        synthetic_scans.run(stub, other_model, Namespace(people=0, seed=0))
    with pytest.raises(InputError, match="none.npz"):
        synthetic_scans.run(stub, tmp_path / "none.npz", parse(synthetic_scans))
