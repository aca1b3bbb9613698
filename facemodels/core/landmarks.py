"""Landmarks of faces: the 68 of iBUG in Multi-PIE's order, the 21 of AFLW, and five.

Everything that depends on what a landmark's number means is here: regions, single points, the correspondences between
the three sets, mirroring, and the lines to draw. `facemodels.core.contour` has the geometry of the contour.

Right and left are the subject's: the right eye lies on the left of a picture. Numbers count from 0.

Sources: 68 points, Sagonas et al. 2013 (300-W); 21 points, Köstinger et al. 2011 (AFLW); the correspondence of the two,
the benchmark of 3DDFA (Zhu et al. 2016).
"""

import functools

import torch
from torch import Tensor

from facemodels.core.errors import InputError

COUNTS = (68, 21, 5)

# ---------------------------------------------------------------------- the 68
NUM_LANDMARKS = 68
NUM_CONTOUR = 17

# Regions.
CONTOUR = slice(0, 17)  # along the jaw, from the right ear to the left
INNER = slice(17, 68)  # all but the contour
BROWS = slice(17, 27)
RIGHT_BROW = slice(17, 22)
LEFT_BROW = slice(22, 27)
NOSE = slice(27, 36)
NOSE_BRIDGE = slice(27, 31)  # from the root to the tip
NOSE_RIDGE = slice(28, 31)  # the bridge without the root
NOSTRILS = slice(31, 36)
RIGHT_EYE = slice(36, 42)
LEFT_EYE = slice(42, 48)
MOUTH = slice(48, 68)
OUTER_LIPS = slice(48, 60)
INNER_LIPS = slice(60, 68)

# Single points.
CHIN = 8
NOSE_TIP = 30
NOSE_BASE = 33  # where the nose meets the philtrum
RIGHT_EYE_OUTER, RIGHT_EYE_INNER, LEFT_EYE_INNER, LEFT_EYE_OUTER = 36, 39, 42, 45  # corners
RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER = 48, 54

# The outer corners of the eyes and those of the mouth: their mean lies behind the nose.
OUTER_CORNERS = (RIGHT_EYE_OUTER, LEFT_EYE_OUTER, RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER)
# The seven that NoW and REALY align by.
SEVEN = (
    RIGHT_EYE_OUTER,
    RIGHT_EYE_INNER,
    LEFT_EYE_INNER,
    LEFT_EYE_OUTER,
    NOSE_BASE,
    RIGHT_MOUTH_CORNER,
    LEFT_MOUTH_CORNER,
)


def indices(region: slice) -> tuple[int, ...]:
    """The numbers of the landmarks in a region."""
    return tuple(range(NUM_LANDMARKS))[region]


# Which of the 68 are joined when they are drawn, and whether the line is closed.
LANDMARK_LINES = (
    (indices(CONTOUR), False),
    (indices(RIGHT_BROW), False),
    (indices(LEFT_BROW), False),
    (indices(NOSE_BRIDGE), False),
    (indices(NOSTRILS), False),
    (indices(RIGHT_EYE), True),
    (indices(LEFT_EYE), True),
    (indices(OUTER_LIPS), True),
    (indices(INNER_LIPS), True),
)

# ------------------------------------- the other sets, each point by the landmarks of the 68 whose mean it is
# AFLW's, in AFLW's order. The lobes of the ears are not among the 68; the contour is a rough stand-in.
AFLW_21 = (
    *((17,), (19,), (21,)),  # right brow: outer end, middle, inner end
    *((22,), (24,), (26,)),  # left brow: inner end, middle, outer end
    *((RIGHT_EYE_OUTER,), indices(RIGHT_EYE), (RIGHT_EYE_INNER,)),
    *((LEFT_EYE_INNER,), indices(LEFT_EYE), (LEFT_EYE_OUTER,)),
    (2,),  # lobe of the right ear
    *((31,), (NOSE_TIP,), (35,)),  # right nostril, tip, left nostril
    (14,),  # lobe of the left ear
    *((RIGHT_MOUTH_CORNER,), indices(INNER_LIPS), (LEFT_MOUTH_CORNER,)),
    (CHIN,),
)
EAR_LOBES = (12, 16)  # of the 21

# Eyes, tip of the nose, corners of the mouth; right before left. An eye is the mean of its six points.
FIVE = (indices(RIGHT_EYE), indices(LEFT_EYE), (NOSE_TIP,), (RIGHT_MOUTH_CORNER,), (LEFT_MOUTH_CORNER,))
# The same five from the points of each set.
FIVE_OF = {
    68: FIVE,
    21: ((6, 7, 8), (9, 10, 11), (14,), (17,), (19,)),
    5: ((0,), (1,), (2,), (3,), (4,)),
}

# 2DASL's 18 points (Tu et al. 2019): AFLW's 21 without the lobes of the ears and the chin. Here the middle of an eye or
# of the mouth is the mean of two points.
EIGHTEEN = (
    *((17,), (19,), (21,)),
    *((22,), (24,), (26,)),
    *((RIGHT_EYE_OUTER,), (37, 40), (RIGHT_EYE_INNER,)),
    *((LEFT_EYE_INNER,), (43, 46), (LEFT_EYE_OUTER,)),
    *((31,), (NOSE_TIP,), (35,)),
    *((RIGHT_MOUTH_CORNER,), (62, 66), (LEFT_MOUTH_CORNER,)),
)
EIGHTEEN_OF_AFLW = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 17, 18, 19)  # their numbers among the 21

# ----------------------------------------------------------- names of the points
_IBUG = """
jaw_0_right jaw_1_right jaw_2_right jaw_3_right jaw_4_right jaw_5_right jaw_6_right jaw_7_right chin
jaw_7_left jaw_6_left jaw_5_left jaw_4_left jaw_3_left jaw_2_left jaw_1_left jaw_0_left
brow_0_right brow_1_right brow_2_right brow_3_right brow_4_right
brow_4_left brow_3_left brow_2_left brow_1_left brow_0_left
nose_bridge_0 nose_bridge_1 nose_bridge_2 nose_tip
nostril_outer_right nostril_inner_right nose_base nostril_inner_left nostril_outer_left
eye_outer_right eye_upper_outer_right eye_upper_inner_right
eye_inner_right eye_lower_inner_right eye_lower_outer_right
eye_inner_left eye_upper_inner_left eye_upper_outer_left
eye_outer_left eye_lower_outer_left eye_lower_inner_left
mouth_corner_right lip_upper_outer_right lip_upper_inner_right lip_upper lip_upper_inner_left lip_upper_outer_left
mouth_corner_left lip_lower_outer_left lip_lower_inner_left lip_lower lip_lower_inner_right lip_lower_outer_right
mouth_inside_right inside_upper_right inside_upper inside_upper_left
mouth_inside_left inside_lower_left inside_lower inside_lower_right
"""
_AFLW = """
brow_outer_right brow_right brow_inner_right brow_inner_left brow_left brow_outer_left
eye_outer_right eye_right eye_inner_right eye_inner_left eye_left eye_outer_left
ear_right nose_right nose_tip nose_left ear_left mouth_right mouth mouth_left chin
"""
# Number of points -> their names.
NAMES = {
    68: tuple(_IBUG.split()),
    21: tuple(_AFLW.split()),
    5: ("eye_right", "eye_left", "nose_tip", "mouth_right", "mouth_left"),
}
_OTHER_SIDE = {"left": "right", "right": "left"}


def mirror_order(count: int) -> tuple[int, ...]:
    """For each landmark, the number of the one that takes its place in a mirrored picture.

    The landmarks of the mirrored picture are ``mirrored[:, mirror_order(68)]``, where ``mirrored`` are the landmarks
    [N,68,D] with their x mirrored.

    Args:
        count: 68 (iBUG), 21 (AFLW) or 5.

    Raises:
        ValueError: another number of points.
    """
    if count not in NAMES:
        raise ValueError(f"landmarks are {', '.join(map(str, NAMES))} points, got {count}")
    names = NAMES[count]
    parts = (name.rpartition("_") for name in names)
    return tuple(names.index(stem + bar + _OTHER_SIDE.get(side, side)) for stem, bar, side in parts)


def check_count(count: int) -> None:
    """Check that a face has as many landmarks as one of the known sets.

    Raises:
        InputError: It has not.
    """
    if count not in COUNTS:
        raise InputError(f"landmarks must be 68 (iBUG), 21 (AFLW) or 5 points, got {count}")


def landmark_means(count: int) -> Tensor:
    """The matrix [count,68] that takes the 68 landmarks to a set of 68, 21 or 5: each point is a mean of some of them.

    Raises:
        InputError: another number of points.
    """
    check_count(count)
    every = tuple((k,) for k in range(NUM_LANDMARKS))
    groups = {NUM_LANDMARKS: every, len(AFLW_21): AFLW_21, len(FIVE): FIVE}[count]
    rows = torch.zeros(count, NUM_LANDMARKS)
    for row, group in zip(rows, groups):
        row[list(group)] = 1 / len(group)
    return rows


def five_points(landmarks: Tensor) -> Tensor:
    """Eyes, tip of the nose and corners of the mouth, [N,5,D], of 68 landmarks [N,68,D].

    An eye is here the middle between its corners, as where face recognition aligns its crops; `FIVE` takes the mean of
    six points.
    """
    corners = ((RIGHT_EYE_OUTER, RIGHT_EYE_INNER), (LEFT_EYE_INNER, LEFT_EYE_OUTER))
    eyes = [landmarks[:, [a, b]].mean(1) for a, b in corners]
    others = (NOSE_TIP, RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER)
    return torch.stack([*eyes, *(landmarks[:, k] for k in others)], 1)


def eighteen_points(landmarks: Tensor) -> Tensor:
    """2DASL's 18 points [N,18,D] of 68 (iBUG) or 21 (AFLW) landmarks [N,L,D].

    Raises:
        InputError: another number of landmarks.
    """
    if landmarks.shape[1] not in (68, 21):
        raise InputError(f"2DASL takes 68 or 21 landmarks, got {landmarks.shape[1]}")
    one, other = _eighteen_ends(landmarks.shape[1], landmarks.device)
    return (landmarks[:, one] + landmarks[:, other]) / 2


@functools.cache
def _eighteen_ends(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The two landmarks, [18] and [18], in whose middle each point lies; often the same one."""
    groups = EIGHTEEN if count == 68 else [(k,) for k in EIGHTEEN_OF_AFLW]
    return (
        torch.tensor([group[0] for group in groups], device=device),
        torch.tensor([group[-1] for group in groups], device=device),
    )


def center_depth(points: Tensor) -> Tensor:
    """Points [N,P,2] or [N,P,3], with depths relative to their mean: a picture does not say where depth is zero.

    NaN do not count in the mean.
    """
    return torch.cat([points[..., :2], points[..., 2:] - points[..., 2:].nanmean(1, keepdim=True)], -1)
