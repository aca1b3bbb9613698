"""REALY: four regions of the face against scans, by Chai et al.

"REALY: Rethinking the Evaluation of 3D Face Reconstruction" (2022).

Data: 100 scans of Headspace with pictures of them, regions and 85 keypoints.

Measured, for each of nose, mouth, forehead and cheek:

1. The predicted mesh, with its expression, is aligned with the scan by seven of the keypoints, with scale; once for all
   regions.
2. It is aligned, rigidly, with the scan's region, by the region's keypoints and closest points.
3. The region is deformed onto the predicted mesh, toward the points that are closest now and with its keypoints (the
   cheek: without), so that the closest points afterwards are counterparts rather than whatever lies near.
4. The error of a vertex is the distance of its place in the scan from the point of the predicted mesh that is closest
   after the deformation, in millimeters by the scan's own scale; of a region, the mean over its vertices; then average,
   median and standard deviation (by n - 1) over scans, and the mean of the four averages. The paper calls this NMSE,
   but it is a mean of distances.

Where ours differs: models here have 68 of the 85 keypoints, and those of a region that are among them are used (27 to
35, 48 to 67, 17 to 26). The deformation is by translations with a Laplacian on them (N-ICP-T of Amberg, Romdhani and
Vetter 2007), with a stiffness of our own. A mesh of any topology can be scored.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.linalg import splu
from torch import Tensor

from facemodels.core.alignment import Similarity, similarity
from facemodels.core.errors import InputError
from facemodels.core.landmarks import BROWS, MOUTH, NOSE, SEVEN, indices
from facemodels.evaluation.report import RECALLED, PublishedRow, Report, Results
from facemodels.evaluation.scan_alignment import Pairs, Surface, align_closest_points
from facemodels.evaluation.scan_faces import predicted_surface, read_photo, reconstructions
from facemodels.evaluation.scans import Scan, read_scan
from facemodels.io.files import existing_file, input_error
from facemodels.io.images import picture_files
from facemodels.methods.face_method import FaceMethod

# The regions and the numbers of their keypoints.
REGIONS = {"nose": indices(NOSE), "mouth": indices(MOUTH), "forehead": indices(BROWS), "cheek": ()}
KEYPOINTS = 85
STIFFNESS = 50.0  # weight of neighbors that move differently, against one vertex that is off its target
KEYPOINT_WEIGHT = 50.0  # weight of a keypoint, against one vertex
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
    """Describe the data; the protocol has no settings."""
    parser.epilog = """example:
  facemodels evaluate realy --method dasl --data REALY --json realy.json

--data is the folder of REALY_HIFI3D_keypoints/1.obj ..., REALY_scan_region/1/nose.obj ...,
metrical_scale.txt (a number for each scan, in the order of their numbers) and REALY_image with
pictures, there or in folders below: 1.jpg is frontal, 1_anything.jpg is from a side. The landmarks
of a picture may lie beside it; else its face is detected."""


def run(method: FaceMethod, data: Path, options: Namespace) -> Report:
    """Score a method; see `facemodels.evaluation.Protocol`."""
    data = Path(data)
    names = sorted(
        (p.stem for p in (data / "REALY_HIFI3D_keypoints").glob("*.obj")),
        key=lambda n: (not n.isdigit(), int(n) if n.isdigit() else 0, n),
    )
    if not names:
        raise InputError(f"{data}: expected REALY's keypoints REALY_HIFI3D_keypoints/1.obj and so on in it, found none")
    scales = dict(zip(names, read_scales(data / "metrical_scale.txt", len(names))))
    pictures = [(p, owner) for p in picture_files(data / "REALY_image") if (owner := p.stem.split("_")[0]) in scales]
    if not pictures:
        raise InputError(
            f"{data / 'REALY_image'}: expected pictures named as the scans are, such as {names[0]}.jpg, found none"
        )
    truths = {owner: read_truth(data, owner, scales[owner]) for owner in sorted({owner for _, owner in pictures})}
    sets: dict[str, list[dict[str, float]]] = {"frontal": [], "side": []}
    for (path, owner), face in zip(pictures, reconstructions(method, (read_photo(p) for p, _ in pictures))):
        sets["frontal" if path.stem == owner else "side"].append(
            region_errors(truths[owner], predicted_surface(method, face, expression=True))
        )
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
            "The predicted mesh has its predicted expression, as the pictures have. Scale is aligned by seven "
            "keypoints; the alignment of the regions is rigid.",
            "68 of the 85 keypoints are used, and the stiffness of the deformation is our own: comparable with the "
            "published table in kind, not to the second digit.",
            "The published rows are of the frontal set.",
        ],
    )


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


def region_errors(truth: ScanTruth, surface: Surface) -> dict[str, float]:
    """The errors of a predicted surface by region, mm."""
    seven = list(SEVEN)
    start = similarity(surface.landmarks[seven], truth.keypoints[seven])
    return {
        name: truth.millimeters
        * region_error(scan, truth.keypoints[list(REGIONS[name])], surface, list(REGIONS[name]), start)
        for name, scan in truth.regions.items()
    }


def region_error(scan: Scan, keypoints: Tensor, surface: Surface, numbers: list[int], start: Similarity) -> float:
    """The error of a predicted surface in one region, steps 2 to 4, in the scan's unit.

    Args:
        scan: The mesh of the region.
        keypoints: [K,3], its keypoints on the scan.
        surface: The predicted surface.
        numbers: [K], the keypoints' numbers among the surface's landmarks.
        start: The alignment of step 1.
    """
    pairs = Pairs(surface.landmarks[numbers], keypoints) if numbers else None
    placement = align_closest_points(scan.vertices, surface, start, scale=False, pairs=pairs)
    closest, _ = surface.closest(scan.vertices, placement)
    moved = deform(scan, closest, keypoints, placement(surface.landmarks[numbers]))
    counterparts, _ = surface.closest(moved, placement)
    return float((counterparts - scan.vertices).norm(dim=1).mean())


def deform(scan: Scan, targets: Tensor, keypoints: Tensor, keypoint_targets: Tensor) -> Tensor:
    """Move the vertices of a mesh smoothly toward targets.

    The result has the least weighted sum of squared distances of the vertices from their targets, of the vertices that
    are closest to keypoints from the keypoints' targets, and of differences between neighbors' motions.

    Args:
        scan: The mesh.
        targets: [V,3], a target for each vertex.
        keypoints: [K,3], in the mesh's coordinates.
        keypoint_targets: [K,3].

    Returns:
        [V,3].
    """
    v, count = scan.vertices, len(scan.vertices)
    f = scan.faces.numpy()
    edges = np.unique(np.sort(np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]), 1), axis=0)
    ones = np.ones(len(edges))
    adjacent = scipy.sparse.coo_matrix((ones, (edges[:, 0], edges[:, 1])), (count, count))
    adjacent = (adjacent + adjacent.T).tocsr()
    laplacian = scipy.sparse.diags(np.asarray(adjacent.sum(1)).ravel()) - adjacent
    matrix = scipy.sparse.identity(count) + STIFFNESS * laplacian
    right = (targets - v).numpy()
    if len(keypoints):
        nearest = torch.cdist(keypoints, v).argmin(1)
        weights = np.zeros(count)
        np.add.at(weights, nearest.numpy(), KEYPOINT_WEIGHT)
        np.add.at(right, nearest.numpy(), KEYPOINT_WEIGHT * (keypoint_targets - v[nearest]).numpy())
        matrix = matrix + scipy.sparse.diags(weights)
    return v + torch.from_numpy(splu(matrix.tocsc()).solve(right))


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
    regions = {region: read_scan(folder / f"{region}.obj") for region in REGIONS}
    return ScanTruth(torch.from_numpy(keypoints), regions, millimeters)


def read_scales(path: Path, count: int) -> np.ndarray:
    """Read the units of the scans in millimeters, [count].

    Raises:
        InputError: The file is missing, or does not hold that many positive numbers.
    """
    expected = f"{count} positive numbers, the unit of each scan in millimeters"
    path = existing_file(path, expected)
    try:
        scales = np.array(path.read_text().split(), np.float64)
    except (ValueError, UnicodeDecodeError) as error:
        raise input_error(path, expected, f"something else ({error})") from None
    if len(scales) != count or not (np.isfinite(scales) & (scales > 0)).all():
        raise input_error(path, expected, f"{len(scales)}, the least {scales.min():g}" if len(scales) else "none")
    return scales
