"""One suite for every provider; where one cannot do a thing, it says so."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psycopg
import pytest

from app.database import Credential
from app.database import Database as Pools
from app.errors import Refusal
from app.sealing import Keyring
from app.secretstore.providers.postgresql import PostgreSQL
from app.secretstore.providers.protocol import (
    COMPARE,
    DESTROY,
    OVERWRITE,
    UNDELETE,
    ProviderCannot,
    SecretConflict,
)
from app.secretstore.secrets import Secrets, secrets_at
from app.secretstore.store import Origin, SecretStore
from app.secretstore.values import SecretMismatch, SecretNotFound
from app.settings import SecretPlace
from app.shared import tokens
from tests.conftest import Database
from tests.http.conftest import enrolled

CANARY = "canary-31c8"
VALUES: list[Any] = [
    None, True, 0, "", [], {}, "plain", "12", "null", '{"a": 1}', 12345678901234567890123, 1.5, -0.0,
    {"a": {"b": [1, {"c": None}]}, "d": [[], {}]}, {"json": "1"}, {"value": "x"}, "é 漢字 🐦 \" \\ / \n\t", "{{x}}",
    msgspec.Raw(b"1.50"), msgspec.Raw(b"1E400"), msgspec.Raw(b'{"b":1, "a" : 2}'),
]  # fmt: skip


class Login(msgspec.Struct, frozen=True):
    """What a caller expects a secret to be."""

    host: str
    port: int


@pytest.fixture(params=["postgresql", "aws-ssm", "aws-secrets-manager", "vault"])
async def kept(request: pytest.FixtureRequest) -> AsyncIterator[Secrets]:
    """The secrets of each provider in turn, below a path that nobody else uses."""
    path = f"test-{secrets.token_hex(6)}"
    match request.param:
        case "postgresql":
            async with in_postgresql(request.getfixturevalue("database")) as opened:
                yield opened
        case "vault":
            request.getfixturevalue("in_vault")
            yield secrets_at(SecretPlace("vault", f"secret/{path}"), None)
        case name:
            request.getfixturevalue("in_cloud")
            yield secrets_at(SecretPlace(name, path), None)


@asynccontextmanager
async def in_postgresql(database: Database) -> AsyncIterator[Secrets]:
    person = enrolled(database.app_url)
    credential = Credential("session", tokens.digest(person.token))
    with psycopg.connect(database.app_url) as connection:
        connection.execute("select apiauth.enter_session(%s, null, '{}')", [credential.digest])
        connection.execute("select shared.create_organization('North', 'north')")
    pools = Pools(database.app_url)
    await pools.open()
    try:
        keyring = Keyring([bytes(range(32))], "secrets")
        yield Secrets(PostgreSQL(SecretStore(pools, keyring, credential, Origin("here"))))
    finally:
        await pools.close()


async def refused(kept: Secrets, what: str, act: Awaitable[object]) -> None:
    """Check that an act that the provider lacks is refused with the reason that it gives."""
    with pytest.raises(ProviderCannot) as caught:
        await act
    assert str(caught.value) == f"{kept.provider.name} cannot {what}: {kept.provider.lacks[what]}"


async def test_any_value_comes_back_to_the_byte(kept: Secrets) -> None:
    for version, value in enumerate(VALUES, 1):
        assert await kept.set("any/value", value) == version
        raw = (await kept.provider.read("any/value")).raw
        assert raw == (bytes(value) if isinstance(value, msgspec.Raw) else msgspec.json.encode(value))
        if not isinstance(value, msgspec.Raw):
            assert await kept.get_or_raise("any/value") == value


async def test_a_value_is_decoded_into_what_the_caller_expects(kept: Secrets) -> None:
    await kept.set("db/main", Login("db.example", 5432))
    assert await kept.get("db/main", Login) == Login("db.example", 5432)
    await kept.set("db/main", {"host": CANARY, "port": CANARY})
    with pytest.raises(SecretMismatch, match=r"secret db/main is not of the type expected at \$\.port$"):
        await kept.get("db/main", Login)


async def test_what_is_not_there_is_none_or_raises(kept: Secrets) -> None:
    assert await kept.get("none") is None
    acts: list[Callable[[], Awaitable[object]]] = [
        lambda: kept.get_or_raise("none"),
        lambda: kept.get_or_raise("none", version=1),
        lambda: kept.delete("none"),
        lambda: kept.roll_back("none", 1),
        lambda: kept.versions("none"),
    ]
    acts += [] if UNDELETE in kept.provider.lacks else [lambda: kept.undelete("none")]
    acts += [] if DESTROY in kept.provider.lacks else [lambda: kept.destroy("none", 1)]
    for act in acts:
        with pytest.raises(SecretNotFound, match="none"):
            await act()


async def test_versions_are_numbered_and_kept(kept: Secrets) -> None:
    assert [await kept.set("k", number) for number in (10, 20, 30)] == [1, 2, 3]
    assert [await kept.get_or_raise("k", int, version=number) for number in (1, 2, 3)] == [10, 20, 30]
    assert await kept.get("k") == 30
    assert [each.version for each in await kept.versions("k")] == [3, 2, 1]
    with pytest.raises(SecretNotFound):
        await kept.get_or_raise("k", int, version=4)


async def test_a_rollback_is_a_new_version_equal_to_the_old(kept: Secrets) -> None:
    for number in (10, 20):
        await kept.set("k", number)
    assert await kept.roll_back("k", 1) == 3
    assert await kept.get("k") == 10
    with pytest.raises(SecretNotFound):
        await kept.roll_back("k", 9)
    assert await kept.get("k") == 10


async def test_zero_expects_that_there_is_none(kept: Secrets) -> None:
    assert await kept.set("k", 1, expected_version=0) == 1
    with pytest.raises(SecretConflict, match="k"):
        await kept.set("k", 2, expected_version=0)
    assert await kept.get("k") == 1


async def test_a_version_is_put_only_after_the_one_expected(kept: Secrets) -> None:
    await kept.set("k", 1)
    if COMPARE in kept.provider.lacks:
        await refused(kept, COMPARE, kept.set("k", 2, expected_version=1))
        return
    assert await kept.set("k", 2, expected_version=1) == 2
    for wrong in (1, 3):
        with pytest.raises(SecretConflict, match="k"):
            await kept.set("k", CANARY, expected_version=wrong)
    with pytest.raises(SecretConflict):
        await kept.set("other", CANARY, expected_version=1)
    assert await kept.get("k") == 2
    assert await kept.get("other") is None


async def test_of_several_who_expect_one_version_one_wins(kept: Secrets) -> None:
    await kept.set("k", "first")
    if COMPARE in kept.provider.lacks:
        pytest.skip(f"{kept.provider.name} cannot {COMPARE}, as another test checks")
    puts = [kept.set("k", f"of {number}", expected_version=1) for number in range(8)]
    came = await asyncio.gather(*puts, return_exceptions=True)
    [winner] = [number for number, each in enumerate(came) if each == 2]
    assert [type(each) for each in came].count(SecretConflict) == 7
    assert await kept.get("k") == f"of {winner}"


async def test_what_is_deleted_is_not_there(kept: Secrets) -> None:
    for number in (10, 20):
        await kept.set("k", number)
    await kept.delete("k")
    assert await kept.get("k") is None
    with pytest.raises(SecretNotFound):
        await kept.get_or_raise("k", int, version=1)
    with pytest.raises(SecretNotFound):
        await kept.delete("k")
    assert await kept.keys() == []


async def test_what_is_deleted_comes_back(kept: Secrets) -> None:
    for number in (10, 20):
        await kept.set("k", number)
    await kept.delete("k")
    if UNDELETE in kept.provider.lacks:
        await refused(kept, UNDELETE, kept.undelete("k"))
        return
    assert await kept.undelete("k") == 2
    assert await kept.get("k") == 20
    assert await kept.get_or_raise("k", int, version=1) == 10
    with pytest.raises(SecretNotFound):
        await kept.undelete("k")


@pytest.mark.parametrize("expected", [None, 0])
async def test_over_what_is_deleted_one_puts_anew(kept: Secrets, expected: int | None) -> None:
    await kept.set("k", 10)
    await kept.delete("k")
    if OVERWRITE in kept.provider.lacks:
        await refused(kept, OVERWRITE, kept.set("k", 20, expected_version=expected))
        assert await kept.undelete("k") == 1
        return
    number = await kept.set("k", 20, expected_version=expected)
    assert number == (1 if UNDELETE in kept.provider.lacks else 2)
    assert await kept.get("k") == 20


async def test_a_destroyed_version_opens_for_nobody(kept: Secrets) -> None:
    for number in (10, 20):
        await kept.set("k", number)
    if DESTROY in kept.provider.lacks:
        await refused(kept, DESTROY, kept.destroy("k", 1))
        return
    await kept.destroy("k", 1)
    with pytest.raises(SecretNotFound):
        await kept.get_or_raise("k", int, version=1)
    with pytest.raises(SecretNotFound):
        await kept.destroy("k", 1)
    assert [(each.version, each.is_destroyed) for each in await kept.versions("k")] == [(2, False), (1, True)]
    assert await kept.get("k") == 20


async def test_lists_go_by_a_literal_prefix_in_order(kept: Secrets) -> None:
    given = ["a_b/x", "a.b/y", "axb/z", "a-b", "A/x", "a_b/deep/er", "a_b0"]
    for key in given:
        await kept.set(key, CANARY)
    assert await kept.keys() == sorted(given)
    assert await kept.keys("a_b") == ["a_b/deep/er", "a_b/x", "a_b0"]
    assert await kept.keys("a_b/") == ["a_b/deep/er", "a_b/x"]
    assert await kept.keys("a_b/d") == ["a_b/deep/er"]
    assert await kept.keys("nothing") == []


async def test_what_is_no_key_is_refused(kept: Secrets) -> None:
    for key in ("", "a b", "a//b", "../a", "a/..", "/a", "a/", "a%", "ключ", "x" * 256, "a\0", "count", "a/versions"):
        for act in (lambda: kept.set(key, 1), lambda: kept.get(key), lambda: kept.delete(key)):  # noqa: B023
            with pytest.raises(Refusal):
                await act()
    assert await kept.keys() == []


async def test_a_value_may_be_as_large_as_is_said_and_no_larger(kept: Secrets) -> None:
    largest = kept.provider.largest
    fits = "x" * (largest - 2)
    await kept.set("k", fits)
    assert await kept.get("k") == fits
    with pytest.raises((ProviderCannot, Refusal), match=f"at most {largest} bytes") as caught:
        await kept.set("k", f"{fits}x")
    assert "xxx" not in str(caught.value)
    assert [each.version for each in await kept.versions("k")] == [1]
