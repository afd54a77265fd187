"""The ledger of what clients were told, and its reconciliation with the database: acknowledged means durable."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import AsyncConnection, IsolationLevel

from app import queries as running
from app.database import Transaction
from app.shared import queries
from app.stress.ways import Answer, query_of

# Kinds of rows, each a query of sql/stress/ledger.sql. Of the first all rows come from the stress.
OURS: Final = (
    "referrals", "invitations", "answers", "drafts", "signatures", "reads", "events", "disputes", "verdicts",
    "invoices", "settlements", "cancellations", "votes", "secrets", "answered",
)  # fmt: skip
KINDS: Final = (*OURS, "moves")

Connection = AsyncConnection[tuple[Any, ...]]


class Row(msgspec.Struct, frozen=True):
    """A row as the ledger's queries return it."""

    mark: str
    id: UUID | str | None
    whole: bool
    done: bool


class Complaint(msgspec.Struct, frozen=True):
    """Where the database and what clients were told differ."""

    kind: str
    mark: str
    finding: str


@dataclass
class Entry:
    """One request: unknown from when it is sent to when it is answered."""

    actor: str
    verdict: str = "unknown"
    said: str | None = None  # the id in the answer

    def close(self, answer: Answer) -> None:
        """Write down what came back."""
        self.verdict = answer.verdict
        self.said = str(answer.body["id"]) if answer.is_committed and "id" in answer.body else None


@dataclass
class Ledger:
    """Every request with an effect, by kind and mark: several may be about the same."""

    entries: dict[str, dict[str, list[Entry]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    reconciliations: int = 0
    compared: int = 0

    def open(self, kind: str, mark: str, actor: str) -> Entry:
        """Write a request down before it is sent."""
        entry = Entry(actor)
        self.entries[kind][mark].append(entry)
        return entry

    async def reconcile(self, connection: Connection, *, is_quiet: bool) -> list[Complaint]:
        """Compare with the database as the auditor, in one snapshot; `is_quiet` says that no request is under way.

        The connection is an idle one of a login that may become the auditor. Raises psycopg.Error.
        """
        before = {kind: _told(marks) for kind, marks in self.entries.items()}
        rows = await _rows(connection)
        complaints = [
            Complaint(kind, mark, finding)
            for kind in KINDS
            for mark, finding in self.compared_with(kind, before.get(kind, {}), rows[kind], is_quiet=is_quiet)
        ]
        self.reconciliations += 1
        self.compared = sum(len(entries) for marks in self.entries.values() for entries in marks.values())
        return complaints

    def compared_with(
        self, kind: str, told: Mapping[str, set[str]], rows: Sequence[Row], *, is_quiet: bool
    ) -> Iterator[tuple[str, str]]:
        """Compare the entries of a kind with its rows: a mark and a finding each; `told` are ids of what was said."""
        found: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            found[row.mark].append(row)
        for mark, entries in list(self.entries[kind].items()):
            there = found.pop(mark, [])
            for finding in _findings(entries, told.get(mark), there):
                yield mark, f"{finding} ({', '.join(sorted({each.actor for each in entries}))})"
        if is_quiet and kind in OURS:
            yield from ((str(mark), "it is there, and nobody asked for it") for mark in found)


def _told(marks: Mapping[str, list[Entry]]) -> dict[str, set[str]]:
    """Return, by mark, the ids of what is acknowledged by now: what is acknowledged later may not be seen yet."""
    return {
        mark: {entry.said or "" for entry in entries if entry.verdict == "committed"}
        for mark, entries in marks.items()
        if any(entry.verdict == "committed" for entry in entries)
    }


def _findings(entries: Sequence[Entry], told: set[str] | None, there: Sequence[Row]) -> Iterator[str]:
    """Judge the rows of one mark by what the clients were told of it."""
    done = [row for row in there if row.done]
    if told is not None and not done:
        yield "it was acknowledged, and is not there"
    if len(there) > 1:
        yield f"it is there {len(there)} times"
    if not all(row.whole for row in there):
        yield "it is there in part"
    if done and {entry.verdict for entry in entries} <= {"refused", "aborted"}:
        yield "it was refused, and is there"
    if told and done and done[0].id is not None and not told <= {"", str(done[0].id)}:
        yield f"the answer named {', '.join(sorted(told))}, and there is {done[0].id}"


async def _rows(connection: Connection) -> dict[str, list[Row]]:
    await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
    await connection.set_read_only(True)
    async with connection.transaction():
        db = Transaction(connection)
        await queries.become_auditor(db)
        return {kind: await running.many(db, query_of(kind), Row, {}) for kind in KINDS}
