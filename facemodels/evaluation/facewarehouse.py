"""FaceWarehouse: faces with expressions against registered meshes (Cao et al. 2014).

The protocol is that of MoFA (Tewari et al. 2017) and Deep3D (Deng et al. 2019).

Data: registered meshes of people with 20 expressions each, with photographs; the papers take 9 people, 180 pairs.

Measured: the predicted mesh, with its expression, is laid on the registered one by landmarks, then by closest points
with isotropic scale. The error of a mesh is the mean distance of its vertices from the predicted surface; mean and
standard deviation are over meshes. Where papers differ, and ours from them: which 9 people were taken is not published
(here, all people in the folder), nor is the region (here, 95 mm around the tip of the nose). MoFA resampled the
registered meshes to a denser topology first, which weighs their surface more evenly.

The meshes have one topology and no landmarks: a file of 68 vertex numbers says where they lie. Their unit is not the
millimeter: the power of ten is found from the distance of the eyes.
"""

import math
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.core.landmarks import LEFT_EYE_OUTER, NOSE_TIP, NUM_CONTOUR, RIGHT_EYE_OUTER
from facemodels.core.progress import progress
from facemodels.evaluation.examples import ORDER_68, PHOTO_LANDMARKS, people, write_mesh, write_picture
from facemodels.evaluation.report import PublishedRow, Report, Results
from facemodels.evaluation.scan_alignment import (
    LandmarkCheck,
    Surface,
    add_keep_going,
    align_closest_points,
    align_landmarks,
    within,
)
from facemodels.evaluation.scan_faces import predicted_surface, read_photo, reconstructions
from facemodels.evaluation.scans import pictures_in, read_scan
from facemodels.io.files import existing_file, input_error
from facemodels.methods.face_method import FaceMethod
from facemodels.models.load import load_model

RADIUS = 95.0  # mm
EYE_DISTANCE = 90.0  # mm between the outer corners of the eyes, about
NEEDED = (NOSE_TIP, RIGHT_EYE_OUTER, LEFT_EYE_OUTER)
_DEEP3D = "README of microsoft/Deep3DFaceReconstruction"
_DEEP3D_PYTORCH = "README of sicxu/Deep3DFaceRecon_pytorch"
PUBLISHED = [
    PublishedRow("MoFA", [2.19, 0.54], _DEEP3D),
    PublishedRow("Tewari 2018", [1.84, 0.38], _DEEP3D),
    PublishedRow("Deep3D, TensorFlow", [1.81, 0.50], _DEEP3D),
    PublishedRow("Deep3D, PyTorch", [1.64, 0.50], _DEEP3D_PYTORCH),
    PublishedRow("Deep3D, PyTorch, 2023", [1.60, 0.44], _DEEP3D_PYTORCH),
]


def configure(parser: ArgumentParser) -> None:
    """Add the protocol's arguments."""
    parser.epilog = f"""example:
  facemodels evaluate facewarehouse --method dasl --data FaceWarehouse --json facewarehouse.json

The data:
  DATA/
    landmarks.txt            68 vertex numbers of the meshes, counted from 0, -1 where unknown;
                             the data set lacks it
    Tester_1/TrainingPose/
      pose_0.obj             registered mesh; all have the same vertices in the same order. Its unit
                             is found: millimeters times a power of ten
      pose_0.png             the photograph of the same expression, .png, .jpg or another picture
      pose_0.txt             its landmarks, optional
      pose_1.obj ...
    Tester_2/ ...

{ORDER_68}

{PHOTO_LANDMARKS}"""
    add_keep_going(parser)


def run(method: FaceMethod, data: Path, options: Namespace) -> Report:
    """Score a method; see `facemodels.evaluation.Protocol`."""
    data = Path(data)
    persons = sorted(p for p in data.glob("Tester_*/TrainingPose") if p.is_dir())
    if not persons:
        raise InputError(f"{data}: expected FaceWarehouse's folders Tester_1/TrainingPose and so on in it, found none")
    numbers = read_numbers(data / "landmarks.txt")
    pairs = [
        (picture, picture.with_suffix(".obj"))
        for person in persons
        for picture in pictures_in(person)
        if picture.with_suffix(".obj").is_file()
    ]
    if not pairs:
        raise InputError(
            f"{persons[0]}: expected pictures pose_0.png and so on with meshes pose_0.obj beside them, found none"
        )
    errors, check = [], LandmarkCheck(keep_going=options.keep_going)
    faces = reconstructions(method, (read_photo(picture) for picture, _ in pairs))
    for (_, mesh), face in zip(progress(pairs, "meshes"), faces):
        vertices = read_scan(mesh).vertices
        if numbers.max() >= len(vertices):
            raise input_error(
                data / "landmarks.txt", f"vertex numbers below {len(vertices)}, those of {mesh}", f"{numbers.max()}"
            )
        loose = [n for n in numbers[numbers >= 0].tolist() if vertices[n].isnan().any()]
        if loose:
            raise input_error(
                data / "landmarks.txt",
                f"vertices of the triangles of {mesh}",
                f"vertex {loose[0]}, which none of them uses",
            )
        surface = predicted_surface(method, face, expression=True)
        fits = check.add(data / "landmarks.txt", surface, _landmarks(vertices, numbers))
        errors.append(mean_distance(vertices, numbers, surface, str(mesh), fits))
    results: Results = {
        "people": len(persons),
        "meshes": len(errors),
        "distance_mm": float(np.mean(errors)),
        "distance_std_mm": float(np.std(errors)),
    }
    return Report(
        protocol="facewarehouse",
        title=f"FaceWarehouse, {len(errors)} meshes of {len(persons)} people: mean distance in mm of vertices within "
        "95 mm of the tip of the nose from the predicted mesh with its expression, scale aligned",
        results=results,
        errors=np.array(errors),
        unit="mm",
        largest=5.0,
        columns=["mean mm", "std mm"],
        row=[results["distance_mm"], results["distance_std_mm"]],
        ranked_by="mean mm",
        published=PUBLISHED,
        notes=[
            *check.finish(),
            "Landmarks, then closest points with isotropic scale; distances from the registered mesh to the predicted "
            "surface.",
            "The published numbers are of 9 people that are not named, on a denser topology: comparable in kind, not "
            "to the second digit.",
        ],
    )


def write_example(folder: Path) -> None:
    """Write a tiny data set; see `facemodels.evaluation.Protocol`."""
    model = load_model("builtin")
    assert model.landmark_index is not None and model.landmark_weights is not None
    numbers = model.landmark_index.cpu()[torch.arange(68), model.landmark_weights.cpu().argmax(1)]
    (folder / "landmarks.txt").write_text(" ".join(map(str, numbers.tolist())) + "\n")
    for k, person in enumerate(people(2, (0.0, 15.0), expressive=1)):
        for n, picture in enumerate(person.pictures):
            home = folder / f"Tester_{k + 1}" / "TrainingPose"
            write_mesh(home / f"pose_{n}.obj", picture.vertices / 100, model)
            write_picture(home / f"pose_{n}.png", picture)


def _landmarks(vertices: Tensor, numbers: np.ndarray) -> Tensor:
    """The landmarks [68,3] of a registered mesh; NaN where unknown."""
    return torch.where(torch.from_numpy(numbers >= 0)[:, None], vertices[numbers], torch.nan)


def mean_distance(
    vertices: Tensor, numbers: np.ndarray, surface: Surface, name: str = "mesh", fits: bool = True
) -> float:
    """The error of a predicted surface on a registered mesh, in millimeters.

    Args:
        vertices: [V,3] of the registered mesh, in a power of ten of millimeters.
        numbers: int [68], its landmarks' vertex numbers; -1 where unknown.
        surface: The predicted surface.
        name: The name of the mesh, for the message.
        fits: Whether its landmarks fit those of the mesh (`align_closest_points`).

    Raises:
        InputError: The corners of the eyes coincide.
    """
    marks = _landmarks(vertices, numbers)
    apart = float((marks[LEFT_EYE_OUTER] - marks[RIGHT_EYE_OUTER]).norm())
    if apart == 0:
        raise InputError(f"{name}: the outer corners of the eyes coincide; landmarks.txt must belong to these meshes")
    unit = 10.0 ** round(math.log10(EYE_DISTANCE / apart))
    marks, points = marks * unit, within(vertices * unit, marks[NOSE_TIP] * unit, RADIUS)
    placement = align_closest_points(points, surface, align_landmarks(surface, marks), fits=fits)
    return float(surface.distances(points, placement).mean())


def read_numbers(path: Path) -> np.ndarray:
    """Read 68 vertex numbers, int64 [68], counted from 0, -1 where unknown.

    Raises:
        InputError: The file is missing, holds something else, or lacks the corners of the eyes, the tip of the nose or
            a fourth landmark of the inner face.
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
