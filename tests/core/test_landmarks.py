"""Regions, correspondences and the mirrored order of the 68, 21 and 5 landmarks."""

import pytest
import torch

from facemodels import load_model
from facemodels.core import landmarks as L
from facemodels.core.landmarks import NAMES, landmark_means, mirror_order


@pytest.mark.parametrize("count", [68, 21, 5])
def test_mirroring_swaps_the_points_that_a_symmetric_face_swaps(count):
    """The mean face of the model says which these are."""
    model = load_model("builtin")
    points = (
        landmark_means(count)
        @ model.landmarks(model.shape(torch.zeros(1, model.num_identity), torch.zeros(1, model.num_expression)))[0]
    )
    table = list(mirror_order(count))
    torch.testing.assert_close(points[table] * torch.tensor([-1.0, 1, 1]), points, rtol=0, atol=0.3)
    assert sorted(table) == list(range(count)) and [table[k] for k in table] == list(range(count))
    assert len(set(NAMES[count])) == count
    with pytest.raises(ValueError, match="68, 21, 5 points, got 7"):
        mirror_order(7)


def test_regions_part_the_68_landmarks_and_hold_what_their_names_say():
    parts = ("CONTOUR", "RIGHT_BROW", "LEFT_BROW", "NOSE_BRIDGE", "NOSTRILS", "RIGHT_EYE", "LEFT_EYE", "OUTER_LIPS")
    together = [k for part in (*parts, "INNER_LIPS") for k in L.indices(getattr(L, part))]
    assert together == list(range(68)) and L.indices(L.INNER) == tuple(range(L.NUM_CONTOUR, 68))
    words = {
        "CONTOUR": ("jaw", "chin"),
        "BROWS": ("brow",),
        "NOSE": ("nose", "nostril"),
        "RIGHT_EYE": ("eye",),
        "LEFT_EYE": ("eye",),
        "MOUTH": ("mouth", "lip", "inside"),
    }
    for region, prefixes in words.items():
        names = [NAMES[68][k] for k in L.indices(getattr(L, region))]
        assert all(name.startswith(prefixes) for name in names)
        assert len(names) == sum(name.startswith(prefixes) for name in NAMES[68]) or region.endswith("EYE")
    for region, side in (("RIGHT_BROW", "right"), ("RIGHT_EYE", "right"), ("LEFT_BROW", "left"), ("LEFT_EYE", "left")):
        assert all(NAMES[68][k].endswith(side) for k in L.indices(getattr(L, region)))


def test_single_points_have_the_names_of_their_constants():
    names = {
        "CHIN": "chin",
        "NOSE_TIP": "nose_tip",
        "NOSE_BASE": "nose_base",
        "RIGHT_EYE_OUTER": "eye_outer_right",
        "RIGHT_EYE_INNER": "eye_inner_right",
        "LEFT_EYE_INNER": "eye_inner_left",
        "LEFT_EYE_OUTER": "eye_outer_left",
        "RIGHT_MOUTH_CORNER": "mouth_corner_right",
        "LEFT_MOUTH_CORNER": "mouth_corner_left",
    }
    assert {constant: NAMES[68][getattr(L, constant)] for constant in names} == names


@pytest.mark.parametrize("count", [68, 21])
def test_five_points_are_the_same_places_whichever_set_they_come_from(count):
    """The five of a set of landmarks, which are means of the 68 themselves, lie where the five of the 68 lie."""
    points = torch.randn(68, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # One place for an eye: AFLW's three points of an eye weigh its corners more than the mean of the six does.
    points[L.RIGHT_EYE], points[L.LEFT_EYE] = points[L.RIGHT_EYE_OUTER].clone(), points[L.LEFT_EYE_OUTER].clone()
    own = landmark_means(count).double() @ points
    five = torch.stack([own[list(group)].mean(0) for group in L.FIVE_OF[count]])
    torch.testing.assert_close(five, landmark_means(5).double() @ points)
    torch.testing.assert_close(five, L.five_points(points[None])[0])
