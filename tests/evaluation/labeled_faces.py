"""A made-up AFLW2000-3D, and a method that answers with given faces, for protocols on labeled pictures."""

import math
from argparse import ArgumentParser
from types import SimpleNamespace

import imageio.v3 as iio
import numpy as np
import torch
from scipy.io import savemat

from facemodels.core.crops import landmark_box, to_crop
from facemodels.core.parameters import FaceParameters

YAWS = (0, 20, -45, 70, 85)


SIZE = 200


def points_of(k):
    return np.random.default_rng(k).uniform((50, 40), (150, 140), (68, 2))


def write_aflw2000(folder, count=5, shifted=()):
    """Write a made-up AFLW2000-3D, with labels beside it 3 pixels right of the original ones; return its folder."""
    folder.mkdir()
    names, boxes, other = [], [], []
    for k in range(count):
        points, name = points_of(k) + ((60, 0) if k in shifted else 0), f"image{k:05d}"
        iio.imwrite(folder / f"{name}.jpg", np.full((SIZE, SIZE, 3), 40 * k, np.uint8))
        pose = np.array([[0, math.radians(YAWS[k]), 0, 100, 100, 0, 1e-3]])
        z = np.random.default_rng(50 + k).uniform(-9, 9, 68)
        labels = np.concatenate([points.T + 0.5, z[None]])
        savemat(
            folder / f"{name}.mat",
            {"Pose_Para": pose, "Shape_Para": np.ones((199, 1)), "Exp_Para": np.ones((29, 1)), "pt3d_68": labels},
        )
        names.append(name)
        boxes.append(np.clip(np.round(np.array(landmark_box(points)) + 0.5), 1, SIZE))
        other.append(labels[:2] + [[3], [0]])
    aflw = np.array([0.0, 40, -45, 70, 85])[:count]
    np.savez(
        folder.with_name(folder.name + "_labels.npz"),
        names=np.array(names),
        pts68_reannotated=np.array(other),
        yaw_aflw_deg=aflw,
        roi_box=np.array(boxes),
    )
    return folder


def answers(count=5, shift=(0, 0), shifted=(), z=False):
    """A predictor that returns the labels, moved by pixels of the photograph."""
    given = iter(range(count))

    def predict(crops):
        assert crops.dtype == torch.float32 and 0 <= crops.min() and crops.max() <= 1
        rows = []
        for k in (next(given) for _ in crops):
            points = points_of(k) + ((60, 0) if k in shifted else 0)
            box = landmark_box(points)
            row = to_crop(points + shift, box, crops.shape[-1])
            if z:
                row = np.concatenate(
                    [
                        row,
                        np.random.default_rng(50 + k).uniform(-9, 9, (68, 1)) * crops.shape[-1] / (box[2] - box[0])
                        + 77,
                    ],
                    1,
                )
            rows.append(row)
        return torch.from_numpy(np.stack(rows)).float()

    return predict


class Stub:
    """What a protocol needs of a method; `answer(number of the picture)` gives a `FaceParameters` of one."""

    name, size = "stub", 60

    def __init__(self, answer, mesh=None, **config):
        self.answer, self.model, self.config, self.seen = answer, mesh, SimpleNamespace(**config), 0

    def parameters(self):
        return iter([torch.zeros(1)])

    def reconstruct(self, crops):
        assert (
            crops.shape[1:] == (3, self.size, self.size)
            and crops.dtype == torch.float32
            and not torch.is_grad_enabled()
        )
        answers = [self.answer(self.seen + k) for k in range(len(crops))]
        self.seen += len(crops)
        return FaceParameters(*(None if column[0] is None else torch.stack(column) for column in zip(*answers)))

    def landmarks(self, crops):
        return self.reconstruct(crops).landmarks


def parse(module, *words):
    parser = ArgumentParser()
    module.configure(parser)
    return parser.parse_args(words)
