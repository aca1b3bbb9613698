"""What each part of a method is worth: the same training with and without it, from several seeds.

python -m benchmarks.ablations METHOD [--seeds N] [--output DIR] [--wild PATH] [--aflw2000 PATH] [--set KEY=VALUE ...]
                                      [--only VARIANT ...] [--json FILE]

    e2far   the fusion of two depths for the expression, against the top layer alone
    dasl    stage 1 on labeled faces; from its weights, stage 2 with none of the four schemes, with each, with all.
            --wild: photographs with 2D landmarks (AFLW's crops, or a folder); without it, rendered faces
    pgn     pose regressed, or solved from landmarks that are read directly or from a map; and frames of a person
            without labels on top
    cycle   4000 steps of single frames and pairs, half of them with landmarks alone; from these weights 1000 more with
            none of the cycles, with each, and with both. Also: both for 1500 steps, about when the photometric error
            is that of none after 1000; none for 1500; both with variations of expressions as large as predicted; both
            with each way to compose the injected images

Each variant is the method's preset `ablation` with its own settings and --set. Results are those of the held-out faces
(`validate`, last weights) and, with --aflw2000, of its 68 landmarks, by which nothing is chosen; mean and standard
deviation over the seeds. Finished runs in DIR are reused and interrupted ones continued, so a table can be completed
later.
"""

import argparse
import hashlib
import json
import statistics
import sys
import time
from pathlib import Path

import torch

from facemodels.core.errors import InputError
from facemodels.data.tddfa import AFLW2000
from facemodels.evaluation.aflw2000 import evaluate
from facemodels.evaluation.aflw2000_data import locate
from facemodels.methods.cycle import CYCLES, MODES
from facemodels.methods.dasl import SCHEMES
from facemodels.methods.registry import load_method, method_class
from facemodels.training.checkpoint import checkpoints
from facemodels.training.config import configured
from facemodels.training.loop import train

from . import common

ALWAYS = 10**9  # labeled images to the end
VARIANTS = {
    "e2far": {"top layer": {"fusion": False}, "fusion": {"fusion": True}},
    # "pictures alone": photographs pass through the network and its batch norms, but their landmarks are not used.
    "dasl": {"none": {"schemes": ()}, "pictures alone": {"schemes": ("l2d",), "weight_l2d": 0.0}}
    | {s: {"schemes": (s,)} for s in SCHEMES}
    | {"all four": {"schemes": SCHEMES}},
    "pgn": {
        "regressed pose": {"pose": "regressed", "stage1": ALWAYS},
        "guided, direct": {"landmarks": "direct", "stage1": ALWAYS},
        "guided": {"stage1": ALWAYS},
        "guided, frames": {},
    },
    "cycle": {"none": {"cycles": ()}}
    | {c: {"cycles": (c,)} for c in CYCLES}
    | {
        "both": {},
        "both, longer": {"steps": 1500},
        "none, longer": {"cycles": (), "steps": 1500},
        "both, unsized": {"variation_mm": 0.0},
    }
    | {f"both, {m}": {"compose_pose": m, "compose_expression": m} for m in MODES},
}
# The run from which all variants of a seed start, and settings of all variants.
FIRST = {
    "dasl": {"schemes": ()},
    "cycle": {"cycles": (), "steps": 4000, "coarse": 2000, "validate_every": 2000, "checkpoint_every": 1000},
}
THEN = {"cycle": {"steps": 1000, "stage1": 0, "detached": 150, "lr": 7e-4, "validate_every": 250, "panel_every": 1000}}
# Columns of the table; the JSON has everything.
COLUMNS = {
    "e2far": ("neutral_mm", "neutral_of_mean_face_mm", "expression_mm", "expression_of_none_mm"),
    "dasl": (
        "nme_percent",
        "nme_synthetic_percent",
        "nme68_2d_balanced_percent",
        "nme68_2d_plain_percent",
        "nme68_2d_reannotated_balanced_percent",
        "nme68_2d_reannotated_plain_percent",
    ),
    "pgn": (
        "dense_nme_percent",
        "dense_nme_true_identity_percent",
        "dense_nme_true_expression_percent",
        "dense_nme_true_pose_percent",
        "rotation_degrees",
        "neutral_mm",
        "neutral_of_four_mm",
        "nme68_2d_balanced_percent",
    ),
    "cycle": (
        "photometric",
        "expression_leak_mm_per_degree",
        "rotation_leak_degrees_per_mm",
        "expression_response",
        "rotation_response",
        "expression_mm",
        "neutral_mm",
        "nme68_2d_balanced_percent",
    ),
}


def main(arguments=None) -> dict:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablations", description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=VARIANTS)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant (default: 3)")
    parser.add_argument("--output", help="folder of the runs (default: runs/ablations/METHOD)")
    parser.add_argument("--wild", help="photographs with 2D landmarks, for dasl")
    parser.add_argument("--aflw2000", help="AFLW2000-3D, to evaluate on")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of all runs; may be repeated",
    )
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="variants to run (default: all)")
    parser.add_argument("--json", help="also write the numbers here")
    options = parser.parse_args(arguments)
    output = Path(options.output or f"runs/ablations/{options.method}").resolve()
    unknown = [v for v in options.only or () if v not in VARIANTS[options.method]]
    if unknown:
        raise InputError(
            f"--only {unknown[0]}: the variants of {options.method} are {', '.join(VARIANTS[options.method])}"
        )
    if options.aflw2000:
        options.aflw2000 = locate(options.aflw2000)
        AFLW2000(options.aflw2000)  # fails now rather than after the first run
    settings = [*options.settings, *([f"wild={options.wild}"] if options.wild else [])]
    variants = {k: v for k, v in VARIANTS[options.method].items() if not options.only or k in options.only}
    result = {
        "method": options.method,
        "environment": common.environment(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "settings": settings,
        "runs": [],
    }
    for seed in range(options.seeds):
        begin = {}
        if options.method in FIRST:
            begin["start"] = str(
                run(options.method, output / f"first-{seed}", FIRST[options.method], seed, settings)[0]
            )
        for name, changes in variants.items():
            began = time.perf_counter()
            folder = output / f"{name.replace(',', '').replace(' ', '-')}-{seed}"
            checkpoint, values = run(
                options.method, folder, THEN.get(options.method, {}) | changes | begin, seed, settings
            )
            if options.aflw2000 and options.method != "e2far":
                values |= scored(checkpoint, options.aflw2000)
            result["runs"].append(
                {"variant": name, "seed": seed, "seconds": round(time.perf_counter() - began, 1)} | values
            )
            print(
                f"{name}, seed {seed}: "
                + ", ".join(f"{k} {values[k]:.3f}" for k in COLUMNS[options.method] if k in values),
                file=sys.stderr,
            )
            common.write_json(options.json, result | {"summary": summary(result["runs"])})
    result["summary"] = summary(result["runs"])
    shown = [c for c in COLUMNS[options.method] if any(c in r for r in result["runs"])]
    print(
        common.table(
            [
                {"variant": name} | {c: f"{v[c][0]:.3f} ± {v[c][1]:.3f}" for c in shown}
                for name, v in result["summary"].items()
            ],
            ["variant", *shown],
        )
    )
    common.write_json(options.json, result)
    return result


def run(name, folder, changes, seed, settings) -> tuple[Path, dict]:
    """Do a run, or continue or reuse an earlier one. Returns its last checkpoint and the results on held-out faces."""
    kind = method_class(name)
    config = configured(
        kind.config_class,
        kind.PRESETS["ablation"] | changes | {"seed": seed, "output": str(folder)},
        settings=tuple(settings),
    )
    steps = []
    trained = train(kind, config, "auto", steps.append).eval()
    # A finished run has not read the photographs, some of which are held out.
    if not steps and getattr(config, "wild", "synthetic") != "synthetic":
        trained.prepare_data()
    with torch.no_grad():
        return checkpoints(folder / "checkpoints")[-1], {
            k: float(v) for k, v in trained.validate(next(trained.parameters()).device).items()
        }


def scored(checkpoint, path) -> dict:
    """Score a checkpoint on AFLW2000-3D. The results are stored in its folder and reused."""
    files = [
        f
        for f in (Path(path), Path(path).with_name(Path(path).name.removesuffix(".zip") + "_labels.npz"))
        if f.exists()
    ]
    key = hashlib.sha256(
        repr([(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]).encode()
    ).hexdigest()[:8]
    stored = checkpoint / f"aflw2000-{key}.json"
    if not stored.is_file():
        stored.write_text(json.dumps(evaluate((trained := load_method(checkpoint)).landmarks, path, trained.size)))
    return json.loads(stored.read_text())


def summary(runs) -> dict:
    """Return variant -> result -> [mean, standard deviation over the seeds (0 for one seed)]."""
    found = {}
    for r in runs:
        for key, value in r.items():
            if isinstance(value, float) and key != "seconds":
                found.setdefault(r["variant"], {}).setdefault(key, []).append(value)
    return {
        name: {k: [statistics.fmean(v), statistics.stdev(v) if len(v) > 1 else 0.0] for k, v in values.items()}
        for name, values in found.items()
    }


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command continues from here")
