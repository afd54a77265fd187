"""NOTIFY fanned out: one listening connection a process, one bounded queue a subscriber."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection, sql

logger = structlog.get_logger(__name__)

QUEUE_LENGTH = 256
LONGEST_PAUSE = 5.0  # seconds between attempts to connect
NEW_CHANNEL_PAUSE = 0.25  # seconds until a channel that nobody asked for before is listened on


class Notices:
    """Listens on demand and hands payloads to whoever subscribed.

    A subscriber gets None first, and whenever payloads may be missing (the connection was lost, the subscriber too
    slow): what it reads then and what it is told later leave no gap.
    """

    def __init__(self, url: str, parameters: dict[str, Any]) -> None:
        self._url = url
        self._parameters = parameters
        self._subscribers: dict[str, set[asyncio.Queue[str | None]]] = {}
        self._listening: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._closed = False

    async def subscribe(self, channel: str) -> AsyncGenerator[str | None, None]:
        """Iterate over a channel's payloads until the service closes."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(QUEUE_LENGTH)
        self._add(channel, queue)
        try:
            while not self._closed:
                payload = await queue.get()
                if not self._closed:
                    yield payload
        finally:
            self._subscribers[channel].discard(queue)

    def is_listening(self, channel: str) -> bool:
        """Tell whether payloads of a channel reach its subscribers now, as far as the connection knows."""
        return channel in self._listening and not self._closed

    async def close(self) -> None:
        """Stop listening and let every subscriber end."""
        self._closed = True
        for channel in self._subscribers:
            self._hand_out(channel, None)
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def _add(self, channel: str, queue: asyncio.Queue[str | None]) -> None:
        if channel not in self._subscribers:
            self._subscribers[channel] = set()
            self._changed.set()
        self._subscribers[channel].add(queue)
        if channel in self._listening:
            _put(queue, None)
        if self._task is None:
            self._task = asyncio.create_task(self._stay_connected(), name="notices")

    async def _stay_connected(self) -> None:
        pause = 0.1
        while True:
            try:
                async with await AsyncConnection.connect(self._url, autocommit=True, **self._parameters) as connection:
                    pause = 0.1
                    await self._relay(connection)
            except psycopg.Error as error:
                self._listening.clear()
                logger.warning("notices lost", error=type(error).__name__, pause=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _relay(self, connection: AsyncConnection[Any]) -> None:
        """Listen on every channel that ever had a subscriber, and on new ones as they come."""
        self._listening.clear()
        while True:
            self._changed.clear()
            for channel in self._subscribers.keys() - self._listening:
                await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
                self._listening.add(channel)
                self._hand_out(channel, None)
            await self._relay_until_changed(connection)

    async def _relay_until_changed(self, connection: AsyncConnection[Any]) -> None:
        while not self._changed.is_set():
            async for notice in connection.notifies(timeout=NEW_CHANNEL_PAUSE):
                self._hand_out(notice.channel, notice.payload)
                if self._changed.is_set():
                    break

    def _hand_out(self, channel: str, payload: str | None) -> None:
        for queue in self._subscribers.get(channel, ()):
            _put(queue, payload)


def _put(queue: asyncio.Queue[str | None], payload: str | None) -> None:
    """Add a payload; a queue that is full is emptied, and its subscriber told to read again."""
    if not queue.full():
        queue.put_nowait(payload)
        return
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)
