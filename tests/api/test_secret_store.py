"""The secret store for code in the service, and the rotation of the master key beneath it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

import msgspec
import psycopg
import pytest

from app.database import Credential, Transaction
from app.database import Database as Pools
from app.queries import register_adapters
from app.rotation import Rotation, rotate
from app.sealing import Keyring
from app.secretstore.rotation import wrapped_keys
from app.secretstore.store import Origin, SecretStore
from app.secretstore.values import SecretAltered, SecretMismatch, SecretNotFound
from app.shared import tokens
from tests.api.conftest import Caller, Look
from tests.api.steps import count
from tests.conftest import Database

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
CANARY = "canary-e1d0"


class Login(msgspec.Struct, frozen=True):
    """What a caller expects a secret to be."""

    host: str
    port: Annotated[int, msgspec.Meta(ge=1)]
    since: datetime | None = None


@asynccontextmanager
async def stores(database: Database, owner: Caller, *keyrings: list[bytes]) -> AsyncIterator[list[SecretStore]]:
    """Open the store as several service processes would, each with its master keys."""
    opened = Pools(database.app_url)
    await opened.open()
    credential = Credential("session", tokens.digest(owner.token))
    try:
        yield [SecretStore(opened, Keyring(keys, "secrets"), credential, Origin("here")) for keys in keyrings]
    finally:
        await opened.close()


@asynccontextmanager
async def vault(database: Database) -> AsyncIterator[Transaction]:
    """Connect as the operator does who rotates."""
    connection = await psycopg.AsyncConnection.connect(
        database.owner_url, autocommit=True, options="-c role=brokerflow_vault", cursor_factory=psycopg.AsyncRawCursor
    )
    register_adapters(connection)
    async with connection:
        yield Transaction(connection)


async def test_a_value_is_decoded_into_what_the_caller_expects(database: Database, owner: Caller) -> None:
    async with stores(database, owner, [NEW]) as [store]:
        await store.set("db/main", Login("db.example", 5432))
        assert await store.get("db/main", Login) == Login("db.example", 5432)
        assert await store.get_or_raise("db/main") == {"host": "db.example", "port": 5432, "since": None}
        assert (await store.set("db/main", [1, "two"], expected_version=1)).version == 2
        assert await store.get("db/main", list[int | str]) == [1, "two"]


async def test_what_is_not_there_is_none_or_raises(database: Database, owner: Caller) -> None:
    async with stores(database, owner, [NEW]) as [store]:
        assert await store.get("none") is None
        with pytest.raises(SecretNotFound, match="none"):
            await store.get_or_raise("none", Login)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"host": CANARY, "port": CANARY}, r"\$\.port"),
        ({"host": CANARY, "port": 0}, r"\$\.port"),
        ({"host": [CANARY], "port": 1}, r"\$\.host"),
        ({"host": CANARY, "port": 1, "since": CANARY}, r"\$\.since"),
        ({"host": CANARY}, r"\$"),
        (CANARY, r"\$"),
    ],
)
async def test_a_mismatch_names_the_place_and_not_the_value(
    database: Database, owner: Caller, value: object, place: str
) -> None:
    async with stores(database, owner, [NEW]) as [store]:
        await store.set("k", value)
        with pytest.raises(SecretMismatch, match=f"secret k is not of the type expected at {place}$") as raised:
            await store.get("k", Login)
        assert raised.value.__context__ is None
        assert CANARY not in repr(await store.read_one("k"))


async def test_old_and_new_processes_work_while_the_master_key_rotates(
    database: Database, owner: Caller, look: Look
) -> None:
    async with stores(database, owner, [OLD, NEW], [NEW, OLD], [NEW]) as [old, new, last], vault(database) as operator:
        for number in range(30):
            await (new if number % 3 else old).set(f"k{number % 7}", number)
        told: list[int] = []

        async def work() -> None:
            for number in range(30, 60):
                await (new if number % 3 else old).set(f"k{number % 7}", number)
                assert await (old if number % 2 else new).get(f"k{number % 7}") == number

        working = asyncio.create_task(work())
        await rotate(
            wrapped_keys(operator, Keyring([NEW, OLD], "secrets")), lambda done: told.append(done.rewrapped), batch=3
        )
        await working
        done = await rotate(wrapped_keys(operator, Keyring([NEW, OLD], "secrets")), lambda _: None, batch=3)
        assert (len(told) > 2, done.unopened) == (True, 0)
        assert count(look, "select count(distinct master_key_id) from secretstore.secret_versions") == 1
        assert [await last.get(f"k{n}") for n in range(7)] == [56, 57, 58, 59, 53, 54, 55]
        assert await rotate(wrapped_keys(operator, Keyring([NEW], "secrets")), lambda _: None) == Rotation()


async def test_a_rotation_that_was_killed_leaves_all_readable_and_goes_on(database: Database, owner: Caller) -> None:
    class Killed(Exception):  # noqa: N818
        """The process is gone."""

    def kill(done: Rotation) -> None:
        if done.rewrapped >= 4:
            raise Killed

    async with stores(database, owner, [OLD], [NEW, OLD], [NEW]) as [old, new, last]:
        for number in range(10):
            await old.set(f"k{number}", number)
        async with vault(database) as operator:
            with pytest.raises(Killed):
                await rotate(wrapped_keys(operator, Keyring([NEW, OLD], "secrets")), kill, batch=2)
        assert [await new.get(f"k{n}") for n in range(10)] == list(range(10))
        with pytest.raises(SecretAltered):
            [await last.get(f"k{n}") for n in range(10)]
        async with vault(database) as operator:
            done = await rotate(wrapped_keys(operator, Keyring([NEW, OLD], "secrets")), lambda _: None, batch=2)
        assert done == Rotation(rewrapped=6)
        assert [await last.get(f"k{n}") for n in range(10)] == list(range(10))


async def test_what_opens_with_no_key_is_counted_and_left(database: Database, owner: Caller, look: Look) -> None:
    async with stores(database, owner, [OLD], [NEW]) as [old, new], vault(database) as operator:
        await old.set("lost", 1)
        await new.set("kept", 2)
        before = look.execute("select * from secretstore.secret_versions order by created_at").fetchall()
        assert await rotate(wrapped_keys(operator, Keyring([NEW], "secrets")), lambda _: None) == Rotation(unopened=1)
        assert look.execute("select * from secretstore.secret_versions order by created_at").fetchall() == before
        assert await old.get("lost") == 1
