"""AFLW2000-3D, all vertices: the labelled faces rebuilt from the parameters in the .mat files, against predicted ones of the same mesh (Feng et al. 2018, PRNet; Tu et al. 2019).

The mesh of a label is that of the data set's Basel model, S = mean + W Shape_Para + W' Exp_Para, under its Pose_Para (`data.tddfa`). Vertices are compared by their number,
so a method is scored that is about the same mesh. NME as for landmarks: mean distance over all vertices by sqrt(width * height) of the box of the 68 labelled points. In
three dimensions depth is known up to a shift, and papers take it out by different rules, or not at all: both rules of `landmarks.nme_3d` are given.

Neither the model nor its parameters ship; the model is Model_Shape.mat with Model_Exp.mat or Model_Expression.mat beside it, of 300W-LP's authors.
"""

from pathlib import Path

import numpy as np
import torch

from facemodels.core.crops import to_crop
from facemodels.core.errors import InputError
from facemodels.core.parameters import flip_y
from facemodels.data.tddfa import AFLW2000, basel_deviations, crop_camera
from facemodels.evaluation import applied
from facemodels.evaluation.aflw2000 import batches, first, located, photographs, subset_note
from facemodels.evaluation.metrics import BINS, by_yaw, nme, nme_3d
from facemodels.evaluation.report import FOUND, Report
from facemodels.models.load import load_model

COLUMNS = ["dense 2D", "dense 3D"]
PUBLISHED = [
    ("PRNet, released, by others, no rule of depth", [3.86, 6.51], FOUND),
    ("DeFA", [None, 6.04], FOUND),
    ("PRNet", [3.17, 4.40], FOUND),
    ("3DDFA-V2", [None, 4.18], FOUND),
    ("SADRNet", [None, 4.02], FOUND),
]
MEASURES = {"nme_dense_2d": "2D", "nme_dense_3d_min_z": "3D, least z at 0", "nme_dense_3d_mean_z": "3D, mean z at 0"}


def configure(parser):
    parser.epilog = """example:
  facemodels evaluate aflw2000-dense --checkpoint runs/basel/checkpoints/step-000100000 --data AFLW2000-3D.zip --basel Model_Shape.mat

The labels are rebuilt with 300W-LP's Basel model: Model_Shape.mat, with Model_Exp.mat beside it; facemodels doctor says where to get it. The method must be one about the
same mesh: trained with --set model=Model_Shape.mat."""
    parser.add_argument(
        "--basel", type=Path, metavar="FILE", help="Model_Shape.mat (default: the method's own model, where it is that)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N photographs alone")


def run(method, data, options) -> Report:
    path, model = basel_model(method, options.basel)
    deviations = [torch.from_numpy(d) for d in basel_deviations(path)]
    photos = AFLW2000(located(data))
    names, size, reconstruct = first(photos.names, options.limit), method.size, applied(method, "reconstruct")
    errors, yaw = {key: [] for key in MEASURES}, []
    for some, boxes, crops in batches(photos, names, size):
        r = reconstruct(crops)
        vertices = method.model.shape(r.identity, r.expression).detach()
        predicted = r.map(lambda value: value.double().cpu()).pixels(vertices.double().cpu()).numpy()
        raw = (np.stack([p.shape for p in some]), np.stack([p.expression for p in some]))
        coefficients = [torch.from_numpy(values).double() / d for values, d in zip(raw, deviations)]
        cameras = [crop_camera(p.pose, len(p.image), box, size) for p, box in zip(some, boxes)]
        labels = placed(
            model.shape(*(c.float() for c in coefficients)),
            *(torch.from_numpy(np.array(c)) for c in zip(*cameras)),
            size,
        )
        boxed = np.stack([to_crop(p.landmarks[:, :2], box, size) for p, box in zip(some, boxes)])
        errors["nme_dense_2d"] += [*nme(predicted[..., :2], labels[..., :2], boxed)]
        for rule in ("min_z", "mean_z"):
            errors[f"nme_dense_3d_{rule}"] += [*nme_3d(predicted, labels, rule, boxed)]
        yaw += [p.yaw for p in some]
    count = len(yaw)
    results = {
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
    row = [results["nme_dense_2d_plain_percent"], results["nme_dense_3d_mean_z_plain_percent"]]
    measure = f"Mean distance of all {model.num_vertices:,} vertices, percent of sqrt(width * height) of the box of the 68 labelled points"
    title = f"{measure}; {photographs(count)}, crops from the labelled landmarks"
    notes = [
        "Our row: plain means over photographs; in 3D with the mean z of each mesh at 0. The curve is of two dimensions.",
        "Published 3D numbers follow different rules of depth (least z at 0, mean z at 0, none) and different parts of the face: compare with care.",
        *subset_note(count, len(names) - count),
    ]
    return Report(
        "aflw2000-dense",
        title,
        results,
        np.array(errors["nme_dense_2d"]),
        "percent",
        10.0,
        COLUMNS,
        row,
        PUBLISHED,
        notes,
    )


def basel_model(method, path):
    """(path, model) in which the labels are written; the method's own is told to be another by its number of vertices and triangles."""
    own = Path(getattr(method.config, "model", ""))
    path = path or own
    if path.suffix.lower() != ".mat":
        found = f"the method's model is {own}"
        raise InputError(
            f"the meshes of AFLW2000-3D are rebuilt with 300W-LP's Basel model, and there is none: give its Model_Shape.mat with --basel ({found})"
        )
    model, mesh = load_model(path), getattr(method, "model", None)
    if mesh is None or mesh.num_vertices != model.num_vertices or not torch.equal(mesh.faces.cpu(), model.faces):
        found = "no mesh" if mesh is None else f"{mesh.name} with {mesh.num_vertices} vertices"
        raise InputError(
            f"{path}: vertices are compared one by one, so the method must be trained with this model of {model.num_vertices} vertices, and it has {found}"
        )
    return path, model


def placed(vertices, rotation, scale, translation, size) -> np.ndarray:
    """Vertices [N,V,3] mm under weak-perspective cameras as pixels of a crop, float64 [N,V,3]: y down, z nearer where larger."""
    wide = [v.double().cpu() for v in (vertices, rotation, scale, translation)]
    p = wide[2][:, None, None] * (wide[0] @ wide[1].mT)
    p[..., :2] += wide[3][:, None]
    return flip_y(p, size).numpy()
