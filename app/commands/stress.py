"""`brokerflow stress`: races, breaks rules, kills, and says whether the promises held."""

import asyncio
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app import logs
from app.cli import FOUND_SOMETHING, Refused, expected
from app.serving import ServiceError
from app.stress import report as reports
from app.stress.log import Head, Log, LogError, Replay
from app.stress.place import PlaceError, found_place, running_service
from app.stress.report import Report
from app.stress.run import Run

_BIGGEST_SEED = 2**31


@click.command(name="stress")
@click.option("--duration", type=click.FloatRange(1, 86_400), default=90, show_default=True, help="Seconds at work.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=8, show_default=True, help="Deeds at once.")
@click.option("--seed", type=click.IntRange(0), help="What decides; a random one is told.")
@click.option("--dsn", help="A superuser's URL of a server for tests; it gets a database of its own, and loses it.")
@click.option("--replay", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Decide as this log says.")
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="Where decisions are written down.")
@click.option("--chaos/--no-chaos", default=True, help="Kill what can be killed.", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(  # noqa: PLR0913, PLR0917 - each is an option
    duration: float,
    concurrency: int,
    seed: int | None,
    dsn: str | None,
    replay: Path | None,
    log: Path | None,
    chaos: bool,  # noqa: FBT001 - click passes flags by name
    as_json: bool,  # noqa: FBT001
) -> int:
    """Let actors race and break rules while chaos kills what it can; exit status 1 when a promise was broken.

    The server is that of --dsn, else of BROKERFLOW_TEST_URL, else Docker's, else one of its own. Only that is killed
    as well; of others, backends are ended. What each actor decides follows from the seed alone.
    """
    logs.configure("error")  # that connections are lost is no news here
    with expected(), _told():
        decided = None if replay is None else Replay.of(replay)
        chosen = random.randrange(_BIGGEST_SEED) if seed is None else seed  # noqa: S311 - no secret
        head = Head(chosen, concurrency, duration) if decided is None else decided.head
        report = _play(head, dsn, decided, log or _log_of(head), has_chaos=chaos)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report, enc_hook=str)))
    else:
        reports.show(report, Console(highlight=False, markup=False))
    return FOUND_SOMETHING if report.findings else 0


def _log_of(head: Head) -> Path:
    return Path(tempfile.gettempdir()) / f"brokerflow-stress-{head.seed}.jsonl"


def _play(head: Head, dsn: str | None, replay: Replay | None, log: Path, *, has_chaos: bool) -> Report:
    with (
        _progress(head.duration) as progress,
        found_place(dsn, progress.console.print) as place,
        running_service(place) as (service, key),
        log.open("wb") as file,
    ):
        run = Run(
            head,
            place,
            service,
            key,
            Log(file, head),
            str(log),
            progress.console.print,
            replay,
            has_chaos,
        )
        progress.start_task(progress.tasks[0].id)
        return asyncio.run(run.play())


@contextmanager
def _progress(duration: float) -> Iterator[Progress]:
    """Show how far it is, on standard error."""
    columns = (TextColumn("stress"), BarColumn(), TimeElapsedColumn(), TextColumn(f"of {duration:.0f} s"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task("stress", start=False, total=None)
        yield progress


@contextmanager
def _told() -> Iterator[None]:
    """Turn what keeps a stress from beginning into a sentence."""
    try:
        yield
    except (PlaceError, ServiceError, LogError) as error:
        raise Refused(str(error)) from error
    except psycopg.ProgrammingError as error:
        raise Refused(f"the server cannot be used: {error.diag.message_primary or 'the DSN is no URL'}.") from error
