"""Alternating rounds: each row is asked of the service, of PostgreSQL alone and of each peer, one after the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import click
import httpx

from app.binaries import find_binaries
from scripts.benchmark import load, pgbench, processes
from scripts.benchmark.cases import Asked
from scripts.benchmark.client import Request
from scripts.benchmark.limits import Limit
from scripts.benchmark.load import Round

_WARM = 0.5  # seconds in which connections open, statements are prepared and caches fill


class Target(NamedTuple):
    """A service that is measured: where it is, its process, how it is asked for each row that it has."""

    name: str
    url: str
    process: int
    asked: Mapping[str, Asked]


class Alone(NamedTuple):
    """PostgreSQL alone: its URL as the service has it, its process, and the transactions of each row."""

    url: str
    postmaster: int
    limits: Mapping[str, Limit]


class Pace(NamedTuple):
    """How long a round lasts, on how many connections, and how many it is of what can be done but once."""

    seconds: float
    connections: int
    once: int


@dataclass
class Figures:
    """The rounds of a row on one target; CPU in seconds of all of them together, memory in MB."""

    rounds: list[Round] = field(default_factory=list)
    service_cpu: float = 0.0
    postgres_cpu: float = 0.0
    memory: float = 0.0

    @property
    def rate(self) -> float:
        """The median of requests a second."""
        return median(each.rate for each in self.rounds)

    @property
    def p50(self) -> float:
        """The median of the rounds' medians, in milliseconds."""
        return median(each.p50 for each in self.rounds)

    @property
    def p99(self) -> float:
        """The median of the rounds' 99th percentiles, in milliseconds."""
        return median(each.p99 for each in self.rounds)

    @property
    def requests(self) -> int:
        """How many there were."""
        return sum(each.requests for each in self.rounds)

    @property
    def errors(self) -> int:
        """How many failed."""
        return sum(each.errors for each in self.rounds)


@dataclass
class Row:
    """A row of the table: the service, PostgreSQL alone, the same in one flight, and each peer that has it."""

    name: str
    service: Figures = field(default_factory=Figures)
    limit: Figures = field(default_factory=Figures)
    flight: Figures = field(default_factory=Figures)
    peers: dict[str, Figures] = field(default_factory=dict)


class Bench:
    """Rounds of rows, and what they came to. Of a worklist nobody is given what another was given before."""

    def __init__(self, alone: Alone, service: Target, peers: Sequence[Target], pace: Pace) -> None:
        self.rows: dict[str, Row] = {}
        self._alone = alone
        self._service = service
        self._peers = peers
        self._pace = pace
        self._given: dict[tuple[str, str], int] = {}

    def ask(self, name: str) -> None:
        """Measure a round of a row: PostgreSQL alone, the service, the peers."""
        row = self.rows.setdefault(name, Row(name))
        if (limit := self._alone.limits.get(name)) is not None:
            row.limit.rounds.append(self._limited(name, limit))
            if (flight := limit.in_one_flight) is not None:
                row.flight.rounds.append(self._limited(name, flight))
        self._measured(row.service, self._service, name)
        for peer in self._peers:
            if name in peer.asked:
                self._measured(row.peers.setdefault(peer.name, Figures()), peer, name)

    def _measured(self, figures: Figures, target: Target, name: str) -> None:
        before = processes.use(target.process, self._alone.postmaster)
        figures.rounds.append(self._served(target, name))
        after = processes.use(target.process, self._alone.postmaster)
        figures.service_cpu += after.service - before.service
        figures.postgres_cpu += after.postgres - before.postgres
        figures.memory = max(figures.memory, after.memory)

    def _served(self, target: Target, name: str) -> Round:
        asked = target.asked[name]
        connections = min(self._pace.connections, asked.most_connections)
        if asked.once is None:
            return load.repeated(target.url, asked.requests, seconds=self._pace.seconds, connections=connections)
        first = self._take(target.name, name)
        requests = [asked.once(number) for number in range(first, first + self._pace.once)]
        return load.once_each(target.url, requests, connections=connections)

    def _limited(self, name: str, limit: Limit) -> Round:
        binary = find_binaries() / "pgbench"
        if not limit.is_once:
            return pgbench.repeated(binary, self._alone.url, limit, seconds=self._pace.seconds)
        first = self._take(self._service.name, name)  # they share a database, hence the worklist
        return pgbench.once_each(binary, self._alone.url, limit, first=first, count=self._pace.once)

    def _take(self, target: str, name: str) -> int:
        first = self._given.get((target, name), 0)
        self._given[target, name] = first + self._pace.once
        return first


class Unanswered(click.ClickException):
    """A target does not answer a request as it should, so measuring it would mean nothing."""


def prepare(target: Target, pace: Pace) -> None:
    """Ask for each row once and look at the answer, then for a moment until all is warm. Raises Unanswered."""
    with httpx.Client(base_url=target.url, timeout=30, trust_env=False) as client:
        for name, asked in target.asked.items():
            for request in asked.requests[:1]:
                _look(client, target.name, name, request)
    for asked in target.asked.values():
        if asked.requests:
            connections = min(pace.connections, asked.most_connections)
            load.repeated_by_us(target.url, asked.requests, seconds=_WARM, connections=connections)


def _look(client: httpx.Client, target: str, name: str, request: Request) -> None:
    answer = client.request(request.method, request.path, headers=request.headers, content=request.body)
    if answer.is_error or request.expects not in answer.content:
        raise Unanswered(f"{target} answers “{name}” with {answer.status_code}: {answer.text[:500]}")


def needed(rounds: int, once: int) -> int:
    """Return how long the worklists must be: the service and PostgreSQL alone, in both ways, take from the same."""
    return 3 * rounds * once


Say = Callable[[str], None]


def run(bench: Bench, names: Sequence[str], rounds: int, say: Say) -> list[Row]:
    """Measure all rows by rounds, so that what disturbs the machine disturbs all alike."""
    for number in range(1, rounds + 1):
        for position, name in enumerate(names, 1):
            say(f"round {number} of {rounds}, {position} of {len(names)}: {name}")
            bench.ask(name)
    return list(bench.rows.values())
