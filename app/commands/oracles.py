"""`brokerflow oracles`: asks a database for violations of the axioms, and says where they are."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
import msgspec
import psycopg
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.errors import ReadOnlySqlTransaction
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app import oracles
from app.cli import FOUND_SOMETHING, Refused, configured, embedded, expected, permitted, progress
from app.oracles import Answer, NoSchema, Oracle
from app.queries import register_adapters

_LISTED = 10  # rows of each oracle that the table is followed by; --json has more
_NUMBERS = {"found", "seconds"}
_REMEDY = (
    "give the URL of the database's owner or of a superuser, or let one run: grant brokerflow_auditor to the login"
)


@click.command(name="oracles")
@click.option("--dsn", help="PostgreSQL to ask, as its owner, an auditor or a superuser.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each round of --watch.")
@click.option("--watch", type=click.FloatRange(0.1), metavar="SECONDS", help="Ask again and again until one is found.")
def command(dsn: str | None, as_json: bool, watch: float | None) -> int:  # noqa: FBT001 - click passes flags by name
    """Ask the database for what must never be; exit status 1 when there is some.

    Each oracle of sql/oracles is one SELECT whose rows are violations. They run as the auditor and in one snapshot, on
    the database of --dsn, else of BROKERFLOW_OWNER_URL, else on the embedded one. GET /api/axioms shows the result.
    """
    with expected(), _database_url(dsn) as url, permitted(_REMEDY), _told():
        return asyncio.run(_ask(url, watch, as_json=as_json))


@contextmanager
def _database_url(dsn: str | None) -> Iterator[str]:
    if dsn is not None:
        yield dsn.replace("postgresql+psycopg://", "postgresql://", 1)
        return
    settings = configured()
    if settings.owner_url is not None:
        yield settings.owner_url.get_secret_value()
    elif not settings.is_embedded:
        raise Refused("the service's login may not ask: set BROKERFLOW_OWNER_URL, or give --dsn.")
    else:
        with embedded(settings) as running:
            yield running.owner_url


@contextmanager
def _told() -> Iterator[None]:
    """Turn a database that no oracle can be asked of into a sentence."""
    try:
        yield
    except NoSchema as error:
        raise Refused(f"there is no BrokerFlow schema here ({error}): run brokerflow migrate up.") from error


async def _ask(url: str, watch: float | None, *, as_json: bool) -> int:
    asked = oracles.load()
    async with await _connect(url) as connection:
        while True:
            answers = await oracles.ask(connection, asked, lambda oracle: _report(oracle, asked))
            await _record(connection, answers)
            _show_json(answers, indented=watch is None) if as_json else _show(answers)
            if any(answer.violations for answer in answers):
                return FOUND_SOMETHING
            if watch is None:
                return 0
            await asyncio.sleep(watch)


async def _connect(url: str) -> oracles.Connection:
    connection = await AsyncConnection.connect(
        url, autocommit=True, cursor_factory=AsyncRawCursor, connect_timeout=5, application_name="brokerflow oracles"
    )
    register_adapters(connection)
    return connection


async def _record(connection: oracles.Connection, answers: Sequence[Answer]) -> None:
    """Store the result, if it can be: a standby only reads, and an altered schema may lack the place for it."""
    try:
        await oracles.record(connection, answers)
    except (psycopg.ProgrammingError, ReadOnlySqlTransaction) as error:
        progress(f"GET /api/axioms does not show this result: {error.diag.message_primary}.")


def _report(oracle: Oracle, asked: Sequence[Oracle]) -> None:
    progress(f"asking {oracle.id} ({asked.index(oracle) + 1} of {len(asked)}): {oracle.never}")


def _show_json(answers: Sequence[Answer], *, indented: bool) -> None:
    document = {"violations": sum(answer.violations for answer in answers), "oracles": answers}
    encoded = msgspec.json.encode(document, enc_hook=str)
    click.echo(msgspec.json.format(encoded) if indented else encoded)


def _show(answers: Sequence[Answer]) -> None:
    console = Console(highlight=False, markup=False)
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("oracle", "axioms", "what must never be", "found", "seconds"):
        table.add_column(
            column, no_wrap=not column.startswith("what"), justify="right" if column in _NUMBERS else "left"
        )
    for answer in answers:
        found = Text(str(answer.violations), style="bold red" if answer.violations else "green")
        axioms = " ".join(answer.axioms) or "all"
        table.add_row(answer.oracle, axioms, answer.never, found, f"{answer.seconds:.3f}")
    console.print(table)
    for answer in answers:
        _show_rows(console, answer)
    total = sum(answer.violations for answer in answers)
    console.print(Text(f"\n{total} violations in one snapshot, {sum(a.seconds for a in answers):.3f} seconds."))


def _show_rows(console: Console, answer: Answer) -> None:
    if answer.rows:
        console.print(Text(f"\n{answer.oracle}: {answer.never}", style="bold"))
    for row in answer.rows[:_LISTED]:
        console.print(Text(_sentence(row)), soft_wrap=True)
    if answer.violations > _LISTED:
        console.print(Text(f"... and {answer.violations - _LISTED} more"))


def _sentence(row: dict[str, Any]) -> str:
    details = ", ".join(
        f"{name} {value}" for name, value in row.items() if name not in {"subject", "finding"} and value is not None
    )
    return f"  {row['subject']}: {row['finding']}" + (f" ({details})" if details else "")
