"""The Basel models' own: regions, symmetry, texture coordinates, and the files that belong beside them."""

import json
import sys

import numpy as np
import pytest

from facemodels import InputError
from facemodels.models.formats import read
from tests.models.files import (
    V,
    basel2017,
    front,
    guo,
    lp,
    tddfa,
)


def test_the_original_basel_mesh_has_the_68_landmarks_of_300w_lp():
    from facemodels.models.formats.basel2009 import LANDMARKS, VERTICES

    assert len(LANDMARKS) == 68 and len(set(LANDMARKS)) == 68 and max(LANDMARKS) < VERTICES


def test_basel_segments_and_symmetry_list_become_regions_and_symmetry(tmp_path, face):
    data = read(lp(tmp_path, face)[0])
    assert [len(data.regions[k]) for k in ("nose", "eyes", "mouth")] == [21, 20, 20]
    np.testing.assert_allclose(data.mean[data.symmetry] * [-1, 1, 1], data.mean, atol=1e-4)
    np.testing.assert_allclose(data.uv, np.linspace(0, 1, 2 * V).reshape(V, 2), atol=1e-7)
    np.testing.assert_array_equal(data.uv_faces, data.faces)


def test_deep3d_masks_become_regions(tmp_path, face):
    data = read(front(tmp_path, face)[0])
    assert data.regions["front"].tolist() == list(range(10)) and data.regions["skin"].tolist() == list(range(5))


def test_3ddfa_v2_texture_coordinates_are_those_of_its_vertices(tmp_path, face):
    data = read(tddfa(tmp_path, face)[0])
    np.testing.assert_allclose(data.uv, np.linspace(0, 1, 2 * V).reshape(V, 2), atol=1e-7)


def test_3ddfa_v2_components_without_deviations_are_refused_by_the_file_that_is_missing(tmp_path, face):
    path, _ = tddfa(tmp_path, face)
    (tmp_path / "param_mean_std_62d_120x120.pkl").unlink()
    with pytest.raises(
        InputError, match="param_mean_std_62d_120x120.pkl: there is no such file; expected the deviations"
    ):
        read(path)


def test_3ddfa_v2_triangles_of_another_mesh_are_refused_by_the_file_that_is_missing(tmp_path, face):
    path, _ = tddfa(tmp_path, face)
    (tmp_path / "tri.pkl").unlink()
    with pytest.raises(InputError, match="tri.pkl: there is no such file; expected the triangles"):
        read(path)


@pytest.mark.parametrize("gone", ["std_exp.txt", "BFM_exp_idx.mat"])
def test_basel_expressions_without_what_belongs_to_them_are_refused(tmp_path, face, gone):
    path, _ = guo(tmp_path, face)
    (tmp_path / gone).unlink()
    with pytest.raises(InputError, match=f"{gone}: .*no such file"):
        read(path)


def test_300w_lp_without_expressions_is_refused_by_the_file_that_is_missing(tmp_path, face):
    path, _ = lp(tmp_path, face)
    (tmp_path / "Model_Exp.mat").rename(tmp_path / "Model_Expression.mat")
    read(path)
    (tmp_path / "Model_Expression.mat").unlink()
    with pytest.raises(InputError, match="Model_Exp.mat: .*no such file"):
        read(path)


def test_basel_2017_without_h5py_says_what_to_install(tmp_path, face, monkeypatch):
    path, _ = basel2017(tmp_path, face)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match="pip install h5py"):
        read(path)


def test_basel_2017_takes_landmarks_as_text_or_by_name_too(tmp_path, face):
    h5py = pytest.importorskip("h5py")
    path, _ = basel2017(tmp_path, face)
    with h5py.File(path, "a") as file:
        del file["metadata/landmarks/json"]
        file["metadata/landmarks/json"] = json.dumps({"center.nose.tip": list(face.mean[40])})
    assert read(path).landmark_index[30, 0] == 40
