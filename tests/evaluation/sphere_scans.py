"""Scans of a sphere that stands for a head, whose errors are known by hand, and a method that predicts spheres."""

import json
from argparse import ArgumentParser

import imageio.v3 as iio
import numpy as np
import torch

from facemodels import ModelData, MorphableModel
from facemodels.core.parameters import FaceParameters
from facemodels.evaluation.scan_alignment import Surface
from facerender.camera import euler_rotation

RADIUS = 40.0  # mm, of the sphere that stands for a head: all of it lies within 95 mm of its nose


SIZE = 64


EXACT = 1e-5  # mm: predictions are float32


def cube_sphere(n=10):
    """Unit vertices [V,3] and triangles [F,3], with all the symmetries of a cube."""
    u = np.linspace(-1, 1, n + 1)
    x, y = (g.ravel() for g in np.meshgrid(u, u, indexing="ij"))
    grid = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    a, b, c, d = grid[:-1, :-1].ravel(), grid[1:, :-1].ravel(), grid[1:, 1:].ravel(), grid[:-1, 1:].ravel()
    square = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    vertices, faces = [], []
    for axis in range(3):
        for side in (-1, 1):
            plane = np.insert(np.stack([x, y], 1), axis, side, axis=1)
            faces.append((square if (side > 0) == (axis != 1) else square[:, ::-1]) + len(vertices) * len(x))
            vertices.append(plane)
    vertices, where = np.unique(np.concatenate(vertices).round(9), axis=0, return_inverse=True)
    return vertices / np.linalg.norm(vertices, axis=1, keepdims=True), where.ravel()[np.concatenate(faces)]


UNIT, FACES = cube_sphere()


# Where landmarks lie: anywhere for most; the corners of the eyes across, the nose in front, so that NoW's crop contains
# the whole sphere.
_PLACES = np.random.default_rng(0).normal(size=(68, 3))


for _region, _middle in (((17, 27), (0, 1, 0.4)), ((27, 36), (0, 0.2, 1)), ((48, 68), (0, -0.7, 0.7))):
    _PLACES[slice(*_region)] = 0.25 * _PLACES[slice(*_region)] + _middle


_PLACES[[36, 39, 42, 45, 33, 30, 48, 54]] = [
    (-1, 0, 0),
    (-0.3, 0.9, 0.6),
    (0.3, 0.9, 0.6),
    (1, 0, 0),
    (0, -0.2, 1),
    (0, 0, 1),
    (-0.3, -0.7, 0.7),
    (0.3, -0.7, 0.7),
]


MARKS = (UNIT @ _PLACES.T).argmax(0)  # vertex numbers


def ball() -> MorphableModel:
    """Identity: millimeters of radius, and an unevenness; expression: longer along y."""
    uneven = UNIT * np.sign((UNIT[:, 0] ** 2 - UNIT[:, 1] ** 2).round(9))[:, None]
    index = np.repeat(MARKS[:, None], 3, 1)
    lines = np.repeat(MARKS[:17, None], 2, 1)
    data = ModelData(
        "ball",
        RADIUS * UNIT,
        np.stack([UNIT, uneven]),
        (UNIT * [0, 1, 0])[None],
        FACES,
        landmark_index=index,
        landmark_weights=np.tile([1.0, 0, 0], (68, 1)),
        contour=lines,
        regions={"face": np.arange(len(UNIT))},
    )
    return MorphableModel(data)


class Stub:
    """A method that answers with given identities in turn, the last one again and again.

    It sees the landmarks in the middle half of every crop.
    """

    size, name, given = SIZE, "stub", "nothing"

    def __init__(self, identities, expression=0.0, model=None):
        self.model, self.expression, self.crops = model or ball(), expression, []
        self.answers = torch.as_tensor(identities, dtype=torch.float32).reshape(-1, self.model.num_identity)

    def landmarks(self, crops):
        assert (
            crops.shape[1:] == (3, SIZE, SIZE)
            and crops.dtype == torch.float32
            and 0 <= crops.min()
            and crops.max() <= 1
        )
        self.crops.append(crops)
        points = torch.rand(68, 3, generator=torch.Generator().manual_seed(0)) * SIZE / 2 + SIZE / 4
        points[0, :2], points[1, :2] = SIZE / 4, 3 * SIZE / 4
        return points.expand(len(crops), -1, -1)

    def reconstruct(self, crops):
        n = len(crops)
        identity, self.answers = self.answers[:n], self.answers[min(n, len(self.answers) - 1) :]
        identity = torch.cat([identity, identity[-1:].expand(n - len(identity), -1)])
        landmarks = self.landmarks(crops)
        return FaceParameters(
            identity,
            torch.full((n, self.model.num_expression), self.expression),
            torch.eye(3).expand(n, 3, 3),
            torch.ones(n),
            torch.zeros(n, 2),
            landmarks,
        )


def surface(grown=0.0, uneven=0.0):
    model = ball()
    vertices = model.shape(torch.tensor([[grown, uneven]]))
    return Surface(vertices[0], model.faces, model.landmarks(vertices)[0])


def placed(vertices, angles=(0.3, -0.8, 0.4), scale=1.0, shift=(10.0, -20.0, 300.0)):
    """Vertices [V,3] moved somewhere else."""
    return scale * vertices @ euler_rotation(torch.tensor([angles]))[0].double().numpy().T + shift


def write_scan(path, vertices, marks=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(f"v {x:.9f} {y:.9f} {z:.9f}\n" for x, y, z in vertices)
        + "".join(f"f {a} {b} {c}\n" for a, b, c in FACES + 1)
    )
    if marks:
        np.savetxt(path.with_suffix(".txt"), vertices[MARKS], fmt="%.9f")


def write_picture(path, landmarks=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, np.random.default_rng(1).integers(0, 255, (120, 100, 3), np.uint8))
    if landmarks:
        np.savetxt(path.with_suffix(".txt"), np.random.default_rng(2).uniform(20, 80, (68, 2)))


def parse(protocol, *arguments):
    parser = ArgumentParser()
    protocol.configure(parser)
    return parser.parse_args(arguments)


def check(report, name):
    assert report.protocol == name and len(report.row) == len(report.columns)
    assert all(len(row.values) == len(report.columns) and row.source for row in report.published)
    json.dumps(report.results)  # JSON types alone
    assert all(isinstance(note, str) for note in report.notes) and report.title
    return report.results


def picked(points):
    rows = "".join(f'<point y="{y}" x="{x}" z="{z}" name="{k}" active="1"/>' for k, (x, y, z) in enumerate(points))
    return f"<!DOCTYPE PickedPoints>\n<PickedPoints><DocumentData/>{rows}</PickedPoints>"


def without(folder, name):
    (folder / name).unlink()
