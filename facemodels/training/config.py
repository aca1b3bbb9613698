"""Settings of a training run: the ones that every method has, and where their values come from.

In a configuration class, the comment behind a field describes it, and a comment on a line of its own, after an empty
line, names the group of the fields below it. `facemodels train METHOD --settings` prints them (training/describe.py).
"""

import dataclasses
import difflib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

from facemodels.core.errors import InputError, one_line

# The least and the largest value that makes sense, by the name of a setting.
Ranges: TypeAlias = dict[str, tuple[float, float]]

WEIGHT = (0.0, 1e6)  # range of the weight of a loss
STEPS = (0, 10**9)  # range of a number of steps
SAMPLES = (0, 10**8)  # range of a number of samples
# Settings by the names that they often have elsewhere.
ALIASES = {
    **dict.fromkeys(("learning_rate", "learningrate", "base_lr"), "lr"),
    **dict.fromkeys(("batch_size", "batchsize", "bs"), "batch"),
    **dict.fromkeys(("iterations", "iters", "max_steps", "num_steps", "epochs", "max_epochs", "num_epochs"), "steps"),
    **dict.fromkeys(("workers", "num_workers"), "prefetch"),
    **dict.fromkeys(("save_every", "save_interval"), "checkpoint_every"),
    **dict.fromkeys(("amp", "fp16", "bf16"), "precision"),
}

# Settings that may change on resume.
MAY_CHANGE = frozenset(
    ["output", "steps", "device", "compile", "prefetch"]
    + ["log_every", "panel_every", "validate_every", "checkpoint_every", "keep", "patience"]
)

BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
TYPES = {bool: "true or false", int: "an integer", float: "a number", str: "text without zero bytes"}
_LARGEST_FILE = 1 << 20  # bytes of a file of settings
_MOST_DOTS = 100  # in a line of TOML


@dataclass
class Config:
    """Settings that every method has. A method's own configuration derives from it; all are saved with a checkpoint.

    Attributes:
        RANGES: The ranges of the numbers among the settings of a class, except those of its bases.
    """

    RANGES: ClassVar[Ranges] = {
        "seed": (0, 2**63 - 1),
        "steps": (1, 10**9),
        "batch": (1, 65_536),
        "lr": (1e-12, 1.0),
        "weight_decay": (0.0, 10.0),
        "warmup": STEPS,
        "decay": (0.0, 1.0),
        "clip": (0.0, 1e6),
        "ema": (0.0, 0.999999),
        "prefetch": (0, 64),
        "log_every": (1, 10**9),
        "panel_every": (1, 10**9),
        "validate_every": (1, 10**9),
        "checkpoint_every": (1, 10**9),
        "keep": (1, 10**6),
        "patience": STEPS,
    }

    # Run
    output: str = "run"  # folder of the run
    start: str = ""  # checkpoint or shipped weights to take the initial weights from; empty: none
    seed: int = 0  # seed of everything random
    device: str = "auto"  # "cpu", "cuda", "cuda:1", or "auto": CUDA if there is a CUDA device

    # Optimization
    steps: int = 1000  # optimizer steps
    batch: int = 32  # samples per step, of all processes together
    optimizer: str = "adamw"  # "adamw", "adam" or "sgd" (Nesterov momentum 0.9)
    lr: float = 1e-4  # learning rate after the warmup
    weight_decay: float = 0.0  # as the optimizer defines it
    schedule: str = "cosine"  # of the learning rate: "cosine" to zero, "step" (see milestones) or "constant"
    warmup: int = 0  # steps of linear warmup from zero
    milestones: tuple[int, ...] = ()  # schedule "step": steps at which the rate is multiplied by `decay`
    decay: float = 0.2  # schedule "step": factor at each milestone
    clip: float = 0.0  # largest norm of the gradient of an optimizer group; 0: no clipping
    ema: float = 0.0  # decay of the exponential moving average of the weights, which is validated; 0: none

    # Speed
    precision: str = "float32"  # "float32", or "bfloat16": the networks run under autocast in training
    channels_last: bool = True  # memory format of images and convolutions
    compile: bool = False  # torch.compile for the networks, in training
    prefetch: int = 1  # batches that threads prepare ahead

    # Logging, validation and checkpoints
    log_every: int = 10  # steps between lines of metrics.jsonl
    panel_every: int = 500  # steps between pictures in panels/
    validate_every: int = 500  # steps between validations
    checkpoint_every: int = 500  # steps between checkpoints
    keep: int = 2  # last checkpoints that are kept, besides the best
    patience: int = 0  # validations without improvement after which the run stops; 0: never

    def __post_init__(self) -> None:
        for name, choices in (
            ("optimizer", ("adamw", "adam", "sgd")),
            ("schedule", ("cosine", "step", "constant")),
            ("precision", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        _check_ranges(type(self), vars(self))
        if not self.output:
            raise InputError("output must be the name of a folder, got none")
        shown = ",".join(map(str, self.milestones))
        if any(not 0 <= m <= STEPS[1] for m in self.milestones):
            raise InputError(f"milestones must be steps, 0 to {STEPS[1]}, got {shown}")
        if any(a >= b for a, b in zip(self.milestones, self.milestones[1:])):
            raise InputError(f"milestones must be in ascending order, each once, got {shown}")


def ranges(cls: type[Config]) -> Ranges:
    """Return the ranges of a class and of its bases; a derived class may narrow those of its bases."""
    merged: Ranges = {}
    for base in reversed(cls.__mro__):
        merged |= vars(base).get("RANGES", {})
    return merged


def range_words(low: float, high: float) -> str:
    """Return a range in words: "0 to 90"."""
    return f"{low:.10g} to {high:.10g}"


AnyConfig = TypeVar("AnyConfig", bound=Config)


def configured(
    cls: type[AnyConfig],
    preset: Mapping[str, Any] | None = None,
    file: str | Path | None = None,
    settings: Sequence[str] = (),
) -> AnyConfig:
    """Build a configuration. Later sources override earlier ones: defaults, preset, file, settings.

    Args:
        cls: The class of the configuration.
        preset: Values by key.
        file: A JSON or TOML file of values by key.
        settings: "key=value" each; a list of values is separated by commas.

    Raises:
        InputError: A key does not exist (the message names those that are close), or a value has the wrong type or is
            out of range.
    """
    values, found = _checked(cls, preset or {}), {}
    if file is not None:
        found = read_settings(Path(file))
        try:
            values |= _checked(cls, found)
        except InputError as error:
            raise InputError(f"{file}: {error}") from error
    given = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"--set {shortened(setting)}: a setting is key=value")
        given[key] = text
    try:
        return cls(**values | _checked(cls, given))
    except InputError as error:  # perhaps about several settings that do not go together
        words = set(re.findall(r"\w+", str(error)))
        if words & (found.keys() - given.keys()):
            raise InputError(f"{file}: {error}") from error
        raise


def _checked(cls: type[Config], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by key, each as the type of the setting, after checking that such settings exist."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    converted = {}
    for key, value in values.items():
        if key not in fields:
            close = [ALIASES[key]] if key in ALIASES else difflib.get_close_matches(key[:100], fields, 3, 0.4)
            hint = f"close to it are {', '.join(close)}" if close else "--settings of the command lists all of them"
            raise InputError(f"there is no setting {shortened(key)}; {hint}")
        converted[key] = _converted(key, value, default_of(fields[key]))
    _check_ranges(cls, converted)
    return converted


def _check_ranges(cls: type[Config], values: Mapping[str, Any]) -> None:
    for name, (low, high) in ranges(cls).items():
        value = values.get(name, low)
        if not isinstance(value, (int, float)) or not low <= value <= high:  # so written, NaN is refused too
            raise InputError(f"{name} must be {range_words(low, high)}, got {shortened(value)}")


def config_json(name: str, config: Config) -> str:
    """Return the content of config.json: the settings and the name of the method."""
    return json.dumps({"method": name} | dataclasses.asdict(config), indent=1) + "\n"


def read_settings(path: Path) -> dict[str, Any]:
    """Read settings by key from a JSON or TOML file; the key "method" of a config.json is left out.

    Raises:
        InputError: The file cannot be read, or holds something else.
    """
    values = _toml(path, _read_text(path)) if path.suffix.lower() == ".toml" else read_json(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected settings by name, got {type(values).__name__}")
    values.pop("method", None)
    return values


def read_json(path: Path) -> Any:
    """Read a JSON file of at most a megabyte.

    Raises:
        InputError: The file cannot be read, or is not JSON.
    """
    text = _read_text(path)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise InputError(f"{path}: brackets are nested too deeply for a file of settings") from error
    except ValueError as error:  # no JSON, or a number of thousands of digits
        raise InputError(f"{path}: not JSON: {one_line(error)}") from error


def _read_text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        text = content.decode()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 ({error.reason} at byte {error.start})") from error
    except ValueError as error:  # a zero byte
        raise InputError(f"{str(path)!r}: not the name of a file ({one_line(error)})") from error
    if len(content) > _LARGEST_FILE:
        raise InputError(f"{path}: too large for a file of settings, which has at most {_LARGEST_FILE >> 20} MB")
    return text


def _toml(path: Path, text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib

        # The parser's time and memory grow with the square of the parts of a dotted key.
        if any(line.count(".") > _MOST_DOTS for line in text.split("\n")):
            raise InputError(f"{path}: a line with more than {_MOST_DOTS} dots is nested too deeply for settings")
        try:
            return tomllib.loads(text)
        except RecursionError as error:
            raise InputError(f"{path}: brackets are nested too deeply for a file of settings") from error
        except ValueError as error:  # no TOML, or a number of thousands of digits
            raise InputError(f"{path}: not TOML: {one_line(error)}") from error
    raise InputError(f"{path}: TOML needs Python 3.11; write it as JSON")


def default_of(field: dataclasses.Field) -> Any:
    """Return the default of a setting."""
    return field.default_factory() if callable(field.default_factory) else field.default


def _converted(key: str, value: Any, default: Any) -> Any:
    """Return a value as the type of the setting's default."""
    item = type(default[0]) if isinstance(default, tuple) and default else int  # of a tuple
    try:
        if not isinstance(default, tuple):
            return _as_type(type(default), value)
        if not isinstance(value, (str, list, tuple)):
            raise TypeError
        items = [w for w in value.split(",") if w] if isinstance(value, str) else value
        return tuple(_as_type(item, w) for w in items)
    except (ValueError, KeyError, TypeError, OverflowError):
        expected = f"a list, each {TYPES[item]}" if isinstance(default, tuple) else TYPES[type(default)]
        raise InputError(f"{key} must be {expected}, got {shortened(value)}") from None


def _as_type(wanted: type, value: Any) -> Any:
    if wanted is bool:
        return BOOLEANS[value.lower()] if isinstance(value, str) else {True: True, False: False}[value]
    if isinstance(value, bool) or not isinstance(value, str if wanted is str else (str, int, float)):
        raise TypeError
    if wanted is int and isinstance(value, float) and value != int(value):
        raise ValueError
    if isinstance(value, str) and wanted is str and ("\0" in value or not _is_name(value)):
        raise ValueError
    return wanted(value)


def _is_name(text: str) -> bool:
    """Whether text can be the name of a file: JSON can hold halves of characters."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def shortened(value: Any) -> str:
    """A value as Python writes it, at most 80 characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "an integer of thousands of digits"
    except RecursionError:
        text = "deeply nested brackets"
    return text if len(text) <= 80 else text[:77] + "..."
