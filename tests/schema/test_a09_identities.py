"""A9: a provider's word counts through one function of one role; an address moves nobody into another's account."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection

from tests.schema.conftest import Refused
from tests.schema.stage import HALF, METHOD, Actor, Party, Stage, World, keeps, waits_for_a_lock

Outside = Callable[..., AbstractAsyncContextManager[Stage]]
Knock = Callable[..., AbstractAsyncContextManager[AsyncConnection[tuple[Any, ...]]]]

ISSUER = "https://id.example"
OPEN = "select apiauth.open_identity_session(%s, %s, %s, %s, %s, %s, interval '1 hour', interval '1 day')"
UNKNOWN = ("credential_authenticates", "28000")
NEWCOMER = "newcomer@example.org"
LIVE = """
select (select count(*) from apiauth.passwords where user_id = %(user)s),
    (select count(*) from apiauth.sessions where user_id = %(user)s and revoked_at is null),
    (select count(*) from apiauth.personal_tokens where user_id = %(user)s and revoked_at is null)
"""


async def log_in(
    stage: Stage, subject: str, email: str | None, *, issuer: str = ISSUER, held: bytes | None = None
) -> Actor:
    """Open a session as the login role; returns who it proves."""
    digest = secrets.token_bytes(32)
    await stage.as_login(OPEN, issuer, subject, email, "Somebody", held, digest)
    return Actor(stage, ("enter_session", digest))


async def live(stage: Stage, user: UUID) -> tuple[int, int, int]:
    """Count a user's passwords, sessions and tokens that open his account."""
    await stage.become("postgres")
    cursor = await stage.connection.execute(LIVE.encode(), {"user": user})
    [row] = await cursor.fetchall()
    return (row[0], row[1], row[2])


async def whose(actor: Actor) -> UUID:
    user: UUID = await actor.value("select shared.current_user_id()")
    return user


@pytest.fixture
def knock(world: World) -> Knock:
    """Log in to PostgreSQL as the login role itself."""

    @asynccontextmanager
    async def connect(**options: Any) -> AsyncIterator[AsyncConnection[tuple[Any, ...]]]:
        async with await AsyncConnection.connect(world.login_url, **options) as connection:
            yield connection

    return connect


async def test_the_login_role_has_one_function_and_nothing_else(stage: Stage) -> None:
    await stage.become("postgres")
    functions = await stage.run(
        "select p.oid::regproc::text from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace "
        "where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' "
        "and has_schema_privilege('brokerflow_login', n.oid, 'usage') "
        "and has_function_privilege('brokerflow_login', p.oid, 'execute')"
    )
    assert functions == [("apiauth.open_identity_session",)]
    relations = await stage.run(
        "select c.oid::regclass::text from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "
        "where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and c.relkind in ('r', 'p', 'v', 'm', 'f') "
        "and (has_table_privilege('brokerflow_login', c.oid, 'select, insert, update, delete, truncate') "
        "or has_any_column_privilege('brokerflow_login', c.oid, 'select, insert, update'))"
    )
    assert relations == []
    others = await stage.run(
        "select r.rolname::text from pg_proc as p, aclexplode(p.proacl) as a join pg_roles as r on r.oid = a.grantee "
        "where p.oid = 'apiauth.open_identity_session'::regproc and a.grantee <> p.proowner"
    )
    assert others == [("brokerflow_login",)]


@pytest.mark.parametrize(
    "statement",
    [
        "select * from shared.users",
        "select * from shared.axioms",
        "select * from apiauth.identities",
        "select * from apiauth.sessions",
        "delete from apiauth.identities",
        "insert into shared.audit_log (action, subject, outcome) values ('a', 'b', 'done')",
        "select apiauth.enter_session(sha256('x'))",
        "select apiauth.open_session('newcomer@example.org', 'newcomer', sha256('x'), interval '1 hour', '1 day')",
        "select apiauth.begin_session(gen_random_uuid(), sha256('x'), interval '1 hour', interval '1 day')",
        "select apiauth.link_identity('https://id.example', 'x', 'newcomer@example.org', 'x', null)",
        "select apiauth.disown(gen_random_uuid())",
        "select shared.grant_platform_admin('newcomer@example.org')",
        "set role brokerflow_app",
        "set role brokerflow_guard",
        "create temporary table t (id integer)",
        "create schema s",
        "create table public.t (id integer)",
        "alter role brokerflow_login createrole",
        "copy apiauth.sessions to stdout",
    ],
)
async def test_a_thief_of_the_login_role_gets_no_further(knock: Knock, statement: str) -> None:
    async with knock(autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(statement.encode())


async def test_it_opens_nothing_for_a_user_whom_it_only_knows_by_his_id(knock: Knock, world: World) -> None:
    arguments = [ISSUER, str(world.people["referrer"].user_id), None, "x", None, bytes(32)]
    async with knock() as connection:
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification) as refusal:
            await connection.execute(OPEN.encode(), arguments)
        assert refusal.value.diag.constraint_name == "credential_authenticates"


async def test_the_service_opens_no_session_on_its_word(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as stage:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await stage.as_nobody(OPEN, ISSUER, "x", NEWCOMER, "x", None, bytes(32))


async def test_a_first_login_makes_a_user_of_no_organization(stage: Stage) -> None:
    actor = await log_in(stage, "1", "Ada@Example.org")
    user = await whose(actor)
    assert await actor("select email, full_name from shared.users") == [("Ada@Example.org", "Somebody")]
    assert await actor.value("select shared.current_organization_id()") is None
    trail = await stage.as_auditor(
        "select action, user_id, detail ->> 'is_new_user', detail ->> 'is_disowned' from shared.audit_log "
        "where subject = %s order by id",
        f"user/{user}",
    )
    assert trail == [
        ("identity.link", None, "true", "false"),
        ("session.open", None, None, None),
    ]


async def test_an_identity_is_found_again_whatever_became_of_the_address(stage: Stage) -> None:
    user = await whose(await log_in(stage, "1", "ada@example.org"))
    for email in (None, "ada@elsewhere.example", NEWCOMER):
        assert await whose(await log_in(stage, "1", email)) == user
    [[identity]] = await stage.as_guard("select id from apiauth.identities where user_id = %s", user)
    rows = await stage.as_auditor(
        "select detail ->> 'identity_id' from shared.audit_log where action = 'session.open' and subject = %s",
        f"user/{user}",
    )
    assert rows == [(str(identity),)] * 4


async def test_an_address_that_is_not_verified_links_nothing(stage: Stage, refused: Refused) -> None:
    async with refused(*UNKNOWN):
        await log_in(stage, "1", None)
    assert await stage.as_guard("select from apiauth.identities") == []


@pytest.mark.parametrize("email", ["root", "root@localhost", "", f"{'x' * 300}@example.org"])
async def test_an_address_that_is_none_links_nothing(stage: Stage, refused: Refused, email: str) -> None:
    async with refused("users_email_is_an_address", "28000"):
        await log_in(stage, "1", email)


@keeps("identities_of_one_user")
async def test_an_identity_is_one_users(stage: Stage, refused: Refused) -> None:
    await log_in(stage, "1", "ada@example.org")
    await log_in(stage, "1", "ada@example.org", issuer="https://other.example")
    async with refused("identities_of_one_user"):
        await stage.as_guard(
            "insert into apiauth.identities (user_id, issuer, subject) values (%s, %s, '1')",
            stage.people["referrer"].user_id, ISSUER,
        )  # fmt: skip


@keeps("identities_one_a_user_an_issuer")
async def test_an_address_that_went_to_another_person_opens_nothing(stage: Stage, refused: Refused) -> None:
    await log_in(stage, "1", "ada@example.org")
    async with refused("identities_one_a_user_an_issuer", "28000"):
        await log_in(stage, "2", "ada@example.org")


@pytest.mark.parametrize("email", ["newcomer@example.org", "NEWCOMER@Example.ORG"])
async def test_a_squatter_is_put_out_when_the_owner_of_the_address_comes(stage: Stage, email: str) -> None:
    """Whoever registered the address with a password, he never showed that it is his."""
    squatter, user = stage.party("newcomer"), stage.people["newcomer"].user_id
    token = await squatter.token("agreements:read")
    assert await live(stage, user) == (1, 1, 1)
    owner = await log_in(stage, "1", email)
    assert await whose(owner) == user
    assert await live(stage, user) == (0, 1, 0)
    for actor in (squatter, token):
        async with stage.refused(*UNKNOWN):
            await actor.enter()
    async with stage.refused(*UNKNOWN):
        await stage.as_nobody(
            "select apiauth.open_session(%s, %s, %s, interval '1 hour', interval '1 day')",
            NEWCOMER,
            b"newcomer",
            bytes(32),
        )
    rows = await stage.as_auditor(
        "select detail ->> 'is_new_user', detail ->> 'is_disowned' from shared.audit_log where action = 'identity.link'"
    )
    assert rows == [("false", "true")]


async def test_a_machine_that_the_squatter_let_in_stays_out(stage: Stage) -> None:
    user, device, shown = stage.people["newcomer"].user_id, secrets.token_bytes(32), secrets.token_bytes(32)
    ask = "select apiauth.request_device(%s, %s, 'x', null, '{agreements:read}', interval '1 day')"
    await stage.as_nobody(ask, device, shown)
    assert await stage.as_newcomer.value("select apiauth.decide_device(%s, true)", shown)
    await log_in(stage, "1", NEWCOMER)
    redeemed = "select outcome from apiauth.redeem_device(%s, %s, 'abcd')"
    assert await stage.as_nobody.value(redeemed, device, secrets.token_bytes(32)) == "invalid_grant"
    assert await live(stage, user) == (0, 1, 0)


async def test_who_holds_the_account_and_the_address_keeps_both(stage: Stage) -> None:
    newcomer = stage.people["newcomer"]
    await log_in(stage, "1", NEWCOMER, held=newcomer.digest)
    assert await live(stage, newcomer.user_id) == (1, 2, 0)
    assert await whose(stage.as_newcomer) == newcomer.user_id


@pytest.mark.parametrize(("of", "half", "left"), [(NEWCOMER, HALF, (1, 1)), ("rival@example.org", HALF, (0, 1)),
                                                  (NEWCOMER, bytes(32), (0, 1))])  # fmt: skip
async def test_a_session_that_lives_elsewhere_shows_the_same(
    stage: Stage, of: str, half: bytes, left: tuple[int, int]
) -> None:
    """Unless its ticket is another's, or was not sealed here."""
    digest, opened = secrets.token_bytes(32), secrets.token_bytes(32)
    key = of.partition("@")[0].encode()
    await stage.as_nobody("select apiauth.open_session(%s, %s, %s, '1 hour', '1 day')", of, key, digest)
    ticket = await stage.as_nobody.value("select apiauth.exchange_session(%s, %s)", digest, HALF)
    user = stage.people["newcomer"].user_id
    await stage.as_guard("update apiauth.sessions set revoked_at = now() where user_id = %s", user)
    await stage.as_login(
        "select apiauth.open_identity_session(%s, '1', %s, 'x', %s, %s, '1 hour', '1 day', %s, %s)",
        ISSUER, NEWCOMER, digest, opened, ticket, half,
    )  # fmt: skip
    assert (await live(stage, user))[:2] == left


@pytest.mark.parametrize("ended", ["revoked_at = now()", "created_at = now() - interval '1 day', expires_at = now()",
                                   "last_seen_at = now() - interval '2 hours'", "user_id = %(other)s"])  # fmt: skip
async def test_a_session_that_ended_or_is_anothers_holds_nothing(stage: Stage, ended: str) -> None:
    newcomer = stage.people["newcomer"]
    await stage.become("postgres")
    await stage.connection.execute(
        f"update apiauth.sessions set {ended} where user_id = %(user)s".encode(),
        {"user": newcomer.user_id, "other": stage.people["rival"].user_id},
    )
    await log_in(stage, "1", NEWCOMER, held=newcomer.digest)
    assert await live(stage, newcomer.user_id) == (0, 1, 0)


async def test_an_account_whose_address_was_shown_before_keeps_its_password(stage: Stage) -> None:
    newcomer = stage.people["newcomer"]
    await log_in(stage, "1", NEWCOMER, held=newcomer.digest)
    assert await whose(await log_in(stage, "1", NEWCOMER, issuer="https://other.example")) == newcomer.user_id
    assert await live(stage, newcomer.user_id) == (1, 3, 0)


@pytest.mark.parametrize("email", ["\uff4eewcomer@example.org", "newcomer@e\uff58ample.org"])
async def test_an_address_that_only_looks_alike_opens_nothing(stage: Stage, refused: Refused, email: str) -> None:
    async with refused("users_email_in_any_case", "28000"):
        await log_in(stage, "1", email)


async def test_the_case_of_a_letter_beyond_ascii_makes_another_address(stage: Stage, refused: Refused) -> None:
    await log_in(stage, "1", "kim@example.org")
    async with refused("users_email_in_any_case", "28000"):
        await log_in(stage, "2", "\u212aim@example.org")  # the sign of Kelvin, whose lower case is k


@pytest.mark.parametrize(
    ("issuer", "subject", "constraint"),
    [
        ("id.example", "1", "identities_issuer_is_a_url"),
        (ISSUER, "", "identities_subject_is_short_ascii"),
        (ISSUER, "x" * 256, "identities_subject_is_short_ascii"),
        (ISSUER, "\u00e9", "identities_subject_is_short_ascii"),
    ],
)
async def test_an_identity_is_well_formed(
    stage: Stage, refused: Refused, issuer: str, subject: str, constraint: str
) -> None:
    async with refused(constraint):
        await log_in(stage, subject, "ada@example.org", issuer=issuer)


async def _register(stage: Stage) -> tuple[str, UUID, bytes]:
    email, digest = f"{secrets.token_hex(8)}@example.org", secrets.token_bytes(32)
    [[user]] = await stage.run("select (apiauth.register(%s, 'x', %s, 'key', %s)).id", email, bytes(16), METHOD)
    await stage.run("select apiauth.open_session(%s, 'key', %s, interval '1 hour', interval '1 day')", email, digest)
    await stage.connection.commit()
    return email, user, digest


async def test_a_login_that_was_under_way_does_not_outlive_the_squatter(
    enter_from_outside: Outside, knock: Knock, stage: Stage
) -> None:
    """The password was right a moment ago: either its session is put out too, or it is none."""
    async with enter_from_outside() as squatter, knock() as owner:
        email, user, _ = await _register(squatter)
        await squatter.run(
            "select apiauth.open_session(%s, 'key', %s, interval '1 hour', interval '1 day')",
            email,
            secrets.token_bytes(32),
        )
        moving_in = asyncio.create_task(
            owner.execute(OPEN.encode(), [ISSUER, email, email, "x", None, secrets.token_bytes(32)])
        )
        await stage.become("postgres")
        await waits_for_a_lock(stage, Stage(owner, squatter.world))
        await squatter.connection.commit()
        await moving_in
        await owner.commit()
    assert await live(stage, user) == (0, 1, 0)


@pytest.mark.parametrize("kind", ["session", "token"])
async def test_a_token_that_was_being_made_does_not_outlive_the_squatter(
    enter_from_outside: Outside, knock: Knock, stage: Stage, kind: str
) -> None:
    async with enter_from_outside() as squatter, knock() as owner:
        email, user, digest = await _register(squatter)
        mint = "select apiauth.create_personal_token('x', %s, 'abcd', '{tokens:write}', interval '1 day')"
        maker = Actor(squatter, ("enter_session", digest))
        if kind == "token":
            first = secrets.token_bytes(32)
            await maker(mint, first)
            maker = Actor(squatter, ("enter_token", first))
            await squatter.connection.commit()
        await maker(mint, secrets.token_bytes(32))
        moving_in = asyncio.create_task(
            owner.execute(OPEN.encode(), [ISSUER, email, email, "x", None, secrets.token_bytes(32)])
        )
        await stage.become("postgres")
        await waits_for_a_lock(stage, Stage(owner, squatter.world))
        await squatter.connection.commit()
        await moving_in
        await owner.commit()
    assert await live(stage, user) == (0, 1, 0)


async def test_a_token_is_not_made_of_a_session_that_is_being_put_out(
    enter_from_outside: Outside, knock: Knock, stage: Stage
) -> None:
    async with enter_from_outside() as squatter, knock() as owner:
        email, user, digest = await _register(squatter)
        maker = Actor(squatter, ("enter_session", digest))
        await maker.enter()
        await owner.execute(OPEN.encode(), [ISSUER, email, email, "x", None, secrets.token_bytes(32)])
        making = asyncio.create_task(
            squatter.run(
                "select apiauth.create_personal_token('x', %s, 'abcd', '{tokens:write}', interval '1 day')", bytes(32)
            )
        )
        await stage.become("postgres")
        await waits_for_a_lock(stage, squatter)
        await owner.commit()
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
            await making
        await squatter.connection.rollback()
    assert await live(stage, user) == (0, 1, 0)


async def test_two_first_logins_at_once_are_one_user(knock: Knock, stage: Stage, world: World) -> None:
    email, digests = f"{secrets.token_hex(8)}@example.org", [secrets.token_bytes(32) for _ in range(2)]
    async with knock() as one, knock() as other:
        await one.execute(OPEN.encode(), [ISSUER, email, email, "x", None, digests[0]])
        late = asyncio.create_task(other.execute(OPEN.encode(), [ISSUER, email, email, "x", None, digests[1]]))
        await stage.become("postgres")
        await waits_for_a_lock(stage, Stage(other, world))
        await one.commit()
        await late
        await other.commit()
    users = {await whose(Actor(stage, ("enter_session", digest))) for digest in digests}
    assert len(users) == 1


async def test_the_auditor_reads_no_identity(stage: Stage, as_referrer: Party) -> None:
    for actor in (stage.as_auditor, as_referrer):
        async with stage.refused(sqlstate="42501"):
            await actor("select from apiauth.identities")
