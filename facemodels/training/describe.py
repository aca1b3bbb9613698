"""Documentation of settings, read from the comments in configuration classes: see training/config.py."""

import dataclasses
import inspect
import json
import re
import textwrap
from typing import Any, NamedTuple

from facemodels.training.config import Config, default_of, range_words, ranges


class Setting(NamedTuple):
    """A setting as `documented_settings` describes it."""

    name: str
    default: Any
    help: str
    group: str
    range: tuple[float, float] | None  # of a number

    def __str__(self) -> str:
        """The description with the range, except that of a count, which is at least 0 or 1 and may be large."""
        is_count = isinstance(self.default, int) and self.range is not None and self.range[0] in (0, 1)
        if self.range is None or is_count and self.range[1] >= 1e5:
            return self.help
        return f"{self.help} ({range_words(*self.range)})"


_FIELD = re.compile(r"(\w+): [^=#]+ = (?:[^#\"]|\"[^\"]*\")*(?:# (.*))?")


def documented_settings(cls: type[Config]) -> list[Setting]:
    """Return the settings of a configuration class by group, the class's own groups first.

    Descriptions and groups are the comments in the source, see the module's docstring. A class that only overrides the
    default of a setting need not describe it again.
    """
    fields = {f.name: default_of(f) for f in dataclasses.fields(cls)}
    limits = ranges(cls)
    described: dict[str, list[str]] = {}
    groups: dict[str, str] = {}
    order: list[str] = []
    for base in [c for c in reversed(cls.__mro__) if issubclass(c, Config)]:
        group, name, before, own = "", "", "", []
        for line in textwrap.dedent(inspect.getsource(base)).splitlines()[1:]:
            text = line.strip()
            if found := _FIELD.fullmatch(text) if re.match(r"    \w", line) else None:
                name = found[1]
                if name not in groups:
                    groups[name] = group
                    own += [group] if group not in own else []
                if found[2]:
                    described[name] = [found[2]]
            elif text.startswith("# "):
                if not before:
                    group, name = text[2:], ""
                elif name:
                    described[name].append(text[2:].strip())
            elif text.startswith("def "):
                break
            before = text
        order = own + [g for g in order if g not in own]
    return [
        Setting(name, default, " ".join(described.get(name, [])), groups.get(name, ""), limits.get(name))
        for group in order
        for name, default in fields.items()
        if groups.get(name, "") == group
    ]


def settings_toml(config: Config) -> str:
    """Return all settings as TOML, grouped, each with its description: what `--config` reads."""
    lines: list[str] = []
    group = None
    for setting in documented_settings(type(config)):
        if setting.group != group:
            lines += [""] * bool(lines) + [f"# {setting.group}"]
            group = setting.group
        value = json.dumps(getattr(config, setting.name), ensure_ascii=False)  # TOML knows no surrogate pairs
        lines.append(f"{setting.name} = {value}  # {setting}")
    return "\n".join(lines) + "\n"
