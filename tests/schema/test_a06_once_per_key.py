"""A6: a command with an Idempotency-Key happens once; the key is its actor's, its route's and its request's."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import psycopg
import pytest

from tests.schema.conftest import Refused
from tests.schema.stage import Given, Party, Stage, keeps

Outside = Callable[..., AbstractAsyncContextManager[Stage]]

ROUTE = "POST /api/referrals"
DIGEST, OTHER = bytes(32), b"\1" * 32
FIND = "select status, response from shared.find_response(%s, %s, %s)"
STORE = (
    "insert into shared.idempotency_keys (user_id, key, route, request_digest, status, response) "
    "values (%s, %s, %s, %s, 201, 'sealed')"
)


async def test_the_same_request_is_answered_as_before(as_referrer: Party) -> None:
    assert await as_referrer(FIND, "a-key", ROUTE, DIGEST) == []
    await as_referrer(STORE, as_referrer.user_id, "a-key", ROUTE, DIGEST)
    assert await as_referrer(FIND, "a-key", ROUTE, DIGEST) == [(201, b"sealed")]


@keeps("idempotency_keys_once_an_actor")
async def test_a_key_is_stored_once_an_actor(refused: Refused, as_referrer: Party, as_referee: Party) -> None:
    await as_referrer(STORE, as_referrer.user_id, "a-key", ROUTE, DIGEST)
    await as_referee(STORE, as_referee.user_id, "a-key", ROUTE, OTHER)
    async with refused("idempotency_keys_once_an_actor", "23505"):
        await as_referrer(STORE, as_referrer.user_id, "a-key", "GET /other", OTHER)


@pytest.mark.parametrize(("route", "digest"), [(ROUTE, OTHER), ("POST /api/disputes", DIGEST)])
async def test_a_key_answers_no_other_request(refused: Refused, as_referrer: Party, route: str, digest: bytes) -> None:
    await as_referrer(STORE, as_referrer.user_id, "a-key", ROUTE, DIGEST)
    async with refused("idempotency_keys_once_an_actor", "23514"):
        await as_referrer(FIND, "a-key", route, digest)


async def test_anothers_key_is_not_there(refused: Refused, as_referrer: Party, as_referee: Party) -> None:
    await as_referrer(STORE, as_referrer.user_id, "a-key", ROUTE, DIGEST)
    assert await as_referee(FIND, "a-key", ROUTE, DIGEST) == []
    assert await as_referee("select * from shared.idempotency_keys") == []
    async with refused(None, "42501"):
        await as_referee(STORE, as_referrer.user_id, "b-key", ROUTE, DIGEST)
    for clause in ("do nothing", "(actor_id, key) do nothing"):
        async with refused(None, "42501"):
            await as_referee(f"{STORE} on conflict {clause}", as_referrer.user_id, "a-key", ROUTE, DIGEST)


async def test_a_program_has_keys_of_its_own(
    given: Given, refused: Refused, as_referrer: Party, as_mentor: Party
) -> None:
    """An environment's are one key's and the next one's; they are no user's, and no other environment's."""
    store = (
        "insert into shared.idempotency_keys ({}, key, route, request_digest, status, response) "
        "values (%s, 'a-key', 'r', sha256('x'), 201, 'sealed')"
    )
    environment = await given.environment()
    one, _ = await given.keys(environment)
    other, _ = await given.keys(await given.environment())
    token = await as_referrer.organization_token("agreements:read")
    await one(store.format("environment_id"), environment)
    await token(store.format("organization_id"), as_referrer.organization_id)
    successor, _ = await given.keys(environment)
    for actor, rows in ((one, 1), (successor, 1), (token, 1), (other, 0), (as_referrer, 0), (as_mentor, 0)):
        assert len(await actor("select key from shared.idempotency_keys")) == rows
    for actor, column, value in (
        (other, "environment_id", environment),
        (as_referrer, "organization_id", as_referrer.organization_id),
        (one, "organization_id", as_referrer.organization_id),
        (token, "user_id", as_referrer.user_id),
    ):
        async with refused(None, "42501"):
            await actor(store.format(column), value)
    async with refused("idempotency_keys_once_an_actor", "23514"):
        await successor(FIND, "a-key", "another", DIGEST)
    assert await other(FIND, "a-key", "another", DIGEST) == []


async def test_what_was_answered_stays(refused: Refused, as_referrer: Party) -> None:
    await as_referrer(STORE, as_referrer.user_id, "a-key", ROUTE, DIGEST)
    for attack in ("update shared.idempotency_keys set status = 200", "delete from shared.idempotency_keys"):
        async with refused(None, "42501"):
            await as_referrer(attack)


@pytest.mark.parametrize(
    ("column", "value", "proposition"),
    [
        ("status", "500", "idempotency_keys_only_successes"),
        ("request_digest", "'short'", "idempotency_keys_digest_is_sha256"),
        ("key", "''", "idempotency_keys_key_is_visible"),
        ("key", "'a key'", "idempotency_keys_key_is_visible"),
        ("key", "repeat('x', 256)", "idempotency_keys_key_is_visible"),
    ],
)
async def test_what_is_stored_is_well_formed(
    refused: Refused, as_referrer: Party, column: str, value: str, proposition: str
) -> None:
    values = {"key": "'a-key'", "route": "'r'", "request_digest": "sha256('x')", "status": "201", "response": "''"}
    values[column] = value
    async with refused(proposition):
        await as_referrer(
            f"insert into shared.idempotency_keys (user_id, {', '.join(values)}) "
            f"values (%s, {', '.join(values.values())})",
            as_referrer.user_id,
        )


async def test_a_request_in_flight_is_told_apart(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        assert await one.as_referrer(FIND, "in-flight", ROUTE, DIGEST) == []
        async with other.refused("idempotency_keys_once_an_actor", "55P03"):
            await other.as_referrer(FIND, "in-flight", ROUTE, DIGEST)
        assert await other.as_referee(FIND, "in-flight", ROUTE, DIGEST) == [], "another's key is another"
        await one.as_referrer(STORE, one.party("referrer").user_id, "in-flight", ROUTE, DIGEST)
        await one.connection.commit()
        assert await other.as_referrer(FIND, "in-flight", ROUTE, DIGEST) == [(201, b"sealed")]


async def test_a_request_that_failed_leaves_its_key_free(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        await one.as_referrer(FIND, "failed", ROUTE, DIGEST)
        await one.as_referrer(STORE, one.party("referrer").user_id, "failed", ROUTE, DIGEST)
        await one.connection.rollback()
        assert await other.as_referrer(FIND, "failed", ROUTE, OTHER) == []


async def test_two_writers_who_did_not_ask_first_store_one(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        await one.as_referrer(STORE, one.party("referrer").user_id, "blind", ROUTE, DIGEST)
        await one.connection.commit()
        with pytest.raises(psycopg.errors.UniqueViolation):
            await other.as_referrer(STORE, other.party("referrer").user_id, "blind", ROUTE, DIGEST)


async def test_keys_whose_short_hashes_collide_do_not_meet(enter_from_outside: Outside) -> None:
    """With 32-bit locks two requests in a few ten thousand would refuse each other."""
    async with enter_from_outside() as one, enter_from_outside() as other:
        [[collision]] = await one.run(
            "select array_agg(key) from (select 'key-' || n as key from generate_series(1, 300000) as n) as k "
            "group by hashtext(key) having count(*) > 1 limit 1"
        )
        await one.as_referrer(FIND, collision[0], ROUTE, DIGEST)
        assert await other.as_referrer(FIND, collision[1], ROUTE, DIGEST) == []
