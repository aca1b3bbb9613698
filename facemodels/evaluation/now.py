"""NoW: neutral faces against scans, by Sanyal, Bolkart, Feng and Black.

"Learning to Regress 3D Face Shape and Expression from an Image without 3D Supervision" (2019).

Data: neutral scans of 100 people and 2,054 photographs of them. The scans of 20 people are public, the validation set,
which is scored here; tables show the other 80, whose scans only the authors have.

Measured: distances of scan vertices from the predicted surface. Where papers differ:

* The predicted mesh is neutral: identity alone. With its expression, errors would be several times larger.
* Seven landmarks (corners of the eyes, base of the nose, corners of the mouth) align it with the scan, with scale. The
  scan is cropped around its own landmarks. Then scale, rotation and translation are refined to the least sum of squared
  distances of all cropped scan vertices from the predicted surface.
* The error is the distance of a cropped scan vertex from the predicted surface. All vertices of all photographs are
  pooled; median, mean and standard deviation.
* In the metrical variant the size is the prediction's own: rotation and translation alone, in both steps.
* A missing prediction would make a comparison unfair: a photograph that cannot be read stops the evaluation.

Photographs come with a detector's box. The face is cropped by 3DDFA's rule, then again around the landmarks that are
predicted there.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
from torch import Tensor

from facemodels.core.alignment import Similarity, similarity
from facemodels.core.crops import Box
from facemodels.core.errors import InputError
from facemodels.core.landmarks import SEVEN
from facemodels.evaluation.report import RECALLED, PublishedRow, Report, Results
from facemodels.evaluation.scan_alignment import Surface, align_closest_points, within
from facemodels.evaluation.scan_faces import Photo, detector_box, predicted_surface, reconstructions
from facemodels.evaluation.scans import one_file, read_picked_points, read_scan
from facemodels.io.files import existing_file, input_error
from facemodels.io.images import read_picture
from facemodels.io.pickles import read_object_npy
from facemodels.methods.face_method import FaceMethod

RADIUS = 1.4  # of the crop, in means of the distance of the eyes and the length of the nose
COLUMNS = ["median mm", "mean mm", "std mm"]
_READMES = "README of sicxu/Deep3DFaceRecon_pytorch, README of unibas-gravis/Occlusion-Robust-MoFA"
PUBLISHED = [  # of the test set
    PublishedRow("3DMM-CNN", [1.84, 2.33, 2.05], _READMES),
    PublishedRow("PRNet", [1.50, 1.98, 1.88], _READMES),
    PublishedRow("MGCNet", [1.31, 1.87, 2.63], _READMES),
    PublishedRow("SynergyNet", [1.27, 1.59, 1.31], "issue 24 of choyingw/SynergyNet"),
    PublishedRow("3DDFA_V2", [1.23, 1.57, 1.39], _READMES),
    PublishedRow("Deep3D, TensorFlow", [1.23, 1.54, 1.29], _READMES),
    PublishedRow("RingNet", [1.21, 1.53, 1.31], _READMES),
    PublishedRow("mean face of FLAME", [1.21, 1.53, 1.31], RECALLED),
    PublishedRow("Deep3D, PyTorch", [1.11, 1.41, 1.21], _READMES),
    PublishedRow("DECA", [1.09, 1.38, 1.18], _READMES),
    PublishedRow("FOCUS", [1.04, 1.30, 1.10], _READMES),
    PublishedRow("Dense landmarks", [1.02, 1.28, 1.08], RECALLED),
    PublishedRow("MICA", [0.90, 1.11, 0.92], RECALLED),
    PublishedRow("TokenFace", [0.76, 0.95, 0.82], RECALLED),
]
NOTES = [
    "Seven landmarks, then the least sum of squared distances of all cropped scan vertices from the predicted surface; "
    "scale is free (not so in the metrical variant).",
    "The crop: within 1.4 (distance of the eyes' outer corners + length of the nose) / 2 of a point 0.3 of the way "
    "from the base of the nose to its bridge.",
    "Distances from the whole mesh of the model, neutral; pooled over all vertices of all photographs.",
]
_SIDES = ("left", "top", "right", "bottom")  # of a detected face


def configure(parser: ArgumentParser) -> None:
    """Describe the data; the protocol has no settings."""
    parser.epilog = """example:
  facemodels evaluate now --method dasl --data NoW --json now.json --curve now.png

--data is the folder of imagepathsvalidation.txt, scans and scans_lmks_onlypp, with iphone_pictures
and detected_face in it, in final_release_version or in NoW_Dataset/final_release_version."""


def run(method: FaceMethod, data: Path, options: Namespace) -> Report:
    """Score a method on the validation set; see `facemodels.evaluation.Protocol`."""
    data = Path(data)
    listing = existing_file(
        data / "imagepathsvalidation.txt",
        "NoW's list of validation photographs, subject/challenge/name.jpg in each line",
    )
    paths = [line.strip() for line in listing.read_text(errors="replace").splitlines() if line.strip()]
    bad = next((p for p in paths if len(Path(p).parts) != 3 or ".." in p), None)
    if not paths or bad is not None:
        raise input_error(listing, "lines subject/challenge/name.jpg", "none" if bad is None else bad)
    pictures, boxes = _folder(data, "iphone_pictures"), _folder(data, "detected_face")
    subjects = {subject: _read_subject(data, subject) for subject in sorted({Path(p).parts[0] for p in paths})}

    photos = (
        Photo(str(pictures / p), read_picture(pictures / p), read_box((boxes / p).with_suffix(".npy"))) for p in paths
    )
    errors: list[np.ndarray] = []
    metrical: list[np.ndarray] = []
    challenges: dict[str, list[np.ndarray]] = {}
    for path, face in zip(paths, reconstructions(method, photos)):
        points, marks = subjects[Path(path).parts[0]]
        surface = predicted_surface(method, face)
        errors.append(distances(points, marks, surface).float().numpy())
        metrical.append(distances(points, marks, surface, scale=False).float().numpy())
        challenges.setdefault(Path(path).parts[1], []).append(errors[-1])
    results: Results = {"images": len(paths), "people": len(subjects), "vertices": sum(map(len, errors))}
    results |= statistics(errors) | statistics(metrical, "metrical_")
    for challenge, pooled in sorted(challenges.items()):
        results |= {f"{challenge}_images": len(pooled)} | statistics(pooled, f"{challenge}_")
    return Report(
        protocol="now",
        title=f"NoW, validation set ({len(subjects)} people): distance in mm of scan vertices from the neutral mesh "
        f"predicted from one photograph, scale aligned, pooled over {len(paths)} photographs",
        results=results,
        errors=np.concatenate(errors),
        unit="mm",
        largest=7.0,
        columns=COLUMNS,
        row=[results[key] for key in ("median_mm", "mean_mm", "std_mm")],
        published=PUBLISHED,
        notes=[
            *NOTES,
            "Published numbers are of the test set (80 people), ours are of the validation set: near each other, but "
            "not the same faces.",
        ],
    )


def cropped(vertices: Tensor, marks: Tensor) -> Tensor:
    """The vertices [P,3] of a scan [V,3] that are scored, by its seven landmarks [7,3] (`core.landmarks.SEVEN`)."""
    bridge, nose = (marks[1] + marks[2]) / 2, marks[4]
    radius = RADIUS * ((marks[0] - marks[3]).norm() + (bridge - nose).norm()) / 2
    return within(vertices, nose + 0.3 * (bridge - nose), radius)


def align(points: Tensor, marks: Tensor, surface: Surface, scale: bool = True) -> Similarity:
    """Lay a predicted surface on a scan.

    Args:
        points: [P,3], the cropped vertices of the scan.
        marks: [7,3], its landmarks.
        surface: The predicted surface, millimeters.
        scale: Whether the size may change; not in the metrical variant.

    Returns:
        From the surface's coordinates to the scan's.
    """
    start = similarity(surface.landmarks[list(SEVEN)], marks, scale=scale)
    return align_closest_points(points, surface, start, scale)


def distances(points: Tensor, marks: Tensor, surface: Surface, scale: bool = True) -> Tensor:
    """The errors [P] of a predicted surface, in the scan's unit; arguments as of `align`."""
    return surface.distances(points, align(points, marks, surface, scale))


def statistics(errors: list[np.ndarray], prefix: str = "") -> Results:
    """Median, mean and standard deviation of pooled errors, mm; their names begin with the prefix."""
    pooled = np.concatenate(errors)
    return {
        f"{prefix}median_mm": float(np.median(pooled)),
        f"{prefix}mean_mm": float(pooled.mean()),
        f"{prefix}std_mm": float(pooled.std()),
    }


def read_box(path: Path) -> Box:
    """Read the crop for a detected face: an .npy with left, top, right and bottom, in pixels.

    Raises:
        InputError: The file is missing or damaged, or holds no box.
    """
    expected = "a detected face, a dictionary of left, top, right and bottom"
    content = read_object_npy(path, expected)
    try:
        return detector_box(*(float(content[side]) for side in _SIDES))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise input_error(path, expected, f"something else ({error})") from None


def _folder(data: Path, name: str) -> Path:
    places = [data / name, data / "final_release_version" / name, data / "NoW_Dataset" / "final_release_version" / name]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise InputError(f"{data}: expected NoW's folder {name} in it, or in final_release_version; found none")
    return found


def _read_subject(data: Path, subject: str) -> tuple[Tensor, Tensor]:
    """The cropped vertices [P,3] and the seven landmarks [7,3] of a subject."""
    scan = read_scan(one_file(data / "scans" / subject, ("*.obj",), "a scan"))
    file = one_file(data / "scans_lmks_onlypp" / subject, ("*.pp",), "the scan's seven landmarks")
    marks = read_picked_points(file, 7)
    points = cropped(scan.vertices, marks)
    if not len(points):
        raise input_error(file, f"landmarks that lie on the scan of {subject}", "none of its vertices near them")
    return points, marks
