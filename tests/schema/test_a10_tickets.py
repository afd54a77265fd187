"""A10, for sessions that another store keeps: a ticket enters with its token, while the database says it may."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

import psycopg
import pytest

from tests.schema.conftest import Refused, _register
from tests.schema.stage import HALF, Actor, Rows, Stage, waits_for_a_lock

Outside = Callable[[], AbstractAsyncContextManager[Stage]]


class Bearer(NamedTuple):
    """Who holds a session token, and the ticket that the store holds for it."""

    digest: bytes
    ticket: str

    def on(self, stage: Stage, half: bytes | None = HALF) -> Actor:
        """Return him as an actor."""
        return Actor(stage, ("enter_ticket", self.digest, None, [], self.ticket, half))


async def log_in(stage: Stage, name: str = "referrer") -> Bearer:
    """Open a session as the service does, and take it out of its table."""
    digest = secrets.token_bytes(32)
    await stage.become("brokerflow_app")
    await stage.run(
        "select apiauth.open_session(%s, %s, %s, '1 hour', '1 day')", f"{name}@example.org", name.encode(), digest
    )
    [[ticket]] = await stage.run("select apiauth.exchange_session(%s, %s)", digest, HALF)
    return Bearer(digest, ticket)


async def session_of(actor: Actor) -> object:
    return await actor.value("select (shared.current_actor()).credential_id")


async def kept_by(stage: Stage, name: str) -> Rows:
    """Return the sessions of a person that are kept in their table."""
    statement = "select id from apiauth.sessions where user_id = %s and revoked_at is null"
    return await stage.as_guard(statement, stage.people[name].user_id)


async def test_a_ticket_enters_with_its_token(stage: Stage) -> None:
    """enter_ticket proves the same actor as enter_session; exchange_session leaves no row behind."""
    bearer = await log_in(stage)
    [[kind, user, scopes, role]] = await bearer.on(stage)(
        "select a.kind, a.user_id, a.scopes, a.role from shared.current_actor() as a"
    )
    assert (kind, user, scopes, role) == ("session", stage.people["referrer"].user_id, None, "owner")
    stored = "select count(*) from apiauth.sessions where digest = sha256(%s)"
    assert await stage.as_guard.value(stored, bearer.digest) == 0


async def test_neither_alone_enters(stage: Stage, refused: Refused) -> None:
    """What read_ticket finds is believed for its seal, and enters for its token."""
    bearer, other = await log_in(stage), await log_in(stage, "stranger")
    stored = hashlib.sha256(bearer.digest).digest()  # what the ticket and the store's key hold
    for digest, ticket in (
        (bearer.digest, other.ticket),
        (other.digest, bearer.ticket),
        (stored, bearer.ticket),
        (bytes(32), bearer.ticket),
        (bearer.digest, ""),
        (bearer.digest, bearer.ticket[64:]),
        (bearer.digest, "0" * 64 + bearer.ticket[64:]),
        (bearer.digest, bearer.ticket + " "),
        (bearer.digest, bearer.ticket.replace(str(stage.people["referrer"].user_id), str(other.ticket[:36]))),
        (bearer.digest, bearer.ticket + "x" * 5000),
    ):
        async with refused("credential_authenticates", "28000"):
            await Bearer(digest, ticket).on(stage).enter()
    await bearer.on(stage).enter()


@pytest.mark.parametrize("half", [None, b"", bytes(31), bytes(32), HALF + b"x"])
async def test_half_a_key_opens_nothing(stage: Stage, refused: Refused, half: bytes | None) -> None:
    """ticket_key has two halves, and the service's is not in the database."""
    bearer = await log_in(stage)
    async with refused("credential_authenticates", "28000"):
        await bearer.on(stage, half).enter()


async def test_no_session_is_exchanged_without_a_half(stage: Stage, refused: Refused) -> None:
    person = stage.people["referrer"]
    for half in (None, b"", bytes(31)):
        async with refused("credential_authenticates", "28000"):
            await stage.as_nobody("select apiauth.exchange_session(%s, %s)", person.digest, half)
    async with refused("credential_authenticates", "28000"):
        await stage.as_nobody("select apiauth.exchange_session(%s, %s)", hashlib.sha256(person.digest).digest(), HALF)


async def test_the_service_seals_nothing(stage: Stage, refused: Refused) -> None:
    for call in (
        "apiauth.ticket_key('')",
        "apiauth.seal_ticket(null, '')",
        "apiauth.read_ticket('', '')",
        "apiauth.is_live(null)",
        "apiauth.end_tickets(null, null, '{}', '')",
        "apiauth.end_sessions(null, now())",
        "apiauth.hold_ticket(null, null)",
    ):
        async with refused(None, "42501"):
            await stage.as_nobody(f"select {call}")


@pytest.mark.parametrize(
    "end",
    [
        "insert into apiauth.ended_tickets (session_id, expires_at) select {session}, now()",
        "insert into apiauth.logouts (user_id, ended_before) values ({user}, clock_timestamp())",
        "delete from shared.users where id = {user}",
    ],
)
async def test_a_ticket_that_is_over_does_not_enter(stage: Stage, refused: Refused, end: str) -> None:
    """is_live asks with each entrance."""
    bearer = await log_in(stage, "newcomer")
    session = await session_of(bearer.on(stage))
    user = stage.people["newcomer"].user_id
    await stage.as_postgres(end.format(session=f"'{session}'", user=f"'{user}'"))
    async with refused("credential_authenticates", "28000"):
        await bearer.on(stage).enter()


async def test_a_ticket_ends_at_its_time(stage: Stage, refused: Refused, as_guard: Actor) -> None:
    """One that the guard sealed is the same but for its end."""
    digest = secrets.token_bytes(32)
    sealed = (
        "select apiauth.seal_ticket((gen_random_uuid(), %s, sha256(%s), clock_timestamp() - interval '1 hour', "
        "clock_timestamp() + %s::interval, null)::apiauth.ticket, %s)"
    )
    living, ended = [
        Bearer(digest, await as_guard.value(sealed, stage.people["referrer"].user_id, digest, remaining, HALF))
        for remaining in ("1 hour", "-1 millisecond")
    ]
    await living.on(stage).enter()
    async with refused("credential_authenticates", "28000"):
        await ended.on(stage).enter()


async def test_the_entrance_looks_at_membership_and_role_as_they_are_now(
    stage: Stage, refused: Refused, as_referrer: Actor
) -> None:
    bearer = await log_in(stage, "colleague")
    role = "select (shared.current_actor()).role"
    assert await bearer.on(stage).value(role) == "agent"
    person = stage.people["colleague"]
    await as_referrer("update shared.memberships set role = 'viewer' where user_id = %s", person.user_id)
    assert await bearer.on(stage).value(role) == "viewer"
    await as_referrer("delete from shared.memberships where user_id = %s", person.user_id)
    assert await bearer.on(stage).value(role) is None
    async with refused("actor_is_member", "42501"):
        await Actor(stage, ("enter_ticket", bearer.digest, "north", [], bearer.ticket, HALF)).enter()


CLOSE = "select apiauth.close_session(%s, %s)"
REVOKE = "select apiauth.revoke_sessions(%s, %s, %s)"


async def test_a_session_that_was_closed_stays_closed(stage: Stage, refused: Refused) -> None:
    bearer, other = await log_in(stage), await log_in(stage)
    tickets = [bearer.ticket, other.ticket]
    assert await bearer.on(stage).value(CLOSE, tickets, HALF)
    async with refused("credential_authenticates", "28000"):
        await bearer.on(stage).enter()
    await other.on(stage).enter()


async def test_a_session_ends_others_of_its_user_only(stage: Stage, refused: Refused) -> None:
    """end_tickets believes the seals, whatever tickets it is brought."""
    own, other, stranger = await log_in(stage), await log_in(stage), await log_in(stage, "stranger")
    forged = "0" * 64 + other.ticket[64:]
    ends, session = await session_of(other.on(stage)), await session_of(stranger.on(stage))
    assert await own.on(stage).value(REVOKE, session, [stranger.ticket], HALF) == 0
    assert await own.on(stage).value(REVOKE, ends, [forged], HALF) == 0
    assert await own.on(stage).value(REVOKE, ends, [own.ticket, other.ticket, stranger.ticket], HALF) == 1
    async with refused("credential_authenticates", "28000"):
        await other.on(stage).enter()
    assert await own.on(stage).value(REVOKE, ends, [other.ticket], HALF) == 0
    for left in (own, stranger):
        await left.on(stage).enter()


async def test_an_end_everywhere_needs_no_list(stage: Stage, refused: Refused) -> None:
    """end_sessions binds what was opened until then, here and elsewhere, and nothing later."""
    own, unlisted, stranger = await log_in(stage), await log_in(stage), await log_in(stage, "stranger")
    kept = Actor(stage, ("enter_session", stage.people["referrer"].digest))
    await kept.enter()
    here = await kept_by(stage, "referrer")
    assert await own.on(stage).value(REVOKE, None, [own.ticket], HALF) == 1 + len(here)
    for ended in (own.on(stage), unlisted.on(stage), kept):
        async with refused("credential_authenticates", "28000"):
            await ended.enter()
    await stranger.on(stage).enter()
    await (await log_in(stage)).on(stage).enter()


async def test_sessions_are_listed_by_their_seals(stage: Stage) -> None:
    own, other, stranger = await log_in(stage), await log_in(stage), await log_in(stage, "stranger")
    tickets = [own.ticket, other.ticket, stranger.ticket, "0" * 64 + other.ticket[64:], ""]
    rows = await own.on(stage)(
        "select s.id, s.is_current from apiauth.list_sessions(%s, array_fill(now(), array[5]), %s) as s order by s.id",
        tickets, HALF,
    )  # fmt: skip
    assert rows[-2:] == [(await session_of(own.on(stage)), True), (await session_of(other.on(stage)), False)]
    assert len(rows) == 2 + len(await kept_by(stage, "referrer"))


async def test_a_token_is_born_of_a_live_ticket_only(enter_from_outside: Outside) -> None:
    """hold_ticket makes the one wait for the other: whoever ends all, and whoever makes a token of what is ended."""
    create = "select apiauth.create_personal_token('x', %s, 'abcd', '{agreements:read}', '1 day')"
    async with enter_from_outside() as minting, enter_from_outside() as ending:
        bearer = await log_in(minting, "rival")
        await minting.connection.commit()
        await bearer.on(minting).enter()
        await bearer.on(ending)(CLOSE, [bearer.ticket], HALF)
        async with minting.refused("credential_authenticates", "28000"), enter_from_outside() as observer:
            waiting = asyncio.create_task(minting.run(create, secrets.token_bytes(32)))
            await waits_for_a_lock(observer, minting)
            await ending.connection.commit()
            await waiting


async def test_a_token_is_not_born_of_a_ticket_that_was_just_logged_out(enter_from_outside: Outside) -> None:
    """Though it entered after that was stamped, and before that was committed; who logs in anew may make one."""
    create = "select apiauth.create_personal_token('x', %s, 'abcd', '{agreements:read}', '1 day')"
    async with enter_from_outside() as minting, enter_from_outside() as ending, enter_from_outside() as observer:
        await _register(minting, "minter")
        bearer = await log_in(minting, "minter")
        await minting.connection.commit()
        await bearer.on(ending)(REVOKE, None, [], HALF)
        await bearer.on(minting).enter()
        waiting = asyncio.create_task(minting.run(create, secrets.token_bytes(32)))
        await waits_for_a_lock(observer, minting)
        await ending.connection.commit()
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
            await waiting
        await minting.connection.rollback()
        await (await log_in(minting, "minter")).on(minting)(create, secrets.token_bytes(32))
