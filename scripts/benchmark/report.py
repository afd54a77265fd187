"""The figures as a table and as a picture."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from scripts.benchmark.load import Round

_BAR, _ROW, _LEFT, _WIDE = 18, 46, 150, 460


@dataclass
class Row:
    """A case's rounds on the service, and PostgreSQL's alone; CPU in seconds of all rounds together."""

    name: str
    rounds: list[Round]
    limits: list[Round]
    service_cpu: float = 0.0
    postgres_cpu: float = 0.0

    @property
    def rate(self) -> float:
        """The median of requests a second."""
        return median(each.rate for each in self.rounds)

    @property
    def limit(self) -> float | None:
        """The median of transactions a second in PostgreSQL alone."""
        return median(each.rate for each in self.limits) if self.limits else None

    @property
    def requests(self) -> int:
        """How many there were."""
        return sum(each.requests for each in self.rounds)


def heading(postgres: str, generator: str, memory: float) -> str:
    """Say when, where and with what this was measured."""
    machine = f"{_processor()}, {os.cpu_count()} cores"
    versions = f"PostgreSQL {postgres}, Python {platform.python_version()}"
    today = datetime.now(UTC).date()
    return f"{today}, {machine}; {versions}; load by {generator}, on the same machine; the service took {memory:.0f} MB"


def table(rows: Sequence[Row]) -> str:
    """Write Markdown: medians of the rounds, and how the service's rate compares."""
    base = next((row.rate for row in rows if row.name == "no database"), None)
    titles = ["request", "a second", "p50 ms", "p99 ms", "of no database", "of PostgreSQL alone"]
    titles += ["CPU µs service", "CPU µs PostgreSQL"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in rows:
        cells = [
            row.name,
            f"{row.rate:,.0f}",
            f"{median(each.p50 for each in row.rounds):.1f}",
            f"{median(each.p99 for each in row.rounds):.1f}",
            _share(row.rate, base),
            _share(row.rate, row.limit),
            _each(row.service_cpu, row.requests),
            _each(row.postgres_cpu, row.requests),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if failed := sum(each.errors for row in rows for each in row.rounds):
        lines += ["", f"{failed} requests failed."]
    return "\n".join(lines)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw requests a second, with PostgreSQL alone in the background, as SVG."""
    longest = max(max(row.rate, row.limit or 0) for row in rows)
    height = _ROW * len(rows) + 40
    box = f'viewBox="0 0 {_LEFT + _WIDE + 90} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" font-family="system-ui, sans-serif" font-size="13">',
        "<title>Requests a second of the service, and transactions a second of PostgreSQL alone</title>",
        f'<rect width="{_LEFT + _WIDE + 90}" height="{height}" fill="#fff"/>',
    ]
    for number, row in enumerate(rows):
        top = 10 + number * _ROW
        parts.append(f'<text x="{_LEFT - 10}" y="{top + 23}" text-anchor="end" fill="#222">{row.name}</text>')
        if row.limit is not None:
            parts += _bar(top + _BAR + 2, row.limit, longest, "#c9d3df")
        parts += _bar(top + (0 if row.limit is not None else _BAR // 2), row.rate, longest, "#1f6feb")
    legend = height - 12
    parts.append(f'<text x="{_LEFT}" y="{legend}" fill="#1f6feb">requests a second</text>')
    parts.append(f'<text x="{_LEFT + 140}" y="{legend}" fill="#7a8794">PostgreSQL alone</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]))


def _bar(top: int, rate: float, longest: float, colour: str) -> list[str]:
    width = rate / longest * _WIDE
    return [
        f'<rect x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>',
        f'<text x="{_LEFT + width + 6:.1f}" y="{top + 14}" fill="#444">{rate:,.0f}</text>',
    ]


def _share(rate: float, whole: float | None) -> str:
    return f"{rate / whole:.0%}" if whole else ""


def _each(seconds: float, requests: int) -> str:
    return f"{seconds / requests * 1e6:,.0f}" if requests else ""


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
