"""Fills a database past its triggers, as legally as they would: many tenants, agreements and what these left behind."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import Connection, sql

from app.shared import tokens

FOLDER = Path(__file__).with_name("crowd")
BATCH = 20_000
REFERRAL, AGREEMENT, MATCH = 1, 2, 3
ORGANIZATION, USER = 10, 11
# Each kind of row has numbers of its own, the later ones where new rows would go: at the right edge of the indexes.
DEPTHS_FROM, PENDING_FROM, INVITED_FROM = 10**8, 2 * 10**8, 3 * 10**8
EFFECTIVE_EVERY = 20  # of the benchmark's own; a tenth of all are effective


class Size(NamedTuple):
    """How much there is to be.

    `depths` are the lengths of the timelines of as many agreements; `pending` agreements await their signature and
    `invited` agents an answer, for what can be done but once. `tokens` are known to the caller, of tenants from 3 on.
    """

    agreements: int
    organizations: int = 100
    depths: Sequence[int] = ()
    pending: int = 0
    invited: int = 0
    tokens: Sequence[str] = ()


def row_id(kind: int, number: int) -> UUID:
    """Return the id of a row by its number, as pg_temp.id does."""
    return UUID(f"{number:012x}70008000{kind:012x}")


def row_expression(kind: int, number: str) -> str:
    """Return the same as an SQL expression over the number."""
    return f"(lpad(to_hex({number}::bigint), 12, '0') || '70008000{kind:012x}')::uuid"


def effective_id(position: int) -> UUID:
    """Return the id of an effective agreement between the benchmark's own brokers, counted from 1."""
    return row_id(AGREEMENT, EFFECTIVE_EVERY * position)


def depth_id(position: int) -> UUID:
    """Return the id of the agreement with the timeline at a position of `depths`."""
    return row_id(AGREEMENT, DEPTHS_FROM + position)


def load(url: str, size: Size) -> Iterator[int]:
    """Fill the database of a superuser's URL; yields how many agreements are done, from time to time."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("set synchronous_commit = off")
        _set(connection, organizations=size.organizations)
        connection.execute("create temporary table known_digests (n integer, digest bytea)")
        known = [(number, tokens.digest(token)) for number, token in enumerate(size.tokens, 3)]
        with connection.cursor() as cursor:
            cursor.executemany("insert into known_digests values (%s, %s)", known)
        _run(connection, "people")
        for batch in _batches(1, size.agreements):
            _deal(connection, batch, "case when n % 10 = 0 then 3 else 1 end", size.organizations)
            yield batch[-1]
        _add_depths(connection, size.depths)
        for batch in _batches(PENDING_FROM, size.pending):
            _deal(connection, batch, "2")
        if size.invited:
            _set(connection, **{"from": INVITED_FROM, "to": INVITED_FROM + size.invited - 1})
            _run(connection, "invitations")
        connection.execute("vacuum (analyze)")


def _batches(first: int, count: int) -> Iterator[range]:
    for start in range(first, first + count, BATCH):
        yield range(start, min(start + BATCH, first + count))


def _deal(
    connection: Connection[Any], numbers: range, steps: str, organizations: int = 2, *, and_traces: bool = True
) -> None:
    """Make the agreements of these numbers: half of them between the benchmark's own brokers."""
    others = organizations - 2
    whose = "1, 2" if not others else (
        f"case when n % 4 < 2 then 1 else 3 + (n / 2) % {others} end,"
        f" case when n % 4 < 2 then 2 else 3 + (n / 2 + 1) % {others} end"
    )  # fmt: skip
    connection.execute("truncate deals")
    connection.execute(
        f"insert into deals select n, pg_temp.id({REFERRAL}, n), pg_temp.id({AGREEMENT}, n), {steps}, {whose},"
        f" shared.clock() - interval '1 hour' from generate_series({numbers[0]}, {numbers[-1]}) as n".encode()
    )
    _run(connection, "agreements")
    if and_traces:
        _run(connection, "traces")


def _add_depths(connection: Connection[Any], depths: Sequence[int]) -> None:
    if not depths:
        return
    connection.execute("create temporary table depths (n bigint, depth integer)")
    with connection.cursor() as cursor:
        rows = [(DEPTHS_FROM + position, depth) for position, depth in enumerate(depths)]
        cursor.executemany("insert into depths values (%s, %s)", rows)
    _deal(connection, range(DEPTHS_FROM, DEPTHS_FROM + len(depths)), "3", and_traces=False)
    _run(connection, "depths")
    _run(connection, "traces")


def _run(connection: Connection[Any], name: str) -> None:
    connection.execute((FOLDER / f"{name}.sql").read_bytes())


def _set(connection: Connection[Any], **values: int) -> None:
    for name, value in values.items():
        connection.execute(sql.SQL("set {} = {}").format(sql.Identifier("bench", name), sql.Literal(str(value))))
