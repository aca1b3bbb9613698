"""facemodels train: trains a method."""

import argparse
import os
from pathlib import Path

from facemodels.core.errors import InputError
from facemodels.methods.registry import METHODS, method_class
from facemodels.training.checkpoint import checkpoints
from facemodels.training.config import configured
from facemodels.training.describe import settings_toml
from facemodels.training.loop import train

DEFAULT_PRESET = "cpu"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = """examples:
  facemodels train e2far --preset cpu --set output=runs/e2far
  facemodels train e2far --preset cpu --set output=runs/e2far --resume auto
      resumes a stopped or killed run
  facemodels train dasl --settings --preset gpu > dasl.toml
      writes all settings, for --config
  torchrun --nproc-per-node 8 -m facemodels train e2far --preset gpu

A preset is a set of settings; --config FILE (JSON or TOML) and then --set change single ones. The
run's folder holds config.json, metrics.jsonl, panels/ (pictures) and checkpoints/ (weights as
safetensors; the best and the last are kept)."""
    parser.add_argument("method", choices=METHODS, metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument(
        "--preset",
        help="smoke (seconds), ablation (minutes), cpu (two cores, under an hour), gpu, paper "
        f"(default: {DEFAULT_PRESET})",
    )
    parser.add_argument("--config", metavar="FILE", help="settings as JSON or TOML")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting; may be repeated",
    )
    parser.add_argument(
        "--settings",
        dest="show_settings",
        action="store_true",
        help="print all settings of the method with their descriptions, as TOML, and exit: the defaults, changed by "
        "--preset, --config and --set where given",
    )
    parser.add_argument(
        "--resume",
        default="never",
        metavar="auto|never|CHECKPOINT",
        help="resume from the last checkpoint in the run's folder, or from the given one (default: never)",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    method = method_class(options.method)
    preset = options.preset or (None if options.show_settings else DEFAULT_PRESET)
    if preset is not None and preset not in method.PRESETS:
        raise InputError(f"there is no preset {preset!r} of {options.method}; there are {', '.join(method.PRESETS)}")
    values = method.PRESETS[preset] if preset is not None else None
    config = configured(method.config_class, values, options.config, options.settings)
    if options.show_settings:
        print(settings_toml(config), end="")
        return 0
    train(method, config, options.resume)
    if int(os.environ.get("RANK", 0)) == 0:
        last = checkpoints(Path(config.output) / "checkpoints")[-1]
        print(f"trained; {last} is the last checkpoint, metrics and pictures are in {config.output}")
    return 0
