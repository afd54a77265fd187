"""What a stress found, and how it is told."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app import oracles
from app.stress.actors import KINDS, Actor, Tally
from app.stress.ledger import Complaint

SHOWN = 10  # rows of what was found


class Line(msgspec.Struct, frozen=True):
    """What the actors of a kind were answered: in all, and by what refused them."""

    actor: str
    attempted: int
    committed: int
    refused: Mapping[str, int]
    aborted: int
    unknown: int
    settled: int


class Report(msgspec.Struct, frozen=True):
    """A run and what came of it. `findings` are sentences; without one it was good."""

    seed: int
    seconds: float
    concurrency: int
    server_version: str
    lines: Sequence[Line]
    chaos: Mapping[str, int]
    oracle_rounds: int
    violations: Sequence[oracles.Answer]
    reconciliations: int
    requests_compared: int
    complaints: Sequence[Complaint]
    findings: Sequence[str]
    log: str
    last: Mapping[str, Sequence[Mapping[str, Any]]] = {}


def lines(actors: Sequence[Actor], causes: Mapping[str, str]) -> list[Line]:
    """Add up, by kind; `causes` say which constraint refused a request, by its number."""
    by_kind = {kind: [actor.tally for actor in actors if actor.kind == kind] for kind in KINDS}
    return [_line(kind, tallies, causes) for kind, tallies in by_kind.items()]


def _line(kind: str, tallies: Sequence[Tally], causes: Mapping[str, str]) -> Line:
    refused = sum((_by_cause(each, causes) for each in tallies), Counter[str]())
    return Line(
        kind,
        sum(each.attempted for each in tallies),
        sum(each.committed for each in tallies),
        dict(refused.most_common()),
        sum(each.aborted for each in tallies),
        sum(each.unknown for each in tallies),
        sum(each.settled for each in tallies),
    )


def _by_cause(tally: Tally, causes: Mapping[str, str]) -> Counter[str]:
    """Name the constraint in place of a problem's code, where the audit log knows it."""
    known = Counter(tally.refused)
    for request, code in tally.requests.items():
        if (cause := causes.get(request)) is not None:
            known[code] -= 1
            known[cause] += 1
    return +known


def shortcomings(told: Iterable[Line]) -> list[str]:
    """Say which kind of actor has not had its part: without it the run has proved nothing about it."""
    found = []
    for line in told:
        refused = sum(line.refused.values())
        if KINDS[line.actor].commits and not line.committed:
            found.append(f"no {line.actor} did anything: {line.attempted} attempts, {refused} refused")
        if line.committed and not KINDS[line.actor].commits:
            found.append(f"a {line.actor} was let through {line.committed} times")
        if not refused:
            found.append(f"no {line.actor} was refused anything in {line.attempted} attempts")
    return found


def show(report: Report, console: Console) -> None:
    """Tell it to people."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("actor", "attempted", "committed", "refused", "aborted", "unknown", "settled"):
        table.add_column(column, justify="left" if column == "actor" else "right", no_wrap=True)
    for line in report.lines:
        counts = (line.attempted, line.committed, sum(line.refused.values()), line.aborted, line.unknown, line.settled)
        table.add_row(line.actor, *map(str, counts))
    console.print(table)
    console.print(Text("\nRefused by:", style="dim"))
    for line in report.lines:
        by = ", ".join(f"{name} {count}" for name, count in line.refused.items())
        console.print(Text(f"  {line.actor}: {by}"), soft_wrap=True)
    _show_sums(report, console)
    if report.findings:
        _show_findings(report, console)
    else:
        console.print(Text("Nothing lost, nothing half done, nothing let through.", style="bold green"))


def _show_sums(report: Report, console: Console) -> None:
    blows = ", ".join(f"{name} {count}" for name, count in report.chaos.items()) or "none"
    violations = sum(each.violations for each in report.violations)
    console.print(
        f"\nSeed {report.seed}: PostgreSQL {report.server_version}, {report.seconds:.0f} seconds, "
        f"{report.concurrency} at once. Chaos: {blows}.\n"
        f"Oracles: {report.oracle_rounds} rounds, {violations} violations. Ledger: {report.requests_compared} requests "
        f"compared {report.reconciliations} times, {len(report.complaints)} differences.",
        soft_wrap=True,
    )


def _show_findings(report: Report, console: Console) -> None:
    for name, rows in report.last.items():
        console.print(Text(f"\nThe last {len(rows)} rows of {name}:", style="bold"))
        for row in rows:
            console.print(Text("  " + _told(row)), soft_wrap=True)
    console.print(Text(f"\nSeed {report.seed} found:", style="bold red"))
    for finding in report.findings:
        console.print(Text(f"  {finding}"), soft_wrap=True)
    for answer in report.violations:
        console.print(Text(f"\n{answer.oracle}: {answer.never}", style="bold"))
        for row in answer.rows[:SHOWN]:
            console.print(Text("  " + _told(row)), soft_wrap=True)
    for complaint in report.complaints[:SHOWN]:
        console.print(Text(f"  {complaint.kind} {complaint.mark}: {complaint.finding}"), soft_wrap=True)
    console.print(f"\nIts decisions again: brokerflow stress --replay {report.log}")


def _told(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in row.items() if value is not None)


def _text(value: object) -> str:
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)
