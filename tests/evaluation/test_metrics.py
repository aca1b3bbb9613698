"""Landmark metrics by hand-worked numbers."""

import math

import numpy as np
import pytest

from facemodels.evaluation.metrics import by_yaw, cumulative_curve, failure_rate, nme, nme_3d


def corners(width, height):
    return np.array([[0, 0], [width, 0], [0, height], [width, height]], float)


def test_nme_is_the_mean_distance_relative_to_the_root_of_the_area_of_the_labels_box():
    labels = np.stack([corners(4, 9), corners(10, 10)])
    predicted = labels.copy()
    predicted[0, 0] -= (3, 4)  # 5 / 4 points / sqrt(36)
    predicted[1] += (0, 2)
    np.testing.assert_allclose(nme(predicted, labels), [100 * 5 / 4 / 6, 20])
    assert not np.allclose(nme(labels, predicted), nme(predicted, labels))  # the box is the labels'


def test_yaw_bins_contain_their_upper_ends_and_both_signs_and_the_last_is_open_above():
    yaw = np.array([0, -30, 30, 30.001, -60, 60.001, -89, 120])
    found = by_yaw(np.arange(8.0), yaw)
    assert [found[f"images_{b}"] for b in ("yaw_0_30", "yaw_30_60", "yaw_60_90")] == [3, 2, 3]
    assert [found[b] for b in ("yaw_0_30", "yaw_30_60", "yaw_60_90")] == [1.0, 3.5, 6.0]


def test_balanced_is_the_mean_of_the_bins_and_std_of_bins_their_population_deviation():
    found = by_yaw(np.array([1.0, 1, 1, 1, 2, 6]), np.array([0, 1, 2, 3, 40, 80]))
    assert found["balanced"] == 3 and found["plain"] == 2
    assert found["std_of_bins"] == pytest.approx(math.sqrt((4 + 1 + 9) / 3))


def test_mean_of_an_empty_bin_is_nan():
    found = by_yaw(np.array([1.0, 2]), np.array([0, 10]))
    assert math.isnan(found["yaw_30_60"]) and math.isnan(found["balanced"]) and found["plain"] == 1.5
    with pytest.raises(ValueError, match="NaN"):
        by_yaw(np.ones(2), np.array([0, np.nan]))


def test_both_depth_rules_remove_a_shift_and_differ_on_an_outlier():
    labels = np.concatenate([corners(10, 10), np.array([[0], [1], [2], [5.0]])], 1)[None]
    for rule in ("min_z", "mean_z"):
        np.testing.assert_allclose(nme_3d(labels + (0, 0, 100), labels, rule), 0, atol=1e-9)
    outlier = labels.copy()
    outlier[0, 0, 2] = -8  # min_z moves the three others by 8, mean_z all by a quarter
    np.testing.assert_allclose(nme_3d(outlier, labels, "min_z"), 100 * (3 * 8) / 4 / 10)
    np.testing.assert_allclose(nme_3d(outlier, labels, "mean_z"), 100 * (6 + 3 * 2) / 4 / 10)
    np.testing.assert_array_equal(outlier[0, :, 2], [-8, 1, 2, 5])  # and leaves what it is given
    with pytest.raises(ValueError, match="mean_z"):
        nme_3d(labels, labels, "none")


def test_nme_refuses_arrays_of_different_shapes():
    with pytest.raises(ValueError, match="N,L,2"):
        nme(np.ones((2, 68, 3)), np.ones((2, 68, 3)))
    with pytest.raises(ValueError, match="predicted and labels"):
        nme(np.ones((1, 68, 2)), np.ones((2, 68, 2)))


def test_nme_skips_points_without_a_label_and_may_be_normalized_by_other_points():
    labels = corners(4, 9)[None]
    predicted = labels + (3, 4)
    predicted[0, 3] += (3, 4)  # 10 away, but its label is not known
    labels[0, 3] = np.nan
    np.testing.assert_allclose(nme(predicted, labels), 100 * 5 / 6)
    np.testing.assert_allclose(nme(predicted, labels, corners(20, 5)[None]), 100 * 5 / 10)
    predicted[0, 0, 0] = np.nan
    assert np.isnan(nme(predicted, labels)).all(), "a prediction that is not a number is no good one"


def test_failure_rate_counts_errors_above_the_threshold_and_those_that_are_not_finite():
    assert failure_rate(np.array([1, 10, 10.1, np.nan]), 10) == 50


def test_cumulative_curve_counts_a_face_from_its_own_error_on():
    thresholds, share = cumulative_curve(np.array([0.0, 1, 1, 20]), 2, 5)
    np.testing.assert_array_equal(thresholds, [0, 0.5, 1, 1.5, 2])
    np.testing.assert_array_equal(share, [25, 25, 75, 75, 75])
