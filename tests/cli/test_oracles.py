"""`brokerflow oracles` finds what was planted, says where, and leaves its result for everybody to see."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql

from app.oracles import load
from tests.cli.conftest import COMMAND, Variables, environment, run
from tests.conftest import Database, Server

DISABLE = "alter table agreement.agreements disable trigger agreements_never_deleted"


@pytest.fixture
def planted(database: Database) -> Database:
    """A database in which somebody switched a rule off."""
    with psycopg.connect(database.superuser_url) as connection:
        connection.execute(DISABLE)
    return database


def test_a_clean_database_ends_with_0(variables: Variables) -> None:
    asked = run(variables, "oracles")
    assert asked.returncode == 0, asked.stderr
    assert "0 violations in one snapshot" in asked.stdout
    assert "\x1b" not in asked.stdout
    oracles = load()
    for number, oracle in enumerate(oracles, 1):
        assert f"asking {oracle.id} ({number} of {len(oracles)}): {oracle.never}\n" in asked.stderr
        assert f"\n{oracle.id} " in asked.stdout


@pytest.mark.parametrize("role", ["owner_url", "superuser_url"])
def test_a_violation_ends_with_1_and_is_shown(planted: Database, role: str) -> None:
    asked = run({}, "oracles", "--dsn", getattr(planted, role))
    assert asked.returncode == 1, asked.stderr
    assert (
        "trigger/agreement.agreements agreements_never_deleted: it is altered (expected CREATE TRIGGER" in asked.stdout
    )
    assert "1 violations in one snapshot" in asked.stdout


def test_json_tells_all_of_it(planted: Database) -> None:
    asked = run({}, "oracles", "--json", "--dsn", planted.owner_url)
    assert asked.returncode == 1
    told = json.loads(asked.stdout)
    assert told["violations"] == 1
    assert [(each["oracle"], tuple(each["axioms"])) for each in told["oracles"]] == [(o.id, o.axioms) for o in load()]
    [found] = [each for each in told["oracles"] if each["violations"]]
    assert found.keys() == {"oracle", "axioms", "never", "violations", "seconds", "rows", "obstacle"}
    [row] = found["rows"]
    assert row.keys() == {"subject", "finding", "expected", "found"}


def test_what_cannot_be_asked_is_a_violation(database: Database) -> None:
    with psycopg.connect(database.superuser_url) as connection:
        connection.execute("revoke select on agreement.agreements from brokerflow_auditor")
        connection.execute("drop function shared.record_oracle_results")
    asked = run({}, "oracles", "--dsn", database.owner_url)
    assert asked.returncode == 1
    assert "oracle/O1: it cannot be asked: permission denied for table agreements" in asked.stdout
    assert "grant on table/agreement.agreements to brokerflow_auditor: it is missing" in asked.stdout
    assert "GET /api/axioms does not show this result: function shared.record_oracle_results" in asked.stderr


def test_the_result_is_shown_with_the_axioms(
    variables: Variables, serve: Callable[[Variables], str], database: Database
) -> None:
    url = serve(variables)
    assert run(variables, "oracles").returncode == 0
    before = httpx.get(f"{url}/api/axioms").json()["items"]
    assert {axiom["oracle"]["violations"] for axiom in before} == {0}
    with psycopg.connect(database.superuser_url) as connection:
        connection.execute(DISABLE)
    assert run(variables, "oracles").returncode == 1
    after = httpx.get(f"{url}/api/axioms").json()["items"]
    assert {axiom["oracle"]["violations"] for axiom in after} == {1}
    assert all(
        old["oracle"]["checked_at"] < new["oracle"]["checked_at"] for old, new in zip(before, after, strict=True)
    )


def test_watching_ends_when_one_is_found(database: Database) -> None:
    command = [*COMMAND, "oracles", "--json", "--watch", "0.1", "--dsn", database.owner_url]
    with subprocess.Popen(
        command, env=environment({}), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert json.loads(process.stdout.readline())["violations"] == 0
        with psycopg.connect(database.superuser_url) as connection:
            connection.execute(DISABLE)
        *_, last = process.stdout.readlines()
        assert json.loads(last)["violations"] == 1
        assert process.wait(10) == 1


def is_asleep(process: int) -> bool:
    """Tell whether a process waits, as Linux tells it."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith("S")


def test_watching_ends_on_interrupt(database: Database) -> None:
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from app.cli import main; main()"
    )
    command = [sys.executable, "-c", script, "oracles", "--json", "--watch", "60", "--dsn", database.owner_url]
    with subprocess.Popen(
        command, env=environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        while not is_asleep(process.pid):
            assert process.poll() is None, "it ended by itself"
        process.send_signal(2)
        assert process.wait(10) == 130
        assert "Traceback" not in process.stderr.read()


def test_who_may_not_ask_is_told_so(database: Database, variables: Variables) -> None:
    refused = run({}, "oracles", "--dsn", database.app_url)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert (
        'the login may not do this (permission denied to set role "brokerflow_auditor"): give the URL' in refused.stderr
    )
    refused = run({"BROKERFLOW_APP_URL": database.app_url}, "oracles")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "set BROKERFLOW_OWNER_URL, or give --dsn." in refused.stderr


def test_an_auditor_of_ones_own_may_ask(server: Server, planted: Database) -> None:
    with psycopg.connect(planted.superuser_url, autocommit=True) as admin:
        name = sql.Identifier(f"auditor_{server.run}")
        admin.execute(sql.SQL("create role {} login password 'asks' in role brokerflow_auditor").format(name))
        try:
            url = server.url(planted.name).replace("postgresql://", "", 1).partition("@")[2]
            asked = run({}, "oracles", "--dsn", f"postgresql://auditor_{server.run}:asks@{url}")
        finally:
            admin.execute(sql.SQL("drop role {}").format(name))
    assert asked.returncode == 1, asked.stderr


def test_a_database_without_the_schema_says_what_to_do(variables: Variables) -> None:
    assert run(variables, "migrate", "down", "--all", "--yes").returncode == 0
    refused = run(variables, "oracles")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "run brokerflow migrate up." in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dsn", "nonsense"], "the database cannot be asked: the DSN is no PostgreSQL URL."),
        (["--dsn", "postgresql://nobody@127.0.0.1:1/x"], "the database does not answer: "),
        (["--watch", "0"], "0.0 is not in the range"),
        (["--xml"], "No such option '--xml'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_told_in_a_sentence(arguments: list[str], sentence: str) -> None:
    refused = run({}, "oracles", *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr
