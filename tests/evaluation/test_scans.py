"""Files of scans, of points picked on them, and of their landmarks."""

import numpy as np
import pytest

from facemodels import InputError
from facemodels.evaluation.scans import read_picked_points, read_scan, read_scan_landmarks
from tests.evaluation.sphere_scans import picked


def test_texture_seams_do_not_split_a_scans_vertices(tmp_path):
    path = tmp_path / "scan.obj"
    text = (
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 7 7 7\n"
        + "".join(f"vt {k / 10} 0\n" for k in range(6))
        + "f 1/1 2/2 3/3\nf 1/4 3/5 4/6\n"
    )
    path.write_text(text)
    scan = read_scan(path)
    assert scan.vertices[:4].tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert len(scan.vertices) == 5 and scan.vertices[4].isnan().all()  # no triangle uses it: it is nowhere
    assert scan.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize(
    "name, text, found",
    [
        ("scan.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no triangles"),
        ("scan.obj", "v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "NaN or infinite"),
        ("scan.ply", "ply\nformat ascii 1.0\nelement vertex 3\n", "no header"),
        ("scan.stl", "solid", ".stl"),
    ],
)
def test_error_of_an_unusable_scan_is_one_sentence(tmp_path, name, text, found):
    path = tmp_path / name
    with pytest.raises(InputError, match=f"{name}: there is no such file; expected a scan"):
        read_scan(path)
    path.write_text(text)
    with pytest.raises(InputError, match=rf"{name}: expected a scan with triangles.*{found}") as error:
        read_scan(path)
    assert "\n" not in str(error.value)


def test_picked_points_are_read_by_the_names_of_the_axes(tmp_path):
    path = tmp_path / "scan.pp"
    path.write_text(picked([(1, 2, 3), (4, 5, 6)]))
    assert read_picked_points(path, 2).tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(InputError, match="7 picked points.*found 2"):
        read_picked_points(path, 7)
    path.write_text("<PickedPoints>")
    with pytest.raises(InputError, match="scan.pp: expected 7 picked points.*cannot be parsed"):
        read_picked_points(path, 7)


def test_landmarks_of_a_scan_may_be_missing_unless_they_are_needed(tmp_path):
    path = tmp_path / "scan.obj"
    with pytest.raises(InputError, match="expected 68 landmarks.*scan.txt.*none"):
        read_scan_landmarks(path, (30,))
    marks = np.random.default_rng(0).normal(size=(68, 3))
    marks[3] = np.nan
    np.savetxt(tmp_path / "scan.txt", marks)
    np.testing.assert_allclose(read_scan_landmarks(path, (30, 36)).numpy(), marks, rtol=1e-6)
    marks[36] = np.nan
    np.savetxt(tmp_path / "scan.txt", marks)
    with pytest.raises(InputError, match="30, 36.*without 36"):
        read_scan_landmarks(path, (30, 36))


def test_a_compact_scan_has_no_vertices_that_no_triangle_uses(tmp_path):
    (tmp_path / "scan.obj").write_text("v nan 0 0\nv 0 0 0\nv 1 0 0\nv 9 9 9\nv 0 1 0\nf 2 3 5\n")
    scan = read_scan(tmp_path / "scan.obj").compact()
    assert scan.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]] and scan.faces.tolist() == [[0, 1, 2]]
