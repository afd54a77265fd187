"""What is kept by month costs a month: one agreement is found in one of them, a feed is merged from all by an index."""

import json
from typing import Any

import psycopg
import pytest

from tests.conftest import Server
from tests.plans.cases import CASES, Case
from tests.plans.conftest import _crowded, _steps, cost
from tests.plans.test_plans import PAGE, QUERIES
from tests.schema.stage import World

# Past all triggers and foreign keys: every third event is of this month, of the next, or of the one behind it.
SPREAD = """
with events as (
    select agreement_id, seq, row_number() over (order by agreement_id, seq)::integer as n
    from agreement.timeline_events
),
months as (
    select n, shared.first_id((date_trunc('month', now() at time zone 'UTC') + make_interval(months => n))::date)
    from generate_series(0, 2) as n
)
update agreement.timeline_events as e
set agreement_id = overlay(e.agreement_id::text placing left(m.first_id::text, 8) from 1 for 8)::uuid
from events as v
join months as m on m.n = v.n % 3
where v.agreement_id = e.agreement_id and v.seq = e.seq
"""


@pytest.fixture(scope="module")
def spread(server: Server, template: str) -> World:
    """A small world whose events are of three months."""
    world = _crowded(server, template, "months", 1_000)
    with psycopg.connect(world.superuser_url, autocommit=True) as connection:
        connection.execute("set session_replication_role to replica")
        connection.execute(SPREAD.encode())
        connection.execute("vacuum analyze agreement.timeline_events")
    return world


async def scans(world: World, case: Case) -> list[dict[str, Any]]:
    """Return the steps of a plan that looked into a month of the timeline."""
    told = await cost(world, QUERIES[case.query], case)
    steps = _steps(json.loads(told.text))
    return [
        step
        for step in steps
        if step.get("Relation Name", "").startswith("timeline_events") and step["Actual Loops"] > 0
    ]


def cases(*queries: str) -> list[Case]:
    return [case for case in CASES if case.query in queries]


@pytest.mark.parametrize("case", cases("agreement.list_timeline", "agreement.list_chain"), ids=str)
async def test_one_agreement_is_looked_for_in_one_month(worlds: dict[str, World], case: Case) -> None:
    """By the plan that serves any agreement: the others are left out when it begins."""
    assert len({step["Relation Name"] for step in await scans(worlds["small"], case)}) == 1


@pytest.mark.parametrize("case", cases("agreement.list_events"), ids=str)
async def test_a_feed_is_merged_from_all_months_by_an_index(spread: World, case: Case) -> None:
    looked = await scans(spread, case)
    assert len({step["Relation Name"] for step in looked}) >= 3
    assert {step["Node Type"] for step in looked} <= {"Index Scan", "Index Only Scan"}
    assert all(step["Actual Rows"] * step["Actual Loops"] <= PAGE + 1 for step in looked)
