"""What is written once and what was never said: by every statement that writes, as the service and as the owner."""

import psycopg

from tests.schema.stage import APP, Actor, Given, Stage
from tests.schema.test_a09_tenants import SCHEMAS, Outside, populate
from tests.schema.test_privileges import DELETED, UPDATED

# Ways to change and to remove the rows of {table}; {key} is its key, {column} may be named by whoever may write it.
CHANGES = [
    "update {table} set {column} = {column}",
    "update {table} set ({column}) = row({column})",
    "update {table} as x set {column} = y.{column} from {table} as y",
    "with changed as (update {table} set {column} = {column} returning 1) select from changed",
    "merge into {table} as t using (select 1) as s on true when matched then update set {column} = t.{column}",
    "insert into {table} default values on conflict ({key}) do update set {column} = excluded.{column}",
    "declare c cursor for select from {table}; fetch c; update {table} set {column} = {column} where current of c",
    "select from {table} for no key update",
    "do $$ begin update {table} set {column} = {column}; end $$",
]
REMOVALS = [
    "delete from {table}",
    "delete from only {table}",
    "delete from {table} as x using {table} as y",
    "with gone as (delete from {table} returning 1) select from gone",
    "merge into {table} as t using (select 1) as s on true when matched then delete",
    "truncate {table}",
    "truncate {table} cascade",
    "do $$ begin delete from {table}; end $$",
]
# A table, its key, and a column that may be named at all.
KEYS = (
    "select c.conrelid::regclass::text, string_agg(quote_ident(a.attname), ', ' order by a.attnum), "
    "(select min(quote_ident(o.attname)) from pg_attribute as o "
    "where o.attrelid = c.conrelid and o.attnum > 0 and o.attgenerated = '' and not o.attisdropped) "
    "from pg_constraint as c join pg_attribute as a on a.attrelid = c.conrelid and a.attnum = any (c.conkey) "
    f"where c.contype = 'p' and c.connamespace::regnamespace::text in {SCHEMAS} group by c.conrelid"
)
# Which triggers keep a table from its own owner: 8 refuses DELETE, 16 UPDATE, 32 TRUNCATE.
KEPT = (
    "select t.tgrelid::regclass::text, t.tgname::text, t.tgtype, c.relowner::regrole::text, c.relkind = 'p' "
    "from pg_trigger as t join pg_class as c on c.oid = t.tgrelid "
    "where t.tgfoid = 'shared.refuse_change'::regproc and t.tgqual is null "
    f"and c.relnamespace::regnamespace::text in {SCHEMAS}"
)


async def state_of(stage: Stage, attack: str) -> tuple[str, str]:
    """Return the SQLSTATE and the constraint of a refusal."""
    try:
        async with stage.connection.transaction(force_rollback=True):
            await stage.run(attack)
    except psycopg.Error as error:
        return error.sqlstate or "", error.diag.constraint_name or ""
    return "", ""


async def test_no_statement_of_the_service_changes_what_it_was_not_given(enter_from_outside: Outside) -> None:
    updated, deleted = ({table for role, table in tables if role == APP} for tables in (UPDATED, DELETED))
    async with enter_from_outside() as stage:
        await stage.as_referrer.enter()
        for table, key, column in await stage.run(KEYS):
            for attack in (*(CHANGES if table not in updated else ()), *(REMOVALS if table not in deleted else ())):
                tried = attack.format(table=table, column=column, key=key)
                assert (tried, await state_of(stage, tried)) == (tried, ("42501", ""))


async def test_what_is_written_once_its_owner_cannot_rewrite_either(stage: Stage, given: Given) -> None:
    await populate(given)
    await stage.as_postgres("set constraints all immediate")
    columns = {table: column for table, _, column in await stage.run(KEYS)}
    kept = await stage.run(KEPT)
    assert len(kept) > 20
    for table, proposition, kind, owner, is_partitioned in kept:
        await Actor(stage, None, owner).enter()
        for attack in (*CHANGES, *REMOVALS):
            mark = 32 if attack.startswith("truncate") else 16 if attack in CHANGES else 8
            is_idle = attack.startswith(("select", "insert")) or (is_partitioned and "from only" in attack)
            if kind & mark and not is_idle:
                tried = attack.format(table=table, column=columns[table])
                told = await state_of(stage, tried)
                # What others refer to is not emptied alone: PostgreSQL says so before the trigger does.
                assert told == ("23514", proposition) or (attack == "truncate {table}" and told == ("0A000", "")), tried
