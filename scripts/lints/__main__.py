"""The command: applies the chapters, asks the oracles and the lints, and has squawk read the files."""

import asyncio
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import click
import psycopg
from psycopg import AsyncConnection, AsyncRawCursor

from app import migrations, oracles
from app.queries import register_adapters
from scripts.throwaway import migrated

_SQL = Path(__file__).parents[2] / "sql"
_SQUAWK = Path(sysconfig.get_path("scripts")) / "squawk"
_WAIVER = re.compile(r"^-- Waived (?P<lint>\w+): (?P<subject>.+?)\. \S.+$", re.MULTILINE)


class Finding(NamedTuple):
    """What a lint says of an object."""

    lint: str
    subject: str
    says: str

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.lint}: {self.subject}: {self.says}"


@click.command()
@click.option("--dsn", help="A migrated database to ask, in place of a throwaway one.")
def lint(dsn: str | None) -> None:
    """Say what is wrong with the schema though PostgreSQL takes it; exit status 1 when something is.

    Each file of sql/lints is one SELECT whose rows are findings. One that is meant is waived in the chapter, beside its
    object: `-- Waived <lint>: <subject>. <reason>`. The oracles must answer, and find nothing where nothing is.
    """
    try:
        with migrated() if dsn is None else nullcontext(dsn) as url:
            findings = asyncio.run(_ask(url))
    except (migrations.MigrationError, oracles.OracleError, psycopg.Error) as error:
        raise click.ClickException(f"the schema cannot be asked: {error}") from error
    for finding in findings:
        click.echo(finding)
    if not _squawk_is_content() or findings:
        raise click.exceptions.Exit(1)


async def _ask(url: str) -> list[Finding]:
    async with await AsyncConnection.connect(url, autocommit=True, cursor_factory=AsyncRawCursor) as connection:
        register_adapters(connection)
        answers = await oracles.ask(connection, oracles.load())
        found = await _lints(connection)
    waived = set(_waivers())
    stale = [Finding(*waiver, "it is waived and not found") for waiver in waived - {each[:2] for each in found}]
    wrong = [Finding("oracle", each.oracle, f"{each.violations} violations") for each in answers if each.violations]
    return [*wrong, *(each for each in found if each[:2] not in waived), *sorted(stale)]


async def _lints(connection: AsyncConnection[Any]) -> list[Finding]:
    found = []
    for path in sorted((_SQL / "lints").glob("*.sql")):
        cursor = await connection.execute(path.read_text().encode())
        found += [Finding(path.stem, subject, says) for subject, says in await cursor.fetchall()]
    return found


def _waivers() -> Iterator[tuple[str, str]]:
    for path in sorted((_SQL / "schema").glob("*.sql")):
        for told in _WAIVER.finditer(path.read_text()):
            yield told["lint"], told["subject"]


def _squawk_is_content() -> bool:
    """Have the files read, which the catalog does not remember; .squawk.toml says which rules are not ours and why."""
    chapters = [path for path in sorted((_SQL / "schema").glob("*.sql")) if not path.name.endswith(".rollback.sql")]
    return subprocess.run([_SQUAWK, *chapters], check=False).returncode == 0


lint(prog_name="scripts/lint")
