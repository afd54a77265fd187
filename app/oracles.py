"""The oracles of sql/oracles: each asks for what must never be, as the auditor, all of them in one snapshot."""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from psycopg import AsyncConnection, AsyncRawCursor, IsolationLevel, ProgrammingError

from app.database import Transaction
from app.shared import queries

ROOT: Final = Path(__file__).resolve().parent.parent / "sql" / "oracles"
MANIFEST: Final = ROOT / "manifest.json"
SHOWN: Final = 100  # rows of an oracle that are kept; the rest is counted

Connection = AsyncConnection[tuple[Any, ...]]

_HEAD: Final = re.compile(r"-- (O[1-9]\d?): ([A-Z].*)\.\n-- axioms: (all|A\d+(?: A\d+)*)\n")
_PLACEHOLDER: Final = ":'manifest'"  # as psql writes a variable that is quoted


class OracleError(Exception):
    """An oracle's file that breaks the conventions; the message names it."""


class NoSchema(Exception):  # noqa: N818 - what is so, not a mistake
    """No oracle could be asked: there is nothing of BrokerFlow in the database; the message is PostgreSQL's."""


class Oracle(msgspec.Struct, frozen=True):
    """One file: what must never be, in words and as the SELECT that finds it; `axioms` is empty for all of them."""

    id: str
    axioms: tuple[str, ...]
    never: str
    sql: str

    @property
    def takes_manifest(self) -> bool:
        """Whether it compares the catalog with the manifest."""
        return _PLACEHOLDER in self.sql


class Answer(msgspec.Struct, frozen=True):
    """What an oracle found: the first rows of its violations, each with a subject and a finding.

    `obstacle` is why it could not be asked, which is a violation as well.
    """

    oracle: str
    axioms: tuple[str, ...]
    never: str
    violations: int
    seconds: float
    rows: list[dict[str, Any]]
    obstacle: str | None = None


def load(root: Path = ROOT) -> list[Oracle]:
    """Read the oracles, by number. Raises OracleError for a head that cannot be read, and for a number given twice."""
    found = sorted((_read(path) for path in root.glob("*.sql")), key=lambda oracle: int(oracle.id[1:]))
    names = [oracle.id for oracle in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise OracleError(f"{root}: given twice: {', '.join(twice)}")
    return found


def _read(path: Path) -> Oracle:
    text = path.read_text(encoding="ascii")
    if (head := _HEAD.match(text)) is None:
        raise OracleError(f"{path}: begins with '-- O1: A sentence.' and '-- axioms: A1'")
    axioms = () if head[3] == "all" else tuple(head[3].split())
    return Oracle(head[1], axioms, head[2], text[head.end() :].strip().removesuffix(";"))


async def ask(
    connection: Connection,
    oracles: Sequence[Oracle],
    report: Callable[[Oracle], None] = lambda _: None,
    *,
    manifest: str | None = None,
) -> list[Answer]:
    """Ask every oracle in one snapshot, which nothing written meanwhile disturbs; `report` hears of each before.

    The connection is an idle one of a login that may become the auditor. An oracle that PostgreSQL refuses, because
    what it looks at is gone or withheld, has found that. Raises psycopg.Error, and NoSchema where it refuses them all.
    """
    await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
    await connection.set_read_only(True)
    expected = MANIFEST.read_text() if manifest is None else manifest
    answers = []
    async with connection.transaction():
        await queries.become_auditor(Transaction(connection))
        for oracle in oracles:
            report(oracle)
            answers.append(await _ask(connection, oracle, expected))
    if all(answer.obstacle for answer in answers):
        raise NoSchema(answers[0].obstacle)
    return answers


async def _ask(connection: Connection, oracle: Oracle, manifest: str) -> Answer:
    began = time.perf_counter()
    obstacle = None
    try:
        async with connection.transaction():
            count, rows = await _rows(connection, *statement(oracle, manifest))
    except ProgrammingError as error:
        obstacle = str(error.diag.message_primary)
        count, rows = 1, [{"subject": f"oracle/{oracle.id}", "finding": f"it cannot be asked: {obstacle}"}]
    seconds = round(time.perf_counter() - began, 3)
    return Answer(oracle.id, oracle.axioms, oracle.never, count, seconds, rows, obstacle)


async def _rows(connection: Connection, text: bytes, parameters: Sequence[str]) -> tuple[int, list[dict[str, Any]]]:
    """Count the rows of a statement, and return the first."""
    count, rows = 0, []
    async with AsyncRawCursor(connection) as cursor:
        async for row in cursor.stream(text, parameters):
            count += 1
            if count <= SHOWN:
                columns = [column.name for column in cursor.description or ()]
                rows.append(dict(zip(columns, row, strict=True)))
    return count, rows


def statement(oracle: Oracle, manifest: str) -> tuple[bytes, list[str]]:
    """Return what to run, for a raw cursor, and its parameters."""
    text = oracle.sql.replace(_PLACEHOLDER, "$1")
    return text.encode(), [manifest] if oracle.takes_manifest else []


async def record(connection: Connection, answers: Sequence[Answer]) -> None:
    """Store how many violations each found, for all to see; what was found is stored nowhere. Raises psycopg.Error."""
    await connection.set_read_only(False)
    results = [
        {"oracle": each.oracle, "axioms": each.axioms, "violations": each.violations, "seconds": each.seconds}
        for each in answers
    ]
    async with connection.transaction():
        db = Transaction(connection)
        await queries.become_auditor(db)
        await queries.record_oracle_results(db, results=results)
