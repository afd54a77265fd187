"""A4, A5, A7: what is kept by month keeps its rules in each month, reached however, and in the archive."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.errors import DeadlockDetected, LockNotAvailable

from tests.conftest import Server
from tests.schema.conftest import Refused, build_world
from tests.schema.stage import APP, AUDITOR, GUARD, LOGIN, VAULT, WORKER, Actor, Given, Rows, Stage, World, keeps
from tests.schema.test_a04_timeline_written_once import CORRECT, verify

# Each with what its id is called, and the trigger that keeps it.
TABLES = {
    "agreement.timeline_events": "agreement_id",
    "shared.outbox": "event_id",
    "shared.audit_log": "id",
}
WRITTEN_ONCE = {"agreement.timeline_events": "timeline_events", "shared.audit_log": "audit_log"}
ARCHIVED = {
    "archive.timeline_events": "archived_timeline_events",
    "archive.outbox": "archived_outbox",
    "archive.audit_log": "archived_audit_log",
}
PARTITIONS = "select inhrelid::regclass::text from pg_inherits where inhparent = %s::regclass order by 1"
MAKE = (
    "select m.partition, f.finding from shared.missing_partitions({}) as m "
    "cross join lateral shared.make_partition(m.partition) as f (finding)"
)
ARCHIVE = (
    "select a.partition, f.finding from shared.archivable_partitions({}) as a "
    "cross join lateral shared.archive_partition(a.partition) as f (finding)"
)
CLOCK = "create or replace function shared.clock() returns timestamptz language sql volatile parallel safe as '{}'"
WHOLE_CHAIN = (
    "select seq, agreement.event_body(row(e.*)::agreement.timeline_events), previous_hash, hash "
    "from archive.all_timeline_events as e where agreement_id = %s order by seq"
)
OLD = "019b7a00-0000"  # how an id of January 2026 begins
BUSY = "others are at work"
TRIES = 50  # of 0.2 seconds
THIS_MONTH = "to_char(now() at time zone 'UTC', 'YYYY_MM')"


@asynccontextmanager
async def in_two_months(stage: Stage) -> AsyncIterator[None]:
    """Let the database's clock go ahead for as long as the body takes."""
    await stage.become("postgres")
    await stage.run(CLOCK.format("select clock_timestamp() + interval ''62 days''"))
    try:
        yield
    finally:
        await stage.become("postgres")
        await stage.run(CLOCK.format("select clock_timestamp()"))


async def kept_up(stage: Stage, statement: str, *parameters: object) -> Rows:
    """Have the worker keep the months up; he asks again where somebody is at work, such as autovacuum."""
    await stage.run("select")  # in a transaction, so that the next one is a savepoint
    for _ in range(TRIES):
        try:
            async with stage.connection.transaction():
                return await stage.as_worker(statement, *parameters)
        except LockNotAvailable:
            continue
    raise AssertionError("somebody was at work all the while")


async def archive(stage: Stage, before: str = "infinity") -> dict[str, str | None]:
    """Archive in two months what is over by then; return findings by the names of this month's, without the month."""
    await stage.run("set constraints all immediate")
    async with in_two_months(stage):
        findings: dict[str, str | None] = dict(await kept_up(stage, ARCHIVE.format("%s"), before))
        await stage.as_worker("select * from shared.count_archived()")
    month = await this_month(stage)
    return {name.removesuffix(f"_{month}"): finding for name, finding in findings.items() if name.endswith(month)}


async def end_all(stage: Stage) -> None:
    """End whatever other tests have left open, past the state machine."""
    await stage.unbound("update agreement.agreements set status = 'void' where status not in ('void', 'closed')")


async def archived(given: Given, stage: Stage) -> UUID:
    """Return an agreement that was archived, with a correction, and everything of its month."""
    agreement = await given.agreement("closed")
    await stage.as_referee(CORRECT, agreement, "CORRECTION_ADDED", 1)
    await end_all(stage)
    assert await archive(stage) == dict.fromkeys(("audit_log", "outbox", "timeline_events"))
    return agreement


async def copy(stage: Stage, table: str, key: str, value: str) -> None:
    """Copy a row of a table, past its triggers, to under another id: an SQL expression."""
    await stage.unbound(
        f"insert into {table} select (jsonb_populate_record(t, jsonb_build_object('{key}', {value}))).* "
        f"from {table} as t limit 1"
    )


async def count(stage: Stage, table: str, agreement: UUID) -> int:
    """Count what a table holds of an agreement."""
    its = {
        "timeline_events": "t.agreement_id = %s",
        "outbox": "t.payload ->> 'agreement_id' = %s::text",
        "audit_log": "t.subject = 'agreement/' || %s::text",
    }[table.partition(".")[2]]
    return int(await stage.as_auditor.value(f"select count(*) from {table} as t where {its}", agreement))


async def test_everything_goes_to_its_month(given: Given, stage: Stage) -> None:
    agreement = await given.agreement("effective")
    await given.invitation()
    for table, its in (
        ("agreement.timeline_events", f"agreement_id = '{agreement}'"),
        ("shared.outbox", "true"),
        ("shared.audit_log", "true"),
    ):
        places = await stage.as_postgres(
            f"select distinct tableoid::regclass::text from {table} where {its} "
            f"and (tableoid::regclass::text !~ 'default$')"
        )
        assert places == [(f"partitions.{table.partition('.')[2]}_{await this_month(stage)}",)]
        assert await stage.as_postgres(f"select count(*) from partitions.{table.partition('.')[2]}_default") == [(0,)]


async def this_month(stage: Stage) -> str:
    return str(await stage.as_postgres.value(f"select {THIS_MONTH}"))


async def test_a_month_begins_with_its_first_millisecond(stage: Stage) -> None:
    assert await stage.as_postgres(
        "select shared.first_id('2026-12-01')::text, shared.first_id('1970-01-01')::text, "
        "shared.first_id('2027-01-01') > shared.uuidv7()"
    ) == [("01a22ee6-b000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000", True)]


async def test_no_role_chooses_the_id_by_which_its_month_is_found(stage: Stage) -> None:
    for table, column in (("agreement.agreements", "id"), *TABLES.items()):
        if (table, column) == ("agreement.timeline_events", "agreement_id"):
            continue  # it refers to the agreement's
        assert await stage.as_postgres(
            "select r.rolname from pg_roles as r where r.rolname like 'brokerflow%%' and not r.rolsuper "
            "and r.rolname not in ('brokerflow_owner', 'brokerflow_deployer') "
            "and (has_column_privilege(r.rolname, %s, %s, 'insert') "
            "or has_column_privilege(r.rolname, %s, %s, 'update'))",
            table, column, table, column,
        ) == []  # fmt: skip


async def test_what_belongs_to_no_month_is_caught(given: Given, stage: Stage) -> None:
    await given.agreement("draft")
    for table, key in TABLES.items():
        await copy(stage, table, key, "gen_random_uuid()")
        name = table.partition(".")[2]
        assert await stage.as_postgres(f"select count(*) from partitions.{name}_default") == [(1,)]


@keeps(
    "timeline_events_written_once", "timeline_events_never_emptied", "audit_log_written_once", "audit_log_never_emptied"
)
async def test_each_month_is_written_once_however_it_is_reached(
    given: Given, refused: Refused, stage: Stage, as_owner: Actor
) -> None:
    """Also by the owner, and in a month that was just made."""
    await given.agreement("draft")
    await kept_up(stage, MAKE.format(6))
    for table, trigger in WRITTEN_ONCE.items():
        key = TABLES[table]
        await copy(stage, table, key, "gen_random_uuid()")
        for ahead in range(1, 7):
            await copy(stage, table, key, f"shared.first_id((now() + interval '{ahead} months')::date)")
        partitions = [name for (name,) in await stage.as_postgres(PARTITIONS, table)]
        assert len(partitions) >= 8
        for partition in partitions:
            assert await as_owner.value(f"select count(*) from {partition}") > 0, partition
            for change in (f"update {partition} set {key} = {key}", f"delete from {partition}"):
                async with refused(f"{trigger}_written_once"):
                    await as_owner(change)
            async with refused(f"{trigger}_never_emptied"):
                await as_owner(f"truncate {partition}")


@pytest.mark.parametrize("role", [APP, WORKER, LOGIN, AUDITOR, GUARD, VAULT])
async def test_a_month_is_reached_through_its_table_only(
    given: Given, refused: Refused, stage: Stage, role: str
) -> None:
    """The schema is closed to all; where it were not, the table is; and behind that there is no policy."""
    await given.agreement("effective")
    await archived(given, stage)
    await given.agreement("effective")
    for table in (*TABLES, *ARCHIVED):
        for (partition,) in await stage.as_postgres(PARTITIONS, table):
            await stage.become(role)
            async with refused(None, "42501"):
                await stage.run(f"select * from {partition}")
            await stage.become("postgres")
            async with stage.connection.transaction(force_rollback=True):
                await stage.run(f"grant usage on schema partitions, archive to {role}")
                await stage.become(role)
                async with refused(None, "42501"):
                    await stage.run(f"select * from {partition}")
                await stage.become("postgres")
                await stage.run(f"grant select on {partition} to {role}")
                await stage.become(role)
                assert await stage.run(f"select * from {partition}") == [], partition


async def test_the_worker_makes_months_as_their_tables_are(stage: Stage, as_worker: Actor) -> None:
    made = await kept_up(stage, MAKE.format(7))
    assert {finding for _, finding in made} == {None}
    assert len(made) == 4 * len(TABLES), "three were there already"
    assert await as_worker(MAKE.format(7)) == []
    for name, _ in made:
        [[its]] = await stage.as_postgres(
            "select c.relrowsecurity and c.relowner = 'brokerflow_owner'::regrole and c.relacl is null "
            "and obj_description(c.oid, 'pg_class') is not null from pg_class as c "
            "where c.oid = ('partitions.' || %s)::regclass",
            name,
        )
        assert its, name
    keys = await stage.as_postgres(
        "select conname from pg_constraint where conrelid = %s::regclass and contype = 'p'",
        f"partitions.{made[0][0]}",
    )
    assert keys == [(made[0][0].replace("audit_log", "audit_log_pkey"),)]


async def test_the_worker_may_do_that_and_nothing_else(stage: Stage) -> None:
    assert await stage.as_postgres(
        "select p.proname::text from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace "
        "where n.nspowner = 'brokerflow_owner'::regrole and has_schema_privilege('brokerflow_worker', n.oid, 'usage') "
        "and has_function_privilege('brokerflow_worker', p.oid, 'execute') order by 1"
    ) == [
        ("archivable_partitions",), ("archive_partition",), ("count_archived",), ("make_partition",),
        ("missing_partitions",),
    ]  # fmt: skip
    assert await stage.as_postgres(
        "select c.oid::regclass::text from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "
        "where n.nspowner = 'brokerflow_owner'::regrole and c.relkind in ('r', 'p', 'v') "
        "and (has_table_privilege('brokerflow_worker', c.oid, 'select, insert, update, delete, truncate') "
        "or has_any_column_privilege('brokerflow_worker', c.oid, 'select, insert, update'))"
    ) == []  # fmt: skip


async def test_a_month_whose_rows_were_caught_already_is_not_made(given: Given, stage: Stage) -> None:
    """They stay where they are, business goes on, and the months behind it are made."""
    await given.agreement("draft")
    await copy(stage, "shared.outbox", "event_id", "shared.first_id((now() + interval '5 months')::date)")
    told: dict[str, str | None] = dict(await kept_up(stage, MAKE.format(6)))
    findings = {name.rpartition("_20")[0]: finding for name, finding in told.items() if finding}
    assert findings == {
        "outbox": "partitions.outbox_default holds rows of it already: they stay there, and it is not made"
    }
    assert len(told) == 3 * len(TABLES)


async def test_archiving_keeps_sequence_chain_and_message(given: Given, stage: Stage) -> None:
    agreement = await given.agreement("closed")
    await stage.as_referee(CORRECT, agreement, "CORRECTION_ADDED", 1)
    before = await stage.as_referrer(WHOLE_CHAIN.replace("archive.all_", "agreement."), agreement)
    counts = {name: await count(stage, table, agreement) for table in TABLES for name in [table.partition(".")[2]]}
    assert counts["timeline_events"] == 4
    await end_all(stage)
    await archive(stage)
    after = await stage.as_auditor(WHOLE_CHAIN, agreement)
    assert after == before
    verify(agreement, [(seq, body, bytes(then), bytes(now)) for seq, body, then, now in after])
    for table, key in TABLES.items():
        name = table.partition(".")[2]
        assert await count(stage, table, agreement) == 0, table
        assert await count(stage, f"archive.{name}", agreement) == counts[name], table
        within = f"{key} >= m.from_id and {key} < m.before_id"
        registered = await stage.as_auditor(
            f"select m.rows > 0, m.rows = (select count(*) from archive.{name} where {within}) "
            f"from archive.months as m where m.table_name = '{table}' order by m.month limit 1"
        )
        assert registered == [(True, True)]


@keeps(
    "archived_timeline_events_kept", "archived_timeline_events_never_emptied", "archived_outbox_kept",
    "archived_outbox_never_emptied", "archived_audit_log_kept", "archived_audit_log_never_emptied",
)  # fmt: skip
async def test_what_is_archived_is_neither_added_to_nor_changed_nor_removed(
    given: Given, refused: Refused, stage: Stage, as_owner: Actor
) -> None:
    for table, trigger in ARCHIVED.items():  # before there is a month, which has a trigger of its own
        async with refused(f"{trigger}_never_emptied"):
            await as_owner(f"truncate {table}")
    await archived(given, stage)
    for table, trigger in ARCHIVED.items():
        (month,), *_ = await stage.as_postgres(PARTITIONS, table)
        key = TABLES.get(f"shared.{table[8:]}", "agreement_id")
        for reached in (table, month):
            for change in (
                f"update {reached} set {key} = {key}",
                f"delete from {reached}",
                f"insert into {reached} select * from {reached} limit 1",
            ):
                async with refused(f"{trigger}_kept"):
                    await as_owner(change)
            async with refused(f"{trigger}_never_emptied"):
                await as_owner(f"truncate {reached}")
    async with refused(None, "42501"):
        await stage.as_auditor("delete from archive.timeline_events")


async def test_the_auditor_alone_reads_the_archive(given: Given, refused: Refused, stage: Stage) -> None:
    await archived(given, stage)
    places = [*ARCHIVED, "archive.all_timeline_events", "archive.all_outbox", "archive.all_audit_log", "archive.months"]
    for place in places:
        assert await stage.as_auditor.value(f"select count(*) from {place}") > 0, place
        for role in (APP, WORKER, LOGIN, GUARD, VAULT):
            await stage.become(role)
            async with refused(None, "42501"):
                await stage.run(f"select * from {place}")
    for table in (*ARCHIVED, "archive.months"):
        await stage.as_postgres(f"grant usage on schema archive to {APP}; grant select on {table} to {APP}")
        assert await stage.as_referrer(f"select count(*) from {table}") == [(0,)], "no grant opens it without a policy"


async def test_a_month_is_archived_once_and_said_as_it_is(given: Given, refused: Refused, stage: Stage) -> None:
    await archived(given, stage)
    for change, proposition in (
        ("rows = -1", "months_rows_are_counted"),
        ("from_id = before_id", "months_bounds_are_in_order"),
        ("month = month + 1", "months_month_is_its_first_day"),
    ):
        async with refused(proposition):
            await stage.as_owner(f"update archive.months set {change}")
    async with refused("months_pkey"):
        await stage.as_owner("insert into archive.months select * from archive.months limit 1")


async def test_what_follows_on_an_archived_month_goes_on_with_its_chain(given: Given, stage: Stage) -> None:
    agreement = await archived(given, stage)
    assert await stage.as_referee(CORRECT, agreement, "CORRECTION_ADDED", 2) == [(5,)], "it cites what is archived"
    assert await stage.as_postgres(
        "select tableoid::regclass::text from agreement.timeline_events where agreement_id = %s", agreement
    ) == [("partitions.timeline_events_default",)]
    links = await stage.as_auditor(WHOLE_CHAIN, agreement)
    assert [link[0] for link in links] == [1, 2, 3, 4, 5]
    verify(agreement, [(seq, body, bytes(then), bytes(now)) for seq, body, then, now in links])
    assert await kept_up(stage, MAKE.format(0)) == [], "an archived month is not made anew"


async def test_an_agreement_of_an_archived_month_is_not_deleted(given: Given, refused: Refused, stage: Stage) -> None:
    """Were all of our own triggers gone: the foreign key moved with the month."""
    agreement = await archived(given, stage)
    await stage.unbound("delete from agreement.timeline_heads where agreement_id = %s", agreement)
    await stage.run("alter table agreement.agreements disable trigger user")
    async with refused("timeline_events_agreement_id_fkey"):
        await stage.run("delete from agreement.agreements where id = %s", agreement)


@pytest.mark.parametrize("status", ["draft", "pending_signature", "effective", "success", "disputed"])
async def test_a_month_with_a_living_agreement_is_not_archived(given: Given, stage: Stage, status: str) -> None:
    await end_all(stage)
    agreement = await given.agreement(status)
    found = await archive(stage)
    assert found["timeline_events"] == "1 of its agreements are neither void nor closed"
    assert await given.events(agreement)


async def test_neither_this_month_nor_what_is_younger_than_asked_is_archived(given: Given, stage: Stage) -> None:
    await given.agreement("void")
    await end_all(stage)
    await stage.run("set constraints all immediate")
    assert await kept_up(stage, ARCHIVE.format("'infinity'")) == []
    assert await archive(stage, "2020-01-01") == {}
    for table in ("outbox", "audit_log", "timeline_events"):
        name = f"{table}_{await this_month(stage)}"
        finding = await stage.as_worker.value("select shared.archive_partition(%s)", name)
        assert finding == "it is archived, or is no month that is over"


@pytest.mark.parametrize("name", ["users_2026_12", "outbox_1999_01", "outbox_default", "outbox", "", "x'_2026_12"])
async def test_only_months_are_made_and_archived(stage: Stage, name: str) -> None:
    told = "it is there, or is no month of the next two years", "it is archived, or is no month that is over"
    for function, finding in zip(("make_partition", "archive_partition"), told, strict=True):
        assert await stage.as_worker.value(f"select shared.{function}(%s)", name) == finding


@pytest.mark.parametrize(
    ("names", "function"),
    [("archivable_partitions('infinity')", "archive_partition"), ("missing_partitions(9)", "make_partition")],
)
async def test_upkeep_waits_for_nobody(
    refused: Refused, stage: Stage, superuser: psycopg.Connection[tuple[object, ...]], names: str, function: str
) -> None:
    reading = "lock table only shared.outbox, only partitions.outbox_default in access share mode"
    with superuser.transaction():
        superuser.execute(reading)
        async with in_two_months(stage):
            [month, *_] = await stage.as_worker(f"select partition from shared.{names} where partition ~ '^outbox'")
            async with refused(None, "55P03"):
                await stage.as_worker(f"select shared.{function}(%s)", *month)


@pytest.fixture(scope="module")
def town(server: Server, template: str) -> World:
    """A world of its own, for what commits."""
    return build_world(server, template, "months")


@asynccontextmanager
async def entered(town: World) -> AsyncIterator[Stage]:
    async with await AsyncConnection.connect(town.app_url) as connection:
        yield Stage(connection, town)


@asynccontextmanager
async def upkeep(town: World) -> AsyncIterator[Callable[..., Awaitable[dict[str, str | None]]]]:
    """Make or archive months as the worker, one a transaction, as its command does."""
    async with await AsyncConnection.connect(town.superuser_url, autocommit=True) as connection:
        await connection.execute("set session authorization brokerflow_worker")

        async def keep_up(names: str, function: str) -> dict[str, str | None]:
            rows = await (await connection.execute(f"select * from shared.{names}".encode())).fetchall()
            told: dict[str, str | None] = {}
            for (name,) in rows:
                try:
                    cursor = await connection.execute(f"select shared.{function}(%s)".encode(), [name])
                except (LockNotAvailable, DeadlockDetected):
                    told[name] = BUSY
                else:
                    [told[name]] = await cursor.fetchone() or [None]
            return told

        yield keep_up


async def test_upkeep_gives_way_to_who_is_at_work(town: World) -> None:
    """It says so, and leaves nothing half made."""
    async with entered(town) as stage, upkeep(town) as keep_up:
        await stage.given.agreement("draft")  # a new month's foreign key would lock what this wrote
        told = await keep_up("missing_partitions(4)", "make_partition")
        assert len(told) == len(TABLES)
        assert [name for name, finding in told.items() if finding == BUSY] == [max(told)]
        await stage.connection.commit()
        assert await persist(keep_up, "missing_partitions(4)", "make_partition") == 1


async def test_appends_go_on_while_months_are_made_and_archived(town: World) -> None:
    """No append fails and none is lost; of the two it is upkeep that gives way, and comes to its end."""
    agreements = await old_agreements(town, 4)
    done = asyncio.Event()
    _, *lengths = await asyncio.gather(maintain(town, done), *(append(town, each, done) for each in agreements))
    async with superuser(town) as owner:
        cursor = await owner.execute(b"select distinct agreement_id from archive.timeline_events")
        assert {each for (each,) in await cursor.fetchall()} == set(agreements)
        for agreement, length in zip(agreements, lengths, strict=True):
            links = await (await owner.execute(WHOLE_CHAIN.encode(), [agreement])).fetchall()
            assert len(links) == length
            verify(agreement, [(seq, body, bytes(then), bytes(now)) for seq, body, then, now in links])


async def old_agreements(town: World, count: int) -> list[UUID]:
    """Bring agreements about that have ids of a month that is over, for which there are partitions."""
    async with superuser(town) as owner, entered(town) as stage:
        await owner.execute(CLOCK.format("select ''2026-01-15''::timestamptz").encode())
        await owner.execute(MAKE.format(0).encode())
        await owner.execute(CLOCK.format("select clock_timestamp()").encode())
        await owner.execute(
            "alter table agreement.agreements alter id set default "
            f"overlay(shared.uuidv7()::text placing '{OLD}' from 1 for 13)::uuid".encode()
        )
        agreements = [await stage.given.agreement("effective") for _ in range(count)]
        await stage.connection.commit()
        await owner.execute(b"alter table agreement.agreements alter id set default shared.uuidv7()")
    return agreements


async def append(town: World, agreement: UUID, done: asyncio.Event) -> int:
    """Append until it is done; return the last number."""
    number = 0
    async with entered(town) as stage:
        while not done.is_set():
            number = await stage.given.event(agreement)
            await stage.connection.commit()
    return number


async def maintain(town: World, done: asyncio.Event) -> None:
    """Make months, and archive the old one."""
    async with upkeep(town) as keep_up, superuser(town) as owner:
        try:
            for months in range(5, 9):
                await persist(keep_up, f"missing_partitions({months})", "make_partition")
            await owner.execute(b"update agreement.agreements set status = 'void'")
            assert await persist(keep_up, "archivable_partitions('infinity')", "archive_partition") == len(TABLES)
        finally:
            done.set()


async def persist(keep_up: Callable[..., Awaitable[dict[str, str | None]]], names: str, function: str) -> int:
    """Do upkeep until nothing is left; return how much was done."""
    done = 0
    while told := await keep_up(names, function):
        done += list(told.values()).count(None)
    return done


@asynccontextmanager
async def superuser(town: World) -> AsyncIterator[AsyncConnection[tuple[Any, ...]]]:
    async with await AsyncConnection.connect(town.superuser_url, autocommit=True) as connection:
        await connection.execute("set session_replication_role to replica")
        yield connection
