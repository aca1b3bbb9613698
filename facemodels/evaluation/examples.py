"""Tiny data sets in the layouts of the protocols, and the words that describe these layouts.

Each protocol's `write_example` makes its data set with these functions: people of the built-in model, rendered and, as
scans, with a little noise. Nothing in them comes from anywhere else, and the same files come out every time (up to the
last digits, which depend on the machine).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor

from facemodels.core.parameters import flip_y
from facemodels.data.counter_rng import CounterRNG
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from facemodels.export import Mesh, write_obj
from facemodels.models.load import load_model
from facemodels.models.morphable import MorphableModel
from facerender.camera import euler_rotation

# Words for the help of the protocols, in lines of at most 100 characters.
ORDER_68 = """The 68 landmarks are iBUG's (300-W, Multi-PIE); right is the subject's, left in the picture:
    0-16   jaw, from the right ear over the chin (8) to the left ear
    17-21  right brow, outer end first       22-26  left brow, inner end first
    27-30  bridge of the nose down to its tip (30)
    31-35  nostrils, right to left; 33 is the base of the nose
    36-41  right eye: outer corner (36), upper lid, inner corner (39), lower lid
    42-47  left eye: inner corner (42), upper lid, outer corner (45), lower lid
    48-59  outer lips: right corner (48), upper lip, left corner (54), lower lip
    60-67  inner lips: right corner (60), upper lip, left corner (64), lower lip"""
ORDER_SEVEN = """The seven landmarks, in this order; right is the subject's, left in the picture:
    1  right eye, outer corner     2  right eye, inner corner
    3  left eye, inner corner      4  left eye, outer corner
    5  base of the nose            6  right corner of the mouth     7  left corner of the mouth"""
ORDER_21 = """The 21 landmarks are AFLW's; right is the subject's, left in the picture:
    0-2    right brow: outer end, middle, inner end
    3-5    left brow: inner end, middle, outer end
    6-8    right eye: outer corner, center, inner corner
    9-11   left eye: inner corner, center, outer corner
    12     lobe of the right ear
    13-15  right nostril, tip of the nose, left nostril
    16     lobe of the left ear
    17-19  mouth: right corner, center, left corner
    20     chin"""
PHOTO_LANDMARKS = """Landmarks of a picture may lie beside it, in a .txt, .npy, .pts, .json or .mat of its name: [68,2]
or AFLW's [21,2], pixels from the upper left corner, y down. Without them the largest face is
detected (pip install "facerender[photos]")."""

SIZE = 240  # pixels, side of a picture


class Picture(NamedTuple):
    """A rendered picture of a person; pixels with y down, (0, 0) at the upper left corner.

    Attributes:
        image: uint8 [SIZE,SIZE,3], sRGB.
        landmarks: [68,3] pixels, z toward the viewer, 0 at the depth of the model's origin.
        visible: bool [68], which of them can be seen.
        vertices: [V,3] mm, with the expression and without pose.
        identity: [I] coefficients.
        rotation: [3,3], from the head to the camera.
        scale: Pixels per millimeter.
        translation: [2] pixels from the lower left corner, y up, of the model's origin.
    """

    image: np.ndarray
    landmarks: np.ndarray
    visible: np.ndarray
    vertices: np.ndarray
    identity: np.ndarray
    rotation: np.ndarray
    scale: float
    translation: np.ndarray


class Person(NamedTuple):
    """A person.

    Attributes:
        vertices: [V,3] mm, neutral.
        landmarks: [68,3] mm, on them.
        pictures: Pictures of the person.
    """

    vertices: np.ndarray
    landmarks: np.ndarray
    pictures: list[Picture]


class _AtYaws(Synthetic[CounterRNG]):
    """Pictures of people, the same yaws of each."""

    def __init__(self, model: MorphableModel, yaws: Sequence[float], expressive: float) -> None:
        randomization = RandomizationConfig(
            pitch=6, roll=4, box=(1.5, 1.7), shift=0.02, occluded=0, degraded=0, expressive=expressive
        )
        super().__init__(model, SIZE, randomization)
        self._yaws = torch.tensor(yaws).deg2rad()

    def _identity(self, rng: CounterRNG) -> tuple[Tensor, Tensor | None]:
        times = len(self._yaws)
        identity, albedo = super()._identity(CounterRNG(list(range(rng.count // times)), rng.device))
        repeated = None if albedo is None else albedo.repeat_interleave(times, 0)
        return identity.repeat_interleave(times, 0), repeated

    def _angles(self, rng: CounterRNG) -> Tensor:
        angles = super()._angles(rng)
        angles[:, 1] = self._yaws.to(angles).repeat(len(angles) // len(self._yaws))
        return angles


@torch.no_grad()
def people(
    count: int, yaws: Sequence[float] = (0.0,), expressive: float = 0.0, model: MorphableModel | None = None
) -> list[Person]:
    """Render people.

    Args:
        count: How many.
        yaws: Degrees by which the pictures of each person are turned.
        expressive: Share of the pictures with an expression.
        model: Their model; None for the built-in one.
    """
    model = model or load_model("builtin")
    faces = _AtYaws(model, yaws, expressive)(0, 0, range(count * len(yaws)))
    assert faces.identity is not None and faces.expression is not None and faces.rotation is not None
    assert faces.scale is not None and faces.translation is not None and faces.visible is not None
    images = (faces.image.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    shapes = model.shape(faces.identity, faces.expression)
    points = faces.scale[:, None, None] * model.landmarks(shapes) @ faces.rotation.mT
    points[..., :2] += faces.translation[:, None]
    points = flip_y(points, SIZE)
    found = []
    for first in range(0, len(images), len(yaws)):
        neutral = model.shape(faces.identity[first : first + 1])
        pictures = [
            Picture(
                images[k],
                points[k].double().numpy(),
                faces.visible[k].numpy(),
                shapes[k].double().numpy(),
                faces.identity[k].double().numpy(),
                faces.rotation[k].double().numpy(),
                float(faces.scale[k]),
                faces.translation[k].double().numpy(),
            )
            for k in range(first, first + len(yaws))
        ]
        found.append(Person(neutral[0].double().numpy(), model.landmarks(neutral)[0].double().numpy(), pictures))
    return found


def turned(yaw: float) -> np.ndarray:
    """A rotation [3,3] about the vertical axis, degrees: scans rarely look along an axis."""
    return euler_rotation(torch.tensor([[0.0, yaw, 0.0]]).double().deg2rad())[0].numpy()


def write_scan(
    path: Path, vertices: np.ndarray, unit: float = 1.0, seed: int = 0, region: str | Tensor = "face"
) -> None:
    """Write the face of a head of the built-in model as a scan, an .obj with colors and a little noise.

    Args:
        path: The file; its folder is made.
        vertices: [V,3] mm.
        unit: The unit of the file in millimeters.
        seed: The seed of the noise, a tenth of a millimeter.
        region: The region to write: its name, or its vertices, int64.
    """
    model = load_model("builtin")
    noise = 0.1 * np.random.default_rng(seed).standard_normal(vertices.shape)
    write_mesh(path, (vertices + noise) / unit, model, region)


def write_mesh(path: Path, vertices: np.ndarray, model: MorphableModel, region: str | Tensor | None = None) -> None:
    """Write a mesh of a model as .obj with colors, in the unit of its vertices; of a region alone, if one is given."""
    faces, colors = model.faces.long(), model.albedo()[0]
    kept = torch.arange(len(vertices))
    if region is not None:
        kept = (model.regions[region] if isinstance(region, str) else region).long().sort().values
        place = torch.full((len(vertices),), -1)
        place[kept] = torch.arange(len(kept))
        faces = place[faces[(place[faces] >= 0).all(1)]]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_obj(path, Mesh(vertices[kept.numpy()], faces.numpy(), colours=colors[kept].numpy(), name="example"))


def write_picture(path: Path, picture: Picture, landmarks: bool = True) -> None:
    """Write a picture, and its landmarks beside it as .txt; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, picture.image)
    if landmarks:
        np.savetxt(path.with_suffix(".txt"), picture.landmarks[:, :2], fmt="%.2f")


def write_picked_points(path: Path, points: np.ndarray) -> None:
    """Write points [K,3] as MeshLab saves picked points (.pp); its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(
        f' <point x="{x:.4f}" y="{y:.4f}" z="{z:.4f}" active="1" name="{k}"/>\n' for k, (x, y, z) in enumerate(points)
    )
    path.write_text(f"<!DOCTYPE PickedPoints>\n<PickedPoints>\n <DocumentData/>\n{rows}</PickedPoints>\n")
