"""core.landmarks: TODO."""

import functools

import numpy as np
import torch
from torch import Tensor

from facemodels.core.errors import InputError

NUM_LANDMARKS = 68


NUM_CONTOUR = 17  # the first of them, along the jaw from the subject's right ear to the left


def moving_contour(vertices: Tensor, lines: Tensor, rotation: Tensor) -> Tensor:
    """The face contour as it is seen: on each line of candidates the one that lies farthest outwards in the image ("landmark marching",
    Zhu et al. 2015).

    vertices [N,V,3]; lines [17,K] vertex indices, each from its static landmark (first) forwards over the cheek, padded by repetition;
    rotation [N,3,3] of the head -> chosen vertices int64 [N,17]. Outwards is away from the middle of the static contour, per landmark. Not
    differentiable itself: the coordinates of the chosen vertices are.
    """
    seen = vertices.detach()[:, lines.long()].float() @ rotation.detach().float()[:, None].transpose(
        -1, -2
    )  # [N,17,K,3]
    static = seen[:, :, 0, :2]
    outwards = static - static.mean(1, keepdim=True)
    outwards = torch.nn.functional.normalize(_level(outwards, rotation), dim=-1)
    choice = (seen[..., :2] * outwards[:, :, None]).sum(-1).argmax(-1)  # the first of equals: the static one
    return lines.long()[torch.arange(lines.shape[0], device=lines.device), choice]


def _level(outwards, rotation):
    """Keeps the outward directions' side: seen in profile, the static contour of the far side lies across the middle."""
    right = rotation[:, :2, 0].float()[:, None]  # where the head's x axis points in the image
    side = outwards.new_tensor([-1.0] * 8 + [0.0] + [1.0] * 8)[:, None]
    flat = (right / right.norm(dim=-1, keepdim=True).clamp(min=1e-6)) * side * outwards.norm(dim=-1, keepdim=True)
    along = (outwards * right).sum(-1, keepdim=True) * side
    return torch.where(
        along > 0,
        outwards,
        flat
        + (
            outwards
            - (outwards * flat).sum(-1, keepdim=True) * flat / (flat * flat).sum(-1, keepdim=True).clamp(min=1e-6)
        ),
    )


def contour_lines(
    mean: np.ndarray, faces: np.ndarray, landmark_index: np.ndarray, landmark_weights: np.ndarray, candidates: int = 16
) -> np.ndarray:
    """Lines of candidates for `moving_contour`, int32 [17,K], from the mean face alone.

    Each line starts at its static landmark and runs forwards over the face in the half plane through the landmark and the axis along z
    behind the nose, to half the landmark's distance from the axis. Candidates are the outermost vertices nearest to that half plane.
    """
    points = (mean[landmark_index] * landmark_weights[..., None]).sum(1)
    centre = points[[36, 45, 48, 54]].mean(0)  # eye and mouth corners
    front = np.unique(faces)
    xyz = mean[front] - centre
    polar = np.stack([np.hypot(xyz[:, 0], xyz[:, 1]), np.arctan2(xyz[:, 1], xyz[:, 0])], -1)
    lines = np.empty((NUM_CONTOUR, candidates), np.int32)
    for k in range(NUM_CONTOUR):
        p = points[k] - centre
        radius, angle = np.hypot(p[0], p[1]), np.arctan2(p[1], p[0])
        first = landmark_index[k][landmark_weights[k].argmax()]
        line = [first]
        for r in np.linspace(1, 0.5, candidates)[1:]:
            # In the half plane at this distance from the axis: the foremost vertex within a narrow window.
            off = np.abs(np.angle(np.exp(1j * (polar[:, 1] - angle)))) * polar[:, 0]
            window = np.hypot(off, polar[:, 0] - r * radius)
            near = window < max(6.0, np.partition(window, 3)[3])
            chosen = np.flatnonzero(near)[xyz[near, 2].argmax()]
            line.append(front[chosen] if xyz[chosen, 2] >= mean[line[-1], 2] - centre[2] - 2 else line[-1])
        lines[k] = line
    return lines


# AFLW's 21 points as means of iBUG's, in AFLW's order (the 3DDFA benchmark's correspondence, here 0-based): brows left, middle, right twice, eyes
# likewise, ear lobe, nose, ear lobe, mouth left, middle, right, chin; left as seen in the image.
AFLW_21 = (
    (17,),
    (19,),
    (21,),
    (22,),
    (24,),
    (26,),
    (36,),
    tuple(range(36, 42)),
    (39,),
    (42,),
    tuple(range(42, 48)),
    (45,),
)


AFLW_21 += ((2,), (31,), (30,), (35,), (14,), (48,), tuple(range(60, 68)), (54,), (8,))


EAR_LOBES = (12, 16)  # of these; the contour point below is a rough stand-in


FIVE = (tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,))


def landmark_means(count: int) -> Tensor:
    """[count,68]: each point of a set of 68, 21 or 5 as a mean of the 68."""
    groups = {NUM_LANDMARKS: [(k,) for k in range(NUM_LANDMARKS)], len(AFLW_21): AFLW_21, len(FIVE): FIVE}.get(count)
    if groups is None:
        raise InputError(f"landmarks must be 68 (iBUG), 21 (AFLW) or 5 points, got {count}")
    rows = torch.zeros(count, NUM_LANDMARKS)
    for row, group in zip(rows, groups):
        row[list(group)] = 1 / len(group)
    return rows


# "left" is left as seen in the picture.
_IBUG = """
jaw_0_left jaw_1_left jaw_2_left jaw_3_left jaw_4_left jaw_5_left jaw_6_left jaw_7_left chin
jaw_7_right jaw_6_right jaw_5_right jaw_4_right jaw_3_right jaw_2_right jaw_1_right jaw_0_right
brow_0_left brow_1_left brow_2_left brow_3_left brow_4_left brow_4_right brow_3_right brow_2_right brow_1_right brow_0_right
nose_bridge_0 nose_bridge_1 nose_bridge_2 nose_tip nostril_outer_left nostril_inner_left nose_base nostril_inner_right nostril_outer_right
eye_outer_left eye_upper_outer_left eye_upper_inner_left eye_inner_left eye_lower_inner_left eye_lower_outer_left
eye_inner_right eye_upper_inner_right eye_upper_outer_right eye_outer_right eye_lower_outer_right eye_lower_inner_right
mouth_corner_left lip_upper_outer_left lip_upper_inner_left lip_upper lip_upper_inner_right lip_upper_outer_right
mouth_corner_right lip_lower_outer_right lip_lower_inner_right lip_lower lip_lower_inner_left lip_lower_outer_left
mouth_inside_left inside_upper_left inside_upper inside_upper_right mouth_inside_right inside_lower_right inside_lower inside_lower_left
"""


_AFLW = """
brow_outer_left brow_left brow_inner_left brow_inner_right brow_right brow_outer_right
eye_outer_left eye_left eye_inner_left eye_inner_right eye_right eye_outer_right
ear_left nose_left nose_tip nose_right ear_right mouth_left mouth mouth_right chin
"""


NAMES = {
    68: tuple(_IBUG.split()),
    21: tuple(_AFLW.split()),
    5: ("eye_left", "eye_right", "nose_tip", "mouth_left", "mouth_right"),
}


OTHER_SIDE = {"left": "right", "right": "left"}


def mirror_order(count: int) -> tuple[int, ...]:
    """For each of 68 (iBUG), 21 (AFLW) or 5 points, the number of the one that it is in a mirrored picture: ``mirrored = points[:, left_right(68)]``.

    Raises:
        ValueError: another number of points.
    """
    if count not in NAMES:
        raise ValueError(f"landmarks are {', '.join(map(str, NAMES))} points, got {count}")
    names = NAMES[count]
    swapped = (name.rpartition("_") for name in names)
    return tuple(names.index(stem + bar + OTHER_SIDE.get(side, side)) for stem, bar, side in swapped)


COUNTS = (68, 21, 5)


# The 18 points of the landmark channel among iBUG's 68 (means where there are two), and their weights; AFLW's 21 less ears and chin.
EIGHTEEN = (
    (17,),
    (19,),
    (21,),
    (22,),
    (24,),
    (26,),
    (36,),
    (37, 40),
    (39,),
    (42,),
    (43, 46),
    (45,),
    (31,),
    (30,),
    (35,),
    (48,),
    (62, 66),
    (54,),
)


EIGHTEEN_OF_AFLW = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 17, 18, 19)


def eighteen_points(landmarks: Tensor) -> Tensor:
    """The 18 points [N,18,D] of 68 (iBUG) or 21 (AFLW) landmarks [N,L,D]."""
    if landmarks.shape[1] not in (68, 21):
        raise InputError(f"2DASL takes 68 or 21 landmarks, got {landmarks.shape[1]}")
    one, other = _places(landmarks.shape[1], landmarks.device)
    return (landmarks[:, one] + landmarks[:, other]) / 2


@functools.cache
def _places(count, device):
    """The two landmarks [18], [18] between which each point lies; often the same."""
    groups = EIGHTEEN if count == 68 else [(k,) for k in EIGHTEEN_OF_AFLW]
    return tuple(torch.tensor([group[k] for group in groups], device=device) for k in (0, -1))


def center_depth(points: Tensor) -> Tensor:
    """Points [N,P,2|3] with depths about their mean: where zero is, a picture does not show."""
    return torch.cat([points[..., :2], points[..., 2:] - points[..., 2:].nanmean(1, keepdim=True)], -1)


def five_points(landmarks: Tensor) -> Tensor:
    """Eyes (means of their corners), tip of the nose, corners of the mouth [N,5,D] of 68 landmarks [N,68,D] (iBUG)."""
    eyes = [landmarks[:, [a, b]].mean(1) for a, b in ((36, 39), (42, 45))]
    return torch.stack([*eyes, landmarks[:, 30], landmarks[:, 48], landmarks[:, 54]], 1)


# Which of the 68 landmarks are joined: contour, brows, nose, eyes, lips; closed or not.
LANDMARK_LINES = (
    (range(17), False),
    (range(17, 22), False),
    (range(22, 27), False),
    (range(27, 31), False),
    (range(31, 36), False),
)


LANDMARK_LINES += ((range(36, 42), True), (range(42, 48), True), (range(48, 60), True), (range(60, 68), True))


SEVEN = (
    36,
    39,
    42,
    45,
    33,
    48,
    54,
)  # of the 68: corners of the eyes, from the subject's right to the left, base of the nose, corners of the mouth


NOSE_TIP, RIGHT_EYE_OUTER, LEFT_EYE_OUTER = 30, 36, 45  # outer corners of the eyes


BROWS = slice(17, 27)  # among the landmarks
