"""facemodels train: trains a method."""

import os
from pathlib import Path

from facemodels.core.errors import InputError
from facemodels.methods.registry import METHODS, method_class
from facemodels.training.checkpoint import checkpoints
from facemodels.training.config import configured
from facemodels.training.loop import train


def configure(parser):
    parser.epilog = """examples:
  facemodels train e2far --preset cpu --set output=runs/e2far
  facemodels train e2far --preset cpu --set output=runs/e2far --resume auto      goes on where it was stopped or killed
  torchrun --nproc-per-node 8 -m facemodels train e2far --preset gpu

A preset is a set of settings; --config FILE (JSON or TOML) and then --set change single ones. The run's folder holds config.json, metrics.jsonl,
panels/ (pictures) and checkpoints/ (weights as safetensors; the best and the last ones are kept)."""
    parser.add_argument("method", choices=METHODS, metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument(
        "--preset",
        default="cpu",
        help="smoke (seconds), ablation (minutes), cpu (two cores, under an hour), gpu, paper (default: cpu)",
    )
    parser.add_argument("--config", metavar="FILE", help="settings as JSON or TOML")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting; may be given again and again",
    )
    parser.add_argument(
        "--resume",
        default="never",
        metavar="auto|never|CHECKPOINT",
        help="go on from the last checkpoint of the run's folder, or from one that is named (default: never)",
    )


def run(options) -> int:
    chosen = method_class(options.method)
    if options.preset not in chosen.PRESETS:
        raise InputError(
            f"there is no preset {options.preset!r} of {options.method}; there are {', '.join(chosen.PRESETS)}"
        )
    config = configured(chosen.config_class, chosen.PRESETS[options.preset], options.config, tuple(options.settings))
    train(chosen, config, options.resume)
    if int(os.environ.get("RANK", 0)) == 0:
        print(
            f"trained; {checkpoints(Path(config.output) / 'checkpoints')[-1]} is the last checkpoint, metrics and pictures are in {config.output}"
        )
    return 0
