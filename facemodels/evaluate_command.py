"""facemodels evaluate: scores a trained method on a benchmark."""

import csv
import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from PIL import Image, ImageDraw

from .data.crops import cut, landmark_box, to_crop
from .data.tddfa import AFLW2000
from .errors import InputError
from .evaluation import aflw2000
from .evaluation.landmarks import BINS
from .methods import load_method

PROTOCOLS = ("aflw2000",)
COLUMNS = 8  # faces in a row of the sheet of pictures
FACE = 240  # pixels a side of each
LABEL, PREDICTED = (0, 230, 60), (255, 40, 40)


def configure(parser):
    parser.epilog = """examples:
  facemodels evaluate aflw2000 --method dasl --checkpoint runs/dasl/checkpoints/step-000010000 --data AFLW2000-3D.zip --json dasl.json
  facemodels evaluate aflw2000 --checkpoint ... --data AFLW2000 --labels test.configs --pictures out

aflw2000: 68 landmarks of AFLW2000-3D, NME by sqrt(width * height) of the labels' box. Crops come from the labelled landmarks, as in the benchmark. Printed are both
means that papers mix up: balanced (of the means of three bins of yaw, what tables call mean) and plain (of all photographs). The re-annotated labels, AFLW's yaw and
the stored boxes are read from DATA_labels.npz beside the data, or from 3DDFA's folder test.configs with --labels; without them the original labels are scored alone."""
    parser.add_argument("protocol", choices=PROTOCOLS, metavar="PROTOCOL", help=", ".join(PROTOCOLS))
    parser.add_argument("--method", help="of the checkpoint, to be sure that it is the one meant")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FOLDER", help="with weights.safetensors and config.json, as facemodels train writes them")
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="folder or zip in the data set's own layout")
    parser.add_argument("--labels", type=Path, metavar="PATH", help="re-annotated labels (default: DATA_labels.npz beside the data, where there is one)")
    boxes = "how predictions are mapped back: by the box that was cut out, or by the benchmark's file, where some are clipped (default: recomputed)"
    parser.add_argument("--boxes", choices=aflw2000.BOXES, default="recomputed", help=boxes)
    parser.add_argument("--limit", type=int, metavar="N", help="the first N photographs alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, flat, with units in their names")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write faces.png, the worst, middle and best faces, and errors.csv, all of them")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default: auto)")


def run(options) -> int:
    method = load_method(options.checkpoint, _device(options.device))
    if options.method and options.method != method.name:
        raise InputError(f"{options.checkpoint}: a checkpoint of the method {method.name}, not of {options.method}")
    if not hasattr(method, "landmarks"):
        raise InputError(f"{options.checkpoint}: {options.protocol} scores landmarks in the picture, and {method.name} gives no pose to place them with")
    device = next(method.parameters()).device

    @torch.no_grad()
    def predict(crops):
        return method.landmarks(crops.to(device))

    found = aflw2000.predictions(predict, options.data, method.size, options.labels, options.boxes, options.limit)
    results = {"method": method.name, "checkpoint": str(options.checkpoint), "given": method.given} | aflw2000.scores(found)
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        iio.imwrite(options.pictures / "faces.png", sheet(found, options.data))
        write_errors(options.pictures / "errors.csv", found)
        print(f"{options.pictures / 'faces.png'}  the worst, middle and best {COLUMNS} faces: labels green, predictions red")
    return 0


def _device(wanted):
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise InputError(f"--device must be cpu, cuda or auto, got {wanted!r}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {wanted}: torch finds no CUDA device here; use cpu")
    return device


def table(results: dict) -> str:
    """The results for people: a line for each kind of labels and yaw."""
    number = lambda value: f"{'-' if value is None else f'{value:.3f}':>9}"  # noqa: E731
    rows = {
        "nme68_2d_": "68 points, original labels",
        "nme68_2d_reannotated_": "68 points, re-annotated labels",
        "nme68_3d_min_z_": "68 points in 3D, least z at 0",
        "nme68_3d_mean_z_": "68 points in 3D, mean z at 0",
        "nme68_2d_between_labels_": "original labels on re-annotated",
    }
    lines = [
        f"{results['method']}, {results['checkpoint']}; given: {results['given']}",
        f"{results['protocol']}; {results['images']} photographs" + (f", {results['images_left_out']} left out" if results["images_left_out"] else ""),
        f"crops {results['crops']}; boxes {results['boxes']}",
        "",
        f"{'NME, percent':34}{'[0,30]':>9}{'(30,60]':>9}{'(60,90]':>9}{'balanced':>9}{'std':>9}{'plain':>9}{f'>{aflw2000.FAILURE:.0f} %':>9}",
    ]
    for source, title in (("", "bins by the fitted yaw"), ("aflw_yaw_", "bins by AFLW's yaw")):
        within = {key: source + key.removeprefix("yaw_") if source else key for key in BINS}
        if f"images_{within['yaw_0_30']}" not in results:
            continue
        lines.append(f"{title + ', photographs':34}" + "".join(f"{results[f'images_{w}']:9d}" for w in within.values()))
        for prefix, label in rows.items():
            if f"{prefix}plain_percent" in results:
                values = [results[f"{prefix}{w}_percent"] for w in within.values()] + [results[f"{prefix}{source}{k}_percent"] for k in ("balanced", "std_of_bins")]
                values += [results[f"{prefix}plain_percent"], results[f"{prefix}above_{aflw2000.FAILURE:.0f}_percent_of_images"]]
                lines.append(f"  {label:32}" + "".join(map(number, values)))
    return "\n".join(lines)


def sheet(found: aflw2000.Predictions, path) -> np.ndarray:
    """Rows of the worst, the middle and the best faces by the original labels: uint8 [3 FACE, COLUMNS FACE, 3]."""
    photos, order = AFLW2000(path), np.argsort(-found.errors)
    count = min(COLUMNS, len(order))
    middle = (len(order) - count) // 2
    rows = []
    for chosen in (order[:count], order[middle : middle + count], order[len(order) - count :]):
        faces = []
        for k in chosen:
            box = landmark_box(found.original[k, :, :2])
            picture = Image.fromarray(cut(photos.read(found.names[k]).image, box, FACE))
            draw = ImageDraw.Draw(picture)
            for points, colour in ((found.original, LABEL), (found.points, PREDICTED)):
                for x, y in to_crop(points[k, :, :2], box, FACE):
                    draw.ellipse([x - 1.5, y - 1.5, x + 1.5, y + 1.5], fill=colour)
            caption = f"{found.names[k].removeprefix('image')}  {found.errors[k]:.2f} %"
            draw.rectangle([0, FACE - 13, draw.textlength(caption) + 5, FACE], fill=(0, 0, 0))
            draw.text((3, FACE - 12), caption, fill=(255, 255, 255))
            faces.append(np.asarray(picture))
        rows.append(np.concatenate(faces, 1))
    return np.concatenate(rows)


def write_errors(path: Path, found: aflw2000.Predictions) -> None:
    """A line a photograph: its yaw and its NME on each kind of labels."""
    columns = {"name": found.names, "yaw_fitted_deg": found.yaw, "nme68_2d_percent": found.errors}
    if found.reannotated is not None:
        columns |= {"yaw_aflw_deg": found.aflw_yaw, "nme68_2d_reannotated_percent": found.reannotated_errors}
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([row[0], *(f"{v:.5f}" for v in row[1:])] for row in zip(*columns.values()))
