"""Puts load on the service: wrk where it is installed, else, and for requests that are made once, a client of ours."""

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools
import psycopg
import uvloop

from scripts.benchmark.cases import Limit, Request

_TELL = """
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


def repeated(url: str, request: Request, *, seconds: float, connections: int) -> Round:
    """Send one request again and again."""
    if shutil.which("wrk"):
        return _wrk(url, request, seconds, connections)

    def endless() -> Iterator[Request]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            yield request

    return uvloop.run(_send(url, endless(), connections))


def once_each(url: str, requests: Sequence[Request], *, connections: int) -> Round:
    """Send each request once, from as many connections."""
    return uvloop.run(_send(url, iter(requests), connections))


def _wrk(url: str, request: Request, seconds: float, connections: int) -> Round:
    lines = [f"wrk.method = {json.dumps(request.method)}", f"wrk.body = {json.dumps(request.body.decode())}"]
    lines += [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in request.headers.items()]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write("\n".join(lines) + _TELL)
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", script.name, url + request.path]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Round(**json.loads(told.splitlines()[-1]))


async def _send(url: str, requests: Iterator[Request], connections: int) -> Round:
    address = urlsplit(url)
    times: list[float] = []
    failed = 0

    async def work() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for request in requests:
            began = time.perf_counter()
            writer.write(_encoded(request, address.netloc))
            failed += await _answered(reader) >= 400
            times.append(time.perf_counter() - began)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(connections)))
    seconds = time.perf_counter() - began
    times.sort()
    return Round(len(times), seconds, failed, times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3)


def _encoded(request: Request, host: str) -> bytes:
    headers = {"Host": host, **request.headers, "Content-Length": str(len(request.body))}
    lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + request.body


class _Answer:
    """What httptools tells of a response."""

    def __init__(self) -> None:
        self.is_whole = False

    def on_message_complete(self) -> None:
        """Take note of the end."""
        self.is_whole = True


async def _answered(reader: asyncio.StreamReader) -> int:
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    while not answer.is_whole:
        data = await reader.read(65536)
        if not data:
            raise ConnectionError("the service closed the connection")
        parser.feed_data(data)
    return int(parser.get_status_code())


def limited(pgbench: Path, url: str, limit: Limit, *, seconds: float, clients: int) -> Round:
    """Run a transaction in PostgreSQL alone."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(limit.script)
        file.flush()
        command = [str(pgbench), "-n", "-M", "prepared", "-T", f"{seconds:.0f}", "-c", str(clients), "-j", "1"]
        command += [word for name, value in limit.variables.items() for word in ("-D", f"{name}={value}")]
        told = subprocess.run([*command, "-f", file.name, url], check=False, capture_output=True, text=True)
    figures = dict(line.split(" = ", 1) for line in told.stdout.splitlines() if " = " in line)
    if told.returncode or "tps" not in figures:
        raise RuntimeError(f"pgbench failed: {told.stderr.strip()}")
    rate = float(figures["tps"].split()[0])
    milliseconds = float(figures["latency average"].split()[0])
    return Round(round(rate * seconds), seconds, 0, milliseconds, milliseconds)


def version(url: str) -> str:
    """Return the server's version, such as 18.4."""
    with psycopg.connect(url) as connection:
        return (connection.info.parameter_status("server_version") or "").partition(" ")[0]
