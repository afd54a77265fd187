"""What belongs to others, asked for indirectly: by functions that fail with it, by keys, by plans and statistics."""

import re

import psycopg

from tests.schema.stage import Actor, Given, Stage
from tests.schema.test_a09_tenants import PUBLIC, SCHEMAS, populate

COLUMNS = (
    "select c.oid::regclass::text, array_agg(quote_ident(a.attname) order by a.attnum) from pg_class as c "
    "join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped "
    f"where c.relkind in ('r', 'p') and c.relnamespace::regnamespace::text in {SCHEMAS} "
    "and has_column_privilege('brokerflow_app', c.oid, a.attnum, 'select') group by c.oid order by 1"
)
# Each would say a row's value in its error, or stumble over it, were it asked before row security is.
LEAKY = [
    "select from {table} as x where (x.{column}::text || ' is said')::integer = 0",
    "select from {table} as x order by (x.{column}::text || ' is said')::integer",
    "select count(*) filter (where (x.{column}::text || ' is said')::integer = 0) from {table} as x",
    "select from {table} as x group by x.{column} having (x.{column}::text || ' is said')::integer = 0",
    "select from {table} as x where 1 / (length(x.{column}::text) - length(x.{column}::text)) = 0",
    "select from (values (1)) as v (n) join {table} as x on (x.{column}::text || ' is said')::integer = v.n",
    "select from {table} as x where set_config('adversary.told', x.{column}::text, true) = ''",
    "select from {table} as x where exists (select xmlparse(document '<' || x.{column}::text))",
    "select (x.{column}::text || ' is said')::integer from {table} as x for key share",
]


async def learnt(stage: Stage, attack: str) -> str:
    """Return what an attack told, by rows, by an error or by a setting."""
    try:
        async with stage.connection.transaction():
            rows = await stage.run(attack)
    except psycopg.Error as error:
        return "" if error.sqlstate == "42501" else str(error)
    [[setting]] = await stage.run("select coalesce(current_setting('adversary.told', true), '')")
    return f"{rows if rows not in ([], [(0,)]) else ''}{setting}"


async def test_no_function_in_a_condition_sees_what_row_security_hides(
    stage: Stage, given: Given, as_nobody: Actor
) -> None:
    """Nobody has proved who he is, so every row is another's."""
    await populate(given)
    tables = [(table, columns) for table, columns in await stage.as_postgres(COLUMNS) if table not in PUBLIC]
    assert len(tables) > 15
    await as_nobody.enter()
    for table, columns in tables:
        for column in columns:
            for attack in (each.format(table=table, column=column) for each in LEAKY):
                assert (attack, await learnt(stage, attack)) == (attack, "")


async def test_no_function_of_ours_claims_to_leak_nothing(stage: Stage) -> None:
    """PostgreSQL would ask it before row security."""
    leakproof = (
        f"select oid::regprocedure from pg_proc where proleakproof and pronamespace::regnamespace::text in {SCHEMAS}"
    )
    assert await stage.as_postgres(leakproof) == []


async def test_statistics_tell_the_service_no_value(stage: Stage, given: Given, as_nobody: Actor) -> None:
    await populate(given)
    await stage.become("postgres")
    await stage.run("set constraints all immediate")
    await stage.run("analyze")
    everything = f"select distinct format('%s.%s', schemaname, tablename) from pg_stats where schemaname in {SCHEMAS}"
    assert len(await stage.as_postgres(everything)) > 20
    assert {table for (table,) in await as_nobody(everything)} <= PUBLIC
    for view in ("pg_stats_ext", "pg_stats_ext_exprs"):
        assert await as_nobody(f"select from {view} where schemaname in {SCHEMAS}") == []


async def test_plans_estimate_by_no_value_that_an_operator_could_leak(
    stage: Stage, given: Given, as_nobody: Actor
) -> None:
    """The planner asks the statistics of a hidden column only for operators that cannot tell what they compare."""
    for number in range(40):
        await given.referral(
            region=["rare" if number == 0 else "frequent"], property_type="rare" if number == 0 else "flat"
        )
    await stage.become("postgres")
    await stage.run("set constraints all immediate")
    await stage.run("analyze agreement.referrals")
    await as_nobody.enter()
    estimates = {
        re.search(r"rows=(\d+)", str(rows[0][0]))[1]  # type: ignore[index]
        for word in ("rare", "flat", "neither")
        for rows in [await stage.run(f"explain select from agreement.referrals where property_type ~~ '{word}%'")]
    }
    assert len(estimates) == 1
