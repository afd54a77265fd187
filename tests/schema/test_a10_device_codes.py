"""A10: a machine's code yields one token, of the person who approved it, within ten minutes."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import psycopg
import pytest
from psycopg import AsyncConnection

from tests.schema.conftest import Refused, _register
from tests.schema.stage import Actor, Given, Party, Stage, World, device_code, keeps, user_code, waits_for_a_lock

Outside = Callable[..., AbstractAsyncContextManager[Stage]]
Superuser = psycopg.Connection[tuple[object, ...]]

TAKE = "select outcome, extract(epoch from poll_interval)::integer from apiauth.redeem_device(%s, %s, 'abcd')"
APPROVE = "select apiauth.decide_device(%s, true)"
DENY = "select apiauth.decide_device(%s, false)"
LOOK = "select name, address, scopes, token_days from apiauth.find_device(%s)"
TIME_PASSES = """
update apiauth.device_codes
set created_at = created_at - s.span, expires_at = expires_at - s.span, polled_at = polled_at - s.span,
    decided_at = decided_at - s.span
from (select %s::interval as span) as s
"""
CODES = """
update apiauth.device_codes set (token_id, redeemed_at)
    = (select t.id, device_codes.decided_at from apiauth.personal_tokens as t order by t.id desc limit 1)
"""


async def take(actor: Actor, name: str = "a machine", digest: bytes | None = None) -> tuple[str, int | None]:
    [(outcome, interval)] = await actor(TAKE, device_code(name), digest or secrets.token_bytes(32))
    return outcome, interval


async def tokens(as_guard: Actor) -> int:
    return int(await as_guard.value("select count(*) from apiauth.personal_tokens where name = 'a machine'"))


async def test_an_approved_machine_acts_for_who_approved_it_within_its_scopes(
    stage: Stage, given: Given, refused: Refused, as_referrer: Party, as_nobody: Actor
) -> None:
    await given.device("a machine", "7 days", "agreements:read")
    assert await as_referrer(LOOK, user_code()) == [("a machine", "192.0.2.7", ["agreements:read"], 7)]
    assert await take(as_nobody) == ("authorization_pending", 5)
    assert await as_referrer.value(APPROVE, user_code())
    digest = secrets.token_bytes(32)
    assert await take(as_nobody, digest=digest) == ("issued", None)
    machine = Actor(stage, ("enter_token", digest))
    assert await machine.value("select shared.current_user_id()") == as_referrer.user_id
    listed = await machine(
        "select name, scopes, extract(day from expires_at - created_at) from apiauth.list_personal_tokens() limit 1"
    )
    assert listed == [("a machine", ["agreements:read"], 7)]
    async with refused("credential_scope"):
        await machine("select shared.acting_organization('agreements:write')")


@keeps("device_codes_settled_once")
async def test_a_code_is_used_once(given: Given, refused: Refused, as_referrer: Party, as_guard: Actor) -> None:
    as_nobody = given.stage.as_nobody
    await given.device()
    await as_referrer(APPROVE, user_code())
    assert (await take(as_nobody))[0] == "issued"
    for _ in range(2):
        assert (await take(as_nobody))[0] == "invalid_grant"
    assert await tokens(as_guard) == 1
    await as_referrer.token("agreements:read")
    async with refused("device_codes_settled_once"):
        await as_guard(CODES)
    async with refused("device_codes_settled_once"):
        await as_guard("update apiauth.device_codes set token_id = null, redeemed_at = null")
    for column in ("is_approved = false", "decided_at = decided_at + interval '1 second'"):
        async with refused("device_codes_settled_once"):
            await as_guard(f"update apiauth.device_codes set {column}")


@keeps("device_codes_redeemed_approved_in_time")
async def test_a_code_yields_nothing_unapproved_or_after_its_end(
    given: Given, refused: Refused, as_referrer: Party, as_guard: Actor
) -> None:
    as_nobody = given.stage.as_nobody
    for name in ("a machine", "denied", "late"):
        await given.device(name)
    await as_referrer(DENY, user_code("denied"))
    await as_referrer(APPROVE, user_code("late"))
    assert (await take(as_nobody, "denied"))[0] == "access_denied"
    assert (await take(as_nobody, "unknown"))[0] == "invalid_grant"
    await as_referrer.token("agreements:read")
    for name in ("a machine", "denied", "late"):
        async with refused("device_codes_redeemed_approved_in_time"):
            await as_guard(
                "update apiauth.device_codes set token_id = (select id from apiauth.personal_tokens order by id desc "
                "limit 1), redeemed_at = coalesce(decided_at, created_at) + interval '11 minutes' "
                "where name = %s",
                name,
            )
    await given.stage.unbound(TIME_PASSES, "11 minutes")
    for name in ("a machine", "denied", "late"):
        assert (await take(as_nobody, name))[0] == "expired_token"
    assert await tokens(as_guard) == 0
    assert await as_referrer(LOOK, user_code()) == []
    assert not await as_referrer.value(APPROVE, user_code())


@keeps("device_codes_end_within_10_minutes")
async def test_a_code_has_an_end(given: Given, refused: Refused, as_guard: Actor) -> None:
    await given.device()
    assert await as_guard.value("select expires_at - created_at = interval '10 minutes' from apiauth.device_codes")
    for end in ("expires_at + interval '1 microsecond'", "'infinity'", "created_at"):
        async with refused("device_codes_end_within_10_minutes"):
            await as_guard(f"update apiauth.device_codes set expires_at = {end}")


@keeps("device_codes_stored_as_digests")
async def test_nothing_but_digests_of_digests_is_stored(given: Given, refused: Refused, as_guard: Actor) -> None:
    await given.device()
    assert await as_guard(
        "select device_digest = sha256(%s), user_digest = sha256(%s) from apiauth.device_codes",
        device_code(), user_code(),
    ) == [(True, True)]  # fmt: skip
    for column in ("device_digest", "user_digest"):
        async with refused("device_codes_stored_as_digests"):
            await as_guard(f"update apiauth.device_codes set {column} = 'WDJB-MJHT'")


async def test_what_is_stored_opens_nothing(given: Given, as_referrer: Party, as_guard: Actor) -> None:
    await given.device()
    [[device, user, number]] = await as_guard(
        "select device_digest, user_digest, uuid_send(id) from apiauth.device_codes"
    )
    for stored in (device, user, number):
        assert await as_referrer(LOOK, stored) == []
        assert not await as_referrer.value(APPROVE, stored)
    await as_referrer(APPROVE, user_code())
    for stored in (device, user, number, user_code()):
        [[outcome]] = await given.stage.as_nobody(
            "select outcome from apiauth.redeem_device(%s, %s, 'abcd')", stored, bytes(32)
        )
        assert outcome == "invalid_grant"
    assert not await as_referrer.value(APPROVE, device_code()), "the machine does not approve itself"


async def test_only_a_session_decides(given: Given, as_referrer: Party, as_nobody: Actor) -> None:
    await given.device()
    secret, _ = await given.keys()
    token, program = await as_referrer.token("tokens:write"), await as_referrer.organization_token("tokens:write")
    for actor in (as_nobody, secret, token, program):
        assert await actor(LOOK, user_code()) == []
        assert not await actor.value(APPROVE, user_code())
    assert (await take(as_nobody))[0] == "authorization_pending"


async def test_a_decision_stands(given: Given, as_referrer: Party, as_stranger: Party) -> None:
    await given.device()
    assert [await as_referrer.value(APPROVE, user_code()) for _ in range(2)] == [True, True]
    assert not await as_referrer.value(DENY, user_code())
    for decide in (APPROVE, DENY):
        assert not await as_stranger.value(decide, user_code())
    assert await as_stranger(LOOK, user_code()) == []


async def test_who_polls_too_soon_is_slowed_down(given: Given, as_nobody: Actor) -> None:
    await given.device()
    assert await take(as_nobody) == ("authorization_pending", 5)
    assert [await take(as_nobody) for _ in range(2)] == [("slow_down", 10), ("slow_down", 15)]
    await given.stage.unbound(TIME_PASSES, "10 seconds")
    assert await take(as_nobody) == ("slow_down", 20)
    await given.stage.unbound(TIME_PASSES, "19.5 seconds")
    assert await take(as_nobody) == ("authorization_pending", 20)
    assert [await take(as_nobody) for _ in range(10)][-2:] == [("slow_down", 60)] * 2


async def test_an_approval_is_not_kept_waiting_by_the_pace(given: Given, as_referrer: Party, as_nobody: Actor) -> None:
    await given.device()
    await take(as_nobody)
    await as_referrer(APPROVE, user_code())
    assert (await take(as_nobody))[0] == "issued"


@pytest.mark.parametrize(
    ("proposition", "name", "lifetime", "scopes"),
    [
        ("device_codes_name_is_present", "", "1 day", ["agreements:read"]),
        ("device_codes_name_is_present", "x" * 101, "1 day", ["agreements:read"]),
        ("device_codes_token_ends_within_a_year", "x", "366 days", ["agreements:read"]),
        ("device_codes_token_ends_within_a_year", "x", "1 second", ["agreements:read"]),
        ("device_codes_scopes_are_known", "x", "1 day", ["agreements:read", "everything"]),
    ],
)
async def test_what_a_machine_asks_for_is_bounded(
    given: Given, proposition: str, name: str, lifetime: str, scopes: list[str]
) -> None:
    async with given.stage.refused(proposition):
        await given.device(name, lifetime, *scopes)


async def test_codes_that_are_long_past_make_room(given: Given, as_guard: Actor) -> None:
    await given.device("old")
    await given.stage.unbound(TIME_PASSES, "2 days")
    await given.device("new")
    assert await as_guard("select name from apiauth.device_codes") == [("new",)]


@asynccontextmanager
async def operator(world: World) -> AsyncIterator[Stage]:
    """Open a connection of the guard's, which commits."""
    async with await AsyncConnection.connect(world.superuser_url, options="-c role=brokerflow_guard") as connection:
        yield Stage(connection, world)


async def test_of_two_who_poll_at_once_one_has_the_token(enter_from_outside: Outside, superuser: Superuser) -> None:
    async with enter_from_outside() as first:
        await first.given.device("at once")
        await first.as_mentor(APPROVE, user_code("at once"))
        await first.connection.commit()

        async def poll(number: int) -> str:
            async with enter_from_outside() as stage:
                outcome, _ = await take(stage.as_nobody, "at once")
                await stage.connection.commit()
                return outcome

        outcomes = await asyncio.gather(*map(poll, range(6)))
    assert sorted(outcomes) == ["invalid_grant"] * 5 + ["issued"]
    made = superuser.execute("delete from apiauth.personal_tokens where name = 'at once'")
    assert made.rowcount == 1


async def test_a_token_throws_itself_away_whatever_its_scopes(
    stage: Stage, refused: Refused, as_referrer: Party
) -> None:
    token, other = await as_referrer.token("agreements:read"), await as_referrer.token("agreements:read")
    assert await token.value("select apiauth.revoke_own_token()")
    async with refused("credential_authenticates", "28000"):
        await token.enter()
    await other.enter()
    assert not await as_referrer.value("select apiauth.revoke_own_token()"), "a session is no token"


async def test_all_that_a_user_has_ends_at_once(
    given: Given, refused: Refused, as_referrer: Party, as_stranger: Party, as_guard: Actor
) -> None:
    as_nobody = given.stage.as_nobody
    await as_guard("delete from apiauth.personal_tokens")
    await as_guard("delete from apiauth.sessions where digest <> all (%s)", [
        hashlib.sha256(actor.person.digest).digest() for actor in (as_referrer, as_stranger)
    ])  # fmt: skip
    token, elsewhere = await as_referrer.token("agreements:read"), await as_stranger.token("agreements:read")
    for name in ("approved", "taken"):
        await given.device(name)
        await as_referrer(APPROVE, user_code(name))
    digest = secrets.token_bytes(32)
    await take(as_nobody, "taken", digest)
    [ended] = await as_guard("select * from apiauth.revoke_all('REFERRER@example.org')")
    assert ended == (1, 2, 1)
    for actor in (as_referrer, token, Actor(given.stage, ("enter_token", digest))):
        async with refused("credential_authenticates", "28000"):
            await actor.enter()
    assert (await take(as_nobody, "approved"))[0] == "invalid_grant"
    await as_stranger.enter()
    await elsewhere.enter()
    assert await as_guard("select * from apiauth.revoke_all('nobody@example.org')") == []
    async with refused(None, "42501"):
        await as_stranger("select * from apiauth.revoke_all('referrer@example.org')")


async def test_nothing_is_born_of_a_session_that_is_just_being_ended(
    stage: Stage, enter_from_outside: Outside, world: World
) -> None:
    """Whoever approves meanwhile is waited for, and then his approval ends too; who comes later is refused."""
    async with enter_from_outside() as early, enter_from_outside() as late, operator(world) as ending:
        leaver = await _register(early, "leaver")
        for name in ("early", "late"):
            await early.given.device(name)
        await early.connection.commit()
        await Party(early, leaver)(APPROVE, user_code("early"))
        await Party(late, leaver).enter()
        revoking = asyncio.create_task(ending.run("select * from apiauth.revoke_all('leaver@example.org')"))
        await waits_for_a_lock(stage, ending)
        await early.connection.commit()
        assert (await revoking)[0][2] == 1
        deciding = asyncio.create_task(late.run(APPROVE, user_code("late")))
        await waits_for_a_lock(stage, late)
        await ending.connection.commit()
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
            await deciding
        await ending.run("delete from apiauth.device_codes where name = 'late'")


async def test_a_login_that_is_under_way_when_all_is_ended_opens_nothing(
    enter_from_outside: Outside, world: World
) -> None:
    async with enter_from_outside() as one, operator(world) as ending:
        hasty, digest = await _register(one, "hasty"), secrets.token_bytes(32)
        await one.connection.commit()
        await one.as_nobody(
            "select apiauth.open_session('hasty@example.org', %s, %s, '1 hour', '1 day')", b"hasty", digest
        )
        await ending.run("select * from apiauth.revoke_all('hasty@example.org')")
        await ending.connection.commit()
        await one.connection.commit()
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
            await Actor(one, ("enter_session", digest)).enter()
        await one.connection.rollback()
        again = secrets.token_bytes(32)
        await one.as_nobody(
            "select apiauth.open_session('hasty@example.org', %s, %s, '1 hour', '1 day')", b"hasty", again
        )
        await Actor(one, ("enter_session", again)).enter()
        assert await one.run("select shared.current_user_id()") == [(hasty.user_id,)]


async def test_a_token_that_is_begotten_while_its_parent_is_revoked_ends_too(
    stage: Stage, enter_from_outside: Outside, world: World
) -> None:
    """Who ends all waits for the parent, finds it revoked by another, and looks once more."""
    async with enter_from_outside() as begetting, operator(world) as revoking, operator(world) as ending:
        parent = Party(begetting, await _register(begetting, "parent"))
        token = await parent.token("tokens:write", "agreements:read")
        await begetting.connection.commit()
        child = secrets.token_bytes(32)
        await token(
            "select apiauth.create_personal_token('a child', %s, 'abcd', '{agreements:read}', interval '1 hour')", child
        )
        one = asyncio.create_task(
            revoking.run("update apiauth.personal_tokens set revoked_at = now() where user_id = %s", parent.user_id)
        )
        await waits_for_a_lock(stage, revoking)
        all_of_them = asyncio.create_task(ending.run("select tokens from apiauth.revoke_all('parent@example.org')"))
        await waits_for_a_lock(stage, ending)
        await begetting.connection.commit()
        await one
        await revoking.connection.commit()
        assert await all_of_them == [(1,)]
        await ending.connection.commit()
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
            await Actor(begetting, ("enter_token", child)).enter()


async def test_who_decided_and_what_came_of_it_is_in_the_audit_log(
    given: Given, as_referrer: Party, as_nobody: Actor, as_auditor: Actor
) -> None:
    for name, decide in (("a machine", APPROVE), ("denied", DENY)):
        await given.device(name)
        await as_referrer(decide, user_code(name))
    await take(as_nobody)
    rows = await as_auditor(
        "select action, user_id, detail ->> 'name' from shared.audit_log "
        "where action like 'device.%' and recorded_at >= transaction_timestamp() order by id"
    )
    assert rows == [
        ("device.approve", as_referrer.user_id, "a machine"),
        ("device.deny", as_referrer.user_id, "denied"),
        ("device.redeem", None, None),
    ]


async def test_the_service_reads_no_code(refused: Refused, as_referrer: Party) -> None:
    async with refused(None, "42501"):
        await as_referrer("select * from apiauth.device_codes")
