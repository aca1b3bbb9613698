"""The command where torch and numpy are all that is installed."""

import subprocess
import sys

import pytest

from facemodels.cli.main import COMMANDS, OPTIONAL_PACKAGES

WITHOUT = f"""
import sys
for name in {OPTIONAL_PACKAGES}:
    sys.modules[name] = None  # an import of it raises ModuleNotFoundError
from facemodels.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_without_its_packages_a_command_says_what_to_install(command):
    run = subprocess.run([sys.executable, "-c", WITHOUT, command], capture_output=True, text=True)
    assert run.returncode == 1 and run.stdout == ""
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith(f"facemodels {command}: the package ")
    assert f'pip install "facerender[{COMMANDS[command].extra}]"' in run.stderr


def test_the_list_of_commands_needs_no_extra():
    run = subprocess.run([sys.executable, "-c", WITHOUT, "--help"], capture_output=True, text=True)
    assert run.returncode == 0 and "reconstruct" in run.stdout
