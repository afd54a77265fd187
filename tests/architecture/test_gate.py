"""What is broken is not merged: a chapter, an oracle or a doubtful object that is planted turns scripts/lint red."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAST = "sql/schema/0900_oracles.sql"
PLANTED = {
    "a chapter that fails": (LAST, "\nselect no_such_function();\n", "no_such_function"),
    "an oracle that fails": ("sql/oracles/o01_one_live_agreement.sql", "\nno such clause\n", "oracle: O1: "),
    "an oracle that finds fault with nothing": (
        "sql/oracles/o15_votes.sql", "\nunion all select 'x', 'y', null, null\n", "O15",
    ),
    "a table without a key": (
        LAST, "\nset local role brokerflow_owner;\ncreate table vote.heap (n integer);\n", "primary_keys: vote.heap",
    ),
    "a waiver of nothing": (LAST, "\n-- Waived primary_keys: vote.votes. It has one.\n", "waived and not found"),
    "a change that breaks who reads": (
        LAST, "\nset local role brokerflow_owner;\nalter table shared.axioms rename rule to law;\n", "renaming-column",
    ),
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_broken_is_refused(tmp_path: Path, planted: str) -> None:
    path, text, said = PLANTED[planted]
    for folder in ("app", "scripts", "sql"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".squawk.toml", tmp_path)
    with (tmp_path / path).open("a") as file:
        file.write(text)
    done = subprocess.run(
        [sys.executable, "-m", "scripts.lints"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert said in done.stdout + done.stderr


def test_continuous_integration_asks_for_all_of_it() -> None:
    assert "scripts/lint\n" in (ROOT / "scripts" / "check").read_text()
    run = (ROOT / ".ci" / "run").read_text()
    for step in ("scripts/check", "scripts/test", "scripts/mutate"):
        assert step in run
