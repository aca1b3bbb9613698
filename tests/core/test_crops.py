"""Crops of photographs: pixels, their places, and boxes that cannot be cropped."""

import numpy as np
import pytest

from facemodels.core import crops
from facemodels.core.crops import cut, cut_rotated, from_crop, landmark_box, to_crop
from tests.data.pictures import light_center, spots
from tests.stub_method import ramps


def test_a_box_on_whole_pixels_is_cut_without_a_change():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    assert np.array_equal(cut(image, (10, 20, 40, 50), 30), image[20:50, 10:40])


def test_outside_the_image_is_black():
    image = np.full((40, 50, 3), 200, np.uint8)
    crop = cut(image, (-10, -20, 60, 50), 70)
    assert np.array_equal(crop[20:60, 10:60], image)
    assert crop[:20].max() == crop[60:].max() == crop[:, :10].max() == crop[:, 60:].max() == 0
    assert cut(image, (100, 100, 120, 120), 16).max() == 0
    assert cut(image, (0, 0, 50, 40), 17).min() == 200  # and within it no black is mixed in


@pytest.mark.parametrize("size", [40, 150])
def test_a_dot_lies_in_the_crop_where_to_crop_says(size):
    """Shrunk and enlarged, in a box that is on no pixel and reaches out of the image."""
    points = np.array([[40.3, 55.8], [70.0, 20.5], [85.2, 90.1]])
    box = (21.7, 8.3, 105.9, 103.6)
    crop, there = cut(spots(points, radius=4), box, size), to_crop(points, box, size)
    for point in there:
        np.testing.assert_allclose(light_center(crop, point, 12 * size / 90), point, atol=0.06)
    np.testing.assert_allclose(from_crop(there, box, size), points, atol=1e-9)
    assert (
        to_crop(points.astype(np.float32), box, size).dtype == np.float32
        and to_crop(points.round().astype(int), box, size).dtype == np.float64
    )


def test_fine_stripes_become_gray_when_they_shrink_instead_of_other_stripes():
    image = np.repeat(((np.arange(400) % 4 < 2) * 255).astype(np.uint8)[None, :, None], 400, 0).repeat(3, 2)
    crop = cut(image, (3.3, 0, 397.1, 393.8), 50)
    assert np.abs(crop[5:-5, 5:-5].astype(float) - 127.5).max() < 12


@pytest.mark.parametrize("box", [(21.7, 8.3, 105.9, 92.5), (-30, -40.5, 200, 189.5), (0, 0, 120, 120)])
def test_a_box_that_is_done_in_bands_of_rows_is_cut_as_the_whole_one_is(monkeypatch, box):
    image = np.random.default_rng(2).integers(0, 256, (120, 130, 3), np.uint8)
    whole = cut(image, box, 50), cut_rotated(image, box, 50, 0.4)
    monkeypatch.setattr(crops, "_WHOLE", 0)
    monkeypatch.setattr(crops, "_BAND", 700)
    for a, b in zip(whole, (cut(image, box, 50), cut_rotated(image, box, 50, 0.4))):
        assert np.abs(a.astype(int) - b).max() <= 1


def test_a_box_far_larger_than_its_image_is_cut():
    crop = cut(np.full((600, 600, 3), 200, np.uint8), (-15_700, -15_700, 16_300, 16_300), 32)
    assert crop[0].max() == crop[-1].max() == 0 and crop.max() > 5


def test_the_landmark_box_is_that_of_3ddfa():
    x0, y0, x1, y1 = landmark_box(np.array([[10.0, 20.0], [30.0, 60.0], [np.nan, 500.0]]))
    side = 40 * np.sqrt(2)
    np.testing.assert_allclose([x0, y0, x1, y1], [20 - side / 2, 40 - side / 2, 20 + side / 2, 40 + side / 2])


@pytest.mark.parametrize("box", [(10, 10, 10, 20), (np.nan, 0, 1, 1), (0, 0, 1e9, 1e9), (20, 0, 10, 5)])
def test_a_box_that_cannot_be_cut_is_refused(box):
    with pytest.raises(ValueError, match="box"):
        cut(np.zeros((30, 30, 3), np.uint8), box, 10)


@pytest.mark.parametrize("points", [[[np.nan, 1.0]], [[2.0, 3.0], [2.0, 3.0]]])
def test_a_box_around_fewer_than_two_points_is_refused(points):
    with pytest.raises(ValueError, match="two different points"):
        landmark_box(np.array(points))


def test_a_crop_goes_back_where_it_came_from():
    picture, box = ramps(), (100.0, 60.0, 200.0, 160.0)
    assert cut(picture, box, 50).shape == (50, 50, 3)
    assert np.allclose(to_crop(np.array([150.0, 110.0]), box, 50), 25)
