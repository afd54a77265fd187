"""The people of a brokerage as fixtures: `await as_referrer("update ...")` is one statement of his."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection

from tests.conftest import PREFIX, Server, _copy_grants, _create
from tests.schema.stage import ESIGN, HALF, METHOD, Actor, Given, Party, Person, Stage, World

Refused = Callable[..., AbstractAsyncContextManager[None]]


class Role(NamedTuple):
    """What a person is in an organization."""

    organization: str
    role: str


ORGANIZATIONS = {"north": "referrer", "south": "mentor", "east": "rival", "west": "stranger"}
PEOPLE = {
    "referrer": Role("north", "owner"),  # opens referrals
    "colleague": Role("north", "agent"),  # works for the same broker
    "viewer": Role("north", "viewer"),
    "mentor": Role("south", "owner"),
    "referee": Role("south", "agent"),  # takes referrals
    "rival": Role("east", "owner"),  # would take them as well
    "stranger": Role("west", "owner"),  # a broker who has nothing to do with any of them
    "newcomer": None,  # registered, of no organization
    "judge": None,  # a platform admin
    "partisan": Role("south", "viewer"),  # a platform admin, but a member of a party
}


@pytest.fixture(scope="session")
def world(server: Server, template: str) -> World:
    """A database with four brokers and ten people, built by the service's own role."""
    return build_world(server, template, "world")


def build_world(server: Server, template: str, name: str) -> World:
    """Build one more such database."""
    name = f"{PREFIX}{server.run}_{name}"
    _create(server.admin, name, template)
    _copy_grants(server.admin, template, name)
    database = server.database(name)
    empty = World(database.app_url, database.login_url, database.superuser_url, {})
    people = asyncio.run(_populate(empty))
    return empty._replace(people=people)


async def _populate(world: World) -> dict[str, Person]:
    async with await AsyncConnection.connect(world.app_url) as connection:
        stage = Stage(connection, world)
        people = {name: await _register(stage, name) for name in PEOPLE}
        stage.people = people
        await stage.run("select apiauth.trust_esign_keys(%s)", [ESIGN])
        await stage.run("select apiauth.trust_key_halves(%s)", [HALF])
        await connection.commit()
        organizations = {name: await _found(stage, name, founder) for name, founder in ORGANIZATIONS.items()}
        for name, role in PEOPLE.items():
            if role is not None:
                people[name] = people[name]._replace(organization_id=organizations[role.organization])
                if ORGANIZATIONS[role.organization] != name:
                    await _join(stage, people[name], role)
    async with await AsyncConnection.connect(world.superuser_url) as connection:
        for name in ("judge", "partisan"):
            await connection.execute("select shared.grant_platform_admin(%s)", [f"{name}@example.org"])
    return people


async def _register(stage: Stage, name: str) -> Person:
    email, key, digest = f"{name}@example.org", name.encode(), hashlib.sha256(f"session of {name}".encode()).digest()
    [[user_id]] = await stage.run(
        "select (apiauth.register(%s, %s, %s, %s, %s)).id", email, name, bytes(16), key, METHOD
    )
    await stage.run("select apiauth.open_session(%s, %s, %s, interval '1 hour', interval '1 day')", email, key, digest)
    return Person(name, user_id, None, digest)


async def _found(stage: Stage, name: str, founder: str) -> UUID:
    actor = stage.party(founder)
    organization: UUID = await actor.value("select (shared.create_organization(%s, %s)).id", name.title(), name)
    await actor("select agreement.register_broker(%s, %s, '12-3456789')", organization, name.title())
    await stage.connection.commit()
    return organization


async def _join(stage: Stage, person: Person, role: Role) -> None:
    await stage.party(ORGANIZATIONS[role.organization])(
        "select shared.add_member(%s, %s, %s)", person.organization_id, f"{person.name}@example.org", role.role
    )
    await stage.connection.commit()


LOGGED_IN_AT: dict[str, float] = {}
# Makes sessions young again: who rises or is idle in a test shall not depend on when it runs.
LOG_IN_AGAIN = """
update apiauth.sessions set created_at = clock_timestamp(), last_seen_at = clock_timestamp()
where revoked_at is null and expires_at > clock_timestamp()
"""


async def _log_in_again(world: World) -> None:
    now = time.monotonic()
    if now - LOGGED_IN_AT.setdefault(world.superuser_url, now) > 60:
        LOGGED_IN_AT[world.superuser_url] = now
        async with await AsyncConnection.connect(world.superuser_url) as connection:
            await connection.execute(LOG_IN_AGAIN)


Warm = dict[str, AsyncConnection[tuple[Any, ...]]]


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Connections that one test takes after the other, by URL: PostgreSQL compiles and plans the rules once for all."""
    kept: Warm = {}
    yield kept
    for connection in kept.values():
        connection.pgconn.finish()  # there is no event loop any more


async def _taken(kept: Warm, url: str) -> AsyncConnection[tuple[Any, ...]]:
    """Return the connection to a URL, without what a rollback leaves; a new one where its database was dropped."""
    try:
        if url in kept:
            await kept[url].execute("deallocate all")
            await kept[url].rollback()
    except psycopg.OperationalError:
        await kept.pop(url).close()
    if url not in kept:
        kept[url] = await AsyncConnection.connect(url)
    return kept[url]


@pytest.fixture
async def stage(world: World, warm: Warm) -> AsyncIterator[Stage]:
    """A transaction in which actors take turns; it is rolled back."""
    await _log_in_again(world)
    connection = await _taken(warm, world.superuser_url)
    try:
        yield Stage(connection, world)
    finally:
        await connection.rollback()


@pytest.fixture
def enter_from_outside(world: World) -> Callable[[], AbstractAsyncContextManager[Stage]]:
    """Open further stages, each on a login of the service's role, for what must be committed or meet another."""

    @asynccontextmanager
    async def open_stage(**options: Any) -> AsyncIterator[Stage]:
        async with await AsyncConnection.connect(world.app_url, **options) as connection:
            yield Stage(connection, world)

    return open_stage


@pytest.fixture
def superuser(world: World) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A superuser's connection beside the stage; it commits."""
    with psycopg.connect(world.superuser_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def given(stage: Stage) -> Given:
    """What a test begins with."""
    return stage.given


@pytest.fixture
def refused(stage: Stage) -> Refused:
    """Expect a refusal, by the name of the constraint."""
    return stage.refused


def _actor(name: str) -> Any:
    def actor(stage: Stage) -> Actor:
        found = getattr(stage, name)
        assert isinstance(found, Actor)
        return found

    return pytest.fixture(actor, name=name)


as_referrer = _actor("as_referrer")
as_colleague = _actor("as_colleague")
as_viewer = _actor("as_viewer")
as_mentor = _actor("as_mentor")
as_referee = _actor("as_referee")
as_rival = _actor("as_rival")
as_stranger = _actor("as_stranger")
as_newcomer = _actor("as_newcomer")
as_judge = _actor("as_judge")
as_partisan = _actor("as_partisan")
as_esign = _actor("as_esign")
as_nobody = _actor("as_nobody")
as_owner = _actor("as_owner")
as_guard = _actor("as_guard")
as_vault = _actor("as_vault")
as_auditor = _actor("as_auditor")
as_login = _actor("as_login")
as_worker = _actor("as_worker")
as_postgres = _actor("as_postgres")

__all__ = ["Party", "Refused"]
