"""REALY: four regions of the face against scans, by Chai et al.

"REALY: Rethinking the Evaluation of 3D Face Reconstruction" (2022).

Data: 100 scans of Headspace with pictures of them, regions and 85 keypoints.

Measured as by the authors' program, for each of nose, mouth, forehead and cheek:

1. The predicted mesh, with its expression, is aligned with the scan by seven of the keypoints, with scale; once for all
   regions.
2. It is aligned, rigidly, with the scan's region, by closest points and the region's keypoints.
3. The region is deformed onto the predicted mesh (`nonrigid_icp`), by the points that are closest now and by keypoints
   (the cheek: without), so that the closest points afterwards are counterparts rather than whatever lies near.
4. The error of a vertex is the distance of its place in the scan from the point of the predicted mesh that is closest
   after the deformation, in millimeters by the scan's own scale; of a region, the mean over its vertices; then average,
   median and standard deviation (by n - 1) over scans, and the mean of the four averages. The paper calls this NMSE,
   but it is a mean of distances.

Of the 85 keypoints, 68 are the landmarks and four more are used: beside the nose and on the cheeks. A model's own four
are found from its landmarks (`predicted_keypoints`), or all 85 are read from a file of REALY's for its mesh. A mesh of
any topology can be scored.
"""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from facemodels.core.alignment import Similarity, similarity
from facemodels.core.errors import InputError, one_line
from facemodels.core.landmarks import BROWS, LEFT_EYE, NOSE, NUM_LANDMARKS, OUTER_LIPS, RIGHT_EYE, SEVEN, indices
from facemodels.core.progress import progress
from facemodels.core.surface import interpolate_faces
from facemodels.evaluation.examples import ORDER_68, PHOTO_LANDMARKS, people, turned, write_picture, write_scan
from facemodels.evaluation.nonrigid_icp import Keypoints, deform
from facemodels.evaluation.report import RECALLED, PublishedRow, Report, Results
from facemodels.evaluation.scan_alignment import LandmarkCheck, Surface, add_keep_going
from facemodels.evaluation.scan_faces import predicted_surface, read_photo, reconstructions
from facemodels.evaluation.scans import Scan, read_scan
from facemodels.io.files import existing_file, input_error
from facemodels.io.images import picture_files
from facemodels.methods.face_method import FaceMethod
from facemodels.models.load import load_model

FAR = 16.0  # extents of the face from the origin of its coordinates
REGIONS = ("nose", "mouth", "forehead", "cheek")
KEYPOINTS = 85
_BESIDE_NOSE, _CHEEKS, _CHIN = (70, 71), (76, 77), (7, 8, 9)
_LIPS = (*indices(OUTER_LIPS), 60, 64)
_BROWS_AND_EYES = (*indices(BROWS), *indices(RIGHT_EYE), *indices(LEFT_EYE))
# The keypoints of the rigid alignment by region, and what part of the region's weight is theirs.
RIGID = {
    "nose": ((*indices(NOSE), *_BESIDE_NOSE), 1.0),
    "mouth": (_LIPS, 1.0),
    "forehead": (_BROWS_AND_EYES, 1.0),
    "cheek": ((*_LIPS, *_CHEEKS, 36, 41, 40, 39, 42, 47, 46, 45, *_CHIN), 0.25),
}
# Those of the deformation.
NON_RIGID = {"nose": indices(NOSE), "mouth": _LIPS, "forehead": _BROWS_AND_EYES, "cheek": ()}
# A model's keypoints that are no landmarks: the points of its surface that are closest to these sums of landmarks, as
# they lie on REALY's templates (docs/notes/evaluation.md).
DERIVED = {
    70: ((36, 48, 30), (0.36, 0.40, 0.24)),
    71: ((45, 54, 30), (0.36, 0.40, 0.24)),
    76: ((36, 48, 27), (0.92, 0.52, -0.44)),
    77: ((45, 54, 27), (0.92, 0.52, -0.44)),
}
ITERATIONS, GAIN = 100, 1e-6  # of the rigid alignment; the change of the mean square that ends it, in the scan's unit
PUBLISHED = [  # of the frontal set
    PublishedRow("SynergyNet", [2.026, 1.731, 2.679, 1.647, 2.021], "leaderboard of Papers with Code"),
    PublishedRow("3DDFA_V2", [None, None, None, None, 1.926], "leaderboard of wizwand"),
    PublishedRow("Deep3D, PyTorch", [1.719, 1.368, 2.015, 1.528, 1.657], RECALLED),
    PublishedRow("HRN", [1.722, 1.357, 1.995, 1.072, 1.537], RECALLED),
    PublishedRow("3DDFA-V3", [1.59, 1.24, 1.81, 1.11, 1.44], RECALLED),
]


class ScanTruth(NamedTuple):
    """What is known of one scan.

    Attributes:
        keypoints: [85,3], in the scan's unit.
        regions: The meshes of its regions.
        millimeters: The scan's unit in millimeters.
    """

    keypoints: Tensor
    regions: dict[str, Scan]
    millimeters: float


def configure(parser: ArgumentParser) -> None:
    """Add the protocol's arguments."""
    parser.epilog = f"""example:
  facemodels evaluate realy --method dasl --data REALY --json realy.json

The data:
  DATA/
    REALY_HIFI3D_keypoints/
      1.obj                  85 keypoints of scan 1, lines v x y z, in the scan's coordinates, unit
    REALY_scan_region/1/
      nose.obj mouth.obj forehead.obj cheek.obj            the regions of scan 1
    metrical_scale.txt       millimeters in a scan's unit: scan 1 in row 1, scan 100 in row 100,
                             also where fewer scans are there
    REALY_image/             pictures, here or in folders below
      1.jpg                  of scan 1, frontal
      1_anything.jpg         of scan 1, from a side
      1.txt                  landmarks of a picture, optional

The 85 keypoints are HIFI3D's: the 68 landmarks, then 68 to 84, of which four are used: 70 and 71
beside the nose, right and left, 76 and 77 on the cheeks, right and left.
{ORDER_68}

{PHOTO_LANDMARKS}"""
    parser.add_argument(
        "--keypoints",
        type=Path,
        metavar="FILE",
        help="REALY's file of 85 keypoints for the method's mesh, such as BFM09.txt "
        "(default: the 68 landmarks, and four points found from them)",
    )
    add_keep_going(parser)


def run(method: FaceMethod, data: Path, options: Namespace) -> Report:
    """Score a method; see `facemodels.evaluation.Protocol`."""
    data = Path(data)
    found = (p.stem for p in (data / "REALY_HIFI3D_keypoints").glob("*.obj"))
    names = sorted((name for name in found if name.isdecimal() and int(name) > 0), key=int)
    if not names:
        raise InputError(
            f"{data}: expected REALY's keypoints REALY_HIFI3D_keypoints/1.obj and so on, named by the scans' numbers, "
            "in it, found none"
        )
    scales = read_scales(data / "metrical_scale.txt", int(names[-1]))
    pictures = [(p, owner) for p in picture_files(data / "REALY_image") if (owner := p.stem.split("_")[0]) in names]
    template = None if options.keypoints is None else read_template(options.keypoints, method.model.faces.cpu())
    if not pictures:
        raise InputError(
            f"{data / 'REALY_image'}: expected pictures named as the scans are, such as {names[0]}.jpg, found none"
        )
    owners = sorted({owner for _, owner in pictures}, key=int)
    truths = {owner: read_truth(data, owner, float(scales[int(owner) - 1])) for owner in owners}
    check = LandmarkCheck(SEVEN, keep_going=options.keep_going)
    sets: dict[str, list[dict[str, float]]] = {"frontal": [], "side": []}
    faces = reconstructions(method, (read_photo(p) for p, _ in pictures))
    for (path, owner), face in zip(progress(pictures, "pictures"), faces):
        surface, truth = predicted_surface(method, face, expression=True), truths[owner]
        check.add(data / "REALY_HIFI3D_keypoints" / f"{owner}.obj", surface, truth.keypoints[list(SEVEN)])
        keypoints = predicted_keypoints(surface) if template is None else template_keypoints(surface, *template)
        sets["frontal" if path.stem == owner else "side"].append(region_errors(truth, surface, keypoints))
    results: Results = {"scans": len(truths)}
    for name, rows in sets.items():
        if rows:
            results |= _summary(name, rows)
    shown = "frontal" if sets["frontal"] else "side"
    errors = np.array([np.mean([*row.values()]) for row in sets[shown]])
    columns = (*REGIONS, "all")
    return Report(
        protocol="realy",
        title=f"REALY, {len(errors)} {shown} pictures: mean distance in mm of scan regions from the predicted mesh, "
        "aligned region by region, after non-rigid correspondence",
        results=results,
        errors=errors,
        unit="mm",
        largest=5.0,
        columns=[f"{region} mm" for region in columns],
        row=[results[f"{shown}_{region}_mm"] for region in columns],
        ranked_by="all mm",
        published=PUBLISHED,
        notes=[
            *check.finish(),
            "The predicted mesh has its predicted expression, as the pictures have. Scale is aligned by seven "
            "keypoints; the alignment of the regions is rigid.",
            "The mesh's keypoints are its 68 landmarks and four points found from them (--keypoints reads others)."
            if template is None
            else f"The mesh's keypoints are those of {options.keypoints.name}.",
            "The published rows are of the frontal set.",
        ],
    )


def write_example(folder: Path) -> None:
    """Write a tiny data set; see `facemodels.evaluation.Protocol`."""
    model, unit = load_model("builtin"), 2.0
    for k, person in enumerate(people(2, (0.0, 35.0))):
        name, rotation = str(k + 1), turned(5 * k)
        face, marks = model.regions["face"].long(), person.landmarks
        x, y, _ = person.vertices[face].T
        eyes, mouth = marks[[*indices(RIGHT_EYE), *indices(LEFT_EYE)], 1].min(), marks[[48, 54]].mean(0)
        parts = {
            "nose": model.regions["nose"].long(),
            "mouth": face[np.hypot(x - mouth[0], y - mouth[1]) < 32],
            "forehead": face[y > eyes - 5],  # with the eyes, as REALY's
            "cheek": face[(np.abs(x) > 25) & (y < eyes) & (y > mouth[1] - 15)],
        }
        for region, vertices in parts.items():
            path = folder / "REALY_scan_region" / name / f"{region}.obj"
            write_scan(path, person.vertices @ rotation.T, unit, seed=k, region=vertices)
        surface = Surface(torch.from_numpy(person.vertices), model.faces, torch.from_numpy(marks))
        keypoints = predicted_keypoints(surface).numpy()
        keypoints = np.where(np.isfinite(keypoints), keypoints, marks[30]) @ rotation.T / unit  # some are not used
        path = folder / "REALY_HIFI3D_keypoints" / f"{name}.obj"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"v {x:.5f} {y:.5f} {z:.5f}\n" for x, y, z in keypoints))
        for n, picture in enumerate(person.pictures):
            write_picture(folder / "REALY_image" / f"{name}{('', '_side')[n]}.jpg", picture)
    (folder / "metrical_scale.txt").write_text(f"{unit}\n" * 2)


def _summary(name: str, rows: list[dict[str, float]]) -> Results:
    """The results of one set of pictures, "frontal" or "side": rows of errors by region."""
    table = np.array([[row[region] for region in REGIONS] for row in rows])
    results: Results = {f"{name}_images": len(rows)}
    for region, values in zip(REGIONS, table.T):
        results |= {
            f"{name}_{region}_mm": float(values.mean()),
            f"{name}_{region}_median_mm": float(np.median(values)),
            f"{name}_{region}_std_mm": float(values.std(ddof=1)) if len(values) > 1 else None,
        }
    results[f"{name}_all_mm"] = float(table.mean())
    return results


def region_errors(truth: ScanTruth, surface: Surface, keypoints: Tensor) -> dict[str, float]:
    """The errors of a predicted surface by region, mm.

    Args:
        truth: The scan.
        surface: The predicted surface.
        keypoints: [85,3], its keypoints; NaN where not used.
    """
    start = align_seven(keypoints, truth.keypoints)
    return {
        name: truth.millimeters * region_error(name, scan, truth.keypoints, surface, keypoints, start)
        for name, scan in truth.regions.items()
    }


def region_error(
    name: str, scan: Scan, scan_keypoints: Tensor, surface: Surface, keypoints: Tensor, start: Similarity
) -> float:
    """The error of a predicted surface in one region, steps 2 to 4, in the scan's unit.

    Args:
        name: The region's, one of `REGIONS`.
        scan: Its mesh.
        scan_keypoints: [85,3], those of the scan.
        surface: The predicted surface.
        keypoints: [85,3], those of the surface, in its coordinates.
        start: The alignment of step 1.
    """
    placement = align_region(name, scan.vertices, scan_keypoints, surface, keypoints, start)
    scan = merged(scan)
    closest, _ = surface.closest(scan.vertices, placement)
    known, numbers = None, list(NON_RIGID[name])
    if numbers:
        _, index = cKDTree(scan.vertices.numpy()).query(scan_keypoints[numbers].numpy())
        known = Keypoints(np.asarray(index), placement(keypoints[numbers]).numpy())
    moved = deform(scan.vertices.numpy(), scan.faces.numpy(), closest.numpy(), known)
    counterparts, _ = surface.closest(torch.from_numpy(moved), placement)
    return float((counterparts - scan.vertices).norm(dim=1).mean())


def align_seven(keypoints: Tensor, scan_keypoints: Tensor) -> Similarity:
    """Align keypoints [85,3] of a surface with those of a scan by seven of them.

    The rotation is that of least squares. The scale is the ratio of the sums of all coordinates' sizes about the
    centers, so it depends on how the scan is turned.
    """
    source, target = keypoints[list(SEVEN)], scan_keypoints[list(SEVEN)]
    rotation = similarity(source, target).rotation
    turned = source @ rotation.T
    scale = (target - target.mean(0)).abs().sum() / (turned - turned.mean(0)).abs().sum()
    return Similarity(scale, rotation, target.mean(0) - scale * turned.mean(0))


def align_region(
    name: str, points: Tensor, scan_keypoints: Tensor, surface: Surface, keypoints: Tensor, start: Similarity
) -> Similarity:
    """Align a surface rigidly with a region of a scan by iterated closest points; arguments as of `region_error`.

    All keypoints together weigh about as much as the region's vertices, in the cheek a quarter of it: each weighs as
    many vertices as fit, a whole number.
    """
    numbers, share = RIGID[name]
    weight = int(share * len(points) / len(numbers))
    weights = torch.cat([torch.ones(len(points)), torch.full((len(numbers),), float(weight))]).double()
    targets = torch.cat([points, scan_keypoints[list(numbers)]])
    placement, before = start, 0.0
    for _ in range(ITERATIONS):
        placed = torch.cat([surface.closest(points, placement)[0], placement(keypoints[list(numbers)])])
        motion = similarity(placed, targets, weights, scale=False)
        squares = (motion(placed) - targets).square().sum(1)
        error = float((weights * squares).sum() / weights.sum())
        if abs(error - before) < GAIN:
            break
        turned = motion.rotation @ placement.rotation
        placement = Similarity(placement.scale, turned, motion(placement.translation[None])[0])
        before = error
    return placement


def merged(scan: Scan) -> Scan:
    """A scan without unused vertices, and with one vertex for those at the same place: seams do not divide it."""
    used = torch.unique(scan.faces)
    vertices, where = np.unique(scan.vertices[used].numpy(), axis=0, return_inverse=True)
    new = np.zeros(len(scan.vertices), np.int64)
    new[used.numpy()] = where.ravel()
    return Scan(torch.from_numpy(vertices), torch.from_numpy(new[scan.faces.numpy()]))


def predicted_keypoints(surface: Surface) -> Tensor:
    """The keypoints [85,3] of a surface: its landmarks, and those that are found from them; NaN the others."""
    keypoints = surface.landmarks.new_full((KEYPOINTS, 3), torch.nan)
    keypoints[:NUM_LANDMARKS] = surface.landmarks
    sums = torch.stack(
        [surface.landmarks.new_tensor(weights) @ surface.landmarks[list(marks)] for marks, weights in DERIVED.values()]
    )
    here = Similarity(sums.new_tensor(1.0), torch.eye(3).to(sums), sums.new_zeros(3))
    keypoints[list(DERIVED)] = surface.closest(sums, here)[0]
    return keypoints


def template_keypoints(surface: Surface, triangles: Tensor, weights: Tensor) -> Tensor:
    """The keypoints [85,3] of a surface by the triangles [85] and weights [85,3] of `read_template`."""
    return interpolate_faces(surface.vertices, surface.faces, triangles, weights)


def read_template(path: Path, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Read REALY's file of keypoints on a mesh: rows of a triangle and the weights of its first two corners.

    Args:
        path: The file, JSON.
        faces: [F,3], the mesh's triangles in the order that the file counts them in, from 0.

    Returns:
        The triangles int64 [85] and the weights of their corners float64 [85,3].

    Raises:
        InputError: The file is missing or damaged, or has other rows.
    """
    expected = f"{KEYPOINTS} rows [triangle, weight, weight] of the mesh's {len(faces)} triangles, JSON"
    file = existing_file(path, expected)
    try:
        rows = np.array(json.loads(file.read_text()), np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise input_error(file, expected, f"a file that cannot be parsed ({one_line(error)})") from None
    if rows.shape != (KEYPOINTS, 3) or not np.isfinite(rows).all():
        raise input_error(file, expected, f"numbers {list(rows.shape)}, or not finite")
    triangles = rows[:, 0].astype(np.int64)
    if (triangles < 0).any() or (triangles >= len(faces)).any() or (triangles != rows[:, 0]).any():
        raise input_error(file, expected, f"a triangle {rows[:, 0].max():g}")
    weights = np.c_[rows[:, 1:], 1 - rows[:, 1:].sum(1)]
    return torch.from_numpy(triangles), torch.from_numpy(weights)


def read_truth(data: Path, name: str, millimeters: float) -> ScanTruth:
    """Read the keypoints and regions of a scan.

    Args:
        data: The folder of the data set.
        name: The scan's name.
        millimeters: The scan's unit in millimeters.

    Raises:
        InputError: A file is missing or damaged, or there are not 85 keypoints.
    """
    file = existing_file(data / "REALY_HIFI3D_keypoints" / f"{name}.obj", f"{KEYPOINTS} keypoints")
    try:
        keypoints = np.array(
            [line.split()[1:4] for line in file.read_text(errors="replace").splitlines() if line.startswith("v ")],
            np.float64,
        ).reshape(-1, 3)
    except ValueError as error:
        raise input_error(file, f"{KEYPOINTS} vertices", f"a file that cannot be parsed ({error})") from None
    if len(keypoints) != KEYPOINTS or not np.isfinite(keypoints).all():
        raise input_error(file, f"{KEYPOINTS} vertices", f"{len(keypoints)}")
    folder = data / "REALY_scan_region" / name
    regions = {region: read_scan(folder / f"{region}.obj").compact() for region in REGIONS}
    # The deformation's equations hold coordinates beside ones: far from the origin they would be singular.
    if np.abs(keypoints).max() > FAR * np.ptp(keypoints, axis=0).max():
        origin = torch.from_numpy(keypoints.mean(0))
        keypoints = keypoints - origin.numpy()
        regions = {region: scan._replace(vertices=scan.vertices - origin) for region, scan in regions.items()}
    return ScanTruth(torch.from_numpy(keypoints), regions, millimeters)


def read_scales(path: Path, count: int) -> np.ndarray:
    """Read the units of the scans in millimeters, by the scans' numbers less 1.

    Args:
        path: The file.
        count: The largest number of a scan.

    Raises:
        InputError: The file is missing, or holds fewer numbers, or some that are not positive.
    """
    expected = f"the unit of each scan in millimeters, positive numbers, that of scan {count} in row {count}"
    path = existing_file(path, expected)
    try:
        scales = np.array(path.read_text().split(), np.float64)
    except (ValueError, UnicodeDecodeError) as error:
        raise input_error(path, expected, f"something else ({error})") from None
    if len(scales) < count or not (np.isfinite(scales) & (scales > 0)).all():
        found = f"{len(scales)} numbers" + (f", the least {scales.min():g}" if len(scales) else "")
        raise input_error(path, expected, found)
    return scales
