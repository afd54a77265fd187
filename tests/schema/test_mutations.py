"""Takes each object that enforces an axiom away in turn: the very tests that say to keep it must turn red.

scripts/mutate goes further: it takes away or weakens all that the catalog holds, and asks all tests.
"""

import importlib
import re
from pathlib import Path

import pytest

from scripts.mutation import mutants
from scripts.mutation.mutants import Mutant
from tests.schema.stage import KEEPERS, Stage

for _path in sorted(Path(__file__).parent.glob("test_a*.py")):
    importlib.import_module(f"{__package__}.{_path.stem}")

ENFORCING = """
select coalesce(t.tgrelid::regclass || ' ' || t.tgname, c.conrelid::regclass || ' ' || c.conname,
    p.polrelid::regclass || ' ' || p.polname, i.oid::regclass::text)
from pg_description as d
left join pg_trigger as t on d.classoid = 'pg_trigger'::regclass and t.oid = d.objoid
left join pg_constraint as c on d.classoid = 'pg_constraint'::regclass and c.oid = d.objoid
left join pg_policy as p on d.classoid = 'pg_policy'::regclass and p.oid = d.objoid
left join pg_class as i on d.classoid = 'pg_class'::regclass and i.oid = d.objoid and i.relkind = 'i'
where d.description like 'Axiom A%:%' and coalesce(t.oid, c.oid, p.oid, i.oid) is not null
    and not exists (select from pg_class as r where r.oid = t.tgrelid and r.relispartition)
"""
# Notices leave at commit only: its mutation is test_without_its_trigger_nothing_is_announced.
APART = {"outbox_announce"}
TAKEN = {"trigger", "constraint", "unique index", "policy"}
# What a test keeps of every object of a kind.
KINDS = {"row security", "not null", "constraint", "grant", "owner", "execute", "function", "schema", "database"}


async def enforcing(stage: Stage) -> dict[str, Mutant]:
    """Return what enforces an axiom, by name, and the mutant that lacks it."""
    objects = {name for (name,) in await stage.as_postgres(ENFORCING)}
    cursor = await stage.connection.execute(mutants.QUESTION)
    lost = [
        mutant
        for mutant in mutants.find(await cursor.fetchall())
        if mutant.object in objects and mutant.kind in TAKEN and mutant.change in {"dropped", "disabled"}
    ]
    named = {re.split(r"[ .]", mutant.object)[-1]: mutant for mutant in lost}
    assert len(named) == len(lost) == len(objects), "two enforcing objects have one name, or one cannot be lost"
    return named


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
    assert set(await enforcing(stage)) - APART == set(KEEPERS) - KINDS


@pytest.mark.parametrize("name", sorted(set(KEEPERS) - KINDS))
async def test_taking_it_away_is_noticed(stage: Stage, name: str) -> None:
    assert not await is_noticed(stage, name), "its test is red already"
    mutant = (await enforcing(stage))[name]
    await stage.as_postgres(mutant.statement)
    assert await is_noticed(stage, name), f"{mutant.name}, and its tests stay green"
