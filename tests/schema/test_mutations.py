"""Takes each enforcing object away in turn: the tests that keep it must turn red."""

import importlib
from pathlib import Path

import pytest

from tests.schema.stage import KEEPERS, Stage
from tests.schema.test_a09_tenants import PUBLIC, TABLES, is_readable

for _path in sorted(Path(__file__).parent.glob("test_a*.py")):
    importlib.import_module(f"{__package__}.{_path.stem}")

ENFORCING = """
select t.tgname::text, 'trigger', t.tgrelid::regclass::text
from pg_trigger as t join pg_description as d on d.classoid = 'pg_trigger'::regclass and d.objoid = t.oid
where d.description like 'Axiom A%:%'
union all
select c.conname, 'constraint', c.conrelid::regclass::text
from pg_constraint as c join pg_description as d on d.classoid = 'pg_constraint'::regclass and d.objoid = c.oid
where d.description like 'Axiom A%:%'
union all
select i.indexrelid::regclass::text, 'index', i.indrelid::regclass::text
from pg_index as i join pg_description as d on d.classoid = 'pg_class'::regclass and d.objoid = i.indexrelid
where d.description like 'Axiom A%:%'
union all
select p.polname, 'policy', p.polrelid::regclass::text
from pg_policy as p join pg_description as d on d.classoid = 'pg_policy'::regclass and d.objoid = p.oid
where d.description like 'Axiom A%:%'
"""
TAKE_AWAY = {
    "trigger": "alter table {table} disable trigger {name}",
    "constraint": "alter table {table} drop constraint {name} cascade",
    "index": "drop index {name}",
    "policy": "drop policy {name} on {table}",
}
# Notices leave at commit only: its mutation is test_without_its_trigger_nothing_is_announced.
APART = {"outbox_announce"}


async def enforcing(stage: Stage) -> dict[str, tuple[str, str]]:
    rows = await stage.as_postgres(ENFORCING)
    found = {name.rpartition(".")[2]: (kind, table) for name, kind, table in rows}
    assert len(found) == len(rows), "two enforcing objects have one name"
    return found


async def is_noticed(stage: Stage, name: str) -> bool:
    """Run the keepers of an object; whether one of them fails."""
    for test in KEEPERS[name]:
        try:
            async with stage.connection.transaction(force_rollback=True):
                await stage.run("set constraints all deferred")  # a red test may have left them immediate
                await stage.perform(test)
        except Exception:  # noqa: BLE001 - whatever is wrong, the test is red
            return True
    return False


async def test_every_enforcing_object_is_kept(stage: Stage) -> None:
    assert set(await enforcing(stage)) - APART == set(KEEPERS) - {"row security"}


@pytest.mark.parametrize("name", sorted(set(KEEPERS) - {"row security"}))
async def test_taking_it_away_is_noticed(stage: Stage, name: str) -> None:
    assert not await is_noticed(stage, name), "its test is red already"
    kind, table = (await enforcing(stage))[name]
    schema = table.partition(".")[0]
    statement = TAKE_AWAY[kind].format(table=table, name=f"{schema}.{name}" if kind == "index" else name)
    await stage.as_postgres(statement)
    assert await is_noticed(stage, name), f"without {name} its tests stay green"


async def test_turning_row_security_off_is_noticed(stage: Stage) -> None:
    """Table by table, for each that the service may read."""
    for (table,) in await stage.as_postgres(TABLES):
        if table not in PUBLIC and await is_readable(stage, table) and table != "agreement.brokers":
            async with stage.connection.transaction(force_rollback=True):
                await stage.as_postgres(f"alter table {table} disable row level security")
                assert await is_noticed(stage, "row security"), table


POLICIES = """
select p.polrelid::regclass::text, p.polname, c.clause
from pg_policy as p
cross join (values ('using'), ('with check')) as c (clause)
where 'brokerflow_app'::regrole = any (p.polroles)
    and case c.clause when 'using' then p.polqual else p.polwithcheck end is not null
order by 1, 2, 3
"""


# A trigger asks the same question first, so that the refusal has a name; the policy stands behind it.
DOUBLED = {
    "agreement.contact_reads insert_party with check",
    "agreement.disputes update_judge with check",
    "agreement.invoices insert_party with check",
    "agreement.matches insert_broker with check",
}


async def test_opening_a_policy_to_all_is_noticed(stage: Stage) -> None:
    """Each clause of each policy of the service in turn lets every row through."""
    unnoticed = set()
    for table, name, clause in await stage.as_postgres(POLICIES):
        async with stage.connection.transaction(force_rollback=True):
            await stage.as_postgres(f"alter policy {name} on {table} {clause} (true)")
            if not await is_noticed(stage, "row security"):
                unnoticed.add(f"{table} {name} {clause}")
    assert unnoticed == DOUBLED
