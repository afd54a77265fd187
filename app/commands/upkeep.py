"""`brokerflow upkeep`: makes the months ahead and archives those that are over, as a login that may do just that."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import click
import psycopg
from psycopg import sql
from psycopg.errors import DeadlockDetected, LockNotAvailable

from app.cli import FOUND_SOMETHING, Refused, configured, embedded, expected, progress

Worker = psycopg.Connection[tuple[Any, ...]]

MONTHS_AHEAD = 3

_PAUSE = 1.0  # seconds


class Month(click.ParamType[date]):
    """A month, as `2026-11`: its first day."""

    name = "YYYY-MM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Read it."""
        if isinstance(value, date):
            return value
        if not re.fullmatch(r"[1-9]\d{3}-(0[1-9]|1[0-2])", value):
            self.fail("is no month such as 2026-11", param, ctx)
        return date.fromisoformat(f"{value}-01")


@click.command(name="upkeep")
@click.option(
    "--months", type=click.IntRange(0, 24), default=MONTHS_AHEAD, show_default=True, help="How many to make ahead."
)
@click.option("--archive-before", type=Month(), help="Archive the months before this one; without it, none.")
@click.option("--patience", type=click.IntRange(0), default=30, show_default=True, help="Seconds to ask who is busy.")
def command(months: int, archive_before: date | None, patience: int) -> int:
    """Make the months of timeline, audit log and outbox ahead of time, and archive old ones.

    Let it run every day. Business goes on meanwhile: what is in use is asked again for as long as --patience says. It
    works with BROKERFLOW_WORKER_URL, or on the embedded server. Exit status 1 when something could not be done.
    """
    deadline = time.monotonic() + patience
    with expected(), _worker() as worker:
        left = make_ahead(worker, months, deadline)
        if archive_before is not None:
            names = _names(worker, "archivable_partitions", archive_before)
            left += _each(worker, names, "archive_partition", "archived", deadline)
        for name, rows in worker.execute("select * from shared.count_archived()"):
            click.echo(f"{name}: {rows} rows")
    return FOUND_SOMETHING if left else 0


def make_ahead(worker: Worker, months: int = MONTHS_AHEAD, deadline: float = 0.0) -> int:
    """Make what is missing of this month and so many ahead; return of how many that could not be done.

    Until the deadline of the monotonic clock, who is in the way is asked again.
    """
    return _each(worker, _names(worker, "missing_partitions", months), "make_partition", "made", deadline)


def _names(worker: Worker, function: str, argument: int | date) -> list[str]:
    question = sql.SQL("select * from shared.{}({})").format(sql.Identifier(function), argument)
    return [str(name) for (name,) in worker.execute(question)]


def _each(worker: Worker, names: list[str], function: str, done: str, deadline: float) -> int:
    """Do it to one after the other, each in a transaction of its own; return how many could not be done."""
    left = 0
    for number, name in enumerate(names, start=1):
        progress(f"{name} ({number} of {len(names)})")
        finding = _persist(worker, name, function, deadline)
        left += finding is not None
        click.echo(f"{name}: {finding or done}")
    return left


def _persist(worker: Worker, name: str, function: str, deadline: float) -> str | None:
    statement = sql.SQL("select shared.{}({})").format(sql.Identifier(function), name)
    while True:
        try:
            [finding] = worker.execute(statement).fetchone() or [None]
        except (LockNotAvailable, DeadlockDetected):
            if time.monotonic() + _PAUSE > deadline:
                return "its table is in use by a transaction that takes long: run it again"
            time.sleep(_PAUSE)
        else:
            return finding


@contextmanager
def _worker() -> Iterator[Worker]:
    with _worker_url() as url:
        try:
            with psycopg.connect(
                url, autocommit=True, connect_timeout=5, application_name="brokerflow upkeep"
            ) as worker:
                yield worker
        except psycopg.ProgrammingError as error:
            raise Refused(
                f"the login may not do upkeep ({error.diag.message_primary}): set BROKERFLOW_WORKER_URL to "
                "brokerflow_worker, and run brokerflow migrate up."
            ) from error


@contextmanager
def _worker_url() -> Iterator[str]:
    settings = configured()
    if settings.worker_url is not None:
        yield settings.worker_url.get_secret_value()
    elif not settings.is_embedded:
        raise Refused("BROKERFLOW_WORKER_URL is not set: it names the login that does upkeep, brokerflow_worker.")
    else:
        with embedded(settings) as running:
            yield running.worker_url
