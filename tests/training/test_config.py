"""Settings: where their values come from, and their documentation."""

import dataclasses
import json
import sys

import pytest

from facemodels import InputError
from facemodels.cli.main import main
from facemodels.methods.registry import METHODS, method_class
from facemodels.methods.shipped import WEIGHTS_FOLDER, weight_names
from facemodels.training.config import configured, default_of
from facemodels.training.describe import documented_settings
from tests.training.toy import ToyConfig


def test_settings_come_from_preset_file_and_command_in_that_order(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text('{"lr": 0.5, "width": 3, "milestones": [4, 5]}')
    c = configured(ToyConfig, {"lr": 0.1, "batch": 2}, file, ("width=7", "compile=true"))
    assert (c.lr, c.batch, c.width, c.milestones, c.compile) == (0.5, 2, 7, (4, 5), True)


@pytest.mark.parametrize(
    "settings, words",
    [
        (("lrr=1",), "there is no setting 'lrr'; close to it are lr"),
        (("lr",), "a setting is key=value"),
        (("steps=many",), "steps must be an integer, got 'many'"),
        (("compile=perhaps",), "compile must be true or false, got 'perhaps'"),
        (("milestones=1,two",), "milestones must be a list, each an integer, got '1,two'"),
        (("schedule=linear",), "schedule must be one of cosine, step, constant, got 'linear'"),
        (("batch=0",), "batch must be 1 to 65536, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, words):
    with pytest.raises(InputError, match=words):
        configured(ToyConfig, settings=settings)


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_is_documented_once_and_in_a_group(name):
    cls = method_class(name).config_class
    found = documented_settings(cls)
    defaults = {f.name: default_of(f) for f in dataclasses.fields(cls)}
    assert {s.name: s.default for s in found} == defaults and len(found) == len(defaults)
    assert [s.name for s in found if not s.help or not s.group] == []


def test_a_class_that_changes_a_default_need_not_describe_the_setting_again():
    settings = {s.name: s for s in documented_settings(method_class("dasl").config_class)}
    assert settings["lr"].default == 1e-3 and settings["lr"].help == "learning rate after the warmup"
    assert settings["lr"].group == settings["steps"].group == "Optimization"
    assert settings["wild"].help.endswith("a folder of pictures with landmark files")  # its second line


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TOML needs Python 3.11")
def test_the_command_prints_all_settings_as_a_file_that_it_reads(tmp_path, capsys):
    assert main(["train", "dasl", "--settings"]) == 0
    printed = capsys.readouterr().out
    cls = method_class("dasl").config_class
    file = tmp_path / "settings.toml"
    file.write_text(printed)
    assert configured(cls, file=file) == cls()
    assert "# Losses\n" in printed and "unit = 12.0  # pixels; distances of landmarks are divided by it (" in printed
    name = 'output=läufe/"\U0001d4b3"'  # what TOML writes otherwise than JSON
    assert main(["train", "dasl", "--settings", "--preset", "paper", "--set", "schemes=l2d,cycle", "--set", name]) == 0
    file.write_text(capsys.readouterr().out)
    expected = configured(cls, method_class("dasl").PRESETS["paper"], settings=("schemes=l2d,cycle", name))
    assert configured(cls, file=file) == expected


@pytest.mark.parametrize("name", weight_names())
def test_settings_of_earlier_versions_load(name):
    path = WEIGHTS_FOLDER / name / "config.json"
    stored = json.loads(path.read_text())
    loaded = configured(method_class(stored.pop("method")).config_class, file=path)
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}.items() <= vars(loaded).items()
