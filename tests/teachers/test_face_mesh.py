"""MediaPipe's face mesh: the packed npm package, and crops in which a face stands upright."""

import json

import numpy as np
import pytest

from facemodels import InputError
from facemodels.teachers import face_mesh
from facemodels.teachers.face_mesh import DATA, GET, POINTS, SIZE, TABLE, load_network, predict_mesh


def pack(folder, content=b"network", end=None, name="/third_party/face_landmark.tflite"):
    """The two files of the npm package, with a network of any bytes behind five others."""
    folder.mkdir(parents=True)
    (folder / DATA).write_bytes(b"other" + content)
    files = [{"filename": "/a/other.tflite", "start": 0, "end": 5}]
    files.append({"filename": name, "start": 5, "end": 5 + len(content) if end is None else end})
    (folder / TABLE).write_text(f'loadPackage({{"files": {json.dumps(files)}, "size": 12}});')
    return folder


def test_the_network_is_found_in_the_packed_package_as_npm_unpacks_it_and_alone(tmp_path):
    folder = pack(tmp_path / "got" / "package")
    (tmp_path / "alone.tflite").write_bytes(b"alone")
    assert face_mesh._network_file(folder) == face_mesh._network_file(tmp_path / "got") == b"network"
    assert face_mesh._network_file(tmp_path / "alone.tflite") == b"alone"


def test_what_is_no_such_package_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="expected the npm package @mediapipe/face_mesh, with .*npm pack"):
        load_network(tmp_path)
    assert GET.startswith("npm pack")
    with pytest.raises(InputError, match="a file that is cut off"):
        load_network(pack(tmp_path / "cut", end=99))
    with pytest.raises(InputError, match="expected a table of packed files with face_landmark.tflite, found none"):
        load_network(pack(tmp_path / "other", name="/third_party/else.tflite"))


def test_a_file_that_is_no_network_is_one_sentence(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert (extra: teacher) is not installed")
    with pytest.raises(InputError, match="expected MediaPipe's face_landmark.tflite, found another file"):
        load_network(pack(tmp_path / "bytes"))


@pytest.mark.parametrize("lean", [0.0, 0.6, -2.0])
def test_points_come_back_to_where_they_are_in_the_picture(lean):
    """The network says where the brightest pixel is, and that the face is upright: chin below, brows above."""
    face = np.zeros((68, 2))
    face[:17] = np.stack([np.linspace(-40, 40, 17), 30 - np.linspace(-1, 1, 17) ** 2 * 50], 1)
    face[17:27] = np.stack([np.linspace(-30, 30, 10), np.full(10, -40)], 1)
    turn = np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]])
    landmarks = face @ turn.T + (110, 90)
    spot = (turn @ (10, 20) + (110, 90)).round() + 0.5
    ys, xs = np.mgrid[:200, :220] + 0.5
    image = 255 * np.exp(-((xs - spot[0]) ** 2 + (ys - spot[1]) ** 2) / 18)
    seen = []

    def network(picture):
        y, x = np.unravel_index(picture[..., 0].argmax(), picture.shape[:2])
        seen.append((x, y))
        return np.tile([x + 0.5, y + 0.5, 6.0], (POINTS, 1)), 0.7

    found = predict_mesh(network, image.astype(np.uint8)[None, :, :, None].repeat(3, 3), landmarks[None])
    unit = np.ptp(face, axis=0).max() * face_mesh.AROUND / SIZE  # pixels of the picture to one of the crop
    assert found.points.shape == (1, POINTS, 3) and np.abs(found.points[0, 0, :2] - spot).max() < 1.5 * unit
    assert found.points[0, 0, 2] == pytest.approx(-6 * unit, rel=1e-4) and found.score[0] == np.float32(0.7)
    center = SIZE / 2 + ((10, 20) - (face.min(0) + face.max(0)) / 2) / unit
    assert np.abs(seen[0] - center).max() < 3  # to the right and below, as in an upright face
