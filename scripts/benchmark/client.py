"""Our own HTTP client: a connection asks again once it is answered, and every answer is heard."""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Generic, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

import httptools

T = TypeVar("T")


class Request(NamedTuple):
    """One HTTP request; `expects` is part of the answer to it, where that is known."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    expects: bytes = b""


class Answer(NamedTuple, Generic[T]):
    """What came back for what was asked, and after how many seconds."""

    asked: T
    status: int
    body: bytes
    seconds: float


def encoded(url: str, request: Request) -> bytes:
    """Return what goes over the line to a service."""
    headers = {"Host": urlsplit(url).netloc, **request.headers, "Content-Length": str(len(request.body))}
    lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + request.body


async def send(
    url: str, requests: Iterator[tuple[T, bytes]], connections: int, hear: Callable[[Answer[T]], None]
) -> None:
    """Send what is asked, each connection its next as soon as it is answered. Raises OSError, ConnectionError."""
    loop, address = asyncio.get_running_loop(), urlsplit(url)
    lines = [_Line(requests, hear, loop.create_future()) for _ in range(connections)]
    for line in lines:
        await loop.create_connection(partial(_same, line), address.hostname or "", address.port or 80)
    await asyncio.gather(*(line.end for line in lines))


def _same(line: "_Line[T]") -> "_Line[T]":
    return line


class _Line(asyncio.Protocol, Generic[T]):
    """One connection; httptools calls its on_ methods."""

    def __init__(
        self, requests: Iterator[tuple[T, bytes]], hear: Callable[[Answer[T]], None], end: asyncio.Future[None]
    ) -> None:
        self.end = end
        self._requests = requests
        self._hear = hear
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without being of that class
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        """Take a part of a body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """Tell of the answer, and ask for the next."""
        seconds = time.perf_counter() - self._began
        body = b"".join(self._body)
        self._body.clear()
        self._hear(Answer(self._asked, self._parser.get_status_code(), body, seconds))
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that nothing more comes, where something was to come."""
        if not self.end.done():
            self.end.set_exception(exc or ConnectionError("the service closed the connection"))

    def _ask(self) -> None:
        following = next(self._requests, None)
        if following is None:
            self.end.set_result(None)
            self._transport.close()
            return
        self._asked, data = following
        self._began = time.perf_counter()
        self._transport.write(data)
