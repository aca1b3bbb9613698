"""FaceWarehouse: registered meshes of people with 20 expressions each (Cao et al. 2014), by the protocol of MoFA (Tewari et al. 2017) and Deep3D (Deng et al. 2019): 9 people,
180 photographs and meshes.

The predicted mesh, with its expression, is laid on the registered one by landmarks, then by iterated closest points with isotropic scale; the error of a mesh is the mean distance
of its vertices from the predicted surface; mean and standard deviation are over meshes. Where tables differ, and ours from them: which 9 people were taken is not published (all
people in the folder are, here), nor is the region (here, 95 mm around the tip of the nose); MoFA distributed the registered meshes onto a denser topology first, which weighs
their vertices more evenly.

The meshes have one topology and no landmarks: a file of 68 vertex numbers says where they lie. Their unit is not millimetres: the power of ten is found from the eyes' distance.
"""

import math
from pathlib import Path

import numpy as np
import torch

from facemodels.core.errors import InputError
from facemodels.core.landmarks import LEFT_EYE_OUTER, NOSE_TIP, NUM_CONTOUR, RIGHT_EYE_OUTER
from facemodels.evaluation.report import Report
from facemodels.evaluation.scans import (
    Surface,
    inner,
    photo,
    pictures_in,
    placed_by_landmarks,
    predicted_surface,
    read_scan,
    reconstructions,
    refined,
)
from facemodels.io.files import existing_file, input_error

RADIUS = 95.0  # mm
EYES = 90.0  # mm between the outer corners of the eyes, about
NEEDED = (NOSE_TIP, RIGHT_EYE_OUTER, LEFT_EYE_OUTER)
PUBLISHED = [
    ("MoFA", [2.19, 0.54], "found"),
    ("Tewari 2018", [1.84, 0.38], "found"),
    ("Deep3D, TensorFlow", [1.81, 0.50], "found"),
    ("Deep3D, PyTorch", [1.64, 0.50], "found"),
    ("Deep3D, PyTorch, 2023", [1.60, 0.44], "found"),
]


def configure(parser) -> None:
    """FaceWarehouse has no settings."""


def run(method, data: Path, options) -> Report:
    """Scores a method.

    data: the folder with Tester_1/TrainingPose/pose_0.obj and pose_0.png (or another picture) and so on, and landmarks.txt: 68 vertex numbers, counted from 0, -1 where
    unknown. Beside a picture may lie its landmarks (`photo`).

    Raises:
        InputError: a file is missing or damaged; the message names it.
    """
    data = Path(data)
    people = sorted(p for p in data.glob("Tester_*/TrainingPose") if p.is_dir())
    if not people:
        raise InputError(f"{data}: expected FaceWarehouse's folders Tester_1/TrainingPose and so on in it, found none")
    numbers = read_numbers(data / "landmarks.txt")
    pairs = [
        (picture, picture.with_suffix(".obj"))
        for person in people
        for picture in pictures_in(person)
        if picture.with_suffix(".obj").is_file()
    ]
    if not pairs:
        raise InputError(
            f"{people[0]}: expected pictures pose_0.png and so on with meshes pose_0.obj beside them, found none"
        )
    errors = []
    for (_, mesh), found in zip(pairs, reconstructions(method, (photo(picture) for picture, _ in pairs))):
        vertices = read_scan(mesh).vertices
        if numbers.max() >= len(vertices):
            raise input_error(
                data / "landmarks.txt", f"vertex numbers below {len(vertices)}, those of {mesh}", f"{numbers.max()}"
            )
        errors.append(mean_distance(vertices, numbers, predicted_surface(method, found, expression=True), mesh))
    results = {
        "people": len(people),
        "meshes": len(errors),
        "distance_mm": float(np.mean(errors)),
        "distance_std_mm": float(np.std(errors)),
    }
    title = (
        f"FaceWarehouse, {len(errors)} meshes of {len(people)} people: mean distance in mm of vertices within 95 mm of the tip of the nose "
        "from the predicted mesh with its expression, scale aligned"
    )
    notes = [
        "Landmarks, then iterated closest points with isotropic scale; distances from the registered mesh to the predicted surface.",
        "The published numbers are of 9 people that are not named, on a denser topology: comparable in kind, not to the second digit.",
    ]
    row = [results["distance_mm"], results["distance_std_mm"]]
    return Report(
        "facewarehouse", title, results, np.array(errors), "mm", 5.0, ["mean mm", "std mm"], row, PUBLISHED, notes
    )


def mean_distance(vertices: torch.Tensor, numbers: np.ndarray, surface: Surface, name="mesh") -> float:
    """The error, in millimetres, of a predicted surface on a registered mesh: vertices [V,3] in a power of ten of millimetres, numbers int [68] of landmarks, -1 unknown.

    Raises:
        InputError: the corners of the eyes coincide.
    """
    marks = torch.where(torch.from_numpy(numbers >= 0)[:, None], vertices[numbers], torch.nan)
    apart = float((marks[LEFT_EYE_OUTER] - marks[RIGHT_EYE_OUTER]).norm())
    if apart == 0:
        raise InputError(f"{name}: the outer corners of the eyes coincide; landmarks.txt must belong to these meshes")
    unit = 10.0 ** round(math.log10(EYES / apart))
    marks, points = marks * unit, inner(vertices * unit, marks[NOSE_TIP] * unit, RADIUS)
    return float(surface.distances(points, refined(points, surface, placed_by_landmarks(surface, marks))).mean())


def read_numbers(path) -> np.ndarray:
    """68 vertex numbers, int64 [68], counted from 0, -1 where unknown.

    Raises:
        InputError: the file is missing, holds others, or lacks the corners of the eyes, the tip of the nose, or any fourth point.
    """
    expected = "68 vertex numbers of landmarks, counted from 0, -1 where unknown"
    path = existing_file(path, expected)
    try:
        numbers = np.array(path.read_text().split(), np.int64)
    except (ValueError, OverflowError, UnicodeDecodeError) as error:
        raise input_error(path, expected, f"something else ({error})") from None
    if numbers.shape != (68,) or numbers.min() < -1:
        raise input_error(
            path, expected, f"{len(numbers)} numbers" + (f", the least {numbers.min()}" if len(numbers) else "")
        )
    if (numbers[list(NEEDED)] < 0).any() or (numbers[NUM_CONTOUR:] >= 0).sum() < 4:
        raise input_error(
            path,
            f"at least four landmarks of the inner face, among them {', '.join(map(str, NEEDED))} (counted from 0)",
            "them unknown",
        )
    return numbers
