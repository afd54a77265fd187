"""Reads of one caller that come at once travel together: each with its row, few commits, and nobody else's value."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import psycopg
import pytest

from app.database import Credential
from app.database import Database as Pools
from app.pipelines import Pipelines
from app.sealing import Keyring
from app.secretstore import joining
from app.secretstore.joining import FLIGHTS, TOGETHER, Joining
from app.secretstore.store import Origin, Reads, SecretStore
from app.secretstore.values import SecretNotFound
from app.shared import tokens
from tests.api.conftest import Caller, Look, at_once
from tests.api.steps import count
from tests.conftest import Database

READERS = 40


@asynccontextmanager
async def requests(database: Database, *callers: Caller) -> AsyncIterator[list[list[SecretStore]]]:
    """Open as many stores a caller as there are readers, as requests of one process have theirs."""
    pools, reads, keyring = Pools(database.app_url), Reads(), Keyring([bytes(range(32))], "secrets")
    await pools.open()
    try:
        yield [
            [
                SecretStore(
                    pools, keyring, Credential("session", tokens.digest(caller.token)), Origin(f"r{n}"), reads=reads
                )
                for n in range(READERS)
            ]
            for caller in callers
        ]
    finally:
        await pools.close()


def commits(look: Look) -> int:
    """Count the transactions that wrote rows of reads."""
    return count(look, "select count(distinct xmin::text) from shared.audit_log where action = 'secret.read'")


async def test_reads_at_once_share_commits_and_each_has_its_row(database: Database, owner: Caller, look: Look) -> None:
    async with requests(database, owner) as [stores]:
        for number in range(8):
            await stores[0].set(f"k{number}", number)
        values = await asyncio.gather(*(store.get(f"k{n % 8}") for n, store in enumerate(stores)))
    assert values == [number % 8 for number in range(READERS)]
    rows = look.execute(
        "select request_id, subject from shared.audit_log where action = 'secret.read' and outcome = 'done'"
    ).fetchall()
    assert {(request, subject.rpartition("/")[2]) for request, subject in rows} == {
        (f"r{n}", f"k{n % 8}") for n in range(READERS)
    }
    assert len(rows) == READERS
    assert commits(look) <= FLIGHTS + -(-READERS // TOGETHER)
    assert count(look, "select count(*) from secretstore.read_grants") == 0


async def test_the_next_are_on_their_way_before_those_who_landed_go_on(
    database: Database, owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else PostgreSQL waits for work while what was read is opened and answered."""
    events: list[str] = []
    run_both = Pipelines.run_both

    def sent(pipelines: Pipelines, *steps: Any) -> Any:
        events.append("sent")
        return run_both(pipelines, *steps)

    async def read(store: SecretStore) -> None:
        await store.get("k")
        events.append("told")

    async with requests(database, owner) as [stores]:
        await stores[0].set("k", 1)
        monkeypatch.setattr(Pipelines, "run_both", sent)
        monkeypatch.setattr(joining, "FLIGHTS", 1)
        await asyncio.gather(*map(read, stores))
    left = READERS - 1 - TOGETHER
    assert [(event, len(list(run))) for event, run in groupby(events)] == [
        *(("sent", 1), ("told", 1)),  # who asked first
        *(("sent", 2), ("told", TOGETHER), ("sent", 1), ("told", left)),
    ]


async def test_one_after_the_other_each_is_a_commit_of_its_own(database: Database, owner: Caller, look: Look) -> None:
    async with requests(database, owner) as [stores]:
        await stores[0].set("k", 1)
        assert [await store.get("k") for store in stores[:5]] == [1] * 5
    assert commits(look) == 5


async def test_what_one_is_refused_does_not_keep_the_others(database: Database, owner: Caller, look: Look) -> None:
    keys = ["k", "none", "gone", "a\0b", "\ud800", "k"]
    async with requests(database, owner) as [stores]:
        for key in ("k", "gone"):
            await stores[0].set(key, 1)
        await stores[0].run(lambda db: stores[0].delete(db, "gone", None))
        told = await asyncio.gather(
            *(store.get_or_raise(keys[n % 6]) for n, store in enumerate(stores[:36])), return_exceptions=True
        )
    kinds = [1, SecretNotFound, SecretNotFound, psycopg.DataError, UnicodeEncodeError, 1]
    for number, each in enumerate(told):
        expected = kinds[number % 6]
        assert isinstance(each, expected) if isinstance(expected, type) else each == expected


async def test_callers_do_not_travel_with_each_other(
    database: Database, owner: Caller, other: Caller, look: Look
) -> None:
    async with requests(database, owner, other) as [his, hers]:
        await his[0].set("k", "his")
        await hers[0].set("k", "hers")
        told = await asyncio.gather(*(store.get("k") for pair in zip(his, hers, strict=True) for store in pair))
        assert told == ["his", "hers"] * READERS
        look.execute(
            "delete from apiauth.sessions as s using shared.users as u where u.id = s.user_id and u.email like 'sam%%'"
        )
        told = await asyncio.gather(
            *(store.get("k") for pair in zip(his, hers, strict=True) for store in pair), return_exceptions=True
        )
    assert told[::2] == ["his"] * READERS
    assert all(isinstance(each, psycopg.errors.InvalidAuthorizationSpecification) for each in told[1::2])


async def test_who_goes_away_keeps_nobody(database: Database, owner: Caller) -> None:
    async with requests(database, owner) as [stores]:
        await stores[0].set("k", 1)
        asking = [asyncio.create_task(store.get("k")) for store in stores]
        await asyncio.sleep(0)
        for task in asking[::2]:
            task.cancel()
        told = await asyncio.gather(*asking, return_exceptions=True)
        assert told[1::2] == [1] * (READERS // 2)
        assert await stores[0].get("k") == 1


async def test_no_caller_is_remembered_who_reads_no_more(database: Database, owner: Caller) -> None:
    reads: Reads = Joining()
    async with requests(database, owner) as [stores]:
        for store in stores:
            store._reads = reads
        await stores[0].set("k", 1)
        await asyncio.gather(*(store.get("k") for store in stores))
    assert (reads._flights, reads._waiting, reads._tasks) == ({}, {}, set())


def test_over_http_each_request_has_its_own_row(owner: Caller, look: Look) -> None:
    assert owner.put("/api/secrets/k", json={"value": 1}).is_success
    answers = at_once([lambda: owner.get("/api/secrets/k")] * READERS)
    assert {answer.json()["value"] for answer in answers} == {1}
    rows = look.execute("select request_id from shared.audit_log where action = 'secret.read'").fetchall()
    assert sorted(request for (request,) in rows) == sorted(answer.headers["x-request-id"] for answer in answers)
