"""facemodels train: trains a method."""

import argparse
import dataclasses
import json
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

from facemodels.core.errors import InputError
from facemodels.methods.registry import METHODS, SUMMARIES, method_class
from facemodels.training.checkpoint import check, checkpoints, checkpoints_of_run
from facemodels.training.config import Config, configured, read_settings
from facemodels.training.describe import documented_settings, settings_toml
from facemodels.training.loop import train
from facemodels.training.method import Method

DEFAULT_PRESET = "cpu"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = """examples:
  facemodels train e2far --preset cpu --set output=runs/e2far
  facemodels train e2far --set output=runs/e2far --resume auto
      resumes a stopped or killed run, with its settings
  facemodels train dasl --help
      lists the settings of 2DASL
  facemodels train dasl --settings --preset gpu > dasl.toml
      writes all settings, for --config
  torchrun --nproc-per-node 8 -m facemodels train e2far --preset gpu

A preset is a set of settings; --config FILE (JSON or TOML) and then --set override it. The
run's folder holds config.json, metrics.jsonl, panels/ (pictures) and checkpoints/ (weights as
safetensors; the best and the last are kept). After pip install tensorboard, runs write their
metrics for it too: tensorboard --logdir runs."""
    methods = parser.add_subparsers(dest="method", required=True, metavar="METHOD", parser_class=_MethodParser)
    for name in METHODS:
        summary = SUMMARIES.get(name, METHODS[name])
        methods.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter).method = name


class _MethodParser(argparse.ArgumentParser):
    """The parser of a method, which gets its arguments only when it is used: other methods are not imported."""

    method: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.method is not None:
            method = method_class(self.method)
            self.description = f"Train {self.method}."
            self.epilog = settings_help(method)
            self.method = None
            _add_arguments(self, method)
        return super().parse_known_args(args, namespace)


def _add_arguments(parser: argparse.ArgumentParser, method: type[Method]) -> None:
    parser.add_argument(
        "--preset",
        help=f"{', '.join(method.PRESETS)}: seconds (smoke), minutes (ablation), under an hour on two cores (cpu) "
        f"(default: {DEFAULT_PRESET}; a resumed run keeps its own settings)",
    )
    parser.add_argument("--config", metavar="FILE", help="settings as JSON or TOML")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one of the settings below; may be repeated",
    )
    parser.add_argument(
        "--settings",
        dest="show_settings",
        action="store_true",
        help="print all settings with their descriptions, as TOML, and exit: the defaults, changed by --preset, "
        "--config and --set where given",
    )
    parser.add_argument(
        "--resume",
        default="never",
        metavar="auto|never|CHECKPOINT",
        help="resume from the last checkpoint in the run's folder, or from the given one, with the settings of the run "
        "(default: never)",
    )


def settings_help(method: type[Method]) -> str:
    """The settings of a method by group, with defaults and descriptions, at most 100 columns wide."""
    name = method.name
    lines = [
        "examples:",
        f"  facemodels train {name} --preset smoke --set output=runs/{name}",
        f"  facemodels train {name} --set output=runs/{name} --resume auto",
        "",
        "settings (--set KEY=VALUE), with their defaults; presets change some:",
    ]
    group = None
    for setting in documented_settings(method.config_class):
        if setting.group != group:
            group = setting.group
            lines += ["", f"  {group}"]
        default = json.dumps(setting.default, ensure_ascii=False)
        if isinstance(setting.default, str):
            default = setting.default
        elif isinstance(setting.default, tuple):
            default = ",".join(map(str, setting.default))
        lines += textwrap.wrap(
            f"{setting.name}={default}  {setting}", 98, initial_indent="    ", subsequent_indent=" " * 8
        )
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    method = method_class(options.method)
    if options.preset is not None and options.preset not in method.PRESETS:
        raise InputError(
            f"there is no preset {options.preset!r} of {options.method}; there are {', '.join(method.PRESETS)}"
        )
    config = _settings(method, options)
    if options.show_settings:
        print(settings_toml(config), end="")
        return 0
    _check_stages(config, options.settings)
    folder = Path(config.output) / "checkpoints"
    trained: list[int] = []  # the steps that were done
    train(method, config, options.resume, trained.append)
    if _is_main() and trained:
        last = checkpoints(folder)[-1]
        print(
            f"trained; {last} is the last checkpoint, metrics and pictures are in {config.output}\n"
            f"  facemodels reconstruct photo.jpg -o out --method {last}\n"
            f"  facemodels evaluate aflw2000 --data AFLW2000-3D.zip --checkpoint {last}"
        )
    return 0


def _check_stages(config: Config, given: list[str]) -> None:
    """Refuse a first stage that is set longer than the run, and say it of one that the preset has."""
    first = getattr(config, "stage1", 0)
    if first <= config.steps:
        return
    if any(setting.startswith("stage1=") for setting in given):
        raise InputError(
            f"stage1={first}: the first stage must not be longer than the run, which has {config.steps} steps"
        )
    _say(
        f"the first stage takes {first} steps (stage1) and the run only {config.steps}, so the other stages are left "
        "out; set stage1 too to see them"
    )


def _settings(method: type[Method], options: argparse.Namespace) -> Config:
    """The settings that the options ask for; those of a run that is resumed come before its preset's."""
    if options.config is not None and not Path(options.config).is_file():
        raise InputError(
            f"--config {options.config}: there is no such file; facemodels train {options.method} --settings > "
            f"{options.method}.toml writes one with all settings"
        )
    preset = options.preset or (None if options.show_settings else DEFAULT_PRESET)
    config = configured(
        method.config_class, method.PRESETS[preset] if preset else None, options.config, options.settings
    )
    if options.show_settings:
        return config
    if options.resume == "never":
        if options.preset is None and not checkpoints(Path(config.output) / "checkpoints"):  # else the run is refused
            _say(f"the preset is {preset}, the default; there are {', '.join(method.PRESETS)}")
        return config
    folder: Path | None
    if options.resume == "auto":
        folder = Path(config.output)
        present = checkpoints(folder / "checkpoints")
        if not present:
            own_settings = options.preset is None and _read_own(folder, method) is not None
            chosen = "its own settings (config.json)" if own_settings else f"the preset {preset}"
            _say(f"{folder} holds no checkpoint to resume from, so a new run begins, with {chosen}")
        present = [*present, folder]  # the settings of the run itself come first
    else:
        present = [Path(options.resume)]
        _check_named(present[0])
        inside = present[0].resolve().parent
        folder = inside.parent if inside.name == "checkpoints" else None  # else a copy: where its run was
    own = next((found for c in reversed(present) if (found := _read_own(c, method)) is not None), None)
    if own is None:
        return config  # none, or all are damaged: the training says so
    if folder is not None:
        own["output"] = str(folder)
    if options.preset is not None:
        own |= method.PRESETS[options.preset]
    return configured(method.config_class, own, options.config, options.settings)


def _check_named(checkpoint: Path) -> None:
    """Refuse what is no checkpoint, with those that were perhaps meant."""
    if not checkpoint.is_dir():
        raise InputError(f"{checkpoint}: no such checkpoint (a folder such as runs/dasl/checkpoints/step-000000500)")
    inside = checkpoints_of_run(checkpoint)
    if inside:
        raise InputError(f"{checkpoint}: not a checkpoint, but holds some; the last is {inside[-1]}")


def _is_main() -> bool:
    return int(os.environ.get("RANK", 0)) == 0  # torchrun numbers the processes


def _say(words: str) -> None:
    if _is_main():
        print(f"facemodels train: {words}", file=sys.stderr)


def _read_own(checkpoint: Path, method: type[Method]) -> dict[str, Any] | None:
    """The settings of a checkpoint by name; None if they are damaged."""
    try:
        check(checkpoint, ["config.json"])
        values = read_settings(checkpoint / "config.json")
    except InputError:
        return None
    known = {f.name for f in dataclasses.fields(method.config_class)}
    return {k: v for k, v in values.items() if k in known}
