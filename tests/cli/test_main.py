"""The list of commands, what they share, and their exit codes."""

import errno
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import facerender
from facemodels.cli.main import COMMANDS, _plain_warnings, main
from facemodels.evaluation import PROTOCOLS, load_protocol
from facemodels.methods.registry import METHODS

HELP = [
    *([command] for command in COMMANDS),
    *(["evaluate", protocol] for protocol in PROTOCOLS),
    *(["train", m] for m in METHODS),
]


def read_help(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_every_help_has_an_example(words, capsys, monkeypatch):
    assert f"facemodels {' '.join(words)}" in re.split("examples?:", read_help(words, capsys, monkeypatch))[-1]


def test_the_help_of_train_and_evaluate_lists_what_there_is(capsys, monkeypatch):
    for command, names in (("train", METHODS), ("evaluate", PROTOCOLS)):
        listed = read_help([command], capsys, monkeypatch).split("\noptions:")[0].splitlines()
        for name in names:
            assert any(re.match(rf"    {name}( +\w|$)", line) for line in listed), name
    assert "UH-E2FAR" in read_help(["train"], capsys, monkeypatch)


def test_the_list_of_commands_needs_neither_torch_nor_numpy():
    code = (
        "import contextlib, io, sys; from facemodels.cli.main import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main(['--help'])\n"
        "assert not {'torch', 'numpy', 'PIL', 'scipy'} & set(sys.modules), 'slow'"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_no_line_of_help_is_longer_than_100_columns(words, capsys, monkeypatch):
    assert max(map(len, read_help(words, capsys, monkeypatch).splitlines())) <= 100


def test_version_is_that_of_the_distribution(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0 and capsys.readouterr().out == f"facemodels {facerender.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["nosuchcommand"], ["sheet"], ["sheet", "-o", "x.png", "--count", "many"]])
def test_wrong_options_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and "usage: facemodels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("reconstruct a.png -o out --threshold 0", "--threshold: expected a number, above 0 and below 1; found 0"),
        ("reconstruct a.png -o out --threshold nan", "--threshold: expected a number, above 0 and below 1; found nan"),
        (
            "reconstruct a.png -o out --threshold 50%",
            "--threshold: expected a number, above 0 and below 1; found '50%'",
        ),
        ("reconstruct a.png -o out --smooth nan", "--smooth: expected a number, 0 or more; found nan"),
        ("reconstruct a.png -o out --smooth=-1", "--smooth: expected a number, 0 or more; found -1"),
        ("reconstruct a.png -o out --smooth inf", "--smooth: expected a number, 0 or more, at most 1e+09; found inf"),
        ("reconstruct a.png -o out --every 0", "--every: expected a whole number, 1 or more; found 0"),
        ("fit a.png -o out --focal 0", "--focal: expected a number, above 0; found 0"),
        ("fit a.png -o out --iterations=-1", "--iterations: expected a whole number, 0 or more; found -1"),
        ("sheet -o x.png --count 0", "--count: expected a whole number, 1 or more; found 0"),
        ("sheet -o x.png --size 5000", "--size: expected a whole number, 16 to 2048; found 5000"),
        ("convert builtin x.safetensors --identity=-1", "--identity: expected a whole number, 0 or more; found -1"),
    ],
)
def test_numbers_out_of_their_range_exit_with_2_and_one_sentence(words, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words.split())
    assert stopped.value.code == 2 and capsys.readouterr().err.endswith(f"error: argument {said}\n")


def test_ctrl_c_exits_with_130(capsys, monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("facemodels.cli.sheet.run", interrupted)
    assert main(["sheet", "-o", "x.png"]) == 130
    assert capsys.readouterr().err == "facemodels sheet: stopped\n"


def test_missing_packages_that_are_no_extra_are_bugs(monkeypatch):
    def broken(options):
        import nosuchpackage  # noqa: F401  # it must not exist

    monkeypatch.setattr("facemodels.cli.sheet.run", broken)
    with pytest.raises(ModuleNotFoundError, match="nosuchpackage"):
        main(["sheet", "-o", "x.png"])


def test_help_imports_neither_torch_nor_a_command():
    code = """
import sys
from facemodels.cli.main import main
try:
    main(["--help"])
except SystemExit:
    pass
assert "torch" not in sys.modules and "facemodels.cli.sheet" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_has_what_the_command_calls(name):
    protocol = load_protocol(name)
    assert callable(protocol.configure) and callable(protocol.run)


def test_warnings_of_the_command_are_sentences():
    with _plain_warnings("evaluate"):
        text = warnings.formatwarning("a.pp: no face", UserWarning, "evaluate.py", 1, "report = named(...)")
    assert text == "facemodels evaluate: warning: a.pp: no face\n"
    assert "UserWarning" in warnings.formatwarning("a", UserWarning, "b", 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_standard_output_is_named_and_a_closed_one_is_no_error():
    command = [sys.executable, "-m", "facemodels", "train", "pgn", "--settings"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "facemodels train: standard output cannot be written (No space left on device)" in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_cannot_be_written_says_what_to_do(monkeypatch, capsys):
    def stop(_):
        raise PermissionError(errno.EACCES, "Permission denied", "out")

    monkeypatch.setattr("facemodels.cli.sheet.run", stop)
    assert main(["sheet", "-o", "out"]) == 1
    assert capsys.readouterr().err == "facemodels sheet: out: Permission denied; give another folder\n"
