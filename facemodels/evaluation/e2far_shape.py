"""The measure of UH-E2FAR (Dou, Shah and Kakadiaris 2017): the root of the mean squared distance, in millimetres, between the neutral shape that is reconstructed of one photograph
and the true one, after rigid alignment. The size counts: nothing is scaled.

The paper has it on FRGC v2, BU-3DFE and UHDB31 with correspondences of its own; its values are not known here, and UHDB31 is not public. So this takes any folder of neutral scans
with photographs, and where the paper compares vertices with their counterparts, distances are from scan vertices within 95 mm of the tip of the nose to the nearest points of the
predicted mesh, after landmarks and iterated closest points. That is less than between counterparts: compare methods by it, not it with the paper.
"""

from pathlib import Path

import numpy as np

from facemodels.core.errors import InputError
from facemodels.core.landmarks import NOSE_TIP
from facemodels.evaluation.report import Report
from facemodels.evaluation.scans import (
    Surface,
    inner,
    one_file,
    photo,
    pictures_in,
    placed_by_landmarks,
    predicted_surface,
    read_scan,
    read_scan_landmarks,
    reconstructions,
    refined,
)

RADIUS = 95.0  # mm


def configure(parser) -> None:
    """There are no settings."""


def run(method, data: Path, options) -> Report:
    """Scores a method.

    data: a folder with a folder a person: one neutral scan (.obj or .ply, millimetres), its 68 landmarks beside it (`read_scan_landmarks`), and in the folder pictures below it
    photographs, beside which may lie their landmarks (`photo`).

    Raises:
        InputError: a file is missing or damaged; the message names it.
    """
    people = sorted(p for p in Path(data).glob("*") if (p / "pictures").is_dir())
    if not people:
        raise InputError(
            f"{data}: expected a folder a person with a scan, its landmarks, and a folder named pictures, found none"
        )
    errors = {}
    for person in people:
        path = one_file(person, ("*.obj", "*.ply"), "a neutral scan")
        marks = read_scan_landmarks(path, (NOSE_TIP,))
        points = inner(read_scan(path).vertices, marks[NOSE_TIP], RADIUS)
        if not len(points):
            raise InputError(
                f"{path}: no vertex lies within {RADIUS:.0f} mm of the tip of the nose that the landmarks beside it give; both must be millimetres of one frame"
            )
        pictures = pictures_in(person / "pictures")
        if not pictures:
            raise InputError(f"{person / 'pictures'}: expected photographs of the person, found none")
        errors[person.name] = [
            rmse(points, marks, predicted_surface(method, found))
            for found in reconstructions(method, map(photo, pictures))
        ]
    single = np.concatenate([*errors.values()])
    means = [np.mean(e) for e in errors.values()]
    results = {
        "people": len(people),
        "images": len(single),
        "rmse_mm": float(single.mean()),
        "rmse_std_mm": float(single.std()),
        "rmse_std_over_people_mm": float(np.std(means)),
    }
    title = f"UH-E2FAR's measure on {len(people)} people: RMSE in mm of scan vertices within 95 mm of the tip of the nose from the neutral mesh predicted of one photograph, rigidly aligned"
    notes = [
        "Rigid alignment by landmarks, then by iterated closest points; no scale. The paper's own values, on FRGC v2, BU-3DFE and UHDB31, are not known here."
    ]
    return Report(
        "e2far-shape",
        title,
        results,
        single,
        "mm",
        6.0,
        ["RMSE mm", "std mm"],
        [results["rmse_mm"], results["rmse_std_mm"]],
        [],
        notes,
    )


def rmse(points, marks, surface: Surface) -> float:
    """The error of a predicted surface in millimetres on scan vertices [P,3] with landmarks [68,3]."""
    placement = refined(points, surface, placed_by_landmarks(surface, marks, scale=False), scale=False)
    return float(surface.distances(points, placement).square().mean().sqrt())
