"""The cache of sealed values: two processes, no old value, every read audited; nothing held while nobody listens."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from app.database import Credential
from app.database import Database as Pools
from app.sealing import Keyring
from app.secretstore.cache import CACHED_READS, CHANNEL, SealedCache
from app.secretstore.store import Origin, SecretStore
from app.shared import tokens
from tests.api.conftest import Caller, Look
from tests.api.steps import count
from tests.cli.conftest import served
from tests.conftest import Database

PATIENCE = 10  # seconds


@pytest.fixture
def processes(database: Database, owner: Caller, tmp_path: Path) -> Iterator[list[httpx.Client]]:
    """Two services of one configuration, each a process of its own that holds sealed values for an hour."""
    variables = {
        "BROKERFLOW_APP_URL": database.app_url,
        "BROKERFLOW_OWNER_URL": database.owner_url,
        "BROKERFLOW_HOME": str(tmp_path),
        "BROKERFLOW_SECRET_CACHE_SECONDS": "3600",
    }
    with ExitStack() as stack:
        urls = [stack.enter_context(served(variables)) for _ in range(2)]
        headers = {"Authorization": f"Bearer {owner.token}"}
        yield [
            stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False))
            for url in urls
        ]


@asynccontextmanager
async def caching(
    database: Database, owner: Caller, seconds: int = 3600
) -> AsyncIterator[tuple[SecretStore, SealedCache, Pools]]:
    """A store whose cache listens."""
    pools = Pools(database.app_url)
    await pools.open()
    cache = SealedCache(pools, seconds)
    cache.start()
    credential = Credential("session", tokens.digest(owner.token))
    try:
        await until(lambda: cache.is_on or not seconds)
        yield (
            SecretStore(pools, Keyring([bytes(range(32))], "secrets"), credential, Origin("here"), cache=cache),
            cache,
            pools,
        )
    finally:
        await cache.stop()
        await pools.close()


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what notices bring about."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def hits(client: httpx.Client) -> float:
    found = re.search(
        r'^brokerflow_secret_cached_reads_total\{result="hit"\} (\S+)', client.get("/metrics").text, re.MULTILINE
    )
    return float(found[1]) if found else 0


def value_of(client: httpx.Client) -> object:
    response = client.get("/api/secrets/k")
    assert response.status_code == 200, response.text
    return response.json()["value"]


def put(client: httpx.Client, value: object) -> None:
    assert client.put("/api/secrets/k", json={"value": value}).status_code == 200


@pytest.mark.parametrize("notices", ["on", "off"])
def test_after_a_set_no_process_answers_the_old_value(processes: list[httpx.Client], look: Look, notices: str) -> None:
    """Not even where notices never come: what is held counts only if PostgreSQL says so."""
    one, other = processes
    put(one, "first")
    deadline = time.monotonic() + PATIENCE
    while not hits(other):  # until it listens
        assert value_of(other) == "first"
        assert time.monotonic() < deadline
    if notices == "off":
        look.execute("alter table secretstore.secrets disable trigger secrets_announce")
    before = count(look, "select count(*) from shared.audit_log where action = 'secret.read'")
    for number in range(50):
        writer, reader = (one, other) if number % 2 else (other, one)
        put(writer, number)
        assert [value_of(reader), value_of(writer), value_of(reader)] == [number] * 3
    assert count(look, "select count(*) from shared.audit_log where action = 'secret.read'") == before + 150
    assert hits(one) + hits(other) >= (50 if notices == "off" else 1)
    assert one.delete("/api/secrets/k").status_code == 204
    assert [client.get("/api/secrets/k").status_code for client in processes] == [404, 404]


async def held(store: SecretStore, cache: SealedCache, key: str = "k") -> None:
    """Read until the value stays: the notice of its own putting may still be under way."""
    deadline = time.monotonic() + PATIENCE
    before = CACHED_READS.labels("hit")._value.get()
    while CACHED_READS.labels("hit")._value.get() == before:
        assert time.monotonic() < deadline
        await store.get(key)


async def test_a_hit_is_authorised_and_audited_and_takes_nothing(database: Database, owner: Caller, look: Look) -> None:
    async with caching(database, owner) as (store, cache, _):
        await store.set("k", "value")
        await held(store, cache)
        reads = "select count(*) from shared.audit_log where action = 'secret.read' and outcome = 'done'"
        before = count(look, reads)
        look.execute("alter function secretstore.take_reads rename to away")
        assert await store.get("k") == "value"
        assert count(look, reads) == before + 1
        assert count(look, "select count(*) from secretstore.read_grants") == 0
        look.execute("delete from apiauth.sessions")
        with pytest.raises(psycopg.Error):
            await store.get("k")
        assert cache.count == 1


async def test_what_changed_leaves_the_memory_by_itself(database: Database, owner: Caller) -> None:
    async with caching(database, owner) as (store, cache, _):
        await store.set("k", 1)
        await held(store, cache)
        await store.set("k", 2)
        await until(lambda: cache.count == 0)
        await held(store, cache)
        await store.run(lambda db: store.delete(db, "k", None))
        await until(lambda: cache.count == 0)
        await store.run(lambda db: store.undelete(db, "k", None))
        await held(store, cache)
        await store.run(lambda db: store.destroy(db, "k", 2, None))
        await until(lambda: cache.count == 0)


async def test_what_changes_is_told_by_its_id_alone(database: Database, owner: Caller, look: Look) -> None:
    look.execute("listen secrets")
    key = "/api/secrets/k"
    steps = [("PUT", key, {"value": 1}), ("DELETE", key, None), ("POST", f"{key}/undelete", None),
             ("POST", f"{key}/destroy", {"version": 1})]  # fmt: skip
    for method, path, body in steps:
        assert owner.request(method, path, json=body).is_success
        told = [notice.payload for notice in look.notifies(timeout=PATIENCE, stop_after=1)]
        assert told == [str(each) for (each,) in look.execute("select id from secretstore.secrets")]


async def test_a_batch_takes_what_is_not_held(database: Database, owner: Caller) -> None:
    async with caching(database, owner) as (store, cache, _):
        for key in "abc":
            await store.set(key, key)
        for key in "ab":
            await held(store, cache, key)
        await store.set("b", "new")
        await until(lambda: cache.count == 1)
        reading = await store.read(["a", "b", "c", "d"])
        assert {key: value.decode(str) for key, value in reading.values.items()} == {"a": "a", "b": "new", "c": "c"}
        assert reading.refusals == {"d": "missing"}


async def test_nothing_is_held_while_the_process_does_not_listen(database: Database, owner: Caller, look: Look) -> None:
    async with caching(database, owner) as (store, cache, pools):
        await store.set("k", 1)
        await held(store, cache)
        url, pools._notices._url = pools._notices._url, "postgresql://nobody@127.0.0.1:1/nothing"
        look.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'brokerflow notices' and datname = current_database() "
            "and query = 'listen \"secrets\"'"
        )
        await until(lambda: not pools.is_listening(CHANNEL))
        assert not cache.is_on
        assert await store.get("k") == 1
        assert cache.count == 0
        pools._notices._url = url
        await until(lambda: cache.is_on)
        await held(store, cache)


async def test_what_is_held_has_its_time(database: Database, owner: Caller) -> None:
    async with caching(database, owner, seconds=1) as (store, cache, _):
        await store.set("k", 1)
        await held(store, cache)
        await until(lambda: cache.count == 0)


async def test_what_is_held_has_its_room(database: Database, owner: Caller) -> None:
    async with caching(database, owner) as (store, cache, _):
        cache._max_bytes = 500
        for key in "abc":
            await store.set(key, "x" * 200)
            await held(store, cache, key)
        assert cache.count == 2
        await store.set("large", "x" * 600)
        await store.get("large")
        assert cache.count <= 2
        assert cache._bytes <= 500


async def test_it_is_off_unless_it_has_seconds(database: Database, owner: Caller) -> None:
    async with caching(database, owner, seconds=0) as (store, cache, pools):
        await store.set("k", 1)
        assert await store.get("k") == 1
        assert (cache.count, cache.is_on, pools.is_listening(CHANNEL)) == (0, False, False)


async def test_what_is_held_is_sealed(database: Database, owner: Caller) -> None:
    async with caching(database, owner) as (store, cache, _):
        await store.set("k", "canary-5512")
        await held(store, cache)
        [each] = cache._held.values()
        assert b"canary" not in each.sealed.ciphertext
        assert "canary" not in repr(each)
