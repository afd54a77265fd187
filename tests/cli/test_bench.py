"""The benchmark measures every case, and fails none."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

CASES = {
    "no database",
    "GET an agreement",
    "list 20 agreements",
    "append an event",
    "read a contact",
    "get a secret",
    "batch of 100 secrets",
    "log in",
    "accept a match",
    "e-sign webhook",
}


def test_every_case_is_measured_and_drawn(tmp_path: Path) -> None:
    drawn = tmp_path / "bench.svg"
    command = [sys.executable, "-m", "scripts.benchmark", "--rounds", "1", "--seconds", "1", "--once", "6"]
    command += ["--connections", "2", "--plot", str(drawn)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.splitlines() if line.startswith("| ")]
    assert {row[0] for row in rows[1:]} == CASES
    assert "failed" not in told
    assert {text.text for text in ET.parse(drawn).iter() if text.tag.endswith("text")} >= CASES  # noqa: S314 - our own
