"""Many requests on few connections: each its own transaction, each with its own rows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection, AsyncRawCursor

from app.database import Credential
from app.database import Database as Service
from app.errors import DatabaseUnavailable
from app.pipelines import Pipelines, Step
from app.queries import register_adapters
from tests.conftest import Database

LOCK = "select pg_advisory_xact_lock(1)"
FAST = 10.0  # seconds that nothing here takes, unless it hangs


@pytest.fixture
async def holder(database: Database) -> AsyncIterator[AsyncConnection[Any]]:
    """Another session, which holds the lock until it rolls back."""
    async with await AsyncConnection.connect(database.app_url) as connection:
        await connection.execute(LOCK)
        yield connection


def connecting(url: str) -> Any:
    async def connect() -> AsyncConnection[Any]:
        connection = await AsyncConnection.connect(url, autocommit=True)
        register_adapters(connection)
        return connection

    return connect


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Pipelines]:
    """A single connection, which takes four requests ahead while three more wait."""
    pipelines = Pipelines(connecting(database.app_url), connections=1, depth=4, queue=3)
    pipelines.open()
    async with asyncio.timeout(FAST):
        await pipelines.run([Step("select 1")])  # wait for the connection
        yield pipelines
    await pipelines.close()


@pytest.fixture
async def service(database: Database) -> AsyncIterator[Service]:
    """All the connections of a service of five."""
    service = Service(database.app_url, size=5)
    await service.open()
    async with asyncio.timeout(FAST):
        yield service
    await service.close()


async def test_each_gets_the_rows_of_his_own_last_step(one: Pipelines) -> None:
    async def ask(number: int) -> int:
        steps = [Step("select set_config('bf.own', $1, true)", [str(number)])] * 2
        [[own]] = await one.run([*steps, Step("select current_setting('bf.own')::bigint")])
        return int(own)

    for start in range(0, 700, 5):
        numbers = range(start, start + 5)
        assert await asyncio.gather(*map(ask, numbers)) == list(numbers)
    assert await one.run([Step("select current_setting('bf.own', true)")]) == [("",)]


async def test_a_failure_harms_only_its_own_request(one: Pipelines) -> None:
    answers = await asyncio.gather(
        one.run([Step("select 1")]),
        one.run([Step("select 1 / $1::integer", [0]), Step("select 2")]),
        one.run([Step("select 3")]),
        return_exceptions=True,
    )
    assert [answers[0], answers[2]] == [[(1,)], [(3,)]]
    assert isinstance(answers[1], psycopg.errors.DivisionByZero)


async def test_an_error_says_what_the_drivers_own_would(one: Pipelines, database: Database) -> None:
    statement = "select apiauth.enter_session($1, null, '{}')"
    with pytest.raises(psycopg.Error) as told:
        await one.run([Step(statement, [bytes(32)])])
    async with await AsyncConnection.connect(database.app_url) as connection:
        with pytest.raises(type(told.value)) as expected:
            await AsyncRawCursor(connection).execute(statement.encode(), [bytes(32)])
    for field in ("sqlstate", "message_primary", "constraint_name", "severity_nonlocalized"):
        assert getattr(told.value.diag, field) == getattr(expected.value.diag, field)


async def test_a_deferred_refusal_comes_before_anybody_hears_of_success(one: Pipelines, database: Database) -> None:
    async with await AsyncConnection.connect(database.superuser_url, autocommit=True) as admin:
        await admin.execute(
            "create table public.late (id int, unique (id) deferrable initially deferred);"
            "grant insert, select on public.late to brokerflow_app"
        )
        try:
            with pytest.raises(psycopg.errors.UniqueViolation):
                await one.run([Step("insert into public.late values (1), (1) returning id")])
            assert await one.run([Step("select count(*) from public.late")]) == [(0,)]
        finally:
            await admin.execute("drop table public.late")


async def test_a_statement_that_cannot_be_prepared_says_why_to_each(one: Pipelines) -> None:
    wrong = Step("select 'x'::integer")
    answers = await asyncio.gather(one.run([wrong]), one.run([wrong]), return_exceptions=True)
    assert [type(answer) for answer in answers] == [psycopg.errors.InvalidTextRepresentation] * 2
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        await one.run([wrong])


async def test_statements_are_prepared_again_after_a_discard(one: Pipelines) -> None:
    for _ in range(2):
        assert await one.run([Step("select $1::text", ["a"])]) == [("a",)]
        await one.run([Step("deallocate all")])
        assert await one.run([Step("select $1::text", ["b"])]) == [("b",)]


async def test_of_two_in_a_chain_the_second_sees_what_the_first_committed(service: Service, database: Database) -> None:
    async with await AsyncConnection.connect(database.superuser_url, autocommit=True) as admin:
        await admin.execute("create table public.steps (n int, by xid8 default pg_current_xact_id())")
        await admin.execute("grant select, insert on public.steps to brokerflow_app")
        try:
            for number in range(20):
                added, seen = await service.ask_then(
                    None,
                    partial(fetch, "insert into public.steps (n) values ($1) returning by::text", number),
                    partial(fetch, "select by::text, by = pg_current_xact_id() from public.steps where n = $1", number),
                )
                assert [(*added[0], False)] == seen
                await service.ask(None, partial(fetch, "deallocate all"))
            with pytest.raises(psycopg.errors.DivisionByZero):
                await service.ask_then(None, partial(fetch, "select 1 / 0"), partial(fetch, "select 1 / 0"))
            with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
                await service.ask_then(
                    Credential("session", bytes(32)), partial(fetch, "select 1"), partial(fetch, "select 2")
                )
        finally:
            await admin.execute("drop table public.steps")


async def fetch(sql: str, *parameters_and_db: Any) -> list[tuple[Any, ...]]:
    *parameters, db = parameters_and_db
    rows: list[tuple[Any, ...]] = await db.fetch(sql, parameters)
    return rows


async def test_statements_are_prepared_again_when_their_columns_change(one: Pipelines, database: Database) -> None:
    async with await AsyncConnection.connect(database.superuser_url, autocommit=True) as admin:
        await admin.execute("create table public.wide (a int); grant select on public.wide to brokerflow_app")
        try:
            assert await one.run([Step("select * from public.wide")]) == []
            await admin.execute("alter table public.wide add b int; insert into public.wide values (1, 2)")
            assert await one.run([Step("select * from public.wide")]) == [(1, 2)]
        finally:
            await admin.execute("drop table public.wide")


async def test_what_is_large_goes_both_ways(one: Pipelines) -> None:
    large = ["é" * 2_000_000, "x" * 3_000_000]
    answers = await asyncio.gather(*(one.run([Step("select $1::text", [text])]) for text in large))
    assert answers == [[(text,)] for text in large]
    rows = await one.run([Step("select n, repeat('y', 100) from generate_series(1, 50000) as n")])
    assert (len(rows), rows[-1]) == (50_000, (50_000, "y" * 100))


async def test_a_value_without_a_form_harms_nobody(one: Pipelines) -> None:
    answers = await asyncio.gather(
        one.run([Step("select $1::text", ["\ud800"])]), one.run([Step("select 1")]), return_exceptions=True
    )
    assert isinstance(answers[0], UnicodeEncodeError)
    assert answers[1] == [(1,)]


async def test_a_full_queue_refuses_and_a_waiter_who_leaves_makes_room(
    one: Pipelines, holder: AsyncConnection[Any]
) -> None:
    await one.run([Step("select $1::int", [0])])
    with pytest.raises(psycopg.errors.LockNotAvailable):
        await one.run([Step("set local lock_timeout to 1"), Step(LOCK)])  # so that both are prepared
    sent = [asyncio.create_task(one.run([Step(LOCK)])) for _ in range(4)]
    waiting = [asyncio.create_task(one.run([Step("select $1::int", [n])])) for n in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(DatabaseUnavailable):
        await one.run([Step("select 1")])
    for task in (sent[1], waiting[0]):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await holder.rollback()
    assert [await sent[0], await sent[2], await sent[3]] == [[("",)]] * 3
    assert [await task for task in waiting[1:]] == [[(1,)], [(2,)]]


async def test_a_waiting_command_delays_no_read(service: Service, holder: AsyncConnection[Any]) -> None:
    commands = [asyncio.create_task(service.ask(None, lambda db: db.fetch(LOCK, []))) for _ in range(20)]
    for _ in range(50):
        assert await service.ask(None, lambda db: db.fetch("select 1", []), reads=True) == [(1,)]
    assert not any(command.done() for command in commands)
    await holder.rollback()
    assert await asyncio.gather(*commands) == [[("",)]] * 20


async def test_a_body_that_makes_a_second_statement_is_refused(service: Service) -> None:
    async def two(db: Any) -> None:
        await db.fetch("select 1", [])
        await db.fetch("select 2", [])

    with pytest.raises(RuntimeError, match="the second"):
        await service.ask(None, two)
    await service.run(None, two)


async def test_a_body_without_a_statement_proves_the_credential_all_the_same(service: Service) -> None:
    async def nothing(db: Any) -> str:
        return "done"

    assert await service.ask(None, nothing) == "done"
    with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
        await service.ask(Credential("session", bytes(32)), nothing)


async def test_reads_survive_the_end_of_their_connection(service: Service, database: Database) -> None:
    answered, over = asyncio.Event(), asyncio.Event()

    async def reading() -> None:
        while not over.is_set():
            assert await service.ask(None, lambda db: db.fetch("select 1", []), reads=True) == [(1,)]
            answered.set()

    async with (
        await AsyncConnection.connect(database.superuser_url, autocommit=True) as admin,
        asyncio.TaskGroup() as readers,
    ):
        for _ in range(8):
            readers.create_task(reading())
        for _ in range(20):  # each when the last was got over, however slow the machine is
            answered.clear()
            await answered.wait()
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'brokerflow'"
            )
        over.set()


async def test_closing_waits_for_what_was_sent(database: Database) -> None:
    pipelines = Pipelines(connecting(database.app_url), connections=1, depth=2, queue=1)
    pipelines.open()
    async with asyncio.timeout(FAST):
        await pipelines.run([Step("select 1")])
        sent = asyncio.create_task(pipelines.run([Step("select pg_sleep(0.1)::text || 'done'")]))
        await asyncio.sleep(0)
        await pipelines.close()
        assert await sent == [("done",)]
