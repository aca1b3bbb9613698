"""NoW: neutral scans of 100 people and 2,054 photographs of them, by Sanyal, Bolkart, Feng and Black, "Learning to Regress 3D Face Shape and Expression from an Image without
3D Supervision" (2019). The scans of 20 people are public, the validation set, and are what is scored here; tables show the other 80, of which only the authors have scans.

The protocol, where tables differ:

* The predicted mesh is neutral: identity alone. A prediction with its expression would be several times worse.
* Seven landmarks (corners of the eyes, base of the nose, corners of the mouth) bring it to the scan, with scale. The scan is cropped around its own landmarks. Then scale,
  rotation and translation are refined to the least sum of squared distances of all cropped scan vertices from the predicted surface.
* The error is the distance of each cropped scan vertex from the predicted surface. All vertices of all photographs are pooled; median, mean and standard deviation.
* In the metrical variant the size is the prediction's own: rotation and translation alone, in both steps.
* A photograph without a prediction would make a comparison unfair: one that cannot be read stops the evaluation.

Photographs come with the box of a detector. The face is cut out by 3DDFA's rule, then again around the landmarks that are predicted there.
"""

from pathlib import Path

import numpy as np
from torch import Tensor

from facemodels.core.alignment import Similarity, similarity
from facemodels.core.errors import InputError
from facemodels.core.landmarks import SEVEN
from facemodels.evaluation.report import Report
from facemodels.evaluation.scans import (
    Photo,
    Surface,
    detector_box,
    inner,
    one_file,
    predicted_surface,
    read_picked_points,
    read_scan,
    reconstructions,
    refined,
)
from facemodels.io.files import existing_file, input_error
from facemodels.io.images import read_picture
from facemodels.io.pickles import read_object_npy

RADIUS = 1.4  # of the crop, in means of the eyes' distance and the nose's length
SIDES = ("left", "top", "right", "bottom")
COLUMNS = ["median mm", "mean mm", "std mm"]
PUBLISHED = [  # of the test set
    ("3DMM-CNN", [1.84, 2.33, 2.05], "found"),
    ("PRNet", [1.50, 1.98, 1.88], "found"),
    ("MGCNet", [1.31, 1.87, 2.63], "found"),
    ("SynergyNet", [1.27, 1.59, 1.31], "found"),
    ("3DDFA_V2", [1.23, 1.57, 1.39], "found"),
    ("Deep3D, TensorFlow", [1.23, 1.54, 1.29], "found"),
    ("RingNet", [1.21, 1.53, 1.31], "found"),
    ("mean face of FLAME", [1.21, 1.53, 1.31], "recalled"),
    ("Deep3D, PyTorch", [1.11, 1.41, 1.21], "found"),
    ("DECA", [1.09, 1.38, 1.18], "found"),
    ("FOCUS", [1.04, 1.30, 1.10], "found"),
    ("Dense landmarks", [1.02, 1.28, 1.08], "recalled"),
    ("MICA", [0.90, 1.11, 0.92], "recalled"),
    ("TokenFace", [0.76, 0.95, 0.82], "recalled"),
]
NOTES = [
    "Seven landmarks, then the least sum of squared distances of all cropped scan vertices from the predicted surface; scale is free (not so in the metrical variant).",
    "The crop: within 1.4 (eyes' outer distance + nose's length) / 2 of a point 0.3 of the way from the base of the nose to its bridge.",
    "Distances from the whole mesh of the model, neutral; pooled over all vertices of all photographs.",
]


def cropped(vertices: Tensor, marks: Tensor) -> Tensor:
    """The scan vertices [V,3] that are scored, [P,3], by the scan's seven landmarks [7,3] (`SEVEN`)."""
    bridge, nose = (marks[1] + marks[2]) / 2, marks[4]
    radius = RADIUS * ((marks[0] - marks[3]).norm() + (bridge - nose).norm()) / 2
    return inner(vertices, nose + 0.3 * (bridge - nose), radius)


def placement(points: Tensor, marks: Tensor, surface: Surface, scale: bool = True) -> Similarity:
    """Lays a predicted surface on cropped scan vertices [P,3] with seven landmarks [7,3]; scale=False is the metrical variant."""
    return refined(points, surface, similarity(surface.landmarks[list(SEVEN)], marks, scale=scale), scale)


def distances(points: Tensor, marks: Tensor, surface: Surface, scale: bool = True) -> Tensor:
    """The errors [P], in the scan's unit, of a predicted surface in millimetres; see `placement`."""
    return surface.distances(points, placement(points, marks, surface, scale))


def statistics(errors: list[np.ndarray], prefix: str = "") -> dict:
    """Median, mean and standard deviation of pooled errors, mm."""
    pooled = np.concatenate(errors)
    return {
        f"{prefix}median_mm": float(np.median(pooled)),
        f"{prefix}mean_mm": float(pooled.mean()),
        f"{prefix}std_mm": float(pooled.std()),
    }


def configure(parser) -> None:
    """NoW has no settings."""


def run(method, data: Path, options) -> Report:
    """Scores a method on the validation set.

    data: the folder with imagepathsvalidation.txt, scans, scans_lmks_onlypp, and iphone_pictures and detected_face (there, or in (NoW_Dataset/)final_release_version).

    Raises:
        InputError: a file is missing or damaged; the message names it.
    """
    data = Path(data)
    listing = existing_file(
        data / "imagepathsvalidation.txt",
        "NoW's list of validation photographs, subject/challenge/name.jpg in each line",
    )
    paths = [line.strip() for line in listing.read_text(errors="replace").splitlines() if line.strip()]
    bad = next((p for p in paths if len(Path(p).parts) != 3 or ".." in p), None)
    if not paths or bad is not None:
        raise input_error(listing, "lines subject/challenge/name.jpg", "none" if bad is None else bad)
    pictures, boxes = _part(data, "iphone_pictures"), _part(data, "detected_face")
    subjects = {subject: _subject(data, subject) for subject in sorted({Path(p).parts[0] for p in paths})}

    photos = (
        Photo(str(pictures / p), read_picture(pictures / p), read_box((boxes / p).with_suffix(".npy"))) for p in paths
    )
    errors, metrical, challenges = [], [], {}
    for path, found in zip(paths, reconstructions(method, photos)):
        points, marks = subjects[Path(path).parts[0]]
        surface = predicted_surface(method, found)
        errors.append(distances(points, marks, surface).float().numpy())
        metrical.append(distances(points, marks, surface, scale=False).float().numpy())
        challenges.setdefault(Path(path).parts[1], []).append(errors[-1])
    results = (
        {"images": len(paths), "people": len(subjects), "vertices": sum(map(len, errors))}
        | statistics(errors)
        | statistics(metrical, "metrical_")
    )
    for challenge in sorted(challenges):
        results |= {f"{challenge}_images": len(challenges[challenge])} | statistics(
            challenges[challenge], f"{challenge}_"
        )
    title = (
        f"NoW, validation set ({len(subjects)} people): distance in mm of scan vertices from the neutral mesh predicted of one photograph, scale aligned, "
        f"pooled over {len(paths)} photographs"
    )
    row = [results[key] for key in ("median_mm", "mean_mm", "std_mm")]
    notes = [
        *NOTES,
        "Published numbers are of the test set (80 people), ours are of the validation set: near each other, but not the same faces.",
    ]
    return Report("now", title, results, np.concatenate(errors), "mm", 7.0, COLUMNS, row, PUBLISHED, notes)


def read_box(path) -> tuple[float, float, float, float]:
    """The square to crop for one of NoW's detected faces: an .npy with left, top, right and bottom, in pixels.

    Raises:
        InputError: the file is missing, damaged, or holds no box.
    """
    expected = "a detected face, a dictionary of left, top, right and bottom"
    content = read_object_npy(path, expected)
    try:
        return detector_box(*(float(content[side]) for side in SIDES))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise input_error(path, expected, f"something else ({error})") from None


def _part(data, name):
    places = [data / name, data / "final_release_version" / name, data / "NoW_Dataset" / "final_release_version" / name]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise InputError(f"{data}: expected NoW's folder {name} in it, or in final_release_version; found none")
    return found


def _subject(data, subject):
    """(cropped vertices [P,3], seven landmarks [7,3]) of a subject."""
    scan = read_scan(one_file(data / "scans" / subject, ("*.obj",), "a scan"))
    file = one_file(data / "scans_lmks_onlypp" / subject, ("*.pp",), "the scan's seven landmarks")
    marks = read_picked_points(file, 7)
    points = cropped(scan.vertices, marks)
    if not len(points):
        raise input_error(file, f"landmarks that lie on the scan of {subject}", "none of its vertices near them")
    return points, marks
