"""A10: no credential at rest can be replayed; expired or revoked never authenticates, from the next statement on."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import psycopg
import pytest

from tests.schema.conftest import Refused
from tests.schema.stage import ESIGN, METHOD, Actor, Given, Party, Stage, keeps

Outside = Callable[..., AbstractAsyncContextManager[Stage]]
Superuser = psycopg.Connection[tuple[object, ...]]

LOGIN = "select session_id from apiauth.open_session(%s, %s, %s, %s, %s)"
MINT = "select id from apiauth.create_personal_token('a token', %s, 'abcd', '{agreements:read}', %s)"
CREDENTIALS = (
    "sessions", "personal_tokens", "organization_tokens", "environment_keys", "esign_keys", "key_halves", "passwords",
    "seal_keys",
)  # fmt: skip
ENTRANCES = (
    "enter_session", "enter_token", "enter_organization_token", "enter_secret_key", "enter_public_key", "enter_esign",
)  # fmt: skip
UNKNOWN = ("credential_authenticates", "28000")


async def login(stage: Stage, digest: bytes, idle: str = "1 hour", lifetime: str = "1 day") -> Actor:
    await stage.as_nobody(LOGIN, "referrer@example.org", b"referrer", digest, idle, lifetime)
    return Actor(stage, ("enter_session", digest))


async def test_the_email_enters_in_any_case_with_its_password(stage: Stage) -> None:
    for number, email in enumerate(["referrer@example.org", "REFERRER@Example.ORG", "\uff32eferrer@example.org"]):
        assert await stage.as_nobody(LOGIN, email, b"referrer", bytes([number]) * 32, "1 hour", "1 day")


async def test_a_wrong_password_and_an_unknown_email_are_the_same(stage: Stage, refused: Refused) -> None:
    told = []
    for email, key in (("referrer@example.org", b"wrong"), ("nobody@example.org", b"referrer"), ("", b"")):
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification) as refusal:
            async with stage.connection.transaction():
                await stage.as_nobody(LOGIN, email, key, bytes(32), "1 hour", "1 day")
        told.append((refusal.value.diag.constraint_name, refusal.value.diag.message_primary))
    assert len(set(told)) == 1
    assert told[0][0] == "credential_authenticates"


SALT = "select salt from apiauth.find_stretching(%s)"
HOW = "select method from apiauth.find_stretching(%s)"
DEARER = "$argon2id$v=19$m=131072,t=4,p=1"
ANEW = "select apiauth.restretch_password(%s, %s, %s, %s, %s)"


async def test_an_unknown_email_has_a_salt_that_does_not_change(stage: Stage) -> None:
    decoy = await stage.as_nobody.value(SALT, "nobody@example.org")
    assert len(decoy) == 16
    assert decoy == await stage.as_referrer.value(SALT, "NOBODY@example.org")
    assert decoy != await stage.as_nobody.value(SALT, "somebody@example.org")
    assert await stage.as_nobody.value(SALT, "Referrer@example.org") == bytes(16)


async def test_an_unknown_email_is_stretched_as_an_account_might_be(stage: Stage) -> None:
    """Accounts whose cost rose are known by nothing: what is dearer for some of them is dearer for some of all."""
    addresses = [f"nobody{number}@example.org" for number in range(40)]
    assert {await stage.as_nobody.value(HOW, each) for each in addresses} == {METHOD}
    await stage.as_guard(
        "update apiauth.passwords as p set salt = substring(sha256(uuid_send(p.user_id)) from 1 for 16), "
        "method = case when u.email < 'n' then %s else p.method end from shared.users as u where u.id = p.user_id",
        DEARER,
    )
    told = [await stage.as_nobody.value(HOW, each) for each in addresses]
    assert {*told} == {METHOD, DEARER}
    assert told == [await stage.as_nobody.value(HOW, each) for each in addresses], "each keeps his own"
    assert await stage.as_nobody.value(HOW, "judge@example.org") == DEARER
    await stage.as_guard("delete from apiauth.passwords")
    assert await stage.as_nobody.value(HOW, "judge@example.org") is None


async def test_who_proves_a_password_may_have_it_stretched_anew(stage: Stage, refused: Refused) -> None:
    salt, new = b"s" * 16, b"stretched for longer"
    for email, key in (("referrer@example.org", b"wrong"), ("colleague@example.org", b"referrer"), ("", b"referrer")):
        assert await stage.as_nobody.value(ANEW, email, key, salt, new, DEARER) is False
    kept = "select * from apiauth.passwords order by user_id"
    before = await stage.as_guard(kept)
    assert await stage.as_nobody.value(ANEW, "Referrer@example.org", b"referrer", salt, new, DEARER) is True
    assert len({*before} ^ {*await stage.as_guard(kept)}) == 2, "one row changed"
    assert await stage.as_nobody("select * from apiauth.find_stretching('referrer@example.org')") == [(salt, DEARER)]
    assert await stage.as_nobody.value(ANEW, "referrer@example.org", b"referrer", salt, new, DEARER) is False
    async with refused(*UNKNOWN):
        await stage.as_nobody(LOGIN, "referrer@example.org", b"referrer", bytes(32), "1 hour", "1 day")
    assert await stage.as_nobody(LOGIN, "referrer@example.org", new, bytes(32), "1 hour", "1 day")


async def test_nothing_that_is_stored_enters(given: Given, stage: Stage, refused: Refused, as_referrer: Party) -> None:
    """Every column of the credentials, as it stands in a dump, at every entrance and as a password's key."""
    await as_referrer.token("agreements:read")
    stored = set()
    await as_referrer.organization_token("agreements:read")
    await given.keys()
    for table in CREDENTIALS:
        columns = await stage.as_guard(
            "select attname from pg_attribute where attrelid = %s::regclass and atttypid = 'bytea'::regtype "
            "and attnum > 0",
            f"apiauth.{table}",
        )
        for (column,) in columns:
            stored |= {bytes(value) for (value,) in await stage.as_guard(f"select {column} from apiauth.{table}")}
    assert len(stored) > 10
    for value in stored:
        for entrance in ENTRANCES:
            async with refused(*UNKNOWN):
                await Actor(stage, (entrance, value)).enter()
        async with refused(*UNKNOWN):
            await stage.as_nobody(LOGIN, "referrer@example.org", value, bytes(32), "1 hour", "1 day")


async def test_what_is_stored_is_the_digest_of_what_enters(stage: Stage, as_referrer: Party) -> None:
    stored = hashlib.sha256(as_referrer.person.digest).digest()
    assert await stage.as_guard("select user_id from apiauth.sessions where digest = %s", stored) == [
        (as_referrer.user_id,)
    ]
    assert await stage.as_guard("select 1 from apiauth.sessions where digest = %s", as_referrer.person.digest) == []
    assert (
        len(await stage.as_guard("select 1 from apiauth.esign_keys where digest = %s", hashlib.sha256(ESIGN).digest()))
        == 1
    )


@keeps("sessions_stored_as_digest", "personal_tokens_stored_as_digest", "passwords_stored_as_digest",
       "esign_keys_stored_as_digest", "key_halves_stored_as_digest", "organization_tokens_stored_as_digest",
       "environment_keys_stored_as_digest")  # fmt: skip
async def test_nothing_but_a_digest_is_stored(
    given: Given, refused: Refused, as_guard: Actor, as_referrer: Party
) -> None:
    await as_referrer.token("agreements:read")
    await as_referrer.organization_token("agreements:read")
    await given.keys()
    for table, column, proposition in (
        ("sessions", "digest", "sessions_stored_as_digest"),
        ("personal_tokens", "digest", "personal_tokens_stored_as_digest"),
        ("passwords", "key_digest", "passwords_stored_as_digest"),
        ("esign_keys", "digest", "esign_keys_stored_as_digest"),
        ("key_halves", "digest", "key_halves_stored_as_digest"),
        ("organization_tokens", "digest", "organization_tokens_stored_as_digest"),
        ("environment_keys", "digest", "environment_keys_stored_as_digest"),
    ):
        for value in ("tr_pat_" + "x" * 40, "short", ""):
            async with refused(proposition):
                await as_guard(f"update apiauth.{table} set {column} = %s", value.encode())


@keeps("sessions_end_within_30_days", "personal_tokens_end_within_a_year")
async def test_every_credential_has_an_end(refused: Refused, stage: Stage, as_referrer: Party, as_guard: Actor) -> None:
    for lifetime in ("30 days 1 second", "-1 second", "0 seconds"):
        async with refused("sessions_end_within_30_days"):
            await login(stage, b"\3" * 32, lifetime=lifetime)
    for lifetime in ("365 days 1 second", "-1 second", "0 seconds"):
        async with refused("personal_tokens_end_within_a_year"):
            await as_referrer(MINT, b"\3" * 32, lifetime)
    for table, proposition in (
        ("sessions", "sessions_end_within_30_days"),
        ("personal_tokens", "personal_tokens_end_within_a_year"),
    ):
        await as_referrer(MINT, table.encode().ljust(32), "365 days")
        async with refused(proposition):
            await as_guard(f"update apiauth.{table} set expires_at = 'infinity'")
    await login(stage, b"\4" * 32, lifetime="30 days")


@pytest.mark.parametrize("idle", ["0 seconds", "-1 hour", "31 days"])
async def test_a_session_idles_within_bounds(refused: Refused, stage: Stage, idle: str) -> None:
    async with refused("sessions_idle_is_bounded"):
        await login(stage, b"\3" * 32, idle=idle)


@pytest.mark.parametrize(
    "end",
    [
        "expires_at = clock_timestamp(), created_at = clock_timestamp() - interval '1 hour'",
        "last_seen_at = clock_timestamp() - idle",
        "revoked_at = clock_timestamp()",
    ],
    ids=["expired", "idle", "revoked"],
)
async def test_a_session_that_ended_does_not_enter(stage: Stage, refused: Refused, end: str) -> None:
    digest = b"\5" * 32
    session = await login(stage, digest)
    await session.enter()
    await stage.unbound(f"update apiauth.sessions set {end} where digest = sha256(%s)", digest)
    async with refused(*UNKNOWN):
        await session.enter()


@pytest.mark.parametrize(
    "end",
    [
        "expires_at = clock_timestamp(), created_at = clock_timestamp() - interval '1 hour'",
        "revoked_at = clock_timestamp()",
    ],
    ids=["expired", "revoked"],
)
async def test_a_token_that_ended_does_not_enter(stage: Stage, refused: Refused, as_referrer: Party, end: str) -> None:
    digest = b"\5" * 32
    await as_referrer(MINT, digest, "1 day")
    token = Actor(stage, ("enter_token", digest))
    await token.enter()
    await stage.unbound(f"update apiauth.personal_tokens set {end} where digest = sha256(%s)", digest)
    async with refused(*UNKNOWN):
        await token.enter()


async def test_what_is_revoked_does_not_enter_at_the_next_statement(
    stage: Stage, refused: Refused, as_referrer: Party, as_stranger: Party
) -> None:
    digest = b"\6" * 32
    [[number]] = await as_referrer(MINT, digest, "1 day")
    token, revoke = Actor(stage, ("enter_token", digest)), "select apiauth.revoke_personal_token(%s)"
    assert await as_stranger(revoke, number) == [(False,)], "only its own user revokes it"
    await token.enter()
    assert await as_referrer(revoke, number) == [(True,)]
    async with refused(*UNKNOWN):
        await token.enter()
    assert await as_referrer(revoke, number) == [(False,)]
    session = await login(stage, b"\7" * 32)
    assert await session("select apiauth.close_session()") == [(True,)]
    async with refused(*UNKNOWN):
        await session.enter()
    assert await as_referrer("select shared.current_user_id()") == [(as_referrer.user_id,)], "the others stay"


async def test_a_session_ends_others_of_its_user_and_a_token_none(
    stage: Stage, refused: Refused, as_referrer: Party, as_stranger: Party
) -> None:
    one, other = await login(stage, b"\x21" * 32), await login(stage, b"\x22" * 32)
    listed = "select count(*) from apiauth.list_sessions()"
    end, who = "select apiauth.revoke_sessions(%s)", "select (shared.current_actor()).credential_id"
    assert await one(listed) == [(3,)]
    for actor in (as_stranger, await as_referrer.token("tokens:write", "agreements:read")):
        assert await actor(end, await other.value(who)) == [(0,)]
    assert await (await as_referrer.token("tokens:write"))(listed) == [(0,)]
    assert await one(end, await other.value(who)) == [(1,)]
    async with refused(*UNKNOWN):
        await other.enter()
    assert await one("select apiauth.revoke_sessions()") == [(2,)]
    for actor in (one, as_referrer):
        async with refused(*UNKNOWN):
            await actor.enter()
    await as_stranger.enter()


async def test_a_revocation_elsewhere_holds_here_at_once(enter_from_outside: Outside) -> None:
    """The same connection, the next transaction."""
    async with enter_from_outside() as one, enter_from_outside() as other:
        session = await login(one, b"\x08" * 32)
        await one.connection.commit()
        await session.enter()
        await one.connection.commit()
        await Actor(other, session.entrance)("select apiauth.close_session()")
        await other.connection.commit()
        async with one.refused(*UNKNOWN):
            await session.enter()


async def test_a_token_is_listed_without_what_enters(as_referrer: Party, as_stranger: Party) -> None:
    digest = b"\x09" * 32
    await as_referrer(MINT, digest, "1 day")
    [row] = await as_referrer("select t::text from apiauth.list_personal_tokens() as t")
    assert digest.hex() not in row[0]
    assert hashlib.sha256(digest).hexdigest() not in row[0]
    assert await as_stranger("select * from apiauth.list_personal_tokens()") == []


async def used(stage: Stage, digest: bytes) -> object:
    return await stage.as_guard.value(
        "select last_used_at from apiauth.personal_tokens where digest = sha256(%s)", digest
    )


async def test_the_last_use_is_written_once_in_five_minutes(stage: Stage, as_referrer: Party) -> None:
    digest = b"\x0a" * 32
    await as_referrer(MINT, digest, "1 day")
    token = Actor(stage, ("enter_token", digest))
    assert await used(stage, digest) is None
    await token.enter()
    first = await used(stage, digest)
    assert first is not None
    for age, is_written in (("4 minutes 50 seconds", False), ("5 minutes 1 second", True)):
        await stage.as_guard(
            "update apiauth.personal_tokens set last_used_at = clock_timestamp() - %s::interval "
            "where digest = sha256(%s)",
            age, digest,
        )  # fmt: skip
        before = await used(stage, digest)
        await token.enter()
        assert (await used(stage, digest) != before) is is_written


async def test_a_session_moves_when_it_is_seen(stage: Stage) -> None:
    digest = b"\x0b" * 32
    session = await login(stage, digest)
    seen = "select clock_timestamp() - last_seen_at from apiauth.sessions where digest = sha256(%s)"
    await stage.as_guard("update apiauth.sessions set last_seen_at = last_seen_at - interval '59 minutes'")
    await session.enter()
    assert await stage.as_guard.value(seen, digest) < timedelta(minutes=1)


async def test_a_locked_row_keeps_nobody_out(enter_from_outside: Outside, superuser: Superuser) -> None:
    """Whoever holds the row of a credential delays no entrance: its use goes unwritten that once."""
    digests = {"enter_token": b"\x0c" * 32, "enter_session": b"\x0d" * 32}
    async with enter_from_outside() as stage:
        await stage.as_referrer(MINT, digests["enter_token"], "1 day")
        await login(stage, digests["enter_session"])
        await stage.connection.commit()
        superuser.execute(
            "update apiauth.sessions set last_seen_at = last_seen_at - interval '30 minutes' where digest = sha256(%s)",
            [digests["enter_session"]],
        )
        with superuser.transaction():
            superuser.execute("select 1 from apiauth.personal_tokens for update")
            superuser.execute("select 1 from apiauth.sessions for update")
            for entrance, digest in digests.items():
                async with asyncio.timeout(5):
                    actor = Actor(stage, (entrance, digest))
                    assert await actor.value("select shared.current_user_id()") == stage.people["referrer"].user_id
            await stage.connection.commit()


async def test_an_email_registers_once_in_any_case(stage: Stage, refused: Refused) -> None:
    register = "select apiauth.register(%s, 'X', %s, 'k', %s)"
    for email in ("referrer@example.org", "Referrer@EXAMPLE.org", "\uff32eferrer@example.org"):
        async with refused("users_email_in_any_case", "23505"):
            await stage.as_nobody(register, email, bytes(16), METHOD)
