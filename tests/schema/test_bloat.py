"""What is written for ever leaves nothing dead, whoever holds a snapshot; a head that moves stays on its page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from tests.conftest import Server
from tests.schema.conftest import build_world
from tests.schema.stage import Stage, World

EVENTS = 200
# Of a table and all of its months.
COUNTED = """
select sum(s.n_tup_ins)::bigint, sum(s.n_tup_upd)::bigint, sum(s.n_tup_del)::bigint, sum(s.n_dead_tup)::bigint
from pg_partition_tree(%s::regclass) as p
join pg_stat_user_tables as s on s.relid = p.relid
"""
HEADS = """
select n_tup_upd, n_tup_hot_upd, pg_relation_size(relid) / current_setting('block_size')::bigint
from pg_stat_user_tables
where relid = 'agreement.timeline_heads'::regclass
"""

Superuser = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def town(server: Server, template: str, request: pytest.FixtureRequest) -> World:
    """A world of the test's own, in which nothing else is counted."""
    return build_world(server, template, f"bloat_{request.node.name[-10:]}")


@asynccontextmanager
async def entered(town: World) -> AsyncIterator[Stage]:
    async with await AsyncConnection.connect(town.app_url) as connection:
        yield Stage(connection, town)


async def append(stage: Stage, agreements: int) -> None:
    """Append events, each in a transaction of its own, to some agreements by turns."""
    made = [await stage.given.agreement("draft") for _ in range(agreements)]
    await stage.connection.commit()
    for number in range(EVENTS):
        await stage.given.event(made[number % agreements])
        await stage.connection.commit()
    await told(stage)


async def told(stage: Stage) -> None:
    """Let others see what a backend counted now, not in a second."""
    await stage.run("select pg_stat_force_next_flush()")
    await stage.connection.commit()


def counted(superuser: Superuser, table: str) -> tuple[int, ...]:
    row = superuser.execute(COUNTED.encode(), [table]).fetchone()
    assert row is not None
    return tuple(int(each) for each in row)


@pytest.mark.parametrize("table", ["shared.outbox", "agreement.timeline_events", "shared.audit_log"])
async def test_nothing_dies_while_a_snapshot_is_held(town: World, table: str) -> None:
    """No relay and no command updates or deletes them, so that there is nothing to vacuum that it could keep."""
    with psycopg.connect(town.superuser_url) as holder, psycopg.connect(town.superuser_url, autocommit=True) as asking:
        holder.execute("set transaction isolation level repeatable read")
        holder.execute("select from shared.outbox")
        async with entered(town) as stage:
            await append(stage, 2)
            inserted, *others = counted(asking, table)
        held = asking.execute(
            "select backend_xmin is not null from pg_stat_activity where pid = %s", [holder.info.backend_pid]
        )
        assert held.fetchone() == (True,)
    assert inserted >= EVENTS
    assert others == [0, 0, 0], "updated, deleted, dead"


async def test_a_head_moves_within_its_page(town: World) -> None:
    """Each event moves one. There is room for it, so no index grows, and what it was is pruned by who comes next."""
    async with entered(town) as stage:
        referral = await stage.given.referral()
        agreements = [await stage.given.draft(referral) for _ in range(EVENTS)]
        await stage.connection.commit()
        for _ in range(2):
            for agreement in agreements:  # in one transaction, so that none of these moves prunes another's
                await stage.given.event(agreement)
            await stage.connection.commit()
        await told(stage)
    with psycopg.connect(town.superuser_url, autocommit=True) as asking:
        [[updated, hot, pages]] = asking.execute(HEADS.encode()).fetchall()
    assert updated == 3 * EVENTS
    assert hot == updated
    assert pages <= 12
