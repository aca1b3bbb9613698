"""REALY: 100 scans of Headspace with pictures of them, scored by region, by Chai et al., "REALY: Rethinking the Evaluation of 3D Face Reconstruction" (2022).

For each of nose, mouth, forehead and cheek:

1. The predicted mesh is brought to the scan by seven of the scan's 85 keypoints, with scale; once for all regions.
2. It is moved, rigidly, closer to the scan's region, by the region's keypoints and closest points.
3. The region is deformed onto the predicted mesh, towards the points that are nearest now and with its keypoints (the cheek: without), so that what is nearest afterwards are
   counterparts rather than whatever lies near.
4. The error of a vertex is the distance of its place in the scan from the point of the predicted mesh that is nearest after the deformation, in millimetres by the scan's own
   scale; of a region, the mean over its vertices; then average, median and standard deviation (by n - 1) over scans, and the mean of the four averages. The paper calls this NMSE,
   but it is a mean of distances.

Where ours differs: models here have 68 of the 85 keypoints, and of a region those of it (27 to 35, 48 to 67, 17 to 26) are used; the deformation is by translations with a
Laplacian on them (N-ICP-T of Amberg, Romdhani and Vetter 2007), its stiffness our own. Any mesh can be scored, of whatever topology.
"""

from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.linalg import splu
from torch import Tensor

from facemodels.core.alignment import Similarity, similarity
from facemodels.core.errors import InputError
from facemodels.core.landmarks import BROWS, MOUTH, NOSE, SEVEN, indices
from facemodels.evaluation.report import Report
from facemodels.evaluation.scans import (
    Pairs,
    Scan,
    Surface,
    photo,
    predicted_surface,
    read_scan,
    reconstructions,
    refined,
)
from facemodels.io.files import existing_file, input_error
from facemodels.io.images import picture_files

REGIONS = {
    "nose": indices(NOSE),
    "mouth": indices(MOUTH),
    "forehead": indices(BROWS),
    "cheek": (),
}  # and their keypoints
KEYPOINTS = 85
STIFFNESS = 50.0  # of neighbours that move differently, against one vertex that is off
KEYPOINT_WEIGHT = 50.0  # of a keypoint, against one vertex
PUBLISHED = [  # of the frontal set
    ("SynergyNet", [2.026, 1.731, 2.679, 1.647, 2.021], "found"),
    ("3DDFA_V2", [None, None, None, None, 1.926], "found"),
    ("Deep3D, PyTorch", [1.719, 1.368, 2.015, 1.528, 1.657], "recalled"),
    ("HRN", [1.722, 1.357, 1.995, 1.072, 1.537], "recalled"),
    ("3DDFA-V3", [1.59, 1.24, 1.81, 1.11, 1.44], "recalled"),
]


class Truth:
    """What is known of one scan: keypoints [85,3], regions by name, and millimetres a unit."""

    def __init__(self, keypoints: Tensor, regions: dict[str, Scan], millimetres: float):
        self.keypoints, self.regions, self.millimetres = keypoints, regions, millimetres


def configure(parser) -> None:
    """REALY has no settings."""


def run(method, data: Path, options) -> Report:
    """Scores a method.

    data: the folder with REALY_HIFI3D_keypoints/1.obj ..., REALY_scan_region/1/nose.obj ..., metrical_scale.txt (a number a scan, in the order of the scans' numbers) and
    REALY_image with pictures, there or in folders below: 1.jpg is frontal, 1_anything.jpg is from a side. Beside a picture may lie its landmarks (`photo`).

    Raises:
        InputError: a file is missing or damaged; the message names it.
    """
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
    sets = {"frontal": [], "side": []}
    for (path, owner), found in zip(pictures, reconstructions(method, (photo(p) for p, _ in pictures))):
        sets["frontal" if path.stem == owner else "side"].append(
            region_errors(truths[owner], predicted_surface(method, found, expression=True))
        )
    results = {"scans": len(truths)}
    for name, rows in sets.items():
        if not rows:
            continue
        table = np.array([[row[region] for region in REGIONS] for row in rows])
        results[f"{name}_images"] = len(rows)
        for region, values in zip(REGIONS, table.T):
            deviation = float(values.std(ddof=1)) if len(values) > 1 else None
            results |= {
                f"{name}_{region}_mm": float(values.mean()),
                f"{name}_{region}_median_mm": float(np.median(values)),
                f"{name}_{region}_std_mm": deviation,
            }
        results[f"{name}_all_mm"] = float(table.mean())
    shown = "frontal" if sets["frontal"] else "side"
    errors = np.array([np.mean([*row.values()]) for row in sets[shown]])
    title = f"REALY, {len(errors)} {shown} pictures: mean distance in mm of scan regions from the predicted mesh, aligned region by region, after non-rigid correspondence"
    notes = [
        "The predicted mesh has the expression that is predicted, as the pictures have. Scale is aligned by seven keypoints; the regions' alignment is rigid.",
        "68 of the 85 keypoints are used, and the stiffness of the deformation is our own: comparable with the published table in kind, not to the second digit.",
        "The published rows are of the frontal set.",
    ]
    row = [results[f"{shown}_{region}_mm"] for region in (*REGIONS, "all")]
    return Report(
        "realy",
        title,
        results,
        errors,
        "mm",
        5.0,
        [f"{region} mm" for region in (*REGIONS, "all")],
        row,
        PUBLISHED,
        notes,
    )


def region_errors(truth: Truth, surface: Surface) -> dict[str, float]:
    """The error of a predicted surface in each region, mm."""
    seven = list(SEVEN)
    first = similarity(surface.landmarks[seven], truth.keypoints[seven])
    return {
        name: truth.millimetres
        * region_error(scan, truth.keypoints[list(REGIONS[name])], surface, list(REGIONS[name]), first)
        for name, scan in truth.regions.items()
    }


def region_error(scan: Scan, keypoints: Tensor, surface: Surface, numbers: list[int], start: Similarity) -> float:
    """Steps 2 to 4 for one region: its mesh, its keypoints [K,3] on the scan, and their numbers among the surface's landmarks. In the scan's unit."""
    pairs = Pairs(surface.landmarks[numbers], keypoints) if numbers else None
    placement = refined(scan.vertices, surface, start, scale=False, pairs=pairs)
    feet, _ = surface.feet(scan.vertices, placement)
    moved = deformed(scan, feet, keypoints, placement(surface.landmarks[numbers]))
    counterparts, _ = surface.feet(moved, placement)
    return float((counterparts - scan.vertices).norm(dim=1).mean())


def deformed(scan: Scan, targets: Tensor, keypoints: Tensor, keypoint_targets: Tensor) -> Tensor:
    """The vertices [V,3] of a mesh moved smoothly towards targets [V,3]: the least sum of their squared distances from them, of those of the mesh's vertices nearest to keypoints
    [K,3] from keypoint_targets [K,3], and of the differences between neighbours' motions, weighted."""
    v, count = scan.vertices, len(scan.vertices)
    f = scan.faces.numpy()
    edges = np.unique(np.sort(np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]), 1), axis=0)
    ones = np.ones(len(edges))
    adjacent = scipy.sparse.coo_matrix((ones, (edges[:, 0], edges[:, 1])), (count, count))
    adjacent = (adjacent + adjacent.T).tocsr()
    matrix = scipy.sparse.identity(count) + STIFFNESS * (
        scipy.sparse.diags(np.asarray(adjacent.sum(1)).ravel()) - adjacent
    )
    right = (targets - v).numpy()
    if len(keypoints):
        nearest = torch.cdist(keypoints, v).argmin(1)
        weights = np.zeros(count)
        np.add.at(weights, nearest.numpy(), KEYPOINT_WEIGHT)
        np.add.at(right, nearest.numpy(), KEYPOINT_WEIGHT * (keypoint_targets - v[nearest]).numpy())
        matrix = matrix + scipy.sparse.diags(weights)
    return v + torch.from_numpy(splu(matrix.tocsc()).solve(right))


def read_truth(data: Path, name: str, millimetres: float) -> Truth:
    """One scan's keypoints and regions.

    Raises:
        InputError: a file is missing or damaged, or the keypoints are not 85.
    """
    file = existing_file(data / "REALY_HIFI3D_keypoints" / f"{name}.obj", f"{KEYPOINTS} keypoints")
    try:
        keypoints = np.array(
            [line.split()[1:4] for line in file.read_text(errors="replace").splitlines() if line.startswith("v ")],
            np.float64,
        ).reshape(-1, 3)
    except ValueError as error:
        raise input_error(file, f"{KEYPOINTS} vertices", f"a file that does not read so ({error})") from None
    if len(keypoints) != KEYPOINTS or not np.isfinite(keypoints).all():
        raise input_error(file, f"{KEYPOINTS} vertices", f"{len(keypoints)}")
    return Truth(
        torch.from_numpy(keypoints),
        {region: read_scan(data / "REALY_scan_region" / name / f"{region}.obj") for region in REGIONS},
        millimetres,
    )


def read_scales(path, count: int) -> np.ndarray:
    """Millimetres a unit of each scan, [count].

    Raises:
        InputError: the file is missing, or does not hold so many positive numbers.
    """
    expected = f"{count} positive numbers, millimetres a unit of each scan"
    path = existing_file(path, expected)
    try:
        scales = np.array(path.read_text().split(), np.float64)
    except (ValueError, UnicodeDecodeError) as error:
        raise input_error(path, expected, f"something else ({error})") from None
    if len(scales) != count or not (np.isfinite(scales) & (scales > 0)).all():
        raise input_error(path, expected, f"{len(scales)}, the least {scales.min():g}" if len(scales) else "none")
    return scales
