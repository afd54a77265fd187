"""A server that answers a constant, so that a client can state what it makes at most; run as a module it serves."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import uvloop

from scripts.benchmark import load
from scripts.benchmark.client import Request
from scripts.benchmark.load import Round

_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'


class _Constant(asyncio.Protocol):
    """A connection on which each piece is taken for a request, as small ones come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where the answers go."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without being of that class

    def data_received(self, data: bytes) -> None:
        """Answer."""
        del data
        self._transport.write(_ANSWER)


def ours(*, seconds: float, connections: int) -> Round:
    """Measure our own client against the constant: a rate near this one is the client's, not the service's."""
    with _served() as url:
        return load.repeated_by_us(url, [Request("GET", "/", {})], seconds=seconds, connections=connections)


@contextmanager
def _served() -> Iterator[str]:
    command = [sys.executable, "-m", "scripts.benchmark.ceiling"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            [url] = re.findall(r"http://\S+", process.stdout.readline())
            yield url
        finally:
            process.terminate()


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Constant, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201 - the parent reads it
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
