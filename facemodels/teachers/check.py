"""How far teachers' landmarks are from those that people marked, and pictures of both."""

import numpy as np
import torch
from torch import Tensor

from facemodels.core.drawing import draw_points, tile
from facemodels.core.landmarks import EAR_LOBES, eighteen_points, landmark_means
from facemodels.data import FaceBatch
from facemodels.teachers.combine import Poses
from facemodels.teachers.face_mesh import IBUG, MeshPoints

BINS = ((0, 30), (30, 60), (60, 90))  # degrees of yaw
SHOWN = 24  # photographs of a panel
COLUMNS = 6
ENLARGED = 3  # times
NETWORK, MESH, LABEL = (0.9, 0.2, 0.1), (0.1, 0.6, 0.95), (0.1, 0.9, 0.1)  # colors of points


def errors_of(landmarks: Tensor, faces: FaceBatch) -> Tensor:
    """Mean error of the 18 points, percent of the side of the face's box (the crop's side / sqrt(2)).

    Args:
        landmarks: [N,68,3], pixels.
        faces: Photographs with landmarks.

    Returns:
        [N]; NaN where nothing is known of a photograph.
    """
    assert faces.landmarks is not None
    own = eighteen_points(faces.landmarks[..., :2])
    distance = (eighteen_points(landmarks[..., :2]) - own).norm(dim=-1).nanmean(1)
    return 100 * distance / (faces.image.shape[-1] / 2**0.5)


def held_out_distances(landmarks: Tensor, faces: FaceBatch, poses: Poses) -> list[float]:
    """Mean distances from the points that people marked, without what is constant in each point of each range of yaw.

    People's points stand at other places than a network's. This offset, the median in the axes of the face, is taken
    from every second photograph, and the distances are those of the others.

    Args:
        landmarks: [N,68,3], pixels.
        faces: Photographs with landmarks.
        poses: Their poses.

    Returns:
        Millimeters on the face, for each of `BINS`; NaN where there are no photographs.
    """
    assert faces.landmarks is not None
    count = faces.landmarks.shape[1]
    shift = poses.to_face(faces.landmarks[..., :2] - landmark_means(count) @ landmarks[..., :2])
    if count == 21:  # models have no lobes, but a rough stand-in
        shift[:, list(EAR_LOBES)] = torch.nan
    yaw, odd = poses.angles[:, 1].abs(), torch.arange(len(shift)) % 2 == 1
    found = []
    for low, high in BINS:
        inside = (yaw >= low) & (yaw < high)
        offset = shift[inside & ~odd].nanmedian(0).values if (inside & ~odd).any() else torch.nan
        found.append(float((shift[inside & odd] - offset).norm(dim=-1).nanmean()))
    return found


def draw_panel(faces: FaceBatch, landmarks: Tensor, mesh: MeshPoints | None, labels: Tensor, yaw: Tensor) -> np.ndarray:
    """Photographs from frontal to profile: the network's points in red, the mesh's in blue, the labels in green.

    Args:
        faces: The photographs.
        landmarks: [N,68,3], the network's.
        mesh: The mesh's; None without.
        labels: [N,68,3].
        yaw: [N], degrees.

    Returns:
        uint8 [H,W,3].
    """
    known = torch.nonzero(labels.isfinite().flatten(1).all(1))[:, 0]
    order = known[yaw[known].abs().argsort()]
    some = order[torch.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().long()]
    pictures = faces.image[some].permute(0, 2, 3, 1).float() / 255
    pictures = pictures.repeat_interleave(ENLARGED, 1).repeat_interleave(ENLARGED, 2)
    if mesh is not None:
        points = torch.from_numpy(mesh.points[some.numpy()][:, list(IBUG), :2])
        pictures = draw_points(pictures, ENLARGED * points, MESH, 1.5)
    pictures = draw_points(pictures, ENLARGED * landmarks[some, :, :2], NETWORK, 1.5)
    pictures = draw_points(pictures, ENLARGED * labels[some, :, :2], LABEL, 1.8)
    return (tile(pictures, min(COLUMNS, len(some)), 4) * 255).round().byte().numpy()
