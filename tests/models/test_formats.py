"""What readers of model files make of every family: the same face, in the library's conventions."""

import numpy as np
import pytest
import torch

import facemodels
from facemodels import InputError
from facemodels.models.formats import FAMILIES, model_files, read
from facemodels.models.formats.layout import mirror, outward, triangles
from facemodels.models.formats.native import write_native
from tests.models.files import (
    V,
    backwards,
    basel2017,
    eos4,
    front,
    ict_folder,
    lp,
    original,
    same,
    surrey,
    tddfa,
)


def test_known_coefficients_give_the_known_vertices_in_millimeters(written):
    path, expected, _ = written
    model = facemodels.load_model(path)
    assert (model.num_vertices, model.num_identity, model.num_expression) == (
        len(expected["mean"]),
        len(expected["identity"]),
        len(expected["expression"]),
    )
    for seed in range(2):
        random = np.random.default_rng(seed)
        identity, expression = (
            random.normal(size=len(expected["identity"])),
            random.normal(size=len(expected["expression"])),
        )
        vertices = (
            expected["mean"]
            + np.einsum("k,kvc->vc", identity, expected["identity"])
            + np.einsum("k,kvc->vc", expression, expected["expression"])
        )
        got = model.shape(
            torch.tensor(identity[None], dtype=torch.float32), torch.tensor(expression[None], dtype=torch.float32)
        )
        np.testing.assert_allclose(got[0].numpy(), vertices, atol=2e-4)
    np.testing.assert_allclose(model.shape()[0].numpy(), expected["mean"], atol=5e-5)


def test_triangles_are_zero_based_and_counter_clockwise_from_outside(written):
    path, expected, _ = written
    data = read(path)
    np.testing.assert_array_equal(data.faces, expected["faces"])
    corners = data.mean[data.faces]
    assert (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0).all()


def test_colors_are_in_0_to_1_and_declared_as_srgb(written):
    path, expected, _ = written
    data = read(path)
    if expected["colour"] is None:
        assert data.albedo is None
        return
    np.testing.assert_allclose(data.albedo_mean, expected["colour"], atol=1e-6)
    np.testing.assert_allclose(data.albedo, expected["colours"], atol=1e-6)
    assert data.albedo_encoding == "srgb"


def test_landmarks_are_the_files_own_and_the_missing_ones_weigh_nothing(written):
    path, expected, _ = written
    data = read(path)
    wanted = expected["landmarks"]
    if wanted is None:
        assert data.landmark_index is None
        return
    wanted = dict(enumerate(wanted)) if isinstance(wanted, np.ndarray) else wanted
    places = (data.mean[data.landmark_index] * data.landmark_weights[..., None]).sum(1)
    for k in range(68):
        if k in wanted:
            np.testing.assert_allclose(places[k], data.mean[wanted[k]], atol=1e-4)
        else:
            assert (data.landmark_weights[k] == 0).all()


@pytest.mark.parametrize("writer", [front, lp, tddfa, basel2017, eos4], ids=lambda w: w.__name__)
def test_a_family_without_a_face_region_gets_all_within_95_mm_of_the_nose_tip(writer, tmp_path, face):
    data = read(writer(tmp_path, face)[0])
    near = np.linalg.norm(data.mean - data.mean[data.landmark_index[30, 0]], axis=1) <= 95
    assert 0 < near.sum() < V
    np.testing.assert_array_equal(data.regions["face"], np.flatnonzero(near))


def test_a_model_has_its_name_source_and_licence(written):
    path, _, _ = written
    data = read(path)
    assert data.name and data.licence and data.source == str(path)


def test_native_round_trip_keeps_every_field_bit_for_bit(written, tmp_path):
    path, _, _ = written
    data = read(path)
    out = tmp_path / "out" / "model.safetensors"
    out.parent.mkdir()
    write_native(data, out)
    same(read(out), data)
    assert [p.name for p in out.parent.iterdir()] == ["model.safetensors"]


def test_a_folder_with_one_model_is_read_as_that_model(written):
    path, _, writer = written
    folder = path if writer is ict_folder else path.parent
    assert list(model_files(folder)) == [path]
    assert model_files(folder)[path] in FAMILIES
    a, b = read(folder), read(path)
    assert a.source == b.source
    same(a, b)


def test_a_folder_with_several_models_or_none_is_refused_by_their_names(tmp_path, face):
    with pytest.raises(InputError, match="found none of .*01_MorphableModel.mat"):
        read(tmp_path)
    original(tmp_path, face), surrey(tmp_path, face)
    with pytest.raises(InputError, match="found 01_MorphableModel.mat, sfm_shape_81.bin; give the file itself"):
        read(tmp_path)


def test_winding_follows_the_family_unless_the_geometry_is_clear(face):
    mean = face.mean.astype(np.float32)
    for known in (False, True):
        np.testing.assert_array_equal(outward(face.faces, mean, known), face.faces)
        np.testing.assert_array_equal(outward(backwards(face.faces), mean, known), face.faces)
    unclear = np.array([[0, 1, 10], [20, 30, 21]])
    np.testing.assert_array_equal(outward(unclear, mean, False), unclear)
    np.testing.assert_array_equal(outward(unclear, mean, True), backwards(unclear))


def test_polygons_of_any_size_become_fans():
    assert triangles([[0, 1, 2, 3, 4], [5, 6, 7, -1, -1]]).tolist() == [[0, 1, 2], [0, 2, 3], [0, 3, 4], [5, 6, 7]]


def test_a_mesh_that_is_not_symmetric_has_no_symmetry(face):
    mean = face.mean.copy()
    assert mirror(mean, face.quads) is not None
    mean[3, 0] += 2
    assert mirror(mean, face.quads) is None
