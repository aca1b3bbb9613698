"""Faces that are scanned and found again in their scan (facemodels.fitting.scan)."""

import pytest
import torch

from facemodels import InputError
from facemodels.core import progress
from facemodels.core.surface import closest_points
from facemodels.fitting import scan
from facemodels.fitting.scan import fit_mesh
from tests.face_patch import patch
from tests.synthetic_faces import scanned


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


def test_landmarks_of_a_mesh_need_three_coordinates():
    model = patch()
    with pytest.raises(ValueError, match=r"landmarks must be \[L,3\] in the mesh's coordinates, got \[68, 2\]"):
        fit_mesh(model.mean, model.faces, model, torch.zeros(68, 2), progress=False)


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


def test_what_cannot_show_a_face_is_refused_before_it_is_searched(monkeypatch):
    monkeypatch.setattr(scan, "find_face", None)
    model = patch()
    flat = model.mean * torch.tensor([1.0, 1.0, 0.001])
    box = torch.tensor([[x, y, z] for x in (0.0, 90.0) for y in (0.0, 90.0) for z in (0.0, 90.0)])
    corners = torch.tensor([[0, 1, 2], [1, 2, 3], [4, 5, 6], [5, 6, 7]]).repeat(3, 1)
    bad = {
        "expected at least 20 triangles, found 1": (model.mean, model.faces[:1]),
        "expected at least 20 triangles, found 12": (box, corners),
        "nearly in one plane": (flat, model.faces),
    }
    for words, (vertices, faces) in bad.items():
        for landmarks in (None, model.landmarks(model.mean[None])[0]):
            with pytest.raises(InputError, match=f"cannot show a face: .*{words}"):
                fit_mesh(vertices, faces, model, landmarks, progress=False)


def test_coarse_meshes_are_fitted_with_landmarks_and_need_them():
    model = patch()
    vertices, landmarks, _ = scanned(model, 1)
    chosen = torch.arange(0, 31, 5)
    rows, columns = torch.meshgrid(chosen, chosen, indexing="ij")
    coarse = vertices[(rows * 31 + columns).flatten()]
    a = (torch.arange(6)[:, None] * 7 + torch.arange(6)).flatten()
    faces = torch.cat([torch.stack([a, a + 1, a + 7], 1), torch.stack([a + 7, a + 1, a + 8], 1)])
    with pytest.raises(InputError, match="a mesh of 49 points is too coarse to find a face in it; give landmarks"):
        fit_mesh(coarse, faces, model, progress=False)
    fit = fit_mesh(coarse, faces, model, landmarks, progress=False)
    found = fit.placement(fit.face(model).vertices[0])
    assert (found - vertices).norm(dim=1).median() < 5


@pytest.mark.parametrize("marked", [True, False])
def test_a_scan_far_from_the_origin_is_fitted_as_at_it(marked):
    model = patch()
    vertices, landmarks, person = scanned(model, 1)
    far = torch.tensor([4.5e8, -5.2e8, 1e6], dtype=torch.float64)  # map coordinates in millimeters
    nowhere = torch.tensor([[torch.nan, 0, 0], [0, 0, 0]], dtype=torch.float64)  # no triangle uses them
    near = fit_mesh(vertices, model.faces, model, landmarks if marked else None, progress=False)
    there = fit_mesh(
        torch.cat([vertices.double() + far, nowhere]),
        model.faces,
        model,
        landmarks.double() + far if marked else None,
        progress=False,
    )
    assert near.placement.translation.dtype == torch.float32 and there.placement.translation.dtype == torch.float64
    moved = there.placement(there.face(model).vertices[0].double()) - far
    assert (moved - near.placement(near.face(model).vertices[0])).norm(dim=1).max() < 0.05
    assert there.arrays()["translation"].dtype == "float64" and there.arrays()["scale"].dtype == "float32"
    if marked:
        assert (there.landmarks - far - near.landmarks).abs().max() < 0.05


def test_a_fit_says_on_stderr_how_far_it_is_unless_it_is_told_not_to(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_FIRST", -1.0)  # seconds: every fit is a slow one
    monkeypatch.setattr(scan, "GOOD_MISFIT", 0.0)  # all places are looked at
    model = patch()
    vertices, _, _ = scanned(model, 1)
    for shown in (True, False):
        fit_mesh(vertices, model.faces, model, iterations=2, progress=shown)
        words = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
        assert words == (["finding the face: 1 of 24", "fitting the surface: 1 of 2"] if shown else [])
