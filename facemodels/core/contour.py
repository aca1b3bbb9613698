"""The contour landmarks of a posed head: "landmark marching" (Zhu et al., High-fidelity pose and expression
normalization, CVPR 2015).

In a photo that is not frontal, the 17 landmarks along the jaw lie on the outline of the face, not at fixed places of
the head. Each of them is therefore looked for on a line of candidate vertices, from the static landmark over the cheek.
"""

import numpy as np
import torch
from torch import Tensor

from facemodels.core.landmarks import NUM_CONTOUR, OUTER_CORNERS

_WINDOW = 6.0  # mm around a place on a line, within which the foremost vertex is its candidate
_BACKWARDS = 2.0  # mm that a candidate may lie behind the one before it


def moving_contour(vertices: Tensor, lines: Tensor, rotation: Tensor) -> Tensor:
    """Choose, on each line of candidates, the vertex that lies farthest outward in the picture.

    Outward is away from the mean of the static contour, for each landmark. The choice is not differentiable; the
    positions of the chosen vertices are.

    Args:
        vertices: [N,V,3].
        lines: [17,K] vertices, as `contour_lines` finds them.
        rotation: [N,3,3], of the head.

    Returns:
        The chosen vertices, int64 [N,17]; of equally far ones the first on the line.
    """
    candidates = vertices.detach()[:, lines.long()].float()
    posed = candidates @ rotation.detach().float()[:, None].transpose(-1, -2)  # [N,17,K,3]
    static = posed[:, :, 0, :2]
    outward = static - static.mean(1, keepdim=True)
    outward = torch.nn.functional.normalize(_keep_side(outward, rotation), dim=-1)
    choice = (posed[..., :2] * outward[:, :, None]).sum(-1).argmax(-1)
    return lines.long()[torch.arange(lines.shape[0], device=lines.device), choice]


def _keep_side(outward: Tensor, rotation: Tensor) -> Tensor:
    """Keep each outward direction [N,17,2] on its landmark's side of the head.

    In profile, the static contour of the far side lies across the mean; its direction would point the wrong way.
    """
    right = rotation[:, :2, 0].float()[:, None]  # where the head's x axis points in the picture
    side = outward.new_tensor([-1.0] * 8 + [0.0] + [1.0] * 8)[:, None]
    flat = (right / right.norm(dim=-1, keepdim=True).clamp(min=1e-6)) * side * outward.norm(dim=-1, keepdim=True)
    along = (outward * right).sum(-1, keepdim=True) * side
    off = (outward * flat).sum(-1, keepdim=True) * flat / (flat * flat).sum(-1, keepdim=True).clamp(min=1e-6)
    return torch.where(along > 0, outward, flat + (outward - off))


def contour_lines(
    mean: np.ndarray, faces: np.ndarray, landmark_index: np.ndarray, landmark_weights: np.ndarray, candidates: int = 16
) -> np.ndarray:
    """Find the lines of candidates for `moving_contour` on the mean face.

    The axis of the head runs along z through the mean of the outer corners of eyes and mouth. Each line starts at its
    static landmark and runs forward over the face, in the half plane of the landmark and the axis, to half the
    landmark's distance from the axis. Candidates are the foremost vertices near evenly spaced places on it.

    Args:
        mean: [V,3] mm.
        faces: [F,3].
        landmark_index: [68,3] vertices.
        landmark_weights: [68,3].
        candidates: K.

    Returns:
        int32 [17,K], the vertex nearest to the static landmark first. Where a place has no candidate in front of the
        last one, the last one is repeated.
    """
    points = (mean[landmark_index] * landmark_weights[..., None]).sum(1)
    center = points[list(OUTER_CORNERS)].mean(0)
    used = np.unique(faces)
    xyz = mean[used] - center
    polar = np.stack([np.hypot(xyz[:, 0], xyz[:, 1]), np.arctan2(xyz[:, 1], xyz[:, 0])], -1)
    lines = np.empty((NUM_CONTOUR, candidates), np.int32)
    for k in range(NUM_CONTOUR):
        p = points[k] - center
        radius, angle = np.hypot(p[0], p[1]), np.arctan2(p[1], p[0])
        line = [landmark_index[k][landmark_weights[k].argmax()]]
        for share in np.linspace(1, 0.5, candidates)[1:]:
            off = np.abs(np.angle(np.exp(1j * (polar[:, 1] - angle)))) * polar[:, 0]
            distance = np.hypot(off, polar[:, 0] - share * radius)
            near = distance < max(_WINDOW, np.partition(distance, 3)[3])
            chosen = np.flatnonzero(near)[xyz[near, 2].argmax()]
            in_front = xyz[chosen, 2] >= mean[line[-1], 2] - center[2] - _BACKWARDS
            line.append(used[chosen] if in_front else line[-1])
        lines[k] = line
    return lines
