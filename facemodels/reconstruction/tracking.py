"""Faces of a video over time: which face of one frame is which of the next, and tracks without jitter."""

import functools
import math

import torch
from torch import Tensor

from facemodels.core.alignment import nearest_rotation
from facemodels.core.crops import Box
from facemodels.reconstruction.face import Face

SAME_PLACE = 0.35  # of a face's size: the centers of two faces of a picture are further apart


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    inter = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def face_size(face: Face) -> float:
    """The longer side of the box around a face's landmarks, pixels."""
    points = face.landmarks[:, :2]
    return float((points.amax(0) - points.amin(0)).max())


def is_same(first: Face, second: Face) -> bool:
    """Whether two faces of a picture are one that was found twice, perhaps once only a part of it."""
    a, b = first.landmarks[:, :2].mean(0), second.landmarks[:, :2].mean(0)
    return float((a - b).norm()) < SAME_PLACE * max(face_size(first), face_size(second))


def is_inside(face: Face, shape: tuple[int, ...]) -> bool:
    """Whether the center of a face's landmarks lies inside a picture of `shape` (H, W, ...)."""
    x, y = face.landmarks[:, :2].mean(0).tolist()
    return 0 <= x <= shape[1] and 0 <= y <= shape[0]


def smoothed(frames: list[list[Face]], deviation: float = 1.2) -> list[list[Face]]:
    """Smooth the faces of a video without lag.

    Along each track, identity and albedo become the mean over all its frames, since a head does not change; pose,
    expression, light and landmarks become Gaussian means over the frames on both sides. A track is split where a frame
    lacks it.

    Args:
        frames: The faces of each frame.
        deviation: Standard deviation of the Gaussian in frames; 0 leaves pose and expression as they are.
    """
    result = [list(faces) for faces in frames]
    places: dict[int | None, list[tuple[int, int]]] = {}
    for t, faces in enumerate(frames):
        for k, face in enumerate(faces):
            places.setdefault(face.track, []).append((t, k))
    for where in places.values():
        faces = [frames[t][k] for t, k in where]
        person = {"identity": torch.stack([f.identity for f in faces]).mean(0)}
        albedos = [f.albedo for f in faces if f.albedo is not None]
        if albedos:
            person["albedo"] = torch.stack(albedos).mean(0)
        times = torch.tensor([t for t, _ in where])
        mean = functools.partial(_gaussian_mean, times=times, deviation=deviation)
        rotation = nearest_rotation(mean(torch.stack([f.rotation for f in faces])))
        scale = mean(torch.tensor([[f.scale] for f in faces]).log()).exp()[:, 0]
        translation = mean(torch.stack([f.translation for f in faces]))
        expression = mean(torch.stack([f.expression for f in faces]))
        lights = [f.light for f in faces if f.light is not None]
        light = mean(torch.stack(lights)) if lights else None
        landmarks = mean(torch.stack([f.landmarks for f in faces]))
        for n, (t, k) in enumerate(where):
            result[t][k] = faces[n].with_parameters(
                rotation=rotation[n],
                scale=scale[n],
                translation=translation[n],
                expression=expression[n],
                landmarks=landmarks[n],
                light=None if light is None else light[n],
                **person,
            )
    return result


def _gaussian_mean(values: Tensor, times: Tensor, deviation: float) -> Tensor:
    """Gaussian means of values [T,...] over frames `times` [T], ascending, within runs of consecutive frames."""
    run = torch.cat([torch.zeros(1, dtype=torch.int64), (times.diff() > 1).long()]).cumsum(0)
    total, weights = values.clone(), torch.ones(len(values))
    for step in range(1, min(math.ceil(4 * deviation), len(values) - 1) + 1):
        share = math.exp(-0.5 * (step / deviation) ** 2) * (run[step:] == run[:-step]).float()
        spread = share.view(-1, *[1] * (values.dim() - 1))
        total[step:] += spread * values[:-step]
        total[:-step] += spread * values[step:]
        weights[step:] += share
        weights[:-step] += share
    return total / weights.view(-1, *[1] * (values.dim() - 1))
