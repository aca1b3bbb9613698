"""Synthetic scans: rendered and scanned people of a model that the methods never saw, scored as NoW does (`now`).

A protocol of our own: nobody else's numbers can be compared with it.

Data: random identities of ICT-FaceKit (Li et al. 2020). This model has no colors: the built-in model is fitted to its
mean face, and each vertex takes the colors of the closest point there, so that random albedo of the built-in model lies
on heads of another shape. Each person is rendered from several sides (yaw up to 45 degrees), half of the pictures with
an expression, under random light, before random backgrounds, with a random camera's blur, noise and compression. The
scan is of the neutral face: points of its surface with noise, with holes torn into them, and seven landmarks that are a
little off, as if picked by hand. A detector's box, jittered, says where the face is. Everything follows from the seed.

Measured: as in NoW. The same is measured for the mean face of the method's model in place of the prediction: what a
method is worth is how far it gets below that.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.core.landmarks import SEVEN
from facemodels.core.options import number
from facemodels.core.progress import progress
from facemodels.core.seeding import seed_of
from facemodels.core.surface import ClosestPoints
from facemodels.data.clips import SyntheticGroups
from facemodels.data.synthetic import RandomizationConfig
from facemodels.evaluation import is_example, now
from facemodels.evaluation.examples import ORDER_SEVEN
from facemodels.evaluation.report import PublishedRow, Report, Results
from facemodels.evaluation.scan_faces import (
    Photo,
    detector_box,
    mean_surface,
    predicted_surface,
    reconstructions,
)
from facemodels.fitting.scan import fit_mesh
from facemodels.io.files import input_error
from facemodels.methods.face_method import FaceMethod
from facemodels.models.builtin import builtin_data
from facemodels.models.formats import read
from facemodels.models.formats.native import write_native
from facemodels.models.model_data import ModelData
from facemodels.models.morphable import MorphableModel

SIZE = 400  # pixels, side of a picture
PEOPLE, EXAMPLE_PEOPLE = 20, 2
PICTURES = 4  # of a person
RANDOMIZATION = RandomizationConfig(
    yaw=45, frontal=0.3, pitch=8, roll=6, box=(2.0, 2.6), shift=0.06, occluded=0, expressive=0.5
)
BOX_SHIFT, BOX_SCALE = 0.04, 0.05  # standard deviations of the detector's box, relative to its side and as a logarithm
POINTS = 30_000  # of a scan, before it is cropped and torn
NOISE = 0.15  # mm, standard deviation along the normal
LANDMARK_NOISE = 0.5  # mm, standard deviation of the landmarks in each coordinate
HOLES, HOLE_RADIUS = 6, (4.0, 14.0)  # number of holes in a scan, and the range of their radii, mm
SCANNED_REGION = "full_face"
# Regions of the head that are rendered -> the region of the built-in model that colors them; None takes its skin.
COLOR_SOURCES: dict[str, str | None] = {
    "head": None,
    "eye_sockets": None,
    "mouth_socket": "mouth",
    "gums_tongue": "tongue",
    "teeth": "teeth",
    "eyeball_left": "left_eye",
    "eyeball_right": "right_eye",
}
NOT_SKIN = ("mouth", "tongue", "teeth", "left_eye", "right_eye")  # regions of the built-in model


def configure(parser: ArgumentParser) -> None:
    """Add the protocol's arguments."""
    parser.epilog = f"""example:
  facemodels evaluate synthetic-scans --method dasl --data ict_facekit.npz --json scans.json

The data is ICT-FaceKit, whose people are rendered and scanned; facemodels doctor says where to get
it. One of:
  FaceXModel/                the folder as it is distributed: generic_neutral_mesh.obj,
                             identity000.obj ..., an OBJ for each expression, vertex_indices.json;
                             centimeters
  ict_facekit.npz            the same in one file
  NAME.safetensors           what facemodels convert makes of it, or a folder with it; millimeters

The scans are made: 30,000 points with noise and holes, millimeters, and seven landmarks on each.
{ORDER_SEVEN}"""
    parser.add_argument(
        "--people",
        type=number(int, 1),
        metavar="N",
        help=f"random identities, {PICTURES} pictures each (default: {PEOPLE}, or {EXAMPLE_PEOPLE} of an example)",
    )
    parser.add_argument(
        "--seed", type=number(int, 0), default=0, metavar="N", help="seed of everything random (default: 0)"
    )


def run(method: FaceMethod, data: Path, options: Namespace) -> Report:
    """Score a method; see `facemodels.evaluation.Protocol`."""
    count = options.people
    if count is None:
        count = EXAMPLE_PEOPLE if is_example(data) else PEOPLE
    elif count < 1:
        raise InputError(f"people must be at least 1, got {count}")
    model = colored_model(read(data), builtin_data(), data)
    groups = SyntheticGroups(model, SIZE, PICTURES, RANDOMIZATION)
    average = mean_surface(method.model)
    # Errors of each picture, by the beginning of their names in the results.
    errors: dict[str, list[np.ndarray]] = {"": [], "metrical_": [], "mean_face_": [], "mean_face_metrical_": []}
    medians = []
    for person in progress(range(count), "people"):
        photos, identity = render_person(groups, options.seed, person)
        points, marks = scan_person(model, identity, options.seed, person)
        for prefix, scale in (("mean_face_", True), ("mean_face_metrical_", False)):
            errors[prefix] += [now.distances(points, marks, average, scale).float().numpy()] * PICTURES
        for face in reconstructions(method, photos):
            surface = predicted_surface(method, face)
            errors[""].append(now.distances(points, marks, surface).float().numpy())
            errors["metrical_"].append(now.distances(points, marks, surface, scale=False).float().numpy())
        medians.append(float(np.median(np.concatenate(errors[""][-PICTURES:]))))
    results: Results = {
        "people": count,
        "images": count * PICTURES,
        "seed": options.seed,
        "vertices": sum(map(len, errors[""])),
    }
    for prefix, pooled in errors.items():
        results |= now.statistics(pooled, prefix)
    for prefix in ("", "metrical_"):
        share = results[f"{prefix}median_mm"] / results[f"mean_face_{prefix}median_mm"]
        results[f"{prefix}median_share_of_mean_face"] = share
    results |= {"best_person_median_mm": min(medians), "worst_person_median_mm": max(medians)}
    statistics = ("median_mm", "mean_mm", "std_mm")
    mean_face = [results[f"mean_face_{key}"] for key in statistics]
    return Report(
        protocol="synthetic-scans",
        title=f"Synthetic scans of {count} people of {model.name}, {PICTURES} pictures each: distance in mm "
        "of scan points from the neutral mesh predicted from one picture, by the protocol of NoW, scale aligned",
        results=results,
        errors=np.concatenate(errors[""]),
        unit="mm",
        largest=7.0,
        columns=now.COLUMNS,
        row=[results[key] for key in statistics],
        ranked_by="median mm",
        measured=[PublishedRow(f"mean face of {method.model.name}", mean_face, "measured")],
        notes=[
            *now.NOTES,
            f"The mean face of {method.model.name} stands in place of every prediction; the method's median is "
            f"{results['median_share_of_mean_face']:.2f} of its median.",
            f"Scans: noise of {NOISE} mm, {HOLES} holes of {HOLE_RADIUS[0]:.0f} to {HOLE_RADIUS[1]:.0f} mm radius, "
            f"landmarks off by {LANDMARK_NOISE} mm (standard deviation in each coordinate).",
        ],
    )


def write_example(folder: Path) -> None:
    """Write a model with ICT-FaceKit's regions; see `facemodels.evaluation.Protocol`.

    It is the built-in model stretched, with a few of its modes: no head that the methods never saw.
    """
    builtin = builtin_data()
    regions = dict(builtin.regions)
    rest = np.setdiff1d(np.arange(len(builtin.mean)), np.concatenate([regions[name] for name in NOT_SKIN]))
    eyes = np.abs(builtin.mean[rest, 1] - builtin.mean[regions["eyeballs"], 1].mean()) < 5
    parts = {"full_face": regions["face"], "face": regions["face"], "head": rest, "eye_sockets": rest[eyes]}
    parts |= {part: regions[source] for part, source in COLOR_SOURCES.items() if source is not None}
    names = ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "browInnerUp", "eyeBlinkLeft", "eyeBlinkRight")
    chosen = [builtin.expression_names.index(name) for name in names]
    example = replace(
        builtin,
        name="the example head",
        mean=builtin.mean * np.array([0.97, 1.03, 1.0], np.float32),
        identity=builtin.identity[:20],
        expression=builtin.expression[chosen],
        expression_names=names,
        albedo_mean=None,
        albedo=None,
        regions=parts,
    )
    write_native(example, folder / "example_head.safetensors")


def colored_model(data: ModelData, builtin: ModelData, path: str | Path = "the model") -> MorphableModel:
    """ICT-FaceKit with the colors of the built-in model, reduced to the regions of `COLOR_SOURCES`.

    Its lashes and the film before its eyes are left out: they are made for renderers with transparency.

    Args:
        data: ICT-FaceKit.
        builtin: The built-in model.
        path: Where ICT-FaceKit is from, for the message.

    Raises:
        InputError: data is of another model.
    """
    missing = [name for name in (SCANNED_REGION, *COLOR_SOURCES) if name not in data.regions]
    if missing:
        raise input_error(
            path, "ICT-FaceKit, whose identities the scans are of", f"{data.name}, without a region {missing[0]}"
        )
    target, source = MorphableModel(data), MorphableModel(builtin)
    marks = target.landmarks(target.mean[None])[0]
    fit = fit_mesh(target.mean.double(), target.faces.long(), source, marks, expression=False, progress=False)
    assert fit.placement is not None  # of a fit to a mesh
    fitted = fit.placement(source.shape(fit.identity)[0]).double()
    # Each vertex's colors are a weighted mean of those of three vertices of the built-in model.
    index = torch.zeros(len(target.mean), 3, dtype=torch.int64)
    weights = torch.zeros(len(target.mean), 3, dtype=torch.float64)
    for part, region in COLOR_SOURCES.items():
        members = target.regions[part]
        triangles, points = _triangles(source, region), target.mean[members].double()
        if region in ("left_eye", "right_eye"):  # moved onto each other, so that the pupils coincide
            points = points - _box_center(points) + _box_center(fitted[source.regions[region]])
        found = ClosestPoints(fitted, triangles)(points)
        index[members], weights[members] = triangles[found.face_id], found.bary

    def transferred(values: np.ndarray) -> np.ndarray:
        corners = values[..., index.numpy(), :]
        return np.einsum("...vkc,vk->...vc", corners, weights.numpy()).astype(np.float32)

    assert builtin.albedo is not None and builtin.albedo_mean is not None
    rendered = np.zeros(len(data.mean), bool)
    rendered[np.concatenate([data.regions[part] for part in COLOR_SOURCES])] = True
    kept = rendered[data.faces].all(1)
    colored = replace(
        data,
        faces=data.faces[kept],
        uv_faces=None if data.uv_faces is None else data.uv_faces[kept],
        albedo_mean=transferred(builtin.albedo_mean),
        albedo=np.stack([transferred(mode) for mode in builtin.albedo]),
        albedo_encoding=builtin.albedo_encoding,
    )
    return MorphableModel(colored)


def _triangles(model: MorphableModel, region: str | None) -> Tensor:
    """The triangles, int64 [T,3], of a region of the built-in model; None: of its skin."""
    member = torch.zeros(model.num_vertices, dtype=torch.bool)
    for name in NOT_SKIN if region is None else (region,):
        member[model.regions[name]] = True
    faces = model.faces.long()
    return faces[~member[faces].any(1)] if region is None else faces[member[faces].all(1)]


def _box_center(points: Tensor) -> Tensor:
    return (points.amin(0) + points.amax(0)) / 2


@torch.no_grad()
def render_person(groups: SyntheticGroups, seed: int, person: int) -> tuple[list[Photo], Tensor]:
    """Render the pictures of a person.

    Args:
        groups: The renderer.
        seed: The seed of everything random.
        person: The number of the person.

    Returns:
        The pictures with jittered boxes, and the person's identity coefficients [1,I].
    """
    faces = groups(seed, 0, range(person, person + 1))
    assert faces.landmarks is not None and faces.identity is not None
    random = np.random.default_rng([seed_of(seed, 1, person)])
    images = (faces.image.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
    photos = []
    for k, (image, points) in enumerate(zip(images, faces.landmarks.cpu().numpy())):
        low, high = points.min(0), points.max(0)
        side = (high - low).mean()
        middle = (low + high) / 2 + BOX_SHIFT * side * random.standard_normal(2)
        half = (high - low) / 2 * np.exp(BOX_SCALE * random.standard_normal())
        box = detector_box(*(middle - half).tolist(), *(middle + half).tolist())
        photos.append(Photo(f"person {person}, picture {k}", image, box))
    return photos, faces.identity[:1]


@torch.no_grad()
def scan_person(model: MorphableModel, identity: Tensor, seed: int, person: int) -> tuple[Tensor, Tensor]:
    """Scan a person's neutral face.

    Args:
        model: The model.
        identity: [1,I].
        seed: The seed of everything random.
        person: The number of the person.

    Returns:
        The cropped points [P,3] of the scan, and its seven landmarks [7,3]; float64, millimeters.
    """
    random = np.random.default_rng([seed_of(seed, 2, person)])
    shape = model.shape(identity)
    marks = model.landmarks(shape)[0, list(SEVEN)].double().cpu()
    vertices = shape[0].double().cpu().numpy()
    member = np.zeros(len(vertices), bool)
    member[model.regions[SCANNED_REGION].cpu().numpy()] = True
    faces = model.faces.cpu().numpy()
    corners = vertices[faces[member[faces].all(1)]]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    face = random.choice(len(area), POINTS, p=area / area.sum())
    bary = random.dirichlet((1, 1, 1), POINTS)
    points = np.einsum("pk,pki->pi", bary, corners[face])
    points = points + NOISE * random.standard_normal((POINTS, 1)) * cross[face] / area[face, None]
    centers, radii = points[random.choice(POINTS, HOLES)], random.uniform(*HOLE_RADIUS, HOLES)
    points = points[(np.linalg.norm(points[:, None] - centers, axis=2) > radii).all(1)]
    marks = marks + torch.from_numpy(LANDMARK_NOISE * random.standard_normal((len(SEVEN), 3)))
    return now.cropped(torch.from_numpy(points), marks), marks
