"""The Surrey model's own: expressions and landmarks from the files beside it."""

import struct

import numpy as np

from tests.models.files import (
    EMPTY,
    cereal_components,
    cereal_list,
    cereal_matrix,
    cereal_text,
)


def test_surrey_expressions_and_landmarks_come_from_the_files_beside_it(tmp_path, monkeypatch):
    from facemodels.models.formats import surrey as reader

    # The side files belong to 3,448 vertices: a strip of that many.
    count = 3448
    mean = np.stack([np.arange(count) % 8, np.arange(count) // 8, np.zeros(count)], -1).astype(float)
    random = np.random.default_rng(0)
    identity, offsets = random.normal(size=(2, count, 3)), random.normal(size=(2, count, 3)).astype(np.float32)
    raw = (
        struct.pack("<I", 1)
        + cereal_components(mean, identity, [[0, 1, 8]])
        + EMPTY
        + cereal_list(np.array([[0.25, 0.75]] * count), "<f8")
    )
    (tmp_path / "sfm_shape_3448.bin").write_bytes(raw)
    blendshapes = struct.pack("<Q", 2) + b"".join(
        cereal_text(n) + cereal_matrix(o.reshape(-1, 1)) for n, o in zip(("anger", "fear"), offsets)
    )
    (tmp_path / "expression_blendshapes_3448.bin").write_bytes(blendshapes)
    mapping = "; comment\n[landmark_mappings]\n  9 =    33  # chin\n 31   114 ; nose-tip (3)\n#61 = 5\n"
    (tmp_path / "ibug_to_sfm.txt").write_text(mapping + "[contour_landmarks]\nright = [  1,\n 2 ]\n{\n\t1\n\t2\n}\n")
    data = reader.read_surrey(tmp_path / "sfm_shape_3448.bin")
    assert data.expression_names == ("anger", "fear") and data.blendshapes
    np.testing.assert_array_equal(data.expression, offsets)
    has = np.flatnonzero(data.landmark_weights.sum(1))
    assert has.tolist() == [8, 30] and data.landmark_index[has, 0].tolist() == [33, 114]
    assert (data.uv == [0.25, 0.25]).all()  # eos counts v from the top
