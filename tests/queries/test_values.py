"""What generated functions send and receive through psycopg keeps its value and its type."""

import datetime as dt
import importlib.util
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.errors import NumericValueOutOfRange

from app.queries import Json, RowMissing, register_adapters
from tests.queries.conftest import Generate

FILE = """
-- name: open_account(id, kind, kinds, title, normal, big, amount, opened_at, due, grace, digest, tags, nums, details)<!
-- Open an account.
-- record: Account
-- optional: title, normal, details
insert into ledger.accounts
    (id, kind, kinds, title, normal, big, amount, opened_at, due, grace, digest, tags, numbers, details, raw)
values (
    :id, :kind, :kinds, :title, :normal, :big, :amount, :opened_at, :due, :grace, :digest, :tags, :nums,
    coalesce(:details::json, '{}')::jsonb, :details
)
returning
    id, kind, kinds::text[], title, normal, big, amount, is_open, opened_at, due, grace, digest, tags,
    numbers as nums, details, raw;

-- name: find_account(id, kinds, openings)^
-- Find an account.
-- optional: kinds, openings
select id, kind, '100 %' as share from ledger.accounts
where id = :id
    and (:kinds::ledger.kind[] is null or kind = any (:kinds))
    and opened_at = any (coalesce(:openings, array[opened_at]));

-- name: list_accounts()
-- List accounts.
select id from ledger.accounts;

-- name: find_entry(id)^
-- Find an entry through a function that answers null when there is none.
select * from ledger.find_entry(:id);

-- name: promise(id)<!
-- Promise an entry.
select * from ledger.find_entry(:id);

-- name: count_accounts()$
-- Count them.
select count(*) from ledger.accounts;

-- name: last_opening()$
-- Tell the last opening, if any.
select max(opened_at) from ledger.accounts;

-- name: code_of_nothing()$
-- Promise a value.
select code from ledger.accounts;

-- name: shift(by)!
-- Move all entries by an integer.
update ledger.entries set amount = amount + abs(:by::integer);

-- name: echo(value)$
-- Give a JSON value back.
-- optional: value
select :value::jsonb;
"""
NOW = dt.datetime(2026, 11, 22, 10, 0, 0, 123456, dt.timezone.utc)  # noqa: UP017 - the very zone that is expected


class Transaction:
    """An open transaction as the service's: raw cursors, everything prepared."""

    def __init__(self, connection: AsyncConnection[tuple[Any, ...]]) -> None:
        self.connection = connection

    async def fetch(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        cursor = await self.connection.execute(sql.encode(), parameters)
        return await cursor.fetchall() if cursor.description else []


@pytest.fixture
async def db(ledger_url: str) -> AsyncIterator[Transaction]:
    """A transaction that does not last."""
    connection = await psycopg.AsyncConnection.connect(
        ledger_url, prepare_threshold=0, cursor_factory=AsyncRawCursor, options="-c timezone=UTC"
    )
    register_adapters(connection)
    async with connection:
        yield Transaction(connection)
        await connection.rollback()


@pytest.fixture
def queries(generate: Generate, tmp_path: Path) -> Any:
    """The generated module, imported."""
    path = tmp_path / "generated.py"
    path.write_text(
        generate(FILE).replace('load("ledger")', f'load("ledger", __import__("pathlib").Path({str(tmp_path)!r}))')
    )
    spec = importlib.util.spec_from_file_location("generated", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def account(**changes: object) -> dict[str, object]:
    return {
        "id": uuid4(),
        "kind": "credit",
        "kinds": ["cash", "credit"],
        "big": 2**62,
        "amount": Decimal("12345.60"),
        "opened_at": NOW,
        "due": dt.date(2027, 1, 31),
        "grace": dt.timedelta(hours=36),
        "digest": b"\x00\xff",
        "tags": ["a", "it's {b}", 'c"\\'],
        "nums": [1, 40_000, 2**40],
    } | changes


async def test_every_type_comes_back_as_it_was_sent(db: Transaction, queries: Any) -> None:
    sent = account(title="x", normal=7, details={"fee": Decimal("1.50"), "at": NOW})
    opened = await queries.open_account(db, **sent)
    raw = {"details": msgspec.Raw(b'{"at": "2026-11-22T10:00:00.123456Z", "fee": "1.50"}')}
    assert {name: getattr(opened, name) for name in sent} == sent | raw
    assert opened.raw == msgspec.Raw(b'{"fee":"1.50","at":"2026-11-22T10:00:00.123456Z"}')
    assert isinstance(opened.id, UUID)
    assert isinstance(opened.amount, Decimal)
    assert opened.opened_at.tzinfo is dt.UTC


async def test_a_record_encodes_as_the_contract_says(db: Transaction, queries: Any) -> None:
    opened = await queries.open_account(db, **account(details={"a": [1, None]}))
    encoded = msgspec.json.decode(msgspec.json.encode(opened))
    assert encoded["id"] == str(opened.id)
    assert encoded["amount"] == "12345.60"
    assert encoded["opened_at"] == "2026-11-22T10:00:00.123456Z"
    assert encoded["details"] == {"a": [1, None]}
    assert encoded["title"] is None


async def test_what_is_left_out_is_null(db: Transaction, queries: Any) -> None:
    opened = await queries.open_account(db, **account())
    assert (opened.title, opened.normal, opened.raw) == (None, None, None)
    assert opened.details == msgspec.Raw(b"{}")


async def test_arrays_and_nulls_pass_as_parameters(db: Transaction, queries: Any) -> None:
    opened = await queries.open_account(db, **account())
    assert await queries.find_account(db, id=opened.id) == queries.FindAccountRow(opened.id, "credit", "100 %")
    assert await queries.find_account(db, id=opened.id, kinds=["credit"], openings=[NOW]) is not None
    assert await queries.find_account(db, id=opened.id, kinds=[]) is None
    assert await queries.find_account(db, id=opened.id, kinds=["cash"]) is None


async def test_rows_values_and_their_absence(db: Transaction, queries: Any) -> None:
    assert await queries.list_accounts(db) == []
    assert await queries.count_accounts(db) == 0
    assert await queries.last_opening(db) is None
    assert await queries.find_entry(db, id=uuid4()) is None
    with pytest.raises(RowMissing, match=r"ledger\.promise promises a row"):
        await queries.promise(db, id=uuid4())
    with pytest.raises(RowMissing, match=r"ledger\.code_of_nothing promises a value"):
        await queries.code_of_nothing(db)
    opened = await queries.open_account(db, **account())
    assert [row.id for row in await queries.list_accounts(db)] == [opened.id]
    assert await queries.count_accounts(db) == 1
    assert await queries.last_opening(db) == NOW


@pytest.mark.parametrize(
    "value", [{"a": 1}, [1, "x", None], "it's", 1.5, True, {}, msgspec.Raw(b'{"b": 2}'), {"é": "\U0001f600"}]
)
async def test_json_is_passed_through_as_text(db: Transaction, queries: Any, value: object) -> None:
    echoed = await queries.echo(db, value=value)
    assert msgspec.json.decode(echoed) == msgspec.json.decode(msgspec.json.encode(value))


async def test_a_json_null_is_no_sql_null(db: Transaction, queries: Any) -> None:
    assert await queries.echo(db) is None
    assert await db.fetch("select $1::jsonb", [Json(None)]) == [(msgspec.Raw(b"null"),)]


async def test_a_number_out_of_range_is_refused_as_such(db: Transaction, queries: Any) -> None:
    with pytest.raises(NumericValueOutOfRange):
        await queries.shift(db, by=3_000_000_000)


async def test_a_query_is_prepared_once_whatever_the_size_of_its_numbers(db: Transaction, queries: Any) -> None:
    for by in (1, 40_000, 2_000_000_000):
        await queries.shift(db, by=by)
    statements = await db.fetch("select statement from pg_prepared_statements", [])
    assert len([text for (text,) in statements if "update ledger.entries" in cast("str", text)]) == 1
