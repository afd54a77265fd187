"""A database with a long legal history, and the oracles to be asked about it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import dict_row

from app import oracles
from app.oracles import Oracle
from app.queries import number
from tests.conftest import Server
from tests.oracles.history import Scene, play
from tests.schema.conftest import build_world
from tests.schema.stage import Stage, World

ORACLES = {oracle.id: oracle for oracle in oracles.load()}
PLANTED = Path(__file__).with_name("plants")

Ask = Callable[[str], Awaitable[list[dict[str, Any]]]]


class Plant(NamedTuple):
    """What is done to the history, and what its oracle says of it."""

    oracle: str
    finding: str
    statements: list[str]

    def __str__(self) -> str:
        """Name the test."""
        return f"{self.oracle} {self.finding}"


def plants() -> Iterator[Plant]:
    """Read plants/o01.sql and the like: below each finding the statements that plant it, `:name` an id of the scene.

    A superuser whom no trigger and no foreign key stops runs them; what a CHECK or a key would stop is dropped first.
    """
    for path in sorted(PLANTED.glob("o*.sql")):
        for text in path.read_text().split("\n\n"):
            finding, *lines = text.splitlines()
            statements = "\n".join(lines).split(";\n")
            yield Plant(
                f"O{int(path.stem[1:])}", finding.removeprefix("-- "), [each.rstrip(";") for each in statements]
            )


async def set_up(stage: Stage, scene: Scene, plant: Plant) -> None:
    """Plant a violation."""
    await stage.become("postgres")
    await stage.run((PLANTED / "helpers.sql").read_text())
    await stage.run("set local session_replication_role to replica")
    async with AsyncRawCursor(stage.connection) as cursor:
        for statement in plant.statements:
            text, names = number(statement)
            await cursor.execute(text.encode(), [scene[name] for name in names])
    if "session_replication_role" not in plant.statements[0]:
        await stage.run("set local session_replication_role to origin")


@pytest.fixture(scope="session")
def world(server: Server, template: str) -> World:
    """The people of the history."""
    return build_world(server, template, "oracles")


@pytest.fixture(scope="session")
def scene(world: World) -> Scene:
    """The history, committed; ids by name."""
    return asyncio.run(play(world))


@pytest.fixture
async def stage(world: World, scene: Scene) -> AsyncIterator[Stage]:
    """A superuser's transaction after the history; it is rolled back."""
    async with await AsyncConnection.connect(world.superuser_url) as connection:
        try:
            yield Stage(connection, world)
        finally:
            await connection.rollback()


@pytest.fixture
def ask(stage: Stage) -> Ask:
    """Ask one oracle, as the auditor, what it finds in the stage's transaction."""

    async def ask(name: str) -> list[dict[str, Any]]:
        return await answer(stage, ORACLES[name])

    return ask


async def answer(stage: Stage, oracle: Oracle) -> list[dict[str, Any]]:
    """Return the rows of an oracle, as names and values."""
    await stage.become("brokerflow_auditor")
    await stage.run("select set_config('search_path', '', true)")
    async with AsyncRawCursor(stage.connection, row_factory=dict_row) as cursor:
        await cursor.execute(*oracles.statement(oracle, oracles.MANIFEST.read_text()))
        return await cursor.fetchall()
