"""Faces predicted in photographs: crops, order, errors."""

import numpy as np
import pytest

from facemodels import InputError
from facemodels.core.crops import cut, from_crop, landmark_box
from facemodels.evaluation import scan_faces
from facemodels.evaluation.scan_faces import Photo, detector_box, reconstructions
from tests.evaluation.sphere_scans import SIZE, Stub


def test_detector_box_is_cropped_by_3ddfas_rule():
    np.testing.assert_allclose(detector_box(100, 200, 180, 320), (140 - 79, 260 + 14 - 79, 140 + 79, 260 + 14 + 79))
    with pytest.raises(ValueError, match="left < right"):
        detector_box(5, 0, 5, 9)


def test_faces_are_cropped_again_around_the_landmarks_that_are_predicted_first():
    image = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    boxes = [(20.0, 10.0, 148.0, 138.0), (100.0, 30.0, 260.0, 190.0)]
    stub = Stub([[1.0, 0], [2.0, 0]])
    found = list(reconstructions(stub, [Photo("a", image, boxes[0]), Photo("b", image, boxes[1])]))
    assert [f.identity.tolist() for f in found] == [[[1.0, 0.0]], [[2.0, 0.0]]]
    first, second = stub.crops
    points = stub.landmarks(first)[0, :, :2].numpy()
    for k, box in enumerate(boxes):
        np.testing.assert_array_equal((first[k] * 255).round().byte().permute(1, 2, 0).numpy(), cut(image, box, SIZE))
        again = landmark_box(from_crop(points, box, SIZE))
        assert np.abs(np.subtract(again, box)).max() > 5
        np.testing.assert_array_equal(
            (second[k] * 255).round().byte().permute(1, 2, 0).numpy(), cut(image, again, SIZE)
        )


def test_more_photos_than_a_batch_keep_their_order():
    image = np.zeros((50, 50, 3), np.uint8)
    count = 2 * scan_faces.BATCH + 1
    found = reconstructions(
        Stub([[float(k), 0] for k in range(count)]),
        (Photo(str(k), image, (0.0, 0.0, 50.0, 50.0)) for k in range(count)),
    )
    assert [float(f.identity[0, 0]) for f in found] == list(range(count))


def test_error_of_a_prediction_that_is_not_finite_names_the_photo():
    image = np.zeros((50, 50, 3), np.uint8)
    photos = [Photo(name, image, (0.0, 0.0, 50.0, 50.0)) for name in ("a.jpg", "b.jpg")]
    with pytest.raises(InputError, match="b.jpg: the prediction is not finite"):
        list(reconstructions(Stub([[0.0, 0], [float("nan"), 0]]), photos))
