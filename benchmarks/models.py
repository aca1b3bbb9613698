"""How well the built-in model covers the shapes of other models, how well photo fitting recovers it, how fast it is.

python -m benchmarks.models [--identities N] [--photos N] [--json FILE] [MODEL...]

Shape: for ICT-FaceKit, if it is found (in the folder FACEMODELS_DATA), and for each MODEL that is given, the distance
from its face region to the built-in mean after similarity alignment, and to the built-in model fitted to N of its
random identities (neutral, as meshes with their landmarks). Distances are from each vertex of the region to the
nearest point of the other surface, in millimeters of the other model. Nothing was tuned on these identities; they are
drawn from a seed that only this benchmark uses.

Fitting: N faces of the built-in model, rendered at 224 pixels, up to 45 degrees of yaw, fitted to the image and 68
landmarks. Reported are the distance of landmarks in pixels, and of vertices of the face in mm after similarity
alignment (an image without perspective has no depth and no size).
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from facemodels import MorphableModel, load_model
from facemodels.core.alignment import similarity
from facemodels.core.landmarks import INNER
from facemodels.core.surface import ClosestPoints, closest_points, interpolate_faces
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from facemodels.fitting.photo import fit_image
from facemodels.fitting.scan import fit_mesh

from . import common

SEED = 20231


def main(arguments=None) -> dict:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="model files to compare with, beside ICT-FaceKit")
    parser.add_argument(
        "--identities", type=int, default=100, help="random identities of each other model (default: 100)"
    )
    parser.add_argument("--photos", type=int, default=10, help="rendered faces to be fitted (default: 10)")
    parser.add_argument("--iterations", type=int, default=30, help="of each fit (default: 30)")
    parser.add_argument("--json", help="also write the numbers here")
    options = parser.parse_args(arguments)
    builtin = load_model("builtin")
    result = {
        "environment": common.environment(torch.device("cpu")),
        "speed": speed(builtin),
        "fitting": recovery(builtin, options.photos),
        "shape": [],
    }
    for path in found() + options.models:
        result["shape"].append(compare(builtin, load_model(path), options))
    if not result["shape"]:
        print(
            "\nNo other model was found: put ict_facekit.npz into the folder that FACEMODELS_DATA names, or give model "
            "files."
        )
    common.write_json(options.json, result)
    return result


def found() -> list[str]:
    path = Path(os.environ.get("FACEMODELS_DATA", "")) / "ict_facekit.npz"
    return [str(path)] if path.is_file() else []


def speed(model: MorphableModel) -> dict:
    code = "\n".join((
        "import time",
        "from facemodels.models.builtin import builtin_data",
        "start = time.perf_counter()",
        "builtin_data()",
        "print(time.perf_counter() - start)",
    ))  # fmt: skip
    seconds = sorted(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    )
    n, modes = 64, model.num_identity + model.num_expression
    identity, expression = torch.randn(n, model.num_identity), torch.rand(n, model.num_expression)
    both, product = torch.randn(n, modes), torch.randn(modes, 3 * model.num_vertices)
    one = identity[:1].contiguous()
    ms = common.time_in_turn(
        {
            "dense product": lambda: both @ product,
            "shape": lambda: model.shape(identity, expression),
            "shape, one identity": lambda: model.shape(one, expression),
            "expressions alone": lambda: expression @ product[: model.num_expression],
        },
        torch.device("cpu"),
        2.0,
    )
    ms = {k: v["ms"] for k, v in ms.items()}
    print(f"\n## Speed of {model}\n")
    print(f"generated in {seconds[2]:.2f} s (median of 5 new processes, without imports)")
    print(
        f"batch of {n}: shape {ms['shape']:.2f} ms, one dense product of the same size {ms['dense product']:.2f} ms: "
        f"{ms['shape'] / ms['dense product']:.2f} times"
    )
    print(
        f"{n} frames of one identity: {ms['shape, one identity']:.2f} ms, product with the expressions alone "
        f"{ms['expressions alone']:.2f} ms"
    )
    return {"generation_s": seconds, "batch": n, "ms": ms}


def recovery(model: MorphableModel, count: int) -> dict:
    source = Synthetic(model, 224, RandomizationConfig(yaw=45, occluded=0, degraded=0, box=(1.5, 1.5), shift=0))
    face, pixels, mm, seconds = model.regions["face"], [], [], []
    for k in tqdm(range(count), desc="photos", disable=None):
        faces = source(SEED, k, range(1))
        start = time.perf_counter()
        fit = fit_image(faces.image[0].permute(1, 2, 0), faces.landmarks[0], model, "static", progress=False)
        seconds.append(time.perf_counter() - start)
        pixels.append((fit.landmarks - faces.landmarks[0]).norm(dim=-1).mean().item())
        true = (model.shape(faces.identity, faces.expression) @ faces.rotation.mT)[0, face].double()
        found = (fit.face(model).vertices @ fit.camera.rotation.mT.float())[0, face].double()
        mm.append((similarity(found, true)(found) - true).norm(dim=-1).median().item())
    print(f"\n## {count} rendered faces fitted\n")
    if count:
        print(
            f"landmarks {np.mean(pixels):.2f} pixels off on average (worst face {max(pixels):.2f}), "
            f"median vertex {np.mean(mm):.2f} mm (worst face {max(mm):.2f}), {np.median(seconds):.1f} s a photo"
        )
    return {"pixels": pixels, "median_vertex_mm": mm, "seconds": seconds}


def compare(builtin, other, options) -> dict:
    region = other.regions["face"].numpy()
    faces = other.faces.numpy()
    cut = faces[np.isin(faces, region).all(1)]
    mean = to_mean(builtin, other, region)
    print(f"\n## {other.name}: {len(region)} vertices of its face\n")
    print(
        f"built-in mean to its mean: mean {mean.mean():.2f} mm, median {np.median(mean):.2f} mm, "
        f"90 % below {np.quantile(mean, 0.9):.2f} mm"
    )
    generator = torch.Generator().manual_seed(SEED)
    errors = []
    for _ in tqdm(range(options.identities), desc="identities", disable=None):
        shape = other.shape(torch.randn(1, other.num_identity, generator=generator))
        landmarks = other.landmarks(shape)[0]
        landmarks[: INNER.start] = torch.nan
        landmarks[~other.has_landmark] = torch.nan
        fit = fit_mesh(
            shape[0], cut, builtin, landmarks, iterations=options.iterations, expression=False, progress=False
        )
        fitted = fit.placement(fit.face(builtin).vertices[0])
        errors.append(closest_points(shape[0, region].double(), fitted.double(), builtin.faces.long()).distance.numpy())
    e = np.array(errors)
    out = {"model": other.name, "mean_to_mean_mm": summary(mean), "identities": options.identities}
    if len(e):
        out["fitted_mm"] = summary(e)
        out["fitted_medians_mm"] = np.median(e, 1).tolist()
        per = np.median(e, 1)
        print(
            f"built-in model fitted to {len(e)} identities: median {np.median(e):.2f} mm, mean {e.mean():.2f} mm, "
            f"90 % below {np.quantile(e, 0.9):.2f} mm;"
        )
        print(f"median of each identity: {per.min():.2f} to {per.max():.2f} mm")
    return out


def to_mean(builtin, other, region, rounds=40) -> np.ndarray:
    """Return distances [P], mm of `other`, from its mean face to the built-in mean after similarity alignment (ICP)."""
    shape, own = other.mean.double(), builtin.mean.double()
    shared = (other.has_landmark & builtin.has_landmark)[INNER]
    placed = similarity(other.landmarks(shape[None])[0, INNER][shared], builtin.landmarks(own[None])[0, INNER][shared])
    search, points = ClosestPoints(own, builtin.faces.long()), shape[region]
    for _ in range(rounds):
        near = search(placed(points))
        placed = similarity(points, interpolate_faces(own, builtin.faces.long(), near.face_id, near.bary))
    return (search(placed(points)).distance / placed.scale).numpy()


def summary(distances) -> dict:
    return {
        "mean": float(distances.mean()),
        "median": float(np.median(distances)),
        "p90": float(np.quantile(distances, 0.9)),
    }


if __name__ == "__main__":
    main()
