"""Two databases with the same people, one a hundred times the other, and what a query costs in each."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg import AsyncConnection

from app.database import PLANNING
from app.queries import Query
from tests.conftest import Server
from tests.plans.cases import Case
from tests.schema.conftest import build_world
from tests.schema.stage import Stage, World

CROWDS = [Path(__file__).parents[1] / "schema" / "crowd.sql", Path(__file__).with_name("crowd.sql")]
SIZES = {"small": 1_000, "large": 20_000}  # agreements; a tenth as many organizations

# In this very transaction, so that nobody else's reads count; functions and triggers are among them.
SCANNED = """
select relid::regclass::text, seq_tup_read
from pg_stat_xact_user_tables
where seq_tup_read > 0 and schemaname in ('shared', 'apiauth', 'secretstore', 'agreement', 'vote')
"""
# Tables that hold a few rows for ever.
FEW = {
    "shared.axioms", "agreement.transitions", "agreement.referral_transitions", "apiauth.seal_keys",
    "apiauth.root_keys", "apiauth.esign_keys", "apiauth.key_halves", "shared.oracle_results", "shared.platform_admins",
}  # fmt: skip


class Cost(NamedTuple):
    """What a query did: the pages it touched, functions and triggers included, and the rows it read.

    `read` counts the rows that its own plan found and those it found in vain, `sorted` those that it sorted, and
    `scanned` those of tables that were read from end to end, here or in a function.
    """

    pages: int
    read: Mapping[str, float]
    sorted: float
    scanned: dict[str, int]
    text: str


@pytest.fixture(scope="session")
def worlds(server: Server, template: str) -> dict[str, World]:
    """A world of each size."""
    return {name: _crowded(server, template, name, size) for name, size in SIZES.items()}


def _crowded(server: Server, template: str, name: str, size: int) -> World:
    world = build_world(server, template, f"plans_{name}")
    with psycopg.connect(world.superuser_url, autocommit=True) as connection:
        connection.execute("set session_replication_role to replica")
        connection.execute(f"set brokerflow.crowd = {size // 10}".encode())
        connection.execute(f"set brokerflow.size = {size}".encode())
        for path in CROWDS:
            connection.execute(path.read_text().encode())
        connection.execute("vacuum analyze")
    return world


async def cost(world: World, query: Query, case: Case) -> Cost:
    """Run a query as its caller does, as the plan that serves any parameters, and tell what it cost."""
    async with await AsyncConnection.connect(world.superuser_url) as connection:
        connection.prepare_threshold = (
            None  # the statements that psycopg prepares fall with a rollback, and ours with them
        )
        stage = Stage(connection, world)
        try:
            return await _cost(stage, query, case)
        finally:
            await connection.rollback()


async def _cost(stage: Stage, query: Query, case: Case) -> Cost:
    for name, value in PLANNING.items():
        await stage.run(f"set local {name} to {value}")
    actor = await case.actor(stage)
    actor = actor.turned(query.role) if query.role else actor
    values = [await _literal(stage, case.arguments[name]) for name in query.parameters]
    await actor.enter()
    call = f"execute question ({', '.join(values)})" if values else "execute question"
    await stage.run(f"prepare question as {query.sql}")
    # Once for the caches of the connection: the first that runs a function reads the catalog for it.
    await stage.run("savepoint before")
    await stage.run(call)
    await stage.run("rollback to savepoint before")
    before: dict[str, int] = dict(await stage.run(SCANNED))
    [[answer]] = await stage.run(f"explain (analyze, buffers, verbose, timing off, format json) {call}")
    await stage.run("set constraints all immediate")
    after: dict[str, int] = dict(await stage.run(SCANNED))
    [explained] = answer if isinstance(answer, list) else json.loads(answer)
    top = explained["Plan"]
    steps = list(_steps(top))
    read: dict[str, float] = defaultdict(float)
    for step in steps:
        if "Relation Name" in step and step["Schema"] != "pg_catalog":
            read[f"{step['Schema']}.{step['Relation Name']}"] += _rows(step)
    return Cost(
        top["Shared Hit Blocks"] + top["Shared Read Blocks"],
        read,
        sum(_rows(child) for step in steps if "Sort" in step["Node Type"] for child in step["Plans"]),
        {table: rows - before.get(table, 0) for table, rows in after.items() if rows > before.get(table, 0)},
        json.dumps(top, indent=1),
    )


async def _literal(stage: Stage, expression: str) -> str:
    """Return the value of an expression as a literal whose type is not said, as the driver sends it."""
    await stage.become("postgres")
    [[value]] = await stage.run(f"select quote_nullable(({expression})::text)")
    return str(value)


def _steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _steps(child)


def _rows(step: dict[str, Any]) -> float:
    """Return how many rows left a step or were discarded there, in all of its loops."""
    discarded = sum(value for key, value in step.items() if key.startswith("Rows Removed by "))
    return float((step["Actual Rows"] + discarded) * step["Actual Loops"])
