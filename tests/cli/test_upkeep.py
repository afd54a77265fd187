"""`brokerflow upkeep` makes months and archives them; `check` tells when it was not run; proofs outlive it."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
import pytest

from app.verify import verify
from tests.cli.conftest import Variables, run
from tests.conftest import Database

CLOCK = "create or replace function shared.clock() returns timestamptz language sql volatile parallel safe as '{}'"
UNKNOWN = "00000000-0000-7000-8000-000000000000"
TABLES = ("audit_log", "outbox", "timeline_events")


def ahead(months: int) -> date:
    """Return the first day of a month to come."""
    today = datetime.now(UTC).date()
    return date(today.year + (today.month - 1 + months) // 12, (today.month - 1 + months) % 12 + 1, 1)


@pytest.fixture
def worker(variables: Variables, database: Database) -> Variables:
    """The configuration of a machine that does upkeep."""
    return {**variables, "BROKERFLOW_WORKER_URL": database.worker_url}


def test_months_are_made_once(worker: Variables) -> None:
    assert run(worker, "upkeep").stdout == "", "the migration made three"
    made = run(worker, "upkeep", "--months", "5")
    assert (made.returncode, made.stdout) == (
        0, "".join(f"{table}_{ahead(months):%Y_%m}: made\n" for months in (4, 5) for table in TABLES),
    )  # fmt: skip
    assert f"timeline_events_{ahead(5):%Y_%m} (6 of 6)" in made.stderr
    again = run(worker, "upkeep", "--months", "5")
    assert (again.returncode, again.stdout) == (0, "")


def test_check_says_that_upkeep_was_not_done(worker: Variables, database: Database) -> None:
    assert run(worker, "check").returncode == 0
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        for months in (2, 3):
            superuser.execute(f"drop table partitions.outbox_{ahead(months):%Y_%m}".encode())
    told = run(worker, "check")
    assert told.returncode == 1
    assert told.stdout == (
        "The table shared.outbox has 1 months made ahead: let brokerflow upkeep run every day, with "
        "BROKERFLOW_WORKER_URL set.\n"
    )
    assert run(worker, "upkeep").returncode == 0
    assert run(worker, "check").returncode == 0


def test_what_is_in_use_is_said_and_done_later(worker: Variables, database: Database) -> None:
    arguments = ("upkeep", "--months", "4", "--patience", "0")
    with psycopg.connect(database.superuser_url) as reader:
        reader.execute("select from shared.outbox")
        busy = run(worker, *arguments)
    month = f"{ahead(4):%Y_%m}"
    assert (busy.returncode, busy.stdout.splitlines()) == (
        1,
        [
            f"audit_log_{month}: made",
            f"outbox_{month}: its table is in use by a transaction that takes long: run it again",
            f"timeline_events_{month}: made",
        ],
    )
    assert run(worker, *arguments).stdout == f"outbox_{month}: made\n"


def test_who_may_not_do_upkeep_is_told(variables: Variables, database: Database) -> None:
    for given, sentence in (
        ({}, "BROKERFLOW_WORKER_URL is not set: it names the login that does upkeep, brokerflow_worker."),
        ({"BROKERFLOW_WORKER_URL": "mysql://x"}, "BROKERFLOW_WORKER_URL should be a URL that begins with postgresql"),
        ({"BROKERFLOW_WORKER_URL": database.app_url}, "the login may not do upkeep (permission denied for function"),
        ({"BROKERFLOW_WORKER_URL": "postgresql://x@127.0.0.1:1/x"}, "the database does not answer: "),
    ):
        refused = run({**variables, **given}, "upkeep")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert sentence in refused.stderr
        assert "Traceback" not in refused.stderr
    for month in ("2026-13", "2026-1", "now", "2026-11-01"):
        assert "is no month such as 2026-11" in run(variables, "upkeep", "--archive-before", month).stderr


def test_the_embedded_server_is_kept_up(home: Path) -> None:
    told = run({"BROKERFLOW_HOME": str(home)}, "upkeep", "--months", "4")
    assert (told.returncode, told.stdout.count(": made")) == (0, 3), told.stderr


class Story(NamedTuple):
    """The agreement of the demo, as a party asks about it and as its operator does."""

    alma: httpx.Client
    path: str
    proof: bytes
    export: Callable[[], str]


@pytest.fixture
def archived(worker: Variables, database: Database, serve: Callable[[Variables], str]) -> Iterator[Story]:
    """The story, proved and then archived."""
    url = serve(worker)
    assert run(worker, "demo", "--url", url).returncode == 0
    token = run(worker, "demo", "--url", url, "--login", "alma").stdout.strip()
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as alma:
        [agreement] = alma.get("/api/agreements").json()["items"]
        path = f"/api/agreements/{agreement['id']}"
        proof = alma.get(f"{path}/proof").content
        archive(worker, database, verify(proof).events)
        yield Story(alma, path, proof, lambda: run(worker, "admin", "export-proof", agreement["id"]).stdout)


def test_a_proof_outlives_the_archiving(archived: Story, tmp_path: Path) -> None:
    exported = archived.export()
    assert exported.encode() == archived.proof + b"\n"
    proof = tmp_path / "proof.json"
    proof.write_text(exported)
    assert run({}, "verify", str(proof), "--head", verify(archived.proof).head or "").returncode == 0


def test_a_party_is_told_what_was_archived_and_goes_on(archived: Story, worker: Variables) -> None:
    """No proof is given out that would not verify."""
    alma, path, events = archived.alma, archived.path, verify(archived.proof).events
    assert alma.get(f"{path}/events").json()["items"] == []
    gone = alma.get(f"{path}/proof")
    assert (gone.status_code, gone.json()["code"]) == (410, "archived")
    assert alma.get(f"/api/agreements/{UNKNOWN}/proof").status_code == 404
    correction = {"type": "CORRECTION_ADDED", "payload": {"why": "a slip"}, "corrects_seq": 1}
    assert alma.post(f"{path}/events", json=correction).json()["seq"] == events + 1
    assert alma.get(f"{path}/proof").status_code == 410
    longer = verify(archived.export().encode())
    assert (longer.is_intact, longer.events) == (True, events + 1)
    told = run(worker, "oracles")
    assert told.returncode == 0, told.stdout


def test_nothing_is_proved_of_what_is_not(worker: Variables) -> None:
    told = run(worker, "admin", "export-proof", UNKNOWN)
    assert (told.returncode, told.stderr) == (1, f"brokerflow: there is no agreement {UNKNOWN}.\n")


def archive(worker: Variables, database: Database, events: int) -> None:
    """Archive this month, in two months."""
    arguments = ("upkeep", "--archive-before", f"{ahead(1):%Y-%m}")
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        assert run(worker, *arguments).stdout == "", "this month is never archived"
        superuser.execute(CLOCK.format("select clock_timestamp() + interval ''62 days''").encode())
        told = run(worker, *arguments)
        superuser.execute(CLOCK.format("select clock_timestamp()").encode())
    month = f"{ahead(0):%Y_%m}"
    assert told.returncode == 0, told.stderr
    assert {f"{table}_{month}: archived" for table in TABLES} <= set(told.stdout.splitlines())
    assert f"timeline_events_{month}: {events} rows\n" in told.stdout
