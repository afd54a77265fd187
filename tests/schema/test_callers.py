"""Whoever asks PostgreSQL something may ask it: each statement is planned as its role, and every right looked at."""

import pytest

from app import oracles, queries
from app.database import ENTRANCES
from app.queries import Query
from tests.schema.stage import APP, AUDITOR, Stage, keeps

SQL = queries.ROOT.parent
QUERIES = [query for domain in sorted(queries.ROOT.iterdir()) for query in queries.load(domain.name).values()]
DEEDS = [query for query in queries.load("stress", SQL).values() if query.path.stem == "deeds"]


async def begin(stage: Stage, role: str, statement: str, parameters: int) -> None:
    """Plan a statement for any parameters, and begin it: PostgreSQL looks at each right before the first row."""
    await stage.run("set local plan_cache_mode to force_generic_plan")
    await stage.as_referrer.turned(role).enter()  # the planner runs a function whose value it would know
    await stage.run(f"prepare question as {statement}")
    nulls = f"({', '.join(['null'] * parameters)})" if parameters else ""
    await stage.run(f"explain execute question{nulls}")


@pytest.mark.parametrize("query", [*QUERIES, *DEEDS], ids=lambda query: f"{query.domain}.{query.name}")
async def test_a_query_may_do_what_it_asks(stage: Stage, query: Query) -> None:
    await begin(stage, query.role or APP, query.sql, len(query.parameters))


@pytest.mark.parametrize("entrance", ENTRANCES.values())
async def test_an_entrance_is_open_to_the_service(stage: Stage, entrance: str) -> None:
    await begin(stage, APP, entrance, entrance.count("$"))


@pytest.mark.parametrize("oracle", oracles.load(), ids=lambda oracle: oracle.id)
async def test_an_oracle_may_look(stage: Stage, oracle: oracles.Oracle) -> None:
    """Also where it asks functions: those look at rights of their own, once they run."""
    statement, parameters = oracles.statement(oracle, "{}")
    await begin(stage, AUDITOR, statement.decode(), len(parameters))
    await stage.run(f"execute question{'({})' if parameters else ''}".format("'{}'"))


@keeps("function")
async def test_what_is_described_to_the_auditor_is_seen_by_him(stage: Stage) -> None:
    """Each function that crosses a boundary for him, whether an oracle comes to ask it or not."""
    described = await stage.as_postgres(
        "select oid::regprocedure::text from pg_proc where pronargs = 0 and proretset "
        "and has_function_privilege(%s, oid, 'execute') and starts_with(proowner::regrole::text, 'brokerflow_')",
        AUDITOR,
    )
    assert described
    for (function,) in described:
        await stage.as_auditor(f"select * from {function}")
