"""Landmark files of every kind, with their conventions, and files that are wrong."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from facemodels import InputError
from facemodels.io.landmark_names import MEDIAPIPE_68
from facemodels.io.landmarks import check_inside, read_faces, read_landmarks, sidecar

POINTS = np.random.default_rng(0).uniform(10, 200, (68, 2)).round(3)


def write(path, points):
    if path.suffix == ".txt":
        path.write_text("\n".join(f"{x} {y}" for x, y in points))
    elif path.suffix == ".pts":
        path.write_text("version: 1\nn_points: 68\n{\n" + "\n".join(f"{x} {y}" for x, y in points) + "\n}\n")
    elif path.suffix == ".npy":
        np.save(path, points)
    elif path.suffix == ".json":
        path.write_text(json.dumps({"landmarks": points.tolist()}))
    return path


@pytest.mark.parametrize("suffix, offset", [(".txt", 0), (".npy", 0), (".json", 0), (".pts", -0.5)])
@pytest.mark.parametrize("count", [68, 21, 5])
def test_each_kind_holds_the_points_and_one_based_ones_are_shifted_to_pixel_corners(tmp_path, suffix, offset, count):
    found = read_landmarks(write(tmp_path / f"a{suffix}", POINTS[:count]))
    np.testing.assert_allclose(found.points, POINTS[:count] + offset, atol=1e-4)
    assert found.points.dtype == np.float32 and found.contour == "moving"


def test_aflw2000_labels_are_static_and_one_based(tmp_path):
    savemat(tmp_path / "a.mat", {"pt3d_68": np.concatenate([POINTS.T, np.zeros((1, 68))]), "pt2d": np.ones((2, 21))})
    found = read_landmarks(tmp_path / "a.mat")
    np.testing.assert_allclose(found.points, POINTS - 0.5, atol=1e-4)
    assert found.contour == "static"


@pytest.mark.parametrize("key, contour", [("pts_3d", "static"), ("pts_2d", "moving"), ("landmarks", "moving")])
def test_300w_lp_arrays_are_read(tmp_path, key, contour):
    savemat(tmp_path / "a.mat", {key: POINTS})
    found = read_landmarks(tmp_path / "a.mat")
    np.testing.assert_allclose(found.points, POINTS - 0.5, atol=1e-4)
    assert found.contour == contour


def test_invisible_points_of_aflw_are_missing(tmp_path):
    points = POINTS[:21].T.copy()
    points[:, 4], points[1, 7] = -1, 0
    savemat(tmp_path / "a.mat", {"pt2d": points})
    found = read_landmarks(tmp_path / "a.mat").points
    assert np.isnan(found).any(1).nonzero()[0].tolist() == [4, 7]


def test_a_subset_by_ibug_number(tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps({"36": [1, 2, 3], "45": [4, 5, 6], "48": [7, 8, 9], "54": [1, 1, 1], "8": [2, 2, 2]})
    )
    found = read_landmarks(tmp_path / "a.json", dimensions=3).points
    assert found.shape == (68, 3) and (~np.isnan(found).any(1)).sum() == 5
    np.testing.assert_array_equal(found[45], [4, 5, 6])


def test_files_of_the_same_name_are_found(tmp_path):
    assert sidecar(tmp_path / "photo.jpg") is None
    write(tmp_path / "photo.npy", POINTS)
    assert sidecar(tmp_path / "photo.jpg") == tmp_path / "photo.npy"


def damaged(path, kind):
    if kind == "count":
        write(path, POINTS[:60])
    elif kind == "few":
        points = POINTS.copy()
        points[3:] = np.nan
        write(path, points)
    elif kind == "infinite":
        points = POINTS.copy()
        points[3, 1] = np.inf
        write(path, points)
    elif kind == "bytes":
        path.write_bytes(b"\x80\x04\x95\xff\xfe not what it says")
    elif kind == "empty":
        path.write_bytes(b"")
    return path


@pytest.mark.parametrize("suffix", [".txt", ".pts", ".npy", ".json", ".mat"])
@pytest.mark.parametrize("kind", ["bytes", "empty"])
def test_damaged_files_get_one_sentence_that_names_them(tmp_path, suffix, kind):
    path = damaged(tmp_path / f"bad{suffix}", kind)
    with pytest.raises(InputError) as error:
        read_landmarks(path)
    assert "bad" + suffix in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".txt", ".npy", ".json"])
@pytest.mark.parametrize("kind, words", [("count", "60"), ("few", "3 of 68"), ("infinite", "infinite")])
def test_wrong_points_get_one_sentence_that_says_what_is_wrong(tmp_path, suffix, kind, words):
    with pytest.raises(InputError, match=words):
        read_landmarks(damaged(tmp_path / f"bad{suffix}", kind))


def test_no_code_of_a_pickled_array_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    np.save(tmp_path / "a.npy", np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(InputError, match="a.npy"):
        read_landmarks(tmp_path / "a.npy")


def test_missing_files_and_other_kinds(tmp_path):
    with pytest.raises(InputError, match="no such"):
        read_landmarks(tmp_path / "a.txt")
    (tmp_path / "a.lm").write_text("1,2")
    with pytest.raises(InputError, match=".mat"):
        read_landmarks(tmp_path / "a.lm")
    savemat(tmp_path / "a.mat", {"other": POINTS})
    with pytest.raises(InputError, match="pt3d_68"):
        read_landmarks(tmp_path / "a.mat")


def test_text_that_is_not_numbers_names_its_line(tmp_path):
    (tmp_path / "a.txt").write_text("1 2\n3 four\n")
    with pytest.raises(InputError, match="line 2"):
        read_landmarks(tmp_path / "a.txt")


def test_landmarks_of_another_image_or_scale_are_noticed_and_a_few_outside_are_not():
    points = POINTS.astype(np.float32)
    points[:10] += 600
    points[11] = np.nan
    check_inside(points, (224, 224), "a.txt")
    for wrong in (points + 1000, POINTS / 224):
        with pytest.raises(InputError, match="224 x 224"):
            check_inside(wrong, (224, 224), "a.txt")


@pytest.mark.parametrize("points", ["five", "row", "numbered", "mediapipe", "unknown"])
def test_infinite_coordinates_are_refused_without_a_word_of_numpy(tmp_path, points):
    path = tmp_path / "a.json"
    if points == "five":
        names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
        path.write_text(json.dumps({"keypoints": {name: [1e999, 5.0 + k] for k, name in enumerate(names)}}))
    elif points == "row":
        path = tmp_path / "a.txt"
        path.write_text(" ".join(["inf 1", "inf 2"] * 34))
    elif points == "numbered":
        path = tmp_path / "a.txt"
        path.write_text("\n".join(f"inf {k} {k}" for k in range(68)))
    else:
        value = 1e999 if points == "mediapipe" else None
        path.write_text(json.dumps([[value, 1, 1]] * 478))
    with pytest.raises(InputError, match="infinite|at least 4 landmarks are needed"):
        read_landmarks(path, size=(9, 9))


def test_a_landmark_far_from_its_image_is_named():
    points = POINTS.copy()
    points[30] = [-40, 20_000]
    with pytest.raises(InputError, match=r"a.txt: landmark 31 of 68 lies at \(-40, 2e\+04\), far from the image"):
        check_inside(points, (224, 224), "a.txt")


# Files of the usual tools.


SMOOTH = np.stack([np.linspace(20, 90, 68), np.linspace(180, 40, 68) ** 1.01], -1).round(3)


def lines(form):
    return "\n".join(form.format(k=k, n=k + 1, x=x, y=y) for k, (x, y) in enumerate(POINTS))


def groups():
    """As face_recognition names them."""
    names = ("chin", "left_eyebrow", "right_eyebrow", "nose_bridge", "nose_tip", "left_eye", "right_eye")
    edges = (0, 17, 22, 27, 31, 36, 42, 48)
    out = {name: POINTS[a:b].tolist() for name, a, b in zip(names, edges, edges[1:])}
    return out | {
        "top_lip": POINTS[[48, 49, 50, 51, 52, 53, 54, 64, 63, 62, 61, 60]].tolist(),
        "bottom_lip": POINTS[[54, 55, 56, 57, 58, 59, 48, 60, 67, 66, 65, 64]].tolist(),
    }


POINT_LINES = {
    "numbered from 1": lines("{n} {x} {y}"),
    "numbered from 0": lines("{k} {x} {y}"),
    "numbered in another order": "\n".join(lines("{n} {x} {y}").splitlines()[::-1]),
    "numbered with colons": lines("{n}: {x}, {y}"),
    "number and depth": lines("{n} {x} {y} 0.0"),
    "numbered behind": lines("{x} {y} {n}"),
    "named": lines("p{n} {x} {y}"),
    "brackets": "[" + lines("({x}, {y}),") + "]",
    "semicolons and decimal commas": lines("{x};{y}").replace(".", ","),
    "the count first": "68\n" + lines("{x} {y}"),
    "header": "x,y\n" + lines("{x},{y}"),
    "header and number": "landmark,x,y\n" + lines("{n},{x},{y}"),
    "header with an index": ",X,Y\n" + lines("{k},{x},{y}"),
    "tabs and a comment": "# points\n" + lines("{x}\t{y}"),
    "one row": " ".join(f"{x} {y}" for x, y in POINTS),
    "one row with commas": ",".join(f"{x},{y}" for x, y in POINTS),
    "one row, first all x": " ".join(map(str, SMOOTH.T.ravel())),
    "columns": ",".join(f"x{k},y{k}" for k in range(68)) + "\n" + ",".join(f"{x},{y}" for x, y in POINTS),
    "columns from 1": ",".join(f"p_{k}_x,p_{k}_y" for k in range(1, 69))
    + "\n"
    + ",".join(f"{x},{y}" for x, y in POINTS),
    "iBUG's header": "version: 1\nn_points: 68\n{\n" + lines("{x} {y}") + "\n}\n",
}


@pytest.mark.parametrize("suffix", [".txt", ".csv"])
@pytest.mark.parametrize("kind", POINT_LINES)
def test_lines_of_points_are_read_however_tools_write_them(tmp_path, kind, suffix):
    (tmp_path / f"a{suffix}").write_text(POINT_LINES[kind])
    expected = SMOOTH if kind.endswith("all x") else POINTS - (0.5 if kind.startswith("iBUG") else 0)
    np.testing.assert_allclose(read_landmarks(tmp_path / f"a{suffix}").points, expected, atol=1e-4)


@pytest.mark.parametrize("count", [21, 5])
def test_numbers_before_points_are_left_out_of_smaller_sets_too(tmp_path, count):
    (tmp_path / "a.txt").write_text("\n".join(lines("{n} {x} {y}").splitlines()[:count]))
    np.testing.assert_allclose(read_landmarks(tmp_path / "a.txt").points, POINTS[:count], atol=1e-4)


def test_some_numbered_points_have_their_places_where_the_numbers_tell_them(tmp_path):
    rows = lines("{n} {x} {y}").splitlines()
    (tmp_path / "a.txt").write_text("\n".join(rows[20:]))
    found = read_landmarks(tmp_path / "a.txt").points
    assert np.isnan(found[:20]).all()
    np.testing.assert_allclose(found[20:], POINTS[20:], atol=1e-4)
    (tmp_path / "a.txt").write_text("\n".join(rows[20:60]))  # from 0 or from 1?
    with pytest.raises(InputError, match="numbered 21, 22"):
        read_landmarks(tmp_path / "a.txt")


def test_a_scan_keeps_three_coordinates_with_a_number_before_them(tmp_path):
    points = np.random.default_rng(1).normal(size=(68, 3)).round(4)
    (tmp_path / "a.txt").write_text("\n".join(f"{k} {x} {y} {z}" for k, (x, y, z) in enumerate(points)))
    np.testing.assert_allclose(read_landmarks(tmp_path / "a.txt", 3).points, points, atol=1e-5)
    picked = "".join(f'<point x="{x}" y="{y}" z="{z}" active="1" name="{k}"/>' for k, (x, y, z) in enumerate(points))
    (tmp_path / "a.pp").write_text(f"<!DOCTYPE PickedPoints><PickedPoints>{picked}</PickedPoints>")
    np.testing.assert_allclose(read_landmarks(tmp_path / "a.pp", 3).points, points, atol=1e-5)
    (tmp_path / "b.txt").write_text(lines("{n} {x} {y}"))
    with pytest.raises(InputError, match=r"\[L,3\]"):
        read_landmarks(tmp_path / "b.txt", 3)


def dicts(points):
    return [{"x": x, "y": y} for x, y in points]


@pytest.mark.parametrize(
    "content",
    [
        dicts(POINTS),
        {"landmarks": dicts(POINTS)},
        POINTS.ravel().tolist(),
        [POINTS.tolist()],
        {"faces": [{"landmarks": POINTS.tolist()}]},
        {str(k): p for k, p in enumerate(POINTS.tolist())},
        {str(k + 1): p for k, p in enumerate(POINTS.tolist())},
        {str(k): p for k, p in enumerate(dicts(POINTS))},
        {"x": POINTS[:, 0].tolist(), "y": POINTS[:, 1].tolist()},
        {"photo.jpg": POINTS.tolist(), "other.jpg": (POINTS + 9).tolist()},
        groups(),
        [groups()],
        {"people": [{"face_keypoints_2d": np.pad(POINTS, ((0, 2), (0, 1)), constant_values=1).ravel().tolist()}]},
    ],
)
def test_json_of_the_usual_tools(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content))
    np.testing.assert_allclose(read_landmarks(tmp_path / "a.json", photo="photo.jpg").points, POINTS, atol=1e-4)


@pytest.mark.parametrize(
    "names", ["left_eye right_eye nose mouth_left mouth_right", "right_eye left_eye nose mouth_right mouth_left"]
)
def test_five_named_points_are_ordered_by_place_whoever_left_and_right_belong_to(tmp_path, names):
    points = [[10, 10], [30, 12], [20, 20], [12, 30], [28, 31]]
    (tmp_path / "a.json").write_text(json.dumps({"keypoints": dict(zip(names.split(), points))}))
    np.testing.assert_allclose(read_landmarks(tmp_path / "a.json").points, points)


def imglab(*pictures):
    def box(points):
        parts = "".join(f"<part name='{k:02}' x='{x}' y='{y}'/>" for k, (x, y) in enumerate(points))
        return f"<box top='1' left='2' width='3' height='4'>{parts}</box>"

    images = "".join(f"<image file='in/{name}'>{''.join(map(box, faces))}</image>" for name, *faces in pictures)
    head = "<?xml version='1.0' encoding='UTF-8'?>\n<?xml-stylesheet type='text/xsl' href='a.xsl'?>\n"
    return f"{head}<dataset><name>faces</name><images>{images}</images></dataset>"


def test_xml_of_dlib_has_the_boxes_of_many_pictures(tmp_path):
    whole = POINTS.round()
    path = tmp_path / "faces.xml"
    path.write_text(imglab(("a.jpg", whole), ("b.jpg", whole + 7, whole + 9)))
    np.testing.assert_array_equal(read_landmarks(path, photo="a.jpg").points, whole + 0.5)
    assert [f.points[0, 0] - whole[0, 0] for f in read_faces(path, photo=tmp_path / "b.jpg")] == [7.5, 9.5]
    for photo, words in (("b.jpg", "2 faces"), ("c.jpg", "none is c.jpg"), (None, "2 pictures")):
        with pytest.raises(InputError, match=words):
            read_landmarks(path, photo=photo)


def test_a_table_has_the_faces_of_many_pictures(tmp_path):
    path, columns = tmp_path / "faces.csv", ",".join(f"x_{k},y_{k}" for k in range(68))
    rows = [("in/a.jpg", POINTS), ("C:\\in\\b.jpg", POINTS + 7), ("in/b.jpg", POINTS + 9)]
    path.write_text(f"filename,{columns}\n" + "".join(f"{n},{','.join(map(str, p.ravel()))}\n" for n, p in rows))
    np.testing.assert_allclose(read_landmarks(path, photo="a.jpg").points, POINTS, atol=1e-3)
    assert [round(float(f.points[0, 0] - POINTS[0, 0])) for f in read_faces(path, photo="b.jpg")] == [7, 9]
    for photo, words in (
        ("c.jpg", "2 pictures in the file, and none is c.jpg"),
        (None, "2 pictures in the file; keep"),
    ):
        with pytest.raises(InputError, match=words):
            read_landmarks(path, photo=photo)


def openface(*rows):
    header = "frame, face_id, timestamp, confidence, success, gaze_0_x, gaze_0_y, gaze_0_z, " + ", ".join(
        f"{name}_{k}"
        for name, n in (("eye_lmk_x", 56), ("eye_lmk_y", 56), ("x", 68), ("y", 68), ("X", 68), ("p_rx", 1))
        for k in range(n)
    )
    return (
        header
        + "\n"
        + "\n".join(
            f"{frame}, {k}, 0.0, 0.98, {success}, 0, 0, 1, "
            + ", ".join(map(str, [*[5.0] * 112, *points.T.ravel(), *[9] * 69]))
            for k, (frame, success, points) in enumerate(rows)
        )
    )


def test_csv_of_openface_has_a_line_for_each_face(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(openface((1, 1, POINTS), (1, 0, POINTS * 0)))
    np.testing.assert_allclose(read_landmarks(path).points, POINTS, atol=1e-4)
    path.write_text(openface((1, 1, POINTS), (1, 1, POINTS + 5)))
    np.testing.assert_allclose(read_faces(path)[1].points, POINTS + 5, atol=1e-4)
    path.write_text(openface((1, 1, POINTS), (2, 1, POINTS)))
    with pytest.raises(InputError, match="frames of a video"):
        read_faces(path)
    path.write_text(openface((1, 0, POINTS)))
    with pytest.raises(InputError, match="found no face"):
        read_faces(path)


@pytest.mark.parametrize("count", [468, 478])
@pytest.mark.parametrize("suffix", [".json", ".csv", ".npy"])
def test_points_of_mediapipe_become_the_usual_68_in_pixels(tmp_path, count, suffix):
    mesh = np.random.default_rng(2).uniform(0.2, 0.8, (count, 3)).round(6)
    path = tmp_path / f"a{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps({"faceLandmarks": [[dict(zip("xyz", p)) for p in mesh.tolist()]]}))
    elif suffix == ".csv":
        path.write_text("x,y,z\n" + "\n".join(",".join(map(str, p)) for p in mesh))
    else:
        np.save(path, mesh)
    found = read_landmarks(path, size=(100, 200))
    np.testing.assert_allclose(found.points, mesh[list(MEDIAPIPE_68), :2] * [200, 100], atol=1e-3)
    assert found.contour == "static"
    with pytest.raises(InputError, match="shares of a picture"):
        read_landmarks(path)


def test_the_correspondence_with_mediapipe_names_each_point_once_and_mirrors_the_lips():
    assert len(set(MEDIAPIPE_68)) == 68 and max(MEDIAPIPE_68) < 468
    assert [MEDIAPIPE_68[k] for k in (36, 39, 42, 45, 48, 54)] == [33, 133, 362, 263, 61, 291]  # corners


def test_landmarks_of_our_own_npz_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", landmarks=POINTS[None], identity=np.zeros((1, 3)))
    np.testing.assert_allclose(read_landmarks(tmp_path / "a.npz").points, POINTS, atol=1e-4)


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.csv", "a,b\n1,2\n", "columns x and y"),
        ("a.csv", "x,y\n1,two\n", "line 2"),
        ("a.txt", lines("{n} {x} {y}").replace("\n3 ", "\n4 "), "numbered 1, 2, 4"),
        ("a.txt", " ".join(["1"] * 130), "136"),
        ("a.txt", "eye 1 2\near 3 4\nnose 5 6\n", "by name"),
        ("a.json", "[" * 100000, "JSON"),
        ("a.json", '{"a": {"b": 1}}', "by iBUG"),
        ("a.json", json.dumps({str(k): [1, 2] for k in range(69)}), "number 68"),
        ("a.json", '{"36": [1, 2], "37": [1, 2, 3], "38": [1, 1]}', "two coordinates"),
        ("a.xml", "<dataset></dataset>", "<part"),
        ("a.xml", "<!DOCTYPE d [<!ENTITY a 'b'>]><dataset>&a;</dataset>", "entities"),
        ("a.xml", "<dataset><part name='0' x='q' y='1'/></dataset>", "<part"),
        ("a.pts", "1 2\n3 4\n", "braces|{"),
    ],
)
def test_what_is_not_understood_is_one_sentence_that_says_what_is_expected(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words) as error:
        read_landmarks(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)
