"""The figures as tables: medians of the rounds, and how they compare."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from scripts.benchmark.cases import NO_DATABASE
from scripts.benchmark.measuring import Figures, Row

NONE = "–"  # noqa: RUF001 - a dash is what is meant


def machine() -> str:
    """Name the day, the processor and the Python."""
    return f"{datetime.now(UTC).date()}, {_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def heading(postgres: str, generator: str, ceiling: float, rows: Sequence[Row]) -> str:
    """Say when, where and with what this was measured."""
    held: dict[str, float] = {"the service": max((row.service.memory for row in rows), default=0.0)}
    for row in rows:
        for name, figures in row.peers.items():
            held[name] = max(held.get(name, 0.0), figures.memory)
    memory = ", ".join(f"{name} {figure:.0f}" for name, figure in held.items())
    return (
        f"{machine()}, PostgreSQL {postgres}; load by {generator}, on the same machine, and by our own client for"
        f" what can be done but once: that makes {ceiling:,.0f} requests a second at most.\nMemory in MB: {memory}."
    )


def table(rows: Sequence[Row]) -> str:
    """Write the service's rows as Markdown, each beside PostgreSQL alone."""
    base = next((row.service.rate for row in rows if row.name == NO_DATABASE), None)
    titles = ["request", "a second", "p50 ms", "p99 ms", "of no database"]
    titles += ["PostgreSQL alone", "of that", "in one flight", "of that", "CPU µs service", "CPU µs PostgreSQL"]
    lines = _head(titles)
    for row in rows:
        rate = row.service.rate
        shares = [_share(rate, base), *_limit(rate, row.limit), *_limit(rate, row.flight)]
        lines.append(_line([row.name, *_speed(row.service), *shares, *_cpu(row.service)]))
    return "\n".join([*lines, *_failures(rows)])


def peers(rows: Sequence[Row]) -> str:
    """Write the peers' rows as Markdown, and how many times as fast the service is."""
    lines = _head(
        ["request", "peer", "a second", "p50 ms", "p99 ms", "BrokerFlow is", "CPU µs service", "CPU µs PostgreSQL"]
    )
    for row in rows:
        for name, figures in row.peers.items():
            times = f"{row.service.rate / figures.rate:.1f} times" if figures.rate else NONE
            lines.append(_line([row.name, name, *_speed(figures), times, *_cpu(figures)]))
    return "\n".join(lines)


def growth(measured: Sequence[tuple[str, list[Figures]]], sizes: Sequence[str]) -> str:
    """Write medians in milliseconds as Markdown, and how many times the last is the first."""
    lines = _head(["request", *sizes, "grows"])
    for name, figures in measured:
        times = f"{figures[-1].p50 / figures[0].p50:.2f} times" if figures[0].p50 else NONE
        lines.append(_line([name, *(f"{each.p50:.2f}" for each in figures), times]))
        failed = sum(each.errors for each in figures)
        lines += [_line([f"{failed} of these failed"])] if failed else []
    return "\n".join(lines)


def _limit(rate: float, limit: Figures) -> list[str]:
    return [f"{limit.rate:,.0f}", _share(rate, limit.rate)] if limit.rounds else [NONE, NONE]


def _failures(rows: Sequence[Row]) -> list[str]:
    told = []
    for row in rows:
        for name, figures in {"the service": row.service, **row.peers}.items():
            if figures.errors:
                told.append(f"{figures.errors} of {figures.requests} requests failed: “{row.name}” of {name}.")
    return ["", *told] if told else []


def _head(titles: Sequence[str]) -> list[str]:
    return [_line(titles), "|---" * len(titles) + "|"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _speed(figures: Figures) -> list[str]:
    return [f"{figures.rate:,.0f}", f"{figures.p50:.1f}", f"{figures.p99:.1f}"]


def _cpu(figures: Figures) -> list[str]:
    return [_each(figures.service_cpu, figures.requests), _each(figures.postgres_cpu, figures.requests)]


def _share(rate: float, whole: float | None) -> str:
    return f"{rate / whole:.0%}" if whole else NONE


def _each(seconds: float, requests: int) -> str:
    return f"{seconds / requests * 1e6:,.0f}" if requests else NONE


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
