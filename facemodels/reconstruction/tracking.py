"""reconstruction.tracking: TODO."""

import functools
import math

import torch
from torch import Tensor

from facemodels.core.alignment import nearest_rotation
from facemodels.core.crops import Box
from facemodels.reconstruction.face import Face


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    inter = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def _matched(places: list[Box], crops: list[Box]) -> list[tuple[int, int]]:
    """Pairs (place, crop) that overlap most, each at most once."""
    pairs = sorted(((overlap(p, c), i, j) for i, p in enumerate(places) for j, c in enumerate(crops)), reverse=True)
    taken, chosen = (set(), set()), []
    for value, i, j in pairs:
        if value > 0.25 and i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            chosen.append((i, j))
    return chosen


def _inside(face: Face, shape) -> bool:
    x, y = face.landmarks[:, :2].mean(0).tolist()
    return 0 <= x <= shape[1] and 0 <= y <= shape[0]


def smoothed(frames: list[list[Face]], deviation: float = 1.2) -> list[list[Face]]:
    """A video's faces without jitter: along each track the identity and albedo are the mean (a head does not change), and pose, expression and light Gaussian means over `deviation` frames on
    either side, so that nothing lags behind. Landmarks move along with the head.

    A track is cut where it is missing in a frame. deviation: 0 leaves pose and expression as they are.
    """
    result = [list(faces) for faces in frames]
    places: dict[int, list[tuple[int, int]]] = {}
    for t, faces in enumerate(frames):
        for k, face in enumerate(faces):
            places.setdefault(face.track, []).append((t, k))
    for where in places.values():
        faces = [frames[t][k] for t, k in where]
        person = {"identity": torch.stack([f.identity for f in faces]).mean(0)}
        if faces[0].albedo is not None:
            person["albedo"] = torch.stack([f.albedo for f in faces]).mean(0)
        times = torch.tensor([t for t, _ in where])
        mean = functools.partial(_smooth, times=times, deviation=deviation)
        rotation = nearest_rotation(mean(torch.stack([f.rotation for f in faces])))
        scale = mean(torch.tensor([[f.scale] for f in faces]).log()).exp()[:, 0]
        translation = mean(torch.stack([f.translation for f in faces]))
        expression = mean(torch.stack([f.expression for f in faces]))
        light = None if faces[0].light is None else mean(torch.stack([f.light for f in faces]))
        landmarks = mean(torch.stack([f.landmarks for f in faces]))
        for n, (t, k) in enumerate(where):
            light_n = None if light is None else light[n]
            result[t][k] = faces[n].with_parameters(
                rotation=rotation[n],
                scale=scale[n],
                translation=translation[n],
                expression=expression[n],
                landmarks=landmarks[n],
                light=light_n,
                **person,
            )
    return result


def _smooth(values: Tensor, times: Tensor, deviation: float) -> Tensor:
    """Gaussian means of values [T,...] of frames `times` [T], ascending, over frames that follow each other without a gap."""
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
