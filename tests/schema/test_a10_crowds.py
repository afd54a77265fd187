"""A10: among ten thousand of each, no entrance and no list reads a table of credentials from end to end."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import AsyncConnection

from tests.conftest import Server
from tests.schema.conftest import build_world
from tests.schema.stage import Actor, Stage, World

CROWD = Path(__file__).with_name("crowd.sql").read_text()
# At most three rows each, whoever comes.
FEW = {"apiauth.seal_keys", "apiauth.root_keys"}
TABLES = "select oid::regclass::text from pg_class where relkind = 'r' and relnamespace = 'apiauth'::regnamespace"
# In this very transaction, so that nobody else's scans count.
SCANNED = "select relid::regclass::text from pg_stat_xact_user_tables where schemaname = 'apiauth' and seq_scan > 0"

Act = Callable[[Stage], Awaitable[object]]


@pytest.fixture(scope="module")
def crowded(server: Server, template: str) -> World:
    """A world with ten thousand organizations beside those of its people."""
    world = build_world(server, template, "crowded")
    with psycopg.connect(world.superuser_url, autocommit=True) as connection:
        connection.execute("set session_replication_role to replica")
        connection.execute("set brokerflow.crowd = 10000")
        connection.execute(CROWD.encode())
        connection.execute("analyze")
    return world


@pytest.fixture
async def crowd(crowded: World) -> AsyncIterator[Stage]:
    """A transaction in it that is rolled back, whose plans serve any parameters."""
    async with await AsyncConnection.connect(crowded.superuser_url) as connection:
        stage = Stage(connection, crowded)
        await stage.run("set local plan_cache_mode to force_generic_plan")
        try:
            yield stage
        finally:
            await connection.rollback()


async def test_every_table_of_credentials_is_crowded(crowd: Stage) -> None:
    for (table,) in await crowd.run(TABLES):
        if table not in FEW:
            assert (await crowd.run(f"select count(*) from {table}"))[0][0] >= 10_000, f"{table} says nothing"


async def program(stage: Stage, kind: str) -> Actor:
    """Return a bearer of each kind, of the referrer's organization."""
    referrer = stage.party("referrer")
    match kind:
        case "session":
            return referrer
        case "personal_token":
            return await referrer.token("tokens:write", "organizations:write")
        case "organization_token":
            return await referrer.organization_token("tokens:write")
        case "esign":
            return stage.as_esign
    environment = await stage.given.environment("PREVIEW")
    await stage.given.branch(environment)
    secret, public = await stage.given.keys(environment, branch="main")
    if kind == "public_key":
        return public
    return secret if kind == "secret_key" else await stage.given.jwt(secret, one_time=kind == "one-time jwt")


async def scanned(stage: Stage) -> set[str]:
    return {table for (table,) in await stage.as_postgres(SCANNED)} - FEW


@pytest.mark.parametrize(
    "kind",
    ["session", "personal_token", "organization_token", "secret_key", "public_key", "jwt", "one-time jwt", "esign"],
)
async def test_an_entrance_finds_its_credential_by_an_index(crowd: Stage, kind: str) -> None:
    """And what was done to make the credential scans nothing either."""
    actor = await program(crowd, kind)
    await actor.enter()
    assert await scanned(crowd) == set()
    await crowd.run("set local enable_indexscan to off")
    await crowd.run("set local enable_indexonlyscan to off")
    await crowd.run("set local enable_bitmapscan to off")
    await crowd.run("discard plans")
    await actor.enter()
    assert await scanned(crowd) != set(), "the count tells nothing"


COMMANDS = """
select * from apiauth.list_sessions()
select * from apiauth.list_personal_tokens()
select * from apiauth.list_organization_tokens(%(organization)s, null, 100)
select * from apiauth.list_organization_tokens(%(organization)s, gen_random_uuid(), 100)
select apiauth.revoke_sessions(gen_random_uuid())
select apiauth.revoke_sessions(null)
select apiauth.revoke_personal_token(gen_random_uuid())
select apiauth.revoke_organization_token(%(organization)s, gen_random_uuid())
select * from apiauth.find_stretching('user-77@example.net')
select * from apiauth.find_stretching('nobody@example.net')
select apiauth.restretch_password('user-77@example.net', sha256('x'), sha256('y'), sha256('z'), '-')
select apiauth.open_session('user-77@example.net', 'password77', sha256('x'), interval '1 hour', interval '1 day')
select apiauth.take_attempt('login', 10, interval '1 minute')
select * from apiauth.find_device(sha256('x'))
select apiauth.decide_device(sha256('x'), true)
select * from apiauth.redeem_device(sha256('x'), sha256('y'), 'abcd')
"""


@pytest.mark.parametrize("command", COMMANDS.strip().splitlines())
async def test_a_command_finds_credentials_by_an_index(crowd: Stage, command: str) -> None:
    referrer = crowd.party("referrer")
    await referrer.organization_token("tokens:write")
    await referrer.enter()
    await crowd.connection.execute(command.encode(), {"organization": referrer.organization_id})
    assert await scanned(crowd) == set()


LISTED = """
select id from apiauth.organization_tokens where organization_id = $1 and revoked_at is null order by id desc limit 100
select id from apiauth.personal_tokens where user_id = $1 and revoked_at is null order by id desc limit 100
select s.id from apiauth.sessions as s where s.user_id = $1 and s.revoked_at is null
select k.id from apiauth.environment_keys as k where k.environment_id = $1 for update
select i.id from apiauth.identities as i where i.user_id = $1
"""


@pytest.mark.parametrize("question", LISTED.strip().splitlines())
async def test_whose_credentials_are_asked_for_is_in_the_plan(crowd: Stage, question: str) -> None:
    """As EXPLAIN tells it: an index, and its condition names the owner."""
    await crowd.run(f"prepare question (uuid) as {question}")
    plan = "\n".join(line for (line,) in await crowd.run("explain execute question (gen_random_uuid())"))
    assert "Seq Scan" not in plan
    assert "Index Cond: " in plan
    assert " = $1" in plan
