"""Settings: where their values come from, and their documentation."""

import dataclasses
import json
import sys

import pytest

from facemodels import InputError
from facemodels.cli.main import main
from facemodels.methods.registry import METHODS, method_class
from facemodels.methods.shipped import WEIGHTS_FOLDER, weight_names
from facemodels.training.config import ALIASES, configured, default_of, range_words, ranges
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
        (("batch=1000000000000",), "batch must be 1 to 65536, got 1000000000000"),
        (("steps=-1",), "steps must be 1 to 1000000000, got -1"),
        (("lr=10",), "lr must be 1e-12 to 1, got 10.0"),
        (("lr=nan",), "lr must be 1e-12 to 1, got nan"),
        (("clip=inf",), "clip must be 0 to 1000000, got inf"),
        (("ema=1.5",), "ema must be 0 to 0.999999, got 1.5"),
        (("milestones=5,-3",), "milestones must be steps, 0 to 1000000000, got 5,-3"),
        (("milestones=20,10",), "milestones must be in ascending order, each once, got 20,10"),
        (("milestones=10,10",), "milestones must be in ascending order"),
        (("output=",), "output must be the name of a folder, got none"),
        (("output=a\0b",), r"output must be text without zero bytes, got 'a\\x00b'"),
        (("x" * 10**6 + "=1",), "there is no setting 'xxxx.{70,80}; --settings of the command lists all"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, words):
    with pytest.raises(InputError, match=words):
        configured(ToyConfig, settings=settings)


def test_a_message_stays_short_whatever_was_given():
    for value in ("9" * 10**5, "x" * 10**6):
        with pytest.raises(InputError) as caught:
            configured(ToyConfig, settings=(f"batch={value}",))
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", METHODS)
def test_every_number_has_a_range_that_it_keeps_and_that_presets_keep(name):
    method = method_class(name)
    cls = method.config_class
    numbers = {f.name for f in dataclasses.fields(cls) if type(default_of(f)) in (int, float)}
    assert numbers == ranges(cls).keys()
    assert {s.name for s in documented_settings(cls) if s.range} == numbers
    for preset in method.PRESETS.values():
        configured(cls, preset)
    for key, (low, high) in ranges(cls).items():
        for value in (low - 1, -1, high * 2 + 1, 10**30, "nan", "inf", "-inf"):
            kind = "an integer" if value in ("nan", "inf", "-inf") and type(getattr(cls, key)) is int else f"{low:.10g}"
            with pytest.raises(InputError, match=f"^{key} must be {kind}"):
                configured(cls, settings=(f"{key}={value}",))


@pytest.mark.parametrize("setting", ["yaw=200", "weight_l2d=-1", "blank=1.01", "held_out=-5", "cache=-1", "unit=0"])
def test_absurd_settings_of_a_method_end_the_command_with_one_sentence(setting, capsys, tmp_path):
    words = ["train", "dasl", "--preset", "smoke", "--set", f"output={tmp_path / 'run'}", "--set", setting]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{setting.split('=')[0]} must be " in said and not (tmp_path / "run").exists()


FILES = {
    "deep.json": b"[" * 10**5,
    "deeper.json": b'{"a":' * 10**5,
    "deep.toml": b"a = " + b"[" * 10**5,
    "dots.toml": b"a" + b".a" * 10**5 + b" = 1",
    "large.json": b'{"lr": ' + b" " * (1 << 20) + b"1}",
    "digits.json": b'{"batch": ' + b"9" * 10**5 + b"}",
    "digits.toml": b"batch = " + b"9" * 10**5,
    "list.json": b"[1, 2]",
    "number.json": b"3",
    "empty.json": b"",
    "garbage.toml": b"\x00\xff\xfe",
    "latin.json": '{"output": "\xe4"}'.encode("latin-1"),
    "zero.json": b'{"output": "a\\u0000b"}',
    "half.json": b'{"output": "\\ud800"}',
    "type.json": b'{"lr": {"a": 1}}',
    "true.json": b'{"batch": true}',
    "null.json": b'{"lr": null}',
    "text.json": b'{"output": 3}',
    "fraction.json": b'{"milestones": [1.5]}',
    "names.json": b'{"milestones": {"1": 2}}',
    "nested.json": b'{"schemes": [["l2d"]]}',
    "infinite.json": b'{"lr": 1e999}',
}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TOML needs Python 3.11")
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_settings_that_makes_no_sense_ends_in_one_sentence(name, tmp_path, capsys):
    (tmp_path / name).write_bytes(FILES[name])
    assert main(["train", "dasl", "--config", str(tmp_path / name), "--settings"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and len(said) < 400 and name in said


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_is_documented_once_and_in_a_group(name):
    cls = method_class(name).config_class
    found = documented_settings(cls)
    defaults = {f.name: default_of(f) for f in dataclasses.fields(cls)}
    assert {s.name: s.default for s in found} == defaults and len(found) == len(defaults)
    assert [s.name for s in found if not s.help or not s.group] == []


@pytest.mark.parametrize("name", METHODS)
def test_the_help_lists_the_range_of_every_number_that_is_no_count(name):
    for setting in documented_settings(method_class(name).config_class):
        if isinstance(setting.default, float):
            assert str(setting).endswith(f" ({range_words(*setting.range)})"), setting.name
        if "weight_" in setting.name or "_weight" in setting.name:
            assert str(setting).endswith((" (0 to 1000000)", " (0 to 10)")), setting.name  # of losses; weight_decay
        assert setting.name != "steps" or str(setting) == "optimizer steps"


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


@pytest.mark.parametrize("name, own", [("learning_rate", "lr"), ("batch_size", "batch"), ("epochs", "steps")])
def test_settings_by_the_names_that_they_have_elsewhere_are_pointed_at(name, own):
    with pytest.raises(InputError, match=f"there is no setting '{name}'; close to it are {own}$"):
        configured(ToyConfig, settings=[f"{name}=1"])
    assert all(hasattr(ToyConfig(), setting) for setting in ALIASES.values())
