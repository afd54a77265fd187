"""More connections than the service takes: what it answers, what it holds, and when it is back to normal."""

import itertools
import json
import resource
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import uvloop

from scripts.benchmark import cases, load, processes
from scripts.benchmark.client import Answer, Request, encoded, send
from scripts.benchmark.world import World

SECONDS = 4.0
MOST_MEMORY = 300  # MB
SOON = 2.0  # seconds
NORMAL = 2.0  # times the median from before; the machine is not all ours
LOOKS = 15  # requests whose median says how it is
PATIENCE = 30.0


class Flood(NamedTuple):
    """What came of one: answers by status, MB at most, seconds until it was as before (None: never)."""

    connections: int
    queue: int
    asked: str
    statuses: Counter[int]
    codes: Counter[str]
    p50: float
    p99: float
    memory: float
    recovered: float | None
    lost: str

    @property
    def violations(self) -> Iterator[str]:
        """Say what should not be."""
        for status, count in self.statuses.items():
            if status not in (200, 201, 503):
                yield f"{count} requests of {self.connections} connections were answered {status}"
        if self.connections <= self.queue and self.statuses[503]:
            yield f"{self.statuses[503]} requests of {self.connections} connections were refused: queue {self.queue}"
        if set(self.codes) - {"database_unavailable"}:
            yield f"refusals say otherwise than that it is busy: {dict(self.codes)}"
        if self.lost:
            yield f"a connection was lost: {self.lost}"
        if self.memory > MOST_MEMORY:
            yield f"the service held {self.memory:.0f} MB"
        if self.recovered is None or self.recovered > SOON:
            yield f"it was not back to normal within {SOON:.0f} seconds"


def flooded(world: World, connections: int, queue: int, *, mixed: bool) -> Flood:
    """Ask from as many connections at once, reads and commands in turn or commands only; look until it is as before.

    Nobody waits before he asks again, not even who was told to.
    """
    _allow_files(connections + 256)
    agreements = cases.effective(world)
    person = world.referee.headers
    reads = [cases.got(each, person) for each in agreements]
    commands = [cases.posted(f"/api/agreements/{each}/events", cases.EVENT, person) for each in agreements]
    before = _latency(world, reads)
    processes.forget_peak(world.process)
    heard: list[Answer[None]] = []
    end = time.monotonic() + SECONDS
    requests = [request for pair in zip(reads, commands, strict=True) for request in pair] if mixed else commands
    lost = _flood(world, requests, connections, heard, end)
    memory = processes.peak_memory(world.process)
    times = sorted(answer.seconds for answer in heard)
    return Flood(
        connections,
        queue,
        "reads and commands" if mixed else "commands",
        Counter(answer.status for answer in heard),
        Counter(_code(answer) for answer in heard if answer.status == 503),
        load.quantile(times, 0.5) * 1e3,
        load.quantile(times, 0.99) * 1e3,
        memory,
        _recovery(world, reads, before, end),
        lost,
    )


def _flood(world: World, requests: Sequence[Request], connections: int, heard: list[Answer[None]], end: float) -> str:
    def endless() -> Iterator[tuple[None, bytes]]:
        for data in itertools.cycle([encoded(world.url, request) for request in requests]):
            if time.monotonic() > end:
                return
            yield None, data

    try:
        uvloop.run(send(world.url, endless(), connections, heard.append))
    except OSError as error:
        return str(error)
    return ""


def _code(answer: Answer[None]) -> str:
    return str(json.loads(answer.body).get("code"))


def _latency(world: World, requests: Sequence[Request]) -> float:
    """Return the median of a few requests, one after the other."""
    looks = list(itertools.islice(itertools.cycle(requests), LOOKS))
    return load.once_each(world.url, looks, connections=1).p50


def _recovery(world: World, requests: Sequence[Request], before: float, since: float) -> float | None:
    while time.monotonic() < since + PATIENCE:
        began = time.monotonic()
        if _latency(world, requests) <= NORMAL * before:
            return max(0.0, began - since)
    return None


def _allow_files(count: int) -> None:
    """Let this process open as many, not the service: that has what its operator gives it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard) if hard > 0 else count, hard))


def told(flood: Flood) -> str:
    """Say in a sentence what came of it."""
    answers = ", ".join(f"{count:,} answers {status}" for status, count in sorted(flood.statuses.items()))
    after = "never" if flood.recovered is None else f"{flood.recovered:.1f} s after it"
    return (
        f"{flood.connections} connections with {flood.asked} for {SECONDS:.0f} s: {answers};"
        f" p50 {flood.p50:.0f} ms, p99 {flood.p99:.0f} ms; at most {flood.memory:.0f} MB; back to normal {after}."
    )
