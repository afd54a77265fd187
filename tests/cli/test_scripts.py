"""What is a script of the shell says what it does, and refuses what it does not take, before it does anything."""

import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_check_helps_and_checks_nothing(option: str) -> None:
    told = subprocess.run([SCRIPTS / "check", option], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("Usage: scripts/check\n")
    assert told.stderr == ""


@pytest.mark.parametrize("argument", ["--fix", "app", ""])
def test_check_takes_no_arguments(argument: str) -> None:
    refused = subprocess.run([SCRIPTS / "check", argument], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "scripts/check takes no arguments: see --help.\n"
