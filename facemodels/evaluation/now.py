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

Predictions of any other method can be scored from files (``--predictions``): a neutral mesh and its seven landmarks for
each photograph, as the challenge takes them.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from facemodels.core.alignment import Similarity, similarity
from facemodels.core.crops import Box
from facemodels.core.errors import InputError, one_line
from facemodels.core.landmarks import NUM_LANDMARKS, SEVEN
from facemodels.core.progress import progress
from facemodels.evaluation.examples import ORDER_SEVEN, people, turned, write_picked_points, write_picture, write_scan
from facemodels.evaluation.report import RECALLED, PublishedRow, Report, Results
from facemodels.evaluation.scan_alignment import LandmarkCheck, Surface, add_keep_going, align_closest_points, within
from facemodels.evaluation.scan_faces import Photo, detector_box, mean_surface, predicted_surface, reconstructions
from facemodels.evaluation.scans import one_file, read_picked_points, read_scan
from facemodels.io.files import existing_file, input_error, no_such_file
from facemodels.io.images import read_picture
from facemodels.io.pickles import read_object_npy
from facemodels.methods.face_method import FaceMethod
from facemodels.models.load import load_model

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
UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0}  # of predicted meshes, in millimeters
_SIDES = ("left", "top", "right", "bottom")  # of a detected face


class Subject(NamedTuple):
    """A scanned person.

    Attributes:
        points: [P,3], the cropped vertices of the scan.
        marks: [7,3], its landmarks (`core.landmarks.SEVEN`).
        file: The file of the landmarks.
    """

    points: Tensor
    marks: Tensor
    file: Path


def configure(parser: ArgumentParser) -> None:
    """Add the protocol's arguments."""
    parser.epilog = f"""examples:
  facemodels evaluate now --method dasl --data NoW --json now.json --curve now.png
  facemodels evaluate now --predictions predicted_meshes --data NoW   another method, from its files

The data, as the challenge's validation set comes:
  DATA/
    imagepathsvalidation.txt         one photograph per line: SUBJECT/CHALLENGE/NAME.jpg
    scans/SUBJECT/*.obj              one neutral scan each, .obj, millimeters
    scans_lmks_onlypp/SUBJECT/*.pp   seven landmarks picked in MeshLab, in the scan's coordinates
    NoW_Dataset/final_release_version/                   (or final_release_version/, or DATA itself)
      iphone_pictures/SUBJECT/CHALLENGE/NAME.jpg           photographs
      detected_face/SUBJECT/CHALLENGE/NAME.npy             left, top, right, bottom by name, pixels

Predictions, a folder with a neutral mesh for each photograph:
  predicted_meshes/SUBJECT/CHALLENGE/NAME.obj              or .ply; any mesh, any coordinates
  predicted_meshes/SUBJECT/CHALLENGE/NAME.txt              or .npy: its seven landmarks [7,3] on it

{ORDER_SEVEN}"""
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="FOLDER",
        help="score the meshes of another method, in place of --method or --checkpoint",
    )
    parser.add_argument(
        "--unit", choices=tuple(UNITS), default="mm", help="of the predicted meshes; for the metrical variant"
    )
    add_keep_going(parser)


def run(method: FaceMethod | None, data: Path, options: Namespace) -> Report:
    """Score a method on the validation set, or predictions; see `facemodels.evaluation.Protocol`."""
    data = Path(data)
    listing = existing_file(
        data / "imagepathsvalidation.txt",
        "NoW's list of validation photographs, subject/challenge/name.jpg in each line",
    )
    paths = [line.strip() for line in listing.read_text(errors="replace").splitlines() if line.strip()]
    bad = next((p for p in paths if len(Path(p).parts) != 3 or ".." in p), None)
    if not paths or bad is not None:
        raise input_error(listing, "lines subject/challenge/name.jpg", "none" if bad is None else bad)
    surfaces: Iterator[Surface]
    sources: list[Path | None]
    how_cropped: list[str]  # for the notes
    if method is None:
        files = _stored_files(options.predictions, paths)
        surfaces = (read_prediction(mesh, marks, UNITS[options.unit]) for mesh, marks in files)
        sources, how_cropped = [marks for _, marks in files], []
    else:
        surfaces, sources = _surfaces_of(method, data, paths), [None] * len(paths)
        how_cropped = [
            "A face is cropped by the detector's box first, then around the landmarks that are predicted there."
        ]
    subjects = {subject: _read_subject(data, subject) for subject in sorted({Path(p).parts[0] for p in paths})}

    model = load_model("builtin") if method is None else method.model
    average = mean_surface(model)
    check = LandmarkCheck(SEVEN, millimeters=True, keep_going=options.keep_going)
    errors: list[np.ndarray] = []
    metrical: list[np.ndarray] = []
    challenges: dict[str, list[np.ndarray]] = {}
    of_mean = {name: distances(s.points, s.marks, average).float().numpy() for name, s in subjects.items()}
    for path, surface, source in zip(progress(paths, "photographs"), surfaces, sources):
        points, marks, file = subjects[Path(path).parts[0]]
        fits = check.add(file, surface, marks, source)
        errors.append(distances(points, marks, surface, fits=fits).float().numpy())
        metrical.append(distances(points, marks, surface, scale=False, fits=fits).float().numpy())
        challenges.setdefault(Path(path).parts[1], []).append(errors[-1])
    results: Results = {"images": len(paths), "people": len(subjects), "vertices": sum(map(len, errors))}
    results |= statistics(errors) | statistics(metrical, "metrical_")
    results |= statistics([of_mean[Path(path).parts[0]] for path in paths], "mean_face_")
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
        ranked_by="median mm",
        published=PUBLISHED,
        measured=[
            PublishedRow(
                f"mean face of {model.name}",
                [results[f"mean_face_{key}"] for key in ("median_mm", "mean_mm", "std_mm")],
                "measured",
            )
        ],
        notes=[
            *check.finish(),
            *NOTES,
            *how_cropped,
            f"The mean face of {model.name} in place of every prediction: what a method is worth that has not seen the "
            "photographs.",
            "Published numbers are of the test set (80 people), ours are of the validation set: near each other, but "
            "not the same faces.",
        ],
    )


def write_example(folder: Path) -> None:
    """Write a tiny data set; see `facemodels.evaluation.Protocol`."""
    released = folder / "NoW_Dataset" / "final_release_version"
    names = []
    for k, person in enumerate(people(2, (0.0, 30.0))):
        subject, rotation = f"subject_{k + 1}", turned(15 * k)
        write_scan(folder / "scans" / subject / "scan.obj", person.vertices @ rotation.T, seed=k)
        marks = person.landmarks[list(SEVEN)] @ rotation.T
        write_picked_points(folder / "scans_lmks_onlypp" / subject / "scan.pp", marks)
        for n, picture in enumerate(person.pictures):
            names.append(f"{subject}/{('multiview_neutral', 'selfie')[n]}/IMG_{n + 1}.jpg")
            write_picture(released / "iphone_pictures" / names[-1], picture, landmarks=False)
            low, high = picture.landmarks[:, :2].min(0), picture.landmarks[:, :2].max(0)
            box = dict(zip(_SIDES, map(float, (*low, *high))))
            file = (released / "detected_face" / names[-1]).with_suffix(".npy")
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, np.array(box), allow_pickle=True)
    (folder / "imagepathsvalidation.txt").write_text("\n".join(names) + "\n")


def _surfaces_of(method: FaceMethod, data: Path, paths: list[str]) -> Iterator[Surface]:
    """The neutral surfaces that a method predicts in the photographs."""
    pictures, boxes = _folder(data, "iphone_pictures"), _folder(data, "detected_face")
    photos = (
        Photo(str(pictures / p), read_picture(pictures / p), read_box((boxes / p).with_suffix(".npy"))) for p in paths
    )
    return (predicted_surface(method, face) for face in reconstructions(method, photos))


def _stored_files(folder: Path, paths: list[str]) -> list[tuple[Path, Path]]:
    """The files of the meshes that another method predicted, and of their landmarks.

    Raises:
        InputError: Some are missing: at once, before any is scored.
    """
    if not folder.is_dir():
        raise no_such_file(folder, "folder of predictions")
    files = []
    missing = []
    for path in paths:
        found = [_one_of(folder / path, kinds) for kinds in ((".obj", ".ply"), (".txt", ".npy"))]
        mesh, marks = found
        if mesh is None or marks is None:
            missing.append(f"{Path(path).with_suffix('')}{'.obj or .ply' if mesh is None else '.txt or .npy'}")
        else:
            files.append((mesh, marks))
    if missing:
        raise InputError(
            f"{folder}: expected a mesh and its seven landmarks for each of {len(paths)} photographs, found none for "
            f"{len(missing)} of them; the first that is missing is {missing[0]}"
        )
    return files


def _one_of(path: Path, kinds: tuple[str, ...]) -> Path | None:
    return next((file for file in map(path.with_suffix, kinds) if file.is_file()), None)


def read_prediction(mesh: Path, marks: Path, millimeters: float = 1.0) -> Surface:
    """Read a predicted mesh with its seven landmarks.

    Args:
        mesh: The mesh, .obj or .ply.
        marks: Its landmarks [7,3] in the mesh's coordinates (`core.landmarks.SEVEN`), .txt or .npy.
        millimeters: The unit of both in millimeters.

    Returns:
        The surface; of its 68 landmarks the others are NaN.

    Raises:
        InputError: A file is damaged or holds something else.
    """
    scan = read_scan(mesh)
    expected = f"seven landmarks [7,3] in the coordinates of {mesh.name}"
    try:
        if marks.suffix == ".npy":
            seven = np.asarray(np.load(marks, allow_pickle=False), np.float64)
        else:
            rows = [line.replace(",", " ").split() for line in marks.read_text().splitlines()]
            seven = np.array([row for row in rows if row], np.float64)
    except Exception as error:  # whatever a parser raises at a damaged file
        raise input_error(marks, expected, f"a file that cannot be parsed ({one_line(error)})") from None
    if seven.shape != (7, 3) or not np.isfinite(seven).all():
        raise input_error(
            marks, expected, f"{list(seven.shape)}" if seven.shape != (7, 3) else "one that is not finite"
        )
    landmarks = torch.full((NUM_LANDMARKS, 3), torch.nan, dtype=torch.float64)
    landmarks[list(SEVEN)] = torch.from_numpy(seven)
    return Surface(scan.vertices * millimeters, scan.faces, landmarks * millimeters)


def cropped(vertices: Tensor, marks: Tensor) -> Tensor:
    """The vertices [P,3] of a scan [V,3] that are scored, by its seven landmarks [7,3] (`core.landmarks.SEVEN`)."""
    bridge, nose = (marks[1] + marks[2]) / 2, marks[4]
    radius = RADIUS * ((marks[0] - marks[3]).norm() + (bridge - nose).norm()) / 2
    return within(vertices, nose + 0.3 * (bridge - nose), radius)


def align(points: Tensor, marks: Tensor, surface: Surface, scale: bool = True, fits: bool = True) -> Similarity:
    """Lay a predicted surface on a scan.

    Args:
        points: [P,3], the cropped vertices of the scan.
        marks: [7,3], its landmarks.
        surface: The predicted surface, millimeters.
        scale: Whether the size may change; not in the metrical variant.
        fits: Whether its landmarks fit those of the scan (`align_closest_points`).

    Returns:
        From the surface's coordinates to the scan's.
    """
    start = similarity(surface.landmarks[list(SEVEN)], marks, scale=scale)
    return align_closest_points(points, surface, start, scale, fits)


def distances(points: Tensor, marks: Tensor, surface: Surface, scale: bool = True, fits: bool = True) -> Tensor:
    """The errors [P] of a predicted surface, in the scan's unit; arguments as of `align`."""
    return surface.distances(points, align(points, marks, surface, scale, fits))


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


def _read_subject(data: Path, subject: str) -> Subject:
    scan = read_scan(one_file(data / "scans" / subject, ("*.obj",), "a scan"))
    file = one_file(data / "scans_lmks_onlypp" / subject, ("*.pp",), "the scan's seven landmarks")
    marks = read_picked_points(file, 7)
    points = cropped(scan.vertices, marks)
    if not len(points):
        raise input_error(file, f"landmarks that lie on the scan of {subject}", "none of its vertices near them")
    return Subject(points, marks, file)
