"""The built-in model: a closed, regular, symmetric head with human measurements and human variation."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from importlib import import_module

import numpy as np
import pytest
import torch

import facerender as fr
from facemodels.models.builtin import anthropometry
from facemodels.models.builtin.eyes import EYE, EYE_RADIUS, LID_MARGIN_RING
from facemodels.models.builtin.template import build

identity = import_module("facemodels.models.builtin.identity")


@pytest.fixture(scope="module")
def head():
    return build()


@pytest.fixture(scope="module")
def person(head):
    return identity.identity(head)


def edges_of(faces):
    e = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return Counter(map(tuple, e.tolist()))


def test_every_edge_is_used_once_in_each_direction_at_most(head):
    assert max(edges_of(head.faces).values()) == 1


def test_the_only_borders_are_the_neck_and_hidden_ones_behind_lids_eyeballs_and_teeth(head):
    directed = edges_of(head.faces)
    border = {a for (a, b) in directed if (b, a) not in directed}
    free = [head.parts[p] for p in ("left eye", "right eye", "upper teeth", "lower teeth")] + [
        head.rings[f"{side} eye"][-1] for side in ("left", "right")
    ]
    free = set(np.concatenate(free).tolist())
    neck = [v for v in border if v not in free]
    assert len(neck) > 30 and (head.vertices[neck, 1] < -165).all()


def test_triangles_face_outwards(head):
    skin = np.flatnonzero((np.abs(head.chart).sum(1) > 0)[head.faces].all(1))
    a, b, c = (head.vertices[head.faces[skin, k]] for k in range(3))
    normal, middle = np.cross(b - a, c - a), (a + b + c) / 3
    front = (middle[:, 2] > 60) & (middle[:, 1] > 20)  # the forehead
    assert front.sum() > 100 and (normal[front, 2] > 0).all()
    back = (middle[:, 2] < -60) & (middle[:, 1] > 0)
    assert (normal[back, 2] < 0).all()
    for side, sign in (("left", 1), ("right", -1)):
        ball = np.isin(head.faces, head.parts[f"{side} eye"]).all(1)
        t = head.vertices[head.faces[ball]]
        assert ((np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]) * (t.mean(1) - EYE * [sign, 1, 1])).sum(1) > 0).all()


def test_the_head_is_its_own_mirror_image(head):
    assert (head.symmetry[head.symmetry] == np.arange(len(head.vertices))).all()
    np.testing.assert_allclose(head.vertices[head.symmetry] * [-1, 1, 1], head.vertices, atol=1e-12)
    mirrored = {tuple(sorted(f)) for f in head.symmetry[head.faces].tolist()}
    assert mirrored == {tuple(sorted(f)) for f in head.faces.tolist()}
    pairs = {36: 45, 39: 42, 48: 54, 31: 35, 0: 16, 17: 26, 60: 64}
    for right, left in pairs.items():
        assert head.symmetry[head.landmarks[left]] == head.landmarks[right]


def test_most_vertices_of_the_skin_have_four_neighbors_along_the_grid(head):
    """Six in the triangle mesh, since each quadrilateral is split."""
    neighbors = [set() for _ in head.vertices]
    for a, b, c in head.faces.tolist():
        neighbors[a] |= {b, c}
        neighbors[b] |= {a, c}
        neighbors[c] |= {a, b}
    valence = np.array([len(n) for n in neighbors])
    skin = np.abs(head.chart).sum(1) > 0
    assert (valence[skin] == 6).mean() > 0.85
    assert (valence[skin] <= 8).mean() > 0.995


def test_texture_coordinates_lie_in_the_unit_square_and_charts_do_not_overlap(head):
    assert head.uv.min() >= 0 and head.uv.max() <= 1
    size = 1024
    covered = np.zeros((size, size), int)
    clip = torch.from_numpy(
        np.concatenate([head.uv * 2 - 1, np.zeros((len(head.uv), 1)), np.ones((len(head.uv), 1))], 1)
    ).float()[None]
    two = fr.rasterize(clip, torch.from_numpy(head.uv_faces), (size, size), layers=2).face_id[0].numpy()
    covered = (two >= 0).sum(-1)
    assert (covered == 2).mean() < 2e-3 * (covered >= 1).mean()
    assert (covered >= 1).mean() > 0.6  # little of the texture is wasted


def test_measurements_of_the_mean_head_are_those_of_people(head):
    own = identity.measurements(head, head.vertices)
    deviation = np.sqrt(np.diag(anthropometry.covariance()))
    for m, got, mean, sd in zip(anthropometry.MEASUREMENTS, own, anthropometry.means(), deviation):
        if not m.drawn:
            assert abs(got - mean) < 1.7 * sd, f"{m.name}: {got:.1f} mm, people have {mean:.1f} +- {sd:.1f}"


def test_measurements_vary_and_correlate_over_identities_as_published(head, person):
    gradients, places = identity._measurement_operator(head)
    response = np.einsum("mpc,kmpc->mk", gradients, person.modes[:, places])  # [m,modes]
    got, want = response @ response.T, anthropometry.covariance()
    sd, published = np.sqrt(np.diag(got)), np.sqrt(np.diag(want))
    assert (np.abs(sd / published - 1) < 0.08).all(), dict(
        zip([m.name for m in anthropometry.MEASUREMENTS], (sd / published).round(2))
    )
    correlation, wanted = got / np.outer(sd, sd), want / np.outer(published, published)
    assert np.abs(correlation - wanted).max() < 0.08


def test_the_covariance_of_measurements_is_positive_definite_and_plausible():
    correlation = anthropometry.covariance() / np.sqrt(np.outer(*[np.diag(anthropometry.covariance())] * 2))
    assert np.linalg.eigvalsh(correlation).min() > 0
    names = [m.name for m in anthropometry.MEASUREMENTS]
    at = lambda a, b: correlation[names.index(a), names.index(b)]  # noqa: E731
    assert 0.4 < at("jaw breadth go-go", "neck breadth") < 0.85
    assert at("upper vermilion ls-sto", "upper lip sn-sto") < 0.2  # lips thin out as the lip lengthens


def test_modes_are_ordered_orthogonal_and_free_of_rigid_motion(head, person):
    assert len(person.modes) >= 80
    weight = identity.vertex_areas(head.vertices, head.faces)
    inner = np.concatenate([p for n, p in head.parts.items() if "eye" in n or "teeth" in n or "tongue" in n])
    w = weight / weight.mean() * (0.35 + 0.65 * identity.in_face(head.vertices))
    w[inner] *= 0.02
    flat = person.modes.reshape(len(person.modes), -1).astype(float)
    gradients, places = identity._measurement_operator(head)
    response = np.einsum("mpc,kmpc->km", gradients, person.modes[:, places])
    gram = (flat * np.repeat(w, 3)) @ flat.T + identity._MEASUREMENT_WEIGHT * response @ response.T
    variance = np.diag(gram)
    assert (np.diff(variance) < 1e-3 * variance[0]).all()
    assert np.abs(gram / np.sqrt(np.outer(variance, variance)) - np.eye(len(gram))).max() < 0.02
    shift = (person.modes * w[None, :, None]).sum(1) / w.sum()
    assert np.abs(shift).max() < 0.02


def test_named_directions_change_the_measurements_that_they_name(head, person):
    names = [m.name for m in anthropometry.MEASUREMENTS]

    def change(direction):
        moved = head.vertices + np.tensordot(person.directions[direction], person.modes, 1)
        return dict(zip(names, identity.measurements(head, moved) - identity.measurements(head, head.vertices)))

    sex = change("sex")
    for m in anthropometry.MEASUREMENTS:
        assert sex[m.name] == pytest.approx((m.men - m.women) / 2, abs=0.5), m.name
    assert change("build")["neck breadth"] > 4
    assert change("age")["ear length sa-sba"] > 1.5 and change("age")["upper vermilion ls-sto"] < -0.5
    assert change("length")["face height n-gn"] > 2 and change("length")["face breadth zy-zy"] < -1


def test_lids_stay_on_the_eyeballs_of_all_identities(head, person):
    rng = np.random.default_rng(5)
    margin = head.rings["left eye"][LID_MARGIN_RING]
    ball = head.parts["left eye"]
    for _ in range(20):
        a = rng.standard_normal(len(person.modes)).clip(-2.5, 2.5)
        v = head.vertices + np.tensordot(a, person.modes, 1)
        shift = (v[ball] - head.vertices[ball]).mean(0)
        assert (
            np.abs(
                np.linalg.norm(v[ball] - EYE - shift, axis=1) - np.linalg.norm(head.vertices[ball] - EYE, axis=1)
            ).max()
            < 0.35
        )  # moved, not deformed (a linear turn stretches a little)
        distance = np.linalg.norm(v[margin] - (EYE + shift), axis=1)
        assert distance.min() > EYE_RADIUS, "a lid cuts into the eyeball"
        middle = np.argsort(np.abs(head.vertices[margin, 0] - EYE[0]))[:12]
        assert distance[middle].max() < EYE_RADIUS + 2.6, "a lid stands off the eyeball"


def test_identities_are_slightly_asymmetric(head, person):
    mirrored = person.modes[:, head.symmetry] * [-1, 1, 1]
    rng = np.random.default_rng(1)
    a = rng.standard_normal((50, len(person.modes)))
    uneven, even = np.tensordot(a, (person.modes - mirrored) / 2, 1), np.tensordot(a, (person.modes + mirrored) / 2, 1)
    share = np.sqrt((uneven**2).mean() / (even**2).mean())
    assert 0.03 < share < 0.25


@pytest.mark.slow
def test_modes_have_the_same_signs_whatever_kernels_linear_algebra_uses(person):
    """Eigenvectors come with either sign, which may differ between CPUs; coefficients must mean the same face."""
    code = "\n".join((
        "import sys, numpy as np",
        "from importlib import import_module",
        "from facemodels.models.builtin.template import build",
        "identity = import_module('facemodels.models.builtin.identity').identity",
        "np.save(sys.argv[1], identity(build()).modes)",
    ))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-c", code, f"{folder}/modes.npy"],
            check=True,
            env=os.environ | {"OPENBLAS_CORETYPE": "Nehalem"},
        )
        other = np.load(f"{folder}/modes.npy")
    a, b = person.modes.reshape(len(other), -1), other.reshape(len(other), -1)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.99
