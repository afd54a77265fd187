"""Who is there: three brokers, and actors who work for them or for none, made through the service's entrances."""

import hashlib
import os

from psycopg import AsyncConnection, AsyncRawCursor

from app.queries import register_adapters
from app.shared import tokens
from app.shared.tokens import Prefix
from app.stress.actors import EACH, KINDS, Actor, Kind, Person, Scene
from app.stress.ways import Answer, Sql, Statement, query_of

FOUNDERS = {"north": "creator-1", "south": "accepter-1", "west": "stranger-1"}


async def populate(scene: Scene, app_url: str, superuser_url: str, esign_key: bytes, start: str) -> list[Actor]:
    """Make the brokers and the actors; followers follow from `start`, the id of an event that is to come."""
    sql = Sql(app_url)
    try:
        await _said(sql, None, "trust", digest=hashlib.sha256(esign_key).digest())
        people = {name: await _register(sql, name) for name in _names()}
        for broker, founder in FOUNDERS.items():
            scene.brokers[broker] = await _found(sql, broker, people[founder])
        for name in people:
            people[name] = await _employed(sql, scene, people, name)
    finally:
        await sql.close()
    await _appoint(superuser_url, [name for name in people if name.startswith("judge")])
    scene.accepters = [people[name].id for name in people if name.startswith("accepter")]
    return [
        Actor(name, index, person, scene, Sql(app_url), newest=start)
        for index, (name, person) in enumerate(people.items(), 1)
    ]


def _names() -> list[str]:
    return [f"{kind}-{number}" for kind in KINDS for number in range(1, EACH + 1)]


def _email(name: str) -> str:
    return f"{name}@stress.brokerflow.example"


async def _register(sql: Sql, name: str) -> Person:
    """Register somebody with a session. Nobody types a password, so none is stretched: the key is random."""
    key, token = os.urandom(32), tokens.mint(Prefix.SESSION)
    user = await _said(sql, None, "register", email=_email(name), name=name, key=key)
    await _said(sql, None, "log_in", email=_email(name), key=key, digest=tokens.digest(token))
    return Person(str(user.body["id"]), token, None)


async def _found(sql: Sql, broker: str, founder: Person) -> str:
    made = await _said(sql, founder, "found", title=broker.title(), slug=broker)
    await _said(sql, founder, "found_broker", organization_id=made.body["id"], name=broker.title())
    return str(made.body["id"])


async def _employed(sql: Sql, scene: Scene, people: dict[str, Person], name: str) -> Person:
    """Let somebody join the broker that he works for, where he has not founded it."""
    person, kind = people[name], KINDS[name.partition("-")[0]]
    if (broker := _broker(kind, name)) is None:
        return person
    if FOUNDERS[broker] != name:
        founder = people[FOUNDERS[broker]]
        await _said(
            sql, founder, "join_broker", organization_id=scene.brokers[broker], email=_email(name), role=kind.role
        )
    return Person(person.id, person.token, scene.brokers[broker])


def _broker(kind: Kind, name: str) -> str | None:
    if kind.broker == "either":
        return "north" if name.endswith("-1") else "south"
    return kind.broker


async def _said(sql: Sql, person: Person | None, query: str, **parameters: object) -> Answer:
    """Run a statement of sql/stress/town.sql that succeeds."""
    answer = await sql.run(None if person is None else person.credential, Statement(query, parameters))
    assert answer.is_committed, f"{query}: {answer}"  # noqa: S101 - nothing is in its way yet
    return answer


async def _appoint(superuser_url: str, names: list[str]) -> None:
    query = query_of("appoint")
    async with await AsyncConnection.connect(superuser_url, cursor_factory=AsyncRawCursor) as connection:
        register_adapters(connection)
        for name in names:
            await connection.execute(query.sql.encode(), [_email(name)])
