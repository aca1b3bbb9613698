"""Synthetic scans: people of a model that the methods never saw, drawn and scanned, and scored by the protocol of NoW (`now`). Our own: nobody else's numbers stand beside it.

The people are random identities of ICT-FaceKit (Li et al. 2020), which has no colours: the built-in model is fitted to its mean face, and each of its vertices takes the colours of
the nearest point there, so that random albedo of the built-in model lies on heads that it did not shape. Each person is drawn from several sides (yaw up to 45 degrees), half of the
pictures with an expression, under random light, before random backgrounds, through a random camera's blur, noise and compression. The scan is of the neutral face: points of its
surface with noise, holes torn into them, and seven landmarks that are a little off, as hands pick them.

A detector's box, jittered, says where the face is. Everything follows from the seed. The same numbers are given for the mean face of the method's model in the prediction's
place: what a method is worth is how far it gets below that.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.core.landmarks import SEVEN
from facemodels.core.seeding import seed_of
from facemodels.core.surface import ClosestPoints
from facemodels.data.clips import SyntheticGroups
from facemodels.data.synthetic import RandomizationConfig
from facemodels.evaluation import now
from facemodels.evaluation.report import Report
from facemodels.evaluation.scans import Photo, detector_box, mean_surface, predicted_surface, reconstructions
from facemodels.fitting.scan import fit_mesh
from facemodels.io.files import input_error
from facemodels.models.builtin import builtin_data
from facemodels.models.formats import read
from facemodels.models.model_data import ModelData
from facemodels.models.morphable import MorphableModel

SIZE = 400  # pixels of a picture
PICTURES = 4  # of a person
RANDOMIZATION = RandomizationConfig(yaw=45, frontal=0.3, pitch=8, roll=6, box=(2.0, 2.6), shift=0.06, occluded=0, expressive=0.5)
BOX_SHIFT, BOX_SCALE = 0.04, 0.05  # standard deviations of the detector's box, in sides and as a logarithm
POINTS = 30_000  # of a scan, before it is cropped and torn
NOISE = 0.15  # mm, standard deviation along the normal
PICKED = 0.5  # mm, standard deviation of the landmarks in each coordinate
HOLES, HOLE = 6, (4.0, 14.0)  # in a scan; their radii, mm
SKIN = "full_face"  # the region that is scanned
# Parts of the head that are drawn -> the region of the built-in model that colours them; what is not named there is skin.
COLOURS = {
    "head": None,
    "eye_sockets": None,
    "mouth_socket": "mouth",
    "gums_tongue": "tongue",
    "teeth": "teeth",
    "eyeball_left": "left_eye",
    "eyeball_right": "right_eye",
}
INSIDE = ("mouth", "tongue", "teeth", "left_eye", "right_eye")


def configure(parser) -> None:
    parser.add_argument(
        "--people", type=int, default=20, metavar="N", help=f"random identities, {PICTURES} pictures each (default: 20)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything that is random (default: 0)")


def run(method, data: Path, options) -> Report:
    """Scores a method.

    data: ICT-FaceKit, as `facemodels.load_model` takes it. options.people, options.seed: how many people, and which.

    Raises:
        InputError: the model cannot be read, or is another one; people below 1; a prediction is not finite.
    """
    if options.people < 1:
        raise InputError(f"--people must be at least 1, got {options.people}")
    model = coloured(read(data), builtin_data(), data)
    groups = SyntheticGroups(model, SIZE, PICTURES, RANDOMIZATION)
    average, errors = (
        mean_surface(method),
        {name: [] for name in ("", "metrical_", "mean_face_", "mean_face_metrical_")},
    )
    worst = []
    for person in range(options.people):
        photos, identity = pictures(groups, options.seed, person)
        points, marks = scanned(model, identity, options.seed, person)
        for prefix, scale in (("mean_face_", True), ("mean_face_metrical_", False)):
            errors[prefix] += [now.distances(points, marks, average, scale).float().numpy()] * PICTURES
        for found in reconstructions(method, photos):
            surface = predicted_surface(method, found)
            errors[""].append(now.distances(points, marks, surface).float().numpy())
            errors["metrical_"].append(now.distances(points, marks, surface, scale=False).float().numpy())
        worst.append(float(np.median(np.concatenate(errors[""][-PICTURES:]))))
    results = {
        "people": options.people,
        "images": options.people * PICTURES,
        "seed": options.seed,
        "vertices": sum(map(len, errors[""])),
    }
    for prefix, pooled in errors.items():
        results |= now.statistics(pooled, prefix)
    results["median_share_of_mean_face"] = results["median_mm"] / results["mean_face_median_mm"]
    results["metrical_median_share_of_mean_face"] = (
        results["metrical_median_mm"] / results["mean_face_metrical_median_mm"]
    )
    results |= {"best_person_median_mm": min(worst), "worst_person_median_mm": max(worst)}
    title = (
        f"Synthetic scans of {options.people} people of {model.name}, {PICTURES} pictures each: distance in mm of scan points from the neutral mesh predicted of one picture, "
        "by the protocol of NoW, scale aligned"
    )
    average_row = [results[f"mean_face_{key}"] for key in ("median_mm", "mean_mm", "std_mm")]
    notes = [
        *now.NOTES,
        f"The mean face of {method.model.name} in the prediction's place: median {average_row[0]:.2f}, mean {average_row[1]:.2f}, std {average_row[2]:.2f} mm; "
        f"the method's median is {results['median_share_of_mean_face']:.2f} of that.",
        f"Scans: noise of {NOISE} mm, {HOLES} holes of {HOLE[0]:.0f} to {HOLE[1]:.0f} mm radius, landmarks off by {PICKED} mm (standard deviation in each coordinate).",
    ]
    row = [results[key] for key in ("median_mm", "mean_mm", "std_mm")]
    return Report("synthetic-scans", title, results, np.concatenate(errors[""]), "mm", 7.0, now.COLUMNS, row, [], notes)


def coloured(data: ModelData, skin: ModelData, path="the model") -> MorphableModel:
    """ICT-FaceKit with the colours of the built-in model, and the parts of `COLOURS` alone (its lashes and the film before its eyes are made for a renderer that sees through them).

    Raises:
        InputError: data is of another model.
    """
    missing = [name for name in (SKIN, *COLOURS) if name not in data.regions]
    if missing:
        raise input_error(
            path, "ICT-FaceKit, whose identities the scans are of", f"{data.name}, without a region {missing[0]}"
        )
    own, other = MorphableModel(data), MorphableModel(skin)
    fit = fit_mesh(
        own.mean.double(), own.faces.long(), other, own.landmarks(own.mean[None])[0], expression=False, progress=False
    )
    there = fit.placement(other.shape(fit.identity)[0]).double()
    place, weights = (
        torch.zeros(len(own.mean), 3, dtype=torch.int64),
        torch.zeros(len(own.mean), 3, dtype=torch.float64),
    )
    for part, region in COLOURS.items():
        members = own.regions[part]
        triangles, points = _triangles(other, region), own.mean[members].double()
        if region in ("left_eye", "right_eye"):  # its pupil looks where the other's does
            points = points - _middle(points) + _middle(there[other.regions[region]])
        found = ClosestPoints(there, triangles)(points)
        place[members], weights[members] = triangles[found.face_id], found.bary
    carried = lambda values: np.einsum("...vkc,vk->...vc", values[..., place.numpy(), :], weights.numpy()).astype(
        np.float32
    )  # noqa: E731
    drawn = np.zeros(len(data.mean), bool)
    drawn[np.concatenate([data.regions[part] for part in COLOURS])] = True
    kept = drawn[data.faces].all(1)
    albedo = np.stack([carried(mode) for mode in skin.albedo])
    uv_faces = None if data.uv_faces is None else data.uv_faces[kept]
    look = {"albedo_mean": carried(skin.albedo_mean), "albedo": albedo, "albedo_encoding": skin.albedo_encoding}
    return MorphableModel(replace(data, faces=data.faces[kept], uv_faces=uv_faces, **look))


def _triangles(model, region):
    """int64 [T,3]: those of a region; of the skin, what is in none of the regions inside, for None."""
    member = torch.zeros(model.num_vertices, dtype=torch.bool)
    for name in INSIDE if region is None else (region,):
        member[model.regions[name]] = True
    faces = model.faces.long()
    return faces[~member[faces].any(1)] if region is None else faces[member[faces].all(1)]


def _middle(points):
    return (points.amin(0) + points.amax(0)) / 2


@torch.no_grad()
def pictures(groups: SyntheticGroups, seed: int, person: int) -> tuple[list[Photo], Tensor]:
    """The photos of a person and the identity coefficients [1,I]."""
    faces = groups(seed, 0, range(person, person + 1))
    random = np.random.default_rng([seed_of(seed, 1, person)])
    images = (faces.image.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
    photos = []
    for k, (image, points) in enumerate(zip(images, faces.landmarks.cpu().numpy())):
        low, high = points.min(0), points.max(0)
        side = (high - low).mean()
        middle, half = (
            (low + high) / 2 + BOX_SHIFT * side * random.standard_normal(2),
            (high - low) / 2 * np.exp(BOX_SCALE * random.standard_normal()),
        )
        photos.append(
            Photo(
                f"person {person}, picture {k}",
                image,
                detector_box(*(middle - half).tolist(), *(middle + half).tolist()),
            )
        )
    return photos, faces.identity[:1]


@torch.no_grad()
def scanned(model: MorphableModel, identity: Tensor, seed: int, person: int) -> tuple[Tensor, Tensor]:
    """The cropped scan [P,3] of a person and its seven landmarks [7,3], float64 millimetres."""
    random = np.random.default_rng([seed_of(seed, 2, person)])
    vertices = model.shape(identity)
    marks = model.landmarks(vertices)[0, list(SEVEN)].double().cpu()
    vertices = vertices[0].double().cpu().numpy()
    member = np.zeros(len(vertices), bool)
    member[model.regions[SKIN].cpu().numpy()] = True
    faces = model.faces.cpu().numpy()
    corners = vertices[faces[member[faces].all(1)]]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    face = random.choice(len(area), POINTS, p=area / area.sum())
    bary = random.dirichlet((1, 1, 1), POINTS)
    points = np.einsum("pk,pki->pi", bary, corners[face])
    points = points + NOISE * random.standard_normal((POINTS, 1)) * cross[face] / area[face, None]
    centres, radii = points[random.choice(POINTS, HOLES)], random.uniform(*HOLE, HOLES)
    points = points[(np.linalg.norm(points[:, None] - centres, axis=2) > radii).all(1)]
    marks = marks + torch.from_numpy(PICKED * random.standard_normal((len(SEVEN), 3)))
    return now.cropped(torch.from_numpy(points), marks), marks
