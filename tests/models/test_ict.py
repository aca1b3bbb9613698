"""ICT-FaceKit's own: names and quads, files of the folder that are missing, and the real model."""

from pathlib import Path

import numpy as np
import pytest

from facemodels import InputError
from facemodels.models.formats import ict, read
from facemodels.models.formats.native import write_native
from tests.data_sets import DATA
from tests.models.files import (
    ict_folder,
    ict_npz,
    one_sentence,
    same,
)


def test_ict_names_are_arkits_and_quads_become_triangles(tmp_path, face):
    data = read(ict_npz(tmp_path, face)[0])
    assert data.expression_names == ("browDownLeft", "jawOpen") and data.blendshapes
    assert len(data.faces) == 2 * len(face.quads) and ict.arkit_name("PupilDilate_R") == "pupilDilateRight"
    np.testing.assert_allclose(data.mean[data.symmetry] * [-1, 1, 1], data.mean, atol=1e-4)


def test_ict_folder_with_a_missing_or_shorter_file_is_refused(tmp_path, face):
    for name, spoil, says in (
        ("jawOpen.obj", Path.unlink, "no such file"),
        ("identity001.obj", lambda p: p.write_text("\n".join(p.read_text().split("\n")[:30])), "81 vertices"),
        ("browDown_L.obj", lambda p: p.write_text(p.read_text().replace("v ", "v x", 1)), "3 numbers"),
        ("generic_neutral_mesh.obj", lambda p: p.write_text("v 0 0 0\nv 1 0 0\n"), "polygons"),
        ("generic_neutral_mesh.obj", lambda p: p.write_text(p.read_text() + "f 1/1 2/2 999/3\n"), "vertex 999"),
        ("generic_neutral_mesh.obj", lambda p: p.write_text(p.read_text() + "f 1 2 3\n"), "corners without any"),
        ("vertex_indices.json", lambda p: p.write_text("{"), "vertex_indices.json"),
        (
            "vertex_indices.json",
            lambda p: p.write_text(p.read_text().replace("jawOpen", "../../jawOpen")),
            "names in expressions",
        ),
        ("vertex_indices.json", Path.unlink, "no such file"),
    ):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        ict_folder(folder, face)
        spoil(folder / name)
        with pytest.raises(InputError) as error:
            read(folder)
        one_sentence(error, name if name != "generic_neutral_mesh.obj" else folder, says)


@pytest.fixture(scope="module")
def real():
    if not (DATA / "ict_facekit.npz").exists():
        pytest.skip(f"needs ict_facekit.npz in FACEMODELS_DATA or {DATA.name}")
    return read(DATA / "ict_facekit.npz")


@pytest.mark.data
def test_real_ict_is_a_head_in_millimeters_that_looks_along_z(real):
    assert real.mean.shape == (26719, 3) and real.identity.shape[0] == 100 and real.expression.shape[0] == 57
    assert real.faces.shape == (2 * 26384 - 548, 3)
    points = real.mean[real.landmark_index[:, 0]]
    assert 80 < np.linalg.norm(points[45] - points[36]) < 100  # outer eye corners
    assert (
        points[0, 0] < 0 < points[16, 0]
        and points[30, 2] == points[:, 2].max()
        and points[8, 1] < points[30, 1] < points[27, 1]
    )


@pytest.mark.data
def test_real_ict_parts_are_where_their_names_say(real):
    low, high = (lambda k: real.mean[real.regions[k]].min(0)), (lambda k: real.mean[real.regions[k]].max(0))
    assert len(real.regions["face"]) == 6706 and high("face")[0] < 76 and low("face")[2] > 20  # no ears in it
    assert high("full_face")[0] > 90 and low("head")[1] < -190
    assert low("eyeball_left")[0] > 0 > high("eyeball_right")[0]
    assert real.regions["teeth"].size and high("teeth")[1] < 0 and max(v.max() for v in real.regions.values()) == 26718


@pytest.mark.data
def test_real_ict_is_symmetric_and_its_texture_charts_do_not_overlap(real):
    assert (real.symmetry[real.symmetry] == np.arange(26719)).all()
    assert np.abs(real.mean[real.symmetry] * [-1, 1, 1] - real.mean).max() < 0.3
    assert real.uv.min() >= 0 and real.uv.max() <= 1
    eye, skin = (np.unique(real.uv_faces[np.isin(real.faces[:, 0], real.regions[k])]) for k in ("eyeballs", "face"))
    assert real.uv[eye, 1].max() < 0.25 < real.uv[skin, 1].min()


@pytest.mark.data
def test_real_ict_converts_and_comes_back_the_same(real, tmp_path):
    write_native(real, tmp_path / "ict.safetensors")
    same(read(tmp_path / "ict.safetensors"), real)
