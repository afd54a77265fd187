"""Half a minute of everything at once, as people call it, and no promise is broken."""

import json
import os
from pathlib import Path
from typing import Any

from app.stress.actors import KINDS
from app.stress.log import Replay
from tests.cli.conftest import run

SEED = 1
SERVER = "BROKERFLOW_TEST_URL"


def test_thirty_seconds_of_chaos_break_no_promise(tmp_path: Path) -> None:
    variables = {SERVER: os.environ[SERVER]} if SERVER in os.environ else {}
    log = tmp_path / "decisions.jsonl"
    told = run(variables, "stress", "--duration", "30", "--seed", str(SEED), "--log", str(log), "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    report = json.loads(told.stdout)
    assert report["findings"] == report["violations"] == report["complaints"] == []
    assert {"terminate", "kill"} <= report["chaos"].keys()
    if "The server is ours" in told.stderr:
        assert {"stop", "crash"} <= report["chaos"].keys()
    assert '"level": "error"' not in told.stderr
    assert min(report["oracle_rounds"], report["reconciliations"]) > 1
    assert Replay.of(log).head.seed == report["seed"] == SEED
    everybody_had_his_part({line["actor"]: line for line in report["lines"]})


def everybody_had_his_part(lines: dict[str, dict[str, Any]]) -> None:
    assert lines.keys() == KINDS.keys()
    for actor, line in lines.items():
        refused = sum(line["refused"].values())
        assert line["attempted"] == line["committed"] + refused + line["aborted"] + line["unknown"], actor
        assert (line["committed"] > 0) is KINDS[actor].commits, actor
        assert refused > 0, actor
    assert sum(line["unknown"] for line in lines.values()) > 0
