"""The measure of UH-E2FAR (Dou, Shah and Kakadiaris 2017): neutral shape, with its size.

Data: the paper has FRGC v2, BU-3DFE and UHDB31 with correspondences of its own; its values are not known here, and
UHDB31 is not public. So this takes any folder of neutral scans with photographs.

Measured: the root of the mean squared distance, in millimeters, between the neutral shape predicted from one photograph
and the true one, after rigid alignment. The size counts: nothing is scaled.

Where ours differs: the paper compares vertices with their counterparts. Here, distances are from scan vertices within
95 mm of the tip of the nose to the closest points of the predicted mesh, after alignment by landmarks and closest
points. They are smaller than distances between counterparts: compare methods by them, not with the paper.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.core.landmarks import NOSE_TIP
from facemodels.core.progress import progress
from facemodels.evaluation.examples import ORDER_68, PHOTO_LANDMARKS, people, turned, write_picture, write_scan
from facemodels.evaluation.report import Report, Results
from facemodels.evaluation.scan_alignment import (
    LandmarkCheck,
    Surface,
    add_keep_going,
    align_closest_points,
    align_landmarks,
    within,
)
from facemodels.evaluation.scan_faces import predicted_surface, read_photo, reconstructions
from facemodels.evaluation.scans import one_file, pictures_in, read_scan, read_scan_landmarks
from facemodels.methods.face_method import FaceMethod

RADIUS = 95.0  # mm


def configure(parser: ArgumentParser) -> None:
    """Add the protocol's arguments."""
    parser.epilog = f"""example:
  facemodels evaluate e2far-shape --method e2far --data people --json shape.json

The data:
  DATA/
    PERSON/                  a folder for each person, with any name
      scan.obj               the neutral face, .obj or .ply, any name, millimeters
      scan.txt               its 68 landmarks [68,3] in the scan's coordinates, .txt, .npy or .json;
                             NaN where one is unknown
      pictures/              photographs
        1.jpg
        1.txt                their landmarks, optional

{ORDER_68}

{PHOTO_LANDMARKS}"""
    add_keep_going(parser)


def run(method: FaceMethod, data: Path, options: Namespace) -> Report:
    """Score a method; see `facemodels.evaluation.Protocol`."""
    persons = sorted(p for p in Path(data).glob("*") if (p / "pictures").is_dir())
    if not persons:
        raise InputError(
            f"{data}: expected a folder for each person with a scan, its landmarks, and a folder named pictures, found "
            "none"
        )
    check = LandmarkCheck(millimeters=True, keep_going=options.keep_going)
    errors: dict[str, list[float]] = {}
    for person in progress(persons, "people"):
        path = one_file(person, ("*.obj", "*.ply"), "a neutral scan")
        marks = read_scan_landmarks(path, (NOSE_TIP,))
        points = within(read_scan(path).vertices, marks[NOSE_TIP], RADIUS)
        if not len(points):
            raise InputError(
                f"{path}: no vertex lies within {RADIUS:.0f} mm of the tip of the nose in the landmarks beside it; "
                "both must be in millimeters and in the same coordinates"
            )
        pictures = pictures_in(person / "pictures")
        if not pictures:
            raise InputError(f"{person / 'pictures'}: expected photographs of the person, found none")
        errors[person.name] = []
        for face in reconstructions(method, map(read_photo, pictures)):
            surface = predicted_surface(method, face)
            fits = check.add(path, surface, marks)
            errors[person.name].append(rmse(points, marks, surface, fits))
    single = np.concatenate([*errors.values()])
    means = [np.mean(e) for e in errors.values()]
    results: Results = {
        "people": len(persons),
        "images": len(single),
        "rmse_mm": float(single.mean()),
        "rmse_std_mm": float(single.std()),
        "rmse_std_over_people_mm": float(np.std(means)),
    }
    return Report(
        protocol="e2far-shape",
        title=f"UH-E2FAR's measure on {len(persons)} people: RMSE in mm of scan vertices within 95 mm of the tip of "
        "the nose from the neutral mesh predicted from one photograph, rigidly aligned",
        results=results,
        errors=single,
        unit="mm",
        largest=6.0,
        columns=["RMSE mm", "std mm"],
        row=[results["rmse_mm"], results["rmse_std_mm"]],
        ranked_by="RMSE mm",
        notes=[
            *check.finish(),
            "Rigid alignment by landmarks, then by closest points; no scale. The paper's own values, on FRGC v2, "
            "BU-3DFE and UHDB31, are not known here.",
        ],
    )


def write_example(folder: Path) -> None:
    """Write a tiny data set; see `facemodels.evaluation.Protocol`."""
    for k, person in enumerate(people(2, (0.0, 25.0))):
        home, rotation = folder / f"person_{k + 1}", turned(20 * k)
        write_scan(home / "scan.obj", person.vertices @ rotation.T, seed=k)
        np.savetxt(home / "scan.txt", person.landmarks @ rotation.T, fmt="%.4f")
        for n, picture in enumerate(person.pictures):
            write_picture(home / "pictures" / f"{n + 1}.jpg", picture)


def rmse(points: Tensor, marks: Tensor, surface: Surface, fits: bool = True) -> float:
    """The error of a predicted surface, millimeters.

    Args:
        points: [P,3], the cropped vertices of the scan.
        marks: [68,3], its landmarks.
        surface: The predicted surface.
        fits: Whether its landmarks fit those of the scan (`align_closest_points`).
    """
    start = align_landmarks(surface, marks, scale=False)
    placement = align_closest_points(points, surface, start, scale=False, fits=fits)
    return float(surface.distances(points, placement).square().mean().sqrt())
