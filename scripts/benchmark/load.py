"""Puts load on a service: wrk where it is installed, else, and for requests that are made once, a client of ours."""

import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import uvloop

from scripts.benchmark.client import Answer, Request, encoded, send

# The requests are made once, before the load begins, and follow each other.
_CYCLE = """
local made, turn = {}, 0
init = function(arguments)
  for position, each in ipairs(asked) do made[position] = wrk.format(each[1], each[2], each[3], each[4]) end
end
request = function()
  turn = turn % #made + 1
  return made[turn]
end
done = function(summary, latency, requests)
  io.write(string.format('{"requests": %d, "seconds": %.6f, "errors": %d, "p50": %.6f, "p99": %.6f}\\n',
    summary.requests, summary.duration / 1e6, summary.errors.status + summary.errors.connect + summary.errors.read
    + summary.errors.write + summary.errors.timeout, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


class Round(NamedTuple):
    """What a round came to; p50 and p99 are milliseconds."""

    requests: int
    seconds: float
    errors: int
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def generator() -> str:
    """Name what makes the load of repeatable requests."""
    return "wrk" if shutil.which("wrk") else "asyncio client"


def repeated(url: str, requests: Sequence[Request], *, seconds: float, connections: int) -> Round:
    """Send the requests in turn, again and again."""
    if shutil.which("wrk"):
        return _wrk(url, requests, seconds, connections)
    return repeated_by_us(url, requests, seconds=seconds, connections=connections)


def repeated_by_us(url: str, requests: Sequence[Request], *, seconds: float, connections: int) -> Round:
    """Send the requests in turn, again and again, with our own client."""

    def endless() -> Iterator[tuple[None, bytes]]:
        end = time.monotonic() + seconds
        for data in itertools.cycle([encoded(url, request) for request in requests]):
            if time.monotonic() > end:
                return
            yield None, data

    return _sent(url, endless(), connections)


def once_each(url: str, requests: Iterable[Request], *, connections: int) -> Round:
    """Send each request once, from as many connections."""
    return _sent(url, iter([(None, encoded(url, request)) for request in requests]), connections)


def _wrk(url: str, requests: Sequence[Request], seconds: float, connections: int) -> Round:
    asked = "},\n{".join(_lua(request) for request in requests)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"asked = {{{{{asked}}}}}\n{_CYCLE}")
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", script.name, url]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Round(**json.loads(told.splitlines()[-1]))


def _lua(request: Request) -> str:
    headers = ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in request.headers.items())
    texts = (json.dumps(text) for text in (request.method, request.path))
    return f"{', '.join(texts)}, {{{headers}}}, {json.dumps(request.body.decode())}"


def _sent(url: str, requests: Iterator[tuple[None, bytes]], connections: int) -> Round:
    times: list[float] = []
    failed = 0

    def hear(answer: Answer[None]) -> None:
        nonlocal failed
        failed += answer.status >= 400
        times.append(answer.seconds)

    began = time.perf_counter()
    uvloop.run(send(url, requests, connections, hear))
    seconds = time.perf_counter() - began
    times.sort()
    return Round(len(times), seconds, failed, quantile(times, 0.5) * 1e3, quantile(times, 0.99) * 1e3)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share of the ordered values lies; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
