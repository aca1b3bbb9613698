"""AFLW2000-3D, all vertices: predicted meshes against the labeled ones, vertex by vertex (Feng et al. 2018, PRNet).

Data: the labeled meshes, rebuilt from the parameters in the .mat files with the data set's Basel model:
S = mean + W Shape_Para + W' Exp_Para under Pose_Para (`data.tddfa`). Vertices are compared by their number, so only a
method of the same mesh can be scored.

Measured: NME as for landmarks, the mean distance over all vertices, normalized by sqrt(width * height) of the box of
the 68 labeled points (Tu et al. 2019, 2DASL). Nothing is aligned but depth: it is known up to a shift, which papers
remove by different rules, or not at all; both rules of `metrics.nme_3d` are given.

Neither the model nor its parameters ship. The model is Model_Shape.mat with Model_Exp.mat or Model_Expression.mat
beside it, by the authors of 300W-LP.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facemodels.core.crops import to_crop
from facemodels.core.errors import InputError
from facemodels.core.parameters import flip_y
from facemodels.data.tddfa import AFLW2000, basel_deviations, crop_camera
from facemodels.evaluation.aflw2000_data import (
    LAYOUT,
    batches,
    example_set,
    locate,
    photograph_count,
    subset_notes,
    write_example_model,
)
from facemodels.evaluation.metrics import BINS, by_yaw, nme, nme_3d
from facemodels.evaluation.predictor import add_limit, limited, predictor
from facemodels.evaluation.report import PublishedRow, Report, Results
from facemodels.methods.face_method import FaceMethod
from facemodels.models.load import load_model
from facemodels.models.morphable import MorphableModel

MEASURES = ("nme_dense_2d", "nme_dense_3d_min_z", "nme_dense_3d_mean_z")
COLUMNS = ["dense 2D", "dense 3D"]
_PRNET, _WIZWAND = "issue 145 of yfeng95/PRNet", "leaderboard of wizwand"
PUBLISHED = [
    PublishedRow("PRNet, released, by others, no rule of depth", [3.86, 6.51], _PRNET),
    PublishedRow("DeFA", [None, 6.04], _WIZWAND),
    PublishedRow("PRNet", [3.17, 4.40], _PRNET),
    PublishedRow("3DDFA-V2", [None, 4.18], _WIZWAND),
    PublishedRow("SADRNet", [None, 4.02], "leaderboards of wizwand and Papers with Code"),
]


def configure(parser: ArgumentParser) -> None:
    """Add the protocol's arguments."""
    parser.epilog = f"""example:
  facemodels evaluate aflw2000-dense --checkpoint runs/basel/checkpoints/step-000100000 \\
      --data AFLW2000-3D.zip --basel Model_Shape.mat

The labeled meshes are rebuilt with 300W-LP's Basel model; facemodels doctor says where to get it.
The method must be of the same mesh: trained with --set model=Model_Shape.mat.
  Model_Shape.mat            mu_shape [3V,1], w [3V,199], sigma [199,1], micrometers; tri [3,F]
  Model_Exp.mat              beside it: mu_exp [3V,1], w_exp [3V,29], sigma_exp [29,1]

{LAYOUT}"""
    parser.add_argument(
        "--basel",
        type=Path,
        metavar="FILE",
        help="Model_Shape.mat (default: the method's own model, if it is that, or the one in the folder DATA or beside "
        "it)",
    )
    add_limit(parser, "photographs")


def run(method: FaceMethod, data: Path, options: Namespace) -> Report:
    """Score a method; see `facemodels.evaluation.Protocol`."""
    path, model = basel_model(method, options.basel or _model_near(data))
    deviations = [torch.from_numpy(d) for d in basel_deviations(path)]
    photos = AFLW2000(locate(data))
    names, size, reconstruct = limited(photos.names, options.limit), method.size, predictor(method, "reconstruct")
    errors: dict[str, list[float]] = {key: [] for key in MEASURES}
    yaw: list[float] = []
    for some, boxes, crops in batches(photos, names, size):
        faces = reconstruct(crops)
        vertices = method.model.shape(faces.identity, faces.expression).detach()
        predicted = project(vertices, faces.rotation, faces.scale, flip_y(faces.translation, size), size)
        raw = (np.stack([p.shape for p in some]), np.stack([p.expression for p in some]))
        coefficients = [torch.from_numpy(values).double() / d for values, d in zip(raw, deviations)]
        cameras = [crop_camera(p.pose, len(p.image), box, size) for p, box in zip(some, boxes)]
        rotation, scale, translation = (torch.from_numpy(np.array(column)) for column in zip(*cameras))
        labels = project(model.shape(*(c.float() for c in coefficients)), rotation, scale, translation, size)
        box_points = np.stack([to_crop(p.landmarks[:, :2], box, size) for p, box in zip(some, boxes)])
        errors["nme_dense_2d"] += [*nme(predicted[..., :2], labels[..., :2], box_points)]
        for rule in ("min_z", "mean_z"):
            errors[f"nme_dense_3d_{rule}"] += [*nme_3d(predicted, labels, rule, box_points)]
        yaw += [p.yaw for p in some]
    count = len(yaw)
    results: Results = {
        "model": model.name,
        "vertices": model.num_vertices,
        "images": count,
        "images_left_out": len(names) - count,
    }
    for key, values in errors.items():
        binned = by_yaw(np.array(values), np.array(yaw))
        results |= {
            f"{key}_{name}_percent": None if np.isnan(binned[name]) else binned[name]
            for name in (*BINS, "balanced", "plain")
        }
    results |= {f"images_{name}": binned[f"images_{name}"] for name in BINS}
    title = (
        f"NME of all {model.num_vertices:,} vertices, percent of sqrt(width * height) of the box of the 68 labeled "
        f"points; {photograph_count(count)}, crops from the labeled landmarks"
    )
    notes = [
        "Our row: plain means over photographs; in 3D with the mean z of each mesh at 0. The curve is of 2D.",
        "Published 3D numbers follow different rules of depth (least z at 0, mean z at 0, none) and different parts of "
        "the face: compare with care.",
        *subset_notes(count, len(names) - count),
    ]
    return Report(
        protocol="aflw2000-dense",
        title=title,
        results=results,
        errors=np.array(errors["nme_dense_2d"]),
        unit="percent",
        largest=10.0,
        columns=COLUMNS,
        row=[results["nme_dense_2d_plain_percent"], results["nme_dense_3d_mean_z_plain_percent"]],
        ranked_by="dense 3D",
        published=PUBLISHED,
        notes=notes,
    )


def write_example(folder: Path) -> None:
    """Write a tiny data set, with a model that has the built-in one's mesh; see `facemodels.evaluation.Protocol`."""
    write_example_model(folder, *example_set(folder))


def _model_near(data: Path) -> Path | None:
    """Model_Shape.mat in the folder of the data or beside it; None where there is none."""
    places = (data / "Model_Shape.mat", data.absolute().parent / "Model_Shape.mat")
    return next((place for place in places if place.is_file()), None)


def basel_model(method: FaceMethod, path: Path | None) -> tuple[Path, MorphableModel]:
    """Load the model that the labels are made of.

    Args:
        method: The method, which must be of the same mesh; another mesh is told by the number of its vertices and by
            its triangles.
        path: Model_Shape.mat; None takes the method's own model.

    Returns:
        The path and the model.

    Raises:
        InputError: There is no such file, or the method is of another mesh.
    """
    own = Path(getattr(method.config, "model", ""))
    path = path or own
    if path.suffix.lower() != ".mat":
        raise InputError(
            "the meshes of AFLW2000-3D are rebuilt with 300W-LP's Basel model, and there is none: give its "
            f"Model_Shape.mat with --basel (the method's model is {own})"
        )
    model, mesh = load_model(path), getattr(method, "model", None)
    if mesh is None or mesh.num_vertices != model.num_vertices or not torch.equal(mesh.faces.cpu(), model.faces):
        found = "no mesh" if mesh is None else f"{mesh.name} with {mesh.num_vertices} vertices"
        raise InputError(
            f"{path}: vertices are compared one by one, so the method must be trained with this model of "
            f"{model.num_vertices} vertices, and it has {found}"
        )
    return path, model


def project(vertices: Tensor, rotation: Tensor, scale: Tensor, translation: Tensor, size: int) -> np.ndarray:
    """Project vertices into a crop with weak-perspective cameras.

    Args:
        vertices: [N,V,3], millimeters.
        rotation: [N,3,3].
        scale: [N], pixels per millimeter.
        translation: [N,2], pixels from the lower left corner, y up.
        size: The side of the crop in pixels.

    Returns:
        float64 [N,V,3] pixels: y down, z toward the viewer.
    """
    v, r, s, t = (tensor.double().cpu() for tensor in (vertices, rotation, scale, translation))
    p = s[:, None, None] * (v @ r.mT)
    p[..., :2] += t[:, None]
    return flip_y(p, size).numpy()
