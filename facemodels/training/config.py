"""training.config: TODO."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

from facemodels.core.errors import InputError


@dataclass
class Config:
    """Settings that every method has. A method's own configuration derives from it; all of it is saved beside each checkpoint.

    output: folder of the run. start: a checkpoint whose weights a new run begins with. seed: of everything random. steps: optimizer steps. batch: samples a step, of all devices together.
    optimizer: "adamw", "adam" or "sgd" (Nesterov momentum 0.9). schedule: "cosine" to zero, "step" (times `decay` at each of `milestones`) or
    "constant", after `warmup` steps from zero. clip: largest norm of the gradient, 0 for none. ema: decay of the averaged weights that are
    validated and shipped, 0 for none. precision: "float32" or "bfloat16" (autocast), and compile: torch.compile,
    of the networks, the modules directly below the method, in training.
    prefetch: batches made ahead by threads. log_every, panel_every, validate_every, checkpoint_every: steps; keep: checkpoints kept beside
    the best. patience: validations without a better result before the run ends early, 0 for never. device: "cpu", "cuda", or "auto".
    """

    output: str = "run"
    start: str = ""
    seed: int = 0
    steps: int = 1000
    batch: int = 32
    optimizer: str = "adamw"
    lr: float = 1e-4
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: int = 0
    milestones: tuple[int, ...] = ()
    decay: float = 0.2
    clip: float = 0.0
    ema: float = 0.0
    precision: str = "float32"
    channels_last: bool = True
    compile: bool = False
    prefetch: int = 1
    log_every: int = 10
    panel_every: int = 500
    validate_every: int = 500
    checkpoint_every: int = 500
    keep: int = 2
    patience: int = 0
    device: str = "auto"

    def __post_init__(self):
        for name, choices in (
            ("optimizer", ("adamw", "adam", "sgd")),
            ("schedule", ("cosine", "step", "constant")),
            ("precision", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("steps", "batch", "log_every", "panel_every", "validate_every", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("prefetch", "weight_decay", "clip", "warmup", "patience", "decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.ema < 1 or not 0 < self.lr < math.inf:
            raise InputError(f"ema must be in 0..1 and lr a positive number, got {self.ema} and {self.lr}")


def configured(
    kind: type[Config], preset: dict | None = None, file: str | Path | None = None, settings: tuple[str, ...] = ()
) -> Config:
    """A configuration: defaults, then a preset, then a JSON or TOML file, then settings "key=value".

    Raises:
        InputError: a key that does not exist, or a value of a wrong type; the message names it and the keys that are close.
    """
    values = dict(preset or {})
    if file is not None:
        values |= _read(Path(file))
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: a setting is key=value")
        values[key] = text
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in values:
        if key not in fields:
            import difflib

            close = difflib.get_close_matches(key, fields, 3, 0.4)
            raise InputError(
                f"there is no setting {key!r}"
                + (f"; close to it are {', '.join(close)}" if close else f"; there are {', '.join(fields)}")
            )
    return kind(**{key: _converted(key, value, fields[key]) for key, value in values.items()})


def _read(path: Path) -> dict:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 ({error.reason} at byte {error.start})") from error
    if path.suffix == ".toml":
        try:
            import tomllib
        except ImportError:
            raise InputError(f"{path}: TOML needs Python 3.11; write it as JSON") from None
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{path}: not TOML: {error}") from error
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected settings by name, got {type(values).__name__}")
    values.pop("method", None)
    return values


def _converted(key, value, field):
    """The value as the type of the field's default."""
    default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    try:
        if isinstance(default, bool):
            if isinstance(value, str):
                return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
            return {True: True, False: False}[value]
        if isinstance(default, tuple):
            items = [w for w in value.split(",") if w] if isinstance(value, str) else list(value)
            kind = type(default[0]) if default else int
            return tuple(kind(w) for w in items)
        if isinstance(default, int) and isinstance(value, float) and value != int(value):
            raise ValueError
        return type(default)(value)
    except (ValueError, KeyError, TypeError, OverflowError):
        raise InputError(f"{key} must be of the kind of {default!r}, got {value!r}") from None
